"""Connected components of the lists, packed into batches that are merged on their own.

A component too large for a task is cut along its weakest links: a link that is cut only raises the bounds of its two
ends, so the result stays exact, and the most similar pair of all is never cut, so every round makes progress.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.engine.search.neighbors import ListFiles
from cagdask.storage.arrays import Files, array

Int64 = NDArray[np.int64]


class BatchFiles(Files):
    """Rows that are merged on their own. Written by :func:`make_batches`, read by merging."""

    position: Int64 = array(np.int64, "row", "position among all rows, ascending")


@njit(cache=True, nogil=True)
def root_of(parent: Any, i: int) -> int:
    """The group that holds ``i`` now; shortens the path on the way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent: Any, row: Any, offset: int) -> None:
    """Join the components of rows and what their lists hold."""
    for i in range(row.shape[0]):
        for j in range(row.shape[1]):
            if row[i, j] < 0:
                break
            a, b = root_of(parent, offset + i), root_of(parent, row[i, j])
            if a != b:
                parent[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def _unite_up_to(parent: Any, count: Any, row: Any, other: Any, order: Any, largest: int) -> None:
    """Join components along links in the order given, unless one would exceed ``largest`` rows."""
    for e in order:
        a, b = root_of(parent, row[e]), root_of(parent, other[e])
        if a != b and count[a] + count[b] <= largest:
            parent[max(a, b)] = min(a, b)
            count[min(a, b)] = count[a] + count[b]


def make_batches(
    neighbors: list[str], offsets: list[int], batch_rows: int, largest: int, folder: str
) -> dict[str, Any]:
    """Task: components of the lists, packed into batches that are merged on their own.

    Parameters
    ----------
    neighbors, offsets
        Folders that :func:`cagdask.engine.search.neighbors.finish_lists` wrote, and the position of each one's first
        row; the last offset is the number of rows.
    batch_rows, largest
        Rows to aim at in a batch, and rows that a component must not exceed.

    Returns
    -------
    dict
        ``batches``: rows in each; batch ``b`` is the :class:`BatchFiles` of ``folder/b``.
    """
    n = offsets[-1]
    parent = np.arange(n)
    for url, offset in zip(neighbors, offsets, strict=False):
        _unite(parent, ListFiles.open(url).row, offset)
    component = roots_of(parent)
    counts = np.bincount(component, minlength=n)
    if counts.max() > largest:
        component = _cut_components(neighbors, offsets, component, counts, largest)
        counts = np.bincount(component, minlength=n)
    members = np.argsort(component, kind="stable")
    sizes = counts[counts > 0]
    rows: list[int] = []
    begin = 0
    for size in _packed(sizes, batch_rows):
        BatchFiles(position=np.sort(members[begin : begin + size])).write(storage.join(folder, str(len(rows))))
        rows.append(int(size))
        begin += size
    return {"batches": rows, "largest_component": int(sizes.max())}


def roots_of(parent: Int64) -> Int64:
    """The root of every row."""
    while True:
        up = parent[parent]
        if (up == parent).all():
            return up
        parent = up


def _packed(sizes: Int64, batch_rows: int) -> list[int]:
    packed = [0]
    for size in sizes:
        if packed[-1] and packed[-1] + size > batch_rows:
            packed.append(0)
        packed[-1] += int(size)
    return packed


def _cut_components(neighbors: list[str], offsets: list[int], component: Int64, counts: Int64, largest: int) -> Int64:
    """Components of at most ``largest`` rows: first links of all rows first, each rank by falling similarity."""
    n = offsets[-1]
    parent = np.arange(n)
    count = np.ones(n, np.int64)
    large = counts[component] > largest
    for rank in range(ListFiles.open(neighbors[0]).row.shape[1]):
        row, other, sim = _links(neighbors, offsets, rank, large)
        if not len(row):
            break
        _unite_up_to(parent, count, row, other, np.argsort(-sim, kind="stable"), largest)
    return np.where(large, roots_of(parent), component)


def _links(
    neighbors: list[str], offsets: list[int], rank: int, which: NDArray[np.bool_]
) -> tuple[Int64, Int64, NDArray[np.float64]]:
    """The rows ``which``, the one that each has at a place of its list, and their similarity; those that have one."""
    parts = []
    for url, begin, end in zip(neighbors, offsets, offsets[1:], strict=False):
        lists = ListFiles.open(url)
        other = lists.row[:, rank]
        linked = np.flatnonzero((other >= 0) & which[begin:end])
        parts.append((begin + linked, other[linked], lists.sim[linked, rank]))
    row, other, sim = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, other, sim
