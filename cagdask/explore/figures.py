"""Pictures of the page: Bokeh figures, drawn by the browser, from what a session answers.

The map is an image of some 400 × 400 pixels that this process counts anew for every part that is looked at, so that a
browser never holds a point per gene.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.explore.cag_map import density
from cagdask.explore.drawings import color_of
from cagdask.explore.session import Session
from cagdask.explore.views import Choice, HeatMap, heat_map_of
from cagdask.plot.merges import Branches
from cagdask.plot.samples import brightness_of
from cagdask.plot.style import BLUE, ORANGE

if TYPE_CHECKING:
    import pandas as pd

PIXELS = 400
"""Of the map, along each side."""
GROUND, LINE, INK = "#121212", "#4a5663", "#e7edf3"
"""Of figures on a dark page."""
TOOLS = "pan,wheel_zoom,box_zoom,reset,save"


def _figure(**options: Any) -> Any:
    from bokeh.plotting import figure

    options = {"sizing_mode": "stretch_width", "tools": TOOLS, "toolbar_location": "above"} | options
    made = figure(**options)
    made.toolbar.logo = None
    made.axis.minor_tick_line_color = None
    return made


def darkened(picture: Any) -> Any:
    """The same figure in light colors on a dark ground."""
    from bokeh.models import ColorBar

    picture.background_fill_color = picture.border_fill_color = GROUND
    picture.outline_line_color = picture.grid.grid_line_color = LINE
    for axis in picture.axis:
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_line_color = axis.major_tick_line_color = LINE
    for key in picture.legend:
        key.background_fill_color, key.border_line_color, key.label_text_color = GROUND, LINE, INK
    for bar in picture.select({"type": ColorBar}):
        bar.background_fill_color, bar.title_text_color, bar.major_label_text_color = GROUND, INK, INK
    return picture


def unit_of(session: Session) -> str:
    """What an axis of abundances is called: with the normalization, since ``clr`` and others change its scale."""
    normalization = session.parameters.get("normalization", "none")
    return "abundance" if normalization == "none" else f"abundance ({normalization})"


def _legend_above(picture: Any, words: list[str]) -> None:
    """Put the legend where it covers nothing, in as many columns as a narrow page has room for."""
    key = picture.legend[0]
    key.orientation, key.ncols = "horizontal", max(1, 44 // (6 + max(map(len, words))))
    picture.add_layout(key, "above")
    picture.height += 24 * (-(-len(words) // key.ncols))


class SamplesFigure:
    """A bar for each sample, grouped and colored by a column of the metadata.

    Parameters
    ----------
    table
        Of :func:`cagdask.explore.views.samples_of`.
    by
        The column; None for one color.
    unit
        What the abundance is measured in, as :func:`unit_of` says.

    Attributes
    ----------
    picture
        The Bokeh figure.
    """

    def __init__(self, table: pd.DataFrame, by: str | None, unit: str) -> None:
        from bokeh.models import ColumnDataSource, HoverTool

        self.by = by
        kinds = sorted(set(table["group"])) if by else [""]
        self.picture = _figure(height=280, y_axis_label=unit)
        tooltips = [("sample", "@sample"), ("abundance", "@top"), *([(by, "@word")] if by else [])]
        self.picture.add_tools(HoverTool(tooltips=tooltips))
        self.bars = {kind: ColumnDataSource() for kind in kinds}
        self.fill(table)
        for kind, color in color_of(kinds).items():
            legend = {"legend_label": kind} if by else {}
            self.picture.vbar("x", top="top", width=0.9, source=self.bars[kind], color=color, **legend)
        if by:
            _legend_above(self.picture, kinds)
        self.picture.xaxis.axis_label = (
            f"{len(table):,} samples, by {by}" if by else f"{len(table):,} samples, by abundance"
        )
        self.picture.xaxis.ticker = []
        self.picture.x_range.range_padding = 0.01
        self.picture.xgrid.visible = False

    def fill(self, table: pd.DataFrame) -> None:
        """Show another CAG, or gene, of the same samples."""
        words = table["group"].to_numpy() if self.by else np.full(len(table), "", object)
        for kind, source in self.bars.items():
            places = np.flatnonzero(words == kind)
            here = table.iloc[places]
            source.data = {"x": places, "top": here["abundance"].to_numpy(), "word": [kind] * len(places),
                           "sample": here["sample"].to_numpy()}  # fmt: skip


def heat_map_figure(session: Session, choice: Choice, open_cag: Callable[[int], None]) -> Any:
    """The largest CAGs over samples; a tap opens a CAG, and every zoom shows finer cells."""
    from bokeh.events import Tap
    from bokeh.models import ColorBar, HoverTool, LinearColorMapper

    made = heat_map_of(session, choice)
    rows, columns = made.share.shape
    mapper = LinearColorMapper(palette="Viridis256", low=0, high=1)
    picture = _figure(height=min(640, max(240, 15 * rows)), x_range=(0, columns), y_range=(rows, 0))
    names = np.broadcast_to(np.asarray(made.sample, object), made.share.shape)
    cags = np.broadcast_to(made.cag[:, None].astype(np.int32), made.share.shape)
    if made.share.size <= 100_000:  # a name per cell is sent
        data = {"image": [made.share], "cag": [cags], "sample": [names.tolist()]}
        tooltips = [("CAG", "@cag"), ("sample", "@sample"), ("color", "@image")]
    else:
        data = {"image": [made.share], "cag": [cags]}
        tooltips = [("CAG", "@cag"), ("color", "@image")]
    data |= {"x": [0], "y": [0], "dw": [columns], "dh": [rows]}
    picture.image("image", x="x", y="y", dw="dw", dh="dh", source=data, color_mapper=mapper, level="image")
    picture.add_tools(HoverTool(tooltips=tooltips))
    picture.add_layout(ColorBar(color_mapper=mapper, title=brightness_of(session.ds)), "right")
    if choice.by:
        _add_strip(picture, made)
    shown = range(0, rows, max(1, rows // 35))
    picture.yaxis.ticker = [i + 0.5 for i in shown]
    picture.yaxis.major_label_overrides = {i + 0.5: f"CAG {made.cag[i]}" for i in shown}
    picture.xaxis.visible = False
    picture.grid.visible = False
    picture.on_event(Tap, lambda event: _open_row(event, made, open_cag))
    return picture


def _open_row(event: Any, made: HeatMap, open_cag: Callable[[int], None]) -> None:
    if event.y is not None and 0 <= event.y < len(made.cag):
        open_cag(int(made.cag[int(event.y)]))


def _add_strip(picture: Any, made: HeatMap) -> None:
    """A bar above the heat map that says which samples are of which group."""
    height = len(made.cag) * 0.03
    for kind, color in color_of(sorted(set(made.word))).items():
        places = np.flatnonzero(made.word == kind)
        picture.quad(left=places[0], right=places[-1] + 1, top=-2 * height, bottom=-height, color=color,
                     legend_label=kind)  # fmt: skip
    picture.y_range.end = -2.5 * height
    _legend_above(picture, sorted(set(made.word)))


class MapFigure:
    """The map of all genes: zooming counts pixels anew, a tap opens the nearest CAG.

    Attributes
    ----------
    picture
        The Bokeh figure.
    """

    def __init__(self, session: Session, cag: int, open_cag: Callable[[int], None]) -> None:
        from bokeh.events import RangesUpdate, Tap
        from bokeh.models import ColumnDataSource, LinearColorMapper

        self.session, self.open_cag = session, open_cag
        edge = session.cag_map().edge
        whole = (-edge, edge)
        self.picture = _figure(height=560, x_range=whole, y_range=whole, match_aspect=True, active_scroll="wheel_zoom")
        self.image = ColumnDataSource(data=self._counted(whole, whole))
        mapper = LinearColorMapper(palette="Viridis256", low=0, nan_color="rgba(0,0,0,0)")
        self.picture.image("image", x="x", y="y", dw="dw", dh="dh", source=self.image, color_mapper=mapper)
        self.ring = ColumnDataSource(data={"x": [], "y": []})
        self.picture.scatter("x", "y", source=self.ring, size=18, fill_alpha=0, line_color=ORANGE, line_width=3)
        self.mark(cag)
        self.picture.axis.visible = False
        self.picture.grid.visible = False
        self.picture.on_event(RangesUpdate, lambda event: self.look_at((event.x0, event.x1), (event.y0, event.y1)))
        self.picture.on_event(Tap, lambda event: self.tap(event.x, event.y))

    def _counted(self, x: tuple[float, float], y: tuple[float, float]) -> dict[str, Any]:
        counts = density(self.session.gene_places, x, y, (PIXELS, PIXELS))
        image = np.log1p(counts).astype(np.float32)
        image[counts == 0] = np.nan
        return {"image": [image], "x": [x[0]], "y": [y[0]], "dw": [x[1] - x[0]], "dh": [y[1] - y[0]]}

    def look_at(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Count the pixels of another part of the map."""
        self.image.data = self._counted(x, y)

    def mark(self, cag: int) -> None:
        """Put a ring around a CAG."""
        x, y = self.session.cag_map().place[cag].tolist()
        self.ring.data = {"x": [x], "y": [y]}

    def tap(self, x: float, y: float) -> None:
        """Open the CAG nearest to a point."""
        place = self.session.cag_map().place
        self.open_cag(int(np.argmin((place[:, 0] - x) ** 2 + (place[:, 1] - y) ** 2)))


class DendrogramFigure:
    """The merges of a CAG, with a line where they are cut.

    Parameters
    ----------
    highest
        The largest distance that is drawn.

    Attributes
    ----------
    picture
        The Bokeh figure.
    """

    def __init__(self, highest: float) -> None:
        from bokeh.models import ColumnDataSource, Span

        self.height = np.zeros(0)
        self.picture = _figure(height=260, y_axis_label="distance", y_range=(0, max(highest, 1e-6) * 1.05))
        self.lines = ColumnDataSource(data={"xs": [], "ys": [], "color": []})
        self.picture.multi_line("xs", "ys", color="color", source=self.lines)
        self.span = Span(location=0, dimension="width", line_color=ORANGE, line_dash="dashed", line_width=2)
        self.picture.add_layout(self.span)
        self.picture.xaxis.visible = False
        self.picture.xgrid.visible = False

    def _colors(self, cut: float) -> list[str]:
        return [BLUE if height <= cut else "#a0a8b0" for height in self.height]

    def fill(self, made: Branches, cut: float) -> None:
        """Show another CAG, cut at a distance."""
        self.height = made.heights[:, 2]
        x, y = made.lines()
        self.lines.data = {"xs": x.tolist(), "ys": y.tolist(), "color": self._colors(cut)}
        self.span.location = cut

    def cut_at(self, cut: float) -> None:
        """Move the line."""
        self.span.location = cut
        if len(self.height):
            self.lines.patch({"color": [(slice(len(self.height)), self._colors(cut))]})
