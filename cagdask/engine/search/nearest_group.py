"""The nearest group of every row: groups are given by one or more points each, and a row belongs to its nearest point.

    rows, 256 at a time --GEMM with a slice of points--> squared distances, off by a little
                                                           |
                                              what may be among the two best, again, exactly

The product with BLAS only rules out: what it can not rule out is computed again in a fixed order of additions. So the
answer for a row does not depend on the rows or points beside it, nor on threads, and ties go to the smaller group. Per
task: the rows, one slice of points, and 256 × :data:`POINTS_AT_ONCE` products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.engine.grid import STEP

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ROWS_AT_ONCE = 256
POINTS_AT_ONCE = 4096
NO_GROUP = np.iinfo(np.int64).max


class _Points(NamedTuple):
    """Some points, and the group of each."""

    vector: Any
    group: Any


class _Best(NamedTuple):
    """What is known of some rows, in place: nearest group, and squared distances to it and to the second-nearest."""

    group: Any
    first: Any
    second: Any


@dataclass
class Nearest:
    """The two nearest groups of each row, updated slice by slice.

    Attributes
    ----------
    group
        Nearest group, (n,) int64; :data:`NO_GROUP` before the first update.
    best, second
        Squared distance to it, and to the second-nearest group, (n,) float64; infinite where there is none.
    """

    group: Int64
    best: Float64
    second: Float64

    @classmethod
    def of(cls, n: int) -> Nearest:
        """No group yet for any of ``n`` rows."""
        return cls(np.full(n, NO_GROUP), np.full(n, np.inf), np.full(n, np.inf))

    def update(self, rows: Float64, points: Float64, group: Int64, *, unit: bool) -> None:
        """Take more points into account.

        Parameters
        ----------
        rows
            Shape (n, d), float64.
        points
            Shape (m, d), float64.
        group
            Group of each point, (m,) int64. Points of a group may come in several updates.
        unit
            Whether rows and points are of unit length; their squared distances are then put on the grid of
            :data:`STEP`.
        """
        step = STEP if unit else 0.0
        rounding = 4 * (rows.shape[1] + 4) * np.finfo(float).eps  # of a sum of products in any order
        for p in range(0, len(points), POINTS_AT_ONCE):
            some = _Points(*(np.ascontiguousarray(part[p : p + POINTS_AT_ONCE]) for part in (points, group)))
            size = np.einsum("ij,ij->i", some.vector, some.vector)
            for r in range(0, len(rows), ROWS_AT_ONCE):
                part = slice(r, r + ROWS_AT_ONCE)
                block = np.ascontiguousarray(rows[part])
                length = np.einsum("ij,ij->i", block, block)
                rough = (-2 * block) @ some.vector.T
                rough += length[:, None]
                rough += size
                slack = rounding * (length + size.max(initial=0.0)) + (2 / STEP if unit else 0.0)
                _update(rough, slack, block, some, step, _Best(self.group[part], self.best[part], self.second[part]))


@njit(cache=True, nogil=True)
def squared_distance(a: Float64, b: Float64) -> float:
    """Squared Euclidean distance in a fixed order of additions, the same on any processor."""
    s0 = s1 = s2 = s3 = 0.0
    n = len(a) // 4 * 4
    for i in range(0, n, 4):
        s0 += (a[i] - b[i]) * (a[i] - b[i])
        s1 += (a[i + 1] - b[i + 1]) * (a[i + 1] - b[i + 1])
        s2 += (a[i + 2] - b[i + 2]) * (a[i + 2] - b[i + 2])
        s3 += (a[i + 3] - b[i + 3]) * (a[i + 3] - b[i + 3])
    for i in range(n, len(a)):
        s0 += (a[i] - b[i]) * (a[i] - b[i])
    return (s0 + s1) + (s2 + s3)


@njit(cache=True, nogil=True)
def _update(rough: Any, slack: Any, rows: Any, points: _Points, step: float, best: _Best) -> None:
    """Compute again, for each row, all points that may be nearer than its second-nearest group."""
    of = points.group
    for i in range(len(rows)):
        # the roughly nearest first, so that few others are left to compute
        first = int(np.argmin(rough[i]))
        _offer(i, first, rows, points, step, best)
        other = -1
        for j in range(len(of)):
            if of[j] != of[first] and (other < 0 or rough[i, j] < rough[i, other]):
                other = j
        if other >= 0:
            _offer(i, other, rows, points, step, best)
        for j in range(len(of)):
            if rough[i, j] <= best.second[i] + slack[i] and j != first and j != other:
                _offer(i, j, rows, points, step, best)


@njit(cache=True, nogil=True)
def _offer(i: int, j: int, rows: Any, points: _Points, step: float, best: _Best) -> None:
    """Take point ``j`` into account for row ``i``."""
    of, group, first, second = points.group[j], best.group, best.first, best.second
    x = squared_distance(rows[i], points.vector[j])
    if step > 0:
        x = np.rint(x * step) / step
    if of == group[i]:
        first[i] = min(first[i], x)
    elif x < first[i] or (x == first[i] and of < group[i]):
        second[i] = first[i]
        first[i] = x
        group[i] = of
    elif x < second[i]:
        second[i] = x
