"""A few columns that stand for all samples: A ≈ P Vᵀ, from three passes over the data.

    Ω (n_samples x rank, random)  --pass-->  Σ Aᵢᵀ(Aᵢ Ω)  --orthonormal-->  V₁
    V₁                            --pass-->  Σ Aᵢᵀ(Aᵢ V₁) --orthonormal-->  V
    V                             --pass-->  Pᵢ = Aᵢ V, one file per block

Since a block holds whole rows, one pass multiplies by AᵀA, which is a whole step of the power iteration. P is left in
the work folder, rank / n_samples of the data; whatever comes next reads it in place of A.

Memory per task: a block, its transformed copy, and n_samples x rank float64.

References
----------
.. [1] Halko, Martinsson and Tropp (2011). Finding structure with randomness: probabilistic algorithms for constructing
   approximate matrix decompositions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.factors.hals import Float32, Float64, products_of
from cagdask.factors.nonneg import Recipe, chunks_read, read_blocks
from cagdask.storage.arrays import Files, array

OVERSAMPLING = 20
"""Columns of the sketch beyond the number of components."""


class BasisFiles(Files):
    """The columns that blocks are multiplied with.

    Written between passes; read by the tasks of a pass, and where the sketch is solved.
    """

    basis: Float32 = array(np.float32, "sample, rank", "columns; orthonormal but for the first ones, which are random")


class PowerFiles(Files):
    """AᵀA times a basis, block by block. Written by :func:`power_task`, summed for the next basis."""

    products: Float64 = array(np.float64, "block, sample, rank", "Aᵢᵀ(Aᵢ V)")


class SquareFiles(Files):
    """Squares of a part of the matrix. Written by the first :func:`power_task`; read for report and results."""

    column_squares: Float64 = array(np.float64, "block, sample", "sum of squares of each sample in each block")
    row_squares: Float64 = array(np.float64, "gene", "sum of squares of each gene")
    shift: Float32 = array(np.float32, "gene", "what was subtracted from the gene, in the unit of the table")


class SketchFiles(Files):
    """A part of the sketch. Written by :func:`project_task`; read wherever the sketch is solved."""

    sketch: Float32 = array(np.float32, "gene, rank", "Aᵢ V")
    gram: Float64 = array(np.float64, "block, rank, rank", "products of its columns, block by block")


def squares_of(place: str) -> str:
    """Folder of the :class:`SquareFiles` of a task of the first pass of the sketch."""
    return storage.join(place, "squares")


def random_basis(n_samples: int, rank: int, seed: int) -> Float32:
    """Where the power iteration begins, shape (n_samples, rank)."""
    return np.random.default_rng(seed).standard_normal((n_samples, rank)).astype(np.float32)


def orthonormal(products: Float64) -> Float32:
    """Orthonormal columns with the range of ``products``."""
    return np.linalg.qr(products)[0].astype(np.float32)


@njit(cache=True, nogil=True)
def _measure(block: Float32, row_squares: Float64, column_squares: Float64) -> float:
    """Squares per row and column, and the sum of squares about the rows' means."""
    centered = 0.0
    for i in range(block.shape[0]):
        total = 0.0
        for j in range(block.shape[1]):
            value = np.float64(block[i, j])
            total += value
            row_squares[i] += value * value
            column_squares[j] += value * value
        mean = total / block.shape[1]
        for j in range(block.shape[1]):
            centered += (block[i, j] - mean) ** 2
    return centered


def power_task(
    recipe: dict[str, Any], first_block: int, end_block: int, basis: str, measure: bool, folder: str
) -> dict[str, Any]:
    """Task: AᵀA times a basis, of some blocks.

    Writes a :class:`PowerFiles` and, with ``measure``, a :class:`SquareFiles` in it. Returns the stored chunks read,
    and then per block the sum of squares about the genes' means.
    """
    with threadpool_limits(1):
        columns = BasisFiles.open(basis).basis
        known = Recipe(**recipe)
        products, by_column, by_row, shifts, centered = [], [], [], [], []
        for block, shift in read_blocks(known, first_block, end_block):
            products.append((block.T @ (block @ columns)).astype(np.float64))
            if measure:
                by_row.append(np.zeros(len(block)))
                by_column.append(np.zeros(block.shape[1]))
                shifts.append(shift)
                centered.append(_measure(block, by_row[-1], by_column[-1]))
        PowerFiles(products=np.stack(products)).write(folder)
        if measure:
            SquareFiles(
                column_squares=np.stack(by_column), row_squares=np.concatenate(by_row), shift=np.concatenate(shifts)
            ).write(squares_of(folder))
        return {"n_chunks": chunks_read(known, first_block, end_block), "centered": centered}


def project_task(recipe: dict[str, Any], first_block: int, end_block: int, basis: str, folder: str) -> dict[str, Any]:
    """Task: the sketch of some blocks.

    Writes a :class:`SketchFiles`. Returns the stored chunks read.
    """
    with threadpool_limits(1):
        columns = BasisFiles.open(basis).basis
        known = Recipe(**recipe)
        sketch = [block @ columns for block, _ in read_blocks(known, first_block, end_block)]
        gram = np.stack([products_of(part, part) for part in sketch])
        SketchFiles(sketch=np.concatenate(sketch), gram=gram).write(folder)
        return {"n_chunks": chunks_read(known, first_block, end_block)}


def first_latent(sketch: Float32, basis: Float32, k: int) -> Float32:
    """Where the descent begins: the leading singular vectors, each by its heavier sign (NNDSVD).

    Parameters
    ----------
    sketch
        Shape (n, rank).
    basis
        Orthonormal columns, shape (n_samples, rank).
    k
        Components, at most rank.

    References
    ----------
    .. [1] Boutsidis and Gallopoulos (2008). SVD based initialization: a head start for nonnegative matrix
       factorization.
    """
    turn = np.linalg.eigh(products_of(sketch, sketch))[1][:, ::-1][:, :k]
    turn *= np.where(turn.sum(axis=0) < 0, -1, 1)  # the sign of an eigenvector is up to LAPACK
    left, right = sketch @ turn.astype(np.float32), basis @ turn.astype(np.float32)
    weight = [np.linalg.norm(np.maximum(sign * left, 0), axis=0) * np.linalg.norm(np.maximum(sign * right, 0), axis=0)
              for sign in (1, -1)]  # fmt: skip
    latent = np.maximum(np.where(weight[0] >= weight[1], right, -right), 0)
    there = np.abs(basis).max(axis=1) > 0  # a sample of nothing but zeros stays zero
    # an exact zero may stay one for ever
    latent[there] = np.where(latent[there] > 0, latent[there], 0.1 * np.abs(right).mean())
    return latent.astype(np.float32)
