"""Measures of rows of a small table: what a CAG's abundance looks like over samples.

Every row is worked on for itself, in float64, so the numbers do not depend on how rows are split into blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RowStatistics(NamedTuple):
    """Measures per row, each of shape (rows,), float64.

    Attributes
    ----------
    mean, std
        Over samples, in the unit of the table; the standard deviation of the population (divided by the number).
    entropy
        Shannon entropy of the distribution over samples, nat; from 0, all in one sample, to log(n_samples), even.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    entropy: NDArray[np.float64]


def cag_statistics(block: NDArray[np.floating], *, absent: float = 0.0) -> RowStatistics:
    """Mean, standard deviation and entropy of each CAG over samples.

    Parameters
    ----------
    block
        ``cag_abundance`` of some CAGs, shape (rows, n_samples), any float dtype.
    absent
        What an absent gene is in this table: 0, or for ``clr`` the smallest log-ratio (``SampleStatistics.absent``).

    Returns
    -------
    RowStatistics
        The same bits for any split of the table into blocks of rows.
    """
    # Contiguous rows: NumPy then adds each row the same way, however many there are.
    rows = np.ascontiguousarray(block, np.float64)
    mean = rows.mean(axis=1)
    deviation = rows - mean[:, None]
    return RowStatistics(mean, np.sqrt((deviation * deviation).mean(axis=1)), entropy(block, absent=absent))


def entropy(block: NDArray[np.floating], *, absent: float = 0.0) -> NDArray[np.float64]:
    """Shannon entropy of each row's distribution over samples.

    Parameters
    ----------
    block
        Shape (rows, n_samples), any float dtype.
    absent
        Level that counts as nothing: weights are what lies above it.

    Returns
    -------
    ndarray
        Shape (rows,), float64, nat: ``-sum(p log p)`` with ``p = (v - absent) / sum(v - absent)`` over ``v > absent``;
        0 for a row with nothing above ``absent``.

    References
    ----------
    .. [1] Shannon (1948). A mathematical theory of communication.

    Examples
    --------
    >>> entropy(np.array([[2.0, 2.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.0]])).round(4)
    array([0.6931, 0.    , 0.    ])
    """
    weights = _above(block, absent)
    total = weights.sum(axis=1, keepdims=True)
    shares = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    sums: NDArray[np.float64] = (shares * logs).sum(axis=1)
    return np.abs(sums)  # never above 0 but for rounding; abs also turns -0 into 0


def prevalence(block: NDArray[np.floating], *, absent: float = 0.0) -> NDArray[np.float32]:
    """Share of samples in which each row lies above ``absent``, shape (rows,), float32 in [0, 1]."""
    above = np.count_nonzero(_above(block, absent), axis=1)
    shares: NDArray[np.float32] = (above / max(1, block.shape[1])).astype(np.float32)
    return shares


def _above(block: NDArray[np.floating], absent: float) -> NDArray[np.float64]:
    """What lies above ``absent``, else 0; a mean of absent genes may be off by a rounding, and is still absent."""
    level = absent + 2 * abs(absent) * float(np.finfo(block.dtype).eps)
    rows = np.ascontiguousarray(block, np.float64)
    return np.where(rows > level, rows - absent, 0.0)
