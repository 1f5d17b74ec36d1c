"""Which rows can be among the k best for a question, from one matrix product.

    rows, questions --float32 product--> scores --combine--> estimates of the combined scores, and their error
    keep a row if its estimate is not below the k-th largest one by more than the errors of both

The product is by BLAS, whose last bits depend on shapes and threads. The error covers that, so rows that are kept
always include the answers; they are scored again, in float64 and in a fixed order. This is the filter-and-refine scheme
of exact nearest-neighbor search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask.vectors.ranking import EPSILON64, float32_error, rounding_slack, unit_rows

if TYPE_CHECKING:
    from cagdask.vectors.questions import Question

Float64 = NDArray[np.float64]
Values = NDArray[Any]
Reach = Callable[[Float64], Float64]

MUL_EPSILON = 1e-6
"""What 3CosMul adds to its denominator, as in gensim."""
_SMALLEST = 0.1  # denominator of 3CosMul below which an estimate is too rough to be used
_GROUP = 32  # estimates whose largest stands for them while the k-th largest is looked for


def _estimate_one(scores: Values, error: float) -> tuple[Values, Reach]:
    return scores[:, 0], lambda least: least - 2 * error


def _estimate_joint(scores: Values, error: float) -> tuple[Values, Reach]:
    each = scores.shape[1] * (2 * error + error**2)
    return np.square(scores).sum(axis=1), lambda least: least - 2 * each - 1e-6 * np.abs(least)


def _estimate_contrast(scores: Values, error: float) -> tuple[Values, Reach]:
    return scores[:, 0] - scores[:, 1:].mean(axis=1), lambda least: least - 4 * error - 1e-6


def _estimate_mul(scores: Values, error: float) -> tuple[Values, Reach]:
    """3CosMul; an estimate v is wrong by v r + 2 r at most, r the error of a factor through the denominator."""
    near = np.maximum(0, (1 + scores) / 2)
    with np.errstate(invalid="ignore"):
        value = near[:, 0] * near[:, 1] / (near[:, 2] + near.dtype.type(MUL_EPSILON))
    value[near[:, 2] < _SMALLEST] = np.inf  # kept in any case
    r = (error + 1e-6) / (2 * _SMALLEST)
    return value, lambda least: (least * (1 - r) - 4 * r) / (1 + r)


ESTIMATE: dict[str, Callable[[Values, float], tuple[Values, Reach]]] = {
    "one": _estimate_one,
    "joint": _estimate_joint,
    "contrast": _estimate_contrast,
    "mul": _estimate_mul,
}
"""Estimates of combined scores from scores with each direction, shape (n_questions, n_directions, n_rows), and the
least estimate that can belong to a row as good as one with a given estimate. The combinations are those of
:data:`cagdask.vectors.questions.COMBINE`; scores are in [-1, 1] but for ``one`` and ``contrast``."""


class Screen:
    """A block of rows, prepared for estimating scores.

    Parameters
    ----------
    rows
        Shape (n, n_columns), float32.
    metric
        One of :data:`cagdask.vectors.ranking.METRICS`.
    """

    def __init__(self, rows: NDArray[np.float32], metric: str) -> None:
        self.metric = metric
        self.rows: Values
        if metric == "euclidean":  # squares of float32 numbers overflow in float32
            self.rows = rows.astype(np.float64)
            self.squares = np.einsum("ij,ij->i", self.rows, self.rows)
            return
        self.rows = unit_rows(rows, metric)

    def scores(self, directions: Float64) -> tuple[Values, float]:
        """Scores of directions, shape (m, n_columns), with all rows, shape (m, n), and how wrong they are at most."""
        product = directions.astype(self.rows.dtype) @ self.rows.T
        if self.metric != "euclidean":
            return product, 2 * float32_error(directions.shape[1])
        total = self.squares + np.einsum("ij,ij->i", directions, directions)[:, None]
        square = np.maximum(0, total - 2 * product)
        largest = float(total.max(initial=0))
        return -np.sqrt(square), float(np.sqrt(4 * EPSILON64 * (directions.shape[1] + 16) * largest))


def screen(
    rows: NDArray[np.float32],
    start: int,
    questions: Sequence[Question],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_],
    scores_at_once: int = 2**21,
) -> dict[int, NDArray[np.int64]]:
    """Places in a block of all rows that can be among the ``k`` best for a question, for each question by its number.

    Parameters
    ----------
    rows
        Shape (n, n_columns), float32.
    start
        Row of the store that the block begins with.
    questions
        Any number.
    k
        At least 1.
    metric
        One of :data:`cagdask.vectors.ranking.METRICS`.
    allowed
        Shape (n,): rows that may be an answer to any of them.
    scores_at_once
        Scores that are in memory at once, with a few copies.
    """
    block = Screen(rows, metric)
    forbidden = np.flatnonzero(~allowed)
    found: dict[int, NDArray[np.int64]] = {}
    kinds: dict[tuple[str, int, bool], list[int]] = {}
    for i, question in enumerate(questions):
        kinds.setdefault((question.combine, len(question.directions), question.max_sim is not None), []).append(i)
    for (combine, n_directions, limited), members in kinds.items():
        step = max(1, scores_at_once // max(1, len(rows) * n_directions))
        for first in range(0, len(members), step):
            some = [questions[i] for i in members[first : first + step]]
            estimates, reach = _estimates(block, some, combine, limited)
            estimates[:, forbidden] = -np.inf
            for place, question in enumerate(some):
                inside = [row - start for row in question.excluded if start <= row < start + len(rows)]
                estimates[place, inside] = -np.inf
            found |= dict(zip(members[first : first + step], _reaching(estimates, reach, k), strict=True))
    return found


def _estimates(block: Screen, questions: Sequence[Question], combine: str, limited: bool) -> tuple[Values, Reach]:
    """Estimates of the combined scores, shape (n_questions, n); those near a bound of ``max_sim`` are +inf."""
    flat, error = block.scores(np.concatenate([q.directions for q in questions]))
    scores = flat.reshape(len(questions), -1, len(block.rows))
    if not limited:
        return ESTIMATE[combine](scores, error)
    found, reach = ESTIMATE[combine](scores[:, :-1], error)
    last, most = scores[:, -1], np.array([q.max_sim for q in questions], np.float64)[:, None]
    return np.where(last > most + error, -np.inf, np.where(last < most - error, found, np.inf)), reach


def _reaching(estimates: Values, reach: Reach, k: int) -> list[NDArray[np.int64]]:
    """Places whose score can be among the k largest, for each question, ascending."""
    least = kth_largest(estimates, k).astype(np.float64)
    floor = reach(least)
    floor -= 2 * rounding_slack(np.where(np.isfinite(floor), floor, 0))  # scores are rounded before they are compared
    floor = np.where(np.isfinite(least), floor, -np.inf)
    if estimates.dtype == np.float32:
        floor = np.nextafter(floor.astype(np.float32), np.float32(-np.inf))
    kept = estimates >= floor[:, None]
    kept &= estimates > -np.inf
    of, places = np.nonzero(kept)
    return np.split(places, np.searchsorted(of, np.arange(1, len(estimates))))


def kth_largest(values: Values, k: int) -> Values:
    """For each row a number that at least k of its finite numbers reach; -inf if there are fewer.

    It is the k-th largest of the largest of groups: hardly below the k-th largest of all, and found much sooner.
    """
    n = values.shape[1]
    group = max(1, min(_GROUP, n // (8 * k)))
    whole = n // group * group
    known = np.where(values == np.inf, -np.inf, values) if values.max(initial=-np.inf) == np.inf else values
    largest = known[:, :whole].reshape(len(values), -1, group).max(axis=2)
    largest = np.concatenate([largest, known[:, whole:]], axis=1)
    if largest.shape[1] < k:
        return np.full(len(values), -np.inf)
    found: Values = np.partition(largest, largest.shape[1] - k, axis=1)[:, largest.shape[1] - k]
    return found
