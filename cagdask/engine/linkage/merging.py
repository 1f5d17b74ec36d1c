"""Joining reciprocal nearest groups as far as the lists prove it.

Average linkage is reducible: what is joined elsewhere never comes nearer to a group than its parts were. So any two
groups that are each other's nearest may be joined at once, in any order, and connected components of the lists are
independent:

    lists of all chunks --union--> components --packed--> batches            one task
    batch: rows and lists --join, compiled--> merges | groups that go on | groups that are finished     one task each

The nearest group of A is known when the best of its list, computed from the means, is more similar than A's bound; when
two groups join, their bounds average like their similarities do. A group whose nearest is not known waits for the next
search. Among equals the smallest gene is the nearest, so a list that ends among equals proves its best as
long as that has a smaller gene than the last one listed: *tie*.

A component too large for a task is cut along its weakest links: a link that is cut only raises the bounds of its two
ends, so the result stays exact, and the most similar pair of all is never cut, so every round makes progress.

References
----------
.. [1] Murtagh (1983). A survey of recent advances in hierarchical clustering algorithms. The Computer Journal 26.
.. [2] Sumengen et al. (2021). Scaling hierarchical agglomerative clustering to billion-sized datasets.
arXiv:2105.11653.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.rows.files import STEP, GroupFiles, product, rounded, smaller_form, take_rows
from cagdask.engine.search.neighbors import ListFiles
from cagdask.storage.arrays import Files, array

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNKNOWN, WAITS, FINISHED = -3, -2, -1
"""States of a group; a state of 0 or more is the nearest group."""
_SLACK = 2 / STEP  # what rounding can hide between a bound and a similarity


class BatchFiles(Files):
    """Rows that are merged on their own. Written by :func:`make_batches`, read by :func:`merge_batch`."""

    position: Int64 = array(np.int64, "row", "position among all rows, ascending")


class MergeFiles(Files):
    """Groups that were joined, parts before wholes. Written by linkage; read where the merge tree is made."""

    pair: Int64 = array(np.int64, "merge, 2", "a gene of either group, the smaller first")
    height: Float64 = array(np.float64, "merge", "distance at which they were joined")


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


@njit(cache=True, nogil=True)
def _nearest(
    a: int, mean: Any, gene: Any, fresh: Any, first: Any, first_sim: Any, start: Any, count: Any, pool: Any,
    parent: Any, bound: Any, tie: Any, threshold: float, mark: Any, tick: int,
) -> tuple[int, float]:  # fmt: skip
    """The nearest group of ``a`` and its similarity if the list proves it.

    FINISHED if none can be near enough; else WAITS.
    """
    if fresh[a] and first[a] >= 0 and fresh[first[a]]:
        return first[a], first_sim[a]
    best = -2.0
    partner = -1
    kept = 0
    begin = start[a]
    for u in range(begin, begin + count[a]):
        r = root_of(parent, pool[u])
        if r == a or mark[r] == tick:
            continue
        mark[r] = tick
        pool[begin + kept] = r
        kept += 1
        x = rounded(product(mean[a], mean[r]))
        if x > best or (x == best and gene[r] < gene[partner]):
            best = x
            partner = r
    count[a] = kept
    if partner >= 0 and best >= threshold:
        if best > bound[a] + _SLACK or (best == bound[a] and gene[partner] <= tie[a]):
            return partner, best
    if best < threshold and bound[a] < threshold:
        return FINISHED, best
    return WAITS, best


@njit(cache=True, nogil=True)
def _is_outdated(b: int, a: int, state: Any, near: Any, gene: Any) -> bool:
    """Whether what was found for ``b`` is farther than ``a``, whose nearest is ``b``.

    What joins elsewhere never comes nearer to ``b``, so a nearest once found stays it; unless one of two that joined is
    missing from the list of ``b``, as may be in an approximate search, or rounding lifts the mean of equals. Taken for
    true, it would send the search for reciprocal pairs in circles.
    """
    if near[b] != near[a]:
        return bool(near[b] < near[a])
    return bool(state[b] >= 0 and gene[state[b]] > gene[a])


@njit(cache=True, nogil=True)
def _link(index: Any) -> Any:
    """Lists in both directions: a pool of rows, and where each row's part of it starts and how long it is."""
    n, k = index.shape
    count = np.zeros(n, np.int64)
    for i in range(n):
        for j in range(k):
            if index[i, j] >= 0:
                count[i] += 1
                count[index[i, j]] += 1
    start = np.cumsum(count) - count
    end = count.sum()
    pool = np.empty(end + end // 2 + 1000, np.int32)
    count[:] = 0
    for i in range(n):
        for j in range(k):
            y = index[i, j]
            if y >= 0:
                pool[start[i] + count[i]] = y
                pool[start[y] + count[y]] = i
                count[i] += 1
                count[y] += 1
    return pool, end, start, count


@njit(cache=True, nogil=True)
def _compact(pool: Any, start: Any, count: Any, room: Any, parent: Any, also: int, extra: int) -> Any:
    """A new pool with the lists of living groups and of ``also``, and space for at least ``extra`` more entries."""
    live = 0
    for i in range(len(parent)):
        if parent[i] == i or i == also:
            live += count[i]
    bigger = np.empty(2 * live + extra + 1000, pool.dtype)
    end = 0
    for i in range(len(parent)):
        if parent[i] == i or i == also:
            bigger[end : end + count[i]] = pool[start[i] : start[i] + count[i]]
            start[i] = end
            room[i] = count[i]
            end += count[i]
    return bigger, end


@njit(cache=True, nogil=True)
def _join_lists(
    a: int, b: int, pool: Any, end: int, start: Any, count: Any, room: Any, parent: Any, mark: Any, tick: int
) -> Any:
    """Add the list of ``b`` to that of ``a``; a list that outgrows its room moves to the end of the pool."""
    if count[a] + count[b] > room[a]:
        wanted = 2 * (count[a] + count[b])
        if end + wanted > len(pool):
            pool, end = _compact(pool, start, count, room, parent, b, wanted)
        pool[end : end + count[a]] = pool[start[a] : start[a] + count[a]]
        start[a] = end
        room[a] = wanted
        end += wanted
    mark[a] = tick
    kept = 0
    for part in (a, b):
        for u in range(start[part], start[part] + count[part]):
            r = root_of(parent, pool[u])
            if mark[r] != tick:
                mark[r] = tick
                pool[start[a] + kept] = r
                kept += 1
    count[a] = kept
    return pool, end


@njit(cache=True, nogil=True)
def merge_groups(
    mean: Any, size: Any, gene: Any, index: Any, first: Any, first_sim: Any, bound: Any, tie: Any, threshold: float
) -> Any:
    """Join reciprocal nearest groups until no more can be proven.

    Parameters
    ----------
    mean
        Mean of the unit profiles of each group, (n, n_samples) float64; in place.
    size, gene
        Genes in each group, and the smallest of them, (n,) int64; in place.
    index
        Lists (n, k) int64, -1 for none.
    first, first_sim
        The nearest of each row, (n,) int64, in place, and its similarity, (n,) float64; -1 where it is not here, or not
        known for sure: then all that list the row, or that it lists, are compared.
    bound
        Nothing unlisted is more similar, (n,) float64; in place.
    tie
        What is unlisted and as similar as the bound has a larger gene than this, (n,) int64; in place.
    threshold
        Smallest similarity at which groups join.

    Returns
    -------
    parent, state, merges, heights
        Of each row the group that holds it, each group's state, (n_merges, 2) genes joined and their distances.
    """
    n = len(index)
    pool, end, start, count = _link(index)
    room = count.copy()
    parent = np.arange(n)
    fresh = np.ones(n, np.bool_)
    state = np.full(n, UNKNOWN, np.int64)
    near = np.zeros(n)
    mark = np.full(n, -1, np.int64)
    tick = 0
    stack = np.arange(n)[::-1].copy()
    queued = np.ones(n, np.bool_)
    top = n
    merges = np.empty((n, 2), np.int64)
    heights = np.empty(n)
    n_merges = 0
    while top > 0:
        top -= 1
        a = stack[top]
        queued[a] = False
        if parent[a] != a:
            continue
        if state[a] == UNKNOWN:
            tick += 1
            state[a], near[a] = _nearest(
                a, mean, gene, fresh, first, first_sim, start, count, pool, parent, bound, tie, threshold, mark, tick
            )
        b = state[a]
        if b < 0:
            continue
        if state[b] != UNKNOWN and _is_outdated(b, a, state, near, gene):
            state[b] = UNKNOWN
            fresh[b] = False
        if state[b] == UNKNOWN:
            tick += 1
            state[b], near[b] = _nearest(
                b, mean, gene, fresh, first, first_sim, start, count, pool, parent, bound, tie, threshold, mark, tick
            )
        if state[b] != a:
            if state[b] >= 0 and not queued[b]:
                stack[top] = b
                top += 1
                queued[b] = True
            continue
        merges[n_merges, 0] = min(gene[a], gene[b])
        merges[n_merges, 1] = max(gene[a], gene[b])
        heights[n_merges] = np.rint((1.0 - near[a]) * STEP) / STEP
        n_merges += 1
        if count[a] < count[b]:
            a, b = b, a
        total = size[a] + size[b]
        for i in range(mean.shape[1]):
            mean[a, i] = (size[a] * mean[a, i] + size[b] * mean[b, i]) / total
        if bound[a] == bound[b]:  # what is as similar as that to both is as similar to their union
            tie[a] = max(tie[a], tie[b])
        else:
            bound[a] = (size[a] * bound[a] + size[b] * bound[b]) / total
            tie[a] = -1
        size[a] = total
        gene[a] = min(gene[a], gene[b])
        parent[b] = a
        fresh[a] = False
        fresh[b] = False
        tick += 1
        pool, end = _join_lists(a, b, pool, end, start, count, room, parent, mark, tick)
        state[a] = UNKNOWN
        for u in range(start[a] - 1, start[a] + count[a]):
            x = a if u < start[a] else pool[u]
            if state[x] == a or state[x] == b:
                state[x] = UNKNOWN
            elif x != a:
                continue
            if not queued[x]:
                stack[top] = x
                top += 1
                queued[x] = True
    return parent, state, merges[:n_merges], heights[:n_merges]


def merge_batch(
    position: str, chunks: list[str], neighbors: list[str], offsets: list[int], threshold: float, is_last: bool,
    is_exact: bool, folder: str,
) -> dict[str, int]:  # fmt: skip
    """Task: merge one batch.

    Writes a :class:`MergeFiles` to ``folder/merges``, and as blocks ``folder/active`` and ``folder/finished`` the
    groups that go on and those that nothing can join any more; without ``is_last`` the search goes on below
    ``threshold``, and all go on. Groups are gone through in the order of genes, so that an approximate search, which
    proves nothing, gives the same for any chunks. Such a search (not ``is_exact``) may list a row for another but not
    the other for it: a nearer one than its first may be found in others' lists.
    """
    where = BatchFiles.open(position).position
    groups = [(GroupFiles.open(url), rows) for url, rows in _places(chunks, where, offsets)]
    gene = np.concatenate([files.gene[rows] for files, rows in groups])
    order = np.argsort(gene)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    mean = _means(chunks, where, offsets, rank)
    gene, size = gene[order], np.concatenate([files.size[rows] for files, rows in groups])[order]
    lists = [(ListFiles.open(url), rows) for url, rows in _places(neighbors, where, offsets)]
    row = np.concatenate([files.row[rows] for files, rows in lists])[order]
    sim = np.concatenate([files.sim[rows] for files, rows in lists])[order]
    bound = np.concatenate([files.bound[rows] for files, rows in lists])[order]
    tie = np.concatenate([files.tie[rows] for files, rows in lists])[order]
    del groups, lists
    found = np.minimum(np.searchsorted(where, row), len(where) - 1)
    here = where[found] == row
    index = rank[found]
    cut = np.where((row >= 0) & ~here, sim, -2.0).max(axis=1)
    tie[cut >= bound] = -1
    bound = np.maximum(bound, cut)
    index[~here] = -1
    first = index[:, 0].copy() if is_exact else np.full(len(index), -1)
    parent, state, pair, height = merge_groups(mean, size, gene, index, first, sim[:, 0].copy(), bound, tie, threshold)
    alive = parent == np.arange(len(parent))
    counts = {}
    finished = alive & (state == FINISHED) & is_last
    for name, which in (("active", alive & ~finished), ("finished", finished)):
        rows = smaller_form(mean[which])._asdict()
        GroupFiles(**rows, size=size[which], gene=gene[which]).write(storage.join(folder, name))
        counts[name] = int(which.sum())
    MergeFiles(pair=pair, height=height).write(storage.join(folder, "merges"))
    return counts | {"merges": len(pair)}


def _means(chunks: list[str], where: Int64, offsets: list[int], rank: Int64) -> NDArray[np.float64]:
    """Rows at ascending positions of the chunks, each in the place that ``rank`` names."""
    begin = 0
    for url, at in _places(chunks, where, offsets):
        rows = take_rows(url, at)
        if not begin:
            mean = np.empty((len(where), rows.shape[1]))
        mean[rank[begin : begin + len(at)]] = rows
        begin += len(at)
    return mean


def _places(folders: list[str], where: Int64, offsets: list[int]) -> list[tuple[str, Int64]]:
    """The folders that hold ascending positions, and where in them."""
    ends = np.searchsorted(where, offsets)
    found = zip(folders, offsets, ends[:-1], ends[1:], strict=False)
    return [(url, where[a:b] - offset) for url, offset, a, b in found if b > a]
