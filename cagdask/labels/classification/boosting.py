"""Gradient boosting of LightGBM, where it is installed (``pip install "cagdask[lightgbm]"``).

A model is LightGBM's own text, one per label or one for all: it is parsed, and nothing of it is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


class BoostingFiles(Files):
    """Texts of the models."""

    text: NDArray[np.uint8] = array(np.uint8, "byte", "texts of the models, one after the other")
    length: NDArray[np.int64] = array(np.int64, "model", "bytes of each; 0 where a label was constant")
    constant: Float64 = array(np.float64, "model", "score where there is no text")
    label: NDArray[np.int64] = array(np.int64, "class", "label of each class, where labels exclude each other")
    importance: Float64 = array(np.float64, "feature", "gain of the splits on a feature, sums to 1")


@dataclass(frozen=True)
class Boosting:
    """A fitted model; see :class:`BoostingFiles`."""

    files: BoostingFiles
    n_labels: int

    @property
    def importance(self) -> Float64:
        """Of each feature, sums to 1."""
        return self.files.importance

    def scores(self, values: Float32) -> Float64:
        """Score of each label, shape (n_samples, n_labels), in [0, 1]."""
        files, at, found = self.files, 0, []
        for length, constant in zip(files.length.tolist(), files.constant.tolist(), strict=True):
            text = bytes(files.text[at : at + length]).decode()
            at += length
            made = _lightgbm().Booster(model_str=text).predict(values, num_threads=1) if text else None
            found.append(np.full(len(values), constant) if made is None else np.asarray(made))
        if not len(files.label):
            return np.stack(found, axis=1)
        total = np.zeros((len(values), self.n_labels))
        total[:, files.label] = found[0] if found[0].ndim == 2 else np.stack([1 - found[0], found[0]], axis=1)
        return total


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as err:
        raise InputError('LightGBM is not installed. Install "cagdask[lightgbm]", or use another `model`.') from err
    return lightgbm


def check_installed() -> None:
    """Refuse the model where LightGBM is not installed.

    Raises
    ------
    InputError
        It is not.
    """
    _lightgbm()


def fit_boosting(values: Float32, member: Bools, single: bool, n_trees: int, seed: int) -> Boosting:
    """Fit labels that exclude each other together, others one by one; every label weighs the same.

    Parameters are those of :func:`cagdask.labels.classification.forests.fit_forest`.
    """
    n_labels = member.shape[1]
    labels = np.unique(member.argmax(axis=1)) if single else np.empty(0, np.int64)
    targets = [np.searchsorted(labels, member.argmax(axis=1))] if single else [row.astype(int) for row in member.T]
    texts, constants, gain = [], [], np.zeros(values.shape[1])
    for target in targets:
        constant = len(np.unique(target)) < 2
        constants.append(float(target[0]) if constant and not single else 1.0)
        texts.append(b"")
        if not constant:
            options = {"n_estimators": n_trees, "class_weight": "balanced", "random_state": seed, "n_jobs": 1}
            fit = _lightgbm().LGBMClassifier(**options, deterministic=True, force_row_wise=True, verbose=-1)
            booster = fit.fit(values, target).booster_
            texts[-1] = booster.model_to_string().encode()
            gain += booster.feature_importance("gain")
    files = BoostingFiles(
        text=np.frombuffer(b"".join(texts), np.uint8),
        length=np.array([len(text) for text in texts], np.int64),
        constant=np.array(constants),
        label=labels.astype(np.int64),
        importance=gain / max(gain.sum(), 1e-300),
    )
    return Boosting(files, n_labels)
