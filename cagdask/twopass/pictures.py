"""Pictures of a two-pass clustering: dendrogram of the sample, distances of the items, sizes of the clusters."""

from __future__ import annotations

from typing import Any

import numpy as np

from cagdask import storage
from cagdask.reports.figures import new_figure, save_figure

LARGEST_DENDROGRAM = 200
"""Leaves to draw; what joined below them is one leaf."""
LARGEST_BARS = 60


def draw_all(report: dict[str, Any], leaders: str, folder: str) -> list[str]:
    """Draw every picture that the report has numbers for; returns the names of the files."""
    drawn = {"distances.png": _distances, "sizes.png": _sizes}
    for name, draw in drawn.items():
        draw(report, storage.join(folder, name))
    if "drawn_sizes" in report and storage.open_array(leaders, "merge_height").shape[0]:
        _dendrogram(report, leaders, storage.join(folder, "dendrogram.png"))
        return ["dendrogram.png", *drawn]
    return list(drawn)


def _dendrogram(report: dict[str, Any], leaders: str, url: str) -> None:
    from scipy.cluster.hierarchy import dendrogram

    child, height = (np.asarray(storage.open_array(leaders, f"merge_{name}")[:]) for name in ("child", "height"))
    n = len(height) + 1
    size = np.ones(n + len(height))
    for i, (a, b) in enumerate(child.tolist()):
        size[n + i] = size[a] + size[b]
    table = np.column_stack([child, height, size[n:]]).astype(np.float64)
    tree = dendrogram(table, p=LARGEST_DENDROGRAM, truncate_mode="lastp", no_plot=True)
    below, above = report["cut_between"]
    figure = new_figure(7.2, 4.0)
    axes = figure.subplots()
    for x, y in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(x, y, color="C0" if max(y) <= below else "0.4", linewidth=0.8)
    axes.axhline((below + above) / 2, color="C3", linewidth=0.8, linestyle="--")
    axes.set_xticks([])
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"height of {report['parameters']['linkage']} linkage")
    shown = f", the last {len(tree['leaves']):,} branches" if n > LARGEST_DENDROGRAM else ""
    axes.set_title(f"{n:,} {report['items']} of the sample, cut into {report['n_clusters']}{shown}")
    save_figure(figure, url)


def _distances(report: dict[str, Any], url: str) -> None:
    figure = new_figure()
    axes = figure.subplots()
    counts = np.asarray(report["distance_counts"])
    axes.stairs(counts, report["distance_edges"], fill=True, color="C0")
    held = counts[counts > 0]
    if len(held) and held.max() > 50 * held.min():  # small bars would not be seen
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(f"{int(counts.sum()):,} {report['items']} by their distance to the nearest leader", fontsize=9)
    max_dist = report["parameters"]["max_dist"]
    if max_dist is not None and max_dist <= report["distance_edges"][-1]:
        axes.axvline(max_dist, color="C3", linewidth=0.8, linestyle="--")
    axes.set_xlabel(f"{report['parameters']['metric']} distance to the nearest leader")
    axes.set_ylabel(report["items"])
    save_figure(figure, url)


def _sizes(report: dict[str, Any], url: str) -> None:
    sizes = report["sizes"][:LARGEST_BARS]
    names = [str(i) for i in range(1, len(sizes) + 1)]
    if report["n_unassigned"]:
        sizes, names = [*sizes, report["n_unassigned"]], [*names, "none"]
    figure = new_figure()
    axes = figure.subplots()
    axes.bar(range(len(sizes)), sizes, color=["C0"] * (len(sizes) - 1) + ["0.6" if names[-1] == "none" else "C0"])
    axes.set_xticks(range(len(sizes)), names, rotation=90 if len(sizes) > 12 else 0, fontsize=7)
    axes.set_xlabel("cluster")
    axes.set_ylabel(report["items"])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    n = len(report["sizes"])
    which = f"the largest {LARGEST_BARS} of {n:,}" if n > LARGEST_BARS else f"the {n:,}"
    axes.set_title(f"{report['items']} in each of {which} clusters", fontsize=9)
    save_figure(figure, url)
