"""The page of ``cagdask explore``: widgets of one reader, and what each of them changes.

    search --> gene --> CAG --> members, samples by metadata, nearest CAGs, similar genes
                         |
                         +----> slider: what it falls into at a smaller threshold
    heat map, map of all genes --tap--> CAG

Everything that comes out of the store is shown as text, never as HTML or code.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cagdask.explore.drawings import MOST_TIPS
from cagdask.explore.figures import DendrogramFigure, MapFigure, SamplesFigure, heat_map_figure, unit_of
from cagdask.explore.parts import (
    COMMAND,
    QUIET,
    Export,
    Tab,
    TableView,
    as_text,
    picture_pane,
    refill,
    table_widget,
    text,
)
from cagdask.explore.session import Session
from cagdask.explore.views import MOST_ROWS, Choice, samples_of

HEADING = {"font-size": "16px", "font-weight": "600"}
MEASURES = {"mean_abundance": "mean abundance", "std_abundance": "standard deviation"}
"""Measures of a CAG in words, where their names are none."""
NOTHING = "nothing"
THEMES = {"default": "Light", "dark": "Dark"}
"""Names of Panel, and what the page calls them."""
TABS = [
    ":host .bk-tab.bk-active { color: inherit; font-weight: 600 }",  # Panel's own is dark on dark
    ":host > [aria-hidden=true] { display: none !important }",  # Panel's own takes the room of the tallest tab
]
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
        self.hits = table_widget(session.find(""), self.dark, self._open)
        self.hits.param.update(layout="fit_columns", widths={"cag": 72, "genes": 104})  # long names leave them room
        self.search.param.watch(self._search, "value_input")
        self.tabs = pn.Tabs(sizing_mode="stretch_width", stylesheets=TABS)
        self.drawn: list[Tab] = []
        self.heading = text("", HEADING)
        self.above = Tab(self.cag_samples, (self.cag, self.color))
        self.cag_profile = SamplesView(session, self.dark)
        self.gene_profile = SamplesView(session, self.dark)
        self.tables = {
            name: TableView(session, name, self.dark, self._open)
            for name in ("members", "nearest", "similar", "analogy")
        }
        self.map_figure: MapFigure | None = None
        if session.has_cags:
            top = max(session.max_dist, 1e-6)
            self.threshold = pn.widgets.FloatSlider(
                name="Cut this CAG at", start=0.0, end=top, value=top, step=top / 100, format="0.000", width=300
            )
            self.split = SplitView(session, self.dark)

    # -- parts of the page -------------------------------------------------------------------------------------------

    def _theme_link(self) -> Any:
        """A link to the same page in the other theme."""
        import panel as pn

        other = "default" if self.dark else "dark"
        link = f'<a href="?theme={other}" style="color: inherit">{THEMES[other]} page</a>'
        return pn.pane.HTML(link, styles=QUIET)

    def _title(self) -> str:
        """How much the result holds."""
        counts = [counted(len(self.session.label), "gene"), counted(len(self.session.samples), "sample")]
        if self.session.has_cags:
            counts.append(counted(len(self.session.sizes), "CAG"))
        return ", ".join(counts)

    def choice(self, **changes: Any) -> Choice:
        """What the widgets say."""
        by = None if self.color.value == NOTHING else self.color.value
        return replace(Choice(cag=self.cag.value, by=by, rows=self.rows.value), **changes)

    # -- what a click does -------------------------------------------------------------------------------------------

    def _search(self, event: Any) -> None:
        refill(self.hits, self.session.find(event.new))

    def open_cag(self, cag: int) -> None:
        """Show another CAG."""
        if cag >= 0:
            self.cag.value = cag

    def _open(self, row: Any) -> None:
        """Show the gene, and the CAG, of a row of a table."""
        with one_message():
            if "gene" in row:
                self.gene.value = str(row["gene"])
            if "cag" in row:
                self.open_cag(int(row["cag"]))

    def refresh(self, *_: Any) -> None:
        """Fill anew what is looked at and has changed."""
        with one_message():
            if self.session.has_cags:
                self.above.refresh(is_active=True)
            for number, tab in enumerate(self.drawn):
                tab.refresh(is_active=number == self.tabs.active)

    # -- tabs --------------------------------------------------------------------------------------------------------

    def cag_samples(self, cag: int, _: Any = None) -> list[Any]:
        """Name and measures of the CAG, and its abundance in every sample."""
        found = self.session.describe(cag)
        words = [counted(int(found.pop("genes")), "gene")]
        words += [f"{MEASURES.get(name, name)} {value:.3g}" for name, value in found.items()]
        self.heading.object = as_text(f"CAG {cag}: " + ", ".join(words))
        return [self.heading, *self.cag_profile.fill(self.choice())]

    def similar(self, gene: str, *_: Any) -> list[Any]:
        """Genes most similar to one, and its own profile."""
        if not gene.strip():
            return [text("Name a gene, or click one in a table.")]
        choice = self.choice(genes=(gene,))
        return [*self.tables["similar"].fill(choice), *self.gene_profile.fill(choice)]

    def analogy(self, a: str, b: str, c: str, *_: Any) -> list[Any]:
        """Genes d for which a is to b as c is to d."""
        if not (a.strip() and b.strip() and c.strip()):
            return [text("Name three genes: A is to B as C is to the genes that are found.")]
        return self.tables["analogy"].fill(self.choice(genes=(a.strip(), b.strip(), c.strip())))

    def heat_map(self, rows: int, *_: Any) -> list[Any]:
        """The largest CAGs over samples."""
        choice = self.choice(rows=rows)
        export = Export(self.session, "heat-map")
        export.fill(choice)
        return [picture_pane(heat_map_figure(self.session, choice, self.open_cag), self.dark), export.shown]

    def map(self, cag: int, *_: Any) -> list[Any]:
        """All genes in a plane, and a ring around the CAG."""
        if self.map_figure is None:
            self.map_figure = MapFigure(self.session, cag, self.open_cag)
            export = Export(self.session, "map")
            export.fill(self.choice())
            self._map = [picture_pane(self.map_figure.picture, self.dark), export.shown]
        self.map_figure.mark(cag)
        return self._map

    # -- the whole page ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Say what has been read in the background since the last look, so that tabs that wait are filled."""
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
        parts = [text(self._title(), HEADING), text(self.session.url), self._theme_link(), self.search, self.hits]
        left = pn.Column(*parts, styles={"flex": "0 1 340px"})
        above = []
        if self.session.has_cags:
            self._add_cag_tabs()
            above = [pn.FlexBox(self.cag, self.color), self.above.shown]
        self._add_gene_tabs()
        for widget in {id(widget): widget for tab in (self.above, *self.drawn) for widget in tab.depends}.values():
            widget.param.watch(self.refresh, "value")
        self.tabs.param.watch(self.refresh, "active")
        self.refresh()
        right = pn.Column(*above, self.tabs, styles={"flex": "1 1 520px", "min-width": "0"})
        return pn.FlexBox(left, right, flex_wrap="wrap", sizing_mode="stretch_width")

    def _add_tab(
        self, name: str, fill: Callable[..., list[Any]], depends: Sequence[Any], above: Sequence[Any] = ()
    ) -> None:
        tab = Tab(fill, depends, above)
        self.drawn.append(tab)
        self.tabs.append((name, tab.shown))

    def _add_gene_tabs(self) -> None:
        import panel as pn

        self._add_tab("Similar genes", self.similar, (self.gene, self.color, self.read), [self.gene])
        self._add_tab("Analogies", self.analogy, (*self.abc, self.read), [pn.FlexBox(*self.abc)])

    def _add_cag_tabs(self) -> None:
        cag, tables = self.cag, self.tables
        self._add_tab("Genes", lambda _: tables["members"].fill(self.choice()), [cag])
        self._add_tab("Most similar CAGs", lambda _: tables["nearest"].fill(self.choice()), [cag])
        self._add_tab("Other thresholds", self.split.fill, (cag, self.threshold), [self.threshold])
        self._add_tab("Heat map", self.heat_map, (self.rows, self.color), [self.rows])
        self._add_tab("Map", self.map, (cag, self.read))


class SamplesView:
    """Abundance of a CAG, or of a gene, in every sample, grouped and colored by a column of the metadata."""

    def __init__(self, session: Session, dark: bool) -> None:
        self.session, self.dark = session, dark
        self.export = Export(session, "samples")
        self.figure: SamplesFigure | None = None

    def fill(self, choice: Choice) -> list[Any]:
        """Show what this choice makes; errors as of :meth:`TableView.fill`."""
        table = samples_of(self.session, choice)
        if self.figure is None or self.figure.by != choice.by:
            self.figure = SamplesFigure(table, choice.by, unit_of(self.session))
            self.pane = picture_pane(self.figure.picture, self.dark)
        else:
            self.figure.fill(table)
        self.export.fill(choice)
        return [self.pane, self.export.shown]


class SplitView:
    """The merges of a CAG, and what it falls into where the slider cuts it."""

    def __init__(self, session: Session, dark: bool) -> None:
        self.session, self.dark = session, dark
        self.cag = -1
        self.export = Export(session, "split")
        self.said, self.whole = text(""), text("", COMMAND)
        self.figure: DendrogramFigure | None = None

    def fill(self, cag: int, max_dist: float) -> list[Any]:
        """Show a CAG, cut at a distance."""
        found = self.session.split(cag, max_dist)
        if self.figure is None:
            self.figure = DendrogramFigure(self.session.max_dist)
            self.pane = picture_pane(self.figure.picture, self.dark)
            self.table = table_widget(found, self.dark)
        else:
            refill(self.table, found)
        if cag != self.cag:
            self.figure.fill(self.session.subtree(cag).branches(MOST_TIPS), max_dist)
            self.cag = cag
        else:
            self.figure.cut_at(max_dist)
        grouped = int((found["first gene"] != "each alone").sum())
        said = f"At {max_dist:.3f}: {counted(grouped, 'group')} of two genes or more."
        if grouped > 1 and max_dist >= self.session.max_dist:
            said += " They were joined to this CAG afterwards, since their mean profiles are alike."
        self.said.object = as_text(said)
        self.export.fill(Choice(cag=cag, max_dist=max_dist))
        self.whole.object = as_text(f"the whole result at this distance: {cut_command(self.session, max_dist)}")
        return [self.said, self.pane, self.table, self.export.shown, self.whole]


@contextmanager
def one_message() -> Iterator[None]:
    """What changes meanwhile is sent to the browser at once, which then lays the page out once."""
    import panel as pn

    with pn.io.hold():
        yield


def counted(n: int, thing: str) -> str:
    """A number of things, in words."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def cut_command(session: Session, max_dist: float) -> str:
    """The command that makes a result of this threshold."""
    return f"cagdask cut {shlex.quote(session.source)} --max-dist {max_dist:.6g} --output finer.zarr"
