"""Short vectors whose products are upper bounds of the products of rows.

Samples are dealt into groups; the sketch of a row holds the length of its part in each group:

    row      0.1  0.7  0.0 | 0.5  0.0  0.2 | 0.0  0.4  0.2        n_samples numbers
    sketch       0.71      |     0.54      |     0.45             one per group

By the inequality of Cauchy and Schwarz in each group, the product of two sketches is at least that of their rows. A
sketch is as long as its row, so the angle between two sketches is at most that between the rows, and whatever the
triangle inequality says of sketches holds for rows. Abundances are never negative and differ by orders of magnitude,
so two rows that are not alike have their length in different groups: with 32 groups of 200 or of 1,000 samples, one
pair in a thousand looks alike that is not. As many leading directions (principal components) let through a fifth.

Two sketches are kept: a *coarse* one, which is multiplied for many pairs, and a *fine* one for those that pass it.
Their sizes are those that cost least for a sample of pairs.

Centered rows have signs, and parts of opposite sign look alike by their lengths. So sketches of rows with signs differ:

- *Coarse*: of the row lifted by a number b so that it is not negative. With s the sum of the row, and n samples,

      v · w = (v + b)·(w + b') - n (b + s/n) (b' + s'/n) + s s'/n

  exactly. Sketches bound the first product, the others are known: two more columns, of which one is subtracted.
- *Fine*: of each part its mean, with its sign, times the root of its samples, and the length of what differs from the
  mean. Such a sketch is as long as its row, too, which angles need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.engine.rows.files import SUMS, Stored, take_rows
from cagdask.storage.arrays import locked, read_only

logger = logging.getLogger(__name__)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
LARGEST = SIZES[-1]
MOST_LIFTED = 3.0
"""Square length at most that lifting adds to a row: products of longer sketches would be too far off in float32."""
LIFTED_ERROR = 2.0**-19
"""How far the parts of the bound of lifted rows are put apart, so that products in float32 are on the safe side."""
LEAST_FINE = 64
"""Groups of the fine sketch at least, if there are as many samples: pivots live in it, and more tells more apart."""
QUERIES, TARGETS = 256, 4096
"""Rows of a sample that are compared with each other to choose sizes."""
# nanoseconds on one core, measured: a pair in a matrix product, in a product of two sketches, in one of two rows
_PRODUCT = (0.3, 0.045)
_FINE = (8.0, 0.25)
_FULL = (30.0, 0.4)


def deal_samples(energy: Float64, n_groups: int) -> Int64:
    """Group of each sample, so that all groups have about the same energy.

    Parameters
    ----------
    energy
        Sum of squares of each sample over some rows, shape (n_samples,).
    n_groups
        Groups, at most ``n_samples``.
    """
    group = np.empty(len(energy), np.int64)
    group[np.argsort(-energy, kind="stable")] = np.arange(len(energy)) % n_groups
    return group


@njit(cache=True, nogil=True)
def sketches(rows: Any, group: Any) -> Any:
    """Sketches of rows, shape (n, n_groups), float32, rounded up.

    ``rows`` is (n, n_samples) float64 or float32, ``group`` (n_samples,) int64, from 0.
    """
    n_groups = group.max() + 1
    found = np.empty((rows.shape[0], n_groups), np.float32)
    n_in_fours = rows.shape[1] // SUMS * SUMS
    squares = np.empty(n_groups, np.float64)
    for i in range(rows.shape[0]):
        squares[:] = 0
        for z in range(SUMS):  # in the order in which sparse rows are kept: the same bits
            for j in range(z, n_in_fours, SUMS):
                x = np.float64(rows[i, j])
                squares[group[j]] += x * x
            if z == 0:
                for j in range(n_in_fours, rows.shape[1]):
                    x = np.float64(rows[i, j])
                    squares[group[j]] += x * x
        for g in range(n_groups):
            found[i, g] = np.float32(np.sqrt(squares[g])) * np.float32(1 + 2.0**-22)
    return found


@njit(cache=True, nogil=True)
def _lifted_sketches(rows: Any, group: Any) -> Any:
    """Coarse sketches of rows with signs, (n, n_groups + 2): the last is subtracted where sketches are multiplied."""
    n_groups, n_samples = group.max() + 1, rows.shape[1]
    found = np.empty((rows.shape[0], n_groups + 2), np.float32)
    squares = np.empty(n_groups, np.float64)
    for i in range(rows.shape[0]):
        total, low = 0.0, 0.0
        for j in range(n_samples):
            total += rows[i, j]
            low = min(low, rows[i, j])
        mean = total / n_samples
        lift = max(0.0, min(-low, np.sqrt(MOST_LIFTED / n_samples) - mean))
        squares[:] = 0
        for j in range(n_samples):
            x = rows[i, j] + lift
            squares[group[j]] += x * x
        for g in range(n_groups):
            found[i, g] = np.sqrt(squares[g]) * (1 + LIFTED_ERROR)
        found[i, n_groups] = mean * np.sqrt(n_samples)
        found[i, n_groups + 1] = (lift + mean) * np.sqrt(n_samples) * (1 - LIFTED_ERROR)
    return found


@njit(cache=True, nogil=True)
def _mean_sketches(rows: Any, group: Any) -> Any:
    """Fine sketches of rows with signs, (n, 2 n_groups): of each part its mean, then how far it is from that."""
    n_groups, n_samples = group.max() + 1, rows.shape[1]
    found = np.empty((rows.shape[0], 2 * n_groups), np.float32)
    total, square, count = np.empty(n_groups), np.empty(n_groups), np.zeros(n_groups)
    for j in range(n_samples):
        count[group[j]] += 1
    for i in range(rows.shape[0]):
        total[:], square[:] = 0, 0
        for j in range(n_samples):
            total[group[j]] += rows[i, j]
        for j in range(n_samples):
            x = rows[i, j] - total[group[j]] / count[group[j]]
            square[group[j]] += x * x
        for g in range(n_groups):
            found[i, g] = total[g] / np.sqrt(count[g])
            found[i, n_groups + g] = np.sqrt(square[g]) * (1 + 2.0**-22)
    return found


def coarse_sketches(rows: Stored | Float64, group: Int64, *, signed: bool) -> Float32:
    """Coarse sketches of rows, (n, n_groups), or (n, n_groups + 2) of rows with signs."""
    if signed:
        return _in_pieces(rows, lambda some: _lifted_sketches(some, group))
    return sketches_of(rows, group) if isinstance(rows, Stored) else np.asarray(sketches(locked(rows), locked(group)))


def fine_sketches(rows: Stored | Float64, group: Int64, *, signed: bool) -> Float32:
    """Fine sketches of rows, (n, n_groups); of rows with signs (n, 2 n_groups), or the rows if groups are samples."""
    if signed and len(group) == group.max() + 1:
        return _in_pieces(rows, lambda some: some.astype(np.float32))
    if signed:
        return _in_pieces(rows, lambda some: _mean_sketches(some, group))
    return sketches_of(rows, group) if isinstance(rows, Stored) else np.asarray(sketches(locked(rows), locked(group)))


def _in_pieces(rows: Stored | Float64, make: Callable[[Float64], Any]) -> Float32:
    """What ``make`` gives for some rows at a time; few rows with signs are sparse."""
    if not isinstance(rows, Stored) or len(rows.dense):
        return np.asarray(make(rows.dense if isinstance(rows, Stored) else rows))
    pieces = [np.arange(begin, min(begin + TARGETS, rows.n)) for begin in range(0, rows.n, TARGETS)]
    return np.concatenate([make(take_rows(rows, at)) for at in pieces or [np.arange(0)]])


def fine_groups(size: int, n_samples: int, *, signed: bool) -> int:
    """Groups of samples that make a fine sketch of ``size`` numbers, or as many as there are samples."""
    return n_samples if size >= n_samples else max(1, size // 2) if signed else size


@njit(cache=True, nogil=True)
def _sparse_sketches(begin: Any, column: Any, value: Any, group: Any) -> Any:
    """What :func:`sketches` gives, from the values that are not zero of rows that each begin at ``begin``."""
    n_groups = group.max() + 1
    found = np.empty((len(begin) - 1, n_groups), np.float32)
    squares = np.empty(n_groups, np.float64)
    for i in range(len(found)):
        squares[:] = 0
        for at in range(begin[i], begin[i + 1]):
            squares[group[column[at]]] += value[at] * value[at]
        for g in range(n_groups):
            found[i, g] = np.float32(np.sqrt(squares[g])) * np.float32(1 + 2.0**-22)
    return found


def sketches_of(rows: Stored, group: Int64) -> Float32:
    """Sketches of stored rows, shape (n, n_groups), float32; those of sparse ones from their values alone."""
    if len(rows.dense):
        found = sketches(locked(rows.dense), locked(group))
    else:
        found = _sparse_sketches(read_only(rows.begin[::SUMS].copy()), rows.column, rows.value, group)
    made: Float32 = found
    return made


def product_ns(n_groups: int) -> float:
    """What a pair costs in a matrix product of sketches of this size, nanoseconds."""
    return _PRODUCT[0] + _PRODUCT[1] * n_groups


def choose_sizes(sample: Float64, threshold: float, *, signed: bool = False) -> tuple[int, int, float]:
    """Sizes of the coarse and the fine sketch that cost least, and that cost: nanoseconds per pair.

    Parameters
    ----------
    sample
        Unit rows, shape (n, n_samples), in random order.
    threshold
        Similarity that is asked for.
    signed
        Whether rows have signs.
    """
    n_samples = sample.shape[1]
    energy = np.einsum("ij,ij->j", sample, sample)
    sizes = [size for size in SIZES if size < n_samples] or [n_samples]
    if signed and sizes[-1] < n_samples <= LARGEST:
        sizes.append(n_samples)
    passed, passed_fine = {}, {}

    def share(short: Float32, sign: float) -> float:
        queries, targets = short[:QUERIES], short[-TARGETS:].copy()
        targets[:, -1] *= np.float32(sign)
        return float((queries @ targets.T >= np.float32(threshold)).mean())

    for size in sizes:
        passed[size] = share(coarse_sketches(sample, deal_samples(energy, size), signed=signed), -1 if signed else 1)
        passed_fine[size] = passed[size]
        if signed:
            group = deal_samples(energy, fine_groups(size, n_samples, signed=True))
            passed_fine[size] = share(fine_sketches(sample, group, signed=True), 1)
    fine_sizes = [size for size in sizes if size >= LEAST_FINE] or sizes[-1:]

    def cost(coarse: int, fine: int) -> float:
        fine_product = passed[coarse] * (_FINE[0] + _FINE[1] * fine)
        full_product = passed_fine[fine] * (_FULL[0] + _FULL[1] * n_samples)
        return float(product_ns(coarse) + fine_product + full_product)

    coarse, fine = min(((c, f) for f in fine_sizes for c in sizes if c <= f), key=lambda pair: cost(*pair))
    logger.debug(
        "sketches of %d and %d groups: %.2g and %.2g of all pairs pass", coarse, fine, passed[coarse], passed_fine[fine]
    )
    return coarse, fine, cost(coarse, fine)
