"""Synthetic samples of rare labels, so that a model sees as many of them as of others.

``smote``     a point between a sample and one of its :data:`N_NEIGHBORS` nearest of the same label [1]_
``gaussian``  a draw around the mean of the label, with a covariance that is shrunk to that of all samples, and the
              residual of one of its samples
``gan``       a draw of a small generative network, with the residual of one of the label's samples; see
              :mod:`cagdask.labels.classification.gan`

All work in the plane of the principal components of the training samples, since distances in thousands of features say
little: neighbors are found there, and draws are made there.

References
----------
.. [1] Chawla et al. (2002). SMOTE: synthetic minority over-sampling technique.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cagdask.labels.classification import gan
from cagdask.labels.classification.neighbors import fit_plane

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

METHODS = ("smote", "gaussian", "gan")
N_NEIGHBORS = 5
SHRINKAGE = 10
"""Samples that the covariance of all samples counts as, beside those of the label."""


@dataclass(frozen=True)
class Augmented:
    """Training samples with synthetic ones after them.

    Attributes
    ----------
    values, member
        Shape (n_samples, n_features) and (n_samples, n_labels).
    refused
        Rare labels of which no sample was made, and why.
    """

    values: Float32
    member: Bools
    refused: dict[int, str]


@dataclass(frozen=True)
class _Space:
    """Training samples in the plane: ``data`` centered and scaled, ``place = data @ axis``."""

    data: Float64
    place: Float64
    axis: Float64


def augmented(values: Float32, member: Bools, method: str, rare_below: int, seed: int) -> Augmented:
    """Training samples with synthetic ones after them: each rare label is brought to the median number of samples.

    Parameters
    ----------
    values, member
        Training samples, shape (n_samples, n_features), and their labels, (n_samples, n_labels).
    method
        ``none`` or one of :data:`METHODS`.
    rare_below
        A label with fewer training samples is rare. One without any stays so.
    seed
        Of all draws.
    """
    counts = member.sum(axis=0)
    goal = int(np.median(counts[counts > 0])) if counts.any() else 0
    rare = [i for i, n in enumerate(counts.tolist()) if 0 < n < min(rare_below, goal)]
    if method == "none" or not rare:
        return Augmented(values, member, {})
    plane = fit_plane(values)
    axis = np.asarray(plane.axis, np.float64)
    data = (np.asarray(values, np.float64) - plane.center) / plane.scale
    space = _Space(data, data @ axis, axis)
    spread = _within(space.place, member)
    code = _one_label(member, rare)
    network = gan.train(space.place, code, member.shape[1], seed) if method == "gan" else None
    made, labels, refused = [values], [member], {}
    for label in rare:
        own = np.flatnonzero(member[:, label])
        n = goal - len(own)
        rng = np.random.default_rng([seed, label])
        if method == "smote":
            new, like = _between(values, space.place, own, n, rng)
        else:
            if network is None:
                drawn = _drawn(space.place[own], n, spread, rng)
            else:
                why = gan.why_not(network, space.place, code, label, rng)
                if why:
                    refused[label] = why
                    continue
                drawn = network.draw(label, n, rng)
            new, like = _whole(space, drawn, own, rng)
            new = new * plane.scale + plane.center
        made.append(new.astype(np.float32))
        labels.append(member[like])
    return Augmented(np.concatenate(made), np.concatenate(labels), refused)


def _one_label(member: Bools, rare: list[int]) -> NDArray[np.int64]:
    """A label of each sample, a rare one before others; -1 without any."""
    order = np.array([*rare, *(i for i in range(member.shape[1]) if i not in rare)])
    return np.where(member.any(axis=1), order[member[:, order].argmax(axis=1)], -1)


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


def _drawn(own: Float64, n: int, spread: Float64, rng: np.random.Generator) -> Float64:
    """Draws around the mean of some places, shape (n, n_components)."""
    mean = own.mean(axis=0)
    centered = own - mean
    covariance = (centered.T @ centered + SHRINKAGE * spread) / (len(own) + SHRINKAGE)
    size, axes = np.linalg.eigh(covariance)
    made: Float64 = mean + (rng.normal(size=(n, len(size))) * np.sqrt(np.maximum(size, 0))) @ axes.T
    return made


def _whole(
    space: _Space, drawn: Float64, own: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Float64, NDArray[np.int64]]:
    """All features of places: what the plane says, and what it leaves of one of the label's samples."""
    like = own[rng.integers(0, len(own), len(drawn))]
    residual = space.data[like] - space.place[like] @ space.axis.T
    return drawn @ space.axis.T + residual, like
