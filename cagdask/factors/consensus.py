"""Programs that replicates agree on, as a factorization like any other.

    replicates --cluster, median--> latent values --refit: one pass--> loadings --one pass--> z-scores of genes

The z-score of a gene is how many of its standard deviations it changes by when a program's share of the sample goes
from nothing to all: least squares of the standardized genes on the shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.compute.runner import Runner
from cagdask.factors import drawing, results
from cagdask.factors.factorization import begun, finish
from cagdask.factors.hals import Float32
from cagdask.factors.matrix import reads_itself
from cagdask.factors.nonneg import Recipe, chunks_read, read_blocks
from cagdask.factors.replicates import ConsensusFiles, find_consensus, replicate_seeds
from cagdask.factors.request import Request, taken
from cagdask.factors.selection import check_programs
from cagdask.io.inputs import takes_any_input
from cagdask.reports.figures import save_figure
from cagdask.storage.arrays import Files, array

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

USAGE = "nmf_usage.parquet"


class ShareFiles(Files):
    """Shares of the programs. Written before the z-scores are made; read by :func:`zscore_task`."""

    shares: Float32 = array(np.float32, "sample, component", "share of the sample, 1 in all or 0")


@takes_any_input(reads_itself)
def nmf_consensus(
    source: str,
    *,
    k: int,
    output: str,
    n_replicates: int = 20,
    density_threshold: float = 0.5,
    nonneg: str = "error",
    missing: str = "error",
    seed: int = 0,
    tol: float = 1e-4,
    max_passes: int = 200,
    orient: str = "genes-by-samples",
    id_column: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Factorize many times from random beginnings, and keep the programs that come back.

    Parameters
    ----------
    source, k, nonneg, missing, seed, tol, max_passes, orient, id_column
        As for :func:`cagdask.nmf`.
    output
        Folder to make: the files of :func:`cagdask.nmf`, ``nmf_usage.parquet`` (shares that sum to 1 in a sample) and
        ``clustergram.png``. ``top_genes.tsv`` is by z-score.
    n_replicates
        Random beginnings.
    density_threshold
        A program whose mean distance to its nearest copies in other replicates is not below this is left out; in
        (0, 2], Euclidean distance of unit loadings.
    overwrite, client, n_workers, memory_limit
        As for :func:`cagdask.nmf`.

    Returns
    -------
    Dataset
        That of :func:`cagdask.nmf`, and ``gene_zscore`` (gene, component).

    Raises
    ------
    InputError
        Fewer than ``k`` programs pass the threshold; and as for :func:`cagdask.nmf`.

    Notes
    -----
    Six passes over the data, whatever the number of replicates.
    """
    parameters: dict[str, Any]
    parameters = {"k": k, "n_replicates": n_replicates, "density_threshold": density_threshold, "nonneg": nonneg,
                  "missing": missing, "seed": seed, "tol": tol, "max_passes": max_passes, "orient": orient,
                  "id_column": id_column}  # fmt: skip
    parameters = taken(parameters)
    k, n_replicates, density_threshold = parameters["k"], parameters["n_replicates"], parameters["density_threshold"]
    seed, tol, max_passes = parameters["seed"], parameters["tol"], parameters["max_passes"]
    request = Request("nmf_consensus", source, output, parameters, k, overwrite)
    request.check()
    with request.runner(client, n_workers, memory_limit) as runner:
        check_programs(k * n_replicates, runner)
        with begun(request, runner) as (job, folder):
            seeds = replicate_seeds(seed, n_replicates)
            place, found = find_consensus(job, k, seeds, seed, density_threshold, tol, max_passes)
            trace = [found["error"] * job.total]
            agreed = ConsensusFiles.open(place)
            summary, latent, scale = finish(request, job, agreed.latent, True, trace)
            summary |= {"replicate_seeds": seeds, "replicates": found}
            summary["converged"] &= not found["n_not_converged"]
            shares = results.usage_shares(scale.latent(latent))
            ShareFiles(shares=shares).write(job.path("shares"))
            job.over_data("z-scores", zscore_task, job.path("shares"))
            summary |= {"passes": round(job.passes, 3), "stages": results.stage_usage(job)}
            results.write_result(job, folder, latent, scale, summary, scores="z-scores")
            samples = np.array(job.matrix.sample_names(), dtype=object)[job.kept_samples].tolist()
            results.write_table(storage.join(folder, USAGE), job.matrix.sample_title, samples, shares)
            picture = drawing.draw_clustergram(agreed.distance, agreed.label, agreed.density, density_threshold)
            save_figure(picture, storage.join(folder, "clustergram.png"))
    return storage.open_dataset(storage.join(output, results.STORE))


def zscore_task(
    recipe: dict[str, Any], first_block: int, end_block: int, shares_folder: str, folder: str
) -> dict[str, Any]:
    """Task: standardized genes of some blocks on the shares of the programs.

    Writes a :class:`cagdask.factors.results.ScoreFiles`. Returns the stored chunks read.
    """
    with threadpool_limits(1):
        turn = np.linalg.pinv(ShareFiles.open(shares_folder).shares.astype(np.float64)).T.astype(np.float32)
        known = Recipe(**recipe)
        scores = [standardized(block) @ turn for block, _ in read_blocks(known, first_block, end_block)]
        results.ScoreFiles(zscore=np.concatenate(scores)).write(folder)
        return {"n_chunks": chunks_read(known, first_block, end_block)}


def standardized(block: Float32) -> Float32:
    """Genes with mean 0 and standard deviation 1; a constant gene is 0."""
    mean, deviation = block.mean(axis=1, dtype=np.float64), block.std(axis=1, dtype=np.float64)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    values: Float32 = (block - mean[:, None].astype(np.float32)) * scale[:, None].astype(np.float32)
    return values
