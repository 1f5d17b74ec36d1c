"""The merges of one CAG: its tree, what it falls into at a smaller threshold, and its dendrogram.

all merges --those within the CAG--> a tree of its genes --cut--> groups
                                                         --upper part--> lines of a dendrogram
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.engine.linkage.tree import first_genes, n_merges_within

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

MOST_TIPS = 200
"""Tips of a dendrogram; what lies below is one tip."""


@njit(cache=True)
def _cag_of_merges(child: Any, label: Any) -> Any:  # pragma: no cover
    """CAG of each merge; -1 where its two sides are of different ones."""
    n = len(label)
    node = np.empty(n + len(child), np.int64)
    node[:n] = label
    for i in range(len(child)):
        a, b = node[child[i, 0]], node[child[i, 1]]
        node[n + i] = a if a == b else -1
    return node[n:]


class Dendrogram(NamedTuple):
    """Lines of a dendrogram.

    ``x``, ``y`` have shape (n_merges, 4), float64: up, across, down, y being the height; ``tip`` (n_tips,) int64 the
    place among the CAG's genes of the first gene of each tip, ``genes`` (n_tips,) how many it stands for.
    """

    x: Float64
    y: Float64
    tip: Int64
    genes: Int64


@dataclass(frozen=True)
class Subtree:
    """Merges within one CAG.

    Attributes
    ----------
    rows
        Rows of its genes, ascending, shape (n,).
    child, height
        Its merges in SciPy's numbering of these genes, (n_merges, 2) int64 and (n_merges,) float64. Refinement joins
        groups that no merge joined, so there may be fewer than n - 1.
    """

    rows: Int64
    child: Int64
    height: Float64

    def heads(self, max_dist: float) -> Int64:
        """Place of the first gene of each gene's group when merges up to ``max_dist`` are made, shape (n,)."""
        return first_genes(self.child[: n_merges_within(self.height, max_dist)], len(self.rows))

    def dendrogram(self, most: int = MOST_TIPS) -> Dendrogram:
        """The upper part of the tree, down to ``most`` tips."""
        n, n_merges = len(self.rows), len(self.child)
        n_parts = n - n_merges
        shown = max(0, min(n_merges, most - n_parts))
        size, first = np.ones(n + n_merges, np.int64), np.arange(n + n_merges)
        _sum_up(self.child, size, first)
        is_child = np.zeros(n + n_merges, bool)
        is_child[self.child.ravel()] = True
        roots = np.flatnonzero(~is_child)
        tips = _tips(self.child, roots[np.lexsort((first[roots], -size[roots]))], n, n_merges - shown)[:most]
        x, y = np.full(n + n_merges, np.nan), np.zeros(n + n_merges)
        x[tips] = np.arange(len(tips))
        lines_x, lines_y = np.empty((shown, 4)), np.empty((shown, 4))
        for i in range(n_merges - shown, n_merges):
            a, b = self.child[i]
            if x[a] > x[b]:
                a, b = b, a
            lines_x[i - n_merges + shown] = x[a], x[a], x[b], x[b]
            lines_y[i - n_merges + shown] = y[a], self.height[i], self.height[i], y[b]
            x[n + i], y[n + i] = (x[a] + x[b]) / 2, self.height[i]
        return Dendrogram(lines_x, lines_y, first[tips], size[tips])


@njit(cache=True)
def _sum_up(child: Any, size: Any, first: Any) -> None:  # pragma: no cover
    n = len(size) - len(child)
    for i in range(len(child)):
        size[n + i] = size[child[i, 0]] + size[child[i, 1]]
        first[n + i] = min(first[child[i, 0]], first[child[i, 1]])


def _tips(child: Int64, roots: Int64, n: int, n_hidden: int) -> Int64:
    """Nodes at which the drawing ends, from left to right."""
    waiting, tips = list(roots[::-1]), []
    while waiting:
        node = waiting.pop()
        if node >= n + n_hidden:
            waiting.extend(child[node - n][::-1])
        else:
            tips.append(node)
    return np.asarray(tips, np.int64)


@dataclass(frozen=True)
class MergeTree:
    """All merges of a result.

    Attributes
    ----------
    child, height
        As in the result store.
    label
        CAG of each gene, shape (n_genes,).
    """

    child: Int64
    height: Float64
    label: Int64

    @cached_property
    def cag(self) -> Int64:
        """CAG that each merge is within, shape (n_merges,); -1 for merges of genes of different CAGs."""
        found: Int64 = _cag_of_merges(np.ascontiguousarray(self.child), self.label)
        return found

    def of(self, cag: int) -> Subtree:
        """The merges within a CAG, with nodes numbered anew."""
        rows, merges = np.flatnonzero(self.label == cag), np.flatnonzero(self.cag == cag)
        old = np.concatenate([rows, len(self.label) + merges])  # ascending: genes come before merges
        return Subtree(rows, np.searchsorted(old, self.child[merges]), self.height[merges])
