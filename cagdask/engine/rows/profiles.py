"""From the store to unit profiles, identical ones folded.

    store rows a:b --normalize--> float64 --center or rank--> --unit length--> rows of the block
                                                                    |
                                     128-bit key of each row --> one table --> weight of each row

A profile is a row of the normalized table (for ``correlation`` centered, for ``spearman`` centered ranks) scaled to
unit length, in float64 from the float32 of the store on, so that rows which are equal in exact arithmetic stay equal to
1e-12. Genes with the same profile are at distance 0: the first of them stands for all, with their number as its weight.
In real catalogues that is every gene that was seen once in one sample, often a fifth of all.

Per task: one block of rows, as float32 and twice as float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.engine.rows.files import FoldFiles, ProfileFiles, smaller_form
from cagdask.normalization import methods
from cagdask.normalization.sample_statistics import SampleStatistics, refuse_values

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FILTERED, ZERO = -1, -2
"""Marks of a gene that takes no part: in too few samples, or with nothing left in its profile."""

METRICS = ("cosine", "correlation", "spearman")
_KEY_STEP = 1e12  # rows equal to 1e-12 in every entry are one; heights are compared at 1e-10


@njit(cache=True, nogil=True)
def scale_to_unit(rows: Float64, smallest: Float64) -> None:
    """Scale rows to unit length in place; a row of length ``smallest`` or less becomes zero."""
    for i in range(rows.shape[0]):
        total = 0.0
        for j in range(rows.shape[1]):
            total += rows[i, j] * rows[i, j]
        length = np.sqrt(total)
        for j in range(rows.shape[1]):
            rows[i, j] = rows[i, j] / length if length > smallest[i] else 0.0


@njit(cache=True, nogil=True)
def center(rows: Float64, smallest: Float64) -> None:
    """Subtract each row's mean in place; ``smallest`` becomes the length below which only rounding is left."""
    for i in range(rows.shape[0]):
        total = 0.0
        largest = 0.0
        for j in range(rows.shape[1]):
            total += rows[i, j]
            largest = max(largest, abs(rows[i, j]))
        mean = total / rows.shape[1]
        smallest[i] = 1e-13 * largest * rows.shape[1]
        for j in range(rows.shape[1]):
            rows[i, j] -= mean


@njit(cache=True, nogil=True)
def row_keys(rows: Float64, multipliers: NDArray[np.uint64], keys: NDArray[np.uint64]) -> None:
    """Two 64-bit sums per row, equal for rows that agree to 1e-12."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            x = np.uint64(np.int64(np.round(rows[i, j] * _KEY_STEP)))
            x ^= x >> np.uint64(29)
            x *= np.uint64(0xBF58476D1CE4E5B9)
            x ^= x >> np.uint64(32)
            keys[i, 0] += x * multipliers[0, j]
            keys[i, 1] += (x ^ (x << np.uint64(13))) * multipliers[1, j]


def unit_profiles(values: Float64, metric: str) -> Float64:
    """Unit profiles of normalized values.

    Parameters
    ----------
    values
        Shape (n, n_samples), float64; used up.
    metric
        ``cosine``, ``correlation`` or ``spearman``.

    Returns
    -------
    ndarray
        Shape (n, n_samples), float64; a row without direction is zero.
    """
    smallest = np.zeros(len(values))
    if metric == "spearman":
        from scipy.stats import rankdata

        values = rankdata(values, axis=1).astype(np.float64)
    if metric != "cosine":
        center(values, smallest)
    scale_to_unit(values, smallest)
    return values


def keys_of(rows: Float64) -> NDArray[np.uint64]:
    """Two keys of each row, shape (n, 2), equal for rows that are the same profile."""
    keys = np.zeros((len(rows), 2), np.uint64)
    multipliers = np.random.default_rng(0).integers(1, 2**63, (2, rows.shape[1]), dtype=np.uint64) | np.uint64(1)
    row_keys(rows, multipliers, keys)
    return keys


def write_profiles(store: str, begin: int, end: int, recipe: dict[str, Any], folder: str) -> dict[str, int]:
    """Task: profiles of rows ``begin:end`` of a store.

    ``recipe`` holds ``normalization``, ``clr_floor``, ``metric``, ``min_samples`` and ``statistics``, the file of the
    per-sample numbers. Writes a :class:`cagdask.engine.rows.files.ProfileFiles`; counts what takes part, and what not.
    """
    block = np.asarray(storage.open_array(store, "abundance")[begin:end], dtype=np.float32)
    signed = storage.open_group(store).attrs.get("kind", "abundance") != "abundance"
    refuse_values(block, store, begin, signed=signed)  # with normalization none nobody has looked yet
    mark = np.where((block != 0).sum(1) < recipe["min_samples"], FILTERED, 0).astype(np.int8)
    statistics = SampleStatistics.from_bytes(storage.read_bytes(recipe["statistics"]))
    values = methods.normalize_block(block, recipe["normalization"], statistics, clr_floor=recipe["clr_floor"])
    rows = unit_profiles(values, recipe["metric"])
    mark[(mark == 0) & ~rows.any(axis=1)] = ZERO
    takes_part = mark == 0
    if not takes_part.all():
        rows = rows[takes_part]
    gene = begin + np.flatnonzero(takes_part)
    ProfileFiles(**smaller_form(rows)._asdict(), gene=gene, keys=keys_of(rows), mark=mark).write(folder)
    return {"n": len(rows), "n_filtered": int((mark == FILTERED).sum()), "n_zero": int((mark == ZERO).sum())}


def fold_identical(folders: list[str], n_genes: int, folder: str) -> dict[str, int]:
    """Task: find genes with the same profile.

    Writes a :class:`cagdask.engine.rows.files.FoldFiles`. 40 bytes per gene.
    """
    gene = np.concatenate([files.gene for files in ProfileFiles.open_all(folders)])
    keys = np.concatenate([files.keys for files in ProfileFiles.open_all(folders)])
    order = np.lexsort((gene, keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first_genes = gene[order[starts]]
    first = np.concatenate([files.mark for files in ProfileFiles.open_all(folders)]).astype(np.int64)
    first[gene[order]] = first_genes[np.cumsum(starts) - 1]
    weight = np.zeros(n_genes, np.int64)
    weight[first_genes] = np.diff(np.append(np.flatnonzero(starts), len(order)))
    FoldFiles(first=first, weight=weight).write(folder)
    return {"n": len(first_genes)}


def count_members(folder: str, fold: str) -> int:
    """Task: rows of a block of profiles that stand for themselves, and perhaps for others."""
    return int((FoldFiles.open(fold).weight[ProfileFiles.open(folder).gene] > 0).sum())
