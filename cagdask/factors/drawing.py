"""Pictures of factors: how the error fell, what the programs hold, which k is stable, how replicates agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.reports import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cagdask.factors.hals import Float32

MAX_ROWS = 400
"""Rows of a heat map at most; of more, every second, third, … is shown."""
_TOP = 8  # genes named per component
_PANELS = 12  # components drawn with their genes


def draw_result(
    folder: str, trace: list[float], latent: Float32, loading: Float32, top: list[list[tuple[str, float]]]
) -> None:
    """``objective.png``, ``loadings.png`` and ``top_genes.png`` of a factorization."""
    figures.save_figure(draw_trace(trace), storage.join(folder, "objective.png"))
    figures.save_figure(draw_loadings(latent, loading), storage.join(folder, "loadings.png"))
    figures.save_figure(draw_top(top), storage.join(folder, "top_genes.png"))


def draw_trace(trace: list[float]) -> Figure:
    """Squared error after each pass of the solver."""
    figure = figures.new_figure()
    axes = figure.subplots()
    axes.plot(np.arange(1, len(trace) + 1), trace, marker="." if len(trace) < 40 else "")
    axes.set(xlabel="pass of the solver", ylabel="squared error")
    if max(trace, default=0) > 0:  # an exact fit has no logarithm
        axes.set_yscale("log")
    return figure


def _scaled(values: NDArray[Any]) -> NDArray[Any]:
    """Columns divided by their largest entry."""
    largest = np.abs(values).max(axis=0)
    scaled: NDArray[Any] = values / np.where(largest > 0, largest, 1)
    return scaled


def _by_component(values: Float32) -> Float32:
    """Rows ordered by the component they belong to most, and how much."""
    shown = values[:: max(1, len(values) // MAX_ROWS)]
    scaled = _scaled(shown)
    return shown[np.lexsort((-scaled.max(axis=1), scaled.argmax(axis=1)))]


def draw_loadings(latent: Float32, loading: Float32) -> Figure:
    """Heat maps of genes and samples, rows grouped by their main component."""
    figure = figures.new_figure(8, 5)
    for axes, values, title in zip(figure.subplots(1, 2), (loading, latent), ("genes", "samples"), strict=True):
        image = axes.imshow(_scaled(_by_component(values)), aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        axes.set(xlabel="component", ylabel=f"{title}, by main component", yticks=[])
    figure.colorbar(image, ax=figure.axes, label="share of the component's largest")
    return figure


def draw_top(top: list[list[tuple[str, float]]]) -> Figure:
    """Bars of the genes that weigh most in each of the first components."""
    n = min(len(top), _PANELS)
    columns = min(4, n)
    rows = -(-n // columns)
    figure = figures.new_figure(2.6 * columns, 1.6 * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for number, axes in enumerate(panels):
        if number >= n:
            axes.set_axis_off()
            continue
        genes = top[number][:_TOP]
        axes.barh(range(len(genes)), [weight for _, weight in genes])
        axes.set_yticks(range(len(genes)), [_short(name) for name, _ in genes], fontsize=6)
        axes.invert_yaxis()
        axes.set_title(f"NMF_{number}", fontsize=8)
        axes.tick_params(axis="x", labelsize=6)
    return figure


def _short(name: str) -> str:
    plain = name.replace("$", r"\$")
    return plain if len(name) <= 22 else f"{plain[:21]}…"


def draw_selection(ks: list[int], stability: list[float], error: list[float]) -> Figure:
    """Stability and error over the number of components."""
    figure = figures.new_figure()
    left = figure.subplots()
    right = left.twinx()
    left.plot(ks, stability, marker="o", color="tab:blue")
    right.plot(ks, error, marker="s", color="tab:red")
    left.set_xlabel("components k")
    left.set_ylabel("stability (silhouette)", color="tab:blue")
    right.set_ylabel("relative squared error", color="tab:red")
    right.spines["right"].set_visible(True)
    return figure


def draw_clustergram(
    distance: NDArray[Any], labels: NDArray[np.int64], density: NDArray[Any], threshold: float
) -> Figure:
    """Distances of the replicates' programs, grouped by cluster, and their local densities."""
    kept = np.flatnonzero(density < threshold)
    order = kept[np.argsort(labels[kept], kind="stable")]
    order = order[:: max(1, -(-len(order) // MAX_ROWS))]
    figure = figures.new_figure(9, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    image = left.imshow(distance[np.ix_(order, order)], interpolation="nearest", vmin=0, cmap="viridis_r")
    left.set(xlabel="programs of all replicates", ylabel="by consensus program", xticks=[], yticks=[])
    for edge in np.flatnonzero(np.diff(labels[order])):
        left.axhline(edge + 0.5, color="white", linewidth=0.6)
        left.axvline(edge + 0.5, color="white", linewidth=0.6)
    figure.colorbar(image, ax=left, label="Euclidean distance")
    right.hist(density, bins=40)
    right.axvline(threshold, color="tab:red")
    right.set(
        xlabel="mean distance to nearest programs", ylabel="programs", xlim=(0, max(density.max(), threshold) * 1.05)
    )
    return figure
