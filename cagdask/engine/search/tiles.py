"""Which tiles and rows of two chunks can be near each other: compiled.

    tile x tile     product of their largest values: can any row of one be near any row of the other?
                    (one matrix product of :mod:`cagdask.engine.search.envelopes`)
    tile x rows     angle of a row to the center of a tile: can it be near any row of the tile?
                    (triangle inequality, products of fine sketches)
    what is left    :func:`cagdask.engine.search.kernels.compare`

Rows of the fringe have no tile. A few of them at a time are tested like a tile against the tiles of the other side, and
all against each other without these two steps (:func:`cagdask.engine.search.kernels.compare_fringes`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.engine.search.envelopes import subtracted
from cagdask.engine.search.kernels import (
    PRODUCT_MARGIN,
    SCREENED,
    TESTED,
    Buffers,
    Side,
    Tiles,
    compare,
    make_buffers,
    product32,
)

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ANGLE_MARGIN = 2e-3  # an angle near 0 from a float32 cosine is off by up to 1e-3
PRODUCTS_AT_ONCE = 2**22
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


@njit(cache=True, nogil=True)
def n_core_of(tiles: Tiles) -> int:
    """Rows of a chunk that are in tiles; those of the fringe come after them."""
    return int(tiles.begin[len(tiles.center)])


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
def compare_near(own: Side, threshold: float, counts: Int64) -> None:
    """Compare the rows of each tile with each other and with the rows that follow it."""
    buffers = make_buffers(own.rows)
    n_core = n_core_of(own.tiles)
    for i in range(len(own.tiles.center)):
        q0, q1 = own.tiles.begin[i], own.tiles.begin[i + 1]
        targets = np.arange(q0, min(n_core, q1 + NEAR_ROWS))
        compare(np.arange(q0, q1), targets, True, own, own, buffers, threshold, counts)


@njit(cache=True, nogil=True)
def _needs(side: Side) -> Float32:
    """The least of what the rows of each tile, and of each part of the fringe, need."""
    begin, need = side.tiles.begin, side.lists.need
    found = np.empty(len(begin) - 1, np.float32)
    for j in range(len(found)):
        found[j] = need[begin[j]]
        for q in range(begin[j] + 1, begin[j + 1]):
            found[j] = min(found[j], need[q])
    return found


@njit(cache=True, nogil=True)
def _limits(first: int, n_tiles: int, own: Side) -> Limits:
    limits = Limits(np.empty(n_tiles, np.float32), np.empty(n_tiles, np.float32), np.empty(n_tiles, np.float32))
    for i in range(n_tiles):
        radius, limit = _tile_reach(own, first + i)
        limits.cos_limit[i] = np.cos(limit)
        limits.cos_radius[i], limits.sin_radius[i] = np.cos(radius), np.sin(radius)
    return limits


@njit(cache=True, nogil=True)
def _open_tiles(product: Float32, need: Float32, other_need: np.float32, marks: Any, found: Int64) -> int:
    """Write to ``found`` which tiles can have rows near those of another, at these products with it; their number.

    ``product`` and ``need`` are (n_tiles,), ``marks`` (n_tiles rounded up to a multiple of eight,) uint8.
    """
    for i in range(len(product)):  # without branches, so that many are done at a time
        marks[i] = product[i] >= min(need[i], other_need)
    eights, n = marks.view(np.uint64), 0
    for eight in range(len(eights)):
        if eights[eight] == 0:
            continue
        for i in range(8 * eight, 8 * eight + 8):
            if marks[i]:
                found[n] = i
                n += 1
    return n


@njit(cache=True, nogil=True)
def _search_tiles(
    first: int, begin: int, product: Float32, own: Side, other: Side, is_own: bool, threshold: float, counts: Int64
) -> None:
    """Compare the rows of some tiles of a chunk with those of the tiles, and the fringe, of another.

    Parameters
    ----------
    first, begin
        The first of the tiles, and of those that they are compared with.
    product
        Of the envelopes of those with the envelopes of these, (n_others, n_tiles) float32.
    own, other
        The chunk of the tiles, and the chunk searched.
    is_own
        Whether both are the same; then only rows count that :func:`compare_near` has not compared with the tile, and
        that come after it.
    threshold
        Smallest similarity to list.
    counts
        (5,) int64, updated; see :data:`cagdask.engine.search.kernels.COUNTS`.
    """
    n_tiles, edges, n_core = product.shape[1], other.tiles.begin, n_core_of(own.tiles)
    buffers, limits = make_buffers(own.rows), _limits(first, n_tiles, own)
    need, other_need = _needs(own)[first : first + n_tiles], _needs(other)
    cos_reach, sin_reach = _reaches(other.lists.need, other.rows.length)
    after = np.zeros(n_tiles, np.int64)
    if is_own:  # the rows before were compared by compare_near, or with the tile on the other side
        for i in range(n_tiles):
            after[i] = min(n_core, own.tiles.begin[first + i + 1] + NEAR_ROWS)
    counts[SCREENED] += product.size
    widest = 1
    for j in range(begin, len(edges) - 1):
        widest = max(widest, edges[j + 1] - edges[j])
    kept = np.empty((2, max(KEPT_AT_ONCE, n_tiles * widest)), np.int32)
    marks, asking = np.zeros(-(-n_tiles // 8) * 8, np.uint8), np.empty(n_tiles, np.int64)
    n_kept = 0
    for j in range(begin, len(edges) - 1):
        y0, y1 = edges[j], edges[j + 1]
        n = _open_tiles(product[j - begin], need, other_need[j], marks, asking)
        while n and after[asking[n - 1]] >= y1:  # later tiles have later rows
            n -= 1
        if not n:
            continue
        counts[TESTED] += n * (y1 - y0)
        if n_kept + n * (y1 - y0) > kept.shape[1]:
            _compare_kept(first, kept[:, :n_kept], own, other, buffers, threshold, counts)
            n_kept = 0
        for z in range(n):
            i = asking[z]
            cos_limit, cos_radius, sin_radius = limits.cos_limit[i], limits.cos_radius[i], limits.sin_radius[i]
            center = own.tiles.center[first + i]
            for y in range(max(y0, after[i]), y1):
                cosine = product32(center, other.rows.direction[y])
                least = min(cos_limit, cos_radius * cos_reach[y] - sin_radius * sin_reach[y])
                kept[0, n_kept], kept[1, n_kept] = i, y  # written always, kept if near: no branch to guess
                n_kept += cosine >= least - PRODUCT_MARGIN
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


def compare_tiles(
    own: Side, other: Side, threshold: float, counts: Int64, *, is_own: bool = False, begin: int = 0
) -> None:
    """Compare the tiles of a chunk with the tiles, and the fringe, of another from ``begin`` on.

    Some tiles at a time; with ``is_own`` both chunks are the same.
    """
    others, n = subtracted(other.tiles.envelope[begin:], signed=other.rows.signed), len(own.tiles.center)
    step = min(TILES_AT_ONCE, max(1, PRODUCTS_AT_ONCE // max(1, len(others))))
    for first in range(0, n if len(others) else 0, step):
        product = others @ own.tiles.envelope[first : min(n, first + step)].T
        _search_tiles(first, begin, product, own, other, is_own, threshold, counts)
