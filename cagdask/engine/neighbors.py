"""For every row its k nearest, exactly, and a bound on all others.

One task per chunk of rows. It goes through its own chunk first and then through those that its pivots leave open,
nearest first; two chunks and the lists are all it holds. Rows of a list are searched together, a *tile* at a time;
what is far is ruled out in steps that each cost more and leave less:

    tile x lists        angles of centers: can the list hold anything near a row of the tile? (triangle inequality)
    tile x rows         the same for single rows of open lists, and of the fringe
    rows x rows         one small matrix product of coarse sketches, an upper bound of the similarity
    pairs               product of fine sketches, a closer bound
    what is left        in float64, rounded to 1e-10, before it is compared and listed

Rows of the fringe have no tile of their own. They are tested against the lists of the other side, which a row far from
them can not be near to, and are compared among each other without the first two steps.

What is not on a row's list has at most the similarity of the last one listed, or less than the threshold if the list is
not full. Equal similarities are ordered by gene, so the first of a list is *the* nearest whatever the order of the
search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine import arrays
from cagdask.engine.rows import STEP, copy_row, product_with, rounded, stored_rows

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ANGLE_MARGIN = 2e-3  # an angle near 0 from a float32 cosine is off by up to 1e-3
PRODUCT_MARGIN = np.float32(1e-5)  # a float32 product of two sketches is off by up to a few 1e-6
TARGETS_AT_ONCE = 512
FRINGE_AT_ONCE = 2048
QUERIES_AT_ONCE = 256
COSINES_AT_ONCE = 2**22
NEAR_ROWS = 256
"""Rows of the nearest lists that a tile is compared with before all others: what they raise, the rest must reach."""
_SCANNED = 32
_HUGE = np.iinfo(np.int64).max


class Rows(NamedTuple):
    """Rows of a chunk, as :func:`cagdask.engine.chunks.gather_chunk` writes them; rows of one group are not listed.

    ``rows`` is a :class:`cagdask.engine.rows.Stored`.
    """

    rows: Any
    coarse: Any
    fine: Any
    length: Any
    gene: Any
    group: Any


class Tiles(NamedTuple):
    """Lists and tiles of a chunk; its fringe begins where the last list ends."""

    angle: Any
    list_begin: Any
    list_radius: Any
    tile_begin: Any
    tile_angle: Any
    tile_center: Any


class Lists(NamedTuple):
    """What is listed of each row of a chunk, most similar first: (n, k), and ``need`` (n,), what a newcomer must reach.

    Empty places hold a similarity of -2, row -1 and a huge gene.
    """

    sim: Any
    row: Any
    gene: Any
    need: Any


@njit(cache=True, nogil=True, fastmath=True)
def _product32(a: Float32, b: Float32) -> np.float32:
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
def _any_reaches(values: Float32, least: np.float32) -> bool:
    """Whether any value is at least ``least``; without branches, so that it is done many at a time."""
    n = 0
    for i in range(len(values)):
        n += values[i] >= least
    return n > 0


@njit(cache=True, nogil=True)
def _compare(who: Int64, kept: Int64, own: Rows, near: Rows, lists: Lists, offset: int, threshold: float) -> int:
    """List what is near enough among the pairs of queries ``who`` and rows ``kept`` of the chunk searched.

    Gives the pairs multiplied in full.
    """
    k = lists.sim.shape[1]
    n_full = 0
    query = np.empty(own.rows.dense.shape[1])
    asked = np.empty((len(who), own.coarse.shape[1]), np.float32)
    for z in range(len(who)):
        asked[z] = own.coarse[who[z]]
    offered = np.empty((min(TARGETS_AT_ONCE, len(kept)), near.coarse.shape[1]), np.float32)
    for y0 in range(0, len(kept), TARGETS_AT_ONCE):
        n_offered = min(TARGETS_AT_ONCE, len(kept) - y0)
        for at in range(n_offered):
            offered[at] = near.coarse[kept[y0 + at]]
        upper = np.dot(asked, offered[:n_offered].T)
        for z in range(len(who)):
            q = who[z]
            least = lists.need[q]
            copied = False
            for begin in range(0, n_offered, _SCANNED):
                end = min(begin + _SCANNED, n_offered)
                if not _any_reaches(upper[z, begin:end], least):
                    continue
                for at in range(begin, end):
                    if upper[z, at] < least:
                        continue
                    y = kept[y0 + at]
                    if near.group[y] == own.group[q] or _product32(own.fine[q], near.fine[y]) < least:
                        continue
                    if not copied:
                        copy_row(own.rows, q, query)
                        copied = True
                    n_full += 1
                    exact = rounded(product_with(query, near.rows, y))
                    if exact >= threshold:
                        _insert(lists.sim[q], lists.row[q], lists.gene[q], exact, offset + y, near.gene[y])
                        least = np.float32(max(threshold, lists.sim[q, k - 1])) - PRODUCT_MARGIN
            lists.need[q] = least
    return n_full


@njit(cache=True, nogil=True)
def _limit(q0: int, q1: int, own: Rows, tile_angle: Float32, need: Float32) -> float:
    """Angle to the center of a tile beyond which nothing is near any of its rows ``q0:q1``."""
    limit = 0.0
    for q in range(q0, q1):
        reach = np.arccos(min(1.0, need[q] / own.length[q]))
        limit = max(limit, tile_angle[q] + reach)
    return min(np.pi, limit + ANGLE_MARGIN)


@njit(cache=True, nogil=True)
def _can_reach(cosine: float, limit: float, radius: float) -> bool:
    """Whether something within ``radius`` of a direction can be within ``limit`` of one at this cosine from it."""
    together = limit + radius + ANGLE_MARGIN
    return together >= np.pi or cosine >= np.cos(together) - PRODUCT_MARGIN


@njit(cache=True, nogil=True)
def _window(cosine: float, limit: float, angle: Float32, begin: int, end: int) -> int:
    """First row of a list whose angle to its pivot lets it be near: within ``limit`` of a direction at this cosine."""
    least = np.arccos(min(1.0, max(-1.0, cosine))) - limit - ANGLE_MARGIN
    while begin < end and angle[begin] < least:
        begin += 1
    return begin


@njit(cache=True, nogil=True)
def _keep(center: Float32, limit: float, begin: int, end: int, near: Rows, kept: Int64, n: int) -> int:
    """Append the rows ``begin:end`` within ``limit`` of a center to the ``n`` in ``kept``; gives how many then."""
    least = np.float32(np.cos(limit)) - PRODUCT_MARGIN
    for y in range(begin, end):
        if _product32(center, near.fine[y]) >= least * near.length[y] - PRODUCT_MARGIN:
            kept[n] = y
            n += 1
    return n


@njit(cache=True, nogil=True)
def search_tiles(
    first: int, last: int, own: Rows, tiles: Tiles, near: Rows, near_tiles: Tiles, cosine: Float32, fringe: Float32,
    is_own: bool, offset: int, threshold: float, lists: Lists,
) -> tuple[int, int]:  # fmt: skip
    """Neighbors of the rows of some tiles of one chunk in another chunk; ``lists`` is updated.

    Parameters
    ----------
    first, last
        The tiles.
    own, tiles
        The chunk of the queries.
    near, near_tiles
        The chunk searched.
    cosine, fringe
        Of the center of each tile with the pivots of that chunk's lists, and with the directions of its fringe,
        float32.
    is_own
        Whether both are the same chunk.
    offset
        Position of the searched chunk's first row among all.
    threshold
        Smallest similarity to list.

    Returns
    -------
    n_bounded, n_full
        Pairs bounded by coarse sketches, and pairs multiplied in full.
    """
    n_bounded = 0
    n_full = 0
    n_lists = len(near_tiles.list_radius)
    n_core = near_tiles.list_begin[n_lists]
    kept = np.empty(len(near.gene), np.int64)
    done = np.zeros(n_lists, np.bool_)
    for i in range(first, last):
        q0, q1 = tiles.tile_begin[i], tiles.tile_begin[i + 1]
        who = np.arange(q0, q1)
        center = tiles.tile_center[i]
        done[:] = False
        if is_own:
            n_kept = 0
            for b in np.argsort(-cosine[i - first]):
                begin, end = near_tiles.list_begin[b], near_tiles.list_begin[b + 1]
                if n_kept and n_kept + end - begin > NEAR_ROWS:
                    break
                done[b] = True
                for y in range(begin, end):
                    kept[n_kept] = y
                    n_kept += 1
            n_bounded += len(who) * n_kept
            n_full += _compare(who, kept[:n_kept], own, near, lists, offset, threshold)
        limit = _limit(q0, q1, own, tiles.tile_angle, lists.need)
        n_kept = 0
        for b in range(n_lists):
            if not done[b] and _can_reach(cosine[i - first, b], limit, near_tiles.list_radius[b]):
                begin, end = near_tiles.list_begin[b], near_tiles.list_begin[b + 1]
                begin = _window(cosine[i - first, b], limit, near_tiles.angle, begin, end)
                n_kept = _keep(center, limit, begin, end, near, kept, n_kept)
        least = np.float32(np.cos(limit)) - PRODUCT_MARGIN
        for y in range(fringe.shape[1]):
            if fringe[i - first, y] >= least:
                kept[n_kept] = n_core + y
                n_kept += 1
        n_bounded += len(who) * n_kept
        if n_kept:
            n_full += _compare(who, kept[:n_kept], own, near, lists, offset, threshold)
    return n_bounded, n_full


@njit(cache=True, nogil=True)
def search_fringe(
    first: int, last: int, own: Rows, near: Rows, near_tiles: Tiles, cosine: Float32, offset: int, threshold: float,
    lists: Lists,
) -> tuple[int, int]:  # fmt: skip
    """Neighbors of some rows of the fringe, ``first:last`` of one chunk, in another chunk; ``lists`` is updated.

    ``cosine`` is of each of these rows with the pivots of that chunk's lists; else as for :func:`search_tiles`.
    """
    n_bounded = 0
    n_full = 0
    n_lists = len(near_tiles.list_radius)
    who = np.empty(last - first, np.int64)
    reach = np.empty(last - first)
    for b in range(n_lists):
        if b % 64 == 0:  # what is listed meanwhile narrows it
            for z in range(last - first):
                q = first + z
                reach[z] = min(np.pi, np.arccos(min(1.0, lists.need[q] / own.length[q])) + ANGLE_MARGIN)
        begin, end = near_tiles.list_begin[b], near_tiles.list_begin[b + 1]
        n_asked = 0
        window = end
        for z in range(last - first):
            if _can_reach(cosine[z, b], reach[z], near_tiles.list_radius[b]):
                who[n_asked] = first + z
                n_asked += 1
                window = min(window, _window(cosine[z, b], reach[z], near_tiles.angle, begin, window))
        if n_asked and window < end:
            n_bounded += n_asked * (end - window)
            n_full += _compare(who[:n_asked], np.arange(window, end), own, near, lists, offset, threshold)
    rest = np.arange(near_tiles.list_begin[n_lists], len(near.gene))
    for q in range(first, last, QUERIES_AT_ONCE):
        some = np.arange(q, min(q + QUERIES_AT_ONCE, last))
        n_bounded += len(some) * len(rest)
        n_full += _compare(some, rest, own, near, lists, offset, threshold)
    return n_bounded, n_full


# -- tasks -----------------------------------------------------------------------------------------------------------


def search_chunk(
    folder: str, mine: int, pivots: str, threshold: float, k: int, groups: bool, to: str
) -> dict[str, Any]:
    """Task: the k nearest of every row of chunk ``mine`` among all chunks of ``folder``.

    Writes ``sim`` (n, k) float64, ``row`` (n, k) int64 positions with -1 for none, ``bound`` (n,) float64: nothing
    unlisted is more similar, ``tie`` (n,) int64: what is unlisted and as similar as the bound has a larger gene, -1 if
    there is no such promise, and ``gene`` (n,) int64. With ``groups`` each chunk has an array ``group``, and rows of
    one group are not listed. Returns the pairs bounded and multiplied, the bytes read, and the chunks opened.
    """
    own, tiles, n_bytes = _load_chunk(folder, mine, groups=groups)
    n = len(own.gene)
    lists = Lists(
        np.full((n, k), -2.0),
        np.full((n, k), -1, np.int64),
        np.full((n, k), _HUGE, np.int64),
        np.full(n, np.float32(threshold) - PRODUCT_MARGIN),
    )
    directory = storage.join(folder, "directory")
    centers, offset = np.asarray(arrays.load(pivots, "pivots")), arrays.load(directory, "offset")
    own_pivots = arrays.load(storage.join(folder, str(mine)), "list_pivot")
    bounded = full = 0
    opened = open_chunks(arrays.load_all(directory, "chunk", "pivot", "radius"), centers, mine, threshold)
    for other in opened:
        near, near_tiles, more = (own, tiles, 0) if other == mine else _load_chunk(folder, other, groups=groups)
        theirs = own_pivots if other == mine else arrays.load(storage.join(folder, str(other)), "list_pivot")
        pairs = _search(
            own, tiles, near, near_tiles, centers[theirs], other == mine, int(offset[other]), threshold, lists
        )
        bounded, full, n_bytes = bounded + pairs[0], full + pairs[1], n_bytes + more
    full_list = lists.row[:, -1] >= 0
    bound = np.where(full_list, lists.sim[:, -1], rounded(threshold) - 1 / STEP)
    tie = np.where(full_list, lists.gene[:, -1], -1)
    arrays.save(to, sim=lists.sim, row=lists.row, bound=bound, tie=tie, gene=own.gene)
    return {"n_bounded": int(bounded), "n_full": int(full), "bytes_read": n_bytes, "n_chunks": len(opened)}


def _load_chunk(folder: str, number: int, *, groups: bool) -> tuple[Rows, Tiles, int]:
    """A chunk, and its bytes; a local one is mapped, and what is not looked at is not read."""
    url = storage.join(folder, str(number))
    stored = stored_rows(url)
    coarse, fine, length, gene = (np.asarray(part) for part in arrays.load_all(url, "coarse", "fine", "length", "gene"))
    rows = Rows(stored, coarse, fine, length, gene, np.asarray(arrays.load(url, "group")) if groups else gene)
    tiles = Tiles(*(np.asarray(arrays.load(url, name)) for name in Tiles._fields))
    return rows, tiles, stored.nbytes + sum(part.nbytes for part in (coarse, fine, length, gene, *tiles))


def _search(
    own: Rows, tiles: Tiles, near: Rows, near_tiles: Tiles, centers: Float32, is_own: bool, offset: int,
    threshold: float, lists: Lists,
) -> tuple[int, int]:  # fmt: skip
    """Neighbors of all rows of one chunk in another, some tiles and then some rows of the fringe at a time."""
    bounded = full = 0
    n, n_core = len(own.gene), int(tiles.list_begin[-1])
    fringe = near.fine[near_tiles.list_begin[-1] :] / near.length[near_tiles.list_begin[-1] :, None]
    step = max(1, COSINES_AT_ONCE // max(1, len(centers) + len(fringe)))
    for first in range(0, len(tiles.tile_center), step):
        some = tiles.tile_center[first : first + step]
        pairs = search_tiles(
            first, first + len(some), own, tiles, near, near_tiles, some @ centers.T, some @ fringe.T, is_own, offset,
            threshold, lists,
        )  # fmt: skip
        bounded, full = bounded + pairs[0], full + pairs[1]
    for first in range(n_core, n, FRINGE_AT_ONCE):
        last = min(first + FRINGE_AT_ONCE, n)
        cosine = (own.fine[first:last] @ centers.T) / own.length[first:last, None]
        pairs = search_fringe(first, last, own, near, near_tiles, cosine, offset, threshold, lists)
        bounded, full = bounded + pairs[0], full + pairs[1]
    return bounded, full


def open_chunks(directory: list[Any], centers: Float32, mine: int, threshold: float) -> list[int]:
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
