"""Every kind of model behind the same three functions: fit, score, store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cagdask.labels.classification.balance import augmented
from cagdask.labels.classification.boosting import Boosting, BoostingFiles, fit_boosting
from cagdask.labels.classification.forests import Forest, ForestFiles, fit_forest
from cagdask.labels.classification.linear import Linear, LinearFiles, fit_linear
from cagdask.storage.arrays import Files

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Recipe:
    """What a model is made of, whatever its features.

    Attributes
    ----------
    model
        One of :data:`cagdask.labels.classification.options.MODELS`.
    n_trees
        Of a forest, or rounds of boosting.
    strength
        Inverse of the penalty of the logistic regression.
    seed
        Of all that is random.
    augment
        How synthetic samples of rare labels are made: ``none`` or one of
        :data:`cagdask.labels.classification.balance.METHODS`.
    rare_below
        Training samples of a label that is not rare.
    """

    model: str = "random-forest"
    n_trees: int = 300
    strength: float = 1.0
    seed: int = 0
    augment: str = "none"
    rare_below: int = 20


class Fitted(Protocol):
    """What a model can do."""

    @property
    def files(self) -> Files:
        """Its arrays."""

    @property
    def importance(self) -> Float64:
        """How much it uses each feature."""

    def scores(self, values: Float32) -> Float64:
        """Score of each label, shape (n_samples, n_labels), in [0, 1]."""


def fit(recipe: Recipe, values: Float32, member: Bools, single: bool) -> Fitted:
    """Fit a model to samples, shape (n_samples, n_features), and their labels, shape (n_samples, n_labels)."""
    if recipe.augment != "none":
        made = augmented(values, member, recipe.augment, recipe.rare_below, recipe.seed)
        values, member = made.values, made.member
    if recipe.model == "random-forest":
        return fit_forest(values, member, single, recipe.n_trees, recipe.seed)
    if recipe.model == "logistic":
        return fit_linear(values, member, single, recipe.strength)
    return fit_boosting(values, member, single, recipe.n_trees, recipe.seed)


def open_model(model: str, folder: str, n_labels: int) -> Fitted:
    """A stored model; arrays are read, nothing is executed."""
    if model == "random-forest":
        return Forest(ForestFiles.open(folder), n_labels)
    if model == "logistic":
        return Linear(LinearFiles.open(folder))
    return Boosting(BoostingFiles.open(folder), n_labels)


def decide(scores: Float64, single: bool) -> Bools:
    """Labels that scores mean: the best one, or all of at least a half."""
    if not single:
        return np.asarray(scores >= 0.5)
    made = np.zeros(scores.shape, bool)
    made[np.arange(len(scores)), scores.argmax(axis=1)] = True
    return made
