"""The part of the merge tree that one CAG is made of.

A CAG may be several subtrees: those that were joined after clustering, by their mean profiles, have no merge of their
own. They are drawn below each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.plot.results import open_result
from cagdask.plot.style import BLUE, finished

if TYPE_CHECKING:
    import altair as alt
    import xarray as xr

    from cagdask.plot.merges import Branches

MAX_LEAVES = 60
"""Leaves that are drawn; of more, those that joined lowest are one leaf."""
_ROW = 15
"""Pixels of a leaf."""


def branches_of(ds: xr.Dataset, cag: int, max_leaves: int = MAX_LEAVES) -> Branches:
    """The merges within a CAG, as :meth:`cagdask.plot.merges.Subtree.branches` lays them out; genes by their rows."""
    from cagdask.plot.merges import MergeTree

    child, height, label = (np.asarray(ds[name].values) for name in ("merge_child", "merge_height", "gene_cag"))
    tree = MergeTree(child, height, label).of(cag)
    found = tree.branches(max_leaves)
    n = len(tree.rows)
    is_gene = found.leaves < n
    leaves = np.where(is_gene, tree.rows[np.minimum(found.leaves, n - 1)], found.leaves - n + len(label))
    return found._replace(leaves=leaves)


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
