"""Many random beginnings on one sketch, and what they agree on.

    sketch --seed 1--> loadings, unit columns --+
           --seed 2--> loadings, unit columns --+--> products of all columns --> densities, clusters, silhouette
           --seed 3--> …                      --+                            --> median of each cluster --> latent

A program that the data hold is found again and again: its copies from many replicates lie close together. A copy far
from its nearest others (a high local density distance) is left out, as is an empty one. The rest is clustered with
k-means, and the median of each cluster is a consensus program. All of it follows from the products of the columns, so
the clustering sees points of n_programs coordinates however many genes there are. Replicates read the sketch, never the
data.

References
----------
.. [1] Kotliar et al. (2019). Identifying gene expression programs of cell-type identity and cellular activity with
   single-cell RNA-Seq. eLife 8:e43803.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.errors import InputError
from cagdask.factors.fitting import LoadingFiles, Solving, loadings_of, sampled_sketch, solve_task, whole_squares
from cagdask.factors.hals import REFIT_SWEEPS, Float32, Float64, gram_of, products_of, squared_error, sweep
from cagdask.factors.sketch import BasisFiles
from cagdask.factors.steps import Factorization
from cagdask.storage.arrays import Files, array

logger = logging.getLogger(__name__)

NEIGHBORHOOD = 0.3
"""Share of the replicates whose copies count as a program's nearest."""
COPIES = 1e-2
"""Unit programs that are nearer than this differ by rounding and by where the solver stopped: one program twice."""
FARTHEST = 2.0
"""No two unit programs are farther apart: a density threshold that leaves out nothing but empty programs."""
_STARTS = 10  # of k-means
_ROWS = 2**16  # rows of loadings worked on at a time


class ConsensusFiles(Files):
    """What replicates agree on. Written by :func:`consensus_task`; read for the result and its picture."""

    latent: Float32 = array(np.float32, "sample, component", "latent values, >= 0")
    distance: Float64 = array(np.float64, "program, program", "Euclidean distance of the unit loadings")
    density: Float64 = array(np.float64, "program", "mean distance to the nearest others")
    label: NDArray[np.int64] = array(np.int64, "program", "cluster; -1 for what was left out")


def replicate_seeds(seed: int, n: int) -> list[int]:
    """A seed for each replicate; the first few do not depend on how many there are."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(n)]


def run_replicates(job: Factorization, k: int, seeds: list[int], tol: float, max_passes: int) -> tuple[list[str], int]:
    """Solve the sketch from random beginnings, a task each; gives their folders, and how many did not converge."""
    folders = [job.path(f"replicates-{k}", str(seed)) for seed in seeds]
    how = Solving(k, job.stride(k), job.total, tol, max_passes).to_json()
    items: list[tuple[Any, ...]] = [
        (job.sketch_parts(), job.path("basis-2"), how, seed, folder, [])
        for seed, folder in zip(seeds, folders, strict=True)
    ]
    found = job.runner.map(f"replicates {k}", solve_task, items, done=job.done, unit="replicates")
    return folders, sum(not answer["converged"] for answer in found)


def local_density(distance: Float64, n_replicates: int) -> Float64:
    """Mean distance of each program to its nearest :data:`NEIGHBORHOOD` of ``n_replicates`` others, shape (n,)."""
    n = max(1, min(int(NEIGHBORHOOD * n_replicates), len(distance) - 1))
    nearest = np.partition(distance + np.diag(np.full(len(distance), np.inf)), n - 1, axis=1)[:, :n]
    density: Float64 = nearest.mean(axis=1)
    return density


def silhouette(distance: Float64, labels: NDArray[np.int64]) -> float:
    """Mean silhouette of a clustering, from all distances.

    0 for what is alone, for clusters that are copies of each other (nearer than :data:`COPIES`), or when all is one.
    """
    members = np.eye(labels.max() + 1)[labels]
    size = members.sum(axis=0)
    mean = distance @ members
    own = np.arange(len(labels)), labels
    inside = mean[own] / np.maximum(size[labels] - 1, 1)
    mean = mean / np.maximum(size, 1)
    mean[:, size == 0] = np.inf
    mean[own] = np.inf
    outside = mean.min(axis=1)
    if not np.isfinite(outside).all():
        return 0.0
    widest = np.maximum(inside, outside)
    values = np.divide(outside - inside, widest, out=np.zeros_like(widest), where=widest > 0)
    return float(np.where((size[labels] > 1) & (outside > COPIES), values, 0).mean())


def cluster_programs(gram: Float64, k: int, seed: int) -> NDArray[np.int64]:
    """Clusters of programs by k-means, from their products; the best of several starts.

    Parameters
    ----------
    gram
        Products of the programs, shape (n, n).
    k
        Clusters.
    seed
        Of the starts.
    """
    from scipy.cluster.vq import kmeans2

    if len(gram) < k:
        return np.zeros(len(gram), np.int64)
    value, vector = np.linalg.eigh(gram)
    kept = value > 1e-10 * value[-1]
    points = vector[:, kept] * np.sqrt(value[kept])  # as far from each other as the programs are
    best, labels = np.inf, np.zeros(len(points), np.int64)
    for start in range(_STARTS):
        centers, found = kmeans2(points, k, minit="++", rng=np.random.default_rng([seed, start]), missing="warn")
        error = float(((points - centers[found]) ** 2).sum())
        if error < best and len(np.unique(found)) == k:
            best, labels = error, found.astype(np.int64)
    return labels


@dataclass(frozen=True)
class Clustering:
    """How the programs of replicates are clustered.

    Attributes
    ----------
    k
        Clusters.
    seed
        Of k-means.
    threshold
        Programs whose density is not below this are left out.
    stride, total
        As in :class:`cagdask.factors.fitting.Solving`.
    """

    k: int
    seed: int
    threshold: float
    stride: int
    total: float

    def to_json(self) -> dict[str, Any]:
        """Hand it to a task."""
        return asdict(self)


def consensus_task(
    parts: list[list[Any]], basis_folder: str, replicates: list[str], how: dict[str, Any], folder: str
) -> dict[str, Any]:
    """Task: cluster the programs of all replicates, and fit latent values to the clusters' medians.

    ``how`` is a :class:`Clustering`. Writes a :class:`ConsensusFiles`. Returns ``stability``, the mean silhouette of
    the programs, 0 for an empty one; ``error``, relative to ‖A‖²; ``n_programs``, ``n_empty`` and ``n_kept``.
    """
    with threadpool_limits(1):
        wanted = Clustering(**how)
        k, stride, total = wanted.k, wanted.stride, wanted.total
        n_rows = len(LoadingFiles.open(loadings_of(replicates[0])).loading)
        gram = np.zeros((k * len(replicates),) * 2)
        for begin in range(0, n_rows, _ROWS):
            rows = _loadings(replicates, begin)
            gram += products_of(rows, rows)
        square = np.diag(gram)
        distance = np.sqrt(np.maximum(0, square[:, None] + square - 2 * gram))
        np.fill_diagonal(distance, 0)
        full = np.flatnonzero(square > 0)  # an empty program is no copy of another empty one
        density = np.full(len(gram), FARTHEST)
        if len(full) > 1:
            density[full] = local_density(distance[np.ix_(full, full)], len(replicates))
        kept = np.flatnonzero(density < wanted.threshold)
        if len(kept) < k and wanted.threshold < FARTHEST:
            raise InputError(_too_few(wanted, len(kept), density, len(gram) - len(full)))
        labels = np.full(len(gram), -1, np.int64)
        labels[kept] = cluster_programs(gram[np.ix_(kept, kept)], k, wanted.seed)
        stability = silhouette(distance[np.ix_(kept, kept)], labels[kept]) if len(kept) else 0.0
        stability *= len(kept) / (len(kept) + len(gram) - len(full))
        program = _medians(replicates, labels, k, n_rows)
        sketch, basis = sampled_sketch(parts, stride), BasisFiles.open(basis_folder).basis
        products, own = basis.astype(np.float64) @ products_of(sketch, program), gram_of(program)
        latent = np.zeros((len(basis), k), np.float32)
        sweep(latent, products.astype(np.float32), own.astype(np.float32), 10 * REFIT_SWEEPS)
        inside = float(np.trace(gram_of(sketch)))
        here = total * inside / whole_squares(parts)
        # the medians have no size of their own; the loadings for these values do
        loading = program.copy()
        wide = basis.T @ latent
        sweep(loading, sketch @ wide, gram_of(latent).astype(np.float32), REFIT_SWEEPS)
        error = squared_error(here, basis.astype(np.float64) @ products_of(sketch, loading), gram_of(loading), latent)
        ConsensusFiles(latent=latent, distance=distance, density=density, label=labels).write(folder)
        return {"stability": stability, "error": error / here, "n_programs": len(gram),
                "n_empty": len(gram) - len(full), "n_kept": len(kept)}  # fmt: skip


def _too_few(wanted: Clustering, n_kept: int, density: Float64, n_empty: int) -> str:
    empty = f" and {n_empty} are empty" if n_empty else ""
    return (
        f"only {n_kept} of {len(density)} programs of the replicates have a local density below {wanted.threshold:g}, "
        f"for k = {wanted.k} (the median is {np.median(density):.3f}){empty}. Raise `density_threshold`"
        + (", or use a smaller k." if n_empty else ".")
    )


def _loadings(replicates: list[str], begin: int) -> Float32:
    """Loadings of all replicates side by side, :data:`_ROWS` rows from ``begin`` on."""
    places = [loadings_of(place) for place in replicates]
    return np.hstack([LoadingFiles.open(place, begin, begin + _ROWS).loading for place in places])


def _medians(replicates: list[str], labels: NDArray[np.int64], k: int, n_rows: int) -> Float32:
    """Median program of each cluster, unit columns, shape (rows, k)."""
    median = np.zeros((n_rows, k), np.float32)
    for begin in range(0, n_rows, _ROWS):
        rows = _loadings(replicates, begin)
        for cluster in range(k):
            if (labels == cluster).any():
                median[begin : begin + len(rows), cluster] = np.median(rows[:, labels == cluster], axis=1)
    length = np.linalg.norm(median.astype(np.float64), axis=0)
    return (median / np.where(length > 0, length, 1)).astype(np.float32)


def find_consensus(
    job: Factorization, k: int, seeds: list[int], seed: int, threshold: float, tol: float, max_passes: int
) -> tuple[str, dict[str, Any]]:
    """Replicates and their consensus; gives the folder of its arrays, and what was found.

    That is what :func:`consensus_task` returns, and ``n_not_converged``, the replicates whose passes did not suffice;
    these are a warning.
    """
    folders, n_not_converged = run_replicates(job, k, seeds, tol, max_passes)
    target = job.path(f"consensus-{k}")
    found = job.runner.one(
        f"consensus {k}", consensus_task, job.sketch_parts(), job.path("basis-2"), folders,
        Clustering(k, seed, threshold, job.stride(k), job.total).to_json(), target, done=job.done,
    )  # fmt: skip
    for folder in folders:
        storage.remove(loadings_of(folder))
    if n_not_converged:
        logger.warning(
            "%s: %d of %d replicates of k = %d are not converged after %d passes of the solver. Raise `max_passes` or "
            "`tol` (%g).",
            job.matrix.said,
            n_not_converged,
            len(folders),
            k,
            max_passes,
            tol,
        )
    return target, found | {"n_not_converged": n_not_converged}
