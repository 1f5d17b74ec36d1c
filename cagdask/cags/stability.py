"""How stable CAGs are: whether each is found again in both halves of the samples.

    samples --shuffle, seed--> two halves --the same clustering--> groups of each half
                                                                      |
    CAGs of all samples ---------------------------------------> found again: Jaccard index of at least 0.5
                                                                      |
                 several such splits --------------------------> cag_stability: share in which both halves have it

Only genes that take part in a half are compared there: a gene that none of its samples has can not be found. The halves
are clustered with the parameters of the run, but for ``min_samples``, of which they take half.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.cags.results import CagFiles
from cagdask.storage.arrays import FILE, Files, array

if TYPE_CHECKING:
    from cagdask.cags.stages import Clustering

Int64 = NDArray[np.int64]

LEAST_JACCARD = 0.5
"""Jaccard index of genes from which on a group of a half is the CAG."""
FEWEST_TO_HALVE = 4
"""Samples below which there are no halves to cluster."""


class FoundFiles(Files):
    """Which CAGs one half has. Written by :func:`compare`, read by :func:`write_stability`."""

    found: NDArray[np.bool_] = array(np.bool_, "cag", "whether a group of the half is this CAG")


def halves_of(n_samples: int, seed: int, repeat: int) -> tuple[list[int], list[int]]:
    """Places of the samples of two halves, ascending; of an odd number, the first has one more.

    Examples
    --------
    >>> first, second = halves_of(5, 0, 0)
    >>> len(first), sorted(first + second)
    (3, [0, 1, 2, 3, 4])
    """
    order = np.random.default_rng([seed, repeat]).permutation(n_samples)
    middle = (n_samples + 1) // 2
    return sorted(order[:middle].tolist()), sorted(order[middle:].tolist())


def add_stability(job: Clustering, labels: str, n_cags: int) -> None:
    """Add ``cag_stability`` to a result store in the making, whose other variables are all there.

    ``labels`` is the folder of its CAGs. One half is clustered at a time, and its files are deleted then: what is on
    disk at once is that of a run on half of the samples. A half that was compared is not clustered again.
    """
    found = []
    for repeat in range(job.parameters.stability):
        both = []
        for half, samples in enumerate(halves_of(job.n_samples, job.parameters.seed, repeat)):
            here = job.path("stability", f"{repeat}-{half}")
            both.append(f"{here}-found")
            if not storage.exists(storage.join(both[-1], FILE)):
                _cluster_half(job, samples, here, labels, both[-1])
                storage.remove(here)
        found.append(both)
    group = storage.open_group(job.staged, writable=True)
    storage.create_array(group, "cag_stability", (n_cags,), chunks=(job.cag_rows,))
    job.runner.one("write stability", write_stability, job.staged, found)
    storage.finish_group(storage.open_group(job.staged, writable=True))


def _cluster_half(job: Clustering, samples: list[int], here: str, labels: str, found: str) -> None:
    """Cluster some of the samples as the whole was, and compare."""
    n, store = len(samples), storage.join(here, "half.zarr")
    parameters = replace(job.parameters, min_samples=max(1, job.parameters.min_samples // 2), stability=0)
    half = replace(
        job, folder=here, store=store, n_samples=n, parameters=parameters, statistics=None, judged=None, labelled=None
    )
    if not storage.exists(storage.join(store, "abundance", "zarr.json")):  # made last
        attrs = {key: value for key, value in storage.look(job.store).attrs.items() if key in ("kind", "normalization")}
        group = storage.create_group(store, attrs)
        storage.create_array(group, "abundance", (job.n_genes, n), chunks=(job.plan.block_rows, n))
    items = [(job.store, samples, b, e, parameters.min_samples, store) for b, e in job.ranges]
    taking_part = job.runner.map("take half of the samples", take_samples, items, done=half.done)
    if any(taking_part):
        half.prepare()
        tree, means, _ = half.link()
        half.label(tree, half.refine(means))
    of_half = half.path("labels") if any(taking_part) else None
    job.runner.one("look for CAGs in half of the samples", compare, labels, of_half, found, done=half.done)


# -- tasks -----------------------------------------------------------------------------------------------------------


def take_samples(store: str, samples: list[int], begin: int, end: int, min_samples: int, half: str) -> int:
    """Task: some samples of the genes ``begin:end``, which it alone writes; how many genes enough of them have."""
    block = np.asarray(storage.open_array(store, "abundance")[begin:end], np.float32)[:, samples]
    storage.open_array(half, "abundance", writable=True)[begin:end] = block
    return int(((block != 0).sum(axis=1) >= min_samples).sum())


def compare(labels: str, half: str | None, folder: str) -> int:
    """Task: which CAGs a half has, as a :class:`FoundFiles`; their number. 60 bytes per gene. None has none."""
    cags = CagFiles.open(labels)
    n_cags = len(cags.size)
    found = np.zeros(n_cags, bool)
    if half is not None:
        best = best_jaccard(np.asarray(cags.cag), np.asarray(CagFiles.open(half).cag), n_cags)
        found = best >= LEAST_JACCARD
    FoundFiles(found=found).write(folder)
    return int(found.sum())


def best_jaccard(cag: Int64, other: Int64, n_cags: int) -> NDArray[np.float64]:
    """Largest Jaccard index of each CAG with a group of two genes or more of another partition.

    Parameters
    ----------
    cag, other
        Labels of each gene, (n_genes,); negative for a gene that takes no part. Only genes that do in both count.
    n_cags
        CAGs of the first.

    Returns
    -------
    ndarray
        Shape (n_cags,), in [0, 1]; 0 where fewer than two genes of a CAG take part.

    Examples
    --------
    >>> best_jaccard(np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, 7, 7, -1, 7]), 3).round(3)
    array([0.667, 0.   , 0.   ])
    """
    both = (cag >= 0) & (other >= 0)
    cag, other = cag[both], other[both]
    size, size_other = np.bincount(cag, minlength=n_cags), np.bincount(other)
    pairs, common = np.unique(np.stack([cag, other]), axis=1, return_counts=True)
    index = common / np.maximum(1, size[pairs[0]] + size_other[pairs[1]] - common)
    best = np.zeros(n_cags)
    np.maximum.at(best, pairs[0], np.where((size[pairs[0]] > 1) & (size_other[pairs[1]] > 1), index, 0))
    return best


def write_stability(result: str, found: list[list[str]]) -> int:
    """Task: the share of splits in which both halves have each CAG; NaN for a CAG of fewer than two genes."""
    size = np.asarray(storage.open_array(result, "cag_size")[:])
    times = np.zeros(len(size))
    for first, second in found:
        times += FoundFiles.open(first).found & FoundFiles.open(second).found
    stability = np.where(size > 1, times / len(found), np.nan)
    values: Any = storage.open_array(result, "cag_stability", writable=True)
    values[...] = stability.astype(np.float32)
    return len(size)
