"""A search that looks only where neighbors usually are, and how much of them it finds.

    row --nearest pivots, as many as there are probes--> their lists, in whatever chunk --FAISS--> candidates
    candidates --products in float64--> list of the k nearest that were found

Rows of a chunk are an inverted file of FAISS, with the pivots as coarse quantizer; this is its plain search. The lists
have the form of :mod:`cagdask.engine.search.neighbors`, but their bounds are not proven: a neighbor may be missing.

How many are missing is measured. For some rows, drawn by their genes, the exact lists are made too:

    recall = neighbors that both searches list / neighbors that the exact search lists

Pivots, probes and the drawn rows do not depend on chunks or workers, so neither does the result. Per task: two chunks,
one of them also in float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.engine.rows.files import (
    RowFiles,
    copy_row,
    load_rows,
    product_with,
    rounded,
    smaller_form,
    stored_rows,
    take_rows,
)
from cagdask.engine.search.chunks import ChunkFiles, DirectoryFiles, directory_of
from cagdask.engine.search.faiss_answers import search_lists
from cagdask.engine.search.kernels import COUNTS, MULTIPLIED, Lists, Rows, Side, compare_fringes, insert
from cagdask.engine.search.neighbors import (
    ListFiles,
    complete_rows,
    counted,
    empty_lists,
    load_chunk,
    load_lists,
    save_lists,
    save_open_lists,
)
from cagdask.engine.search.pivots import PivotFiles, hashed, probed_pivots
from cagdask.engine.search.sketches import coarse_sketches, fine_sketches
from cagdask.storage.arrays import array

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

RECALL_ROWS = 1000
"""Rows on which recall is measured."""


class DrawnFiles(RowFiles):
    """Rows on which recall is measured.

    Written by :func:`draw_rows`, read by :func:`search_drawn` and :func:`count_found`.
    """

    gene: Int64 = array(np.int64, "row", "gene of the row")
    position: Int64 = array(np.int64, "row", "position among all rows, ascending")


def search_approximate(
    folder: str, number: int, pivots: str, probes: int, threshold: float, k: int, groups: bool, lists_folder: str
) -> dict[str, int]:
    """Task: of every row of chunk ``number`` of ``folder`` the k nearest in the lists of its ``probes`` nearest pivots.

    Writes what :func:`cagdask.engine.search.neighbors.finish_lists` writes, and returns what was counted, and the bytes
    read.
    """
    own, _, n_bytes = load_chunk(folder, number, groups=groups)
    lists = empty_lists(len(own.gene), k, threshold)
    trained = PivotFiles.open(pivots)
    probed = probed_pivots(trained.pivots, trained.cells, own.direction, probes)
    directory = DirectoryFiles.open(directory_of(folder))
    first, last = directory.first, directory.last
    counts = np.zeros(len(COUNTS), np.int64)
    for chunk in range(len(first)):
        inside = np.where((probed >= first[chunk]) & (probed <= last[chunk]), probed - first[chunk], -1)
        queries = np.flatnonzero((inside >= 0).any(axis=1))
        if not len(queries):
            continue
        other, _, more = (own, None, 0) if chunk == number else load_chunk(folder, chunk, groups=groups)
        url = storage.join(folder, str(chunk))
        pivot = ChunkFiles.open(url).pivot - first[chunk]
        asking = take_rows(own.rows, queries).astype(np.float32)
        found, n_scanned = search_lists(load_rows(url).astype(np.float32), pivot, asking, inside[queries], k + 1)
        _list_found(queries, found, own, other, lists, threshold)
        counts[MULTIPLIED] += n_scanned
        n_bytes += more
    save_lists(lists, own.gene, threshold, storage.join(lists_folder, str(number)))
    return counted(counts, own, n_bytes)


@njit(cache=True, nogil=True)
def _list_found(queries: Int64, found: Int64, own: Rows, other: Rows, lists: Lists, threshold: float) -> None:
    """List the rows ``found`` (n_queries, k) in another chunk for the rows ``queries`` of this one; -1 is none."""
    query = np.empty(own.rows.dense.shape[1])
    for z in range(len(queries)):
        q = queries[z]
        copy_row(own.rows, q, query)
        for y in found[z]:
            if y < 0 or other.group[y] == own.group[q]:
                continue
            exact = rounded(product_with(query, other.rows, y))
            if exact >= threshold:
                insert(lists, q, exact, other.offset + y, other.gene[y], threshold)


# -- recall ----------------------------------------------------------------------------------------------------------


def draw_rows(folder: str, n_chunks: int, to: str) -> int:
    """Task: some rows of all chunks, drawn by their genes; writes a :class:`DrawnFiles`; their number."""
    offset = DirectoryFiles.open(directory_of(folder)).offset
    urls = [storage.join(folder, str(i)) for i in range(n_chunks)]
    gene = np.concatenate([chunk.gene for chunk in ChunkFiles.open_all(urls)])
    drawn = np.sort(np.argsort(hashed(gene, 1), kind="stable")[:RECALL_ROWS])
    chunk = np.searchsorted(offset, drawn, side="right") - 1
    parts = [take_rows(urls[c], drawn[chunk == c] - offset[c]) for c in np.unique(chunk)]
    DrawnFiles(**smaller_form(np.concatenate(parts))._asdict(), gene=gene[drawn], position=drawn).write(to)
    return len(drawn)


def search_drawn(folder: str, number: int, drawn: str, pivots: str, threshold: float, k: int, to: str) -> int:
    """Task: of the rows ``drawn`` the k nearest in one chunk, exactly, as lists that are not finished."""
    chunk, tiles, _ = load_chunk(folder, number, groups=False)
    rows = np.asarray(load_rows(drawn))
    trained = PivotFiles.open(pivots)
    signed = bool(trained.signed[0])
    short = coarse_sketches(rows, trained.coarse, signed=signed), fine_sketches(rows, trained.fine, signed=signed)
    of_drawn = complete_rows(stored_rows(drawn), short, DrawnFiles.open(drawn).gene, -1, signed)
    own = Side(of_drawn, tiles, empty_lists(len(rows), k, threshold))  # the tiles are not looked at
    other = Side(chunk, tiles, empty_lists(len(chunk.gene), 1, np.inf))  # nothing reaches these lists
    compare_fringes(own, 0, other, 0, False, threshold, np.zeros(len(COUNTS), np.int64))
    save_open_lists(own.lists, to)
    return len(rows)


def count_found(exact: list[str], drawn: str, lists: list[str], offsets: list[int], threshold: float) -> list[int]:
    """Task: neighbors of the drawn rows that the exact search lists, and how many of them the other does."""
    best = load_lists(exact[0], threshold)
    for url in exact[1:]:
        more = load_lists(url, threshold)
        for i in range(len(best.row)):
            for j in np.flatnonzero(more.row[i] >= 0):
                insert(best, i, more.sim[i, j], more.row[i, j], more.gene[i, j], threshold)
    position = DrawnFiles.open(drawn).position
    chunk = np.searchsorted(offsets, position, side="right") - 1
    n_true = n_found = 0
    for i, (c, row) in enumerate(zip(chunk, position, strict=True)):
        nearest = best.row[i][best.row[i] >= 0]
        n_true += len(nearest)
        n_found += int(np.isin(nearest, ListFiles.open(lists[c]).row[row - offsets[c]]).sum())
    return [n_found, n_true]
