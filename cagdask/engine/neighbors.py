"""For every row its k nearest, exactly, and a bound on all others.

One task per chunk of rows. It goes through its own chunk first and then through those that its pivots leave open,
nearest first; two chunks and the lists are all it holds. Within a pair of chunks, 64 rows of a list at a time:

    rows x pivots      a row's angle to a list's pivot tells if the list can hold anything near (triangle inequality)
    pivot x fringe     the same from the other side: which rows of the fringe can be near a row of this list
    rows x list        one small product of the leading coordinates is an upper bound of the similarity
    what is left       float32 product, then float64, rounded to 1e-10, before it is compared and listed

What is not on a row's list has at most the similarity of the last one listed, or less than the threshold if the list is
not full. Equal similarities are ordered by gene, so the first of a list is *the* nearest whatever the order of the
search.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.engine import arrays

STEP = 1e10
"""Similarities are rounded to 1 / STEP before they are compared: equal in exact arithmetic is equal here."""
ANGLE_MARGIN = np.float32(2e-3)  # an angle near 0 from a float32 cosine is off by up to 1e-3
PRODUCT_MARGIN = np.float32(1e-5)  # a float32 product of two rows is off by up to a few 1e-6
RIGHT_ANGLE = np.float32(np.pi / 2)  # beyond it, cosines of sums of angles are not compared
ROWS_AT_ONCE = 64
TARGETS_AT_ONCE = 512
QUERIES_AT_ONCE = 2048


@njit(inline="always", cache=True)
def rounded(x: float) -> float:
    """``x`` to the nearest multiple of 1 / STEP."""
    return float(np.rint(x * STEP) / STEP)


@njit(cache=True, nogil=True)
def product(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Dot product in a fixed order of additions, the same on any processor."""
    s0 = s1 = s2 = s3 = 0.0
    n = len(a) // 4 * 4
    for i in range(0, n, 4):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
    for i in range(n, len(a)):
        s0 += a[i] * b[i]
    return (s0 + s1) + (s2 + s3)


@njit(cache=True, nogil=True, fastmath=True)
def _product32(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    s = np.float32(0)
    for i in range(len(a)):
        s += a[i] * b[i]
    return s


@njit(cache=True, nogil=True)
def _insert(sim: Any, row: Any, gene: Any, x: float, y: int, y_gene: int) -> None:
    """Put a neighbor into one sorted list, if it belongs there; larger similarity first, then smaller gene."""
    j = len(sim) - 1
    if x < sim[j] or (x == sim[j] and y_gene > gene[j]):
        return
    while j > 0 and (sim[j - 1] < x or (sim[j - 1] == x and gene[j - 1] > y_gene)):
        sim[j], row[j], gene[j] = sim[j - 1], row[j - 1], gene[j - 1]
        j -= 1
    sim[j], row[j], gene[j] = x, y, y_gene


@njit(cache=True, nogil=True)
def _compare(
    who: Any, kept: Any, first: int, need: Any, rows: Any, rows32: Any, lead: Any, group: Any,
    t_rows: Any, t_rows32: Any, t_lead: Any, t_group: Any, t_gene: Any,
    offset: int, threshold: float, sim: Any, row: Any, gene: Any,
) -> tuple[int, bool]:  # fmt: skip
    """List what is near enough among the pairs of queries ``who`` and rows ``kept`` of the chunk searched.

    Updates the lists and what a row must reach to be listed, ``need[q - first]``. Gives the pairs multiplied in full,
    and whether any was listed.
    """
    k = sim.shape[1]
    n_full = 0
    listed = False
    asked = np.empty((len(who), lead.shape[1]), np.float32)
    for z in range(len(who)):
        asked[z] = lead[who[z]]
    offered = np.empty((min(TARGETS_AT_ONCE, len(kept)), lead.shape[1]), np.float32)
    for y0 in range(0, len(kept), TARGETS_AT_ONCE):
        n_offered = min(TARGETS_AT_ONCE, len(kept) - y0)
        for at in range(n_offered):
            offered[at] = t_lead[kept[y0 + at]]
        upper = np.dot(asked, offered[:n_offered].T)
        for z in range(len(who)):
            q = who[z]
            least = need[q - first]
            for at in range(n_offered):
                if upper[z, at] < least:
                    continue
                y = kept[y0 + at]
                if t_group[y] == group[q]:
                    continue
                n_full += 1
                if _product32(rows32[q], t_rows32[y]) < least:
                    continue
                exact = rounded(product(rows[q], t_rows[y]))
                if exact >= threshold:
                    _insert(sim[q], row[q], gene[q], exact, offset + y, t_gene[y])
                    least = np.float32(max(threshold, sim[q, k - 1])) - PRODUCT_MARGIN
                    listed = True
            need[q - first] = least
    return n_full, listed


@njit(cache=True, nogil=True)
def search_tiles(
    tile: Any, tile_list: Any, rows: Any, rows32: Any, lead: Any, length: Any, group: Any, angle: Any,
    t_rows: Any, t_rows32: Any, t_lead: Any, t_group: Any, t_gene: Any, t_angle: Any, t_begin: Any, t_radius: Any,
    t_fringe: int, lists: Any, cosine: Any, t_cosine: Any, offset: int, threshold: float, sim: Any, row: Any, gene: Any,
) -> tuple[int, int]:  # fmt: skip
    """Neighbors of some rows of one chunk in another chunk; what is listed is updated in place.

    Parameters
    ----------
    tile, tile_list
        Queries ``tile[i]:tile[i + 1]`` are rows of one list, with ``t_cosine[tile_list[i]]``, or fringe (-1).
    rows, rows32, lead, length, group, angle
        The chunk of the queries, as :func:`cagdask.engine.pivots.gather_chunk` writes it. Rows of the same group are
        never listed.
    t_rows, …, t_radius
        The chunk searched, and ``t_fringe``, where its fringe begins.
    lists, cosine
        Lists of that chunk that are open, (n_open,), and of each query's direction the cosine with their pivots,
        (n_queries, n_open) float32.
    t_cosine
        Of the pivot of each list of queries with the direction of each fringe row searched, float32.
    offset
        Position of the searched chunk's first row among all.
    threshold
        Smallest similarity to list.
    sim, row, gene
        Lists (n, k) of the whole chunk: similarity float64, position and gene int64; empty places hold -2, -1, and a
        huge gene.

    Returns
    -------
    n_bounded, n_full
        Pairs bounded by leading coordinates, and pairs multiplied in full.
    """
    k = sim.shape[1]
    n_bounded = 0
    n_full = 0
    start = tile[0]
    widest = 0
    for i in range(len(tile) - 1):
        widest = max(widest, tile[i + 1] - tile[i])
    who = np.empty(widest, np.int64)
    need = np.empty(widest, np.float32)
    cos_phi = np.empty(widest, np.float32)
    sin_phi = np.empty(widest, np.float32)
    kept = np.arange(len(t_gene))
    cos_radius = np.empty(len(lists), np.float32)
    sin_radius = np.empty(len(lists), np.float32)
    for b in range(len(lists)):
        radius = t_radius[lists[b]] + ANGLE_MARGIN
        cos_radius[b] = np.cos(radius) if radius < RIGHT_ANGLE else np.float32(-10)  # never skipped
        sin_radius[b] = np.sin(radius) if radius < RIGHT_ANGLE else np.float32(10)
    t_cos = np.cos(t_angle)
    for i in range(len(tile) - 1):
        q0, q1 = tile[i], tile[i + 1]
        for q in range(q0, q1):
            need[q - q0] = np.float32(max(threshold, sim[q, k - 1])) - PRODUCT_MARGIN
        stale = True
        for b in np.argsort(-cosine[(q0 + q1) // 2 - start]):
            if stale:
                for z in range(q1 - q0):
                    cos_phi[z] = min(np.float32(1), need[z] / length[q0 + z])
                    sin_phi[z] = np.sqrt(np.float32(1) - cos_phi[z] * cos_phi[z])
                stale = False
            n_asked = 0
            nearest = np.float32(-1)
            for z in range(q1 - q0):
                x = cosine[q0 + z - start, b]
                if x >= cos_phi[z] * cos_radius[b] - sin_phi[z] * sin_radius[b] - PRODUCT_MARGIN:
                    who[n_asked] = q0 + z
                    n_asked += 1
                    x = min(np.float32(1), x + PRODUCT_MARGIN)
                    if x >= cos_phi[z]:
                        nearest = np.float32(2)
                    else:  # the cosine of the smallest angle that a row of the list must have to be near this query
                        nearest = max(nearest, x * cos_phi[z] + np.sqrt(np.float32(1) - x * x) * sin_phi[z])
            if n_asked == 0:
                continue
            begin, end = t_begin[lists[b]], t_begin[lists[b] + 1]
            while begin < end and t_cos[begin] > nearest + ANGLE_MARGIN:
                begin += 1
            if begin == end:
                continue
            n_bounded += n_asked * (end - begin)
            more, listed = _compare(
                who[:n_asked], kept[begin:end], q0, need, rows, rows32, lead, group,
                t_rows, t_rows32, t_lead, t_group, t_gene, offset, threshold, sim, row, gene,
            )  # fmt: skip
            n_full += more
            stale |= listed
        near = np.arange(t_fringe, len(t_gene))
        if tile_list[i] >= 0:
            least = np.float32(1)
            for z in range(q1 - q0):
                farthest = angle[q0 + z] + np.arccos(min(np.float32(1), need[z] / length[q0 + z])) + 2 * ANGLE_MARGIN
                least = min(least, np.cos(min(np.float32(np.pi), farthest)) - PRODUCT_MARGIN)
            near = t_fringe + np.flatnonzero(t_cosine[tile_list[i]] >= least)
        n_bounded += (q1 - q0) * len(near)
        if len(near):
            more, listed = _compare(
                np.arange(q0, q1), near, q0, need, rows, rows32, lead, group,
                t_rows, t_rows32, t_lead, t_group, t_gene, offset, threshold, sim, row, gene,
            )  # fmt: skip
            n_full += more
    return n_bounded, n_full


CHUNK_ARRAYS = ("rows", "rows32", "lead", "length", "gene", "angle", "list_pivot", "list_begin", "list_radius")


def search_chunk(
    chunks: list[str], offsets: list[int], mine: int, pivots: str, directory: str, threshold: float, k: int,
    groups: bool, folder: str,
) -> dict[str, Any]:  # fmt: skip
    """Task: the k nearest of every row of chunk ``mine`` among all chunks.

    Writes ``sim`` (n, k) float64, ``row`` (n, k) int64 positions with -1 for none, ``bound`` (n,) float64: nothing
    unlisted is more similar, and ``gene`` (n,) int64. With ``groups`` each chunk has an array ``group``, and rows of
    one group are not listed. Returns the pairs bounded and multiplied, the bytes read, and the chunks opened.
    """
    own = {name: np.asarray(arrays.load(chunks[mine], name)) for name in CHUNK_ARRAYS}
    group = np.asarray(arrays.load(chunks[mine], "group")) if groups else own["gene"]
    n = len(own["gene"])
    sim = np.full((n, k), -2.0)
    row = np.full((n, k), -1, np.int64)
    gene = np.full((n, k), np.iinfo(np.int64).max, np.int64)
    centers = np.asarray(arrays.load(pivots, "pivots"))
    tile, tile_list = _tiles(own["list_begin"], n)
    bounded = full = n_bytes = 0
    opened = open_chunks(arrays.load_all(directory, "chunk", "pivot", "radius"), centers, mine, threshold)
    for other in opened:
        near = {name: np.asarray(arrays.load(chunks[other], name)) for name in CHUNK_ARRAYS}
        near_group = np.asarray(arrays.load(chunks[other], "group")) if groups else near["gene"]
        fringe = int(near["list_begin"][-1])
        theirs = centers[near["list_pivot"]]
        between = centers[own["list_pivot"]] @ theirs.T
        reach = _reach(own["list_radius"], near["list_radius"], threshold)
        for first, last in _some(tile):
            asking = slice(tile[first], tile[last])
            here = tile_list[first:last]
            a0, a1 = (int(here[here >= 0].min()), int(here.max()) + 1) if here.max() >= 0 else (0, 0)
            lists = np.arange(len(theirs))
            if here.min() >= 0:
                lists = np.flatnonzero((between[a0:a1] >= reach[a0:a1]).any(axis=0))
            pairs = search_tiles(
                tile[first : last + 1], np.where(here >= 0, here - a0, -1),
                own["rows"], own["rows32"], own["lead"], own["length"], group, own["angle"],
                near["rows"], near["rows32"], near["lead"], near_group, near["gene"], near["angle"],
                near["list_begin"], near["list_radius"], fringe, lists,
                (own["rows32"][asking] @ theirs[lists].T) / own["length"][asking, None],
                (centers[own["list_pivot"][a0:a1]] @ near["rows32"][fringe:].T) / near["length"][fringe:],
                offsets[other], threshold, sim, row, gene,
            )  # fmt: skip
            bounded, full = bounded + pairs[0], full + pairs[1]
        n_bytes += sum(part.nbytes for part in near.values())
    bound = np.where(row[:, -1] >= 0, sim[:, -1], rounded(threshold) - 1 / STEP)
    arrays.save(folder, sim=sim, row=row, bound=bound, gene=own["gene"])
    return {"n_bounded": int(bounded), "n_full": int(full), "bytes_read": n_bytes, "n_chunks": len(opened)}


def _tiles(begin: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bounds of the queries that are searched together, and the list of each, -1 for the fringe."""
    tile, tile_list = [0], []
    for number, (first, last) in enumerate(zip([*begin[:-1], begin[-1]], [*begin[1:], n], strict=True)):
        for bound in range(int(first), int(last), ROWS_AT_ONCE):
            tile.append(min(bound + ROWS_AT_ONCE, int(last)))
            tile_list.append(number if number < len(begin) - 1 else -1)
    return np.array(tile), np.array(tile_list)


def _some(tile: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of tiles with about :data:`QUERIES_AT_ONCE` rows each."""
    ranges = []
    first = 0
    while first < len(tile) - 1:
        last = max(first + 1, int(np.searchsorted(tile, tile[first] + QUERIES_AT_ONCE, side="right")) - 1)
        ranges.append((first, last))
        first = last
    return ranges


def _reach(radius: NDArray[np.float32], t_radius: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Cosine that two pivots must have if rows of their lists can be near each other, (n_lists, t_n_lists)."""
    angle = radius[:, None] + t_radius[None, :] + np.float32(np.arccos(threshold)) + 4 * ANGLE_MARGIN
    reach: NDArray[np.float32] = np.cos(np.minimum(angle, np.float32(np.pi))) - PRODUCT_MARGIN
    return reach


def open_chunks(directory: list[Any], centers: NDArray[np.float32], mine: int, threshold: float) -> list[int]:
    """Chunks that can hold a neighbor of a row of chunk ``mine``: that one first.

    Then by falling share of open lists.
    """
    chunk, pivot, radius = (np.asarray(part) for part in directory)
    own = chunk == mine
    angle = np.arccos(np.clip(centers[pivot[own]] @ centers[pivot].T, -1, 1))
    reach = radius[own][:, None] + radius[None, :] + np.arccos(threshold) + 4 * ANGLE_MARGIN
    n_open = (angle <= reach).sum(axis=0)
    n_chunks = int(chunk.max()) + 1
    share = np.bincount(chunk, n_open, n_chunks) / np.maximum(1, np.bincount(chunk, minlength=n_chunks))
    nearest = np.full(n_chunks, np.pi)
    np.minimum.at(nearest, chunk, angle.min(axis=0))
    share[mine] = np.inf
    order = np.lexsort((nearest, -share))
    return [int(c) for c in order if share[c] > 0]
