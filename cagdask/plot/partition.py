"""Charts of the groups: how large they are, how much they cover, how good they are, what other thresholds give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import schema
from cagdask.plot import numbers
from cagdask.plot.results import open_result
from cagdask.plot.style import ORANGE, WIDTH, configured, finished

if TYPE_CHECKING:
    import altair as alt
    import xarray as xr

MANY_CLASSES = 5
"""Classes of size beyond which their labels are written upright: side by side they do not fit a phone."""
_CURVES = {
    "n_groups": "CAGs of two genes or more",
    "n_alone": "genes alone",
    "largest": "share of genes in the largest CAG",
    "cohesion": "mean similarity within CAGs",
    "fdr": "share of grouped genes that chance would group",
}


def sizes(result: str | xr.Dataset) -> alt.Chart:
    """CAGs by number of genes, on a logarithmic scale.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    """
    import altair as alt

    table = numbers.size_classes(open_result(result)["cag_size"].values)
    many = len(table) > MANY_CLASSES
    axis = alt.Axis(labelAngle=-90 if many else 0, labelOverlap=False if many else "greedy")  # each bar has its label
    base = alt.Chart(table).encode(
        x=alt.X("genes:N", sort=list(table.genes), title="genes in the CAG", axis=axis),
        y=alt.Y("n_cags:Q", scale=alt.Scale(type="symlog", constant=1), title="CAGs", axis=_count_axis()),
        tooltip=[
            alt.Tooltip("genes:N", title="genes in the CAG"),
            alt.Tooltip("n_cags:Q", title="CAGs", format=","),
            alt.Tooltip("n_genes:Q", title="genes in all", format=","),
        ],
    )
    return finished(base.mark_bar())


def _count_axis() -> Any:
    import altair as alt

    return alt.Axis(values=[10**e for e in range(10)], format=",d")


def coverage(result: str | xr.Dataset) -> alt.Chart:
    """Share of all genes, and of their abundance, that CAGs of at least some size hold.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    """
    import altair as alt

    ds = open_result(result)
    table = numbers.coverage_by_size(ds["cag_size"].values, ds["cag_mean_abundance"].values.astype(np.float64))
    both = table["what"].nunique() > 1
    legend = alt.Legend(orient="top", title="share of") if both else None
    share_of = "share of all" if both else f"share of all {table['what'].iloc[0]}"
    chart = (
        alt.Chart(table)
        .mark_line(interpolate="step-before", strokeWidth=2)
        .encode(
            x=alt.X("size:Q", scale=alt.Scale(type="log"), title="CAGs of at least this many genes", axis=_log_axis()),
            y=alt.Y("share:Q", title=share_of, axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("what:N", legend=legend),
            strokeDash=alt.StrokeDash("what:N", legend=legend),
            tooltip=[
                alt.Tooltip("size:Q", title="genes in the CAG, at least", format=","),
                "what:N",
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    return finished(chart)


def _log_axis() -> Any:
    import altair as alt

    return alt.Axis(format="~s", grid=False)


def threshold_curve(result: str | xr.Dataset) -> alt.Chart:
    """What each smaller threshold would give, from the merge tree: groups, loners, largest group, cohesion.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.

    Notes
    -----
    Counts are those of average linkage before refinement: what ``cagdask cut --max-dist X`` starts from.
    """
    import altair as alt

    panels = threshold_panels(open_result(result))
    return configured(alt.vconcat(*[panel.properties(width=WIDTH) for panel in panels], spacing=14))


def threshold_panels(ds: xr.Dataset) -> list[alt.Chart]:
    """The charts that a threshold curve consists of."""
    table = numbers.threshold_table(ds)
    flat = table.loc[table["plateau"], "max_dist"]
    rows = table.drop(columns="plateau").melt("max_dist", var_name="what", value_name="value").dropna()
    rows["what"] = rows["what"].map(_CURVES)
    panels = [name for name in _CURVES.values() if (rows["what"] == name).any()]
    return [_panel(rows[rows["what"] == name], name, numbers.max_dist_of(ds), flat) for name in panels]


def _panel(rows: Any, name: str, max_dist: float | None, flat: Any) -> Any:
    import altair as alt

    is_share = name.startswith(("share", "mean"))
    form = ".2~%" if name.startswith("share") else ".2f" if is_share else ",d"
    line: Any = (
        alt.Chart(rows, title=alt.TitleParams(name, anchor="start", fontSize=12, fontWeight="normal"))
        .mark_line(interpolate="step-after" if not is_share else "linear")
        .encode(
            x=alt.X("max_dist:Q", title="threshold (max_dist)", axis=alt.Axis(format=".2f", tickCount=5)),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(format=form, tickCount=3), scale=alt.Scale(zero=not is_share)),
            tooltip=[
                alt.Tooltip("max_dist:Q", title="threshold", format=".4f"),
                alt.Tooltip("value:Q", title=name, format=form),
            ],
        )
    )
    layers = [line]
    if len(flat):
        marks = alt.Chart(rows[rows["max_dist"].isin(flat)]).mark_point(size=18, filled=True, opacity=0.6)
        tooltip = [alt.Tooltip("max_dist:Q", title="threshold on a plateau", format=".4f")]
        layers.append(marks.encode(x=alt.X("max_dist:Q"), y=alt.Y("value:Q"), tooltip=tooltip))
    if max_dist is not None:
        rule = alt.Chart(alt.Data(values=[{"run": max_dist}])).mark_rule(color=ORANGE, strokeDash=[4, 3])
        tooltip = [alt.Tooltip("run:Q", title="threshold of this run", format=".4f")]
        layers.append(rule.encode(x=alt.X("run:Q"), tooltip=tooltip))
    if len(layers) == 1:
        return line.properties(height=90)
    return alt.layer(*layers, height=90)  # at once: each addition and property copies all layers


def error_rate(result: str | xr.Dataset) -> alt.LayerChart:
    """Share of the grouped genes that chance may have grouped, against the support that is asked of a gene.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset; made with ``max_dist="auto"``.

    Raises
    ------
    ValueError
        No error rate was estimated.
    """
    import altair as alt
    import pandas as pd

    found = numbers.error_rate(open_result(result))
    if not found.get("curve"):
        raise ValueError("this result has no error rate: its threshold was a number. Cluster with the automatic one.")
    table = pd.DataFrame(found["curve"])[["support", "fdr"]]
    shares = alt.Axis(format=".1~%", values=[0, 0.001, 0.01, 0.1, 1])
    small = alt.Scale(type="symlog", constant=0.001, domain=[0, 1])
    base = alt.Chart(table).encode(
        x=alt.X("support:Q", scale=alt.Scale(type="log"), title="support of a gene, at least", axis=_log_axis()),
        y=alt.Y("fdr:Q", title="grouped by chance", axis=shares, scale=small),
        tooltip=[alt.Tooltip("support:Q", format=".3f"), alt.Tooltip("fdr:Q", title="by chance", format=".2%")],
    )
    asked = (
        alt.Chart(alt.Data(values=[{"asked": found["fdr"]}]))
        .mark_rule(color=ORANGE, strokeDash=[4, 3])
        .encode(y=alt.Y("asked:Q"), tooltip=[alt.Tooltip("asked:Q", title="asked for", format=".2%")])
    )
    return finished(base.mark_line(point=True) + asked)


def cohesion(result: str | xr.Dataset) -> alt.Chart:
    """Mean similarity within each CAG against its size, colored by what is to be said of it.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.

    Raises
    ------
    ValueError
        The result has no cohesion.
    """
    import altair as alt

    ds = open_result(result)
    if "cag_cohesion" not in ds.variables:
        raise ValueError("this result has no cag_cohesion; cluster again with this version of cagdask.")
    table, _ = numbers.cag_points(ds)
    y = alt.Y("cohesion:Q", title="cohesion (mean similarity)", scale=alt.Scale(zero=False))
    return finished(_points(table, y))


def prevalence(result: str | xr.Dataset) -> alt.Chart:
    """Share of samples that have a CAG against its size.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    """
    import altair as alt

    table, _ = numbers.cag_points(open_result(result))
    y = alt.Y("prevalence:Q", title="samples with the CAG", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    return finished(_points(table, y))


def _points(table: Any, y: Any) -> Any:
    import altair as alt

    tooltip = [alt.Tooltip("cag:Q", title="CAG"), alt.Tooltip("size:Q", title="genes", format=",")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("prevalence", "cohesion") if name in table]
    order = [name for name in schema.CAG_STATUSES if (table["status"] == name).any()]
    order += sorted(set(table["status"]) - set(order))
    chart = (
        alt.Chart(table)
        .mark_point(size=36, opacity=0.65)
        .encode(
            x=alt.X("size:Q", scale=alt.Scale(type="log"), title="genes in the CAG", axis=_log_axis()),
            y=y,
            tooltip=[*tooltip, "status:N"],
        )
    )
    if len(order) < 2:  # a legend of one word tells nothing
        return chart
    same = {"scale": alt.Scale(domain=order), "legend": alt.Legend(orient="top", title="status")}  # for a common legend
    return chart.encode(color=alt.Color("status:N", **same), shape=alt.Shape("status:N", **same))
