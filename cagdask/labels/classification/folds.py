"""The task of one fold: fit on training samples, calibrate within them, score the test samples.

    training samples --all--> model ------------------------------> scores of the test samples
    training samples --inner folds--> scores kept apart --> curve --> probabilities of the test samples

A task holds the features of its fold three times: as read, as training samples, and as test samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.labels.classification import features
from cagdask.labels.classification.calibration import Calibration, fit_calibration
from cagdask.labels.classification.models import Fitted, Recipe, fit
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

N_PERMUTED = 50
"""Features of a fold that are permuted: those that its model uses most."""
N_REPEATS = 5
"""Permutations of each of them."""


class FoldFiles(Files):
    """What a fold is made of."""

    row: Int64 = array(np.int64, "feature", "row in the store, rising")
    column: Int64 = array(np.int64, "sample", "column in the store")
    member: Bools = array(np.bool_, "sample, label", "which sample has which label")
    train: Bools = array(np.bool_, "sample", "training samples")
    test: Bools = array(np.bool_, "sample", "test samples")
    inner: Int64 = array(np.int64, "sample", "inner fold of a training sample, -1 for others")


class ScoredFiles(Files):
    """What a fold found."""

    score: Float64 = array(np.float64, "tested, label", "score of the model")
    probability: Float64 = array(np.float64, "tested, label", "calibrated")
    permuted: Int64 = array(np.int64, "permuted", "row of a feature that was permuted")
    importance: Float64 = array(np.float64, "permuted", "rise of the mean squared error of the scores")


def fit_calibrated(
    recipe: Recipe, values: Float32, member: Bools, inner: Int64, single: bool
) -> tuple[Fitted, Calibration]:
    """A model of all samples, and the curve of its scores from models that left out an inner fold each.

    Parameters
    ----------
    recipe, values, member, single
        As for :func:`cagdask.labels.classification.models.fit`.
    inner
        Inner fold of each sample.
    """
    scores = np.zeros(member.shape)
    for fold in np.unique(inner):
        apart = inner == fold
        scores[apart] = fit(recipe, values[~apart], member[~apart], single).scores(values[apart])
    return fit(recipe, values, member, single), fit_calibration(scores, member)


def fold_task(parts: list[str], recipe: dict[str, Any], single: bool, permute: bool, given: str, folder: str) -> int:
    """Fit and test one fold."""
    asked, made_of = FoldFiles.open(given), Recipe(**recipe)
    values = features.read_values(parts, np.asarray(asked.row), np.asarray(asked.column))
    train, test = np.asarray(asked.train), np.asarray(asked.test)
    member = np.asarray(asked.member)
    model, curve = fit_calibrated(made_of, values[train], member[train], np.asarray(asked.inner)[train], single)
    tested = values[test]
    scores = model.scores(tested)
    place, importance = np.empty(0, np.int64), np.empty(0)
    if permute:
        place, importance = permuted_importance(model, tested, member[test], scores, made_of.seed)
    ScoredFiles(
        score=scores,
        probability=curve.probabilities(scores, single),
        permuted=np.asarray(asked.row)[place],
        importance=importance,
    ).write(folder)
    return int(test.sum())


def permuted_importance(
    model: Fitted, values: Float32, member: Bools, scores: Float64, seed: int
) -> tuple[Int64, Float64]:
    """How much worse scores get if a feature is permuted over samples, for those that the model uses most.

    Returns
    -------
    tuple of array
        Places of the features, and the mean rise of the squared error of the scores.
    """
    used = np.argsort(-model.importance, kind="stable")[:N_PERMUTED]
    used = np.sort(used[model.importance[used] > 0])
    error = ((scores - member) ** 2).mean()
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(values)) for _ in range(N_REPEATS)]
    many, truth = np.tile(values, (N_REPEATS, 1)), np.tile(member, (N_REPEATS, 1))
    rise = np.zeros(len(used))
    for i, place in enumerate(used.tolist()):
        many[:, place] = np.concatenate([values[order, place] for order in orders])
        rise[i] = ((model.scores(many) - truth) ** 2).mean() - error
        many[:, place] = np.tile(values[:, place], N_REPEATS)
    return used.astype(np.int64), rise
