"""Pictures: drawn without a screen, written as PNG, the same bytes each time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from cagdask import storage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 120,
    "font.size": 9,
    "image.cmap": "viridis",
}
"""What matplotlib is told; its stubs list every key, which a plain dict is not matched against."""


def plain(text: str, n: int = 0) -> str:
    r"""A text of at most ``n`` characters, 0: of any length, that Matplotlib shows as it is: ``$`` begins a formula.

    Examples
    --------
    >>> print(plain("costs $5 or more", 9))
    costs \$5…
    """
    cut = text if not n or len(text) <= n else f"{text[: n - 1]}…"
    return cut.replace("$", r"\$")


def new_figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure of this many inches; it belongs to no global state, so any thread may draw one."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, url: str) -> None:
    """Write a figure as PNG to a path or URL, in place of what is there."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    storage.write_bytes(url, buffer.getvalue())
