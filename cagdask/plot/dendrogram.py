"""The part of the merge tree that one CAG is made of.

A CAG may be several subtrees: those that were joined after clustering, by their mean profiles, have no merge of their
own. They are drawn below each other.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.plot.results import open_result
from cagdask.plot.style import BLUE, finished

if TYPE_CHECKING:
    import altair as alt
    import xarray as xr

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
MAX_LEAVES = 60
"""Leaves that are drawn; of more, those that joined lowest are one leaf."""
_ROW = 15
"""Pixels of a leaf."""


class Branches(NamedTuple):
    """What a dendrogram shows.

    Attributes
    ----------
    leaves
        Node of each leaf, from top to bottom: a gene's row, or ``n_genes + i`` for merge ``i``; shape (n_leaves,).
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


def branches_of(ds: xr.Dataset, cag: int, max_leaves: int = MAX_LEAVES) -> Branches:
    """The merges within a CAG: the highest of its largest subtrees, with at most ``max_leaves`` leaves."""
    label = np.asarray(ds["gene_cag"].values)
    child, height = np.asarray(ds["merge_child"].values), np.asarray(ds["merge_height"].values)
    n = len(label)
    inside = np.zeros(n + len(height), bool)
    inside[:n] = label == cag
    size = np.ones(n + len(height), np.int64)
    has_parent = np.zeros(len(inside), bool)
    for i, (a, b) in enumerate(child.tolist()):
        size[n + i] = size[a] + size[b]
        if inside[a] and inside[b]:
            inside[n + i] = has_parent[a] = has_parent[b] = True
    roots = np.flatnonzero(inside & ~has_parent)
    largest = roots[np.argsort(-size[roots], kind="stable")[: max(1, max_leaves // 3)]]
    return _laid_out(child, height, size, n, largest, len(roots), max_leaves)


def _laid_out(
    child: Int64, height: Float64, size: Int64, n: int, roots: Int64, n_trees: int, max_leaves: int
) -> Branches:
    """Rows of the leaves and branches of the trees below ``roots``."""
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


def dendrogram(result: str | xr.Dataset, *, cag: int = 0, max_leaves: int = MAX_LEAVES) -> alt.LayerChart:
    """The merge tree within one CAG: which genes joined at which distance.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    cag
        Number of the CAG.
    max_leaves
        Leaves that are drawn; of more, those that joined lowest are one leaf.

    Raises
    ------
    ValueError
        There is no such CAG.
    """
    import altair as alt
    import pandas as pd

    ds = open_result(result)
    if not 0 <= cag < ds.sizes["cag"]:
        raise ValueError(f"`cag` is {cag}; this result has the CAGs 0 to {ds.sizes['cag'] - 1}.")
    if not ds["cag_size"].values[cag]:
        raise ValueError(f"CAG {cag} holds no gene any more. Name another `cag`.")
    found = branches_of(ds, cag, max_leaves)
    names = _leaf_names(ds, found)
    segments = pd.DataFrame(_segments(found), columns=["from", "to", "row", "to_row"])
    texts = pd.DataFrame({"row": np.arange(len(names)), "name": names, "at": 0.0, "genes": found.n_genes})
    rows = alt.Scale(domain=[-0.5, len(names) - 0.5], reverse=True, nice=False, zero=False)
    top = max(1e-9, float(found.heights.max(initial=0)))
    x = alt.X("from:Q", title="distance at which they joined", scale=alt.Scale(domain=[top, 0], nice=False))
    lines = (
        alt.Chart(segments)
        .mark_rule(color=BLUE)
        .encode(x=x, x2="to:Q", y=alt.Y("row:Q", axis=None, scale=rows), y2="to_row:Q")
    )
    labels = (
        alt.Chart(texts)
        .mark_text(align="left", dx=5, fontSize=11)
        .encode(
            x=alt.X("at:Q", scale=alt.Scale(domain=[top, 0], nice=False)),
            y=alt.Y("row:Q", axis=None, scale=rows),
            text="name:N",
            tooltip=["name:N", alt.Tooltip("genes:Q", format=",")],
        )
    )
    title = f"CAG {cag}: {int(ds['cag_size'].values[cag]):,} genes"
    if found.n_trees > 1:
        title += f" in {found.n_trees:,} subtrees, joined after clustering"
    if found.n_drawn < found.n_trees:
        title += f"; the largest {found.n_drawn}"
    return finished((lines + labels).properties(title=title), max(60, _ROW * len(names)))


def _segments(found: Branches) -> list[tuple[float, float, float, float]]:
    """Each merge as three lines: from, to (distances), row, to_row."""
    made = []
    for (a, b, _), (low_a, low_b, top) in zip(found.places.tolist(), found.heights.tolist(), strict=True):
        made += [(top, low_a, a, a), (top, low_b, b, b), (top, top, a, b)]
    return made


def _leaf_names(ds: xr.Dataset, found: Branches) -> list[str]:
    """The gene of each leaf, with what is known of it; of several genes, how many."""
    is_gene = found.leaves < ds.sizes["gene"]
    rows = found.leaves[is_gene]
    ids: Any = np.asarray(ds["gene_id"].values, object)[rows]
    known = [name for name in ("gene_symbol", "gene_description", "gene_taxonomy") if name in ds.variables][:1]
    about = np.asarray(ds[known[0]].values, object)[rows] if known else [""] * len(rows)
    words = iter(f"{_short(name, 40)} {_short(word, 40)}".strip() for name, word in zip(ids, about, strict=True))
    return [
        next(words) if alone else f"({n:,} genes)"
        for alone, n in zip(is_gene.tolist(), found.n_genes.tolist(), strict=True)
    ]


def _short(text: object, n: int) -> str:
    plain = str(text)
    return plain if len(plain) <= n else f"{plain[: n - 1]}…"
