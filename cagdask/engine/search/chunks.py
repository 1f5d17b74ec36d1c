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

from cagdask import storage
from cagdask.engine.rows.files import (
    Block,
    GroupFiles,
    Stored,
    join_stored,
    lengths,
    members,
    smaller_form,
    stored_rows,
    take_stored,
    unit,
)
from cagdask.engine.search.envelopes import envelopes, fringe_begins
from cagdask.engine.search.pivots import PivotFiles, nearest_pivots
from cagdask.engine.search.sketches import coarse_sketches, fine_sketches
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

TILE_ROWS = 64
"""Rows of one list that are searched together, at most."""
SUMMARIZED = 1024
"""Rows of which a chunk's summary tells the largest values together."""


class SortedFiles(GroupFiles):
    """A block in the order of (pivot, angle). Written by :func:`assign_block`, read by :func:`gather_chunk`."""

    pivot: NDArray[np.int32] = array(np.int32, "group", "nearest pivot of the row")
    angle: Float32 = array(np.float32, "group", "angle to it, radian")
    count: Int64 = array(np.int64, "pivot", "rows of each pivot in the block")


class ChunkPlanFiles(Files):
    """Which parts of sorted blocks make which chunk.

    Written by :func:`write_chunk_plan`, read by :func:`gather_chunk`.
    """

    slices: Int64 = array(np.int64, "slice, 4", "chunk, block, and its rows: begin, end")


class ChunkFiles(GroupFiles):
    """Rows of whole lists in pivot order, the fringe last.

    Written by :func:`gather_chunk`; read by searches and merging.
    """

    coarse: Float32 = array(np.float32, "group, n_coarse", "coarse sketches")
    fine: Float32 = array(np.float32, "group, n_fine", "fine sketches")
    length: Float32 = array(np.float32, "group", "lengths of the fine sketches")
    tile_begin: Int64 = array(np.int64, "part edge", "first row of each tile, then of each part of the fringe; the end")
    tile_center: Float32 = array(np.float32, "tile, n_fine", "mean direction of the tile, unit length")
    tile_angle: Float32 = array(np.float32, "row of a list", "angle of the row to its tile's center, radian")
    envelope: Float32 = array(
        np.float32, "part, n_long", "largest values of each tile, then of each part of the fringe"
    )
    summary: Float32 = array(
        np.float32, "range, n_fine", "largest sketch of some rows, number by number, without signs"
    )
    pivot: NDArray[np.int32] = array(np.int32, "group", "nearest pivot of the row")
    signed: NDArray[np.int8] = array(np.int8, "1", "whether rows have signs, which decides what sketches are")


class DirectoryFiles(Files):
    """Where the rows of all chunks are. Written by :func:`write_directory`; read by searches."""

    offset: Int64 = array(np.int64, "chunk edge", "position of the chunk's first row among all rows, and their number")
    first: Int64 = array(np.int64, "chunk", "smallest pivot of its rows")
    last: Int64 = array(np.int64, "chunk", "largest pivot of its rows")


def directory_of(chunks: str) -> str:
    """Folder of the :class:`DirectoryFiles` of chunks ``chunks/0``, ``chunks/1``, ..."""
    return storage.join(chunks, "directory")


def assign_block(block: dict[str, Any], pivots: str, folder: str) -> int:
    """Task: sort a block by (pivot, angle to it).

    Writes a :class:`SortedFiles`. Returns the number of rows.
    """
    rows, gene, size = members(Block(**block))
    trained = PivotFiles.open(pivots)
    directions = unit(fine_sketches(rows, trained.fine, signed=bool(trained.signed[0])))
    cosine, pivot = nearest_pivots(trained.pivots, trained.cells, directions)
    angle = np.arccos(np.clip(cosine, -1, 1)).astype(np.float32)
    order = np.lexsort((gene, angle, pivot))
    SortedFiles(
        **smaller_form(take_stored(rows, order))._asdict(),
        gene=gene[order],
        size=size[order],
        pivot=pivot[order].astype(np.int32),
        angle=angle[order],
        count=np.bincount(pivot, minlength=len(trained.pivots)),
    ).write(folder)
    return rows.n


def write_chunk_plan(blocks: list[str], chunk_rows: int, folder: str) -> list[int]:
    """Task: decide which slices of the sorted blocks make which chunk; the rows of each chunk.

    Writes a :class:`ChunkPlanFiles`.
    """
    chunks = plan_chunks(lambda: (files.count for files in SortedFiles.open_all(blocks)), chunk_rows)
    slices = [(c, *part) for c, parts in enumerate(chunks) for part in parts]
    ChunkPlanFiles(slices=np.array(slices, np.int64).reshape(-1, 4)).write(folder)
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

    Writes a :class:`ChunkFiles`.
    """
    slices = ChunkPlanFiles.open(plan).slices
    slices = slices[slices[:, 0] == number, 1:]
    parts = [(storage.join(blocks, str(block)), begin, end) for block, begin, end in slices.tolist()]
    files = [SortedFiles.open(*part) for part in parts]
    gene, size = np.concatenate([part.gene for part in files]), np.concatenate([part.size for part in files])
    pivot, angle = np.concatenate([part.pivot for part in files]), np.concatenate([part.angle for part in files])
    trained = PivotFiles.open(pivots)
    is_fringe = angle > float(trained.cut[0])
    order = np.lexsort((gene, angle, pivot, is_fringe))
    rows = take_stored(_joined_rows(parts), order)
    pivot = pivot[order]
    n_core = int((~is_fringe).sum())
    list_begin = np.append(np.unique(pivot[:n_core], return_index=True)[1], n_core)
    signed = bool(trained.signed[0])
    fine_rows = fine_sketches(rows, trained.fine, signed=signed)
    tile_begin = _tiles(list_begin)
    tile_center, tile_angle = _centers(unit(fine_rows[:n_core]), tile_begin)
    tile_begin = np.append(tile_begin[:-1], fringe_begins(n_core, rows.n))
    ChunkFiles(
        **smaller_form(rows)._asdict(),
        gene=gene[order],
        size=size[order],
        coarse=coarse_sketches(rows, trained.coarse, signed=signed),
        fine=fine_rows,
        length=lengths(fine_rows).astype(np.float32),
        tile_begin=tile_begin,
        tile_center=tile_center,
        tile_angle=tile_angle,
        envelope=envelopes(rows, tile_begin, trained.long, signed=signed),
        summary=_summary(np.abs(fine_rows), n_core),
        pivot=pivot,
        signed=np.array(trained.signed),
    ).write(folder)
    return rows.n


def _joined_rows(parts: list[tuple[str, int, int]]) -> Stored:
    """Some rows of each of some folders, one after the other."""
    return join_stored([take_stored(stored_rows(url), np.arange(begin, end)) for url, begin, end in parts])


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

    Writes a :class:`DirectoryFiles`. Returns for every chunk those that it is to be compared with.
    """
    files = list(ChunkFiles.open_all([storage.join(chunks, str(i)) for i in range(len(rows))]))
    summaries = [chunk.summary for chunk in files]
    DirectoryFiles(
        offset=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        first=np.array([chunk.pivot.min() for chunk in files], np.int64),
        last=np.array([chunk.pivot.max() for chunk in files], np.int64),
    ).write(directory_of(chunks))
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
