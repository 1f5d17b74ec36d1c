"""Charts of the roles of genes, and of how stable CAGs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cagdask.plot.results import open_result
from cagdask.plot.style import WIDTH, configured, finished

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import xarray as xr

ROLES = ("core", "accessory", "shared")
MOST_CAGS = 30
"""CAGs that the chart of roles shows: those that the most genes go with."""


def roles_of_cags(ds: xr.Dataset) -> pd.DataFrame:
    """Genes of each role that go with the CAGs that have the most: columns ``cag``, ``role``, ``n_genes``.

    A shared gene counts for both of its CAGs.
    """
    import pandas as pd

    role, core = np.asarray(ds["gene_role"].values).astype(object), ds["gene_core_cag"].values
    second = ds["gene_cag_second"].values
    counts = np.zeros((len(ROLES), ds.sizes["cag"]), np.int64)
    for i, name in enumerate(ROLES):
        for of in (core, second) if name == "shared" else (core,):
            counts[i] += np.bincount(of[(role == name) & (of >= 0)], minlength=counts.shape[1])
    shown = np.argsort(-counts.sum(axis=0), kind="stable")[:MOST_CAGS]
    shown = shown[counts.sum(axis=0)[shown] > 0]
    rows = [(int(cag), name, int(counts[i, cag])) for cag in shown for i, name in enumerate(ROLES)]
    return pd.DataFrame(rows, columns=["cag", "role", "n_genes"])


def roles(result: str | xr.Dataset) -> alt.Chart:
    """Core, accessory and shared genes of the CAGs that have the most.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.

    Raises
    ------
    ValueError
        The result has no roles.
    """
    import altair as alt

    ds = open_result(result)
    if "gene_role" not in ds.variables:
        raise ValueError(
            "this result has no gene_role: it was made by an earlier cagdask, or of values that do not add up, such as "
            "expression or log ratios. Cluster abundances again with this version."
        )
    table = roles_of_cags(ds)
    chart = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("cag:N", sort=list(dict.fromkeys(table["cag"])), title="CAG, with the genes that go with it"),
            y=alt.Y("n_genes:Q", title="genes", axis=alt.Axis(format=",d")),
            color=alt.Color(
                "role:N", scale=alt.Scale(domain=list(ROLES)), legend=alt.Legend(orient="top", title="role")
            ),
            order=alt.Order("rank:Q"),
            tooltip=[
                alt.Tooltip("cag:N", title="CAG"),
                alt.Tooltip("role:N"),
                alt.Tooltip("n_genes:Q", title="genes", format=","),
            ],
        )
        .transform_calculate(rank=f"indexof({list(ROLES)}, datum.role)")
    )
    made: alt.Chart = finished(chart)
    return made


def stability(result: str | xr.Dataset) -> alt.Chart:
    """How many CAGs of two genes or more, and how many genes, are found again in both halves of the samples how often.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset; made with ``stability``.

    Raises
    ------
    ValueError
        The result has no stability.
    """
    import altair as alt

    ds = open_result(result)
    if "cag_stability" not in ds.variables:
        raise ValueError(
            "this result has no cag_stability. Cluster with `stability=10`, which halves the samples ten times."
        )
    table = stability_counts(np.asarray(ds["cag_stability"].values), np.asarray(ds["cag_size"].values))
    chart = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X(
                "stability:O",
                title="splits of the samples of which both halves have the CAG",
                axis=alt.Axis(labelAngle=0),
            ),
            y=alt.Y("n:Q", title=None, axis=alt.Axis(format=",d")),
            row=alt.Row("what:N", sort=["CAGs", "genes"], title=None),
            tooltip=[alt.Tooltip("stability:O"), alt.Tooltip("what:N"), alt.Tooltip("n:Q", title="number", format=",")],
        )
        .resolve_scale(y="independent")
    )
    made: alt.Chart = configured(chart.properties(width=WIDTH, height=110))
    return made


def stability_counts(of_cags: NDArray[np.floating], size: NDArray[np.integer]) -> pd.DataFrame:
    """CAGs of two genes or more, and their genes, by stability in steps of a tenth: ``stability``, ``what``, ``n``."""
    import pandas as pd

    grouped = size > 1
    step = np.rint(of_cags[grouped] * 10).astype(np.int64)
    rows = [
        (f"{tenth / 10:.1f}", what, int(counts[tenth]))
        for what, counts in (
            ("CAGs", np.bincount(step, minlength=11)),
            ("genes", np.bincount(step, weights=size[grouped], minlength=11)),
        )
        for tenth in range(11)
    ]
    return pd.DataFrame(rows, columns=["stability", "what", "n"])
