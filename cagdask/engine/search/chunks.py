"""Rows rewritten so that near ones lie together.

    block --nearest pivot, angle to it--> the block sorted by (pivot, angle)        one task per block
    sorted blocks --slices of a pivot range--> chunk of whole lists                 one task per chunk

A chunk is what FAISS calls an inverted file: the pivots are its coarse quantizer, the rows of one pivot a list, sorted
by their angle to it. By the triangle inequality only rows with angles in a window around the query's own can be near
it. Rows of the fringe come after the last list. Lists are cut into tiles of rows that are searched together.

Per task: one block or chunk, three times; of rows that are kept sparse, only their values.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.engine.rows.files import Block, join_stored, lengths, members, save_rows, stored_rows, take_stored, unit
from cagdask.engine.search.pivots import nearest_pivots
from cagdask.engine.search.sketches import sketches_of
from cagdask.storage import arrays

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

TILE_ROWS = 64
"""Rows of one list that are searched together, at most."""
SUMMARIZED = 1024
"""Rows of which a chunk's summary tells the largest values together."""


def assign_block(block: dict[str, Any], pivots: str, folder: str) -> int:
    """Task: sort a block by (pivot, angle to it).

    Writes the rows, ``gene``, ``size``, ``pivot`` (n,) int32, ``angle`` (n,) float32, and ``count`` (n_pivots,), the
    rows of each pivot. Returns the number of rows.
    """
    rows, gene, size = members(Block(**block))
    centers, cells, fine = arrays.load_all(pivots, "pivots", "cells", "fine")
    cosine, pivot = nearest_pivots(centers, cells, unit(sketches_of(rows, np.asarray(fine))))
    angle = np.arccos(np.clip(cosine, -1, 1)).astype(np.float32)
    order = np.lexsort((gene, angle, pivot))
    save_rows(folder, take_stored(rows, order))
    arrays.save(
        folder,
        gene=gene[order],
        size=size[order],
        pivot=pivot[order].astype(np.int32),
        angle=angle[order],
        count=np.bincount(pivot, minlength=len(centers)),
    )
    return rows.n


def write_chunk_plan(blocks: list[str], chunk_rows: int, folder: str) -> list[int]:
    """Task: decide which slices of the sorted blocks make which chunk; the rows of each chunk.

    Writes ``slice`` (n_slices, 4) int64: chunk, block, begin, end.
    """
    chunks = plan_chunks(lambda: (np.asarray(arrays.load(url, "count")) for url in blocks), chunk_rows)
    slices = [(c, *part) for c, parts in enumerate(chunks) for part in parts]
    arrays.save(folder, slice=np.array(slices, np.int64).reshape(-1, 4))
    return [sum(end - begin for _, begin, end in parts) for parts in chunks]


def plan_chunks(counts: Callable[[], Iterable[Int64]], chunk_rows: int) -> list[list[tuple[int, int, int]]]:
    """Which slices of the sorted blocks make which chunk.

    Parameters
    ----------
    counts
        Gives, block by block, the rows of each pivot in it, (n_pivots,); gone through twice, since all together would
        take blocks x pivots.
    chunk_rows
        Rows that a chunk should not exceed; lists stay whole unless one alone is larger.

    Returns
    -------
    list
        Per chunk the slices (block, begin, end) of sorted blocks.
    """
    bounds = _bounds(functools.reduce(np.add, counts()), chunk_rows)
    edges = np.stack([np.append(0, np.cumsum(count))[bounds] for count in counts()])
    chunks: list[list[tuple[int, int, int]]] = []
    for begins, ends in zip(edges.T[:-1].tolist(), edges.T[1:].tolist(), strict=True):
        slices = [(b, *part) for b, part in enumerate(zip(begins, ends, strict=True)) if part[1] > part[0]]
        chunks += _split(slices, chunk_rows)
    return chunks


def _bounds(total: Int64, chunk_rows: int) -> list[int]:
    """The first pivot of each chunk, and the number of pivots: as many each as have at most ``chunk_rows`` rows."""
    bounds, rows = [0], 0
    for pivot, n in enumerate(total.tolist()):
        if pivot > bounds[-1] and rows + n > chunk_rows:
            bounds.append(pivot)
            rows = 0
        rows += n
    return [*bounds, len(total)]


def _split(slices: list[tuple[int, int, int]], chunk_rows: int) -> list[list[tuple[int, int, int]]]:
    chunks: list[list[tuple[int, int, int]]] = []
    room = 0
    for block, begin, end in slices:
        if end - begin > room:
            chunks.append([])
            room = chunk_rows
        chunks[-1].append((block, begin, end))
        room -= end - begin
    return chunks


def gather_chunk(blocks: str, plan: str, number: int, pivots: str, folder: str) -> int:
    """Task: chunk ``number`` of a plan, out of its slices of the sorted blocks, ``blocks/0``, ``blocks/1``, ...

    Writes the rows, their sketches ``coarse`` (n, n_coarse) and ``fine`` (n, n_fine) float32,
    ``length`` (n,) float32, ``gene`` and ``size`` (n,) int64; for the tiles that lists are cut into ``tile_begin``
    (n_tiles + 1,), the last one where the fringe begins, ``tile_center`` (n_tiles, n_fine) float32, and the angle of
    each row to its tile's center, ``tile_angle`` (n_core,); ``summary`` (n_ranges, n_fine) float32, the largest sketch
    of some rows, number by number; and ``pivot`` (n,) int32.
    """
    slices = np.asarray(arrays.load(plan, "slice"))
    slices = slices[slices[:, 0] == number, 1:]
    parts = {
        name: np.concatenate([arrays.load(f"{blocks}/{block}", name, begin, end) for block, begin, end in slices])
        for name in ("pivot", "angle", "gene", "size")
    }
    is_fringe = parts["angle"] > float(arrays.load(pivots, "cut")[0])
    order = np.lexsort((parts["gene"], parts["angle"], parts["pivot"], is_fringe))
    stored = (take_stored(stored_rows(f"{blocks}/{block}"), np.arange(begin, end)) for block, begin, end in slices)
    rows = take_stored(join_stored(list(stored)), order)
    save_rows(folder, rows)
    pivot = parts["pivot"][order]
    n_core = int((~is_fringe).sum())
    list_begin = np.append(np.unique(pivot[:n_core], return_index=True)[1], n_core)
    fine_rows = sketches_of(rows, np.asarray(arrays.load(pivots, "fine")))
    tile_begin = _tiles(list_begin)
    tile_center, tile_angle = _centers(unit(fine_rows[:n_core]), tile_begin)
    arrays.save(
        folder,
        coarse=sketches_of(rows, np.asarray(arrays.load(pivots, "coarse"))),
        fine=fine_rows,
        length=lengths(fine_rows).astype(np.float32),
        gene=parts["gene"][order],
        size=parts["size"][order],
        tile_begin=tile_begin,
        tile_center=tile_center,
        tile_angle=tile_angle,
        summary=_summary(fine_rows, n_core),
        pivot=pivot,
    )
    return rows.n


def _tiles(list_begin: Int64) -> Int64:
    """Where tiles begin, and where the last ends."""
    begins = [np.arange(a, b, TILE_ROWS) for a, b in itertools.pairwise(list_begin)]
    return np.concatenate([*begins, list_begin[-1:]]).astype(np.int64)


def _centers(directions: Float32, tile_begin: Int64) -> tuple[Float32, Float32]:
    """Mean direction of each tile, and the angle of each row to that of its own."""
    if len(tile_begin) < 2:
        return np.zeros((0, directions.shape[1]), np.float32), np.zeros(0, np.float32)
    center = unit(np.add.reduceat(directions, tile_begin[:-1], axis=0))
    own = np.repeat(center, np.diff(tile_begin), axis=0)
    cosine = np.einsum("ij,ij->i", directions, own, dtype=np.float64)
    return center, np.arccos(np.clip(cosine, -1, 1)).astype(np.float32)


def _summary(fine: Float32, n_core: int) -> Float32:
    """Largest values of ranges of rows, those of the fringe apart."""
    n = len(fine)
    begins = np.unique([*range(0, n_core, SUMMARIZED), *range(n_core, n, SUMMARIZED)]).astype(np.int64)
    largest: Float32 = np.maximum.reduceat(fine, begins, axis=0)
    return largest


def write_directory(chunks: str, rows: list[int], level: float) -> list[list[int]]:
    """Task: where the rows of all chunks are, ``chunks/0``, ``chunks/1``, ..., and which of them can be near others.

    Writes to ``chunks/directory`` ``offset`` (n_chunks + 1,), the position of each one's first row among all, and
    ``first`` and ``last`` (n_chunks,), the range of its pivots. Returns for every chunk those that it is to be compared
    with.
    """
    summaries = [np.asarray(arrays.load(f"{chunks}/{i}", "summary")) for i in range(len(rows))]
    pivots = [arrays.load(f"{chunks}/{i}", "pivot") for i in range(len(rows))]
    arrays.save(
        f"{chunks}/directory",
        offset=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        first=np.array([pivot.min() for pivot in pivots], np.int64),
        last=np.array([pivot.max() for pivot in pivots], np.int64),
    )
    opened = np.array([[(one @ other.T).max() >= level - 1e-5 for other in summaries] for one in summaries])
    return partners_of(opened)


def partners_of(opened: NDArray[np.bool_]) -> list[list[int]]:
    """For every chunk those to compare it with, so that each open pair is compared once and all have about as many.

    ``opened`` (n_chunks, n_chunks) is symmetric.
    """
    n = len(opened)
    found: list[list[int]] = []
    for i in range(n):
        ahead = [(i + step) % n for step in range(1, n // 2 + 1)]
        if n % 2 == 0 and i >= n // 2:
            ahead = ahead[:-1]
        found.append([j for j in ahead if opened[i, j]])
    return found
