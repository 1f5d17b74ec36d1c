"""Pivots: directions around which rows lie, and what they tell of a search before it is made.

    some rows --sketch--> two-level k-means --> pivots, ordered so that near ones are neighbors
                                |
              how much would be left to compare at each similarity --> level, cut

There are about as many pivots as genomes. They are found in two levels, and the nearest pivot of a row is looked for in
the few cells that are nearest to it, so that neither grows with rows x pivots. All of it is done with sketches
(:mod:`cagdask.engine.search.sketches`), which are short whatever the number of samples.

How far from its pivot a row may be, and which similarity a round asks for, is in :mod:`cagdask.engine.search.levels`.
Pivots, cut and level decide what a search costs, never its result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute import memory
from cagdask.compute.kernels import njit
from cagdask.engine.rows.files import (
    Block,
    FoldFiles,
    GroupFiles,
    ProfileFiles,
    lengths,
    stored_rows,
    take_rows,
    unit,
)
from cagdask.engine.search.envelopes import envelope_groups
from cagdask.engine.search.faiss_answers import checked, search_lists
from cagdask.engine.search.levels import ROUND_NS, choose_cut, choose_level, levels_above
from cagdask.engine.search.sketches import (
    QUERIES,
    TARGETS,
    choose_sizes,
    deal_samples,
    fine_groups,
    fine_sketches,
    product_ns,
)
from cagdask.errors import CagdaskError
from cagdask.storage.arrays import Files, array

logger = logging.getLogger(__name__)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ROWS_PER_PIVOT = 20
TRAINING_ROWS_PER_PIVOT = 10
MAX_PIVOTS = 2**16
PIVOTS_IN_ONE_LEVEL = 64
CELLS_PROBED = 4
PRODUCTS_AT_ONCE = 2**20
PRODUCT_ERROR = np.float32(2e-6)
"""How far a float32 product of two unit sketches may be off; how far depends on what else is multiplied with it."""
SORTED_AT_ONCE = 16
"""Pivots that are put in order along one direction: halving them on would order them no better for a search."""
_CUT_ROWS, _CUT_PIVOTS = 2048, 4096  # of a sample, to choose the cut
_CUT_ANGLES = 2**21


class PivotFiles(Files):
    """How a round is laid out. Written by :func:`train_pivots`; read where rows are ordered and searched."""

    coarse: Int64 = array(np.int64, "sample", "group of the sample in the coarse sketch, from 0")
    fine: Int64 = array(np.int64, "sample", "group of the sample in the fine sketch, from 0")
    long: Int64 = array(np.int64, "sample", "group of the sample in envelopes, from 0")
    pivots: Float32 = array(np.float32, "pivot, n_fine", "directions of unit length, near ones beside each other")
    cells: Float32 = array(np.float32, "cell, n_fine", "directions of unit length, the first level of k-means")
    cut: Float64 = array(np.float64, "1", "angle to its pivot beyond which a row is fringe, radian")
    signed: NDArray[np.int8] = array(np.int8, "1", "whether rows have signs, which decides what sketches are")


def n_pivots_for(n: int) -> int:
    """Number of pivots for ``n`` rows."""
    return int(min(MAX_PIVOTS, max(1, n // ROWS_PER_PIVOT)))


def train_pivots(
    blocks: list[dict[str, Any]], n: int, max_bytes: int, sizes: tuple[int, int] | None, threshold: float,
    below: float, seed: int, folder: str,
) -> float:  # fmt: skip
    """Task: how samples are dealt into groups, pivots, cut and level, from a sample of the rows.

    Parameters
    ----------
    blocks, n
        Rows that take part, and their number.
    max_bytes
        What the rows of the sample may take.
    sizes
        Groups of the coarse and the fine sketch; None chooses them.
    threshold
        Similarity that is asked for in the end.
    below
        The level must be below this; at most ``threshold`` leaves no choice.
    seed, folder
        Of the sample, and where to write.

    Returns
    -------
    float
        The level, at least ``threshold``.

    Notes
    -----
    Writes a :class:`PivotFiles`.
    """
    n_samples = stored_rows(blocks[0]["folder"]).dense.shape[1]
    n_wanted = max(1, min(QUERIES + TARGETS, max_bytes // (3 * 8 * n_samples)))
    rows = _by_gene(list(_sampled(blocks, n, n_wanted, seed, max_bytes // 4)))
    rows /= lengths(rows)[:, None]
    energy = np.einsum("ij,ij->j", rows, rows)
    signed = bool((rows < 0).any())
    choices = {threshold: (*sizes, 1.0) if sizes else choose_sizes(rows, threshold, signed=signed)}
    n_fine = min(choices[threshold][1], len(energy))
    fine = deal_samples(energy, fine_groups(n_fine, len(energy), signed=signed))
    left = max_bytes - min(rows.nbytes, max_bytes // 3)  # a sample can be a little larger than wanted
    n_wanted = min(max(TRAINING_ROWS_PER_PIVOT * n_pivots_for(n), _CUT_ROWS), left // (2 * 4 * n_fine))
    parts = _sampled(blocks, n, n_wanted, seed, max_bytes // 4)
    sample = _by_gene([(unit(fine_sketches(part, fine, signed=signed)), gene) for part, gene in parts])
    pivots, cells = two_level_pivots(sample, max(1, min(n_pivots_for(n), len(sample) // 2)), seed)
    own, between = _spread(sample, pivots)
    cuts = {threshold: choose_cut(own, between, threshold)}
    test = product_ns(n_fine) / ROWS_PER_PIVOT
    costs = {threshold: test + choices[threshold][2] * cuts[threshold][1]}
    if costs[threshold] * n > ROUND_NS:  # else no other level can be worth a round
        for level in levels_above(threshold):
            if level < below:
                choices[level] = (*sizes, 1.0) if sizes else choose_sizes(rows, level, signed=signed)
                cuts[level] = choose_cut(own, between, level)
                costs[level] = test + choices[level][2] * cuts[level][1]
    level = choose_level(costs, n)
    coarse = deal_samples(energy, min(choices[level][0], n_fine))
    logger.debug("level %.4g of %s, %d pivots, %d in coarse sketches", level, costs, len(pivots), coarse.max() + 1)
    cut = np.array([cuts[level][0]])
    signs = np.array([signed], np.int8)
    groups = {"coarse": coarse, "fine": fine, "long": envelope_groups(energy)}
    PivotFiles(**groups, pivots=pivots, cells=cells, cut=cut, signed=signs).write(folder)
    return level


def _sampled(
    blocks: list[dict[str, Any]], n: int, n_wanted: int, seed: int, max_bytes: int
) -> Iterator[tuple[Float64, Int64]]:
    """About ``n_wanted`` of the ``n`` rows that take part, and their genes, a part of at most ``max_bytes`` at a time.

    Genes decide which, so the sample does not depend on blocks.
    """
    for block in (Block(**b) for b in blocks):
        gene = (GroupFiles if block.weight is None else ProfileFiles).open(block.folder).gene
        picked = hashed(gene, seed) < np.uint64(min(1.0, n_wanted / n) * (2**63 - 1))
        if block.weight is not None:
            picked &= FoldFiles.open(block.weight).weight[gene] > 0
        rows, where = stored_rows(block.folder), np.flatnonzero(picked)
        step = max(1, max_bytes // (8 * max(1, rows.dense.shape[1])))
        for begin in range(0, len(where), step):
            some = where[begin : begin + step]
            yield take_rows(rows, some), gene[some]


def _by_gene(parts: list[tuple[NDArray[Any], Int64]]) -> NDArray[Any]:
    """Rows of several parts, in an order that depends on their genes only."""
    order = np.argsort(hashed(np.concatenate([gene for _, gene in parts]), -1), kind="stable")
    rows: NDArray[Any] = np.concatenate([rows for rows, _ in parts])
    parts.clear()  # what is not needed twice is not held twice
    return rows[order]


def hashed(gene: Int64, seed: int) -> NDArray[np.uint64]:
    """A number in [0, 2**63) for each gene that looks random [1]_.

    References
    ----------
    .. [1] Steele, Lea, Flood (2014). Fast splittable pseudorandom number generators. OOPSLA.
    """
    x = gene.astype(np.uint64) + np.uint64((seed % 2**32 + 1) * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: NDArray[np.uint64] = (x ^ (x >> np.uint64(31))) >> np.uint64(1)
    return found


def two_level_pivots(sample: Float32, n_pivots: int, seed: int) -> tuple[Float32, Float32]:
    """Pivots of unit rows, near ones beside each other, and the centers of the cells that they were found in."""
    n_pivots = min(n_pivots, len(sample))
    if n_pivots <= PIVOTS_IN_ONE_LEVEL:
        pivots = _kmeans(sample, n_pivots, seed)
        return pivots[near_ones_together(pivots)], pivots[:1]
    cells = _kmeans(sample, round(n_pivots**0.5), seed)
    cells = cells[near_ones_together(cells)]
    found = []
    for mine in _members(_nearest(cells, sample)[1][:, 0], len(cells)):
        if len(mine):
            pivots = _kmeans(sample[mine], max(1, round(n_pivots * len(mine) / len(sample))), seed)
            found.append(pivots[near_ones_together(pivots)])
    return np.concatenate(found), cells


def _kmeans(sample: Float32, k: int, seed: int) -> Float32:
    """At most ``k`` centers of unit length."""
    import faiss

    if k == 1 or len(sample) <= k:
        found = sample[:k] if len(sample) <= k else sample.mean(axis=0, keepdims=True)
    else:
        faiss.omp_set_num_threads(1)  # with few rows, two take as long and twice the processor time
        kmeans = faiss.Kmeans(
            sample.shape[1],
            k,
            niter=3,
            spherical=True,
            max_points_per_centroid=64,
            min_points_per_centroid=1,
            seed=seed + 1,
        )
        kmeans.train(np.ascontiguousarray(sample))
        found = np.asarray(kmeans.centroids, dtype=np.float32)
        if not np.isfinite(found).all():
            raise CagdaskError(f"FAISS {faiss.__version__} made centers that are no numbers. Use another faiss-cpu.")
    there = lengths(found) > 0
    return unit(found[there]) if there.any() else sample[:1]


def _nearest(centers: Float32, rows: Float32, n: int = 1) -> tuple[Float32, Int64]:
    """Cosine with the nearest ``n`` of some centers, if there are as many, and which they are."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(centers.shape[1])
    index.add(np.ascontiguousarray(centers))
    wanted = min(n, len(centers))
    cosine, nearest = index.search(np.ascontiguousarray(rows), wanted)
    return cosine, checked(rows, centers, cosine, nearest, wanted)


def nearest_pivots(pivots: Float32, cells: Float32, rows: Float32) -> tuple[Float32, Int64]:
    """Cosine of unit rows with a near pivot, most often the nearest, and which it is.

    The rows that look into a cell are multiplied with its pivots together, which takes a third of the time of FAISS'
    inverted lists: they go row by row. Of pivots that are as near as makes no difference there, products in a fixed
    order decide, so that a row's pivot does not depend on the rows beside it.
    """
    cosine, pivot = np.full(len(rows), -2, np.float32), np.full(len(rows), -1, np.int64)
    probed = _nearest(cells, rows, CELLS_PROBED)[1]
    pivots_of = _members(_nearest(cells, pivots)[1][:, 0], len(cells))
    rows_of = _members(probed.ravel(), len(cells))
    with memory.one_thread():
        for mine, asking in zip(pivots_of, rows_of, strict=True):
            centers = pivots[mine]
            step = max(1, PRODUCTS_AT_ONCE // max(1, len(mine)))
            for begin in range(0, len(asking) if len(mine) else 0, step):
                who = asking[begin : begin + step] // probed.shape[1]
                some = rows[who]
                _keep_nearest(some @ centers.T, some, centers, who, mine, cosine, pivot)
    lost = pivot < 0  # all cells near it are empty
    if lost.any():
        nearest = _nearest(pivots, rows[lost])
        cosine[lost], pivot[lost] = nearest[0][:, 0], nearest[1][:, 0]
    return cosine, pivot


def _members(group: Int64, n_groups: int) -> list[Int64]:
    """Positions of the members of each group."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, n_groups)))


@njit(cache=True, nogil=True)
def _keep_nearest(
    product: Float32, rows: Float32, centers: Float32, who: Int64, mine: Int64, cosine: Float32, pivot: Int64
) -> None:
    """Keep for each of the rows ``who`` which of the pivots ``mine`` is nearest, if nearer than what it has."""
    for z in range(len(who)):
        largest = product[z, 0]
        for j in range(1, len(mine)):  # apart from what follows, so that many are done at a time
            largest = max(largest, product[z, j])
        if largest < cosine[who[z]] - PRODUCT_ERROR:
            continue
        for j in range(len(mine)):
            if product[z, j] >= largest - 2 * PRODUCT_ERROR:
                exact = np.float32(0)
                for i in range(rows.shape[1]):
                    exact += rows[z, i] * centers[j, i]
                if exact > cosine[who[z]]:
                    cosine[who[z]], pivot[who[z]] = exact, mine[j]


def probed_pivots(pivots: Float32, cells: Float32, rows: Float32, n: int) -> Int64:
    """The pivots near each of some unit rows, nearest first, (n_rows, at most n); -1 where there are fewer."""
    n_probed = max(CELLS_PROBED, n * len(cells) // len(pivots))
    cell = _nearest(cells, pivots)[1][:, 0]
    return search_lists(pivots, cell, rows, _nearest(cells, rows, n_probed)[1], min(n, len(pivots)))[0]


def _spread(sample: Float32, pivots: Float32) -> tuple[Float64, Float64]:
    """Angles of some rows to their nearest pivot, and of some of them to any, from small to large."""
    few, any_ = sample[:_CUT_ROWS], pivots[:: -(-len(pivots) // _CUT_PIVOTS)]
    own = np.arccos(np.clip(_nearest(pivots, few)[0][:, 0], -1, 1))
    between = np.clip(few[: _CUT_ANGLES // len(any_)] @ any_.T, -1, 1).ravel()
    return np.sort(own), np.sort(np.arccos(between, out=between))


def near_ones_together(pivots: Float32) -> Int64:
    """An order in which near pivots are neighbors: halved along their leading direction, again and again."""

    def halve(which: Int64) -> list[Int64]:
        if len(which) <= 2:
            return [which]
        centered = pivots[which] - pivots[which].mean(axis=0)
        along = centered @ centered[np.argmax(np.einsum("ij,ij->i", centered, centered))]
        ordered = which[np.argsort(along, kind="stable")]
        if len(which) <= SORTED_AT_ONCE:
            return [ordered]
        middle = len(which) // 2
        return halve(ordered[:middle]) + halve(ordered[middle:])

    return np.concatenate(halve(np.arange(len(pivots))))
