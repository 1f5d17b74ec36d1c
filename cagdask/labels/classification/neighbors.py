"""The labelled samples that a new sample is most like.

Samples are compared in the plane of the first principal components of the model's features, each feature centered and
scaled by the labelled samples: distances there are those that the features agree on, and a model keeps
:data:`N_COMPONENTS` numbers per sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

N_COMPONENTS = 30
N_NEAREST = 5
"""Samples that are named for each."""


class PlaneFiles(Files):
    """Labelled samples in the plane."""

    center: Float64 = array(np.float64, "feature", "mean of the labelled samples")
    scale: Float64 = array(np.float64, "feature", "standard deviation of the labelled samples; 1 if it is 0")
    axis: Float32 = array(np.float32, "feature, component", "directions of length 1")
    place: Float32 = array(np.float32, "sample, component", "the labelled samples")


def fit_plane(values: Float32) -> PlaneFiles:
    """The plane of some samples, shape (n_samples, n_features)."""
    data = np.asarray(values, np.float64)
    center, scale = data.mean(axis=0), data.std(axis=0)
    scale = np.where(scale > 1e-12 * np.maximum(1, np.abs(center)), scale, 1.0)
    data = (data - center) / scale
    n = min(N_COMPONENTS, *data.shape)
    if data.shape[0] <= data.shape[1]:  # eigenvectors of the smaller of the two products
        size, left = np.linalg.eigh(data @ data.T)
        axis = data.T @ left[:, ::-1][:, :n]
        axis /= np.sqrt(np.maximum(size[::-1][:n], 1e-300))
        axis[:, size[::-1][:n] < 1e-9 * max(size[-1], 1e-300)] = 0
    else:
        axis = np.linalg.eigh(data.T @ data)[1][:, ::-1][:, :n]
    largest = np.abs(axis).argmax(axis=0)
    axis = axis * np.where(axis[largest, np.arange(n)] < 0, -1.0, 1.0)
    return PlaneFiles(center=center, scale=scale, axis=axis.astype(np.float32), place=(data @ axis).astype(np.float32))


def nearest(plane: PlaneFiles, values: Float32, n: int = N_NEAREST) -> tuple[NDArray[np.int64], Float64]:
    """Rows of the nearest labelled samples of each of some samples, and their distances, nearest first."""
    new = ((np.asarray(values, np.float64) - plane.center) / plane.scale) @ plane.axis
    known = np.asarray(plane.place, np.float64)
    n = min(n, len(known))
    found, distances = np.empty((len(new), n), np.int64), np.empty((len(new), n))
    for i, one in enumerate(new):  # one by one, so that memory stays at that of the labelled samples
        distance = np.sqrt(((known - one) ** 2).sum(axis=1))
        found[i] = np.argsort(distance, kind="stable")[:n]
        distances[i] = distance[found[i]]
    return found, distances
