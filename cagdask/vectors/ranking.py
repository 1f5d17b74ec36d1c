"""Scores of vectors in float64, and the k best of them in an order that nothing else decides.

    float32 rows --one loop per row--> float64 score --rounded--> best first, equal ones by row

A row's score comes from that row and the query alone, in one fixed order of additions: the same bits for any chunks,
workers and threads.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Metric = Literal["cosine", "correlation", "euclidean"]

METRICS = ("cosine", "correlation", "euclidean")
DECIMALS = 10
"""Scores are rounded to so many decimals before they are compared: equal in exact arithmetic is equal here. Distances
have a unit, and may be of any size; they are rounded to as many digits as a distance of 1 has."""
_LOG10_OF_2 = 0.3010299956639812
NO_SCORE = -np.inf
"""Of a vector without direction."""
EPSILON32 = 2.0**-24
EPSILON64 = 2.0**-53


@njit(cache=True, nogil=True)
def center_and_square(row: Float32, centered: bool) -> tuple[float, float]:  # pragma: no cover
    """What is subtracted from a row, and the sum of squares that is left: 0 for a row without direction."""
    d = len(row)
    mean = 0.0
    largest = 0.0
    if centered:
        for j in range(d):
            mean += row[j]
            largest = max(largest, abs(row[j]))
        mean /= d
    square = 0.0
    for j in range(d):
        square += (row[j] - mean) ** 2
    if np.sqrt(square) <= 1e-13 * largest * d:  # rounding of the mean is no profile
        square = 0.0
    return mean, square


@njit(cache=True, nogil=True)
def _cosines(rows: Float32, queries: Float64, centered: bool, out: Float64) -> None:  # pragma: no cover
    n, d = rows.shape
    for i in range(n):
        mean, square = center_and_square(rows[i], centered)
        length = np.sqrt(square)
        for t in range(queries.shape[0]):
            if length == 0.0:
                out[i, t] = NO_SCORE
                continue
            total = 0.0
            for j in range(d):
                total += (rows[i, j] - mean) * queries[t, j]
            out[i, t] = min(1.0, max(-1.0, total / length))


def unit_rows(rows: Float32, metric: str) -> Float32:
    """Rows of unit length, centered for ``correlation``, shape (n, n_columns), float32; zero without direction."""
    out = np.zeros_like(rows)
    _scale(rows, metric == "correlation", out)
    return out


@njit(cache=True, nogil=True)
def _scale(rows: Float32, centered: bool, out: Float32) -> None:  # pragma: no cover
    for i in range(rows.shape[0]):
        mean, square = center_and_square(rows[i], centered)
        if square > 0.0:
            length = np.sqrt(square)
            for j in range(rows.shape[1]):
                out[i, j] = (rows[i, j] - mean) / length


@njit(cache=True, nogil=True)
def _minus_distances(rows: Float32, queries: Float64, out: Float64) -> None:
    for i in range(rows.shape[0]):
        for t in range(queries.shape[0]):
            square = 0.0
            for j in range(rows.shape[1]):
                square += (rows[i, j] - queries[t, j]) ** 2
            out[i, t] = -np.sqrt(square)


def directions(vectors: NDArray[Any], metric: str) -> Float64:
    """Vectors as queries: of unit length for ``cosine``, centered too for ``correlation``; zero without direction."""
    queries = vectors.astype(np.float64)
    if metric == "euclidean":
        return queries
    smallest = np.zeros((len(queries), 1))
    if metric == "correlation":
        smallest = 1e-13 * queries.shape[1] * np.abs(queries).max(axis=1, keepdims=True, initial=0)
        queries -= queries.mean(axis=1, keepdims=True)
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    unit: Float64 = np.divide(queries, length, out=np.zeros_like(queries), where=length > smallest)
    return unit


def score(rows: Float32, queries: Float64, metric: str) -> Float64:
    """How much alike each row and each query are; more is nearer.

    Parameters
    ----------
    rows
        Shape (n, n_columns), float32.
    queries
        Shape (n_queries, n_columns), of :func:`directions`.
    metric
        One of :data:`METRICS`.

    Returns
    -------
    ndarray
        Shape (n, n_queries): cosine or correlation in [-1, 1], or minus the Euclidean distance. -inf for a row
        without direction.
    """
    out = np.empty((len(rows), len(queries)))
    if metric == "euclidean":
        _minus_distances(rows, queries, out)
    else:
        _cosines(rows, queries, metric == "correlation", out)
    return out


def rounded(scores: Float64, sizes: Float64 | None = None) -> Float64:
    """Scores as they are compared and reported.

    Parameters
    ----------
    scores
        Any shape, float64.
    sizes
        Numbers that each score was computed from, of the same shape: digits that rounding may have changed are those of
        a share of them. None for cosines, which are computed from numbers up to 1.
    """
    if sizes is None:
        return np.round(scores, DECIMALS) + 0.0  # and no -0
    exponent = np.frexp(np.abs(sizes))[1] - 1
    decimals = DECIMALS - np.floor(exponent * _LOG10_OF_2)  # as many as a number of 1 has, of any other size
    scale = np.power(10.0, np.clip(decimals, -300, 300))
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.rint(scores * scale) / scale
    return np.where(np.isfinite(found), found, scores) + 0.0


def rounding_slack(scores: Float64) -> Float64:
    """How far a score may lie from what :func:`rounded` makes of it, at most; for bounds of scores.

    A score of distances is rounded by less than 1e-9 of its size, or of the error of a bound where it is a difference.
    """
    return 1.1 * 10.0**-DECIMALS + 1e-9 * np.abs(scores)


def best(scores: Float64, k: int, *keys: Int64) -> Int64:
    """Places of the ``k`` largest scores that are not -inf, best first; equal ones by the keys, the first one first."""
    places = np.flatnonzero(scores > NO_SCORE)
    if len(places) > k:
        least = np.partition(scores[places], len(places) - k)[len(places) - k]
        places = places[scores[places] >= least]
    order = np.lexsort((*(key[places] for key in reversed(keys)), -scores[places]))
    found: Int64 = places[order[:k]]
    return found


def float32_error(n_columns: int) -> float:
    """Bound of the relative error of a float32 product of ``n_columns`` terms, summed in any order."""
    return (n_columns + 16) * EPSILON32
