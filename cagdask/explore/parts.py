"""Parts of the page that are made once and filled anew, since making widgets anew costs a browser most of a step.

A part is filled by a :class:`~cagdask.explore.views.Choice` and gives the widgets to show, the same every time; where
there is nothing to show, a :class:`Tab` shows the reason.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from cagdask.errors import CagdaskError
from cagdask.explore.figures import darkened
from cagdask.explore.gene_vectors import NotReadyError
from cagdask.explore.session import Session
from cagdask.explore.views import VIEWS, Choice, command_of, content_of, file_name

PAGE_ROWS = 12
TITLES = {"cag": "CAG", "genes": "genes in it"}
"""What columns are called on the page, where their names alone say too little."""
QUIET = {"opacity": "0.8"}  # of the color of the theme
COMMAND = QUIET | {"font-family": "monospace", "font-size": "12px"}
STALE, FRESH = {"visibility": "hidden"}, {"visibility": "inherit"}  # ``visible`` would lay the whole page out
WRAPPED = ["pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: 4px 0 }"]


def as_text(words: str) -> str:
    """HTML that shows these words; Panel's own pane for text would take them as HTML."""
    return f"<pre>{html.escape(words)}</pre>"


def text(words: str, styles: dict[str, str] = QUIET) -> Any:
    """A pane that shows words."""
    import panel as pn

    return pn.pane.HTML(as_text(words), styles=styles, stylesheets=WRAPPED, sizing_mode="stretch_width")


def picture_pane(drawn: Any, dark: bool) -> Any:
    """A pane that shows a Bokeh figure."""
    import panel as pn

    return pn.pane.Bokeh(darkened(drawn) if dark else drawn, sizing_mode="stretch_width")


def table_widget(table: Any, dark: bool, on_click: Callable[[Any], None] | None = None) -> Any:
    """A table, a page of it at a time; every cell is shown as text."""
    import panel as pn
    from bokeh.models.widgets.tables import NumberFormatter

    shown: dict[Any, Any] = {name: {"type": "plaintext"} for name in table.select_dtypes(exclude="number")}  # not HTML
    shown |= {name: NumberFormatter(format="0.0000") for name in table.select_dtypes("floating")}
    made = pn.widgets.Tabulator(
        table, disabled=True, show_index=False, pagination="local", page_size=PAGE_ROWS,
        sizing_mode="stretch_width", formatters=shown, titles=TITLES, theme="midnight" if dark else "simple",
    )  # fmt: skip
    if on_click is not None:
        made.on_click(lambda event: on_click(made.value.iloc[event.row]))
    return made


def refill(made: Any, table: Any) -> None:
    """Show another table of the same columns in a widget."""
    made.param.update(value=table, selection=[], page=1)


class Export:
    """Downloads of what is shown, and the command that makes the same file.

    Attributes
    ----------
    shown
        The widgets.
    """

    def __init__(self, session: Session, name: str) -> None:
        import panel as pn

        self.session, self.name, self.choice = session, name, Choice()
        suffixes = {"tsv": "Download table"} | ({"svg": "Download picture"} if VIEWS[name].is_picture else {})
        self.buttons = {suffix: self._button(suffix, label) for suffix, label in suffixes.items()}
        self.command = text("", COMMAND)
        self.shown = pn.Column(pn.Row(*self.buttons.values()), self.command, sizing_mode="stretch_width")

    def _button(self, suffix: str, label: str) -> Any:
        import panel as pn

        return pn.widgets.FileDownload(
            callback=lambda: BytesIO(content_of(self.session, self.name, self.choice, suffix)),
            filename=file_name(self.name, self.choice, suffix), label=label, button_type="default", width=150,
        )  # fmt: skip

    def fill(self, choice: Choice) -> None:
        """Offer what this choice shows."""
        self.choice = choice
        for suffix, button in self.buttons.items():
            button.filename = file_name(self.name, choice, suffix)
        self.command.object = as_text(command_of(self.session, self.name, choice))


class TableView:
    """A table of the page with its downloads; a click on a row opens what it names."""

    def __init__(self, session: Session, name: str, dark: bool, on_click: Callable[[Any], None]) -> None:
        self.session, self.name, self.dark, self.on_click = session, name, dark, on_click
        self.export = Export(session, name)
        self.table: Any = None

    def fill(self, choice: Choice) -> list[Any]:
        """Show what this choice makes.

        Raises
        ------
        ValueError, CagdaskError, NotReadyError
            It makes nothing.
        """
        table = VIEWS[self.name].table(self.session, choice)
        if self.table is None:
            self.table = table_widget(table, self.dark, self.on_click)
        else:
            refill(self.table, table)
        self.export.fill(choice)
        return [self.table, self.export.shown]


class Tab:
    """One tab, filled when it is looked at and something that it depends on has changed since.

    Parameters
    ----------
    fill
        Fills the widgets of the tab by the values of ``depends``, and returns them.
    depends
        Widgets.
    above
        Widgets that are always there.

    Attributes
    ----------
    shown
        The content of the tab.
    """

    def __init__(self, fill: Callable[..., list[Any]], depends: Sequence[Any], above: Sequence[Any] = ()) -> None:
        import panel as pn

        self.fill, self.depends = fill, depends
        self.content = pn.Column(sizing_mode="stretch_width")
        self.shown = pn.Column(*above, self.content, sizing_mode="stretch_width")
        self.values: tuple[Any, ...] | None = None

    def refresh(self, *, is_active: bool) -> None:
        """Fill it if it is looked at; else hide what is no longer so, lest it be seen when the tab is opened."""
        values = tuple(widget.value for widget in self.depends)
        if values == self.values:
            return
        if not is_active:
            self.content.styles = STALE
            return
        self.values = values
        try:
            made = self.fill(*values)
        except (ValueError, CagdaskError, NotReadyError) as err:
            made = [text(str(err))]
        if list(self.content.objects) != made:
            self.content.objects = made
        self.content.styles = FRESH
