"""Serving the page of ``cagdask explore``, and writing one of its views as a file.

Panel serves the page from this process, each reader with widgets of their own over one session.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

from cagdask import storage
from cagdask.explore.session import Session
from cagdask.explore.views import VIEWS, Choice, content_of

LOCAL = ("localhost", "127.0.0.1", "::1")
SAY_WHAT_IT_IS = """
const mend = (root) => {
  const set = (what, attributes) => root.querySelectorAll(what).forEach((found) => {
    for (const [name, value] of Object.entries(attributes)) if (found.getAttribute(name) !== value)
      value === null ? found.removeAttribute(name) : found.setAttribute(name, value)
  })
  set(".noUi-handle", {"aria-label": "Cut this CAG at"})
  set(".bk-spin-btn-up", {"aria-label": "one more"})
  set(".bk-spin-btn-down", {"aria-label": "one less"})
  set(".tabulator", {"aria-label": "table"})
  set(".tabulator-tableholder", {"tabindex": null})
  set(".tabulator-footer", {"role": "rowgroup"})
  set(".tabulator-footer-contents", {"role": "row"})
  set(".tabulator-paginator", {"role": "gridcell"})
  root.querySelectorAll("*").forEach((found) => found.shadowRoot && mend(found.shadowRoot))
}
document.documentElement.lang = "en"
setInterval(() => mend(document), 1000)
"""
"""Names and roles that widgets of other makers lack, for those who hear the page; widgets come and go, so again and
again."""
FOLLOW_THE_SYSTEM = """
const here = new URL(location.href)
if (!here.searchParams.has("theme") && matchMedia("(prefers-color-scheme: dark)").matches) {
  here.searchParams.set("theme", "dark")
  location.replace(here)
}
"""
"""Where nothing else is asked for, the page is as dark as the screen. Panel takes the theme from the URL."""
SUFFIXES = ("tsv", "parquet", "png", "svg")


def explore(result: str, *, port: int = 0, address: str = "localhost", show: bool = False, block: bool = True) -> Any:
    """Serve a result as a page to walk through.

    Parameters
    ----------
    result
        Path or URL of a result store, the folder of a run, or a store of abundances or of an embedding.
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
    is_shown = threading.Event()  # what takes long is read when the first page is there
    session.read_ahead(is_shown)
    pn.extension("tabulator")
    password = None if address in LOCAL else secrets.token_urlsafe(16)
    options: dict[str, Any] = {"basic_auth": password, "cookie_secret": secrets.token_hex(16)} if password else {}
    server = pn.serve(
        lambda: _page(session, is_shown), port=port, address=address, show=show, start=False, threaded=False,
        title=f"cagdask: {result}", websocket_origin="*" if password else None, verbose=False, **options,
    )  # fmt: skip
    server.password = password
    if block:
        server.run_until_shutdown()
    return server


def _page(session: Session, is_shown: threading.Event) -> Any:
    import panel as pn
    from bokeh.models import CustomJS

    from cagdask.explore.page import Explorer

    pn.state.onload(is_shown.set)
    for code in (FOLLOW_THE_SYSTEM, SAY_WHAT_IT_IS):
        pn.state.curdoc.js_on_event("document_ready", CustomJS(code=code))
    return Explorer(session).page()


def write_view(result: str, name: str, output: str, *, overwrite: bool = False, **choice: Any) -> str:
    """Write one view of the page as a file.

    Parameters
    ----------
    result
        As for :func:`explore`.
    name
        One of :data:`cagdask.explore.views.VIEWS`.
    output
        Path or URL ending in ``.tsv`` or ``.parquet``, or for a picture in ``.png`` or ``.svg``.
    overwrite
        Replace the file if it is there.
    choice
        Fields of :class:`cagdask.explore.views.Choice`.

    Returns
    -------
    str
        Where it is.

    Raises
    ------
    ValueError
        The suffix is another one, or the choice does not fit the view.
    StoreError, SchemaError
        There is no such result, or the file is there already.
    """
    suffix = output.rpartition(".")[2].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{output}: ends in none of {', '.join('.' + one for one in SUFFIXES)}. Name such a file.")
    given = [option for option, value in choice.items() if value != getattr(Choice, option, ())]
    for option in given:
        if option not in VIEWS[name].options:
            raise ValueError(f"`{option}` is not for the view {name}; it takes {', '.join(VIEWS[name].options)}.")
    output = storage.absolute(output)
    storage.check_target(output, overwrite=overwrite)
    session = Session(result)
    made = Choice(**choice)
    if made.genes and session.vectors is not None:
        session.vectors.load()
    storage.write_bytes(output, content_of(session, name, made, suffix))
    return output
