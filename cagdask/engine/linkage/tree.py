"""Merge tree, cut and labels.

The engine reports merges as pairs of genes, each the smallest of its group at that moment, in an order in which parts
come before wholes. Here they become SciPy's table: sorted by height, equal heights by genes, node ``n_genes + i`` for
merge ``i``. Labels run from 0 by falling size, ties by smallest gene, so the same partition always has the same labels.

About 100 bytes per gene, in one process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.engine.grid import on_grid

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def merges_of_identical(first: Int64) -> tuple[Int64, Float64]:
    """Merges at height 0 that undo the folding: every gene joins the first with its profile.

    ``first`` (n_genes,) int64 as :func:`cagdask.engine.rows.profiles.fold_identical` writes it.
    """
    followers = np.flatnonzero((first >= 0) & (first != np.arange(len(first))))
    return np.column_stack([first[followers], followers]), np.zeros(len(followers))


@njit(cache=True)
def _lift(pair: Any, height: Any, n_genes: int) -> Any:
    """Heights that never fall towards the root, and the depth of every merge's subtree."""
    tallest = np.zeros(n_genes)
    deepest = np.zeros(n_genes, np.int64)
    lifted = np.empty(len(pair))
    depth = np.empty(len(pair), np.int64)
    for i in range(len(pair)):
        a, b = pair[i, 0], pair[i, 1]
        lifted[i] = max(height[i], max(tallest[a], tallest[b]))
        depth[i] = 1 + max(deepest[a], deepest[b])
        tallest[a] = lifted[i]
        deepest[a] = depth[i]
    return lifted, depth


@njit(cache=True)
def _number(pair: Any, n_genes: int) -> Any:
    """Children of every merge as node numbers, the smaller first."""
    node = np.arange(n_genes)
    child = np.empty((len(pair), 2), np.int64)
    for i in range(len(pair)):
        a, b = node[pair[i, 0]], node[pair[i, 1]]
        child[i, 0] = min(a, b)
        child[i, 1] = max(a, b)
        node[pair[i, 0]] = n_genes + i
    return child


@njit(cache=True)
def _group_pairs(ends: Any, n_genes: int) -> Any:
    """The smallest gene of either group instead of the genes that a link joins, link by link."""
    smallest = np.arange(n_genes)
    pair = np.empty((len(ends), 2), np.int64)
    for i in range(len(ends)):
        a, b = ends[i, 0], ends[i, 1]
        while smallest[a] != a:
            smallest[a] = smallest[smallest[a]]
            a = smallest[a]
        while smallest[b] != b:
            smallest[b] = smallest[smallest[b]]
            b = smallest[b]
        pair[i, 0] = min(a, b)
        pair[i, 1] = max(a, b)
        smallest[max(a, b)] = min(a, b)
    return pair


def merges_of_forest(ends: Int64, height: Float64, n_genes: int) -> tuple[Int64, Float64]:
    """Merges out of the links of a spanning forest, in any order: the shortest first, equal ones by genes."""
    order = np.lexsort((ends[:, 1], ends[:, 0], height))
    return _group_pairs(ends[order], n_genes), height[order]


def merge_table(pair: Int64, height: Float64, n_genes: int) -> tuple[Int64, Float64]:
    """Merges in SciPy's numbering.

    Parameters
    ----------
    pair
        Shape (n_merges, 2), int64: the smallest gene of either group, smaller first; parts before wholes.
    height
        Shape (n_merges,), float64.
    n_genes
        Genes in all.

    Returns
    -------
    child, height
        (n_merges, 2) int64 and (n_merges,) float64, never decreasing.
    """
    lifted, depth = _lift(pair, height, n_genes)
    order = np.lexsort((pair[:, 1], pair[:, 0], depth, lifted))
    return _number(pair[order], n_genes), lifted[order]


@njit(cache=True)
def _first_genes(child: Any, n_genes: int) -> Any:
    """The smallest gene of the group of every gene, after all these merges."""
    smallest = np.empty(n_genes + len(child), np.int64)
    top = np.empty(n_genes + len(child), np.int64)
    for i in range(n_genes):
        smallest[i] = i
    for i in range(len(child)):
        smallest[n_genes + i] = min(smallest[child[i, 0]], smallest[child[i, 1]])
    for i in range(n_genes + len(child)):
        top[i] = i
    for i in range(len(child) - 1, -1, -1):
        top[child[i, 0]] = top[n_genes + i]
        top[child[i, 1]] = top[n_genes + i]
    first_gene = np.empty(n_genes, np.int64)
    for i in range(n_genes):
        first_gene[i] = smallest[top[i]]
    return first_gene


def first_genes(child: Int64, n_genes: int) -> Int64:
    """The smallest gene of each gene's group when all merges of the table are made, shape (n_genes,)."""
    first_gene: Int64 = _first_genes(np.ascontiguousarray(child), n_genes)
    return first_gene


def cut_merges(child: Int64, height: Float64, n_genes: int, max_dist: float) -> Int64:
    """The smallest gene of each gene's group when merges up to ``max_dist`` are made, shape (n_genes,)."""
    return first_genes(child[: n_merges_within(height, max_dist)], n_genes)


def n_merges_within(height: Float64, max_dist: float) -> int:
    """Number of merges up to ``max_dist``, which is rounded like heights are."""
    return int(np.searchsorted(height, on_grid(max_dist), side="right"))


def labels(first_gene: Int64, left_out: NDArray[np.bool_]) -> Int64:
    """Labels from 0 by falling size, ties by smallest gene; -1 for genes left out.

    Parameters
    ----------
    first_gene
        Shape (n_genes,), int64: the smallest gene of each gene's group.
    left_out
        Shape (n_genes,), bool.
    """
    size = np.bincount(first_gene[~left_out], minlength=len(first_gene))
    groups = np.flatnonzero(size)
    ranked = groups[np.lexsort((groups, -size[groups]))]
    label_of = np.full(len(first_gene), -1, np.int64)
    label_of[ranked] = np.arange(len(ranked))
    return np.where(left_out, -1, label_of[first_gene])
