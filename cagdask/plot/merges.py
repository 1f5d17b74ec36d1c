"""The merges of one CAG: its tree, what it falls into at a smaller threshold, and what a dendrogram of it shows.

    all merges --those within the CAG--> trees of its genes --cut--> groups
                                                            --upper part--> branches and leaves

A CAG may be several trees: those that were joined after clustering, by their mean profiles, have no merge of their own.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.engine.linkage.tree import first_genes, n_merges_within

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


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


class Branches(NamedTuple):
    """What a dendrogram shows.

    Attributes
    ----------
    leaves
        Node of each leaf, in the order in which they are drawn: a gene, or a merge below which nothing is drawn; shape
        (n_leaves,).
    n_genes
        Genes below each leaf, shape (n_leaves,).
    merges
        Merges that are drawn, rising; shape (n_merges,).
    places
        Rows of the two children of each, and of the merge itself, counted from 0; shape (n_merges, 3), float64.
    heights
        Heights of the two children of each, and of the merge itself; shape (n_merges, 3), float64.
    n_trees, n_drawn
        Subtrees that the CAG consists of, and those of them that are drawn: the largest.
    """

    leaves: Int64
    n_genes: Int64
    merges: Int64
    places: Float64
    heights: Float64
    n_trees: int
    n_drawn: int

    def lines(self) -> tuple[Float64, Float64]:
        """Each merge as a line along the leaves, and up, across and down; both of shape (n_merges, 4)."""
        a, b, _ = self.places.T
        low_a, low_b, top = self.heights.T
        return np.column_stack([a, a, b, b]), np.column_stack([low_a, top, top, low_b])


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

    def branches(self, max_leaves: int) -> Branches:
        """What is drawn: the highest merges of the largest trees, with at most ``max_leaves`` leaves."""
        n = len(self.rows)
        size, is_child = np.ones(n + len(self.child), np.int64), np.zeros(n + len(self.child), bool)
        _sum_up(self.child, size)
        is_child[self.child.ravel()] = True
        roots = np.flatnonzero(~is_child)
        largest = roots[np.argsort(-size[roots], kind="stable")[: max(1, max_leaves // 3)]]
        return _laid_out(self.child, self.height, size, largest, len(roots), max_leaves)


@njit(cache=True)
def _sum_up(child: Any, size: Any) -> None:  # pragma: no cover
    n = len(size) - len(child)
    for i in range(len(child)):
        size[n + i] = size[child[i, 0]] + size[child[i, 1]]


def _laid_out(child: Int64, height: Float64, size: Int64, roots: Int64, n_trees: int, max_leaves: int) -> Branches:
    """Rows of the leaves and branches of the trees below ``roots``."""
    n = len(size) - len(child)
    drawn = _highest(child, n, roots, max_leaves)
    place: dict[int, float] = {}
    leaves: list[int] = []
    stack = [(int(root), False) for root in roots[::-1]]
    while stack:
        node, is_done = stack.pop()
        if node - n not in drawn:
            place[node] = len(leaves)
            leaves.append(node)
        elif is_done:
            place[node] = (place[int(child[node - n][0])] + place[int(child[node - n][1])]) / 2
        else:
            a, b = child[node - n].tolist()
            stack += [(node, True), (b, False), (a, False)]
    merges = np.array(sorted(drawn), np.int64)
    nodes = np.column_stack([child[merges].reshape(-1, 2), n + merges])
    places = np.array([[place[node] for node in row] for row in nodes.tolist()]).reshape(-1, 3)
    heights = np.zeros(places.shape)
    is_drawn = np.isin(nodes - n, merges)  # other nodes are leaves here, at distance 0
    heights[is_drawn] = height[(nodes - n)[is_drawn]]
    found = np.array(leaves, np.int64)
    return Branches(found, size[found], merges, places, heights, n_trees, len(roots))


def _highest(child: Int64, n: int, roots: Int64, max_leaves: int) -> set[int]:
    """Merges that are drawn: the highest below ``roots``, while leaves fit."""
    drawn: set[int] = set()
    open_nodes = [-int(root) for root in roots]
    heapq.heapify(open_nodes)  # merges rise with their number, and all of them are above the genes
    n_leaves = len(roots)
    while n_leaves < max_leaves and open_nodes and -open_nodes[0] >= n:
        merge = -heapq.heappop(open_nodes) - n
        drawn.add(merge)
        for node in child[merge].tolist():
            heapq.heappush(open_nodes, -node)
        n_leaves += 1
    return drawn


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
