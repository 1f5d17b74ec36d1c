"""From merges to labels, and what is measured of every group.

merges --tree--> leader of every gene --refinement--> label of every gene
profiles, directions of groups --> distance of every gene to its group
normalized table --sums by label--> abundance of every group, sample by sample
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.cags import measures
from cagdask.engine.linkage import tree
from cagdask.engine.linkage.merging import flat
from cagdask.engine.rows import sums as aggregate
from cagdask.engine.rows.files import load_rows, save_rows, take_rows
from cagdask.engine.rows.profiles import FILTERED
from cagdask.normalization import methods
from cagdask.normalization.sample_statistics import SampleStatistics
from cagdask.storage import arrays

Int64 = NDArray[np.int64]

GENE_VARIABLES = (
    "gene_id",
    "gene_length",
    "gene_prevalence",
    "gene_cag",
    "gene_linkage_cag",
    "gene_cag_distance",
    "gene_mean_abundance",
)
"""What :func:`write_genes` writes; the length only where it is known."""


def write_tree(merges: list[str], fold: str, n_genes: int, linkage: str, folder: str) -> dict[str, int]:
    """Task: the merge table, ``child`` and ``height``, and the smallest gene of each gene's group, ``leader``.

    About 150 bytes per gene.
    """
    first = np.asarray(arrays.load(fold, "first"))
    pair, height = tree.merges_of_identical(first)
    found = [np.empty((0, 2), np.int64)] + [arrays.load(url, "pair") for url in merges]
    heights = [np.empty(0)] + [arrays.load(url, "height") for url in merges]
    more, at = np.concatenate(found), np.concatenate(heights)
    pair, height = np.concatenate([pair, more]), np.concatenate([height, at])
    if linkage == "single":
        pair, height = tree.merges_of_forest(pair, height, n_genes)
    child, height = tree.merge_table(pair, height, n_genes)
    arrays.save(folder, child=child, height=height, leader=tree.leaders(child, n_genes))
    return {"merges": len(height)}


def cut_tree(result: str, n_genes: int, max_dist: float, folder: str) -> int:
    """Task: the merges of a result store up to a height, as :func:`write_tree` writes them; their number."""
    height = np.asarray(storage.open_array(result, "merge_height")[:])
    n = tree.n_merges_within(height, max_dist)
    child = np.asarray(storage.open_array(result, "merge_child")[:n])
    arrays.save(folder, child=child, height=height[:n], leader=tree.leaders(child, n_genes))
    return n


def label_leaders(tree_folder: str, fold: str, folder: str) -> dict[str, int]:
    """Task: groups numbered from 0, for summing their profiles: ``leader`` (n_groups,) ascending.

    ``label`` (n_genes,).
    """
    leader = np.asarray(arrays.load(tree_folder, "leader"))
    takes_part = np.asarray(arrays.load(fold, "first")) >= 0
    heads, inverse = np.unique(leader[takes_part], return_inverse=True)
    label = np.full(len(leader), -1, np.int64)
    label[takes_part] = inverse
    arrays.save(folder, leader=heads, label=label, size=np.bincount(inverse, minlength=len(heads)))
    return {"n": len(heads)}


def sum_profiles(profiles: str, labels: str, folder: str) -> int:
    """Task: sums of the unit profiles of a block by group."""
    gene = arrays.load(profiles, "gene")
    aggregate.write_part(folder, np.asarray(arrays.load(labels, "label"))[gene], np.asarray(load_rows(profiles)))
    return len(gene)


def mean_profiles(parts: list[str], labels: str, begin: int, end: int, n_samples: int, folder: str) -> dict[str, int]:
    """Task: the groups ``begin:end`` as a block: ``rows`` their mean profiles, ``size``, ``gene``."""
    size = arrays.load(labels, "size", begin, end)
    sums, _ = aggregate.read_sums(parts, begin, end, n_samples)
    save_rows(folder, sums / size[:, None])
    arrays.save(folder, size=size, gene=arrays.load(labels, "leader", begin, end))
    return {"n": end - begin}


def write_labels(
    tree_folder: str, fold: str, joined: list[str], groups: list[str], table: str | None, folder: str
) -> dict[str, int]:
    """Task: the labels of genes, and by CAG its size and where its direction lies.

    Writes ``gene_cag`` and ``gene_linkage_cag`` (n_genes,) int64, ``size``, ``block`` and ``row`` (n_cags,). ``joined``
    holds the tables of the rounds of refinement and ``table`` the last one, if there were any; else every group of
    ``groups`` is one. ``block`` and ``row`` (n_cags,) point into ``groups``, -1 for a gene without a profile. 100 bytes
    per gene.
    """
    leader = np.asarray(arrays.load(tree_folder, "leader"))
    left_out = np.asarray(arrays.load(fold, "first")) == FILTERED
    parent = np.arange(len(leader))
    for url in joined:
        parent[arrays.load(url, "leave")] = arrays.load(url, "keep")
    gene_cag = tree.labels(flat(parent)[leader], left_out)
    linkage_cag = tree.labels(leader, left_out)
    size = np.bincount(gene_cag[~left_out])
    block = np.full(len(size), -1, np.int64)
    row = np.full(len(size), -1, np.int64)
    if table is not None:
        cag = gene_cag[arrays.load(table, "gene")]
        block[cag], row[cag] = arrays.load(table, "block"), arrays.load(table, "row")
    else:
        for b, url in enumerate(groups):
            cag = gene_cag[arrays.load(url, "gene")]
            block[cag], row[cag] = b, np.arange(len(cag))
    arrays.save(folder, gene_cag=gene_cag, gene_linkage_cag=linkage_cag, size=size, block=block, row=row)
    return {
        "n_cags": len(size),
        "n_merges": len(arrays.load(tree_folder, "height")),
    }


def measure_genes(
    store: str, begin: int, end: int, recipe: dict[str, Any], profiles: str, labels: str, groups: list[str], folder: str
) -> int:
    """Task: what is known of each gene of rows ``begin:end``, and their sums by CAG.

    Writes ``distance``, ``mean_abundance`` and ``prevalence`` (end - begin,) float32 and a part of the sums of the
    normalized, unfloored table. One block as float32 and twice as float64, and the directions of its groups.
    """
    block = np.asarray(storage.open_array(store, "abundance")[begin:end], dtype=np.float32)
    label = np.asarray(arrays.load(labels, "gene_cag", begin, end))
    distance = np.zeros(end - begin, np.float32)
    at = np.asarray(arrays.load(profiles, "gene")) - begin
    distance[at] = _distances(np.asarray(load_rows(profiles)), label[at], labels, groups)
    statistics = SampleStatistics.from_bytes(storage.read_bytes(recipe["statistics"]))
    values = methods.normalize_block(block, recipe["normalization"], statistics, floored=False)
    present = block != 0
    aggregate.write_part(storage.join(folder, "part"), label, values, present=present)
    arrays.save(
        folder,
        distance=distance,
        mean_abundance=row_means(values).astype(np.float32),
        prevalence=(present.sum(axis=1) / present.shape[1]).astype(np.float32),
    )
    return end - begin


def row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each row, the same bits whatever other rows are there."""
    means: NDArray[np.float64] = np.ascontiguousarray(values).sum(axis=1) / values.shape[1]
    return means


def _distances(rows: NDArray[np.float64], label: Int64, labels: str, groups: list[str]) -> NDArray[np.float32]:
    """Cosine distance of each profile to its CAG's mean direction; 0 for a gene alone."""
    size, block, row = (np.asarray(arrays.load(labels, name)) for name in ("size", "block", "row"))
    distance = np.zeros(len(rows))
    company = size[label] > 1
    for b in np.unique(block[label[company]]):
        mine = np.flatnonzero(company & (block[label] == b))
        mine = mine[np.argsort(row[label[mine]], kind="stable")]
        directions = take_rows(groups[b], row[label[mine]])
        distance[mine] = 1 - np.einsum("ij,ij->i", rows[mine], directions)
    return np.clip(distance, 0, 2).astype(np.float32)


def write_cags(
    result: str, parts: list[str], labels: str, groups: list[str], begin: int, end: int, n_samples: int, absent: float
) -> dict[str, Any]:
    """Task: the CAGs ``begin:end`` of the result store, which this task alone writes."""
    size, block, row = (np.asarray(arrays.load(labels, name, begin, end)) for name in ("size", "block", "row"))
    sums, (present,) = aggregate.read_sums(parts, begin, end, n_samples, "present")
    sums[size == 0] = absent  # as for a gene that is in no sample
    abundance = (sums / np.maximum(size, 1)[:, None]).astype(np.float32)
    mean, std, entropy = measures.cag_statistics(abundance, absent=absent)
    length = np.zeros(end - begin)
    for b in np.unique(block[block >= 0]):
        length[block == b] = arrays.load(groups[b], "mean_length")[row[block == b]]
    n = size.astype(np.float64)
    pairs = np.maximum(n * (n - 1), 1)
    for name, values in {
        "cag_abundance": abundance,
        "cag_size": size,
        "cag_prevalence": present.sum(axis=1) / n_samples,
        "cag_mean_abundance": mean,
        "cag_std_abundance": std,
        "cag_entropy": entropy,
        "cag_cohesion": np.where(size > 1, (n * n * length**2 - n) / pairs, 1.0),
    }.items():
        storage.open_array(result, name, writable=True)[begin:end] = values
    return {"n": end - begin}


def write_genes(
    store: str, result: str, labels: str, measured: list[str], ranges: list[tuple[int, int]], begin: int, end: int
) -> int:
    """Task: the genes ``begin:end`` of the result store, which this task alone writes."""
    values: dict[str, Any] = {name: arrays.load(labels, name, begin, end) for name in ("gene_cag", "gene_linkage_cag")}
    values["gene_id"] = storage.open_array(store, "gene_id")[begin:end]
    if "gene_length" in storage.open_group(store):
        values["gene_length"] = storage.open_array(store, "gene_length")[begin:end]
    covering = [(url, b, e) for url, (b, e) in zip(measured, ranges, strict=True) if b < end and e > begin]
    for name, variable in (
        ("distance", "gene_cag_distance"),
        ("mean_abundance", "gene_mean_abundance"),
        ("prevalence", "gene_prevalence"),
    ):
        values[variable] = np.concatenate(
            [arrays.load(url, name, max(begin - b, 0), end - b) for url, b, _ in covering]
        )
    for variable, of_genes in values.items():
        storage.open_array(result, variable, writable=True)[begin:end] = of_genes
    return end - begin


def write_merges(result: str, tree_folder: str) -> int:
    """Task: the merge table of the result store."""
    child, height = arrays.load_all(tree_folder, "child", "height")
    storage.open_array(result, "merge_child", writable=True)[...] = child
    storage.open_array(result, "merge_height", writable=True)[...] = height
    return len(height)
