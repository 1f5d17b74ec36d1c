"""The page of ``cagdask explore``: one result, walked through in a browser.

    search --> gene --> CAG --> members, samples by metadata, nearest CAGs
                         |
                         +----> slider: what it falls into at a smaller threshold

Panel serves the page from this process, each reader with widgets of their own over one :class:`Session`. Everything
that comes out of the store is shown as text, never as HTML or code.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.explore.session import Session
from cagdask.plot.samples import categories, is_continuous
from cagdask.plot.style import CATEGORIES

if TYPE_CHECKING:
    import pandas as pd

LOCAL = ("localhost", "127.0.0.1", "::1")
PAGE_ROWS = 12
HEADING = {"font-size": "16px", "font-weight": "600", "white-space": "pre-wrap"}
QUIET = {"color": "#4d5a68", "overflow-wrap": "anywhere", "white-space": "pre-wrap"}


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
        columns = ["nothing", *session.samples.columns]
        self.search = pn.widgets.TextInput(name="Find a gene", placeholder="name, or a part of it")
        self.cag = pn.widgets.IntInput(name="CAG", value=0, start=0, end=max(0, len(session.sizes) - 1), width=120)
        self.color = pn.widgets.Select(name="Color samples by", options=columns, width=200)
        self.threshold = pn.widgets.FloatSlider(
            name="Cut this CAG at", start=0.0, end=max(session.max_dist, 1e-6), value=session.max_dist,
            step=max(session.max_dist, 1e-6) / 100, format="0.000", width=300,
        )  # fmt: skip
        self.hits = pn.widgets.Tabulator(
            session.find(""), disabled=True, show_index=False, pagination="local", page_size=PAGE_ROWS
        )
        self.hits.on_click(self._open_hit)
        self.search.param.watch(self._search, "value_input")

    def _search(self, event: Any) -> None:
        self.hits.value = self.session.find(event.new)

    def _open_hit(self, event: Any) -> None:
        cag = int(self.hits.value["cag"].iloc[event.row])
        if cag >= 0:
            self.cag.value = cag

    def _open_near(self, event: Any, table: pd.DataFrame) -> None:
        self.cag.value = int(table["cag"].iloc[event.row])

    # -- what follows from the CAG that is chosen ---------------------------------------------------------------------

    def heading(self, cag: int) -> Any:
        """Name and measures of the CAG."""
        import panel as pn

        found = self.session.describe(cag)
        words = [f"{int(found.pop('genes')):,} genes", *(f"{name} {value:.3g}" for name, value in found.items())]
        return pn.pane.Str(
            f"CAG {cag}: " + ", ".join(words),
            styles=HEADING,
        )

    def members(self, cag: int) -> Any:
        """Table of its genes."""
        import panel as pn

        return pn.widgets.Tabulator(
            self.session.members(cag), disabled=True, show_index=False, pagination="local", page_size=PAGE_ROWS
        )

    def near(self, cag: int) -> Any:
        """Table of the CAGs with the most similar profile; a click opens one."""
        import panel as pn

        table = self.session.nearest_cags(cag)
        made = pn.widgets.Tabulator(table, disabled=True, show_index=False)
        made.on_click(lambda event: self._open_near(event, table))
        return made

    def split(self, cag: int, max_dist: float | None) -> Any:
        """What it falls into at a smaller threshold, and the command that makes such a result."""
        import panel as pn

        max_dist = self.session.max_dist if max_dist is None else max_dist  # before the slider was touched
        table = self.session.split(cag, max_dist)
        grouped = int((table["first gene"] != "each alone").sum())
        said = f"At {max_dist:.3f}: {grouped} groups of two genes or more."
        command = pn.pane.Str(self.session.cut_command(max_dist), styles={"font-family": "monospace"})
        return pn.Column(said, pn.widgets.Tabulator(table.head(50), disabled=True, show_index=False), command)

    def samples(self, cag: int, column: str) -> Any:
        """Abundance of the CAG in every sample, grouped and colored by a column of the metadata."""
        import panel as pn
        from bokeh.models import HoverTool
        from bokeh.plotting import figure

        table = self.session.samples[[]].assign(abundance=self.session.profile(cag))
        words = self._words(column)
        order = np.lexsort((-table["abundance"].to_numpy(), words if words is not None else np.zeros(len(table))))
        picture = figure(height=300, sizing_mode="stretch_width", toolbar_location="above", y_axis_label="abundance",
                         tools="pan,wheel_zoom,box_zoom,reset,save")  # fmt: skip
        picture.add_tools(HoverTool(tooltips=[("sample", "@sample"), ("abundance", "@top"), (column, "@word")]))
        kinds = sorted(set(words)) if words is not None else [""]
        for i, kind in enumerate(kinds):
            places = np.flatnonzero(words[order] == kind) if words is not None else np.arange(len(order))
            rows = order[places]
            data = {"x": places, "top": table["abundance"].to_numpy()[rows], "sample": table.index[rows],
                    "word": [kind] * len(rows)}  # fmt: skip
            legend = {"legend_label": kind} if words is not None else {}
            picture.vbar("x", top="top", width=0.9, source=data, color=CATEGORIES[i % len(CATEGORIES)], **legend)
        picture.xaxis.visible = False
        picture.xgrid.visible = False
        return pn.pane.Bokeh(picture, sizing_mode="stretch_width")

    def _words(self, column: str) -> Any:
        if column == "nothing":
            return None
        values = self.session.samples[column]
        if not is_continuous(values):
            return categories(values).astype(str)
        edges = np.nanquantile(values.to_numpy(float), [0.25, 0.5, 0.75])
        names = np.array(["lowest quarter", "second quarter", "third quarter", "highest quarter", "missing"])
        place = np.searchsorted(edges, values.to_numpy(float))
        place[values.isna().to_numpy()] = 4
        return names[place]

    def page(self) -> Any:
        """The whole page."""
        import panel as pn

        cag = self.cag
        name = pn.pane.Str(
            self.session.url,
            styles=QUIET,
        )
        left = pn.Column(name, self.search, self.hits, styles={"flex": "0 1 340px"})
        split = pn.bind(self.split, cag, self.threshold.param.value_throttled)
        tabs = pn.Tabs(
            ("Genes", pn.bind(self.members, cag)),
            ("Most similar CAGs", pn.bind(self.near, cag)),
            ("Other thresholds", pn.Column(self.threshold, split)),
            dynamic=True,
        )
        right = pn.Column(
            pn.Row(cag, self.color),
            pn.bind(self.heading, cag),
            pn.bind(self.samples, cag, self.color),
            tabs,
            styles={"flex": "1 1 520px", "min-width": "0"},
        )
        return pn.FlexBox(left, right, flex_wrap="wrap", sizing_mode="stretch_width")


def explore(result: str, *, port: int = 0, address: str = "localhost", show: bool = False, block: bool = True) -> Any:
    """Serve a result as a page to walk through.

    Parameters
    ----------
    result
        Path or URL of a result store, or the folder of a run.
    port
        Port to listen on; 0 takes a free one.
    address
        Address to listen on. Anything but this machine alone needs the password that is printed.
    show
        Open a browser.
    block
        Serve until interrupted; else return the server.

    Returns
    -------
    Server
        The running server, with ``port``, ``password`` (None on this machine alone) and ``stop()``.

    Raises
    ------
    ImportError
        Panel is not installed.
    StoreError, SchemaError
        There is no such result.
    """
    try:
        import panel as pn
    except ImportError as err:
        raise ImportError("explore needs Panel: pip install 'cagdask[explore]'") from err
    session = Session(result)
    session.sizes  # noqa: B018  # refused here rather than in the browser
    session.read_names_ahead()
    pn.extension("tabulator")
    password = None if address in LOCAL else secrets.token_urlsafe(16)
    options: dict[str, Any] = {"basic_auth": password, "cookie_secret": secrets.token_hex(16)} if password else {}
    server = pn.serve(
        lambda: Explorer(session).page(), port=port, address=address, show=show, start=False, threaded=False,
        title=f"cagdask: {result}", websocket_origin="*" if password else None, verbose=False, **options,
    )  # fmt: skip
    server.password = password
    if block:
        server.run_until_shutdown()
    return server
