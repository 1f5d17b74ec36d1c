"""Drawings of the explanation pages, made when the docs are built, from the package's own numbers and functions.

Each function of :data:`DRAWINGS` draws one picture; ``docs/images/drawn/NAME.svg`` holds it. A page shows it as any
other image. A file that would be the same is left alone, so that pages are not built anew for nothing.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage
from sphinx.application import Sphinx

from cagdask.compute.memory import HIGHEST_SHARE, TASK_SHARE, WORKER_BASE
from cagdask.engine.linkage.noise_correction import bounds_of
from cagdask.plot.style import BLUE, ORANGE

FOLDER = Path(__file__).resolve().parent.parent / "images" / "drawn"
RESULTS = Path(__file__).resolve().parent.parent / "explanation" / "scale.jsonl"
GREEN, GRAY = "#009e73", "#8a929a"


def toy_profiles() -> np.ndarray:
    """Twelve genes of four genomes in twenty samples, as counts."""
    rng = np.random.default_rng(4)
    return rng.poisson(20 * rng.lognormal(0, 1.2, (4, 20)).repeat(3, axis=0)).astype(float)


def average_linkage() -> Figure:
    """A table of genes, its merge tree, and the groups that a threshold cuts it into."""
    rows = toy_profiles()
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    tree = linkage(rows, "average", "cosine")
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    table, merges = figure.subplots(1, 2, width_ratios=(1.2, 1))
    drawn = dendrogram(tree, ax=merges, orientation="right", color_threshold=0, above_threshold_color=BLUE)
    order = drawn["leaves"]
    unit = rows[order] / np.linalg.norm(rows[order], axis=1, keepdims=True)
    table.pcolormesh(np.sqrt(unit), cmap="viridis")
    table.set(xticks=[], xlabel="samples", yticks=np.arange(12) + 0.5, yticklabels=[f"gene {i}" for i in order])
    table.set_title("profiles, similar ones side by side")
    merges.axvline(0.2, color=ORANGE, linestyle="--")
    merges.text(0.21, 118, "max_dist", color=ORANGE, va="top")
    merges.set(yticks=[], xlabel="distance at which two groups join", title="merge tree")
    return figure


def reciprocal_pairs() -> Figure:
    """Rounds of merging: an arrow to each group's nearest, pairs that point at each other are joined."""
    rng = np.random.default_rng(11)
    place = rng.uniform(0, 1, (11, 2))
    size = np.ones(len(place))
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    for number, axes in enumerate(figure.subplots(1, 3)):
        distance = np.linalg.norm(place[:, None] - place[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        nearest = distance.argmin(axis=1)
        mutual = nearest[nearest] == np.arange(len(place))
        for i, j in enumerate(nearest):
            color = ORANGE if mutual[i] else GRAY
            arrow = {"arrowstyle": "->", "color": color, "linewidth": 1.6 if mutual[i] else 0.9}
            axes.annotate("", place[j], place[i], arrowprops=arrow)
        axes.scatter(*place.T, s=60 * size, color=BLUE, zorder=3)
        axes.set(xticks=[], yticks=[], title=f"round {number + 1}: {len(place)} groups", xlim=(-0.1, 1.1))
        axes.set_ylim(-0.1, 1.1)
        first = np.flatnonzero(mutual & (np.arange(len(place)) < nearest))
        other = nearest[first]
        weight = size[first] + size[other]
        joined = (place[first] * size[first, None] + place[other] * size[other, None]) / weight[:, None]
        alone = ~mutual
        place, size = np.concatenate([joined, place[alone]]), np.concatenate([weight, size[alone]])
    return figure


def certificate() -> Figure:
    """Two lists with their bounds: one that proves the nearest group, one that does not."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    cases = [
        ("The nearest group is known: B is above the bound.", (0.95, 0.90, 0.84), 0.84),
        ("After merges, it is not known: something that is not listed may lie above B.", (0.82, 0.78), 0.86),
    ]
    for axes, (title, listed, bound) in zip(figure.subplots(2, 1), cases, strict=True):
        axes.axvspan(0.7, bound, color=GRAY, alpha=0.25)
        axes.axvline(bound, color=ORANGE, linewidth=2)
        axes.text(bound, 1.02, "bound β", color=ORANGE, ha="center", va="bottom")
        axes.scatter(listed, [0.5] * len(listed), s=70, color=BLUE, zorder=3)
        for name, value in zip("BCD", listed, strict=False):
            axes.text(value, 0.68, name, ha="center")
        axes.text(0.71, 0.12, "groups that are not listed are in the gray part", fontsize=8)
        axes.set(xlim=(0.7, 1), ylim=(0, 1), yticks=[], xlabel="similarity to A")
        axes.set_title(title, fontsize=9, loc="left", pad=16)
    return figure


def sketch_bound() -> Figure:
    """Similarities of pairs of simulated genes beside the bounds that sketches of 32 numbers give."""
    rng = np.random.default_rng(2)
    profiles = rng.lognormal(0, 1.5, (60, 200)) * (rng.uniform(size=(60, 200)) < 0.3)
    genes = rng.poisson(5 * profiles.repeat(5, axis=0)).astype(float)
    unit = genes / np.maximum(np.linalg.norm(genes, axis=1, keepdims=True), 1e-12)
    group = rng.permutation(200) % 32
    sketch = np.sqrt(np.stack([(unit[:, group == g] ** 2).sum(axis=1) for g in range(32)], axis=1))
    upper = np.triu_indices(len(unit), 1)
    exact, bound = (unit @ unit.T)[upper], (sketch @ sketch.T)[upper]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    passed = bound >= 0.8
    for chosen, color, name in ((~passed, GRAY, "ruled out"), (passed, BLUE, "computed in full")):
        axes.scatter(exact[chosen], bound[chosen], s=3, color=color, label=f"{name}: {chosen.mean():.1%}",
                     rasterized=True)  # fmt: skip
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.axhline(0.8, color=ORANGE, linestyle="--")
    axes.text(0.5, 0.82, "threshold", color=ORANGE)
    axes.set(xlabel="similarity of two profiles", ylabel="bound from their sketches", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower right", markerscale=4)
    return figure


def noise_correction() -> Figure:
    """Similarity of two groups of one genome by depth, as measured and corrected for noise."""
    rng = np.random.default_rng(3)
    genome, stranger = rng.lognormal(0, 1, (2, 60))
    depths = np.geomspace(0.05, 100, 16)
    lines: dict[str, list[float]] = {"one genome, measured": [], "one genome, corrected": []}
    lines |= {"two genomes, measured": [], "two genomes, corrected": []}
    for depth in depths:
        a, b, c = (rng.poisson(depth * profile, (40, 60)) for profile in (genome, genome, stranger))
        within, between, across = _mean_correlation(a, a), _mean_correlation(a, b), _mean_correlation(a, c)
        other = _mean_correlation(c, c)
        lines["one genome, measured"].append(between)
        lines["one genome, corrected"].append(between / np.sqrt(within * _mean_correlation(b, b)))
        lines["two genomes, measured"].append(across)
        lines["two genomes, corrected"].append(across / np.sqrt(within * other))
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, values), color, style in zip(
        lines.items(), (BLUE, BLUE, GRAY, GRAY), ("--", "-", "--", "-"), strict=True
    ):
        axes.plot(depths, values, style, color=color, label=name)
    same = bounds_of(len(genome)).same
    axes.axhline(same, color=ORANGE, linewidth=1)
    axes.text(depths[-1], same + 0.01, f"joined from {same:.2f}", color=ORANGE, ha="right")
    axes.set(xscale="log", xlabel="mean reads per gene and sample", ylabel="similarity", ylim=(-0.4, 1.12))
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _mean_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Mean correlation of genes of two groups; of different genes where the groups are one."""
    rows = [np.asarray(x, float) - x.mean(axis=1, keepdims=True) for x in (a, b)]
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in rows]
    found = unit[0] @ unit[1].T
    return float(found[~np.eye(len(found), dtype=bool)].mean() if a is b else found.mean())


def memory_of_a_worker() -> Figure:
    """How the memory of a worker is divided, for three limits."""
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    axes = figure.subplots()
    for place, gib in enumerate((1, 2, 4)):
        limit = gib * 2**30
        arrays = min(TASK_SHARE * limit, HIGHEST_SHARE * limit - WORKER_BASE)
        parts = ((WORKER_BASE, GRAY, "Python and libraries"), (arrays, BLUE, "arrays of the running tasks"))
        left = 0.0
        for width, color, name in (*parts, (limit - WORKER_BASE - arrays, "#e8ebee", "kept free")):
            axes.barh(place, width / 2**30, left=left / 2**30, color=color, label=name if place == 0 else None)
            left += width
    axes.set(yticks=range(3), yticklabels=["1 GiB", "2 GiB", "4 GiB"], xlabel="GiB", ylabel="--memory-limit")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def scale_model() -> Figure:
    """Processor seconds of searching and of all else, as measured, with the power that fits each."""
    rows = [json.loads(text) for text in RESULTS.read_text().splitlines()]
    names = ("100k", "200k", "500k", "1m")
    kept = [row for row in rows if row["name"] in names and row["method"] == "cagdask" and not row["options"]]
    kept.sort(key=lambda row: row["genes"])
    genes = np.array([row["genes"] for row in kept], float)
    search = np.array([row["search_cpu_s"] for row in kept])
    rest = np.array([row["cpu_s"] for row in kept]) - search
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    further = np.geomspace(genes[0], 1e7, 20)
    for values, color, name in ((search, BLUE, "searching neighbors"), (rest, GREEN, "all else")):
        power, factor = np.polyfit(np.log(genes), np.log(values), 1)
        axes.plot(further, np.exp(factor) * further**power, "--", color=color, linewidth=1)
        axes.plot(genes, values, "o", color=color, label=f"{name}: genes to the power of {power:.2f}")
    axes.set(xscale="log", yscale="log", xlabel="genes (200 samples, 28 % not 0)", ylabel="processor seconds")
    axes.axvspan(genes[-1], 1e7, color=GRAY, alpha=0.12)
    axes.text(1.1e6, axes.get_ylim()[0] * 1.5, "extended,\nnot measured", fontsize=8)
    axes.legend(fontsize=8, loc="upper left")
    return figure


DRAWINGS = {
    "average-linkage": average_linkage,
    "reciprocal-pairs": reciprocal_pairs,
    "certificate": certificate,
    "sketch-bound": sketch_bound,
    "noise-correction": noise_correction,
    "memory-of-a-worker": memory_of_a_worker,
    "scale-model": scale_model,
}


def clean(axes: Axes) -> None:
    """Take off the lines that say nothing."""
    axes.spines[["top", "right"]].set_visible(False)


def draw(name: str) -> bytes:
    """A drawing as SVG; the same bytes each time."""
    style: dict[str, Any] = {"svg.hashsalt": "cagdask", "font.size": 9, "svg.fonttype": "none"}
    with mpl.rc_context(style):
        figure = DRAWINGS[name]()
        for axes in figure.axes:
            clean(axes)
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    return buffer.getvalue()


def write_all(_: Sphinx | None = None) -> None:
    """Write every drawing that is not there as it should be."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DRAWINGS:
        path, content = FOLDER / f"{name}.svg", draw(name)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw before pages are read."""
    app.connect("builder-inited", write_all)
    return {"parallel_read_safe": True}
