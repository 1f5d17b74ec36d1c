"""How well labels were given to samples that the model had not seen.

================  ==================================================================
number            of a label
================  ==================================================================
``precision``     share of the samples given the label that have it
``recall``        share of the samples that have the label that were given it
``f1``            harmonic mean of the two
``auc``           probability that a sample with the label scores above one without
``support``       tested samples that have it
================  ==================================================================

Macro means are plain means over labels: rare ones count as much as others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
N_BINS = 10
"""Of the calibration curve."""


def auc_of(scores: Float64, having: Bools) -> float:
    """Area under the ROC curve, ties counted half; NaN if all samples or none have the label."""
    from scipy.stats import rankdata

    n, m = int(having.sum()), int((~having).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(scores)[having].sum() - n * (n + 1) / 2) / (n * m))


def f1_of(given: Bools, having: Bools) -> Float64:
    """F1 of each label, shape (n_labels,); 0 where nothing was given or nobody has it."""
    both = (given & having).sum(axis=0)
    return np.asarray(2 * both / np.maximum(given.sum(axis=0) + having.sum(axis=0), 1))


def score_labels(names: list[str], scores: Float64, given: Bools, having: Bools) -> list[dict[str, Any]]:
    """The numbers of each label; ``scores``, ``given`` and ``having`` of shape (n_samples, n_labels)."""
    f1 = f1_of(given, having)
    rows = []
    for i, name in enumerate(names):
        both, n_given, n_having = (int(x.sum()) for x in (given[:, i] & having[:, i], given[:, i], having[:, i]))
        area = auc_of(scores[:, i], having[:, i])
        rows.append({
            "label": name,
            "precision": both / n_given if n_given else 0.0,
            "recall": both / n_having if n_having else 0.0,
            "f1": float(f1[i]),
            "auc": None if np.isnan(area) else area,
            "support": n_having,
        })  # fmt: skip
    return rows


def summarize(rows: list[dict[str, Any]], probabilities: Float64, given: Bools, having: Bools) -> dict[str, Any]:
    """Means over labels, the share of samples with exactly their labels, and how far probabilities are off (Brier)."""
    areas = [row["auc"] for row in rows if row["auc"] is not None]
    return {
        "n_samples": len(having),
        "macro_f1": float(np.mean([row["f1"] for row in rows])),
        "macro_auc": float(np.mean(areas)) if areas else None,
        "accuracy": float((given == having).all(axis=1).mean()),
        "brier": float(((probabilities - having) ** 2).mean()),
    }


def calibration_curve(probabilities: Float64, having: Bools) -> list[dict[str, Any]]:
    """Mean probability and share with the label, over all labels, in bins of the probability."""
    flat, true = probabilities.ravel(), having.ravel()
    place = np.minimum((flat * N_BINS).astype(int), N_BINS - 1)
    rows = []
    for i in range(N_BINS):
        inside = place == i
        if inside.any():
            rows.append({"probability": float(flat[inside].mean()), "share": float(true[inside].mean()),
                         "n": int(inside.sum())})  # fmt: skip
    return rows


def roc_points(scores: Float64, having: Bools, n: int = 200) -> list[list[float]]:
    """False and true positive rates at falling scores, ties together, ``n`` points at most."""
    if having.all() or not having.any():
        return []
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    true, false = np.cumsum(having[order])[last], np.cumsum(~having[order])[last]
    points = np.stack([false / false[-1], true / true[-1]], axis=1)
    points = np.concatenate([[[0.0, 0.0]], points])
    kept = np.unique(np.linspace(0, len(points) - 1, n).round().astype(int)) if len(points) > n else slice(None)
    return [[round(float(x), 6), round(float(y), 6)] for x, y in points[kept]]
