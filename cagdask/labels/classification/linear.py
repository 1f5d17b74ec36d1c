"""Balanced logistic regression as plain arrays: fitted by scikit-learn, kept and applied without it.

Features are centered and scaled by the training samples. Every label weighs the same, however rare it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_ITERATIONS = 5_000


class LinearFiles(Files):
    """Coefficients of a model, or of one model per label."""

    center: Float64 = array(np.float64, "feature", "mean of the training samples")
    scale: Float64 = array(np.float64, "feature", "standard deviation of the training samples; 1 if it is 0")
    coefficient: Float64 = array(np.float64, "label, feature", "log-odds per standard deviation")
    intercept: Float64 = array(np.float64, "label", "log-odds at the mean")
    exclusive: NDArray[np.int64] = array(np.int64, "1", "1 if labels exclude each other, else 0")


@dataclass(frozen=True)
class Linear:
    """A fitted model; see :class:`LinearFiles`."""

    files: LinearFiles

    @property
    def importance(self) -> Float64:
        """Largest absolute coefficient of each feature."""
        return np.asarray(np.abs(self.files.coefficient).max(axis=0))

    def scores(self, values: Float32) -> Float64:
        """Score of each label, shape (n_samples, n_labels), in [0, 1]."""
        files = self.files
        standard = (np.asarray(values, np.float64) - files.center) / files.scale
        odds = standard @ files.coefficient.T + files.intercept
        if not files.exclusive[0]:
            return _sigmoid(odds)
        odds = odds - odds.max(axis=1, keepdims=True)
        raised = np.exp(odds)
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _sigmoid(odds: Float64) -> Float64:
    return np.asarray(0.5 * (1 + np.tanh(odds / 2)))


def fit_linear(values: Float32, member: Bools, single: bool, strength: float) -> Linear:
    """Fit labels that exclude each other together, others one by one.

    Parameters
    ----------
    values, member, single
        As for :func:`cagdask.labels.classification.forests.fit_forest`.
    strength
        Inverse of the penalty on the squared coefficients (scikit-learn's ``C``).
    """
    data = np.asarray(values, np.float64)
    center, scale = data.mean(axis=0), data.std(axis=0)
    scale = np.where(scale > 1e-12 * np.maximum(1, np.abs(center)), scale, 1.0)
    data = (data - center) / scale
    n_labels = member.shape[1]
    coefficient, intercept = np.zeros((n_labels, data.shape[1])), np.full(n_labels, -np.inf)
    if single:
        _fit_exclusive(data, member.argmax(axis=1), strength, coefficient, intercept)
    else:
        for i in range(n_labels):
            _fit_one(data, member[:, i], strength, coefficient[i : i + 1], intercept[i : i + 1])
    exclusive = np.array([int(single)], np.int64)
    files = LinearFiles(
        center=center,
        scale=scale,
        coefficient=coefficient,
        intercept=np.maximum(intercept, -700.0),
        exclusive=exclusive,
    )
    return Linear(files)


def _estimator(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced", max_iter=MAX_ITERATIONS)


def _fit_exclusive(data: Float64, target: Any, strength: float, coefficient: Float64, intercept: Float64) -> None:
    present = np.unique(target)
    if len(present) < 2:
        intercept[present] = 0.0
        return
    fit = _estimator(strength).fit(data, target)
    if len(present) == 2:  # one set of coefficients, of the second against the first
        coefficient[present[1]], intercept[present[1]] = fit.coef_[0], fit.intercept_[0]
        intercept[present[0]] = 0.0
        return
    coefficient[present], intercept[present] = fit.coef_, fit.intercept_


def _fit_one(data: Float64, having: Bools, strength: float, coefficient: Float64, intercept: Float64) -> None:
    if having.all() or not having.any():
        intercept[:] = 700.0 if having.any() else -700.0
        return
    fit = _estimator(strength).fit(data, having.astype(int))
    coefficient[:], intercept[:] = fit.coef_, fit.intercept_
