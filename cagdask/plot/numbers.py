"""What the pictures show, as small tables.

Each function reads the arrays with a value per CAG, or the merge tree, and returns a pandas DataFrame of at most some
thousand rows: that is what a chart can show, and what a page of a million genes can carry.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

MAX_POINTS = 1_500
"""CAGs that a chart with a point per CAG shows: the largest."""
N_THRESHOLDS = 80
"""Points of a threshold curve."""
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


def max_dist_of(ds: xr.Dataset) -> float | None:
    """The threshold that a result was made with, None if it is not recorded as a number."""
    try:
        return float(ds.attrs["max_dist"])
    except (KeyError, TypeError, ValueError):
        return None


def parameters_of(ds: xr.Dataset) -> dict[str, Any]:
    """The ``parameters`` attribute of a result; empty if it is damaged."""
    try:
        return dict(json.loads(ds.attrs.get("parameters", "{}")))
    except (TypeError, ValueError):
        return {}


def error_rate(ds: xr.Dataset) -> dict[str, Any]:
    """What was estimated of errors on shuffled genes; empty where nothing was, or where it is damaged."""
    try:
        return dict(json.loads(str(ds.attrs.get("error_rate", "{}"))))
    except (ValueError, TypeError):
        return {}


def size_classes(sizes: Int64) -> pd.DataFrame:
    """CAGs and their genes in classes of size 1, 2, 3–4, 5–8, …: columns ``genes``, ``n_cags``, ``n_genes``."""
    import pandas as pd

    edges = [1, 2, 3]
    while edges[-1] <= sizes.max(initial=1):
        edges.append((edges[-1] - 1) * 2 + 1)
    bounds = [edge - 0.5 for edge in edges]
    n_cags, _ = np.histogram(sizes, bins=bounds)
    n_genes, _ = np.histogram(sizes, bins=bounds, weights=sizes.astype(np.float64))
    names = [f"{a:,}" if b - a == 1 else f"{a:,}–{b - 1:,}" for a, b in itertools.pairwise(edges)]
    return pd.DataFrame({"genes": names, "n_cags": n_cags, "n_genes": n_genes.astype(np.int64)})


def coverage_by_size(sizes: Int64, mean_abundance: Float64) -> pd.DataFrame:
    """Share of genes and of abundance in CAGs of at least some size.

    Parameters
    ----------
    sizes
        Genes per CAG, shape (n_cags,).
    mean_abundance
        Mean abundance of the genes of each CAG, shape (n_cags,); where one is negative, as with ``clr``, there are no
        shares of abundance, and the table has none.

    Returns
    -------
    DataFrame
        Columns ``size``, ``what`` ("genes" or "abundance"), ``share`` in [0, 1]; at most some hundred rows.
    """
    import pandas as pd

    order = np.argsort(-sizes, kind="stable")
    at = _thinned(np.flatnonzero(np.diff(np.append(sizes[order], 0))), 200)
    weights = {"genes": sizes[order].astype(np.float64)}
    if np.all(mean_abundance >= 0) and mean_abundance.any():
        weights["abundance"] = weights["genes"] * np.nan_to_num(mean_abundance[order])
    parts = [
        pd.DataFrame({"size": sizes[order][at], "what": name, "share": (w.cumsum() / max(w.sum(), 1e-300))[at]})
        for name, w in weights.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _thinned(places: Int64, n: int) -> Int64:
    """About ``n`` of these, closer together at the start, the last one always among them."""
    if len(places) <= n:
        return places
    picked = np.unique(np.geomspace(1, len(places), n).astype(np.int64)) - 1
    return np.asarray(places[np.union1d(picked, [len(places) - 1])])


def threshold_table(ds: xr.Dataset) -> pd.DataFrame:
    """What cutting the merge tree at smaller thresholds gives, before refinement.

    Returns
    -------
    DataFrame
        Columns ``max_dist``, ``n_groups`` (CAGs of two genes or more), ``n_alone``, ``largest`` (share of the genes
        that its largest CAG holds), ``cohesion`` (mean similarity of two genes of one CAG; NaN where not known),
        ``plateau`` (whether it is in a range of thresholds that hardly changes the groups); where it was estimated,
        also ``fdr`` (share of the genes in CAGs that chance would group as well).
    """
    import pandas as pd

    from cagdask.engine.linkage.error_rates import by_height
    from cagdask.engine.linkage.sweep import plateaus, sweep_thresholds

    height = ds["merge_height"].values
    top = max_dist_of(ds) or float(height[-1] if len(height) else 0.2)
    asked = np.unique(np.append(np.linspace(0, top, N_THRESHOLDS), top))
    n_genes = ds.sizes["gene"]
    n_left_out = int(np.count_nonzero(ds["gene_cag"].values < 0))
    made = sweep_thresholds(ds["merge_child"].values, height, n_genes, asked, n_left_out)
    table = pd.DataFrame(made._asdict())
    table["plateau"] = plateaus(made.max_dist, made.n_groups + made.n_alone)
    table["largest"] /= max(1, n_genes - n_left_out)
    if ds.attrs.get("linkage", "average") != "average":
        table["cohesion"] = np.nan
    fdr = by_height(error_rate(ds), made.max_dist, n_genes - n_left_out - made.n_alone)
    return table if np.isnan(fdr).all() else table.assign(fdr=fdr)


def cag_status(ds: xr.Dataset) -> NDArray[np.object_]:
    """The word that a result has for each CAG, shape (n_cags,); "not known" for one of a version that had none."""
    if "cag_status" in ds.variables:
        return np.asarray(ds["cag_status"].values, object)
    return np.full(ds.sizes["cag"], "not known", object)


def cag_points(ds: xr.Dataset) -> tuple[pd.DataFrame, int]:
    """The largest CAGs of two genes or more, with size, prevalence, cohesion and status; and how many there are."""
    import pandas as pd

    sizes = ds["cag_size"].values
    grouped = np.flatnonzero(sizes >= 2)
    shown = grouped[:MAX_POINTS]
    columns = {"cag": shown, "size": sizes[shown], "prevalence": ds["cag_prevalence"].values[shown]}
    if "cag_cohesion" in ds.variables:
        columns["cohesion"] = ds["cag_cohesion"].values[shown]
    table = pd.DataFrame(columns).round(4)
    return table.assign(status=cag_status(ds)[shown]), len(grouped)
