"""Rows rewritten so that near ones lie together.

    some rows --FAISS k-means--> pivots, ordered so that near pivots are neighbors
    block --nearest pivot, angle to it--> the block sorted by (pivot, angle)        one task per block
    sorted blocks --slices of a pivot range--> chunk of whole lists                 one task per chunk

A chunk is what FAISS calls an inverted file: the pivots are its coarse quantizer, the rows of one pivot a list, sorted
by their angle to it. By the triangle inequality only rows with angles in a window around the query's own can be near
it.

Rows that are far from every pivot, most of them genes of no genome, would make every list so wide that nothing can skip
it. Beyond the angle ``cut`` they belong to no list; they are the fringe of the chunk, at its end.

Each chunk also holds ``lead``: the coordinates of its rows in the leading directions of the data, and the length of
what is left. The product of two such rows is an upper bound of the product of the full rows (Cauchy and Schwarz).

Pivots decide only how much can be skipped, never the result. Per task: one block or chunk, twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import resources
from cagdask.engine import arrays

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

TRAINING_ROWS_PER_PIVOT = 10
LEAST_ROWS_PER_PIVOT = 4
SKIPPING = 0.95
MAX_PIVOTS = 16384
GRAM_SAMPLES = 1024  # up to here the leading directions come from the n_samples² Gram matrix


@dataclass(frozen=True)
class Block:
    """Rows in a folder, as ``rows`` (n, n_samples) float64 with ``gene`` and ``size``, that take part in a round.

    ``weight`` names the folder of the fold when the sizes are to be taken from it (first round).
    """

    folder: str
    n: int
    weight: str | None = None


def n_pivots_for(n: int) -> int:
    """Number of pivots for ``n`` rows: the lists and their number both grow with the root."""
    return int(min(MAX_PIVOTS, 5 * np.sqrt(n))) if n > 200 else 1


def members(block: Block) -> tuple[NDArray[np.float64], Int64, Int64]:
    """Rows, genes and sizes of the groups of a block that take part."""
    rows, gene = arrays.load_all(block.folder, "rows", "gene")
    if block.weight is None:
        return rows, gene, arrays.load(block.folder, "size")
    size = arrays.load(block.weight, "weight")[gene]
    return rows[size > 0], gene[size > 0], size[size > 0]


def directions(rows: NDArray[np.float64]) -> tuple[Float32, NDArray[np.float64]]:
    """Rows scaled to unit length, shape (n, n_samples) float32, and their lengths, float64."""
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return (rows / length[:, None]).astype(np.float32), length


def train_pivots(
    blocks: list[dict[str, Any]], n: int, max_rows: int, n_lead: int, threshold: float, seed: int, folder: str
) -> int:
    """Task: pivots and leading directions from a sample of at most ``max_rows`` rows.

    Writes ``pivots`` (n_pivots, n_samples) float32, unit length, ``basis`` (n_samples, n_lead) float32, orthonormal
    columns, and ``cut`` (1,), the angle up to which a row belongs to its list: the share :data:`SKIPPING` of all rows
    can skip a list of that radius. Returns the number of pivots.
    """
    n_pivots = min(n_pivots_for(n), max(1, max_rows // LEAST_ROWS_PER_PIVOT))
    rng = np.random.default_rng(seed)
    share = min(1.0, min(max_rows, TRAINING_ROWS_PER_PIVOT * n_pivots) / n)
    parts = []
    for block in (Block(**b) for b in blocks):
        rows = arrays.load(block.folder, "rows")
        here = np.arange(len(rows))
        if block.weight is not None:
            here = np.flatnonzero(arrays.load(block.weight, "weight")[arrays.load(block.folder, "gene")])
        picked = np.sort(rng.choice(len(here), min(len(here), int(np.ceil(share * len(here)))), replace=False))
        parts.append(directions(rows[here[picked]])[0])
    sample = np.concatenate(parts)
    basis = leading_directions(sample[:20_000], n_lead, rng)
    pivots = sample[:1] if n_pivots == 1 else _kmeans(sample, n_pivots, seed)
    pivots = pivots[near_ones_together(pivots)]
    usual = np.arccos(np.clip(np.quantile(sample[:2_000] @ pivots.T, SKIPPING), -1, 1))
    arrays.save(folder, pivots=pivots, basis=basis, cut=np.array([usual - np.arccos(threshold)]))
    return len(pivots)


def _kmeans(sample: Float32, n_pivots: int, seed: int) -> Float32:
    import faiss

    faiss.omp_set_num_threads(resources.task_threads())
    kmeans = faiss.Kmeans(
        sample.shape[1],
        min(n_pivots, len(sample)),
        niter=2,
        spherical=True,
        max_points_per_centroid=TRAINING_ROWS_PER_PIVOT,
        min_points_per_centroid=1,
        seed=seed + 1,
    )
    kmeans.train(np.ascontiguousarray(sample))
    found = np.asarray(kmeans.centroids, dtype=np.float32)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    unit: Float32 = found[length[:, 0] > 0] / length[length[:, 0] > 0]
    return unit


def leading_directions(sample: Float32, n_lead: int, rng: np.random.Generator) -> Float32:
    """Orthonormal columns that hold most of the rows' length, shape (n_samples, n_lead).

    The eigenvectors of the Gram matrix, or for many samples a randomized range finder [1]_; any orthonormal columns
    keep the bound valid.

    References
    ----------
    .. [1] Halko, Martinsson, Tropp (2011). Finding structure with randomness. SIAM Review 53.
    """
    n_samples = sample.shape[1]
    n_lead = min(n_lead, n_samples)
    if n_samples <= GRAM_SAMPLES:
        vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, ::-1][:, :n_lead]
    else:
        vectors = rng.normal(size=(n_samples, n_lead + 10))
        for _ in range(3):
            vectors = np.linalg.qr(sample.T @ (sample @ vectors.astype(np.float32)))[0]
        vectors = vectors[:, :n_lead]
    return np.ascontiguousarray(vectors, dtype=np.float32)


def near_ones_together(pivots: Float32) -> Int64:
    """An order in which near pivots are neighbors: halved along their leading direction, again and again."""

    def halve(which: Int64) -> list[Int64]:
        if len(which) <= 2:
            return [which]
        centered = pivots[which] - pivots[which].mean(axis=0)
        along = centered @ centered[np.argmax(np.einsum("ij,ij->i", centered, centered))]
        ordered = which[np.argsort(along, kind="stable")]
        middle = len(which) // 2
        return halve(ordered[:middle]) + halve(ordered[middle:])

    return np.concatenate(halve(np.arange(len(pivots))))


def assign_block(block: dict[str, Any], pivots: str, folder: str) -> list[int]:
    """Task: sort a block by (nearest pivot, angle to it).

    Writes ``rows``, ``gene``, ``size``, ``pivot`` (n,) int32 and ``angle`` (n,) float32. Returns the number of rows of
    each pivot.
    """
    import faiss

    faiss.omp_set_num_threads(resources.task_threads())
    rows, gene, size = members(Block(**block))
    centers = arrays.load(pivots, "pivots")
    quantizer = faiss.IndexFlatIP(centers.shape[1])
    quantizer.add(np.ascontiguousarray(centers))
    unit, _ = directions(rows)
    cosine, pivot = quantizer.search(unit, 1)
    angle = np.arccos(np.clip(cosine[:, 0], -1, 1)).astype(np.float32)
    order = np.lexsort((gene, angle, pivot[:, 0]))
    arrays.save(
        folder,
        rows=rows[order],
        gene=gene[order],
        size=size[order],
        pivot=pivot[order, 0].astype(np.int32),
        angle=angle[order],
    )
    return [int(c) for c in np.bincount(pivot[:, 0], minlength=len(centers))]


def plan_chunks(counts: Int64, chunk_rows: int) -> list[list[tuple[int, int, int]]]:
    """Which slices of the sorted blocks make which chunk.

    Parameters
    ----------
    counts
        Shape (n_blocks, n_pivots): rows of each pivot in each block.
    chunk_rows
        Rows that a chunk should not exceed; lists stay whole unless one alone is larger.

    Returns
    -------
    list
        Per chunk the slices (block, begin, end) of sorted blocks.
    """
    ends = np.cumsum(counts, axis=1)
    begins = ends - counts
    chunks: list[list[tuple[int, int, int]]] = []
    first = 0
    while first < counts.shape[1]:
        last = first + 1
        total = int(counts[:, first].sum())
        while last < counts.shape[1] and total + int(counts[:, last].sum()) <= chunk_rows:
            total += int(counts[:, last].sum())
            last += 1
        slices = [
            (b, int(begins[b, first]), int(ends[b, last - 1]))
            for b in range(counts.shape[0])
            if ends[b, last - 1] > begins[b, first]
        ]
        chunks += _split(slices, chunk_rows)
        first = last
    return chunks


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


def gather_chunk(slices: list[tuple[str, int, int]], pivots: str, folder: str) -> dict[str, Any]:
    """Task: one chunk out of its slices of the sorted blocks.

    Writes ``rows`` (n, n_samples) float64, ``rows32`` the same in float32, ``lead`` (n, n_lead + 1) float32, ``length``
    (n,) float32, ``gene`` and ``size`` (n,) int64, ``angle`` (n,) float32; for its lists ``list_pivot``, ``list_begin``
    (n_lists + 1,), where the fringe begins at the last, and ``list_radius``, the largest angle in each; and with the
    fringe ``all_pivot`` and ``all_radius``.
    """
    parts = {
        name: np.concatenate([arrays.load(url, name, begin, end) for url, begin, end in slices])
        for name in ("pivot", "angle", "gene", "size", "rows")
    }
    is_fringe = parts["angle"] > float(arrays.load(pivots, "cut")[0])
    order = np.lexsort((parts["gene"], parts["angle"], parts["pivot"], is_fringe))
    rows = parts.pop("rows")[order]
    pivot, angle = parts["pivot"][order], parts["angle"][order]
    n_core = int((~is_fringe).sum())
    list_pivot, list_begin = np.unique(pivot[:n_core], return_index=True)
    list_begin = np.append(list_begin, n_core)
    all_pivot, at = np.unique(pivot, return_inverse=True)
    all_radius = np.zeros(len(all_pivot), np.float32)
    np.maximum.at(all_radius, at, angle)
    rows32 = rows.astype(np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    arrays.save(
        folder,
        rows=rows,
        rows32=rows32,
        lead=lead_of(rows, arrays.load(pivots, "basis")),
        length=length.astype(np.float32),
        gene=parts["gene"][order],
        size=parts["size"][order],
        angle=angle,
        list_pivot=list_pivot.astype(np.int64),
        list_begin=list_begin.astype(np.int64),
        list_radius=angle[list_begin[1:] - 1],
        all_pivot=all_pivot.astype(np.int64),
        all_radius=all_radius,
    )
    return {"n": len(rows)}


def lead_of(rows: NDArray[np.float64], basis: Float32) -> Float32:
    """Leading coordinates of rows and, in the last column, the length of the rest, rounded up.

    The basis is orthonormal to a few 1e-8 only, so the square of that length can be off by as much; the margin is in
    the square, since the root of a small error is a large one.
    """
    lead = rows @ np.asarray(basis, np.float64)
    rest = np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", lead, lead)
    last = np.sqrt(np.maximum(rest, 0) + 1e-6)
    return np.ascontiguousarray(np.column_stack([lead, last]), dtype=np.float32)


def write_directory(chunks: list[str], folder: str) -> int:
    """Task: one table of the lists of all chunks, ``chunk``, ``pivot`` and ``radius`` (n_lists,).

    Returns their number.
    """
    n_lists = [len(arrays.load(url, "all_pivot")) for url in chunks]
    arrays.save(
        folder,
        chunk=np.repeat(np.arange(len(n_lists)), n_lists),
        pivot=arrays.concatenate(chunks, "all_pivot"),
        radius=arrays.concatenate(chunks, "all_radius"),
    )
    return sum(n_lists)
