"""Pictures of answers: how like each other those are that were found, and how alike all pairs of genes are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.reports.figures import new_figure, plain, save_figure
from cagdask.vectors.names import Names
from cagdask.vectors.ranking import directions
from cagdask.vectors.sources import Vectors

MOST = 40
"""Rows of a heat map; more can not be read."""
_WRITTEN = 16  # rows up to which the values are written into the cells


def draw_neighbors(url: str, vectors: Vectors, names: Names, asked: list[str], found: list[str], metric: str) -> None:
    """Heat map of the similarities of those asked for and those found, each with each."""
    everyone = [*asked, *found]
    rows = names.rows(everyone)[:MOST]
    unit = directions(vectors.read_at(rows), "correlation" if metric == "correlation" else "cosine")
    word = "correlation" if metric == "correlation" else "cosine"
    title = f"{_listed(asked)} and the {len(found):,} most like {'it' if len(asked) == 1 else 'them'}, each with each"
    _heat_map(url, unit @ unit.T, [names.label(int(row)) for row in rows], word, title + _left_out(len(everyone)),
              _descriptions(names, rows))  # fmt: skip


def _listed(asked: list[str]) -> str:
    return ", ".join(asked[:3]) + (f" and {len(asked) - 3} more" if len(asked) > 3 else "")


def _left_out(n: int) -> str:
    return f"\n(the first {MOST} of {n:,})" if n > MOST else ""


def _descriptions(names: Names, rows: NDArray[np.int64]) -> list[str]:
    """What is known of each row; empty where nothing is."""
    known = names.descriptions
    return ["" if known is None else str(known[row]) for row in rows.tolist()]


def draw_analogies(url: str, vectors: Vectors, names: Names, found: dict[str, list[Any]], sign: int) -> None:
    """Heat map of the cosines between the differences (or sums) asked for and found, each with each."""
    pairs = [
        *zip(found["gene_a"], found["gene_b"], strict=True),
        *zip(found["gene_c"], found["gene_d"], strict=True),
    ]
    pairs = list(dict.fromkeys(pairs))
    rows = names.rows([name for pair in pairs[:MOST] for name in pair])
    read = vectors.read_at(rows).astype(np.float64)
    unit = directions(read[0::2] - sign * read[1::2], "cosine")
    symbol = "−" if sign > 0 else "+"
    labels = [f"{names.label(int(c))} {symbol} {names.label(int(d))}" for c, d in rows.reshape(-1, 2)]
    what = "differences" if sign > 0 else "sums"
    title = f"{what} of two genes that are most like the first one, each with each{_left_out(len(pairs))}"
    _heat_map(url, unit @ unit.T, labels, "cosine", title)


def _heat_map(
    url: str, values: NDArray[np.float64], labels: list[str], word: str, title: str, about: list[str] | None = None
) -> None:
    """Colors span the values beside the diagonal, which is 1 for every row and tells nothing."""
    n = len(labels)
    labels, title = [plain(label) for label in labels], plain(title)
    side = 2.4 + 0.26 * n
    described = (
        labels
        if about is None
        else [f"{label}  {plain(text, 34)}".rstrip() for label, text in zip(labels, about, strict=True)]
    )
    figure = new_figure(side + 1 + 0.085 * (max(map(len, described)) - max(map(len, labels))), side)
    axes = figure.add_subplot()
    low, high, colors = color_range(values)
    image = axes.imshow(np.clip(values, low, high), vmin=low, vmax=high, cmap=colors)
    axes.set_xticks(range(n), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(n), described, fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    digits = 2 if high - low > 0.1 else 3
    if n <= _WRITTEN:
        for row, column in np.ndindex(n, n):
            tone = (float(values[row, column]) - low) / (high - low)
            is_light = tone > 0.65 if colors == "viridis" else 0.2 < tone < 0.8
            axes.text(column, row, f"{values[row, column]:.{digits}f}", ha="center", va="center", fontsize=6,
                      color="black" if is_light else "white")  # fmt: skip
    figure.colorbar(image, ax=axes, label=word, shrink=0.8)
    save_figure(figure, url)


def color_range(values: NDArray[np.float64]) -> tuple[float, float, str]:
    """Least and largest value beside the diagonal, and the colors for them: two-sided where both signs occur."""
    beside = values[~np.eye(len(values), dtype=bool)]
    if not beside.size:
        return 0.0, 1.0, "viridis"
    low, high = float(beside.min()), float(beside.max())
    if low < 0 < high:
        most = max(-low, high)
        return -most, most, "RdBu_r"
    if high - low < 1e-6:  # all the same: no color range is theirs
        low, high = low - 5e-7, high + 5e-7
    return low, high, "viridis"


def draw_histogram(url: str, summary: dict[str, Any], metric: str) -> None:
    """Histogram of the similarities of all pairs."""
    edges, counts = (np.array(summary["histogram"][name]) for name in ("edges", "counts"))
    figure = new_figure()
    axes = figure.add_subplot()
    axes.stairs(counts, edges, fill=True)
    held = np.flatnonzero(counts)
    axes.set_xlim(edges[held[0]], edges[held[-1] + 1])
    axes.axvline(summary["mean"], color="black", linewidth=0.8, label="mean")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.set_xlabel(f"{metric} of two genes")
    axes.set_ylabel("pairs")
    axes.set_title(
        f"{summary['n_pairs']:,} pairs: mean {summary['mean']:.3f}, sd {summary['std']:.3f}, "
        f"{summary['minimum']:.3f} to {summary['maximum']:.3f}",
        fontsize=9,
    )
    save_figure(figure, url)
