"""The tasks that fit factors: to the sketch in memory, and block by block to sketch or data.

    solve_task       every stride-th row of the sketch     --> latent values, maybe all loadings
    fit_sketch_task  a part of the sketch, latent values   --> its loadings, AᵀG and GᵀG
    fit_task         blocks of the data, latent values     --> their loadings, AᵀG and GᵀG

A solving task holds the sampled sketch and its loadings, at most :data:`cagdask.factors.steps.SAMPLE_BYTES`; the others
hold their blocks and loadings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.factors.hals import Descent, Float32, fit_block, gram_of, products_of, solve
from cagdask.factors.nonneg import Recipe, chunks_read, read_blocks
from cagdask.factors.sketch import first_latent
from cagdask.storage import arrays


def sampled_sketch(parts: list[list[Any]], stride: int) -> Float32:
    """Every ``stride``-th row of the sketch, whatever its parts."""
    # copies, so that no more than one file is mapped: its pages count as this worker's memory
    taken = [np.array(arrays.load(folder, "sketch")[-first % stride :: stride]) for folder, first in parts]
    return np.concatenate(taken)


def solve_task(
    parts: list[list[Any]],
    basis_folder: str,
    k: int,
    seed: int | None,
    stride: int,
    total: float,
    tol: float,
    max_passes: int,
    folder: str,
    places: list[str],
) -> dict[str, Any]:
    """Task: factorize the sketch in memory.

    Begins at the singular vectors, or at random with a ``seed``. Writes ``latent`` (n_samples, k); with a seed also
    ``loading`` (rows, k), unit columns; and to each of ``places``, if any, the loadings of a part of the sketch.
    Returns ``trace``, the errors on the sketch, and ``converged``.
    """
    with threadpool_limits(1):
        sketch, basis = sampled_sketch(parts, stride), arrays.load(basis_folder, "basis")
        if seed is None:
            latent = first_latent(sketch, basis, k)
        else:
            latent = np.random.default_rng(seed).random((len(basis), k), np.float32)
            latent[np.abs(basis).max(axis=1) == 0] = 0
        inside = float(np.trace(gram_of(sketch)))
        # of rows left out of the sample, and of what the sketch does not hold, as much error as of the others
        share = inside / max(whole_squares(parts), 1e-300)
        descent = Descent(latent, total * share, tol)
        loading = np.zeros((len(sketch), k), np.float32)
        for _ in solve(sketch, basis, descent, max_passes, loading):
            pass
        made: dict[str, Float32] = {"latent": descent.latent}
        if seed is not None:
            length: Float32 = np.sqrt(np.diag(gram_of(loading))).astype(np.float32)
            length[length == 0] = 1
            made["loading"] = np.divide(loading, length, dtype=np.float32)
        for place, rows in zip(places, part_rows(parts), strict=False):
            arrays.save(place, loading=loading[rows])
        arrays.save(folder, **made)
        return {"trace": descent.trace, "converged": descent.converged}


def part_rows(parts: list[list[Any]]) -> list[slice]:
    """Rows of each part of the sketch."""
    starts = [first for _, first in parts]
    return [slice(begin, end) for begin, end in zip(starts, [*starts[1:], None], strict=True)]


def whole_squares(parts: list[list[Any]]) -> float:
    """Sum of squares of the whole sketch."""
    return float(sum(np.trace(block) for folder, _ in parts for block in arrays.load(folder, "gram")))


def fit_task(
    recipe: dict[str, Any],
    first_block: int,
    end_block: int,
    fixed_folder: str,
    earlier: str | None,
    n_sweeps: int,
    folder: str,
) -> dict[str, Any]:
    """Task: loadings of some blocks of the data for given latent values.

    Writes ``loading`` (rows, k) float32, ``products`` AᵀG (blocks, n_samples, k) and ``gram`` GᵀG (blocks, k, k), both
    float64. Returns the stored chunks read.
    """
    known = Recipe(**recipe)
    blocks = (block for block, _ in read_blocks(known, first_block, end_block))
    _fit(blocks, fixed_folder, storage.join(earlier, str(first_block)) if earlier else None, n_sweeps, folder)
    return {"n_chunks": chunks_read(known, first_block, end_block)}


def fit_sketch_task(
    part: str, block_rows: int, fixed_folder: str, earlier: str | None, n_sweeps: int, folder: str
) -> int:
    """Task: the same for a part of the sketch; ``products`` has its width in place of the samples."""
    sketch = arrays.load(part, "sketch")
    blocks = (sketch[row : row + block_rows] for row in range(0, len(sketch), block_rows))
    _fit(blocks, fixed_folder, earlier, n_sweeps, folder)
    return len(sketch)


def _fit(blocks: Iterable[Float32], fixed_folder: str, earlier: str | None, n_sweeps: int, folder: str) -> None:
    with threadpool_limits(1):
        fixed, latent = arrays.load(fixed_folder, "fixed"), arrays.load(fixed_folder, "latent")
        before = arrays.load(earlier, "loading") if earlier else None
        loading, products, gram, begin = [], [], [], 0
        for block in blocks:
            end = begin + len(block)
            rows = (
                np.zeros((len(block), latent.shape[1]), np.float32) if before is None else np.array(before[begin:end])
            )
            fit_block(block, fixed, latent, rows, n_sweeps)
            loading.append(rows)
            products.append(products_of(block, rows))
            gram.append(gram_of(rows))
            begin = end
        arrays.save(folder, loading=np.concatenate(loading), products=np.stack(products), gram=np.stack(gram))
