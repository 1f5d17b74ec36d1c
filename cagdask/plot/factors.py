"""What the factors of an nmf hold: their strongest genes, over all components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cagdask import storage, stores
from cagdask.errors import SchemaError
from cagdask.plot.style import SEQUENTIAL, finished

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

N_TOP = 6
"""Genes of each component that are drawn: those with the largest loadings."""
MAX_COMPONENTS = 30
"""Components that are drawn; the picture says how many more there are."""
_ROW, _COLUMN = 14, 22
"""Pixels of a cell."""


def loadings(factors: str, *, n_top: int = N_TOP) -> alt.Chart:
    """The genes (or CAGs) with the largest loadings of each component, over all components.

    Parameters
    ----------
    factors
        Folder that ``cagdask nmf`` wrote.
    n_top
        Genes per component.

    Raises
    ------
    StoreError
        Nothing is there.
    SchemaError
        It holds no factors.
    """
    import altair as alt

    table, k = top_loadings(factors, n_top)
    rows, columns = list(dict.fromkeys(table["gene"])), list(dict.fromkeys(table["component"]))
    said = f" (the first {len(columns)} of {k} components)" if k > len(columns) else ""
    chart = (
        alt.Chart(table, title=f"largest loadings of each component{said}")
        .mark_rect()
        .encode(
            x=alt.X("component:N", sort=columns, title=None, axis=alt.Axis(labelAngle=-90)),
            y=alt.Y("gene:N", sort=rows, title=None, axis=alt.Axis(labelLimit=300)),
            color=alt.Color("share:Q", title="share of the component's largest", scale=alt.Scale(scheme=SEQUENTIAL)),
            tooltip=["gene:N", "component:N", alt.Tooltip("loading:Q", format=".3g"),
                     alt.Tooltip("share:Q", format=".2f")],
        )
    )  # fmt: skip
    return finished(chart, _ROW * len(rows)).properties(width=max(200, _COLUMN * len(columns)))


def top_loadings(factors: str, n_top: int = N_TOP) -> tuple[pd.DataFrame, int]:
    """What the picture shows, and how many components there are.

    Returns
    -------
    DataFrame
        ``gene``, ``component``, ``loading``, ``share`` (of the component's largest): a row per gene and component.
        Genes come by the component that they are drawn for, the strongest first.
    """
    import pandas as pd

    url = storage.absolute(factors)
    if not url.rstrip("/").endswith(".zarr"):
        url = storage.join(url, stores.FACTORS)
    ds = storage.look(url)
    if "gene_loading" not in ds.variables:
        raise SchemaError(f"{url}: holds no factors. Name the folder that `cagdask nmf` wrote.")
    n_genes, k = ds["gene_loading"].shape
    shown = min(k, MAX_COMPONENTS)
    best = np.zeros((0, shown), np.float32)
    rows = np.zeros(0, np.int64)
    for begin in range(0, n_genes, storage.ID_CHUNK):
        block = np.asarray(ds["gene_loading"][begin : begin + storage.ID_CHUNK].values)[:, :shown]
        values, places = np.concatenate([best, block]), np.r_[rows, begin : begin + len(block)]
        kept = np.unique(np.argsort(-values, axis=0, kind="stable")[:n_top])
        best, rows = values[kept], places[kept]
    names = np.asarray(ds["gene_id"].values, object)[rows]
    if "gene_content" in ds.variables:  # rows are CAGs, and their names are numbers
        names = np.array([f"CAG {name}" for name in names], object)
    order = [int(i) for column in best.T for i in np.argsort(-column, kind="stable")[:n_top] if column[i] > 0]
    order = list(dict.fromkeys(order))
    largest = best.max(axis=0, initial=0)
    largest = np.where(largest > 0, largest, 1)  # of an empty component
    parts = [
        pd.DataFrame(
            {
                "gene": names[order],
                "component": f"NMF_{c}",
                "loading": best[order, c],
                "share": best[order, c] / largest[c],
            }
        )
        for c in range(shown)
    ]
    return pd.concat(parts, ignore_index=True), k
