"""Which tiles and rows of two chunks can be near each other, by their angles: compiled.

    tile x tile     angle of the centers of two tiles of lists: can any row of one be near any row of the other?
                    (triangle inequality, one matrix product of fine sketches)
    tile x rows     angle of a row to the center of a tile: can it be near any row of the tile? (the same)
    what is left    :func:`cagdask.engine.search.kernels.compare`

Rows of the fringe have no tile. They are tested against the tiles of the other side (:func:`compare_rows`), and among
each other without these two steps (:func:`cagdask.engine.search.kernels.compare_fringes`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.engine.search.kernels import PRODUCT_MARGIN, TESTED, Buffers, Side, compare, make_buffers

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ANGLE_MARGIN = 2e-3  # an angle near 0 from a float32 cosine is off by up to 1e-3
COSINES_AT_ONCE = 2**22
TILES_AT_ONCE = 512
KEPT_AT_ONCE = 2**19
"""Pairs of a tile and a row that are set aside before rows are compared."""
NEAR_ROWS = 256
"""Rows after a tile, of lists near its own, that it is compared with first: what they raise, all others must reach."""


class Limits(NamedTuple):
    """Of some tiles, what a row of another chunk must reach to be near any of their rows.

    A row can be near a row of the tile only if its angle to the tile's center is at most one of two sums: the *limit*,
    the largest sum of the angle of a row of the tile and the reach of that row; or the *radius*, the largest angle of a
    row of the tile, and the reach of the other row. Reach is the angle of what can still be listed. Each is (n_tiles,)
    float32.
    """

    cos_limit: Any
    cos_radius: Any
    sin_radius: Any


class OpenTiles(NamedTuple):
    """What is to be compared: by tile its limits and the first row that counts; by pair of tiles whether it is open."""

    limits: Limits
    after: Any
    opened: Any


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
def _tile_reach(side: Side, tile: int) -> tuple[float, float]:
    """Largest angle of the rows of a tile to its center, and of what can be near one of them."""
    radius = 0.0
    limit = 0.0
    for q in range(side.tiles.begin[tile], side.tiles.begin[tile + 1]):
        reach = np.arccos(min(1.0, max(0.0, np.float64(side.lists.need[q]) / side.rows.length[q])))
        radius = max(radius, side.tiles.angle[q])
        limit = max(limit, side.tiles.angle[q] + reach)
    if radius + ANGLE_MARGIN > np.pi / 2:  # rows with signs: cosines of sums of angles would rise again
        limit = np.pi
    return radius + ANGLE_MARGIN, min(np.pi, limit + ANGLE_MARGIN)


@njit(cache=True, nogil=True)
def _tile_angles(side: Side) -> Float32:
    """What :func:`_tile_reach` gives for each tile, shape (n_tiles, 2)."""
    angles = np.empty((len(side.tiles.center), 2), np.float32)
    for j in range(len(angles)):
        radius, limit = _tile_reach(side, j)
        angles[j, 0], angles[j, 1] = radius, limit
    return angles


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
def compare_near(own: Side, threshold: float, counts: Int64) -> None:
    """Compare the rows of each tile with each other and with the rows that follow it."""
    buffers = make_buffers(own.rows)
    n_core = own.tiles.begin[-1]
    for i in range(len(own.tiles.center)):
        q0, q1 = own.tiles.begin[i], own.tiles.begin[i + 1]
        targets = np.arange(q0, min(n_core, q1 + NEAR_ROWS))
        compare(np.arange(q0, q1), targets, True, own, own, buffers, threshold, counts)


@njit(cache=True, nogil=True)
def _mark_open(cosine: Float32, radius: float, limit: float, angles: Float32, begin: int, opened: Any) -> None:
    """Mark in ``opened`` (n_tiles,) which tiles from ``begin`` on can have rows near those of one tile.

    ``cosine`` (n_tiles,) are of its center with theirs, ``radius`` and ``limit`` its angles, ``angles`` theirs.
    """
    opened[:begin] = False
    for j in range(begin, len(cosine)):
        square = max(limit + angles[j, 0], radius + angles[j, 1]) ** 2
        least = 1 - square / 2 * (1 - square / 12 * (1 - square / 30))  # at most the cosine, and quicker
        opened[j] = cosine[j] >= least - PRODUCT_MARGIN


@njit(cache=True, nogil=True)
def _open_tiles(first: int, cosine: Float32, angles: Float32, own: Side, other: Side, is_own: bool) -> OpenTiles:
    """Which tiles of the other chunk can have rows near those of each of some tiles."""
    n_tiles, n_other = cosine.shape
    n_core = own.tiles.begin[-1]
    limits = Limits(np.empty(n_tiles, np.float32), np.empty(n_tiles, np.float32), np.empty(n_tiles, np.float32))
    after = np.zeros(n_tiles, np.int64)
    opened = np.empty((n_tiles, n_other), np.bool_)
    for i in range(n_tiles):
        radius, limit = _tile_reach(own, first + i)
        limits.cos_limit[i] = np.cos(limit)
        limits.cos_radius[i], limits.sin_radius[i] = np.cos(radius), np.sin(radius)
        if is_own:  # the rows before were compared by compare_near, or with the tile on the other side
            after[i] = min(n_core, own.tiles.begin[first + i + 1] + NEAR_ROWS)
        begin = np.searchsorted(other.tiles.begin[1:], after[i], side="right")
        _mark_open(cosine[i], radius, limit, angles, begin, opened[i])
    return OpenTiles(limits, after, opened)


@njit(cache=True, nogil=True)
def _search_tiles(
    first: int, cosine: Float32, angles: Float32, own: Side, other: Side, is_own: bool, threshold: float, counts: Int64
) -> None:
    """Compare the rows of some tiles of a chunk with those of the tiles of another.

    Parameters
    ----------
    first
        The first of the tiles.
    cosine
        Of the center of each of these tiles with those of the other chunk, float32.
    angles
        Of the tiles of the other chunk, see :func:`_tile_angles`.
    own, other
        The chunk of the tiles, and the chunk searched.
    is_own
        Whether both are the same; then only rows count that :func:`compare_near` has not compared with the tile, and
        that come after it.
    threshold
        Smallest similarity to list.
    counts
        (4,) int64, updated; see :data:`cagdask.engine.search.kernels.COUNTS`.
    """
    n_tiles, n_other = cosine.shape
    buffers = make_buffers(own.rows)
    cos_reach, sin_reach = _reaches(other.lists.need, other.rows.length)
    limits, after, opened = _open_tiles(first, cosine, angles, own, other, is_own)
    counts[TESTED] += n_tiles * n_other
    widest = 0
    for j in range(n_other):
        widest = max(widest, other.tiles.begin[j + 1] - other.tiles.begin[j])
    kept = np.empty((2, max(KEPT_AT_ONCE, n_tiles * widest)), np.int32)
    centers = np.empty((n_tiles, own.tiles.center.shape[1]), np.float32)
    products = np.empty(n_tiles * widest, np.float32)
    asking = np.empty(n_tiles, np.int64)
    n_kept = 0
    for j in range(n_other):
        n = 0
        for i in range(n_tiles):
            asking[n] = i
            n += opened[i, j]
        if not n:
            continue
        y0, y1 = other.tiles.begin[j], other.tiles.begin[j + 1]
        for z in range(n):
            centers[z] = own.tiles.center[first + asking[z]]
        product = products[: n * (y1 - y0)].reshape((n, y1 - y0))
        np.dot(centers[:n], other.rows.direction[y0:y1].T, product)
        counts[TESTED] += n * (y1 - y0)
        if n_kept + n * (y1 - y0) > kept.shape[1]:
            _compare_kept(first, kept[:, :n_kept], own, other, buffers, threshold, counts)
            n_kept = 0
        for z in range(n):
            i = asking[z]
            cos_limit, cos_radius, sin_radius = limits.cos_limit[i], limits.cos_radius[i], limits.sin_radius[i]
            for y in range(max(y0, after[i]), y1):
                least = min(cos_limit, cos_radius * cos_reach[y] - sin_radius * sin_reach[y])
                kept[0, n_kept], kept[1, n_kept] = i, y  # written always, kept if near: no branch to guess
                n_kept += product[z, y - y0] >= least - PRODUCT_MARGIN
    _compare_kept(first, kept[:, :n_kept], own, other, buffers, threshold, counts)


@njit(cache=True, nogil=True)
def _compare_kept(
    first: int, kept: Any, own: Side, other: Side, buffers: Buffers, threshold: float, counts: Int64
) -> None:
    """Compare tiles with rows: pairs of a tile, counted from ``first``, and a row; (2, n) int32."""
    begin = np.zeros(TILES_AT_ONCE + 1, np.int64)
    for z in range(kept.shape[1]):
        begin[kept[0, z] + 1] += 1
    begin = np.cumsum(begin)
    targets, end = np.empty(kept.shape[1], np.int64), begin.copy()
    for z in range(kept.shape[1]):
        targets[end[kept[0, z]]] = kept[1, z]
        end[kept[0, z]] += 1
    for i in range(TILES_AT_ONCE):
        if begin[i + 1] > begin[i]:
            queries = np.arange(own.tiles.begin[first + i], own.tiles.begin[first + i + 1])
            compare(queries, targets[begin[i] : begin[i + 1]], False, own, other, buffers, threshold, counts)


@njit(cache=True, nogil=True)
def _search_rows(
    first: int, cosine: Float32, begin: int, own: Side, other: Side, threshold: float, counts: Int64
) -> None:
    """Compare the rows of some tiles of a chunk with what can be near them among some rows of another.

    Parameters
    ----------
    first
        The first of the tiles.
    cosine
        Of the center of each of these tiles with the directions of the rows from ``begin`` on, float32.
    begin
        The first of the rows of the other chunk that are searched.
    own, other
        The chunk of the tiles, and the chunk searched.
    threshold
        Smallest similarity to list.
    counts
        (4,) int64, updated; see :data:`cagdask.engine.search.kernels.COUNTS`.
    """
    n_tiles, n = cosine.shape
    cos_reach, sin_reach = _reaches(other.lists.need[begin:], other.rows.length[begin:])
    targets = np.empty(n, np.int64)
    is_near = np.zeros(-(-n // 8) * 8, np.uint8)
    eights = is_near.view(np.uint64)
    buffers = make_buffers(own.rows)
    for i in range(n_tiles):
        radius, limit = _tile_reach(own, first + i)
        cos_limit = np.float32(np.cos(limit))
        cos_radius, sin_radius = np.float32(np.cos(radius)), np.float32(np.sin(radius))
        n_targets = 0
        counts[TESTED] += n
        _mark_near(cosine[i], cos_limit, cos_radius, sin_radius, cos_reach, sin_reach, is_near[:n])
        for eight in range(len(eights)):
            if eights[eight] == 0:
                continue
            for y in range(8 * eight, 8 * eight + 8):
                if is_near[y]:
                    targets[n_targets] = begin + y
                    n_targets += 1
        if n_targets:
            queries = np.arange(own.tiles.begin[first + i], own.tiles.begin[first + i + 1])
            compare(queries, targets[:n_targets], False, own, other, buffers, threshold, counts)


def compare_tiles(own: Side, other: Side, threshold: float, counts: Int64, *, is_own: bool) -> None:
    """Compare the tiles of a chunk with those of another, some at a time; with ``is_own`` both are the same."""
    center, angles = own.tiles.center, _tile_angles(other)
    for first in range(0, len(center), TILES_AT_ONCE):
        cosine = center[first : first + TILES_AT_ONCE] @ other.tiles.center.T
        _search_tiles(first, cosine, angles, own, other, is_own, threshold, counts)


def compare_rows(own: Side, other: Side, begin: int, threshold: float, counts: Int64) -> None:
    """Compare all tiles of a chunk with the rows of one from ``begin`` on, some tiles at a time."""
    n, center = len(other.rows.gene) - begin, own.tiles.center
    step = max(1, COSINES_AT_ONCE // max(1, n))
    room = np.empty((step if n else 0, n), np.float32)
    for first in range(0, len(center) if n else 0, step):
        some = center[first : first + step]
        cosine = np.matmul(some, other.rows.direction[begin:].T, out=room[: len(some)])
        _search_rows(first, cosine, begin, own, other, threshold, counts)
