"""Merge reciprocal nearest groups that the neighbor lists prove.

Average linkage is reducible: what is joined elsewhere never comes nearer to a group than its parts were. So any two
groups that are each other's nearest may be joined at once, in any order, and connected components of the lists are
independent:

    lists of all chunks --> components, in batches        one task, :mod:`cagdask.engine.linkage.components`
    batch: its rows and lists --merge, compiled--> merges, groups that go on, groups that are finished    one task each

How a batch is merged is in :mod:`cagdask.engine.linkage.reciprocal`.

References
----------
.. [1] Murtagh (1983). A survey of recent advances in hierarchical clustering algorithms. The Computer Journal 26.
.. [2] Sumengen et al. (2021). Scaling hierarchical agglomerative clustering to billion-sized datasets.
arXiv:2105.11653.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.linkage.components import BatchFiles
from cagdask.engine.linkage.reciprocal import FINISHED, Groups, Proofs, merge_groups
from cagdask.engine.rows.files import GroupFiles, smaller_form, take_rows
from cagdask.engine.search.neighbors import ListFiles
from cagdask.storage.arrays import Files, array

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class MergeFiles(Files):
    """Groups that were joined, parts before wholes. Written by linkage; read where the merge tree is made."""

    pair: Int64 = array(np.int64, "merge, 2", "a gene of either group, the smaller first")
    height: Float64 = array(np.float64, "merge", "distance at which they were joined")


def merge_batch(
    batch: str, chunks: list[str], neighbors: list[str], offsets: list[int], threshold: float, is_last: bool,
    is_exact: bool, folder: str,
) -> dict[str, int]:  # fmt: skip
    """Task: merge one batch.

    Writes a :class:`MergeFiles` to ``folder/merges``, and as blocks ``folder/active`` and ``folder/finished`` the
    groups that go on and those that nothing can join any more; without ``is_last`` the search goes on below
    ``threshold``, and all go on. Groups are gone through in the order of genes, so that an approximate search, which
    proves nothing, gives the same for any chunks. Such a search (not ``is_exact``) may list a row for another but not
    the other for it: a nearer one than its first may be found in others' lists.
    """
    position = BatchFiles.open(batch).position
    groups, order = _load_groups(chunks, position, offsets)
    index, proofs = _load_lists(neighbors, position, offsets, order, is_exact)
    parent, state, pair, height = merge_groups(groups, index, proofs, threshold)
    is_alive = parent == np.arange(len(parent))
    is_finished = is_alive & (state == FINISHED) & is_last
    counts = {}
    for name, which in (("active", is_alive & ~is_finished), ("finished", is_finished)):
        rows = smaller_form(groups.mean[which])._asdict()
        GroupFiles(**rows, size=groups.size[which], gene=groups.gene[which]).write(storage.join(folder, name))
        counts[name] = int(which.sum())
    MergeFiles(pair=pair, height=height).write(storage.join(folder, "merges"))
    return counts | {"merges": len(pair)}


def _load_groups(chunks: list[str], position: Int64, offsets: list[int]) -> tuple[Groups, Int64]:
    """The groups at ascending positions of the chunks, in the order of genes, and that order."""
    parts = [(GroupFiles.open(url), rows) for url, rows in _parts(chunks, position, offsets)]
    gene = np.concatenate([files.gene[rows] for files, rows in parts])
    size = np.concatenate([files.size[rows] for files, rows in parts])
    order = np.argsort(gene)
    means = (take_rows(url, rows) for url, rows in _parts(chunks, position, offsets))
    return Groups(_in_order(means, _inverse(order)), size[order], gene[order]), order


def _in_order(parts: Iterable[NDArray[np.float64]], rank: Int64) -> NDArray[np.float64]:
    """Rows of several parts, each in the place that ``rank`` names; no more than one part is held beside them."""
    begin = 0
    for rows in parts:
        if not begin:
            ordered = np.empty((len(rank), rows.shape[1]))
        ordered[rank[begin : begin + len(rows)]] = rows
        begin += len(rows)
    return ordered


def _inverse(order: Int64) -> Int64:
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _load_lists(
    neighbors: list[str], position: Int64, offsets: list[int], order: Int64, is_exact: bool
) -> tuple[Int64, Proofs]:
    """Lists of the rows at these positions in an order, as rows in it (-1: none, or not here), and what they prove."""
    parts = [(ListFiles.open(url), rows) for url, rows in _parts(neighbors, position, offsets)]
    row = np.concatenate([files.row[rows] for files, rows in parts])[order]
    sim = np.concatenate([files.sim[rows] for files, rows in parts])[order]
    bound = np.concatenate([files.bound[rows] for files, rows in parts])[order]
    tie = np.concatenate([files.tie[rows] for files, rows in parts])[order]
    place = np.minimum(np.searchsorted(position, row), len(position) - 1)
    is_here = position[place] == row
    # a neighbor in another batch is like one that is not listed: it raises the bound
    cut = np.where((row >= 0) & ~is_here, sim, -2.0).max(axis=1)
    tie[cut >= bound] = -1
    index = _inverse(order)[place]
    index[~is_here] = -1
    first = index[:, 0].copy() if is_exact else np.full(len(index), -1)
    return index, Proofs(first, sim[:, 0].copy(), np.maximum(bound, cut), tie)


def _parts(folders: list[str], position: Int64, offsets: list[int]) -> list[tuple[str, Int64]]:
    """The folders that hold rows at ascending positions, and which of their rows these are."""
    ends = np.searchsorted(position, offsets)
    begins = zip(folders, offsets, ends[:-1], ends[1:], strict=False)
    return [(url, position[a:b] - offset) for url, offset, a, b in begins if b > a]
