"""What every threshold would give, from the merge tree alone.

    merges, lowest first -->  after each: groups, genes alone, largest group, mean similarity within groups

A cut at a height makes the merges up to it, so one pass over the merges knows all cuts. In average linkage a merge of
groups of a and b genes at height h adds a·b pairs whose mean distance is h; so the tree knows how alike the genes of
each group are, without their profiles. 24 bytes per node, in one process; a million genes take well under a second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.engine.rows.files import STEP

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


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


@njit(cache=True)
def _sweep(child: Any, height: Any, n_genes: int, thresholds: Any, counts: Any, cohesion: Any) -> None:
    size = np.ones(n_genes + len(child), np.int64)
    n_groups, n_alone, largest = 0, n_genes, 1
    pairs, similarity = 0.0, 0.0
    i = 0
    for k in range(len(thresholds)):
        while i < len(child) and height[i] <= thresholds[k]:
            a, b = size[child[i, 0]], size[child[i, 1]]
            size[n_genes + i] = a + b
            n_alone -= (a == 1) + (b == 1)
            n_groups += 1 - (a > 1) - (b > 1)
            largest = max(largest, a + b)
            pairs += float(a) * float(b)
            similarity += float(a) * float(b) * (1.0 - height[i])
            i += 1
        counts[k, 0], counts[k, 1], counts[k, 2] = n_groups, n_alone, largest
        cohesion[k] = similarity / pairs if pairs > 0 else np.nan


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
    counts = np.empty((len(rounded), 3), np.int64)
    cohesion = np.empty(len(rounded))
    _sweep(np.ascontiguousarray(child), np.ascontiguousarray(height), n_genes, rounded, counts, cohesion)
    return Sweep(rounded, counts[:, 0], counts[:, 1] - n_left_out, counts[:, 2], cohesion)
