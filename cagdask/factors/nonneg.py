"""Making values non-negative.

    error          as they are; a value below 0 is an error
    shift          minus the smallest value of the table, if it is below 0
    feature-shift  minus the gene's smallest value, if it is below 0
    negative-part  max(−v, 0): how far below 0

A shift by one number for the whole table buries the variation under a constant; the docs show what that does to a
solver that stops early.

Memory: a block, and its copy while it is transformed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.factors.matrix import Matrix
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]


class KeptFiles(Files):
    """Samples that take part. Written after the survey if some do not; read wherever blocks are read."""

    kept: NDArray[np.bool_] = array(np.bool_, "sample", "whether the sample takes part")


@dataclass(frozen=True)
class Recipe:
    """How a task gets a non-negative block out of a matrix.

    Attributes
    ----------
    matrix
        What is read, as JSON.
    nonneg
        One of :data:`cagdask.factors.options.NONNEG`.
    shift
        What ``shift`` subtracts.
    kept
        Folder of a :class:`KeptFiles`; None keeps all samples.
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


def read_blocks(recipe: Recipe, first_block: int, end_block: int) -> Iterator[tuple[Float32, Float32]]:
    """Some blocks, one after the other: their values, and what was subtracted from each gene."""
    for block in Matrix(**recipe.matrix).blocks(first_block, end_block):
        yield make_nonnegative(block, recipe)


def chunks_read(recipe: Recipe, first_block: int, end_block: int) -> int:
    """Stored chunks that :func:`read_blocks` reads."""
    matrix = Matrix(**recipe.matrix)
    return matrix.chunks_of(*matrix.rows(first_block, end_block))


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
        values = np.ascontiguousarray(values[:, KeptFiles.open(recipe.kept).kept])
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
