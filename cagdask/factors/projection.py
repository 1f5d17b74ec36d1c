"""New samples in terms of programs found before.

    new samples: block of genes --found--> Aᵢ, Gᵢ --> Σ AᵢᵀGᵢ, Σ GᵢᵀGᵢ --> latent values of the new samples

Genes are matched by name, once, into a row of the reference for each row of the new table. CAGs are matched by the
genes they hold, never by their number: a CAG of the new result is that of the reference with the same set of genes, see
:mod:`cagdask.factors.contents`. A row with values that are missing takes no part. Values are made non-negative as those
of the reference were, with the same number subtracted from a gene.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cagdask import provenance, schema, storage, stores
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.factors import results
from cagdask.factors.consensus import USAGE
from cagdask.factors.contents import contents_of
from cagdask.factors.factorization import begun_survey, warn_of_fit
from cagdask.factors.fitting import FitFiles
from cagdask.factors.hals import REFIT_SWEEPS, Float32, squared_error, sweep
from cagdask.factors.matrix import Matrix, open_matrix, reads_itself
from cagdask.factors.nonneg import KeptFiles, Recipe
from cagdask.factors.request import Request, taken
from cagdask.factors.steps import Factorization
from cagdask.io.gene_matching import hashes_of, rows_by_hash
from cagdask.io.inputs import takes_any_input
from cagdask.io.tables.parquet import is_table
from cagdask.storage.arrays import Files, array

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)


class MatchFiles(Files):
    """Genes of the new table in the reference. Written by :func:`match_task`, read by :func:`project_genes_task`."""

    row: NDArray[np.int64] = array(np.int64, "gene", "row in the reference; -1 for none")


def open_factors(reference: str) -> str:
    """URL of the factors store of a reference: that store itself, or the folder of a factorization."""
    url = stores.in_folder(reference, stores.FACTORS)
    ds = storage.look(url)
    if ds.attrs.get("kind") != schema.FACTORS_KIND:
        raise SchemaError(f"{url}: holds no factors. Name the output of cagdask nmf.")
    schema.validate(ds, "gene_loading", "gene_id", where=url)
    return url


@takes_any_input(reads_itself)
def nmf_project(
    source: str,
    *,
    reference: str,
    output: str,
    missing: str = "error",
    orient: str = "genes-by-samples",
    id_column: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Fit the programs of a factorization to new samples.

    Parameters
    ----------
    source
        New samples: what :func:`cagdask.nmf` takes. Genes are matched by id. The CAGs of a result are matched by the
        genes they hold: one takes part only if the reference has a CAG of exactly these genes. Rows that the
        reference lacks are left out.
    reference
        Output of :func:`cagdask.nmf` or :func:`cagdask.nmf_consensus`.
    output
        Folder to make: ``nmf_latent.parquet``, ``nmf_usage.parquet``, ``factors.zarr`` and ``nmf.json``.
    missing, orient, id_column, overwrite, client, n_workers, memory_limit
        As for :func:`cagdask.nmf`.

    Returns
    -------
    Dataset
        ``sample_latent`` (sample, component) of the new samples; attribute ``r2``. Lazy.

    Raises
    ------
    InputError
        No row of the reference is there, one has genes and the other CAGs; and as for :func:`cagdask.nmf`.

    Notes
    -----
    Two passes over the data. R² below 0 is a warning. Each task holds the loadings of its genes beside its block.
    """
    url = open_factors(reference)
    held = storage.open_group(url)
    k = int(held["gene_loading"].shape[1])  # type: ignore[union-attr]  # an array
    nonneg = str(held.attrs.get("nonneg", "error"))
    parameters: dict[str, Any]
    parameters = {"k": 1, "reference": storage.absolute(reference), "nonneg": nonneg, "missing": missing, "seed": 0,
                  "tol": 0.5, "max_passes": 1, "orient": orient, "id_column": id_column}  # fmt: skip
    parameters = taken(parameters)
    request = Request("nmf_project", source, output, parameters, 1, overwrite)
    request.check()
    if not is_table(source):
        check_rows(open_matrix(source), url)
    with request.runner(client, n_workers, memory_limit) as runner:
        with begun_survey(request, runner, must_fit=k) as (job, folder):
            check_rows(job.matrix, url)
            counts = _match(job, url)
            latent, fit = _project(job, url, k)
            warn_of_fit(request.said, fit["r2"])
            summary = {
                "command": request.command,
                "parameters": {"reference": parameters["reference"], "missing": missing, "nonneg": nonneg},
                "k": k,
                "input": request.said,
                "passes": round(job.passes, 3),
                "versions": provenance.versions(),
                "stages": results.stage_usage(job),
            } | counts | fit | job.facts  # fmt: skip
            samples = np.array(job.matrix.sample_names(), dtype=object)[job.kept_samples].tolist()
            _write(folder, job.matrix.sample_title, samples, latent, summary, url)
    return storage.open_dataset(storage.join(output, results.STORE))


def check_rows(matrix: Matrix, reference: str) -> None:
    """Refuse new samples whose rows are something else than those of the reference.

    Raises
    ------
    InputError
        One has genes and the other CAGs, or the reference does not say which genes its CAGs hold.
    """
    with_content = "gene_content" in storage.open_group(reference)
    summary = storage.read_json(storage.join(storage.parent_of(reference), results.SUMMARY)) or {}
    theirs = "CAGs" if with_content else str(summary.get("rows_are", "genes"))
    if theirs != matrix.rows_are:
        raise InputError(
            f"{matrix.said}: its rows are {matrix.rows_are}, but those of {reference} are {theirs}. Name new samples "
            f"with {theirs}."
        )
    if theirs == "CAGs" and not with_content:
        raise InputError(
            f"{reference}: does not say which genes its CAGs hold, since an earlier version made it, so the CAGs of "
            f"{matrix.said} can not be matched. Run cagdask nmf again."
        )


def _match(job: Factorization, reference: str) -> dict[str, int]:
    """Write which row of the reference each row of the matrix is; gives how many were found, and are in the reference.

    Raises
    ------
    InputError
        None was found.
    """
    matrix = job.matrix
    matching = matrix.to_json(), reference, job.path("match")
    n_matched = job.runner.one(f"match {matrix.rows_are}", match_task, *matching, done=job.done)
    n_reference = int(storage.open_array(reference, "gene_id").shape[0])
    if not n_matched and matrix.rows_are == "CAGs":
        raise InputError(
            f"{matrix.said}: none of its {matrix.n_genes:,} CAGs holds the same genes as one of the {n_reference:,} of "
            f"{reference}; that some have the same number says nothing. Factorize genes, and project those."
        )
    if not n_matched:
        raise InputError(
            f"{matrix.said}: none of its genes is among the {n_reference:,} of {reference}. Check that both name genes "
            "in the same way."
        )
    if n_matched < n_reference:
        logger.warning("%s: has %d of the reference's %d %s.", matrix.said, n_matched, n_reference, matrix.rows_are)
    return {"n_matched": n_matched, "n_reference": n_reference}


def _project(job: Factorization, reference: str, k: int) -> tuple[Float32, dict[str, Any]]:
    """Latent values of the new samples, shape (n_samples, k), and how well they fit."""
    found = job.over_data("project", project_genes_task, reference, job.path("match"))
    products, gram = job.fitted("project")
    latent = np.zeros((len(products), k), np.float32)
    sweep(latent, products.astype(np.float32), gram.astype(np.float32), 25 * REFIT_SWEEPS)
    error = max(0.0, squared_error(sum(answer["total"] for answer in found), products, gram, latent))
    centered = sum(answer["centered"] for answer in found)
    return latent, {"r2": 1 - error / centered if centered else None, "objective": error}


def match_task(source: dict[str, Any], reference: str, folder: str) -> int:
    """Task: write a :class:`MatchFiles`; gives how many rows the reference has."""
    matrix = Matrix(**source)
    if matrix.rows_are == "CAGs":
        content = np.asarray(storage.open_array(reference, "gene_content")[:])
        row = rows_by_hash([content[:, 0], content[:, 1]], contents_of(matrix.url))
    else:
        row = rows_by_hash(hashes_of(reference), hashes_of(matrix.url, matrix.gene_id, matrix.n_genes))
    MatchFiles(row=row).write(folder)
    return int((row >= 0).sum())


def project_genes_task(
    recipe: dict[str, Any], first_block: int, end_block: int, reference: str, match: str, folder: str
) -> dict[str, Any]:
    """Task: products of some blocks with the loadings of their genes.

    Writes a :class:`cagdask.factors.fitting.FitFiles`. Returns the stored chunks read, and the squares of the values
    and about the genes' means, of genes that the reference has.
    """
    with threadpool_limits(1):
        known = Recipe(**recipe)
        matrix = Matrix(**known.matrix)
        begin, end = matrix.rows(first_block, end_block)
        row = MatchFiles.open(match, begin, end).row
        group = storage.open_group(reference)
        products, gram, total, centered, at = [], [], 0.0, 0.0, 0
        for block in matrix.blocks(first_block, end_block):
            mine = row[at : at + len(block)]
            at += len(block)
            loading = _reference_rows(group, "gene_loading", mine)
            shift = _reference_rows(group, "gene_shift", mine) if "gene_shift" in group else np.zeros(len(mine), "f4")
            values, bad = _made_as_reference(block, known, shift)
            values[mine < 0], loading[bad] = 0, 0
            # float64, since R2 is what is left of large sums, and no other pass can look at the residual
            products.append(values.astype(np.float64).T @ loading)
            gram.append(loading.astype(np.float64).T @ loading)
            total += float((values.astype(np.float64) ** 2).sum())
            centered += float(((values - values.mean(axis=1, keepdims=True, dtype=np.float64)) ** 2).sum())
        FitFiles(products=np.stack(products), gram=np.stack(gram)).write(folder)
        return {"n_chunks": matrix.chunks_of(begin, end), "total": total, "centered": centered}


def _reference_rows(group: Any, name: str, row: Any) -> Any:
    """Rows of a reference's array, 0 where there is none."""
    array = group[name]
    found = np.zeros((len(row), *array.shape[1:]), np.float32)
    here = np.flatnonzero(row >= 0)
    if len(here):
        found[here] = array.oindex[row[here]]
    return found


def _made_as_reference(values: Any, recipe: Recipe, shift: Any) -> tuple[Any, Any]:
    """Values as those of the reference, and which genes have some that are missing; these say nothing."""
    if recipe.kept is not None:
        values = values[:, KeptFiles.open(recipe.kept).kept]
    values = np.array(values)
    bad = ~np.isfinite(values).all(axis=1)
    values[bad] = 0
    if recipe.nonneg == "negative-part":
        values = -values
    values = np.maximum(values - shift[:, None], 0)
    values[bad] = 0
    return values, bad


def _write(folder: str, title: str, samples: list[str], latent: Any, summary: dict[str, Any], reference: str) -> None:
    as_json = json.dumps(summary["parameters"], sort_keys=True)
    earlier = str(storage.open_group(reference).attrs.get("history", ""))
    attrs = {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": schema.FACTORS_KIND,
        "source": provenance.source(),
        "history": provenance.add_history(earlier, f"nmf_project {as_json}"),
        "parameters": as_json,
        "r2": summary["r2"],
        "sample_title": title,
    }
    group = storage.create_group(storage.join(folder, results.STORE), attrs)
    storage.write_array(group, "sample_id", np.array(samples, dtype=object))
    storage.write_array(group, "sample_latent", latent)
    storage.finish_group(group)
    results.write_table(storage.join(folder, results.LATENT), title, samples, latent)
    results.write_table(storage.join(folder, USAGE), title, samples, results.usage_shares(latent))
    storage.write_json(storage.join(folder, results.SUMMARY), summary)
