"""New samples in terms of programs found before.

    new samples: block of genes --found by name--> Aᵢ, Gᵢ --> Σ AᵢᵀGᵢ, Σ GᵢᵀGᵢ --> latent values of the new samples

Genes are matched by name, once, into a row of the reference for each row of the new table; one with values that are
missing takes no part. Values are made non-negative
as those of the reference were, with the same number subtracted from a gene.
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
from cagdask.factors.factorization import Request, begun_survey, taken
from cagdask.factors.fitting import FitFiles
from cagdask.factors.hals import REFIT_SWEEPS, gram_of, products_of, squared_error, sweep
from cagdask.factors.matrix import Matrix, reads_itself
from cagdask.factors.nonneg import KeptFiles, Recipe
from cagdask.io.gene_matching import hashes_of, rows_by_hash
from cagdask.io.inputs import takes_any_input
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
        New samples: what :func:`cagdask.nmf` takes. Genes that the reference lacks are left out.
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
        No gene of the reference is there; and as for :func:`cagdask.nmf`.

    Notes
    -----
    Two passes over the data. Each task holds the loadings of its genes beside its block.
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
    with request.runner(client, n_workers, memory_limit) as runner:
        with begun_survey(request, runner, must_fit=k) as (job, folder):
            matching = job.matrix.to_json(), url, job.path("match")
            n_matched = runner.one("match genes", match_task, *matching, done=job.done)
            n_reference = int(held["gene_id"].shape[0])  # type: ignore[union-attr]  # an array
            if not n_matched:
                raise InputError(
                    f"{source}: none of its genes is among the {n_reference:,} of {url}. Check that both name genes in "
                    "the same way."
                )
            if n_matched < n_reference:
                logger.warning("%s: has %d of the reference's %d genes.", source, n_matched, n_reference)
            found = job.over_data("project", project_genes_task, url, job.path("match"))
            products, gram = job.fitted("project")
            latent = np.zeros((len(products), k), np.float32)
            sweep(latent, products.astype(np.float32), gram.astype(np.float32), 25 * REFIT_SWEEPS)
            error = squared_error(sum(answer["total"] for answer in found), products, gram, latent)
            centered = sum(answer["centered"] for answer in found)
            summary = {
                "command": request.command,
                "parameters": {"reference": parameters["reference"], "missing": missing, "nonneg": nonneg},
                "k": k,
                "input": source,
                "n_matched": n_matched,
                "n_reference": n_reference,
                "r2": 1 - error / centered if centered else None,
                "objective": error,
                "passes": round(job.passes, 3),
                "versions": provenance.versions(),
                "stages": results.stage_usage(job),
            } | job.facts  # fmt: skip
            samples = np.array(job.matrix.sample_names(), dtype=object)[job.kept_samples].tolist()
            _write(folder, job.matrix.sample_title, samples, latent, summary, url)
    return storage.open_dataset(storage.join(output, results.STORE))


def match_task(source: dict[str, Any], reference: str, folder: str) -> int:
    """Task: write a :class:`MatchFiles`; gives how many genes the reference has."""
    matrix = Matrix(**source)
    asked = hashes_of(matrix.url, matrix.gene_id, matrix.n_genes)
    row = rows_by_hash(hashes_of(reference), asked)
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
            products.append(products_of(values, loading))
            gram.append(gram_of(loading))
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
