"""A result of a million genes in half a minute: planted groups in place of clustered ones, in the stores of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from tests.conftest import write_abundance_store
from tests.result_store import write_result_store

CHUNK = 5_242
"""Rows of a chunk: as ingest plans them for this table."""
N_GROUPS = 20_000
ALONE = 0.2
"""Share of genes that are in no group."""


def write_million(folder: Path, n_genes: int = 1_000_000, n_samples: int = 200) -> str:
    """``abundance.zarr`` and ``cags.zarr`` in a folder: groups of genes of one profile, each with noise of its own."""
    rng = np.random.default_rng(0)
    n_alone = int(ALONE * n_genes)
    weight = rng.lognormal(0, 1, N_GROUPS)
    grouped = rng.choice(N_GROUPS, n_genes - n_alone, p=weight / weight.sum())
    label, sizes = labels_of(rng.permutation(np.concatenate([grouped, N_GROUPS + np.arange(n_alone)])))
    means = rng.lognormal(0, 1.5, (len(sizes), n_samples)).astype(np.float32)
    means *= rng.random(means.shape, np.float32) < 0.28
    store, url = str(folder / "abundance.zarr"), str(folder / "cags.zarr")
    genes = [f"gene_{i:06d}" for i in range(n_genes)]
    values = means[label]
    for begin in range(0, n_genes, CHUNK):
        block = values[begin : begin + CHUNK]
        block *= 0.7 + 0.6 * rng.random(block.shape, np.float32)
    write_abundance_store(store, values, genes, chunk_rows=CHUNK)
    write_result_store(url, label, genes, n_samples=n_samples)
    child, height = merges_of(label, sizes)
    group = storage.open_group(url, writable=True)
    for name, array in (("merge_child", child), ("merge_height", height), ("cag_abundance", means)):
        del group[name]
        storage.write_array(group, name, array)
    storage.finish_group(group)
    return str(folder)


def labels_of(groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """CAG of each gene, the largest 0; and the size of each."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
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
