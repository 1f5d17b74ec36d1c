"""Pairs of rows of two chunks in memory, compared and listed: compiled.

What :mod:`cagdask.engine.search.tiles` leaves of the pairs goes through three more steps, each of which costs more and
leaves less:

    rows x rows     one small matrix product of coarse sketches, an upper bound of the similarity
    pairs           product of fine sketches, a closer bound
    what is left    in float64, rounded to 1e-10, before it is compared and listed

A pair is put on the lists of both rows. Equal similarities are ordered by gene, so the first of a list is *the* nearest
whatever the order of the search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.engine.rows.files import copy_row, product_with, rounded

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

PRODUCT_MARGIN = np.float32(1e-5)  # a float32 product of two sketches is off by up to a few 1e-6
TARGETS_AT_ONCE = 256
QUERIES_AT_ONCE = 1024
COUNTS = ("screened", "tested", "bounded", "checked", "multiplied")
"""Pairs of tiles screened by envelopes, of a tile and a row tested by their angle, of rows by coarse sketch, by fine
sketch, and in full."""
SCREENED, TESTED, BOUNDED, CHECKED, MULTIPLIED = range(len(COUNTS))


class Rows(NamedTuple):
    """Rows of a chunk, as :func:`cagdask.engine.search.chunks.gather_chunk` writes them.

    ``rows`` is a :class:`cagdask.engine.rows.files.Stored`, ``direction`` the fine sketches scaled to unit length. Rows
    of one ``group`` are not listed for each other. ``offset`` is the position of the first among all rows. With
    ``signed`` the last number of coarse sketches is subtracted.
    """

    rows: Any
    coarse: Any
    fine: Any
    direction: Any
    length: Any
    gene: Any
    group: Any
    offset: int
    signed: bool


class Tiles(NamedTuple):
    """Tiles of a chunk: where each begins, the angle of its rows to its center, the centers, and envelopes.

    After the tiles come parts of the fringe, which have no center: ``begin`` (n_tiles + n_parts + 1,) and ``envelope``
    (n_tiles + n_parts, n_long) tell of both. The fringe begins at row ``begin[n_tiles]``.
    """

    begin: Any
    angle: Any
    center: Any
    envelope: Any


class Lists(NamedTuple):
    """What is listed of each row of a chunk, most similar first: (n, k), and ``need`` (n,), what a newcomer must reach.

    Empty places hold a similarity of -2, row -1 and a huge gene.
    """

    sim: Any
    row: Any
    gene: Any
    need: Any


class Side(NamedTuple):
    """One of the two chunks that are compared. ``lists`` are changed in place; both sides may be the same chunk."""

    rows: Rows
    tiles: Tiles
    lists: Lists


class Buffers(NamedTuple):
    """Arrays that :func:`compare` uses again and again: getting them anew would take a third of its time."""

    asked: Any
    offered: Any
    upper: Any
    need: Any
    reached: Any
    query: Any


@njit(cache=True, nogil=True, fastmath=True)
def product32(a: Float32, b: Float32) -> np.float32:
    """Product of two short vectors in float32."""
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
def insert_all(own_row: Any, sim: Any, row: Any, gene: Any, lists: Lists, threshold: float) -> None:
    """Put neighbors into the lists of the rows ``own_row``."""
    for i in range(len(own_row)):
        insert(lists, own_row[i], sim[i], row[i], gene[i], threshold)


@njit(cache=True, nogil=True)
def _mark(values: Float32, own: np.float32, others: Float32, reached: Any) -> None:
    """Mark the values that reach what their row or column needs; without branches, so that many are done at a time."""
    for i in range(len(values)):
        reached[i] = values[i] >= min(own, others[i])


@njit(cache=True, nogil=True)
def make_buffers(own: Rows) -> Buffers:
    """Buffers for :func:`compare`."""
    n_coarse = own.coarse.shape[1]
    return Buffers(
        np.empty((QUERIES_AT_ONCE, n_coarse), np.float32),
        np.empty((TARGETS_AT_ONCE, n_coarse), np.float32),
        np.empty(QUERIES_AT_ONCE * TARGETS_AT_ONCE, np.float32),
        np.empty(TARGETS_AT_ONCE, np.float32),
        np.zeros(TARGETS_AT_ONCE, np.uint8),
        np.empty(own.rows.dense.shape[1]),
    )


@njit(cache=True, nogil=True)
def compare(
    queries: Int64, targets: Int64, once: bool, own: Side, other: Side, buffers: Buffers, threshold: float,
    counts: Int64,
) -> None:  # fmt: skip
    """List what is near enough among the pairs of rows ``queries`` of one chunk and ``targets`` of another, for both.

    At most :data:`QUERIES_AT_ONCE` queries. With ``once`` the chunks are the same, and a pair counts only where its
    first row comes before its second.
    """
    rows, others, lists, other_lists = own.rows, other.rows, own.lists, other.lists
    query, need, offered = buffers.query, buffers.need, buffers.offered
    eights = buffers.reached.view(np.uint64)  # most targets are far: eight marks are looked at in one step
    asked = buffers.asked[: len(queries)]
    for z in range(len(queries)):
        asked[z] = rows.coarse[queries[z]]
    counts[BOUNDED] += len(queries) * len(targets)
    for begin in range(0, len(targets), TARGETS_AT_ONCE):
        n_offered = min(TARGETS_AT_ONCE, len(targets) - begin)
        for j in range(n_offered):
            offered[j] = others.coarse[targets[begin + j]]
            if others.signed:
                offered[j, -1] = -offered[j, -1]
            need[j] = other_lists.need[targets[begin + j]]
        upper = buffers.upper[: len(queries) * n_offered].reshape((len(queries), n_offered))
        np.dot(asked, offered[:n_offered].T, upper)
        for z in range(len(queries)):
            q = queries[z]
            copied = False
            _mark(upper[z], lists.need[q], need[:n_offered], buffers.reached[:n_offered])
            for eight in range(-(-n_offered // 8)):
                if eights[eight] == 0:
                    continue
                for j in range(8 * eight, min(8 * eight + 8, n_offered)):
                    y = targets[begin + j]
                    least = min(lists.need[q], other_lists.need[y])  # read again: insert raises it
                    if upper[z, j] < least or others.group[y] == rows.group[q] or (once and y <= q):
                        continue
                    counts[CHECKED] += 1
                    if product32(rows.fine[q], others.fine[y]) < least:
                        continue
                    if not copied:
                        copy_row(rows.rows, q, query)
                        copied = True
                    counts[MULTIPLIED] += 1
                    exact = rounded(product_with(query, others.rows, y))
                    if exact >= threshold:
                        insert(lists, q, exact, others.offset + y, others.gene[y], threshold)
                        insert(other_lists, y, exact, rows.offset + q, rows.gene[q], threshold)


@njit(cache=True, nogil=True)
def compare_fringes(
    own: Side, begin: int, other: Side, other_begin: int, is_own: bool, threshold: float, counts: Int64
) -> None:
    """Compare the rows from ``begin`` on of one chunk with those from ``other_begin`` on of another."""
    n, n_other = len(own.rows.gene), len(other.rows.gene)
    buffers = make_buffers(own.rows)
    for q in range(begin, n, QUERIES_AT_ONCE):
        queries = np.arange(q, min(q + QUERIES_AT_ONCE, n))
        targets = np.arange(q if is_own else other_begin, n_other)
        compare(queries, targets, is_own, own, other, buffers, threshold, counts)
