"""The two passes that measure genes, by tasks on the workers.

    survey    rows of genes -> numbers of each gene, its samples around the percentile, squares of each sample
    cosines   rows of genes -> of every gene: squares, over these rows, of the sum of its samples' unit vectors

A store has all samples of some genes together, so both passes read rows, and nothing is turned. Sums go over parts of
the table that follow from its shape alone and are added row by row: the bytes of the output do not depend on
chunks, workers and memory.

A task reads a stored chunk, or several small ones, and works on blocks of its rows that take :data:`BLOCK_BYTES`: what
it holds follows from the chunks and these bytes, not from the number of samples. The second pass holds the samples of
every gene, too (4 bytes each), and a strip of some rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.cags.measures import entropy
from cagdask.errors import InputError
from cagdask.expression import cosine_kernel as kernels
from cagdask.expression import measures
from cagdask.expression.kernels import Float64
from cagdask.storage.arrays import Files, array

N_PARTS = 64
PART_BYTES = 2**24
"""Sums over genes are cut into so many parts at most, whatever the workers, and into fewer of at least this size: a
stored chunk is decompressed by each part that reaches into it."""
PIECE_BYTES = 2**22
"""Stored chunks that are read at once; a larger one is read whole."""
BLOCK_BYTES = 2**24
"""What the rows of a block take in the survey, with all copies."""
STRIP, STRIP_BYTES = 64, 2**24
"""Rows whose sums are added up together, half as many where these are larger: their values are read ``n_around`` times,
so they should stay in the cache."""
SURVEY_COPIES = 6 * 8
"""Bytes of a value in the survey."""


class GeneMeasures(Files):
    """Numbers of some genes."""

    mean: Float64 = array(np.float64, "gene", "mean over samples")
    percentile: Float64 = array(np.float64, "gene", "percentile over samples")
    prevalence: Float64 = array(np.float64, "gene", "share of samples above 0")
    entropy: Float64 = array(np.float64, "gene", "of the distribution over samples, nat")
    tau: Float64 = array(np.float64, "gene", "specificity over samples")
    n_present: NDArray[np.int64] = array(np.int64, "gene", "samples above 0")
    group_tau: Float64 = array(np.float64, "gene", "specificity over groups")
    top_group: NDArray[np.int64] = array(np.int64, "gene", "group of the largest mean, -1 for none")


class MemberFiles(Files):
    """Samples around the percentile of some genes."""

    sample: NDArray[np.int32] = array(np.int32, "gene, rank", "row in the sample ids")


class SquareFiles(Files):
    """Sums over some genes."""

    squares: Float64 = array(np.float64, "item", "sum of squares of each sample, or of each gene")


class GroupFiles(Files):
    """Groups of samples."""

    order: NDArray[np.int64] = array(np.int64, "item", "samples by group")
    starts: NDArray[np.int64] = array(np.int64, "group", "where each group begins")


class LengthFiles(Files):
    """Of each sample."""

    inverse: Float64 = array(np.float64, "sample", "1 / length of its vector over all genes, 0 for one of zeros")


def piece_rows(chunk_rows: int, n_samples: int) -> int:
    """Rows that are read at once: whole stored chunks."""
    return chunk_rows * max(1, PIECE_BYTES // (4 * chunk_rows * n_samples))


def strip_rows(n_samples: int) -> int:
    """Rows whose sums are added up together."""
    return STRIP if 4 * n_samples * STRIP <= STRIP_BYTES else STRIP // 2


def _blocks(source: Any, begin: int, end: int, rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Rows ``begin`` to ``end``, some at a time, each block with its first row; a stored chunk is read once."""
    step = piece_rows(source.chunks[0], source.shape[1])
    edges = sorted({begin, end, *range(-(-begin // step) * step, end, step)})
    for low, high in pairwise(edges):
        piece = np.asarray(source[low:high])
        for first in range(0, high - low, rows):
            yield low + first, piece[first : first + rows]


def survey_task(
    url: str, begin: int, end: int, rows: int, percentile: float, ranks: tuple[int, int], groups: str | None,
    folder: str,
) -> int:  # fmt: skip
    """Measure genes ``begin`` to ``end``, some ``rows`` at a time.

    Writes their :class:`GeneMeasures`, :class:`MemberFiles` and :class:`SquareFiles` below the folder.

    Raises
    ------
    InputError
        A value is negative.
    """
    source = storage.open_array(url, "abundance")
    squares = np.zeros(source.shape[1])
    given = GroupFiles.open(groups) if groups else None
    found: list[dict[str, Any]] = []
    samples = []
    for low, block in _blocks(source, begin, end, rows):
        _refuse(url, low, block)
        partly_sorted = measures.ordered(block, percentile, (ranks[0], ranks[1]))
        samples += [
            measures.members(row, known, (ranks[0], ranks[1])) for row, known in zip(block, partly_sorted, strict=True)
        ]
        found.append(_measured(block, measures.percentiles(partly_sorted, percentile), given))
        for row in block.astype(np.float64):
            squares += row * row
    GeneMeasures(**{name: np.concatenate([one[name] for one in found]) for name in found[0]}).write(
        storage.join(folder, "genes")
    )
    MemberFiles(sample=np.stack(samples)).write(storage.join(folder, "members"))
    SquareFiles(squares=squares).write(storage.join(folder, "squares"))
    return end - begin


def _measured(block: NDArray[np.float32], percentile: Float64, groups: GroupFiles | None) -> dict[str, Any]:
    values = block.astype(np.float64)
    n_present = np.count_nonzero(block > 0, axis=1)
    found = {
        "mean": values.mean(axis=1), "percentile": percentile, "prevalence": n_present / block.shape[1],
        "entropy": entropy(block), "tau": measures.tau(values), "n_present": n_present,
        "group_tau": np.full(len(block), np.nan), "top_group": np.full(len(block), -1),
    }  # fmt: skip
    if groups is not None:
        means = measures.group_means(values, groups.order, groups.starts)
        found["group_tau"] = measures.tau(means)
        found["top_group"] = np.where(means.max(axis=1) > 0, means.argmax(axis=1), -1)
    return found


def _refuse(url: str, begin: int, block: NDArray[np.float32]) -> None:
    wrong = block < 0
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        gene: Any = storage.open_array(url, "gene_id")[begin + row]
        sample: Any = storage.open_array(url, "sample_id")[column]
        raise InputError(
            f"{url}: gene {gene}, sample {sample}: {block[row, column]:g} is below 0. These measures are of values of "
            "0 or more, as counted or after log2(1 + v). Start from such a table."
        )


def cosine_task(url: str, begin: int, end: int, members: str, lengths: str, folder: str) -> int:
    """Add up, over genes ``begin`` to ``end``, the square of the sum of the unit vectors of every gene's samples."""
    source = storage.open_array(url, "abundance")
    inverse = np.asarray(LengthFiles.open(lengths).inverse)
    chosen = np.asarray(MemberFiles.open(members).sample)
    total = np.zeros(len(chosen))
    for _, block in _blocks(source, begin, end, strip_rows(len(inverse))):
        kernels.add_squared_sums(np.ascontiguousarray(block.T), inverse, chosen, total)
    SquareFiles(squares=total).write(folder)
    return end - begin
