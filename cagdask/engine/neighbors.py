"""For every row its k nearest, exactly, and a bound on all others.

One task per chunk of rows. It goes through its own chunk first and then through those that its pivots leave open,
nearest first; two chunks and the lists are all it holds. Within a pair of chunks:

    64 rows x list     angle of each row to the list's pivot leaves a window of the list (triangle inequality)
    rows x window      one small product of the leading coordinates is an upper bound of the similarity
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
ROWS_AT_ONCE = 64


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
def search_pair(
    rows: Any, rows32: Any, lead: Any, length: Any, group: Any,
    t_rows: Any, t_rows32: Any, t_lead: Any, t_angle: Any, t_group: Any, t_gene: Any, t_begin: Any, t_radius: Any,
    cosine: Any, offset: int, threshold: float, sim: Any, row: Any, gene: Any,
) -> tuple[int, int]:  # fmt: skip
    """Neighbors of the rows of one chunk in another; lists are updated in place.

    Parameters
    ----------
    rows, rows32, lead, length, group
        Queries: (n, n_samples) float64 and float32, (n, n_lead + 1) float32, (n,) float32, (n,) int64. Rows of the same
        group are never listed.
    t_rows, …, t_radius
        The chunk searched, as :func:`cagdask.engine.pivots.gather_chunk` writes it.
    cosine
        Of each query row's direction with the pivot of each list, (n, n_lists) float32.
    offset
        Position of the searched chunk's first row among all.
    threshold
        Smallest similarity to list.
    sim, row, gene
        Lists (n, k): similarity float64, position and gene int64; empty places hold -2, -1, and a huge gene.

    Returns
    -------
    n_bounded, n_full
        Pairs bounded by leading coordinates, and pairs multiplied in full.
    """
    k = sim.shape[1]
    n_bounded = 0
    n_full = 0
    who = np.empty(ROWS_AT_ONCE, np.int64)
    low = np.empty(ROWS_AT_ONCE, np.int64)
    high = np.empty(ROWS_AT_ONCE, np.int64)
    asked = np.empty((ROWS_AT_ONCE, lead.shape[1]), np.float32)
    cos_radius = np.cos(np.minimum(t_radius + ANGLE_MARGIN, np.float32(np.pi)))
    sin_radius = np.sin(np.minimum(t_radius + ANGLE_MARGIN, np.float32(np.pi)))
    for q0 in range(0, len(rows), ROWS_AT_ONCE):
        q1 = min(q0 + ROWS_AT_ONCE, len(rows))
        order = np.argsort(-cosine[(q0 + q1) // 2])
        for b in order:
            begin, end = t_begin[b], t_begin[b + 1]
            n_asked = 0
            first, last = end, begin
            for q in range(q0, q1):
                need = np.float32(max(threshold, sim[q, k - 1])) - PRODUCT_MARGIN
                c = min(np.float32(1), need / length[q])
                s = np.sqrt(np.float32(1) - c * c)
                x = min(np.float32(1), max(np.float32(-1), cosine[q, b]))
                if (
                    s * cos_radius[b] + c * sin_radius[b] >= 0
                    and x < c * cos_radius[b] - s * sin_radius[b] - PRODUCT_MARGIN
                ):
                    continue  # even the row of the list that is nearest to the query is too far
                alpha = np.arccos(x)
                phi = np.arccos(c) + ANGLE_MARGIN
                i0 = begin + np.searchsorted(t_angle[begin:end], alpha - phi)
                i1 = begin + np.searchsorted(t_angle[begin:end], alpha + phi, side="right")
                if i1 > i0:
                    who[n_asked], low[n_asked], high[n_asked] = q, i0, i1
                    n_asked += 1
                    first = min(first, i0)
                    last = max(last, i1)
            if n_asked == 0:
                continue
            for z in range(n_asked):
                asked[z] = lead[who[z]]
            upper = np.dot(asked[:n_asked], t_lead[first:last].T)
            n_bounded += n_asked * (last - first)
            for z in range(n_asked):
                q = who[z]
                need = np.float32(max(threshold, sim[q, k - 1])) - PRODUCT_MARGIN
                for y in range(low[z], high[z]):
                    if upper[z, y - first] < need or t_group[y] == group[q]:
                        continue
                    n_full += 1
                    if _product32(rows32[q], t_rows32[y]) < need:
                        continue
                    exact = rounded(product(rows[q], t_rows[y]))
                    if exact >= threshold:
                        _insert(sim[q], row[q], gene[q], exact, offset + y, t_gene[y])
                        need = np.float32(max(threshold, sim[q, k - 1])) - PRODUCT_MARGIN
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
    unit = own["rows32"] / own["length"][:, None]
    bounded = full = n_bytes = 0
    opened = open_chunks(arrays.load_all(directory, "chunk", "pivot", "radius"), centers, mine, threshold)
    for other in opened:
        near = {name: np.asarray(arrays.load(chunks[other], name)) for name in CHUNK_ARRAYS}
        near_group = np.asarray(arrays.load(chunks[other], "group")) if groups else near["gene"]
        pairs = search_pair(
            own["rows"], own["rows32"], own["lead"], own["length"], group,
            near["rows"], near["rows32"], near["lead"], near["angle"], near_group, near["gene"],
            near["list_begin"], near["list_radius"], unit @ centers[near["list_pivot"]].T,
            offsets[other], threshold, sim, row, gene,
        )  # fmt: skip
        bounded, full = bounded + pairs[0], full + pairs[1]
        n_bytes += sum(part.nbytes for part in near.values())
    bound = np.where(row[:, -1] >= 0, sim[:, -1], rounded(threshold) - 1 / STEP)
    arrays.save(folder, sim=sim, row=row, bound=bound, gene=own["gene"])
    return {"n_bounded": int(bounded), "n_full": int(full), "bytes_read": n_bytes, "n_chunks": len(opened)}


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
