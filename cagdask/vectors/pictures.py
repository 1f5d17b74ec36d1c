"""Pictures of answers: how like each other those are that were found, and how alike all pairs of genes are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.reports.figures import new_figure, save_figure
from cagdask.vectors.names import Names
from cagdask.vectors.ranking import directions
from cagdask.vectors.sources import Vectors

MOST = 40
"""Rows of a heat map; more can not be read."""


def draw_neighbors(url: str, vectors: Vectors, names: Names, asked: list[str], found: list[str], metric: str) -> None:
    """Heat map of the similarities of those asked for and those found, each with each."""
    rows = names.rows([*asked, *found])[:MOST]
    unit = directions(vectors.read_at(rows), "correlation" if metric == "correlation" else "cosine")
    word = "correlation" if metric == "correlation" else "cosine"
    _heat_map(url, unit @ unit.T, [names.label(int(row)) for row in rows], word)


def draw_analogies(url: str, vectors: Vectors, names: Names, found: dict[str, list[Any]], sign: int) -> None:
    """Heat map of the cosines between the differences (or sums) asked for and found, each with each."""
    pairs = [
        *zip(found["gene_a"], found["gene_b"], strict=True),
        *zip(found["gene_c"], found["gene_d"], strict=True),
    ]
    pairs = list(dict.fromkeys(pairs))[:MOST]
    rows = names.rows([name for pair in pairs for name in pair])
    read = vectors.read_at(rows).astype(np.float64)
    unit = directions(read[0::2] - sign * read[1::2], "cosine")
    symbol = "−" if sign > 0 else "+"
    labels = [f"{names.label(int(c))} {symbol} {names.label(int(d))}" for c, d in rows.reshape(-1, 2)]
    _heat_map(url, unit @ unit.T, labels, "cosine")


def _heat_map(url: str, values: NDArray[np.float64], labels: list[str], word: str) -> None:
    side = 2.2 + 0.24 * len(labels)
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(np.clip(values, -1, 1), vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    figure.colorbar(image, ax=axes, label=word, shrink=0.8)
    save_figure(figure, url)


def draw_histogram(url: str, summary: dict[str, Any], metric: str) -> None:
    """Histogram of the similarities of all pairs."""
    edges, counts = (np.array(summary["histogram"][name]) for name in ("edges", "counts"))
    figure = new_figure()
    axes = figure.add_subplot()
    axes.stairs(counts, edges, fill=True)
    held = np.flatnonzero(counts)
    axes.set_xlim(edges[held[0]], edges[held[-1] + 1])
    axes.axvline(summary["mean"], color="black", linewidth=0.8)
    axes.set_xlabel(f"{metric} of two genes")
    axes.set_ylabel("pairs")
    axes.set_title(
        f"{summary['n_pairs']:,} pairs: mean {summary['mean']:.3f}, sd {summary['std']:.3f}, "
        f"{summary['minimum']:.3f} to {summary['maximum']:.3f}",
        fontsize=9,
    )
    save_figure(figure, url)
