"""Scores as probabilities: of samples with a score of 0.7, about 70 % should have the label.

A curve is fitted for each label to scores of training samples that were kept apart in turn: a line of log-odds [1]_
where there are few samples, a rising step function [2]_ where there are :data:`MANY`. With labels that exclude each
other, probabilities are then divided by their sum.

References
----------
.. [1] Platt (1999). Probabilistic outputs for support vector machines.
.. [2] Zadrozny and Elkan (2002). Transforming classifier scores into accurate multiclass probability estimates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cagdask.storage.arrays import Files, array

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MANY = 1_000
"""Samples from which on a step function is fitted."""
LEAST = 3
"""Samples with and without a label that a curve needs; with fewer, the score is taken as it is."""
N_POINTS = 64
"""Points of a stored curve."""


class CalibrationFiles(Files):
    """A curve per label, straight between its points."""

    score: Float64 = array(np.float64, "label, point", "score of the model, rising")
    probability: Float64 = array(np.float64, "label, point", "probability of the label, never falling")


@dataclass(frozen=True)
class Calibration:
    """Fitted curves; see :class:`CalibrationFiles`."""

    files: CalibrationFiles

    def probabilities(self, scores: Float64, single: bool) -> Float64:
        """Probability of each label, shape (n_samples, n_labels); rows sum to 1 where labels exclude each other."""
        files = self.files
        curves = zip(scores.T, files.score, files.probability, strict=True)
        found = np.stack([np.interp(*curve) for curve in curves], axis=1)
        if single:
            total = found.sum(axis=1, keepdims=True)
            found = np.where(total > 0, found / np.where(total > 0, total, 1), scores)
        return np.asarray(found)


def fit_calibration(scores: Float64, member: Bools) -> Calibration:
    """Fit a curve per label to scores of samples that the model had not seen.

    Parameters
    ----------
    scores, member
        Shape (n_samples, n_labels).
    """
    points = np.linspace(0, 1, N_POINTS)
    made = np.tile(points, (scores.shape[1], 1))
    for i in range(scores.shape[1]):
        having = member[:, i]
        if min(having.sum(), (~having).sum()) < LEAST:
            continue
        if len(scores) >= MANY:
            from sklearn.isotonic import IsotonicRegression

            steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores[:, i], having.astype(float))
            made[i] = steps.predict(points)
        else:
            made[i] = _platt(scores[:, i], having, points)
    return Calibration(CalibrationFiles(score=np.tile(points, (scores.shape[1], 1)), probability=made))


def _platt(scores: Float64, having: Bools, points: Float64) -> Float64:
    """Logistic curve of a score, fitted to targets that are a little inside of 0 and 1, as Platt has them."""
    n, m = int(having.sum()), int((~having).sum())
    target = np.where(having, (n + 1) / (n + 2), 1 / (m + 2))
    slope, offset = 0.0, float(np.log((n + 1) / (m + 1)))
    columns = np.stack([scores, np.ones_like(scores)])
    for _ in range(100):
        now = 1 / (1 + np.exp(-np.clip(slope * scores + offset, -500, 500)))
        gradient = columns @ (target - now)
        curvature = (columns * (now * (1 - now))) @ columns.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step /= max(1.0, np.abs(step).max() / 10)  # far off, Newton's step can be too long
        slope, offset = slope + step[0], offset + step[1]
        if np.abs(step).max() < 1e-10:
            break
    slope = max(slope, 0.0)  # a curve that falls would turn the order of the scores round
    if slope == 0.0:
        return np.full(len(points), (n + 1) / (n + m + 2))
    return np.asarray(1 / (1 + np.exp(-np.clip(slope * points + offset, -500, 500))))
