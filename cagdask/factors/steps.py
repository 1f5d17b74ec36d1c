"""The stages of a factorization, each a map over blocks or a single task.

    survey ----> sketch 1, 2, 3 ----> solve ------------> polish n ------> exact n -------> refit
    all data     all data             rows of the sketch  whole sketch     all data          all data
                                      that fit in memory  (if larger)      (solver exact)

The driver holds what has the size of the samples: sums of the blocks, in their order, and the latent values. Loadings
stay in the work folder, one file per task; a later pass reads those of the one before.

Whether a resumed run repeats a pass is up to its task's kept answer: sums of all passes stay until the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.client import Runner
from cagdask.engine import arrays
from cagdask.errors import InputError
from cagdask.factors.hals import (
    REFIT_SWEEPS,
    SWEEPS,
    Descent,
    Float32,
    Float64,
    fit_block,
    gram_of,
    products_of,
    solve,
    squared_error,
    sweep,
)
from cagdask.factors.matrix import Matrix
from cagdask.factors.nonneg import Recipe, read_blocks, survey_task
from cagdask.factors.sketch import first_latent, orthonormal, power_task, project_task, random_basis
from cagdask.resources import check_fits

logger = logging.getLogger(__name__)

SAMPLE_BYTES = 16 * 2**20
"""Sketch and loadings of the rows that are solved in memory; of more rows, every second, third, … is taken."""
LISTED = 1000
"""Names of dropped or empty genes and samples that are listed; there may be millions."""


@dataclass
class Job:
    """One factorization in its work folder.

    Attributes
    ----------
    matrix
        What is factorized.
    folder, done
        Work folder, and the folder of kept answers.
    rank
        Columns of the sketch.
    seed
        Of the sketch.
    nonneg, missing
        As :func:`cagdask.nmf` takes them.
    runner
        Where tasks run.
    facts
        What the passes found, for the JSON file.
    chunks_read
        Stored chunks read by the passes so far.
    total, centered
        Squares of the non-negative matrix, and about its genes' means.
    recipe
        How tasks get non-negative blocks; known after the survey, like the next two.
    kept_samples, kept_genes
        Which take part, shape (n_samples,) and (n_genes,).
    begin_at
        Stage whose loadings the next pass begins with; None begins at zero.
    n_before
        Stages that the runner had run before.
    """

    matrix: Matrix
    folder: str
    done: str
    rank: int
    seed: int
    nonneg: str
    missing: str
    runner: Runner
    facts: dict[str, Any] = field(default_factory=dict)
    chunks_read: int = 0
    total: float = 0.0
    centered: float = 0.0
    recipe: Recipe | None = None
    kept_samples: NDArray[np.bool_] | None = None
    kept_genes: NDArray[np.bool_] | None = None
    begin_at: str | None = None
    n_before: int = 0

    def __post_init__(self) -> None:
        self.n_before = len(self.runner.usage)

    def path(self, *parts: str) -> str:
        """A place in the work folder."""
        return storage.join(self.folder, *parts)

    def places(self, stage: str) -> list[str]:
        """Folder of each task of a stage over blocks."""
        return [self.path(stage, str(first)) for first, _ in self.matrix.tasks()]

    def over_data(self, stage: str, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """A pass over the data: ``function(source, first block, end block, *arguments, folder)`` for each task."""
        matrix = self.matrix
        source = self.recipe.to_json() if self.recipe else matrix.to_json()
        tasks = list(zip(matrix.tasks(), self.places(stage), strict=True))
        rows = [matrix.rows(*blocks) for blocks, _ in tasks]
        items = [(source, first, end, *arguments, place) for (first, end), place in tasks]
        found = self.runner.map(
            stage, function, items, done=self.done, unit="genes", weights=[end - begin for begin, end in rows]
        )
        self.chunks_read += sum(answer if isinstance(answer, int) else answer["n_chunks"] for answer in found)
        return found

    def summed(self, stage: str, name: str) -> Float64:
        """Sum over all blocks, in their order."""
        total: Float64 | None = None
        for place in self.places(stage):
            for part in arrays.load(place, name):
                total = part.astype(np.float64) if total is None else total + part
        assert total is not None
        return total

    @property
    def passes(self) -> float:
        """Passes over the data so far: chunks read per chunk there is."""
        return self.chunks_read / self.matrix.n_chunks

    # -- looking ---------------------------------------------------------------------------------------------------

    def check_memory(self, k: int) -> None:
        """Refuse a job whose largest task does not fit a worker."""
        matrix, runner = self.matrix, self.runner
        rows, m, width = matrix.block_rows * matrix.task_blocks, matrix.n_samples, max(self.rank, k)
        block = 3 * 4 * min(rows, matrix.n_genes) * m
        sums = 3 * 8 * matrix.task_blocks * m * width
        at_once = max(1, runner.n_threads // max(1, runner.n_workers))
        what = f"a block of {min(rows, matrix.n_genes):,} genes x {m:,} samples"
        check_fits("sketch", block + sums, what, runner.memory_limit, at_once)
        in_memory = 3 * min(SAMPLE_BYTES, 4 * matrix.n_genes * (width + k)) + 6 * 8 * m * width
        what = f"the sketch and loadings of {k} components"
        check_fits("solve", in_memory, what, runner.memory_limit, at_once)

    def survey(self) -> None:
        """Pass 1: refuse or drop what is missing, refuse or transform what is negative.

        Raises
        ------
        InputError
            Values are missing or negative and no way to deal with them was given, or nothing is left.
        """
        self.over_data("survey", survey_task, self.missing == "drop-features")
        matrix, places = self.matrix, self.places("survey")
        n_bad, n_negative = (sum(arrays.load(p, name) for p in places) for name in ("n_bad", "n_negative"))
        first = np.stack([arrays.load(place, "first") for place in places]).astype(np.float64)
        first[first < 0] = np.inf
        first = first.min(axis=0)
        minimum = np.min([arrays.load(place, "minimum") for place in places], axis=0)
        bad_row = np.concatenate([arrays.load(place, "bad_row") for place in places])
        total_bad = int(np.sum(n_bad))
        if total_bad and self.missing == "error":
            raise InputError(
                f"{matrix.url}: {total_bad:,} values are missing or not finite, the first {self._cell(first[0])}. Fill "
                "them in, or say --missing drop-features or drop-samples."
            )
        kept = np.ones(matrix.n_samples, np.bool_)
        if total_bad and self.missing == "drop-samples":
            kept = np.asarray(n_bad) == 0
        drop_genes = bool(total_bad) and self.missing == "drop-features"
        self.kept_samples = kept
        self.kept_genes = ~bad_row if drop_genes else np.ones(matrix.n_genes, np.bool_)
        if not kept.any() or not self.kept_genes.any():
            what = "sample" if not kept.any() else "gene"
            raise InputError(f"{matrix.url}: every {what} has missing values. Use the other way of --missing.")
        n_below = int(np.sum(np.asarray(n_negative)[kept]))
        if n_below and self.nonneg == "error":
            first[1, ~kept] = np.inf
            raise InputError(
                f"{matrix.url}: {n_below:,} values are below 0, the first {self._cell(first[1])}, and factors are of a "
                "non-negative matrix. Say how to make it one: --nonneg shift, feature-shift or negative-part."
            )
        folder = None
        if not kept.all():
            folder = self.path("kept")
            arrays.save(folder, kept=kept)
        shift = min(0.0, float(minimum[kept].min())) if self.nonneg == "shift" else 0.0
        self.recipe = Recipe(matrix.to_json(), self.nonneg, shift, folder, drop_genes)
        self.facts |= {
            "n_genes": int(self.kept_genes.sum()),
            "n_samples": int(kept.sum()),
            "n_missing": total_bad,
            "n_negative": n_below,
            "shift": shift,
            "dropped_genes": self._listed_genes(~self.kept_genes),
            "dropped_samples": _listed(self.matrix.sample_names(), ~kept),
        }

    def _cell(self, first: NDArray[np.float64]) -> str:
        column = int(np.argmin(first))
        row = int(first[column])
        gene = self.matrix.gene_names(row, row + 1)[0]
        return f"in gene {gene!r}, sample {self.matrix.sample_names()[column]!r}"

    def _listed_genes(self, wanted: NDArray[np.bool_]) -> dict[str, Any]:
        rows = np.flatnonzero(wanted)
        names = [self.matrix.gene_names(int(row), int(row) + 1)[0] for row in rows[:LISTED]]
        return {"n": len(rows), "first": names}

    # -- the sketch ------------------------------------------------------------------------------------------------

    def sketch(self) -> None:
        """Passes 2 to 4: the sketch, and the squares of the matrix."""
        assert self.recipe is not None
        assert self.kept_samples is not None
        n_samples = int(self.kept_samples.sum())
        self.rank = min(self.rank, n_samples, self.facts["n_genes"])
        arrays.save(self.path("basis-0"), basis=random_basis(n_samples, self.rank, self.seed))
        found = self.over_data("sketch 1", power_task, self.path("basis-0"), True)
        self.centered = float(sum(part for answer in found for part in answer["centered"]))
        column_squares = self.summed("sketch 1", "column_squares")
        self.total = float(column_squares.sum())
        if self.total == 0:
            raise InputError(f"{self.matrix.url}: no value is above 0, there is nothing to factorize.")
        row_squares = np.concatenate([arrays.load(place, "row_squares") for place in self.places("sketch 1")])
        assert self.kept_genes is not None
        names = np.array(self.matrix.sample_names(), dtype=object)[self.kept_samples].tolist()
        self.facts |= {
            "zero_genes": self._listed_genes((row_squares == 0) & self.kept_genes),
            "zero_samples": _listed(names, column_squares == 0),
        }
        basis = self._basis("sketch 1")
        for number in (1, 2):
            basis[column_squares == 0] = 0
            arrays.save(self.path(f"basis-{number}"), basis=basis)
            if number == 1:
                self.over_data("sketch 2", power_task, self.path("basis-1"), False)
                basis = self._basis("sketch 2")
        self.over_data("sketch 3", project_task, self.path("basis-2"))

    def _basis(self, stage: str) -> Float32:
        with threadpool_limits(1):
            return orthonormal(self.summed(stage, "products"))

    def sketch_parts(self) -> list[tuple[str, int]]:
        """Folder and first row of each part of the sketch."""
        return [(place, self.matrix.rows(*blocks)[0])
                for place, blocks in zip(self.places("sketch 3"), self.matrix.tasks(), strict=True)]  # fmt: skip

    def stride(self, k: int) -> int:
        """Of the sketch, every so many-th row is solved in memory."""
        return max(1, -(-self.matrix.n_genes * 4 * (self.rank + k) // SAMPLE_BYTES))

    # -- solving ---------------------------------------------------------------------------------------------------

    def descend(self, k: int, tol: float, max_passes: int) -> Descent:
        """Solve on the sketch: in memory, and where not all rows fit, on from there over all of them."""
        stride = self.stride(k)
        answer = self.runner.one(
            "solve", solve_task, self.sketch_parts(), self.path("basis-2"), k, None, stride, self.total, tol,
            max_passes, self.path("solved"), self.places("solved") if stride == 1 else [], done=self.done,
        )  # fmt: skip
        descent = Descent(
            arrays.load(self.path("solved"), "latent"), self.total, tol, answer["trace"], answer["converged"]
        )
        if stride == 1:
            self.begin_at = "solved"
            return descent
        whole = Descent(descent.latent, self.total, tol)
        basis = arrays.load(self.path("basis-2"), "basis")
        for number in range(max(1, max_passes - len(descent.trace))):
            self._pass("polish", number, whole, basis)
            if whole.converged:
                break
        return whole

    def descend_exactly(self, descent: Descent, max_passes: int) -> Descent:
        """Go on over the data themselves."""
        exact = Descent(descent.latent, self.total, descent.tol)
        for number in range(max_passes):
            self._pass("exact", number, exact, None)
            if exact.converged:
                break
        return exact

    def _pass(self, stage: str, number: int, descent: Descent, basis: Float32 | None) -> None:
        """Fit all loadings to the latent values, then these to the loadings."""
        name = f"{stage} {number}"
        with threadpool_limits(1):
            fixed = descent.latent if basis is None else basis.T @ descent.latent
        arrays.save(self.path(name, "fixed"), latent=descent.latent, fixed=fixed)
        n_sweeps = SWEEPS if self.begin_at else REFIT_SWEEPS
        earlier = self.path(self.begin_at) if self.begin_at else None
        if basis is None:
            self.over_data(name, fit_task, self.path(name, "fixed"), earlier, n_sweeps)
        else:
            sketch, places = self.places("sketch 3"), self.places(name)
            rows = self.matrix.block_rows
            starts = [str(first) for first, _ in self.matrix.tasks()]
            items = [
                (part, rows, self.path(name, "fixed"), storage.join(earlier, start) if earlier else None, n_sweeps, to)
                for part, start, to in zip(sketch, starts, places, strict=True)
            ]
            self.runner.map(stage, fit_sketch_task, items, unit="blocks")
        products, gram = self.summed(name, "products"), self.summed(name, "gram")
        with threadpool_limits(1):
            descent.update(products if basis is None else basis.astype(np.float64) @ products, gram)
        if number > 1:  # the sums stay: a resumed run needs them
            for place in self.places(f"{stage} {number - 2}"):
                storage.remove(storage.join(place, "loading.npy"))
        self.begin_at = name

    def refit(self, latent: Float32) -> tuple[Float32, float, Float64]:
        """The last pass: loadings fitted to the data themselves, then the latent values to the loadings.

        Returns
        -------
        latent, error, gram
            Latent values, shape (n_samples, k); ‖A − G Lᵀ‖²; and GᵀG.
        """
        arrays.save(self.path("refit", "fixed"), latent=latent, fixed=latent)
        earlier = self.path(self.begin_at) if self.begin_at else None
        self.over_data("refit", fit_task, self.path("refit", "fixed"), earlier, REFIT_SWEEPS)
        products, gram = self.summed("refit", "products"), self.summed("refit", "gram")
        latent = np.array(latent)
        sweep(latent, products.astype(np.float32), gram.astype(np.float32), REFIT_SWEEPS)
        return latent, squared_error(self.total, products, gram, latent), gram


def _listed(names: list[str], wanted: NDArray[np.bool_]) -> dict[str, Any]:
    rows = np.flatnonzero(wanted)
    return {"n": len(rows), "first": [names[row] for row in rows[:LISTED]]}


# -- tasks -----------------------------------------------------------------------------------------------------------


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
    blocks, _, n_chunks = read_blocks(Recipe(**recipe), first_block, end_block)
    _fit(blocks, fixed_folder, storage.join(earlier, str(first_block)) if earlier else None, n_sweeps, folder)
    return {"n_chunks": n_chunks}


def fit_sketch_task(
    part: str, block_rows: int, fixed_folder: str, earlier: str | None, n_sweeps: int, folder: str
) -> int:
    """Task: the same for a part of the sketch; ``products`` has its width in place of the samples."""
    sketch = arrays.load(part, "sketch")
    blocks = [sketch[row : row + block_rows] for row in range(0, len(sketch), block_rows)]
    _fit(blocks, fixed_folder, earlier, n_sweeps, folder)
    return len(sketch)


def _fit(blocks: list[Float32], fixed_folder: str, earlier: str | None, n_sweeps: int, folder: str) -> None:
    with threadpool_limits(1):
        fixed, latent = arrays.load(fixed_folder, "fixed"), arrays.load(fixed_folder, "latent")
        shape = (sum(map(len, blocks)), latent.shape[1])
        loading = np.array(arrays.load(earlier, "loading")) if earlier else np.zeros(shape, np.float32)
        products, gram, begin = [], [], 0
        for block in blocks:
            rows = loading[begin : begin + len(block)]
            fit_block(block, fixed, latent, rows, n_sweeps)
            products.append(products_of(block, rows))
            gram.append(gram_of(rows))
            begin += len(block)
        arrays.save(folder, loading=loading, products=np.stack(products), gram=np.stack(gram))
