"""The charts of the page, as Vega-Lite for its script, and the program that draws them.

A chart on the page is as wide as its place, and takes its colors from the page, so that light, dark, screen and phone
share one specification.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.plot import cohesion, coverage, error_rate, numbers, prevalence, sizes
from cagdask.plot.ordination import Ordination
from cagdask.plot.partition import threshold_panels
from cagdask.plot.samples import Matrix, brightness_of, categories, coloring_columns, is_continuous, sample_table
from cagdask.plot.style import CATEGORIES, DARK_CATEGORIES, SEQUENTIAL
from cagdask.reports.naming import row_names

if TYPE_CHECKING:
    import xarray as xr

    from cagdask.reports.additions import Addition

HEIGHT = 240
"""Of a chart on the page, in pixels."""


def page_charts(ds: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Vega-Lite specifications by the id of their place on the page; none for what would be empty."""
    largest = ds["cag_size"].values.max(initial=0)
    made = {"sizes": sizes(ds), "coverage": coverage(ds)} if largest else {}
    if largest >= 2:
        made["prevalence"] = prevalence(ds)
    if largest >= 2 and "cag_cohesion" in ds.variables:
        made["cohesion"] = cohesion(ds)
    charts = {name: _for_page(chart, HEIGHT) for name, chart in made.items()}
    if numbers.error_rate(ds).get("curve"):
        charts["error-rate"] = _for_page(error_rate(ds), HEIGHT)
    if len(ds["merge_height"]):
        charts |= {f"threshold-{i}": _for_page(panel, 110) for i, panel in enumerate(threshold_panels(ds))}
    return charts


def added_charts(tested: list[Addition], other: Addition | None) -> dict[str, dict[str, Any]]:
    """Charts of tests and of another result, by the id of their place."""
    made = {f"volcano-{i}": _for_page(one.chart, 300) for i, one in enumerate(tested)}
    if other is not None:
        made["comparison"] = _for_page(other.chart.properties(title=""), None)
        made["comparison"]["encoding"]["color"]["legend"] |= {"orient": "bottom", "gradientLength": 150}
    return made


def _for_page(chart: Any, height: int | None) -> dict[str, Any]:
    # Tests check what altair would check here; at each run it would take a third of a second.
    chart.width = "container"  # properties() would copy the chart, which is the page's alone
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec["height"] = height or spec["height"]
    spec.pop("config", None)  # the page's script says how charts look
    return spec


def sample_data(ds: xr.Dataset, made: Matrix, ordination: Ordination, n_compared: int, column: str) -> dict[str, Any]:
    """What the heat map and the plane of samples are drawn from, for any column of metadata that a reader picks.

    ``column`` is the one that is picked first.
    """
    table = sample_table(ds)
    columns: dict[str, Any] = {}
    for name in coloring_columns(table):
        if is_continuous(table[name]):
            values = table[name].to_numpy(np.float64)
            columns[str(name)] = {"kind": "number", "values": [_plain(v) for v in values.tolist()]}
        else:
            columns[str(name)] = {"kind": "word", "values": categories(table[name]).tolist()}
    root = np.rint(255 * np.sqrt(made.share)).astype(np.uint8)
    return {
        "samples": list(table.index),
        "order": made.columns.tolist(),
        "cags": made.cag[made.rows].tolist(),
        "share": base64.b64encode(root[made.rows].tobytes()).decode(),
        "xy": np.round(ordination.coordinates, 5).tolist(),
        "explained": [round(share, 4) for share in ordination.explained],
        "method": ordination.method,
        "n_compared": n_compared,
        "columns": columns,
        "picked": column,
        "brightness": brightness_of(ds),
        "names": row_names(ds, made.cag[made.rows]),
        "categories": CATEGORIES,
        "dark": DARK_CATEGORIES,
        "scheme": SEQUENTIAL,
    }


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def program() -> str:
    """Vega, Vega-Lite and vega-embed as one script; bundling takes a second, so it is kept in the user's cache."""
    import vl_convert

    kept = _cache() / f"vega-{vl_convert.__version__}.js"
    try:
        return kept.read_text()
    except OSError:
        text = str(vl_convert.javascript_bundle())
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(f".{os.getpid()}")
        fresh.write_text(text)
        fresh.replace(kept)
    except OSError:  # nowhere to keep it: it is made again next time
        pass
    return text


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "cagdask"
