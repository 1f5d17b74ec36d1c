"""What every threshold would give, from the merge tree alone.

    merges, lowest first -->  after each: groups, genes alone, largest group, mean similarity within groups

A cut at a height makes the merges up to it, so one pass over the merges knows all cuts. In average linkage a merge of
groups of a and b genes at height h adds a·b pairs whose mean distance is h; so the tree knows how alike the genes of
each group are, without their profiles. 100 bytes per merge, in one process; a million genes take a second.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.engine.grid import STEP

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MERGES_AT_ONCE = 2**16
PLATEAU_WIDTH, PLATEAU_LOSS = 0.2, 0.02
"""A range of thresholds is a plateau if it is so wide, as a share of all, and loses at most so many of its clusters."""


class Sweep(NamedTuple):
    """Partitions by threshold, each array of shape (n_thresholds,).

    ``n_groups`` int64 counts groups of two genes or more, ``n_alone`` int64 genes in none, ``largest`` int64 genes of
    the largest group, ``cohesion`` float64 the mean similarity of two genes of one group, over all such pairs; NaN
    where there is none.
    """

    max_dist: Float64
    n_groups: Int64
    n_alone: Int64
    largest: Int64
    cohesion: Float64


def _joined_sizes(child: Int64, n_genes: int) -> Int64:
    """Genes of the two groups that each merge joins, shape (n_merges, 2).

    In plain Python, a third of a second per million merges: to load a compiled kernel takes longer.
    """
    size = array("q", [1]) * n_genes
    for begin in range(0, len(child), _MERGES_AT_ONCE):
        for a, b in child[begin : begin + _MERGES_AT_ONCE].tolist():
            size.append(size[a] + size[b])
    return np.frombuffer(size, np.int64)[child]


def sweep_thresholds(child: Int64, height: Float64, n_genes: int, thresholds: Float64, n_left_out: int = 0) -> Sweep:
    """Count the groups that a cut at each threshold would give.

    Parameters
    ----------
    child, height
        Merge table, shapes (n_merges, 2) int64 and (n_merges,) float64, heights never decreasing.
    n_genes
        Leaves of the tree, those left out included.
    thresholds
        Distances, shape (n_thresholds,), ascending; rounded as heights are.
    n_left_out
        Genes that were filtered out before clustering; they are leaves of the tree, and not counted as alone.

    Returns
    -------
    Sweep
        One entry per threshold. ``cohesion`` is exact for average linkage only.
    """
    rounded = np.rint(np.asarray(thresholds, np.float64) * STEP) / STEP
    size = _joined_sizes(np.asarray(child, np.int64), n_genes)
    n_merges = np.searchsorted(height, rounded, side="right")
    pairs = size[:, 0].astype(np.float64) * size[:, 1]
    all_pairs, similarity = _after(pairs, n_merges), _after(pairs * (1.0 - height), n_merges)
    largest = np.maximum.accumulate(np.append(1, size.sum(axis=1)))[n_merges]
    return Sweep(
        rounded,
        n_groups=_after(1 - (size > 1).sum(axis=1), n_merges),
        n_alone=n_genes - _after((size == 1).sum(axis=1), n_merges) - n_left_out,
        largest=largest,
        cohesion=np.divide(similarity, all_pairs, out=np.full(len(rounded), np.nan), where=all_pairs > 0),
    )


def plateaus(thresholds: Float64, n_clusters: Int64) -> NDArray[np.bool_]:
    """Whether each threshold is in a range of thresholds that hardly changes the groups.

    Parameters
    ----------
    thresholds
        Ascending, shape (n,).
    n_clusters
        Groups, genes alone counted as groups of one, at each.

    Returns
    -------
    ndarray
        Shape (n,), bool: a range as wide as :data:`PLATEAU_WIDTH` of all thresholds, or wider, loses at most
        :data:`PLATEAU_LOSS` of its clusters.

    Examples
    --------
    >>> plateaus(np.linspace(0, 1, 6), np.array([100, 50, 49, 49, 49, 10]))
    array([False,  True,  True,  True,  True, False])
    """
    found = np.zeros(len(thresholds), bool)
    if not len(thresholds):
        return found
    width = PLATEAU_WIDTH * (thresholds[-1] - thresholds[0])
    falling = -np.asarray(n_clusters, np.float64)
    last = np.searchsorted(falling, falling * (1 - PLATEAU_LOSS), side="right") - 1
    for first in np.flatnonzero((thresholds[last] - thresholds >= width) & (width > 0)):
        found[first : last[first] + 1] = True
    return found


def _after(change: NDArray[Any], n_merges: Int64) -> NDArray[Any]:
    """Total of what each merge changes, after so many merges; added in their order."""
    return np.append(change.dtype.type(0), np.cumsum(change))[n_merges]
