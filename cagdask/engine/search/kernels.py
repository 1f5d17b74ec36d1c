"""Pairs of rows that can be near each other: compiled, for two chunks in memory.

What is far is ruled out in steps that each cost more and leave less:

    tile x tile     angle of the centers of two tiles of lists: can any row of one be near any row of the other?
                    (triangle inequality, one matrix product of fine sketches)
    tile x rows     angle of a row to the center of a tile: can it be near any row of the tile? (the same)
    rows x rows     one small matrix product of coarse sketches, an upper bound of the similarity
    pairs           product of fine sketches, a closer bound
    what is left    in float64, rounded to 1e-10, before it is compared and listed

Rows of the fringe have no tile. They are tested against the tiles of the other side (:func:`compare_rows`), and among
each other without the first two steps (:func:`compare_fringes`).

Whatever is found is put on the lists of both rows. Equal similarities are ordered by gene, so the first of a list is
*the* nearest whatever the order of the search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.engine.rows.files import copy_row, product_with, rounded

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ANGLE_MARGIN = 2e-3  # an angle near 0 from a float32 cosine is off by up to 1e-3
PRODUCT_MARGIN = np.float32(1e-5)  # a float32 product of two sketches is off by up to a few 1e-6
TARGETS_AT_ONCE = 256
QUERIES_AT_ONCE = 1024
COSINES_AT_ONCE = 2**22
TILES_AT_ONCE = 512
KEPT_AT_ONCE = 2**19
"""Pairs of a tile and a row that are set aside before rows are compared."""
NEAR_ROWS = 256
"""Rows after a tile, of lists near its own, that it is compared with first: what they raise, all others must reach."""
COUNTS = ("tested", "bounded", "checked", "multiplied")
"""Pairs of a tile and a tile or row tested by their angle, of rows by coarse sketch, by fine sketch, and in full."""


class Rows(NamedTuple):
    """Rows of a chunk, as :func:`cagdask.engine.search.chunks.gather_chunk` writes them.

    ``rows`` is a :class:`cagdask.engine.rows.files.Stored`, ``direction`` the fine sketches scaled to unit length. Rows
    of one ``group`` are not listed. ``offset`` is the position of the first among all rows.
    """

    rows: Any
    coarse: Any
    fine: Any
    direction: Any
    length: Any
    gene: Any
    group: Any
    offset: int


class Room(NamedTuple):
    """Arrays that :func:`_compare` uses again and again: getting them anew would take a third of its time."""

    asked: Any
    offered: Any
    upper: Any
    need: Any
    reached: Any
    query: Any


class Tiles(NamedTuple):
    """Tiles of a chunk; its fringe begins where the last one ends."""

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
def insert(lists: Lists, i: int, x: float, y: int, y_gene: int, threshold: float) -> None:
    """Put a neighbor into the list of row ``i``, if it belongs there; larger similarity first, then smaller gene."""
    sim, row, gene = lists.sim[i], lists.row[i], lists.gene[i]
    last = len(sim) - 1
    j = last
    if x < sim[j] or (x == sim[j] and y_gene > gene[j]):
        return
    while j > 0 and (sim[j - 1] < x or (sim[j - 1] == x and gene[j - 1] > y_gene)):
        sim[j], row[j], gene[j] = sim[j - 1], row[j - 1], gene[j - 1]
        j -= 1
    sim[j], row[j], gene[j] = x, y, y_gene
    lists.need[i] = np.float32(max(threshold, sim[last])) - PRODUCT_MARGIN


@njit(cache=True, nogil=True)
def insert_all(at: Any, sim: Any, row: Any, gene: Any, lists: Lists, threshold: float) -> None:
    """Put neighbors into the lists of the rows ``at``."""
    for i in range(len(at)):
        insert(lists, at[i], sim[i], row[i], gene[i], threshold)


@njit(cache=True, nogil=True)
def _mark(values: Float32, own: np.float32, others: Float32, reached: Any) -> None:
    """Mark the values that reach what their row or column needs; without branches, so that many are done at a time."""
    for i in range(len(values)):
        reached[i] = values[i] >= min(own, others[i])


@njit(cache=True, nogil=True)
def _make_room(own: Rows) -> Room:
    """Room for :func:`_compare`."""
    n_coarse = own.coarse.shape[1]
    return Room(
        np.empty((QUERIES_AT_ONCE, n_coarse), np.float32),
        np.empty((TARGETS_AT_ONCE, n_coarse), np.float32),
        np.empty(QUERIES_AT_ONCE * TARGETS_AT_ONCE, np.float32),
        np.empty(TARGETS_AT_ONCE, np.float32),
        np.zeros(TARGETS_AT_ONCE, np.uint8),
        np.empty(own.rows.dense.shape[1]),
    )


@njit(cache=True, nogil=True)
def _compare(
    who: Int64, kept: Int64, once: bool, own: Rows, near: Rows, lists: Lists, near_lists: Lists, room: Room,
    threshold: float, counts: Int64,
) -> None:  # fmt: skip
    """List what is near enough among the pairs of rows ``who`` of one chunk and ``kept`` of another, for both.

    At most :data:`QUERIES_AT_ONCE` rows ``who``. With ``once`` the chunks are the same, and a pair counts only where
    its first row comes before its second.
    """
    query, need, offered, eights = room.query, room.need, room.offered, room.reached.view(np.uint64)
    asked = room.asked[: len(who)]
    for z in range(len(who)):
        asked[z] = own.coarse[who[z]]
    counts[1] += len(who) * len(kept)
    for y0 in range(0, len(kept), TARGETS_AT_ONCE):
        n_offered = min(TARGETS_AT_ONCE, len(kept) - y0)
        for at in range(n_offered):
            offered[at] = near.coarse[kept[y0 + at]]
            need[at] = near_lists.need[kept[y0 + at]]
        upper = room.upper[: len(who) * n_offered].reshape((len(who), n_offered))
        np.dot(asked, offered[:n_offered].T, upper)
        for z in range(len(who)):
            q = who[z]
            copied = False
            _mark(upper[z], lists.need[q], need[:n_offered], room.reached[:n_offered])
            for eight in range(-(-n_offered // 8)):
                if eights[eight] == 0:
                    continue
                for at in range(8 * eight, min(8 * eight + 8, n_offered)):
                    y = kept[y0 + at]
                    least = min(lists.need[q], near_lists.need[y])
                    if upper[z, at] < least or near.group[y] == own.group[q] or (once and y <= q):
                        continue
                    counts[2] += 1
                    if _product32(own.fine[q], near.fine[y]) < least:
                        continue
                    if not copied:
                        copy_row(own.rows, q, query)
                        copied = True
                    counts[3] += 1
                    exact = rounded(product_with(query, near.rows, y))
                    if exact >= threshold:
                        insert(lists, q, exact, near.offset + y, near.gene[y], threshold)
                        insert(near_lists, y, exact, own.offset + q, own.gene[q], threshold)


@njit(cache=True, nogil=True)
def _reaches(need: Float32, length: Float32) -> tuple[Float32, Float32]:
    """Cosine and sine of the angle within which a row's neighbors are."""
    cosine = np.empty(len(need), np.float32)
    sine = np.empty(len(need), np.float32)
    for i in range(len(need)):
        x = min(1.0, max(0.0, np.float64(need[i]) / length[i]))
        cosine[i] = x
        sine[i] = np.sqrt(1.0 - x * x)
    return cosine, sine


@njit(cache=True, nogil=True)
def _tile_reach(q0: int, q1: int, tile_angle: Float32, need: Float32, length: Float32) -> tuple[float, float]:
    """Largest angle of the rows ``q0:q1`` to the center of their tile, and of what can be near one of them."""
    radius = 0.0
    limit = 0.0
    for q in range(q0, q1):
        reach = np.arccos(min(1.0, max(0.0, np.float64(need[q]) / length[q])))
        radius = max(radius, tile_angle[q])
        limit = max(limit, tile_angle[q] + reach)
    return radius + ANGLE_MARGIN, min(np.pi, limit + ANGLE_MARGIN)


@njit(cache=True, nogil=True)
def _mark_near(
    cosine: Float32, cos_limit: np.float32, cos_radius: np.float32, sin_radius: np.float32, cos_reach: Float32,
    sin_reach: Float32, is_near: Any,
) -> None:  # fmt: skip
    """Mark the rows that are near enough to a tile, at these cosines to its center; without branches."""
    for y in range(len(cosine)):
        least = min(cos_limit, cos_radius * cos_reach[y] - sin_radius * sin_reach[y])
        is_near[y] = cosine[y] >= least - PRODUCT_MARGIN


@njit(cache=True, nogil=True)
def compare_near(own: Rows, tiles: Tiles, lists: Lists, threshold: float, counts: Int64) -> None:
    """Compare the rows of each tile with each other and with the rows that follow it."""
    room = _make_room(own)
    n_core = tiles.tile_begin[-1]
    for i in range(len(tiles.tile_center)):
        q0, q1 = tiles.tile_begin[i], tiles.tile_begin[i + 1]
        kept = np.arange(q0, min(n_core, q1 + NEAR_ROWS))
        _compare(np.arange(q0, q1), kept, True, own, own, lists, lists, room, threshold, counts)


@njit(cache=True, nogil=True)
def _tile_angles(tiles: Tiles, rows: Rows, lists: Lists) -> Float32:
    """Largest angle to the center of each tile of its rows, and of what can be near one of them, shape (n_tiles, 2)."""
    angles = np.empty((len(tiles.tile_center), 2), np.float32)
    for j in range(len(angles)):
        q0, q1 = tiles.tile_begin[j], tiles.tile_begin[j + 1]
        radius, limit = _tile_reach(q0, q1, tiles.tile_angle, lists.need, rows.length)
        angles[j, 0], angles[j, 1] = radius, limit
    return angles


@njit(cache=True, nogil=True)
def _open_tiles(cosine: Float32, radius: float, limit: float, angles: Float32, begin: int, opened: Any) -> None:
    """Mark in ``opened`` (n_tiles,) which tiles from ``begin`` on can have rows near those of one tile.

    ``cosine`` (n_tiles,) are of its center with theirs, ``radius`` and ``limit`` its angles, ``angles`` theirs.
    """
    opened[:begin] = False
    for j in range(begin, len(cosine)):
        square = max(limit + angles[j, 0], radius + angles[j, 1]) ** 2
        least = 1 - square / 2 * (1 - square / 12 * (1 - square / 30))  # at most the cosine, and quicker
        opened[j] = cosine[j] >= least - PRODUCT_MARGIN


@njit(cache=True, nogil=True)
def _search_tiles(
    first: int, cosine: Float32, angles: Float32, own: Rows, tiles: Tiles, near: Rows, near_tiles: Tiles, lists: Lists,
    near_lists: Lists, is_own: bool, threshold: float, counts: Int64,
) -> None:  # fmt: skip
    """Compare the rows of some tiles of a chunk with those of the tiles of another.

    Parameters
    ----------
    first
        The first of the tiles.
    cosine
        Of the center of each of these tiles with those of the other chunk, float32.
    angles
        Of the tiles of the other chunk, see :func:`_tile_angles`.
    own, tiles, lists
        The chunk of the tiles.
    near, near_tiles, near_lists
        The chunk searched.
    is_own
        Whether both are the same; then only rows count that :func:`compare_near` has not compared with the tile, and
        that come after it.
    threshold
        Smallest similarity to list.
    counts
        (4,) int64, updated; see :data:`COUNTS`.
    """
    n_tiles, n_near = cosine.shape
    n_core = tiles.tile_begin[-1]
    room = _make_room(own)
    cos_reach, sin_reach = _reaches(near_lists.need, near.length)
    after = np.zeros(n_tiles, np.int64)
    limits = np.empty((3, n_tiles), np.float32)
    opened = np.empty((n_tiles, n_near), np.bool_)
    for i in range(n_tiles):
        q0, q1 = tiles.tile_begin[first + i], tiles.tile_begin[first + i + 1]
        radius, limit = _tile_reach(q0, q1, tiles.tile_angle, lists.need, own.length)
        limits[0, i], limits[1, i], limits[2, i] = np.cos(limit), np.cos(radius), np.sin(radius)
        if is_own:
            after[i] = min(n_core, q1 + NEAR_ROWS)
        begin = np.searchsorted(near_tiles.tile_begin[1:], after[i], side="right")
        _open_tiles(cosine[i], radius, limit, angles, begin, opened[i])
    counts[0] += n_tiles * n_near
    widest = 0
    for j in range(n_near):
        widest = max(widest, near_tiles.tile_begin[j + 1] - near_tiles.tile_begin[j])
    kept = np.empty((2, max(KEPT_AT_ONCE, n_tiles * widest)), np.int32)
    centers = np.empty((n_tiles, tiles.tile_center.shape[1]), np.float32)
    products = np.empty(n_tiles * widest, np.float32)
    who = np.empty(n_tiles, np.int64)
    n_kept = 0
    for j in range(n_near):
        n = 0
        for i in range(n_tiles):
            who[n] = i
            n += opened[i, j]
        if not n:
            continue
        y0, y1 = near_tiles.tile_begin[j], near_tiles.tile_begin[j + 1]
        for z in range(n):
            centers[z] = tiles.tile_center[first + who[z]]
        product = products[: n * (y1 - y0)].reshape((n, y1 - y0))
        np.dot(centers[:n], near.direction[y0:y1].T, product)
        counts[0] += n * (y1 - y0)
        if n_kept + n * (y1 - y0) > kept.shape[1]:
            _compare_kept(first, kept[:, :n_kept], own, tiles, near, lists, near_lists, room, threshold, counts)
            n_kept = 0
        for z in range(n):
            i = who[z]
            cos_limit, cos_radius, sin_radius = limits[0, i], limits[1, i], limits[2, i]
            for y in range(max(y0, after[i]), y1):
                least = min(cos_limit, cos_radius * cos_reach[y] - sin_radius * sin_reach[y])
                kept[0, n_kept], kept[1, n_kept] = i, y
                n_kept += product[z, y - y0] >= least - PRODUCT_MARGIN
    _compare_kept(first, kept[:, :n_kept], own, tiles, near, lists, near_lists, room, threshold, counts)


@njit(cache=True, nogil=True)
def _compare_kept(
    first: int, kept: Any, own: Rows, tiles: Tiles, near: Rows, lists: Lists, near_lists: Lists, room: Room,
    threshold: float, counts: Int64,
) -> None:  # fmt: skip
    """Compare tiles with rows: pairs of a tile, counted from ``first``, and a row; (2, n) int32."""
    begin = np.zeros(TILES_AT_ONCE + 1, np.int64)
    for z in range(kept.shape[1]):
        begin[kept[0, z] + 1] += 1
    begin = np.cumsum(begin)
    row, at = np.empty(kept.shape[1], np.int64), begin.copy()
    for z in range(kept.shape[1]):
        row[at[kept[0, z]]] = kept[1, z]
        at[kept[0, z]] += 1
    for i in range(TILES_AT_ONCE):
        if begin[i + 1] > begin[i]:
            who = np.arange(tiles.tile_begin[first + i], tiles.tile_begin[first + i + 1])
            _compare(who, row[begin[i] : begin[i + 1]], False, own, near, lists, near_lists, room, threshold, counts)


@njit(cache=True, nogil=True)
def _search_rows(
    first: int, cosine: Float32, begin: int, own: Rows, tiles: Tiles, near: Rows, lists: Lists, near_lists: Lists,
    threshold: float, counts: Int64,
) -> None:  # fmt: skip
    """Compare the rows of some tiles of a chunk with what can be near them among some rows of another.

    Parameters
    ----------
    first
        The first of the tiles.
    cosine
        Of the center of each of these tiles with the directions of the rows from ``begin`` on, float32.
    begin
        The first of the rows of ``near`` that are searched.
    own, tiles, lists
        The chunk of the tiles.
    near, near_lists
        The chunk searched.
    threshold
        Smallest similarity to list.
    counts
        (4,) int64, updated; see :data:`COUNTS`.
    """
    n_tiles, n = cosine.shape
    cos_reach, sin_reach = _reaches(near_lists.need[begin:], near.length[begin:])
    kept = np.empty(n, np.int64)
    is_near = np.zeros(-(-n // 8) * 8, np.uint8)
    eights = is_near.view(np.uint64)
    room = _make_room(own)
    for i in range(n_tiles):
        q0, q1 = tiles.tile_begin[first + i], tiles.tile_begin[first + i + 1]
        radius, limit = _tile_reach(q0, q1, tiles.tile_angle, lists.need, own.length)
        cos_limit = np.float32(np.cos(limit))
        cos_radius, sin_radius = np.float32(np.cos(radius)), np.float32(np.sin(radius))
        n_kept = 0
        counts[0] += n
        _mark_near(cosine[i], cos_limit, cos_radius, sin_radius, cos_reach, sin_reach, is_near[:n])
        for eight in range(len(eights)):
            if eights[eight] == 0:
                continue
            for y in range(8 * eight, 8 * eight + 8):
                if is_near[y]:
                    kept[n_kept] = begin + y
                    n_kept += 1
        if n_kept:
            who = np.arange(q0, q1)
            _compare(who, kept[:n_kept], False, own, near, lists, near_lists, room, threshold, counts)


@njit(cache=True, nogil=True)
def compare_fringes(
    own: Rows, begin: int, near: Rows, near_begin: int, lists: Lists, near_lists: Lists, is_own: bool, threshold: float,
    counts: Int64,
) -> None:  # fmt: skip
    """Compare the rows from ``begin`` on of one chunk with those from ``near_begin`` on of another."""
    n, n_near = len(own.gene), len(near.gene)
    room = _make_room(own)
    for q in range(begin, n, QUERIES_AT_ONCE):
        who = np.arange(q, min(q + QUERIES_AT_ONCE, n))
        kept = np.arange(q if is_own else near_begin, n_near)
        _compare(who, kept, is_own, own, near, lists, near_lists, room, threshold, counts)


def compare_tiles(
    own: Rows, tiles: Tiles, near: Rows, near_tiles: Tiles, lists: Lists, near_lists: Lists, threshold: float,
    counts: Int64, *, is_own: bool,
) -> None:  # fmt: skip
    """Compare the tiles of a chunk with those of another, some at a time; with ``is_own`` both are the same."""
    angles = _tile_angles(near_tiles, near, near_lists)
    for first in range(0, len(tiles.tile_center), TILES_AT_ONCE):
        last = min(first + TILES_AT_ONCE, len(tiles.tile_center))
        cosine = tiles.tile_center[first:last] @ near_tiles.tile_center.T
        _search_tiles(first, cosine, angles, own, tiles, near, near_tiles, lists, near_lists, is_own, threshold, counts)


def compare_rows(
    own: Rows, tiles: Tiles, near: Rows, lists: Lists, near_lists: Lists, begin: int, threshold: float, counts: Int64
) -> None:
    """Compare all tiles of a chunk with the rows of one from ``begin`` on, some tiles at a time."""
    n = len(near.gene) - begin
    step = max(1, COSINES_AT_ONCE // max(1, n))
    room = np.empty((step if n else 0, n), np.float32)
    for first in range(0, len(tiles.tile_center) if n else 0, step):
        some = tiles.tile_center[first : first + step]
        cosine = np.matmul(some, near.direction[begin:].T, out=room[: len(some)])
        _search_rows(first, cosine, begin, own, tiles, near, lists, near_lists, threshold, counts)
