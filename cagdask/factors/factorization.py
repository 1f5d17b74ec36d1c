"""Non-negative matrix factorization of a store, a result's CAGs, or a table.

    source --open--> matrix --survey, sketch--> sketch --descend--> latent --refit--> loadings --> folder of files

Checks come first, then the passes (:mod:`cagdask.factors.steps`), then the files (:mod:`cagdask.factors.results`),
staged beside the output and moved there in one go.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cagdask import provenance, storage
from cagdask.arguments import choice, number, whole
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.compute.work import scratch_folder
from cagdask.factors import results
from cagdask.factors.hals import Float32, Float64
from cagdask.factors.matrix import ORIENTS, Matrix, check_table, convert_table, open_matrix, reads_itself
from cagdask.factors.nonneg import NONNEG
from cagdask.factors.sketch import OVERSAMPLING
from cagdask.factors.steps import Factorization
from cagdask.factors.survey import MISSING
from cagdask.io.inputs import takes_any_input
from cagdask.io.tables.parquet import is_table
from cagdask.io.work_size import table_work_bytes

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

SOLVERS = ("compressed", "exact")
R2_ROUNDING = 1e-6
"""What rounding may take from an R² of 0."""


@dataclass(frozen=True)
class Request:
    """What a command of this package is asked, apart from where to compute.

    Attributes
    ----------
    command, source, output
        Name of the function, what it reads, and where its files go (None: nowhere).
    parameters
        As given; whatever the result depends on.
    k
        Largest number of components.
    overwrite
        Replace ``output``.
    """

    command: str
    source: str
    output: str | None
    parameters: dict[str, Any]
    k: int
    overwrite: bool

    def runner(
        self, client: Runner | Client | str | None, n_workers: int | None, memory_limit: str | int
    ) -> AbstractContextManager[Runner]:
        """Where to compute: passes hold the matrix once, in blocks, and what they make of it."""
        if is_table(self.source):
            work_bytes = table_work_bytes(storage.absolute(self.source))
        else:
            matrix = open_matrix(self.source)
            work_bytes = 2 * 4 * matrix.n_genes * matrix.n_samples
        return as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work_bytes)

    def check(self) -> None:
        """Refuse what can be refused without reading values.

        Raises
        ------
        ValueError, InputError, StoreError, SchemaError
            A parameter is out of range, the source can not be read, or the output not written.
        """
        given = self.parameters
        if self.output is not None:
            storage.check_target(storage.absolute(self.output), overwrite=self.overwrite)
        if is_table(self.source):
            check_table(self.source, given["id_column"], given["orient"])
        else:
            if given["orient"] != ORIENTS[0] or given["id_column"] is not None:
                raise ValueError(f"{self.source}: `orient` and `id_column` are for Parquet tables. Leave them out.")
            check_k(self.k, open_matrix(self.source), self.source)


def taken(given: dict[str, Any]) -> dict[str, Any]:
    """Parameters as plain Python values.

    Raises
    ------
    ValueError
        One is no number, no word, or out of range.
    """
    checks: dict[str, Callable[[str, Any], Any]] = {
        "k": partial(whole, least=1),
        "n_replicates": partial(whole, least=3),
        "nonneg": partial(choice, choices=NONNEG),
        "missing": partial(choice, choices=MISSING),
        "solver": partial(choice, choices=SOLVERS),
        "seed": partial(whole, least=0),
        "tol": partial(number, above=0, below=1),
        "max_passes": partial(whole, least=1),
        "density_threshold": partial(number, above=0, most=2),
    }
    return {name: checks[name](name, value) if name in checks else value for name, value in given.items()}


def check_k(k: int, matrix: Matrix, source: str) -> None:
    """Refuse more components than the matrix has rows or columns."""
    most = min(matrix.n_genes, matrix.n_samples)
    if k > most:
        raise ValueError(
            f"`k` is {k}, but {source} is {matrix.n_genes:,} x {matrix.n_samples:,}: use at most {most} components."
        )


@contextmanager
def begun(request: Request, runner: Runner) -> Iterator[tuple[Factorization, str]]:
    """A job with its sketch made, and the folder to put files in; these appear at the output when the block ends."""
    with begun_survey(request, runner, must_fit=request.k) as (job, folder):
        job.sketch()
        yield job, folder


@contextmanager
def begun_survey(request: Request, runner: Runner, *, must_fit: int) -> Iterator[tuple[Factorization, str]]:
    """The same before the sketch; ``must_fit`` components must fit a worker's memory."""
    with scratch_folder() as scratch:
        target = storage.absolute(request.output) if request.output else os.path.join(scratch, "nmf")
        folder, _ = storage.begin_work(target, _recipe(request), overwrite=request.overwrite)
        staged = storage.join(folder, "files")
        try:
            job = _surveyed(request, runner, folder, must_fit)
            storage.remove(staged)
            storage.make_folder(staged)
            yield job, staged
        except ValueError:  # what is wrong with input or parameters: nothing that another try could go on from
            storage.end_work(target)
            raise
        storage.publish(staged, target)
        storage.end_work(target)


def _surveyed(request: Request, runner: Runner, folder: str, must_fit: int) -> Factorization:
    given, done = request.parameters, storage.join(folder, "done")
    if is_table(request.source):
        id_column = check_table(request.source, given["id_column"], given["orient"])
        matrix = convert_table(request.source, id_column, given["orient"], runner, folder, done)
    else:
        matrix = open_matrix(request.source)
    check_k(request.k, matrix, request.source)
    job = Factorization(
        folder, runner, matrix, request.k + OVERSAMPLING, given["seed"], given["nonneg"], given["missing"]
    )
    job.check_memory(must_fit)
    job.survey()
    kept = min(job.facts["n_genes"], job.facts["n_samples"])
    if request.k > kept:
        raise ValueError(
            f"`k` is {request.k}, but without what has missing values {request.source} is "
            f"{job.facts['n_genes']:,} x {job.facts['n_samples']:,}: use at most {kept} components."
        )
    return job


def _recipe(request: Request) -> dict[str, Any]:
    if is_table(request.source):
        from cagdask.io.sheets.sheet import stat

        found = provenance.digest([storage.absolute(request.source), stat(request.source)])
    else:
        found = open_matrix(request.source).digest
    return {
        "command": request.command,
        "source": storage.absolute(request.source),
        "digest": found,
        "parameters": request.parameters,
    }


def warn_of_fit(source: str, r2: float | None) -> bool:
    """Warn of factors that explain less than the means of the genes do; gives whether they do."""
    if r2 is None or r2 >= -R2_ROUNDING:
        return False
    logger.warning(
        "%s: R2 is %.3g: the gene means alone explain more than these factors. Use more components, or another "
        "`nonneg`; of a projection, other programs.",
        source,
        r2,
    )
    return True


def describe(request: Request, job: Factorization, error: float, converged: bool, trace: list[float]) -> dict[str, Any]:
    """The JSON file of a factorization; warns of one that is not to be relied on."""
    r2 = 1 - error / job.centered if job.centered > 0 else None
    if warn_of_fit(request.source, r2):
        converged = False
    elif not converged:
        logger.warning(
            "%s: not converged after %d passes of the solver. Raise `max_passes` (%d) or `tol` (%g).",
            request.source,
            len(trace),
            request.parameters["max_passes"],
            request.parameters["tol"],
        )
    return {
        "command": request.command,
        "parameters": request.parameters,
        "k": request.parameters["k"],
        "seed": request.parameters["seed"],
        "input": request.source,
        "input_digest": str(storage.open_group(job.matrix.url).attrs.get("input_digest") or job.matrix.digest),
        "r2": r2,
        "objective": error,
        "objective_before": job.total,
        "trace": trace,
        "converged": converged,
        "passes": round(job.passes, 3),
        "versions": provenance.versions(),
        "stages": results.stage_usage(job),
    } | job.facts


def finish(
    request: Request, job: Factorization, latent: Float32, converged: bool, trace: list[float]
) -> tuple[dict[str, Any], Float32, Float64]:
    """The exact refit, and what it says of the factorization."""
    fitted, error, gram = job.refit(latent)
    return describe(request, job, error, converged, trace), fitted, gram


@takes_any_input(reads_itself)
def nmf(
    source: str,
    *,
    k: int,
    output: str,
    nonneg: str = "error",
    missing: str = "error",
    solver: str = "compressed",
    seed: int = 0,
    tol: float = 1e-5,
    max_passes: int = 500,
    orient: str = "genes-by-samples",
    id_column: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Factorize a non-negative matrix into ``k`` components: programs of genes, and how much of each a sample has.

    Minimizes the squared error of ``sample_latent · gene_loadingᵀ`` by hierarchical alternating least squares. The
    *compressed* solver works on a sketch of the data and fits the loadings to the data themselves at the end: five
    passes over the data, whatever ``k``. The *exact* one goes on from there with passes over the data. Computes at
    once.

    Parameters
    ----------
    source
        Path or URL of an abundance or expression store, a result store (its CAGs), or a Parquet table.
    k
        Components, at most the number of genes and of samples.
    output
        Folder to make, see Notes.
    nonneg
        Values below 0 are an ``error``; or take off the smallest value of the table (``shift``) or of the gene
        (``feature-shift``), where that is below 0; or factorize max(-v, 0) (``negative-part``).
    missing
        Values of a Parquet table that are missing or not finite are an ``error``, or ``drop-features`` (genes) or
        ``drop-samples`` that have any.
    solver
        ``compressed`` or ``exact``.
    seed
        Of the sketch.
    tol
        The solver ends when a pass lowers the squared error by less than this share of it.
    max_passes
        Passes of the solver, over the sketch or, for ``exact``, then over the data, at most.
    orient, id_column
        Of a Parquet table: what its rows are, ``genes-by-samples`` or ``samples-by-genes``, and the column of their
        names, by default the first.
    overwrite
        Replace ``output``, once the new one is complete.
    client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    Dataset
        ``gene_loading`` (gene, component), columns of length 1, and ``sample_latent`` (sample, component), components
        by falling total; attributes ``r2`` and ``converged``. Lazy, from ``factors.zarr`` in ``output``.

    Raises
    ------
    ValueError
        A parameter is out of range.
    InputError, SchemaError, StoreError
        The source can not be factorized, or the output not written.
    MemoryLimitError
        A worker's memory does not suffice.

    Notes
    -----
    Writes ``nmf_latent.parquet`` (samples), ``NMF_weight_matrix_gsea.parquet`` (genes), ``factors.zarr``,
    ``top_genes.tsv``, ``nmf.json`` and three pictures. R² is 1 − error / squares about the gene means. A task holds a
    block of 16 MiB or one stored chunk, three times; the sketch is solved from at most 16 MiB. The bytes of tables and
    store do not depend on chunks and workers.
    """
    parameters: dict[str, Any]
    parameters = {"k": k, "nonneg": nonneg, "missing": missing, "solver": solver, "seed": seed, "tol": tol,
                  "max_passes": max_passes, "orient": orient, "id_column": id_column}  # fmt: skip
    parameters = taken(parameters)
    k, tol, max_passes = parameters["k"], parameters["tol"], parameters["max_passes"]
    request = Request("nmf", source, output, parameters, k, overwrite)
    request.check()
    with request.runner(client, n_workers, memory_limit) as runner:
        with begun(request, runner) as (job, folder):
            descent = job.descend(k, tol, max_passes)
            trace = descent.trace
            if solver == "exact":
                descent = job.descend_exactly(descent, max_passes)
                trace = trace + descent.trace
            summary, latent, gram = finish(request, job, descent.latent, descent.converged, trace)
            scale = results.scale_of(latent, gram)
            results.write_result(job, folder, latent, scale, summary)
    return storage.open_dataset(storage.join(output, results.STORE))
