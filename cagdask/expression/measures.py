"""Measures of genes over samples, of rows in memory: percentile, signal, specificity, and the samples around a rank.

Every row is worked on for itself, in float64, so the numbers do not depend on how rows are split into blocks.

References
----------
.. [1] Yanai et al. (2005). Genome-wide midrange transcription profiles reveal expression level relationships in human
   tissue specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def window(n_samples: int, percentile: float, n_around: int) -> tuple[int, int]:
    """Ranks from and to which samples lie around a percentile, as the scripts of ARCHS4 have it.

    >>> window(121_983, 95, 100)
    (115834, 115934)
    """
    center = int(percentile / 100 * (n_samples + 1))
    begin = min(max(0, center - n_around // 2), n_samples - 1)
    return begin, min(n_samples, max(begin + 1, center - n_around // 2 + n_around))


def ordered(block: NDArray[Any], percentile: float, ranks: tuple[int, int]) -> NDArray[Any]:
    """Rows in which what stands at the needed ranks is what stands there once they are sorted, shape of ``block``."""
    n = block.shape[1]
    below = int(np.floor((n - 1) * percentile / 100))
    wanted = sorted({below, min(below + 1, n - 1), ranks[0], ranks[1] - 1})
    found: NDArray[Any] = np.partition(block, wanted, axis=1)
    return found


def percentiles(partly_sorted: NDArray[Any], percentile: float) -> Float64:
    """Percentile of each row of what :func:`ordered` gives, linear between two ranks as NumPy's, shape (rows,)."""
    n = partly_sorted.shape[1]
    place = (n - 1) * percentile / 100
    below = int(np.floor(place))
    low = partly_sorted[:, below].astype(np.float64)
    high = partly_sorted[:, min(below + 1, n - 1)].astype(np.float64)
    found: Float64 = low + (high - low) * (place - below)
    return found


def members(row: NDArray[Any], partly_sorted: NDArray[Any], ranks: tuple[int, int]) -> NDArray[np.int32]:
    """Samples that a stable sort of a row puts at the ranks, ascending, shape (end - begin,)."""
    begin, end = ranks
    low, high = partly_sorted[begin], partly_sorted[end - 1]
    first = np.flatnonzero(row == low)
    before = int(np.count_nonzero(row < low))
    if low == high:
        found = first[begin - before : end - before]
    else:
        last = np.flatnonzero(row == high)[: end - int(np.count_nonzero(row < high))]
        found = np.sort(np.concatenate([first[begin - before :], np.flatnonzero((row > low) & (row < high)), last]))
    return found.astype(np.int32)


def tau(values: Float64) -> Float64:
    """Tissue specificity of each row [1]_: 0, the same everywhere, to 1, in one sample (or group) only.

    Parameters
    ----------
    values
        Values >= 0, shape (rows, n).

    Returns
    -------
    ndarray
        Shape (rows,): ``sum(1 - v / max(v)) / (n - 1)``; NaN for rows of zeros, or with one value.
    """
    n = values.shape[1]
    most = values.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Float64 = (1 - values / most).sum(axis=1) / (n - 1)
    return np.where((most[:, 0] > 0) & (n > 1), found, np.nan)


def group_means(values: Float64, order: NDArray[np.int64], starts: NDArray[np.int64]) -> Float64:
    """Mean of each row in each group of samples.

    Parameters
    ----------
    values
        Shape (rows, n_samples).
    order, starts
        Samples by group, and where each group begins in it.
    """
    sums = np.add.reduceat(values[:, order], starts, axis=1)
    means: Float64 = sums / np.diff(np.r_[starts, len(order)])
    return means


def mean_cosine(squared_sum: Float64, n: NDArray[np.int64]) -> Float64:
    """Mean cosine similarity among ``n`` vectors of length 1, from the square of the length of their sum.

    The cosines of all pairs, and n of a vector with itself, add up to that square: no pair is looked at.

    >>> mean_cosine(np.array([9.0, 2.0]), np.array([3, 2]))
    array([1., 0.])
    """
    pairs = n * (n - 1)
    return np.where(pairs > 0, (squared_sum - n) / np.maximum(pairs, 1), np.nan)
