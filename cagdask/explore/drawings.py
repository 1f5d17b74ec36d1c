"""Pictures of the page as files, drawn by matplotlib: the same choice gives the same bytes."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.explore.cag_map import density
from cagdask.explore.session import Session
from cagdask.explore.views import Choice, heat_map_of, samples_of
from cagdask.plot.samples import brightness_of
from cagdask.plot.style import BLUE, CATEGORIES, ORANGE, SEQUENTIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PIXELS = 300
"""Of the map, along each side."""
MOST_TIPS = 200
"""Leaves of a dendrogram; what lies below is one leaf."""
MOST_LABELS = 60
"""Rows of a heat map that are named."""


def draw(session: Session, name: str, choice: Choice, suffix: str) -> bytes:
    """A picture as ``png`` or ``svg``."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = {"samples": _samples, "heat-map": _heat_map, "map": _map, "split": _dendrogram}[name]
    with mpl.rc_context({"svg.hashsalt": "cagdask", "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(8, 8 if name == "map" else 4.5), layout="constrained")
        drawn(session, choice, figure.subplots())
        buffer = BytesIO()
        metadata = {"Date": None} if suffix == "svg" else {"Software": None}
        figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
    return buffer.getvalue()


def color_of(kinds: list[str]) -> dict[str, str]:
    """A color for each word."""
    return {kind: CATEGORIES[i % len(CATEGORIES)] for i, kind in enumerate(kinds)}


def _samples(session: Session, choice: Choice, axes: Axes) -> None:
    table = samples_of(session, choice)
    words = table["group"].to_numpy() if choice.by else np.full(len(table), "", object)
    colors = color_of(sorted(set(words)))
    for kind, color in colors.items():
        places = np.flatnonzero(words == kind)
        axes.bar(places, table["abundance"].to_numpy()[places], 0.9, color=color, label=kind)
    if choice.by:
        axes.legend(title=choice.by)
    axes.set(xticks=[], xlabel="samples", ylabel="abundance", title=choice.genes[0] if choice.genes else None)
    if not choice.genes:
        axes.set_title(f"CAG {choice.cag}, {int(session.sizes[choice.cag]):,} genes")


def _heat_map(session: Session, choice: Choice, axes: Axes) -> None:
    made = heat_map_of(session, choice)
    drawn = axes.imshow(made.share, aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    axes.figure.colorbar(drawn, label=brightness_of(session.ds))
    axes.set(xticks=[], xlabel="samples", yticks=[])
    if len(made.cag) <= MOST_LABELS:
        axes.set_yticks(range(len(made.cag)), [f"CAG {cag}" for cag in made.cag], fontsize=6)
    if choice.by:
        colors = color_of(sorted(set(made.word)))
        for kind, color in colors.items():
            places = np.flatnonzero(made.word == kind)
            axes.axvspan(places[0] - 0.5, places[-1] + 0.5, 1, 1.03, color=color, clip_on=False, label=kind)
        axes.legend(title=choice.by, loc="upper right", fontsize=7)


def _map(session: Session, choice: Choice, axes: Axes) -> None:
    edge = session.cag_map(wait=True).edge
    counts = density(session.gene_places, (-edge, edge), (-edge, edge), (PIXELS, PIXELS))
    shown: Any = np.ma.masked_equal(counts, 0)
    drawn = axes.imshow(shown, origin="lower", cmap=SEQUENTIAL, norm="log", extent=(-edge, edge, -edge, edge))
    axes.figure.colorbar(drawn, label="genes per pixel", shrink=0.7, format="{x:,.0f}")
    axes.set(xticks=[], yticks=[], title=f"{int((session.label >= 0).sum()):,} genes of {len(session.sizes):,} CAGs")


def _dendrogram(session: Session, choice: Choice, axes: Axes) -> None:
    made = session.subtree(choice.cag).branches(MOST_TIPS)
    cut = session.max_dist if choice.max_dist is None else choice.max_dist
    for x, y in zip(*made.lines(), strict=True):
        axes.plot(x, y, color=BLUE if y[1] <= cut else "#a0a8b0", linewidth=0.8)
    axes.axhline(cut, color=ORANGE, linestyle="--", linewidth=1)
    axes.set(xticks=[], ylabel="distance", ylim=(0, None), title=f"Merges of CAG {choice.cag}, cut at {cut:.3f}")
