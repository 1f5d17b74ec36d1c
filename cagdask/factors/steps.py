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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.compute.work import Work
from cagdask.errors import InputError
from cagdask.factors.fitting import (
    FitFiles,
    FixedFiles,
    LatentFiles,
    Solving,
    fit_sketch_task,
    fit_task,
    loadings_of,
    solve_task,
)
from cagdask.factors.hals import REFIT_SWEEPS, SWEEPS, Descent, Float32, Float64, error_change, sweep
from cagdask.factors.matrix import Matrix
from cagdask.factors.nonneg import KeptFiles, Recipe
from cagdask.factors.sketch import (
    BasisFiles,
    PowerFiles,
    SquareFiles,
    orthonormal,
    power_task,
    project_task,
    random_basis,
    squares_of,
)
from cagdask.factors.survey import judged, survey_task

logger = logging.getLogger(__name__)

SAMPLE_BYTES = 16 * 2**20
"""Sketch and loadings of the rows that are solved in memory; of more rows, every second, third, … is taken."""
LISTED = 1000
"""Names of dropped or empty genes and samples that are listed; there may be millions."""


@dataclass
class Factorization(Work):
    """One factorization in the making.

    Attributes
    ----------
    matrix
        What is factorized.
    rank
        Columns of the sketch.
    seed
        Of the sketch.
    nonneg, missing
        As :func:`cagdask.nmf` takes them.
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
    """

    matrix: Matrix
    rank: int
    seed: int
    nonneg: str
    missing: str
    facts: dict[str, Any] = field(default_factory=dict)
    chunks_read: int = 0
    total: float = 0.0
    centered: float = 0.0
    recipe: Recipe | None = None
    kept_samples: NDArray[np.bool_] | None = None
    kept_genes: NDArray[np.bool_] | None = None
    begin_at: str | None = None

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

    def fitted(self, stage: str) -> tuple[Float64, Float64]:
        """AᵀG and GᵀG of a pass."""
        files = list(FitFiles.open_all(self.places(stage)))
        return summed(part.products for part in files), summed(part.gram for part in files)

    @property
    def passes(self) -> float:
        """Passes over the data so far: chunks read per chunk there is."""
        return self.chunks_read / self.matrix.n_chunks

    # -- looking ---------------------------------------------------------------------------------------------------

    def check_memory(self, k: int) -> None:
        """Refuse a job whose largest task does not fit a worker."""
        matrix, runner = self.matrix, self.runner
        m, width = matrix.n_samples, max(self.rank, k)
        rows = min(matrix.block_rows, matrix.n_genes)
        block = 4 * (matrix.held_rows + 2 * rows) * m
        sums = 3 * 8 * matrix.task_blocks * m * width
        what = f"a block of {rows:,} {matrix.rows_are} x {m:,} samples and chunks of {matrix.chunk_rows:,}"
        runner.check_fits("sketch", block + sums, what)
        in_memory = 3 * min(SAMPLE_BYTES, 4 * matrix.n_genes * (width + k)) + 6 * 8 * m * width
        what = f"the sketch and loadings of {k} components"
        runner.check_fits("solve", in_memory, what)

    def survey(self) -> None:
        """Pass 1: refuse or drop what is missing, refuse or transform what is negative.

        Raises
        ------
        InputError
            As :func:`cagdask.factors.survey.judged` says.
        """
        self.over_data("survey", survey_task, self.missing == "drop-features")
        matrix = self.matrix
        found = judged(matrix, self.places("survey"), self.nonneg, self.missing)
        self.kept_samples, self.kept_genes = found.kept_samples, found.kept_genes
        folder = None
        if not found.kept_samples.all():
            folder = self.path("kept")
            KeptFiles(kept=found.kept_samples).write(folder)
        shift = found.shift if self.nonneg == "shift" else 0.0
        self.recipe = Recipe(matrix.to_json(), self.nonneg, shift, folder, not found.kept_genes.all())
        self.facts |= {
            "rows_are": matrix.rows_are,
            "n_genes": int(found.kept_genes.sum()),
            "n_samples": int(found.kept_samples.sum()),
            "n_missing": found.n_missing,
            "n_negative": found.n_negative,
            "shift": shift,
            "dropped_genes": self._listed_genes(~found.kept_genes),
            "dropped_samples": _listed(matrix.sample_names(), ~found.kept_samples),
        }

    def _listed_genes(self, wanted: NDArray[np.bool_]) -> dict[str, Any]:
        rows = np.flatnonzero(wanted)
        return {"n": len(rows), "first": self.matrix.names_of(rows[:LISTED])}

    # -- the sketch ------------------------------------------------------------------------------------------------

    def sketch(self) -> None:
        """Passes 2 to 4: the sketch, and the squares of the matrix."""
        assert self.recipe is not None
        assert self.kept_samples is not None
        n_samples = int(self.kept_samples.sum())
        self.rank = min(self.rank, n_samples, self.facts["n_genes"])
        BasisFiles(basis=random_basis(n_samples, self.rank, self.seed)).write(self.path("basis-0"))
        found = self.over_data("sketch 1", power_task, self.path("basis-0"), True)
        self.centered = float(sum(part for answer in found for part in answer["centered"]))
        squares = list(SquareFiles.open_all([squares_of(place) for place in self.places("sketch 1")]))
        column_squares = summed(part.column_squares for part in squares)
        self.total = float(column_squares.sum())
        if self.total == 0:
            raise InputError(
                f"{self.matrix.said}: no value is above 0, there is nothing to factorize. Name another source, or "
                "another `nonneg`."
            )
        row_squares = np.concatenate([part.row_squares for part in squares])
        assert self.kept_genes is not None
        names = np.array(self.matrix.sample_names(), dtype=object)[self.kept_samples].tolist()
        self.facts |= {
            "zero_genes": self._listed_genes((row_squares == 0) & self.kept_genes),
            "zero_samples": _listed(names, column_squares == 0),
        }
        basis = self._basis("sketch 1")
        for number in (1, 2):
            basis[column_squares == 0] = 0
            BasisFiles(basis=basis).write(self.path(f"basis-{number}"))
            if number == 1:
                self.over_data("sketch 2", power_task, self.path("basis-1"), False)
                basis = self._basis("sketch 2")
        self.over_data("sketch 3", project_task, self.path("basis-2"))

    def _basis(self, stage: str) -> Float32:
        with threadpool_limits(1):
            return orthonormal(summed(part.products for part in PowerFiles.open_all(self.places(stage))))

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
            "solve",
            solve_task,
            self.sketch_parts(),
            self.path("basis-2"),
            Solving(k, stride, self.total, tol, max_passes).to_json(),
            None,
            self.path("solved"),
            self.places("solved") if stride == 1 else [],
            done=self.done,
        )
        descent = Descent(
            LatentFiles.open(self.path("solved")).latent, self.total, tol, answer["trace"], answer["converged"]
        )
        if stride == 1:
            self.begin_at = "solved"
            return descent
        whole = Descent(descent.latent, self.total, tol)
        basis = BasisFiles.open(self.path("basis-2")).basis
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
        FixedFiles(latent=descent.latent, fixed=fixed).write(self.path(name, "fixed"))
        n_sweeps = SWEEPS if self.begin_at else REFIT_SWEEPS
        earlier = self.path(self.begin_at) if self.begin_at else None
        if basis is None:
            self.over_data(name, fit_task, self.path(name, "fixed"), earlier, n_sweeps, False)
        else:
            sketch, places = self.places("sketch 3"), self.places(name)
            rows = self.matrix.block_rows
            starts = [str(first) for first, _ in self.matrix.tasks()]
            items = [
                (part, rows, self.path(name, "fixed"), storage.join(earlier, start) if earlier else None, n_sweeps, to)
                for part, start, to in zip(sketch, starts, places, strict=True)
            ]
            self.runner.map(stage, fit_sketch_task, items, unit="blocks")
        products, gram = self.fitted(name)
        with threadpool_limits(1):
            descent.update(products if basis is None else basis.astype(np.float64) @ products, gram)
        if number > 1:  # the sums stay: a resumed run needs them
            for place in self.places(f"{stage} {number - 2}"):
                storage.remove(loadings_of(place))
        self.begin_at = name

    def refit(self, latent: Float32) -> tuple[Float32, float, Float64]:
        """The last pass: loadings fitted to the data themselves, then the latent values to the loadings.

        Returns
        -------
        latent, error, gram
            Latent values, shape (n_samples, k); ‖A − G Lᵀ‖²; and GᵀG.
        """
        FixedFiles(latent=latent, fixed=latent).write(self.path("refit", "fixed"))
        earlier = self.path(self.begin_at) if self.begin_at else None
        found = self.over_data("refit", fit_task, self.path("refit", "fixed"), earlier, REFIT_SWEEPS, True)
        products, gram = self.fitted("refit")
        before, latent = latent, np.array(latent)
        sweep(latent, products.astype(np.float32), gram.astype(np.float32), REFIT_SWEEPS)
        error = sum(part for answer in found for part in answer["errors"])
        return latent, max(0.0, error + error_change(products, gram, before, latent)), gram


def summed(parts: Iterable[NDArray[Any]]) -> Float64:
    """Sum over the blocks of all parts, in their order."""
    total: Float64 | None = None
    for part in parts:
        for block in part:
            total = block.astype(np.float64) if total is None else total + block
    assert total is not None
    return total


def _listed(names: list[str], wanted: NDArray[np.bool_]) -> dict[str, Any]:
    rows = np.flatnonzero(wanted)
    return {"n": len(rows), "first": [names[row] for row in rows[:LISTED]]}
