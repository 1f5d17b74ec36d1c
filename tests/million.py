"""A result of a million genes in a minute: planted groups in place of clustered ones, all else as a run leaves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.simulation.writing import simulate_store
from tests.result_store import write_result_store

STEP = 50_000
"""Genes that are read at a time."""


def write_million(folder: Path, n_genes: int = 1_000_000, n_samples: int = 200) -> str:
    """``abundance.zarr`` and ``cags.zarr`` in a folder; CAGs are the planted genomes, and genes of none are alone."""
    store = str(folder / "abundance.zarr")
    truth = simulate_store(store, n_genes=n_genes, n_samples=n_samples, seed=0)
    label, sizes = labels_of(truth)
    genes = [str(name) for name in storage.open_array(store, "gene_id")[:]]
    url = write_result_store(str(folder / "cags.zarr"), label, genes, n_samples=n_samples)
    child, height = merges_of(label, sizes)
    group = storage.open_group(url, writable=True)
    for name, values in (("merge_child", child), ("merge_height", height), ("cag_abundance", means(store, label))):
        del group[name]
        storage.write_array(group, name, values)
    storage.finish_group(group)
    return str(folder)


def labels_of(truth: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """CAG of each gene, the largest 0, genes of no genome alone; and the size of each."""
    own = np.where(truth < 0, truth.max() + 1 + np.arange(len(truth)), truth)
    _, place, counts = np.unique(own, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[place], counts[order]


def merges_of(label: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A tree that joins the genes of every CAG one by one, at heights of 0 to 0.2."""
    n = len(label)
    rows = np.argsort(label, kind="stable")
    first = np.zeros(n, bool)
    first[np.concatenate([[0], np.cumsum(sizes)[:-1]])] = True
    joining = rows[~first]
    joining = joining[np.random.default_rng(0).permutation(len(joining))]
    node = rows[first].tolist()  # of each CAG, as it grows
    child = np.empty((len(joining), 2), np.int64)
    for i, (gene, cag) in enumerate(zip(joining.tolist(), label[joining].tolist(), strict=True)):
        child[i] = (gene, node[cag]) if gene < node[cag] else (node[cag], gene)
        node[cag] = n + i
    return child, np.linspace(0, 0.2, len(joining))


def means(store: str, label: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean profile of every CAG, of shares of the samples, shape (n_cags, n_samples)."""
    array = storage.open_array(store, "abundance")
    total = np.zeros((int(label.max()) + 1, array.shape[1]), np.float32)
    depth = np.zeros(array.shape[1])
    for begin in range(0, len(label), STEP):
        block = np.asarray(array[begin : begin + STEP])
        depth += block.sum(axis=0, dtype=np.float64)
        order = np.argsort(label[begin : begin + STEP], kind="stable")
        found, start = np.unique(label[begin : begin + STEP][order], return_index=True)
        total[found] += np.add.reduceat(block[order], start, axis=0)
    return (total / np.bincount(label)[:, None] / depth).astype(np.float32)
