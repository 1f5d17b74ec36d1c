"""The page of ``cagdask explore``: widgets of one reader, and what each of them changes.

    search --> gene --> CAG --> members, samples by metadata, nearest CAGs, similar genes
                         |
                         +----> slider: what it falls into at a smaller threshold
    heat map, map of all genes --tap--> CAG

Everything that comes out of the store is shown as text, never as HTML or code.
"""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

from cagdask.errors import CagdaskError
from cagdask.explore.drawings import MOST_TIPS
from cagdask.explore.figures import DendrogramFigure, MapFigure, darkened, heat_map_figure, samples_figure
from cagdask.explore.gene_vectors import NotReadyError
from cagdask.explore.session import Session
from cagdask.explore.views import MOST_ROWS, VIEWS, Choice, command_of, content_of, file_name

PAGE_ROWS = 12
HEADING = {"font-size": "16px", "font-weight": "600"}
QUIET = {"opacity": "0.8"}  # of the color of the theme
COMMAND = QUIET | {"font-family": "monospace", "font-size": "12px"}
WRAPPED = ["pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: 4px 0 }"]
NOTHING = "nothing"
THEMES = {"default": "Light", "dark": "Dark"}
"""Names of Panel, and what the page calls them."""
ACTIVE_TAB = [":host .bk-tab.bk-active { color: inherit; font-weight: 600 }"]  # Panel's own is dark on dark
TICK = 700
"""Milliseconds between looks at what is read in the background."""


class Explorer:
    """Widgets of one reader, and what each of them changes.

    Parameters
    ----------
    session
        The result.
    """

    def __init__(self, session: Session) -> None:
        import panel as pn

        self.session = session
        self.dark = pn.config.theme == "dark"
        columns = [NOTHING, *map(str, session.samples.columns)]
        self.search = pn.widgets.TextInput(name="Find a gene", placeholder="name, or a part of it")
        self.cag = pn.widgets.IntInput(name="CAG", value=0, start=0, end=max(0, len(session.sizes) - 1), width=120)
        self.color = pn.widgets.Select(name="Color samples by", options=columns, width=200)
        self.rows = pn.widgets.IntInput(name="CAGs shown", value=40, start=2, end=MOST_ROWS, width=120)
        self.gene = pn.widgets.TextInput(name="Gene", placeholder="as it is in the table")
        self.abc = [pn.widgets.TextInput(name=name, width=180) for name in ("A is to", "B as", "C is to ?")]
        self.read = pn.widgets.StaticText(value="")  # changes when something was read in the background
        self.hits = self._table(session.find(""), self._open)
        self.search.param.watch(self._search, "value_input")
        self.map_figure: MapFigure | None = None
        self._cutting: Any = None
        self.cag.param.watch(self._mark, "value")
        self.tabs = pn.Tabs(sizing_mode="stretch_width", stylesheets=ACTIVE_TAB)
        if session.has_cags:
            top = max(session.max_dist, 1e-6)
            self.threshold = pn.widgets.FloatSlider(
                name="Cut this CAG at", start=0.0, end=top, value=top, step=top / 100, format="0.000", width=300
            )

    # -- parts of the page -------------------------------------------------------------------------------------------

    def _table(self, table: Any, on_click: Callable[[Any], None] | None = None) -> Any:
        import panel as pn

        text = {
            name: {"type": "plaintext"} for name in table.select_dtypes(exclude="number")
        }  # by itself it takes HTML
        made = pn.widgets.Tabulator(
            table, disabled=True, show_index=False, pagination="local", page_size=PAGE_ROWS,
            sizing_mode="stretch_width", formatters=text, theme="midnight" if self.dark else "simple",
        )  # fmt: skip
        if on_click is not None:
            made.on_click(lambda event: on_click(made.value.iloc[event.row]))
        return made

    def _picture(self, drawn: Any) -> Any:
        import panel as pn

        return pn.pane.Bokeh(darkened(drawn) if self.dark else drawn, sizing_mode="stretch_width")

    def _text(self, words: str, styles: dict[str, str] = QUIET) -> Any:
        import panel as pn

        return pn.pane.HTML(as_text(words), styles=styles, stylesheets=WRAPPED, sizing_mode="stretch_width")

    def _theme_link(self) -> Any:
        """A link to the same page in the other theme."""
        import panel as pn

        other = "default" if self.dark else "dark"
        link = f'<a href="?theme={other}" style="color: inherit">{THEMES[other]} page</a>'
        return pn.pane.HTML(link, styles=QUIET)

    def choice(self, **changes: Any) -> Choice:
        """What the widgets say."""
        by = None if self.color.value == NOTHING else self.color.value
        return replace(Choice(cag=self.cag.value, by=by, rows=self.rows.value), **changes)

    def export(self, name: str, choice: Choice) -> Any:
        """Downloads of what is shown, and the command that makes the same file."""
        import panel as pn

        def download(suffix: str, label: str) -> Any:
            return pn.widgets.FileDownload(
                callback=lambda: BytesIO(content_of(self.session, name, choice, suffix)),
                filename=file_name(name, choice, suffix), label=label, button_type="default", width=150,
            )  # fmt: skip

        buttons = [download("tsv", "Download table")]
        if VIEWS[name].is_picture:
            buttons.append(download("svg", "Download picture"))
        command = self._text(command_of(self.session, name, choice), COMMAND)
        return pn.Column(pn.Row(*buttons), command, sizing_mode="stretch_width")

    def shown(self, make: Callable[[], Any]) -> Any:
        """What ``make`` gives; or, where it can not, why."""
        try:
            return make()
        except (ValueError, CagdaskError, NotReadyError) as err:
            return self._text(str(err))

    # -- what a click does -------------------------------------------------------------------------------------------

    def _search(self, event: Any) -> None:
        self.hits.value = self.session.find(event.new)

    def _mark(self, event: Any) -> None:
        if self.map_figure is not None:
            self.map_figure.mark(event.new)

    def open_cag(self, cag: int) -> None:
        """Show another CAG."""
        if cag >= 0:
            self.cag.value = cag

    def _open(self, row: Any) -> None:
        """Show the gene, and the CAG, of a row of a table."""
        if "gene" in row:
            self.gene.value = str(row["gene"])
        if "cag" in row:
            self.open_cag(int(row["cag"]))

    # -- tabs --------------------------------------------------------------------------------------------------------

    def heading(self, cag: int) -> Any:
        """Name and measures of the CAG."""
        found = self.session.describe(cag)
        words = [counted(int(found.pop("genes")), "gene")]
        words += [f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items()]
        return self._text(f"CAG {cag}: " + ", ".join(words), HEADING)

    def view(self, name: str, **changes: Any) -> Any:
        """A table of the page with its downloads; a click on a row opens what it names."""
        import panel as pn

        choice = self.choice(**changes)

        def make() -> Any:
            table = VIEWS[name].table(self.session, choice)
            return pn.Column(self._table(table, self._open), self.export(name, choice), sizing_mode="stretch_width")

        return self.shown(make)

    def samples(self, *_: Any, **changes: Any) -> Any:
        """Abundance in every sample, grouped and colored by a column of the metadata."""
        import panel as pn

        choice = self.choice(**changes)

        def make() -> Any:
            picture = self._picture(samples_figure(self.session, choice))
            return pn.Column(picture, self.export("samples", choice), sizing_mode="stretch_width")

        return self.shown(make)

    def split(self, cag: int) -> Any:
        """The merges of the CAG, and a slider that cuts them anew while it is moved."""
        import panel as pn

        session = self.session
        drawn = DendrogramFigure(session.subtree(cag).branches(MOST_TIPS), self.threshold.value, session.max_dist)
        said, table = self._text(""), self._table(session.split(cag, self.threshold.value))
        below = pn.Column(sizing_mode="stretch_width")

        def cut(max_dist: float) -> None:
            found = session.split(cag, max_dist)
            grouped = int((found["first gene"] != "each alone").sum())
            said.object = as_text(f"At {max_dist:.3f}: {counted(grouped, 'group')} of two genes or more.")
            table.value = found
            drawn.cut_at(max_dist)
            exported = self.export("split", self.choice(max_dist=max_dist))
            whole = f"the whole result at this distance: {cut_command(session, max_dist)}"
            below.objects = [exported, self._text(whole, COMMAND)]

        if self._cutting is not None:  # of the CAG that was shown before
            self.threshold.param.unwatch(self._cutting)
        self._cutting = self.threshold.param.watch(lambda event: cut(event.new), "value")
        cut(self.threshold.value)
        picture = self._picture(drawn.picture)
        return pn.Column(said, picture, table, below, sizing_mode="stretch_width")

    def similar(self, gene: str, _: Any = None) -> Any:
        """Genes most similar to one, and its own profile."""
        import panel as pn

        if not gene.strip():
            return self._text("Name a gene, or click one in a table.")
        parts = [self.view("similar", genes=(gene,)), self.samples(genes=(gene,))]
        return pn.Column(*parts, sizing_mode="stretch_width")

    def analogy(self, a: str, b: str, c: str, _: Any = None) -> Any:
        """Genes d for which a is to b as c is to d."""
        if not (a.strip() and b.strip() and c.strip()):
            return self._text("Name three genes: A is to B as C is to the genes that are found.")
        return self.view("analogy", genes=(a.strip(), b.strip(), c.strip()))

    def heat_map(self, rows: int, _: Any = None) -> Any:
        """The largest CAGs over samples."""
        import panel as pn

        choice = self.choice(rows=rows)

        def make() -> Any:
            picture = self._picture(heat_map_figure(self.session, choice, self.open_cag))
            return pn.Column(picture, self.export("heat-map", choice), sizing_mode="stretch_width")

        return self.shown(make)

    def map(self, _: Any = None) -> Any:
        """All genes in a plane."""
        import panel as pn

        def make() -> Any:
            self.map_figure = MapFigure(self.session, self.cag.value, self.open_cag)
            picture = self._picture(self.map_figure.picture)
            return pn.Column(picture, self.export("map", self.choice()), sizing_mode="stretch_width")

        return self.shown(make)

    # -- the whole page ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Say what has been read in the background since the last look, so that tabs that wait are made again."""
        vectors = self.session.vectors
        done = vectors is None or vectors.is_ready
        read = "all" if done else f"{vectors.share_read:.0%}" if vectors else ""
        mapped = self.session.is_mapped
        self.read.value = f"profiles {read}, map {mapped}"
        if done and mapped:
            self._ticking.stop()

    def page(self) -> Any:
        """The whole page."""
        import panel as pn

        self._ticking = pn.state.add_periodic_callback(self._tick, period=TICK, start=False)
        pn.state.onload(self._ticking.start)  # a change before the browser has the page would not be known there
        parts = [self._text(self.session.url), self._theme_link(), self.search, self.hits]
        left = pn.Column(*parts, styles={"flex": "0 1 340px"})
        above = self._add_cag_tabs() if self.session.has_cags else []
        self._add_gene_tabs()
        right = pn.Column(*above, self.tabs, styles={"flex": "1 1 520px", "min-width": "0"})
        return pn.FlexBox(left, right, flex_wrap="wrap", sizing_mode="stretch_width")

    def _add_tab(self, name: str, make: Callable[..., Any], *depends: Any, above: tuple[Any, ...] = ()) -> None:
        """A tab that is made when it is looked at, and when what it depends on changes meanwhile."""
        import panel as pn

        number = len(self.tabs)

        def made(active: int, *values: Any) -> Any:
            return make(*values) if active == number else pn.Spacer(height=0)

        content = pn.Column(*above, pn.bind(made, self.tabs.param.active, *depends), sizing_mode="stretch_width")
        self.tabs.append((name, content))

    def _add_gene_tabs(self) -> None:
        import panel as pn

        self._add_tab("Similar genes", self.similar, self.gene, self.read, above=(self.gene,))
        self._add_tab("Analogies", self.analogy, *self.abc, self.read, above=(pn.FlexBox(*self.abc),))

    def _add_cag_tabs(self) -> list[Any]:
        import panel as pn

        cag = self.cag
        self._add_tab("Genes", lambda _: self.view("members"), cag)
        self._add_tab("Most similar CAGs", lambda _: self.view("nearest"), cag)
        self._add_tab("Other thresholds", self.split, cag, above=(self.threshold,))
        self._add_tab("Heat map", self.heat_map, self.rows, self.color, above=(self.rows,))
        self._add_tab("Map", self.map, self.read)
        return [pn.FlexBox(cag, self.color), pn.bind(self.heading, cag), pn.bind(self.samples, cag, self.color)]


def as_text(words: str) -> str:
    """HTML that shows these words; Panel's own pane for text would take them as HTML."""
    return f"<pre>{html.escape(words)}</pre>"


def counted(n: int, thing: str) -> str:
    """A number of things, in words."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def cut_command(session: Session, max_dist: float) -> str:
    """The command that makes a result of this threshold."""
    return f"cagdask cut {shlex.quote(session.source)} --max-dist {max_dist:.6g} --output finer.zarr"
