"""Non-negative matrix factorization of a store, a result's CAGs, or a table.

    source --open--> matrix --survey, sketch--> sketch --descend--> latent --refit--> loadings --> folder of files

Checks come first, then the passes (:mod:`cagdask.factors.steps`), then the files (:mod:`cagdask.factors.results`),
staged beside the output and moved there in one go.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cagdask import provenance, storage
from cagdask.compute.runner import Runner
from cagdask.factors import results
from cagdask.factors.hals import Float32
from cagdask.factors.matrix import check_table, convert_table, open_matrix, reads_itself
from cagdask.factors.request import Request, check_k, taken
from cagdask.factors.sketch import OVERSAMPLING
from cagdask.factors.steps import Factorization
from cagdask.io.inputs import takes_any_input
from cagdask.io.tables.parquet import is_table
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

R2_ROUNDING = 1e-6
"""What rounding may take from an R² of 0."""


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
    if warn_of_fit(request.said, r2):
        converged = False
    elif not converged:
        logger.warning(
            "%s: not converged after %d passes of the solver. Raise `max_passes` (%d) or `tol` (%g).",
            request.said,
            len(trace),
            request.parameters["max_passes"],
            request.parameters["tol"],
        )
    return {
        "command": request.command,
        "parameters": request.parameters,
        "k": request.parameters["k"],
        "seed": request.parameters["seed"],
        "input": request.said,
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
) -> tuple[dict[str, Any], Float32, results.Scale]:
    """The exact refit: what it says of the factorization, its latent values, and their scale."""
    fitted, error, gram = job.refit(latent)
    scale = results.scale_of(fitted, gram)
    summary = describe(request, job, error, converged, trace) | {"empty_components": scale.empty(fitted, gram)}
    if summary["empty_components"]:
        logger.warning(
            "%s: of %d components %s are empty: the matrix has fewer programs. Use a smaller k.",
            request.said,
            request.k,
            ", ".join(summary["empty_components"]),
        )
    return summary, fitted, scale


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
            summary, latent, scale = finish(request, job, descent.latent, descent.converged, trace)
            results.write_result(job, folder, latent, scale, summary)
    return storage.open_dataset(storage.join(output, results.STORE))
