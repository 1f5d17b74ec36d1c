"""Colors and fonts of all charts, and charts as files.

Colors are told apart without color vision: categories are those of Okabe and Ito, scales are viridis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cagdask import storage

if TYPE_CHECKING:
    import altair as alt

BLUE, ORANGE = "#0072b2", "#d55e00"
CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#6b6b6b"]
"""Okabe and Ito's colors, yellow and black replaced by ones that show on white and on black."""
DARK_CATEGORIES = ["#56b4e9", "#e69f00", "#00b386", "#e08fbf", "#f0e442", "#ff7f2a", "#8c9eff", "#b0b0b0"]
"""The same for a dark page: each lighter than half gray."""
SEQUENTIAL = "viridis"
WIDTH, HEIGHT = 640, 260
"""Of a chart in pixels, outside of a page."""
FORMATS = ("svg", "png", "html")

CONFIG: dict[str, Any] = {
    "font": "system-ui, sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelOverlap": "greedy"},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 200},
    "range": {"category": CATEGORIES},
    "mark": {"color": BLUE},
    "view": {"stroke": None},
}


def finished(chart: alt.Chart | alt.LayerChart, height: int = HEIGHT) -> Any:
    """The chart with the size and looks that all charts have."""
    return chart.properties(width=WIDTH, height=height).configure(**CONFIG)


def configured(chart: Any) -> Any:
    """A chart of several parts, which have sizes of their own, with the looks that all charts have."""
    return chart.configure(**CONFIG)


def save(chart: alt.Chart, url: str, *, overwrite: bool = True) -> str:
    """Write a chart as SVG, PNG, or a page that works offline, by the suffix of its name.

    Parameters
    ----------
    chart
        What a function of :mod:`cagdask.plot` returned.
    url
        Path or URL ending in ``.svg``, ``.png`` or ``.html``.
    overwrite
        Replace the file if it is there.

    Returns
    -------
    str
        Where it is.

    Raises
    ------
    ValueError
        The suffix is another one.
    StoreError
        The file is there already, or can not be written.
    """
    kind = url.rpartition(".")[2].lower()
    if kind not in FORMATS:
        raise ValueError(f"{url}: ends in none of {', '.join('.' + name for name in FORMATS)}. Name such a file.")
    url = storage.absolute(url)
    storage.check_target(url, overwrite=overwrite)
    storage.write_bytes(url, _rendered(chart.to_dict(), kind))
    return url


def _rendered(spec: dict[str, Any], kind: str) -> bytes:
    import vl_convert

    if kind == "svg":
        return str(vl_convert.vegalite_to_svg(spec)).encode()
    if kind == "png":
        return bytes(vl_convert.vegalite_to_png(spec, scale=2))
    return str(vl_convert.vegalite_to_html(spec, bundle=True)).encode()
