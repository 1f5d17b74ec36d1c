"""Charts of two results beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.plot.overlap import matched_labels, overlap_of
from cagdask.plot.style import CONFIG, SEQUENTIAL

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import xarray as xr

N_ROWS = 30
"""CAGs of the first result that are shown: the largest."""
N_COLUMNS = 30
"""CAGs of the second that are shown: those with most genes of the first ones; the rest is one column."""
_CELL = 16
"""Pixels."""


def comparison(first: str | xr.Dataset, second: str | xr.Dataset) -> alt.Chart:
    """Where the genes of the largest CAGs of one result are in another one.

    Parameters
    ----------
    first, second
        Result stores, folders of runs, or datasets; genes are matched by their ids.
    """
    import altair as alt

    table, columns = shares(first, second)
    chart = alt.Chart(
        table, title=alt.TitleParams("share of a CAG's genes, by the CAG of the second result", anchor="start")
    )
    rows = list(dict.fromkeys(table["first"]))
    return (
        chart.mark_rect()
        .encode(
            x=alt.X("second:N", sort=columns, title="CAG of the second result", axis=alt.Axis(labelAngle=-90)),
            y=alt.Y("first:N", sort=rows, title="CAG of the first result"),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(scheme=SEQUENTIAL, domain=[0, 1]),
                legend=alt.Legend(format="%", title="share"),
            ),
            tooltip=[
                alt.Tooltip("first:N", title="CAG of the first"),
                alt.Tooltip("second:N", title="CAG of the second"),
                alt.Tooltip("n:Q", title="genes in both", format=","),
                alt.Tooltip("share:Q", title="share of the first one's genes", format=".1%"),
            ],
        )
        .properties(width=_CELL * len(columns), height=_CELL * len(rows))
        .configure(**CONFIG)
    )


def shares(first: str | xr.Dataset, second: str | xr.Dataset) -> tuple[pd.DataFrame, list[str]]:
    """What the picture shows: ``first``, ``second`` (words), ``n``, ``share``; and the columns in their order.

    A column stands where its largest share is, so that equal results give a diagonal.
    """
    import pandas as pd

    labels, _ = matched_labels(first, second)
    overlap = overlap_of(*labels)
    sizes = np.bincount(overlap.first, weights=overlap.n).astype(np.int64)
    rows = [cag for cag in np.argsort(-sizes, kind="stable")[:N_ROWS].tolist() if sizes[cag] > 0]
    inside = np.isin(overlap.first, rows)
    place = {cag: i for i, cag in enumerate(rows)}
    table = pd.DataFrame({"first": overlap.first[inside], "second": overlap.second[inside], "n": overlap.n[inside]})
    total = table.groupby("second")["n"].sum().sort_values(ascending=False, kind="stable")
    shown = set(total.index[:N_COLUMNS])
    best = table.loc[table.groupby("second")["n"].idxmax()].set_index("second")["first"]
    order = sorted(shown, key=lambda cag: (place[int(best[cag])], -int(total[cag]), int(cag)))
    table["second"] = [f"CAG {cag}" if cag in shown else "others" for cag in table["second"]]
    table = table.groupby(["first", "second"], as_index=False)["n"].sum()
    table["share"] = (table["n"] / sizes[table["first"]]).round(4)
    table["place"] = table["first"].map(place)
    table = table.sort_values(["place", "second"], kind="stable", ignore_index=True).drop(columns="place")
    table["first"] = [f"CAG {cag}" for cag in table["first"]]
    columns: list[Any] = [f"CAG {cag}" for cag in order]
    return table, columns + (["others"] if (table["second"] == "others").any() else [])
