"""Distance metrics of two-pass clustering.

=========== ================================================= ======================
metric      distance of two items                             made ready by
=========== ================================================= ======================
euclidean   length of their difference                        nothing
cosine      1 − cosine of their angle                         unit length
correlation 1 − correlation                                   centering, unit length
rmsd        RMSD of two frames after superposition, in nm     nothing
=========== ================================================= ======================

For vectors of unit length, 1 − cosine is half the squared length of their difference: computed so, small distances
lose no digits, and all metrics but the last are one. ``ward`` is defined for Euclidean distances, so with ``cosine``
and ``correlation`` it is given the length itself, the chord, which is one. For RMSD there is no such way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask.engine.rows.profiles import unit_profiles
from cagdask.engine.search.nearest_group import Nearest
from cagdask.twopass import trajectories

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SMALLEST = 2.0**-500
"""Values all below have squares that float64 does not tell from 0, so they are multiplied by a power of two."""
BEYOND = 2.0**500
"""Rows that are so much longer than tiny leaders are all as good as this far."""
DIRECTIONS = ("cosine", "correlation")
"""Metrics in which only the direction counts, so that a row of length 0 has no distance to anything."""


def made_ready(rows: Float64, metric: str) -> Float64:
    """Rows prepared for a metric (centered, scaled to unit length), shape (n, d). May overwrite ``rows``.

    A row that has no direction, such as a constant one under correlation, becomes zero.
    """
    if metric not in DIRECTIONS:
        return rows
    tiny = np.abs(rows).max(axis=1, initial=0) < SMALLEST
    if tiny.any():  # a direction does not depend on the size
        rows[tiny] = np.ldexp(rows[tiny], -_exponents(rows[tiny]))
    return unit_profiles(rows, metric)


def _exponents(rows: Float64) -> NDArray[np.int32]:
    """Power of two that each row is about, shape (n, 1)."""
    found: NDArray[np.int32] = np.frexp(np.abs(rows).max(axis=1, keepdims=True, initial=0))[1]
    return found


def usual_exponent(values: Float64) -> int:
    """Power of two to multiply values with so that their squares are no zeros: 0 for values of usual size."""
    largest = float(np.abs(values).max(initial=0))
    return -int(np.frexp(largest)[1]) if 0 < largest < SMALLEST else 0


def without_direction(ready: Float64, metric: str) -> NDArray[np.bool_]:
    """Which rows have no direction, and so no distance to others, shape (n,) bool."""
    lost = np.zeros(len(ready), bool)
    if metric in DIRECTIONS:
        lost[:] = ~ready.any(axis=1)
    return lost


def among(ready: Float64, metric: str, *, chord: bool = False) -> Float64:
    """Distances of all pairs, in the order of ``scipy.spatial.distance.pdist``, shape (n(n - 1)/2,).

    ``chord`` asks for a Euclidean distance that grows with that of the metric, where there is one.
    """
    from scipy.spatial.distance import pdist

    if metric == "rmsd":
        return trajectories.rmsd_among(ready)
    if metric == "euclidean" or chord:
        exponent = usual_exponent(ready)
        found: Float64 = np.ldexp(pdist(np.ldexp(ready, exponent), "euclidean"), -exponent)
        return found
    halved: Float64 = pdist(ready, "sqeuclidean") / 2
    return halved


def nearest(ready: Float64, leaders: Float64, cluster: Int64, metric: str) -> tuple[Int64, Float64, Float64]:
    """For each row its nearest cluster, the distance to it, and how much farther the second nearest is.

    Parameters
    ----------
    ready
        Shape (n, d), float64, as :func:`made_ready` gives them.
    leaders
        Shape (m, d), float64, made ready too.
    cluster
        Cluster of each leader, (m,) int64.
    metric
        One of :data:`cagdask.twopass.options.METRICS`.

    Returns
    -------
    label, distance, margin
        (n,) int64, float64, float64; ties go to the smaller cluster; NaN is the margin where there is one cluster only.
    """
    if metric == "rmsd":
        label, best, second = _nearest_frames(ready, leaders, cluster)
    else:
        exponent = usual_exponent(leaders)
        if exponent:
            leaders, ready = np.ldexp(leaders, exponent), np.clip(np.ldexp(ready, exponent), -BEYOND, BEYOND)
        found = Nearest.of(len(ready))
        found.update(ready, leaders, cluster, unit=metric in DIRECTIONS)
        label = found.group
        scaled = [
            x / 2 if metric in DIRECTIONS else np.ldexp(np.sqrt(x), -exponent) for x in (found.best, found.second)
        ]
        best, second = scaled
    margin = np.where(np.isfinite(second), second - best, np.nan)
    return label, best, margin


def _nearest_frames(frames: Float64, leaders: Float64, cluster: Int64) -> tuple[Int64, Float64, Float64]:
    found = trajectories.rmsd_to(frames, leaders)
    numbers = np.unique(cluster)
    by_cluster = np.stack([found[:, cluster == number].min(axis=1) for number in numbers], axis=1)
    at = np.argmin(by_cluster, axis=1)
    rows = np.arange(len(frames))
    best = by_cluster[rows, at]
    by_cluster[rows, at] = np.inf
    return numbers[at], best, by_cluster.min(axis=1)
