"""For every row its k nearest, exactly, and a bound on all others.

Every pair of chunks is looked at once, for the rows of both:

    search_own      chunk with itself                                       one task per chunk
    search_others   chunk with half of the others that are open to it       one task per chunk; two chunks at a time
    finish_lists    what a chunk found, and what others found for it        one task per chunk

Its own chunk gives a row nearly all of its list, and with it a similarity that others must reach. How pairs of rows are
ruled out is in :mod:`cagdask.engine.search.tiles` and :mod:`cagdask.engine.search.kernels`.

What is not on a row's list has at most the similarity of the last one listed, or less than the threshold if the list is
not full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.memory import one_thread
from cagdask.engine.grid import STEP, on_grid
from cagdask.engine.rows.files import lengths, stored_rows
from cagdask.engine.search.chunks import ChunkFiles, DirectoryFiles, directory_of
from cagdask.engine.search.kernels import (
    COUNTS,
    PRODUCT_MARGIN,
    Lists,
    Rows,
    Side,
    Tiles,
    compare_fringes,
    insert_all,
)
from cagdask.engine.search.sketches import LARGEST
from cagdask.engine.search.tiles import compare_near, compare_tiles, n_core_of
from cagdask.storage.arrays import Files, array, read_only

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_HUGE = np.iinfo(np.int64).max


class OpenListFiles(Files):
    """Lists of the rows of a chunk before the search is over. Written and read by searches."""

    sim: Float64 = array(np.float64, "row, place", "similarity, falling; -2 where the place is empty")
    row: Int64 = array(np.int64, "row, place", "position of the neighbor among all rows; -1 for none")
    gene: Int64 = array(np.int64, "row, place", "gene of the neighbor; huge for none")


class FoundFiles(Files):
    """What another chunk found for the rows of this one.

    Written by :func:`search_others`, read by :func:`finish_lists`.
    """

    own_row: Int64 = array(np.int64, "pair", "row of this chunk, from 0")
    sim: Float64 = array(np.float64, "pair", "similarity")
    row: Int64 = array(np.int64, "pair", "position of the neighbor among all rows")
    gene: Int64 = array(np.int64, "pair", "gene of the neighbor")


class ListFiles(Files):
    """The nearest neighbors of the rows of a chunk, and what they prove.

    Written by :func:`save_lists`; read by merging, single linkage and refinement.
    """

    sim: Float64 = array(np.float64, "row, place", "similarity, falling; -2 where the place is empty")
    row: Int64 = array(np.int64, "row, place", "position of the neighbor among all rows; -1 for none")
    bound: Float64 = array(np.float64, "row", "nothing unlisted is more similar")
    tie: Int64 = array(np.int64, "row", "what is unlisted and as similar as the bound has a larger gene; -1: unknown")
    gene: Int64 = array(np.int64, "row", "gene of the row itself")


class ComponentFiles(Files):
    """Which rows of a chunk are joined already, in a folder of the chunk.

    Written by :func:`cagdask.engine.linkage.single.write_components`; read by searches.
    """

    component: Int64 = array(np.int64, "row", "smallest gene of the component of the row")


def components_of(chunk: str) -> str:
    """Folder of the :class:`ComponentFiles` of a chunk."""
    return storage.join(chunk, "components")


def search_own(folder: str, number: int, threshold: float, k: int, groups: bool, to: str) -> dict[str, int]:
    """Task: the k nearest of every row of chunk ``number`` of ``folder`` in that chunk.

    Writes a :class:`OpenListFiles` to ``to/own``. With ``groups`` each chunk has a :class:`ComponentFiles`, and rows of
    one component are not listed for each other. Returns what was counted, and the bytes read.
    """
    rows, tiles, n_bytes = load_chunk(folder, number, groups=groups)
    own = Side(rows, tiles, empty_lists(len(rows.gene), k, threshold))
    counts = np.zeros(len(COUNTS), np.int64)
    n_core = n_core_of(tiles)
    with one_thread():
        compare_near(own, threshold, counts)
        compare_tiles(own, own, threshold, counts, is_own=True)
        compare_fringes(own, n_core, own, n_core, True, threshold, counts)
    save_open_lists(own.lists, storage.join(to, "own"))
    return counted(counts, rows, n_bytes)


def search_others(
    folder: str, number: int, partners: list[int], lists_folder: str, threshold: float, groups: bool
) -> dict[str, int]:
    """Task: the nearest of every row of chunk ``number`` in some other chunks, and of theirs in it.

    Starts from what :func:`search_own` wrote to ``lists_folder/NUMBER/own``. Writes ``lists_folder/NUMBER/half`` in the
    same form, and for every partner a :class:`FoundFiles`, ``lists_folder/PARTNER/from-NUMBER``. Returns what was
    counted, and the bytes read.
    """

    def load(chunk: int) -> tuple[Side, int]:
        rows, tiles, n_bytes = load_chunk(folder, chunk, groups=groups)
        return Side(rows, tiles, load_lists(storage.join(lists_folder, str(chunk), "own"), threshold)), n_bytes

    own, n_bytes = load(number)
    counts = np.zeros(len(COUNTS), np.int64)
    n_core = n_core_of(own.tiles)
    with one_thread():
        for partner, (other, more) in zip(partners, storage.ahead(load, partners), strict=True):
            compare_tiles(own, other, threshold, counts)
            compare_tiles(other, own, threshold, counts, begin=len(own.tiles.center))  # with the fringe
            compare_fringes(own, n_core, other, n_core_of(other.tiles), False, threshold, counts)
            _save_found(other.lists, own.rows, storage.join(lists_folder, str(partner), f"from-{number}"))
            n_bytes += more + other.lists.sim.nbytes * 3
    save_open_lists(own.lists, storage.join(lists_folder, str(number), "half"))
    return counted(counts, own.rows, n_bytes)


def save_open_lists(lists: Lists, to: str) -> None:
    """Write lists to be added to."""
    OpenListFiles(sim=lists.sim, row=lists.row, gene=lists.gene).write(to)


def _save_found(lists: Lists, found: Rows, to: str) -> None:
    """Write which of the rows ``found`` were put on some lists of another chunk."""
    row, place = np.nonzero((lists.row >= found.offset) & (lists.row < found.offset + len(found.gene)))
    listed = row, place
    FoundFiles(own_row=row, sim=lists.sim[listed], row=lists.row[listed], gene=lists.gene[listed]).write(to)


def finish_lists(folder: str, number: int, lists_folder: str, sources: list[int], threshold: float) -> int:
    """Task: the k nearest of every row of chunk ``number`` among all chunks.

    Takes together what :func:`search_others` found for it, as chunk or as partner of ``sources``. Writes a
    :class:`ListFiles` to ``lists_folder/NUMBER``. Returns the number of full lists.
    """
    of_chunk = storage.join(lists_folder, str(number))
    lists = load_lists(storage.join(of_chunk, "half"), threshold)
    for source in sources:
        found = FoundFiles.open(storage.join(of_chunk, f"from-{source}"))
        insert_all(found.own_row, found.sim, found.row, found.gene, lists, threshold)
    return save_lists(lists, ChunkFiles.open(storage.join(folder, str(number))).gene, threshold, of_chunk)


def save_lists(lists: Lists, gene: NDArray[Any], threshold: float, to: str) -> int:
    """Write lists with what they prove, and the genes of their rows; gives the number of full ones."""
    full = lists.row[:, -1] >= 0
    ListFiles(
        sim=lists.sim,
        row=lists.row,
        bound=np.where(full, lists.sim[:, -1], on_grid(threshold) - 1 / STEP),
        tie=np.where(full, lists.gene[:, -1], -1),
        gene=gene,
    ).write(to)
    return int(full.sum())


def counted(counts: Int64, rows: Rows, n_bytes: int) -> dict[str, int]:
    """What a search counted, with the multiply-adds of all its products, and the bytes that it read."""
    n_samples, n_fine, n_coarse = rows.rows.dense.shape[1], rows.fine.shape[1], rows.coarse.shape[1]
    sizes = np.array([min(n_samples, LARGEST), n_fine, n_coarse, n_fine, n_samples])
    found = {name: int(n) for name, n in zip(COUNTS, counts, strict=True)}
    return found | {"multiply_adds": int(counts @ sizes), "bytes_read": n_bytes}


def load_chunk(folder: str, number: int, *, groups: bool) -> tuple[Rows, Tiles, int]:
    """A chunk, and its bytes; a local one is mapped, and what is not looked at is not read."""
    url = storage.join(folder, str(number))
    stored = stored_rows(url)
    chunk = ChunkFiles.open(url)
    group = ComponentFiles.open(components_of(url)).component if groups else chunk.gene
    offset = int(DirectoryFiles.open(directory_of(folder)).offset[number])
    short = chunk.coarse, chunk.fine
    rows = complete_rows(stored, short, chunk.gene, offset, bool(chunk.signed[0]), chunk.length, group)
    tiles = Tiles(chunk.tile_begin, chunk.tile_angle, chunk.tile_center, chunk.envelope)
    parts = (chunk.coarse, chunk.fine, chunk.length, chunk.gene, *tiles)
    return rows, tiles, stored.nbytes + sum(part.nbytes for part in parts)


def complete_rows(
    stored: Any, short: tuple[Float32, Float32], gene: Int64, offset: int, signed: bool, length: Float32 | None = None,
    group: Int64 | None = None,
) -> Rows:  # fmt: skip
    """Rows, with their coarse and fine sketches, and what can be derived of them."""
    coarse, fine = short
    length = lengths(fine).astype(np.float32) if length is None else length
    for part in (coarse, fine, length, gene):
        read_only(part)
    direction = read_only(fine / length[:, None])
    return Rows(stored, coarse, fine, direction, length, gene, gene if group is None else group, offset, signed)


def empty_lists(n: int, k: int, threshold: float) -> Lists:
    """Lists of ``n`` rows that hold nothing yet."""
    return _with_need(np.full((n, k), -2.0), np.full((n, k), -1, np.int64), np.full((n, k), _HUGE, np.int64), threshold)


def load_lists(url: str, threshold: float) -> Lists:
    """Lists as a task wrote them, to be added to."""
    lists = OpenListFiles.open(url)
    return _with_need(np.array(lists.sim), np.array(lists.row), np.array(lists.gene), threshold)


def _with_need(sim: Any, row: Any, gene: Any, threshold: float) -> Lists:
    return Lists(sim, row, gene, np.maximum(sim[:, -1], threshold).astype(np.float32) - PRODUCT_MARGIN)
