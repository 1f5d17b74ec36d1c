"""Synthetic samples of rare labels, so that a model sees as many of them as of others.

``smote``     a point between a sample and one of its :data:`N_NEIGHBORS` nearest of the same label [1]_
``gaussian``  a draw around the mean of the label, with a covariance that is shrunk to that of all samples, and the
              residual of one of its samples

Both work in the plane of the principal components of the training samples, since distances in thousands of features say
little: neighbors are found there, and draws are made there.

References
----------
.. [1] Chawla et al. (2002). SMOTE: synthetic minority over-sampling technique.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask.labels.classification.neighbors import fit_plane

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

METHODS = ("smote", "gaussian")
N_NEIGHBORS = 5
SHRINKAGE = 10
"""Samples that the covariance of all samples counts as, beside those of the label."""


def augmented(values: Float32, member: Bools, method: str, rare_below: int, seed: int) -> tuple[Float32, Bools]:
    """Training samples with synthetic ones after them: each rare label is brought to the median number of samples.

    Parameters
    ----------
    values, member
        Training samples, shape (n_samples, n_features), and their labels, (n_samples, n_labels).
    method
        One of :data:`METHODS`.
    rare_below
        A label with fewer training samples is rare. One without any stays so.
    seed
        Of all draws.
    """
    counts = member.sum(axis=0)
    goal = int(np.median(counts[counts > 0])) if counts.any() else 0
    rare = [i for i, n in enumerate(counts.tolist()) if 0 < n < min(rare_below, goal)]
    if not rare:
        return values, member
    plane = fit_plane(values)
    data = (np.asarray(values, np.float64) - plane.center) / plane.scale
    place = data @ np.asarray(plane.axis, np.float64)
    spread = _within(place, member)
    made, labels = [values], [member]
    for label in rare:
        own = np.flatnonzero(member[:, label])
        n = goal - len(own)
        rng = np.random.default_rng([seed, label])
        if method == "smote":
            new, like = _between(values, place, own, n, rng)
        else:
            new, like = _drawn(data, place, np.asarray(plane.axis, np.float64), own, n, spread, rng)
            new = new * plane.scale + plane.center
        made.append(new.astype(np.float32))
        labels.append(member[like])
    return np.concatenate(made), np.concatenate(labels)


def _within(place: Float64, member: Bools) -> Float64:
    """Mean covariance within labels, a sample counted under its first label."""
    first = np.where(member.any(axis=1), member.argmax(axis=1), -1)
    centered = place.copy()
    for label in np.unique(first):
        centered[first == label] -= place[first == label].mean(axis=0)
    return centered.T @ centered / max(1, len(place) - len(np.unique(first)))


def _between(
    values: Float32, place: Float64, own: NDArray[np.int64], n: int, rng: np.random.Generator
) -> tuple[Float64, NDArray[np.int64]]:
    distance = ((place[own][:, None] - place[own]) ** 2).sum(axis=2)
    near = np.argsort(distance, axis=1, kind="stable")[:, 1 : N_NEIGHBORS + 1]
    start = rng.integers(0, len(own), n)
    if near.shape[1]:
        end = near[start, rng.integers(0, near.shape[1], n)]
    else:
        end = start  # a label of one sample: nothing lies between
    weight = rng.uniform(size=(n, 1))
    first, second = (np.asarray(values[own[x]], np.float64) for x in (start, end))
    return first + weight * (second - first), own[start]


def _drawn(
    data: Float64,
    place: Float64,
    axis: Float64,
    own: NDArray[np.int64],
    n: int,
    spread: Float64,
    rng: np.random.Generator,
) -> tuple[Float64, NDArray[np.int64]]:
    mean = place[own].mean(axis=0)
    centered = place[own] - mean
    covariance = (centered.T @ centered + SHRINKAGE * spread) / (len(own) + SHRINKAGE)
    size, axes = np.linalg.eigh(covariance)
    drawn = mean + (rng.normal(size=(n, len(size))) * np.sqrt(np.maximum(size, 0))) @ axes.T
    like = own[rng.integers(0, len(own), n)]
    residual = data[like] - place[like] @ axis.T
    return drawn @ axis.T + residual, like
