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
from numba import njit
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cagdask.factors.hals import Float32, Float64, products_of
from cagdask.factors.nonneg import Recipe, chunks_read, read_blocks
from cagdask.storage import arrays

OVERSAMPLING = 20
"""Columns of the sketch beyond the number of components."""


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

    Writes ``products`` (blocks, n_samples, rank) float64 and, with ``measure``, ``row_squares`` and ``shift`` (rows,)
    and ``column_squares`` (blocks, n_samples). Returns the stored chunks read, and per block the sum of squares about
    the genes' means.
    """
    with threadpool_limits(1):
        columns = arrays.load(basis, "basis")
        known = Recipe(**recipe)
        found: dict[str, Any] = {"n_chunks": chunks_read(known, first_block, end_block), "centered": []}
        made: dict[str, list[NDArray[Any]]] = {"products": []}
        if measure:
            made |= {"column_squares": [], "row_squares": [], "shift": []}
        for block, shift in read_blocks(known, first_block, end_block):
            made["products"].append((block.T @ (block @ columns)).astype(np.float64))
            if measure:
                by_row, by_column = np.zeros(len(block)), np.zeros(block.shape[1])
                found["centered"].append(_measure(block, by_row, by_column))
                made["column_squares"].append(by_column)
                made["row_squares"].append(by_row)
                made["shift"].append(shift)
        join = {"products": np.stack, "column_squares": np.stack}
        arrays.save(folder, **{name: join.get(name, np.concatenate)(parts) for name, parts in made.items()})
        return found


def project_task(recipe: dict[str, Any], first_block: int, end_block: int, basis: str, folder: str) -> dict[str, Any]:
    """Task: the sketch of some blocks.

    Writes ``sketch`` (rows, rank) float32 and ``gram`` (blocks, rank, rank) float64. Returns the stored chunks read.
    """
    with threadpool_limits(1):
        columns = arrays.load(basis, "basis")
        known = Recipe(**recipe)
        sketch = [block @ columns for block, _ in read_blocks(known, first_block, end_block)]
        gram = np.stack([products_of(part, part) for part in sketch])
        arrays.save(folder, sketch=np.concatenate(sketch), gram=gram)
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
