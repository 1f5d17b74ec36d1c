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
_PANELS = 24  # components drawn with their genes


def draw_result(
    folder: str,
    trace: list[float],
    latent: Float32,
    loading: Float32,
    top: list[list[tuple[str, float]]],
    rows_are: str,
) -> None:
    """``objective.png``, ``loadings.png`` and ``top_genes.png`` of a factorization of ``rows_are`` (genes or CAGs)."""
    figures.save_figure(draw_trace(trace), storage.join(folder, "objective.png"))
    figures.save_figure(draw_loadings(latent, loading, rows_are), storage.join(folder, "loadings.png"))
    figures.save_figure(draw_top(top, rows_are), storage.join(folder, "top_genes.png"))


def draw_trace(trace: list[float]) -> Figure:
    """Squared error after each pass of the solver."""
    figure = figures.new_figure()
    axes = figure.subplots()
    axes.plot(np.arange(1, len(trace) + 1), trace, marker="." if len(trace) < 40 else "")
    axes.set(xlabel="pass of the solver", ylabel="squared error", title=f"error over {len(trace)} passes of the solver")
    axes.locator_params(axis="x", integer=True)
    if max(trace, default=0) > 10 * min(trace, default=0) > 0:  # else numbers are easier to read than powers of ten
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_formatter("{x:,.0f}" if max(trace, default=0) >= 1000 else "{x:.4g}")
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


def draw_loadings(latent: Float32, loading: Float32, rows_are: str) -> Figure:
    """Heat maps of genes and samples, rows grouped by their main component."""
    figure = figures.new_figure(8, 5)
    panels = zip(figure.subplots(1, 2), (loading, latent), (rows_are, "samples"), strict=True)
    for axes, values, title in panels:
        image = axes.imshow(_scaled(_by_component(values)), aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        axes.set(xlabel="component", ylabel=f"{title}, by main component", yticks=[], title=_chosen(title, len(values)))
        axes.locator_params(axis="x", integer=True)
    figure.colorbar(image, ax=figure.axes, label="share of the component's largest")
    return figure


def _chosen(title: str, n: int) -> str:
    """What of many rows is shown."""
    return f"each {n // MAX_ROWS}th of the {title}" if n >= 2 * MAX_ROWS else title


def draw_top(top: list[list[tuple[str, float]]], rows_are: str) -> Figure:
    """Bars of the genes that weigh most in each component."""
    n = min(len(top), _PANELS)
    columns = min(3, n)
    rows = -(-n // columns)
    figure = figures.new_figure(3.6 * columns, 0.4 + 1.7 * rows)
    rest = f": the first {n} of {len(top)}; all are in top_genes.tsv" if n < len(top) else ""
    figure.suptitle(f"{rows_are} with the largest scores in each component{rest}", fontsize=10)
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for number, axes in enumerate(panels):
        if number >= n:
            axes.set_axis_off()
            continue
        genes = top[number][:_TOP]
        axes.barh(range(len(genes)), [weight for _, weight in genes])
        axes.set_yticks(range(len(genes)), [figures.plain(name, 30) for name, _ in genes], fontsize=8)
        axes.invert_yaxis()
        axes.set_title(f"NMF_{number}", fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.locator_params(axis="x", nbins=4)
    return figure


def draw_selection(ks: list[int], stability: list[float], error: list[float], recommended: int) -> Figure:
    """Stability and error over the number of components; the recommended number is marked."""
    figure = figures.new_figure()
    left = figure.subplots()
    right = left.twinx()
    left.plot(ks, stability, marker="o", color="tab:blue")
    right.plot(ks, error, marker="s", color="tab:red", linestyle="--")
    left.axvline(recommended, color="0.6", linewidth=6, alpha=0.4)
    left.locator_params(axis="x", integer=True)
    if len(ks) <= 15:
        left.set_xticks(ks)
    left.set_title(f"recommended: k = {recommended}")
    left.set_xlabel("components k")
    left.set_ylabel("stability (silhouette, circles)", color="tab:blue")
    right.set_ylabel("relative squared error (squares)", color="tab:red")
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
    left.set(xlabel="programs of all replicates", ylabel="by consensus program", xticks=[], yticks=[],
             title=f"{len(kept):,} of {len(labels):,} programs kept")  # fmt: skip
    for edge in np.flatnonzero(np.diff(labels[order])):
        left.axhline(edge + 0.5, color="white", linewidth=0.6)
        left.axvline(edge + 0.5, color="white", linewidth=0.6)
    figure.colorbar(image, ax=left, label="Euclidean distance")
    right.hist(density, bins=40)
    right.axvline(threshold, color="tab:red", label="threshold")
    right.legend(frameon=False, fontsize=8)
    right.locator_params(axis="y", integer=True)
    right.set(
        xlabel="mean distance to nearest programs", ylabel="programs", xlim=(0, max(density.max(), threshold) * 1.05)
    )
    return figure
