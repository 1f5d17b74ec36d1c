"""Making values non-negative, and looking at all of them before.

    error          as they are; a value below 0 is an error
    shift          minus the smallest value of the table, if it is below 0
    feature-shift  minus the gene's smallest value, if it is below 0
    negative-part  max(−v, 0): how far below 0

The survey is the first pass over the data: it counts what can not be used, and finds the smallest value. A shift by one
number for the whole table buries the variation under a constant; the docs show what that does to a solver that stops
early.

Memory: a block, and its copy while it is transformed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.engine import arrays
from cagdask.factors.matrix import Matrix

NONNEG = ("error", "shift", "feature-shift", "negative-part")
MISSING = ("error", "drop-features", "drop-samples")

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How a task gets a non-negative block out of a matrix.

    Attributes
    ----------
    matrix
        What is read, as JSON.
    nonneg
        One of :data:`NONNEG`.
    shift
        What ``shift`` subtracts.
    kept
        Folder with ``kept`` (n_samples,) bool; None keeps all samples.
    drop_genes
        Whether genes with values that are not finite become zero.
    """

    matrix: dict[str, Any]
    nonneg: str
    shift: float = 0.0
    kept: str | None = None
    drop_genes: bool = False

    def to_json(self) -> dict[str, Any]:
        """Hand it to a task."""
        return asdict(self)


@njit(cache=True, nogil=True)
def _survey(
    block: Float32,
    clean_only: bool,
    n_bad: NDArray[np.int64],
    n_negative: NDArray[np.int64],
    first: NDArray[np.int64],
    minimum: Float32,
    bad_row: NDArray[np.bool_],
) -> None:
    for i in range(block.shape[0]):
        for j in range(block.shape[1]):
            if not np.isfinite(block[i, j]):
                bad_row[i] = True
                n_bad[j] += 1
                if first[0, j] < 0:
                    first[0, j] = i
        if bad_row[i] and clean_only:
            continue
        for j in range(block.shape[1]):
            value = block[i, j]
            if np.isfinite(value):
                minimum[j] = min(minimum[j], value)
                if value < 0:
                    n_negative[j] += 1
                    if first[1, j] < 0:
                        first[1, j] = i


def survey_task(source: dict[str, Any], first_block: int, end_block: int, clean_only: bool, folder: str) -> int:
    """Task: look at the values of some blocks, for each sample.

    Writes ``n_bad`` and ``n_negative`` (n_samples,) int64, ``first`` (2, n_samples) int64, the gene row of the first of
    each or -1, ``minimum`` (n_samples,) float32 of finite values, and ``bad_row`` (rows,) bool. With ``clean_only``
    genes with a value that is not finite count in the first only. Returns the stored chunks that were read.
    """
    matrix = Matrix(**source)
    begin, end = matrix.rows(first_block, end_block)
    block = matrix.read(begin, end)
    m = matrix.n_samples
    n_bad, n_negative = np.zeros(m, np.int64), np.zeros(m, np.int64)
    first = np.full((2, m), -1, np.int64)
    minimum = np.full(m, np.inf, np.float32)
    bad_row = np.zeros(len(block), np.bool_)
    _survey(block, clean_only, n_bad, n_negative, first, minimum, bad_row)
    first[first >= 0] += begin
    arrays.save(folder, n_bad=n_bad, n_negative=n_negative, first=first, minimum=minimum, bad_row=bad_row)
    return matrix.chunks_of(begin, end)


def read_blocks(recipe: Recipe, first_block: int, end_block: int) -> tuple[list[Float32], Float32, int]:
    """Non-negative values of some blocks, what was subtracted from each gene, and the stored chunks that were read."""
    matrix = Matrix(**recipe.matrix)
    begin, end = matrix.rows(first_block, end_block)
    values, shift = make_nonnegative(matrix.read(begin, end), recipe)
    step = matrix.block_rows
    return [values[row : row + step] for row in range(0, len(values), step)], shift, matrix.chunks_of(begin, end)


def make_nonnegative(values: Float32, recipe: Recipe) -> tuple[Float32, Float32]:
    """Values as they are factorized, and what was subtracted from each gene.

    Samples left out are gone, genes with missing values zero, and nothing is below 0.

    Examples
    --------
    >>> values = np.array([[-1, 2], [3, 4]], np.float32)
    >>> make_nonnegative(values, Recipe({}, "feature-shift"))[0]
    array([[0., 3.],
           [3., 4.]], dtype=float32)
    """
    if recipe.kept is not None:
        values = np.ascontiguousarray(values[:, arrays.load(recipe.kept, "kept")])
    values = np.array(values)  # what came from storage may be read-only
    bad = ~np.isfinite(values).all(axis=1) if recipe.drop_genes else np.zeros(len(values), np.bool_)
    values[bad] = 0
    shift = np.zeros(len(values), np.float32)
    if recipe.nonneg == "shift":
        shift[:] = recipe.shift
    elif recipe.nonneg == "feature-shift":
        shift = np.minimum(values.min(axis=1), 0)
    elif recipe.nonneg == "negative-part":
        np.negative(values, out=values)
    if shift.any():
        values -= shift[:, None]
    np.maximum(values, 0, out=values)
    values[bad] = 0
    return values, shift
