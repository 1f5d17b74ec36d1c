"""The first pass: look at all values, and refuse or drop what can not be factorized.

blocks --counts per sample--> what is missing, below 0, smallest, largest --judged--> samples and genes that take part
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.errors import InputError
from cagdask.factors.matrix import Matrix
from cagdask.storage.arrays import Files, array

SMALLEST, LARGEST = 1e-12, 1e12
"""Sizes of the largest value between which sums of products are numbers in float32."""

Float32 = NDArray[np.float32]


class SurveyFiles(Files):
    """What one task saw. Written by :func:`survey_task`, read by :func:`judged`."""

    n_bad: NDArray[np.int64] = array(np.int64, "sample", "values that are missing or not finite")
    n_negative: NDArray[np.int64] = array(np.int64, "sample", "values below 0")
    first: NDArray[np.int64] = array(np.int64, "2, sample", "gene row of the first of each; -1 for none")
    minimum: Float32 = array(np.float32, "sample", "smallest finite value, in the unit of the table")
    largest: Float32 = array(np.float32, "sample", "largest value without its sign, in the unit of the table")
    bad_row: NDArray[np.bool_] = array(np.bool_, "gene", "whether a value of the gene is missing or not finite")


class Seen(NamedTuple):
    """What was seen of each sample so far; arrays as in :class:`SurveyFiles`."""

    n_bad: NDArray[np.int64]
    n_negative: NDArray[np.int64]
    first: NDArray[np.int64]
    minimum: Float32
    largest: Float32

    @classmethod
    def nothing(cls, m: int) -> Seen:
        """Nothing yet, of ``m`` samples."""
        return cls(
            np.zeros(m, np.int64),
            np.zeros(m, np.int64),
            np.full((2, m), -1),
            np.full(m, np.inf, np.float32),
            np.zeros(m, np.float32),
        )


@njit(cache=True, nogil=True)
def _survey(block: Float32, begin: int, clean_only: bool, seen: Seen, bad_row: NDArray[np.bool_]) -> None:
    n_bad, n_negative, first, minimum, largest = seen
    for i in range(block.shape[0]):
        for j in range(block.shape[1]):
            if not np.isfinite(block[i, j]):
                bad_row[i] = True
                n_bad[j] += 1
                if first[0, j] < 0:
                    first[0, j] = begin + i
        if bad_row[i] and clean_only:
            continue
        for j in range(block.shape[1]):
            value = block[i, j]
            if np.isfinite(value):
                minimum[j] = min(minimum[j], value)
                largest[j] = max(largest[j], abs(value))
                if value < 0:
                    n_negative[j] += 1
                    if first[1, j] < 0:
                        first[1, j] = begin + i


def survey_task(source: dict[str, Any], first_block: int, end_block: int, clean_only: bool, folder: str) -> int:
    """Task: look at the values of some blocks, for each sample.

    Writes a :class:`SurveyFiles`. With ``clean_only`` genes with a value that is not finite count in the first only.
    Returns the stored chunks that were read.
    """
    matrix = Matrix(**source)
    begin, end = matrix.rows(first_block, end_block)
    seen = Seen.nothing(matrix.n_samples)
    bad_row = np.zeros(end - begin, np.bool_)
    at = 0
    for block in matrix.blocks(first_block, end_block):
        of_rows = bad_row[at : at + len(block)]
        _survey(block, begin + at, clean_only, seen, of_rows)
        at += len(block)
    SurveyFiles(bad_row=bad_row, **seen._asdict()).write(folder)
    return matrix.chunks_of(begin, end)


@dataclass(frozen=True)
class Survey:
    """What the first pass found and what follows from it.

    Attributes
    ----------
    n_missing, n_negative
        Values that are missing or not finite; and below 0 in what takes part.
    shift
        The smallest value that takes part, 0 if none is below.
    kept_samples, kept_genes
        Which take part, shape (n_samples,) and (n_genes,).
    """

    n_missing: int
    n_negative: int
    shift: float
    kept_samples: NDArray[np.bool_]
    kept_genes: NDArray[np.bool_]


def judged(matrix: Matrix, places: list[str], nonneg: str, missing: str) -> Survey:
    """Put together what the tasks of the pass wrote to ``places``.

    Raises
    ------
    InputError
        Values are missing or negative and no way to deal with them was given, nothing is left, or the values are too
        large or small for float32.
    """
    parts = list(SurveyFiles.open_all(places))
    n_bad = np.sum([part.n_bad for part in parts], axis=0)
    n_negative = np.sum([part.n_negative for part in parts], axis=0)
    minimum = np.min([part.minimum for part in parts], axis=0)
    largest = np.max([part.largest for part in parts], axis=0)
    first = np.stack([part.first for part in parts]).astype(np.float64)
    first[first < 0] = np.inf
    first = first.min(axis=0)
    bad_row = np.concatenate([part.bad_row for part in parts])
    n_missing = int(n_bad.sum())
    if n_missing and missing == "error":
        raise InputError(
            f"{matrix.said}: {n_missing:,} values are missing or not finite, the first {_cell(matrix, first[0])}. Fill "
            "them in, or leave them out with `missing='drop-features'` or `missing='drop-samples'`."
        )
    kept_samples, kept_genes = n_bad == 0, ~bad_row
    if missing == "drop-samples":
        kept_genes[:] = True
    else:
        kept_samples[:] = True
    if not kept_samples.any() or not kept_genes.any():
        what = "gene" if kept_samples.any() else "sample"
        raise InputError(f"{matrix.said}: every {what} has missing values. Use the other way of `missing`.")
    n_below = int(n_negative[kept_samples].sum())
    if n_below and nonneg == "error":
        first[1, ~kept_samples] = np.inf
        raise InputError(
            f"{matrix.said}: {n_below:,} values are below 0, the first {_cell(matrix, first[1])}, and factors are of a "
            "non-negative matrix. Say how to make it one: `nonneg` shift, feature-shift or negative-part."
        )
    size = float(largest[kept_samples].max())
    if size and not SMALLEST <= size <= LARGEST:
        raise InputError(
            f"{matrix.said}: its largest value is of the size {size:.1e}, and products of such numbers are none in "
            f"float32. Divide all by about {size:.0e} first."
        )
    return Survey(n_missing, n_below, min(0.0, float(minimum[kept_samples].min())), kept_samples, kept_genes)


def _cell(matrix: Matrix, first: NDArray[np.float64]) -> str:
    column = int(np.argmin(first))
    row = int(first[column])
    gene = matrix.gene_names(row, row + 1)[0]
    return f"in gene {gene!r}, sample {matrix.sample_names()[column]!r}"
