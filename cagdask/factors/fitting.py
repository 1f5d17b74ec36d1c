"""The tasks that fit factors: to the sketch in memory, and block by block to sketch or data.

    solve_task       every stride-th row of the sketch     --> latent values, maybe all loadings
    fit_sketch_task  a part of the sketch, latent values   --> its loadings, AᵀG and GᵀG
    fit_task         blocks of the data, latent values     --> their loadings, AᵀG and GᵀG

A solving task holds the sampled sketch and its loadings, at most :data:`cagdask.factors.steps.SAMPLE_BYTES`; the others
hold their blocks and loadings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.factors.hals import Descent, Float32, Float64, fit_block, gram_of, products_of, residual, solve
from cagdask.factors.nonneg import Recipe, chunks_read, read_blocks
from cagdask.factors.sketch import BasisFiles, SketchFiles, first_latent
from cagdask.storage.arrays import Files, array


class LatentFiles(Files):
    """Latent values of the sketch as solved. Written by :func:`solve_task`; read where fitting goes on."""

    latent: Float32 = array(np.float32, "sample, component", "latent values, >= 0")


class LoadingFiles(Files):
    """Loadings of a part of the genes, in :func:`loadings_of` of a task's folder; read by the next pass, and removed.

    Written by :func:`solve_task`, :func:`fit_task` and :func:`fit_sketch_task`.
    """

    loading: Float32 = array(np.float32, "gene, component", "loadings, >= 0")


class FixedFiles(Files):
    """What loadings are fitted to in a pass. Written before it, read by its tasks."""

    latent: Float32 = array(np.float32, "sample, component", "latent values, >= 0")
    fixed: Float32 = array(np.float32, "column, component", "the same, or in the columns of the sketch")


class FitFiles(Files):
    """Sums of a pass, block by block. Written by its tasks; summed for the latent values."""

    products: Float64 = array(np.float64, "block, column, component", "AᵀG of each block")
    gram: Float64 = array(np.float64, "block, component, component", "GᵀG of each block")


def loadings_of(place: str) -> str:
    """Folder of the :class:`LoadingFiles` of a task."""
    return storage.join(place, "loading")


def sampled_sketch(parts: list[list[Any]], stride: int) -> Float32:
    """Every ``stride``-th row of the sketch, whatever its parts."""
    # copies, so that no more than one file is mapped: its pages count as this worker's memory
    taken = [np.array(SketchFiles.open(folder).sketch[-first % stride :: stride]) for folder, first in parts]
    return np.concatenate(taken)


@dataclass(frozen=True)
class Solving:
    """How the sketch is factorized in memory.

    Attributes
    ----------
    k
        Components.
    stride
        Every so many-th row of the sketch is used.
    total
        Squares of the whole matrix.
    tol, max_passes
        When it ends.
    """

    k: int
    stride: int
    total: float
    tol: float
    max_passes: int

    def to_json(self) -> dict[str, Any]:
        """Hand it to a task."""
        return asdict(self)


def solve_task(
    parts: list[list[Any]], basis_folder: str, how: dict[str, Any], seed: int | None, folder: str, places: list[str]
) -> dict[str, Any]:
    """Task: factorize the sketch in memory.

    ``how`` is a :class:`Solving`. Begins at the singular vectors, or at random with a ``seed``. Writes a
    :class:`LatentFiles`; with a seed also a :class:`LoadingFiles`, unit columns; and to each of ``places``, if any, the
    loadings of a part of the sketch. Returns ``trace``, the errors on the sketch, and ``converged``.
    """
    with threadpool_limits(1):
        wanted = Solving(**how)
        sketch, basis = sampled_sketch(parts, wanted.stride), BasisFiles.open(basis_folder).basis
        if seed is None:
            latent = first_latent(sketch, basis, wanted.k)
        else:
            latent = np.random.default_rng(seed).random((len(basis), wanted.k), np.float32)
            latent[np.abs(basis).max(axis=1) == 0] = 0
        inside = float(np.trace(gram_of(sketch)))
        # of rows left out of the sample, and of what the sketch does not hold, as much error as of the others
        share = inside / max(whole_squares(parts), 1e-300)
        descent = Descent(latent, wanted.total * share, wanted.tol)
        loading = np.zeros((len(sketch), wanted.k), np.float32)
        for _ in solve(sketch, basis, descent, wanted.max_passes, loading):
            pass
        if seed is not None:
            length: Float32 = np.sqrt(np.diag(gram_of(loading))).astype(np.float32)
            length[length == 0] = 1
            LoadingFiles(loading=np.divide(loading, length, dtype=np.float32)).write(loadings_of(folder))
        for place, rows in zip(places, part_rows(parts), strict=False):
            LoadingFiles(loading=loading[rows]).write(loadings_of(place))
        LatentFiles(latent=descent.latent).write(folder)
        return {"trace": descent.trace, "converged": descent.converged}


def part_rows(parts: list[list[Any]]) -> list[slice]:
    """Rows of each part of the sketch."""
    starts = [first for _, first in parts]
    return [slice(begin, end) for begin, end in zip(starts, [*starts[1:], None], strict=True)]


def whole_squares(parts: list[list[Any]]) -> float:
    """Sum of squares of the whole sketch."""
    return float(sum(np.trace(block) for folder, _ in parts for block in SketchFiles.open(folder).gram))


def fit_task(
    recipe: dict[str, Any],
    first_block: int,
    end_block: int,
    fixed_folder: str,
    earlier: str | None,
    n_sweeps: int,
    measure: bool,
    folder: str,
) -> dict[str, Any]:
    """Task: loadings of some blocks of the data for given latent values.

    Writes a :class:`FitFiles` and a :class:`LoadingFiles`. Returns the stored chunks read and, with ``measure``, the
    squared error of each block.
    """
    known = Recipe(**recipe)
    blocks = (block for block, _ in read_blocks(known, first_block, end_block))
    before = storage.join(earlier, str(first_block)) if earlier else None
    errors = _fit(blocks, fixed_folder, before, n_sweeps, folder, measure=measure)
    return {"n_chunks": chunks_read(known, first_block, end_block), "errors": errors}


def fit_sketch_task(
    part: str, block_rows: int, fixed_folder: str, earlier: str | None, n_sweeps: int, folder: str
) -> int:
    """Task: the same for a part of the sketch; products have its columns in place of the samples."""
    sketch = SketchFiles.open(part).sketch
    blocks = (sketch[row : row + block_rows] for row in range(0, len(sketch), block_rows))
    _fit(blocks, fixed_folder, earlier, n_sweeps, folder)
    return len(sketch)


def _fit(
    blocks: Iterable[Float32],
    fixed_folder: str,
    earlier: str | None,
    n_sweeps: int,
    folder: str,
    *,
    measure: bool = False,
) -> list[float]:
    with threadpool_limits(1):
        given = FixedFiles.open(fixed_folder)
        fixed, latent = given.fixed, given.latent
        before = LoadingFiles.open(loadings_of(earlier)).loading if earlier else None
        loading, products, gram, errors, begin = [], [], [], [], 0
        for block in blocks:
            end = begin + len(block)
            rows = (
                np.zeros((len(block), latent.shape[1]), np.float32) if before is None else np.array(before[begin:end])
            )
            fit_block(block, fixed, latent, rows, n_sweeps)
            loading.append(rows)
            products.append(products_of(block, rows))
            gram.append(gram_of(rows))
            if measure:
                errors.append(residual(block, rows, latent))
            begin = end
        LoadingFiles(loading=np.concatenate(loading)).write(loadings_of(folder))
        FitFiles(products=np.stack(products), gram=np.stack(gram)).write(folder)
        return errors
