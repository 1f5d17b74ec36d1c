"""Samples laid out in a plane, and put in an order, by what they are made of.

    abundance of the CAGs --Bray–Curtis--> distances of samples --PCoA--> two coordinates      up to 1,000 samples
                          --Hellinger----> rows of length 1     --PCA---> two coordinates      more samples
    log-ratios (clr)      ---------------------------------------PCA---> two coordinates      Aitchison

References
----------
.. [1] Legendre, Gallagher (2001). Ecologically meaningful transformations for ordination of species data.
.. [2] Gower (1966). Some distance properties of latent root and vector methods used in multivariate analysis.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_PCOA = 1_000
"""Samples up to which all their distances are computed."""
MAX_CLUSTERED = 2_000
"""Rows up to which they are put in the order of a hierarchical clustering; more go by their first principal axis."""

Float64 = NDArray[np.float64]


class Ordination(NamedTuple):
    """Samples in a plane.

    ``coordinates`` has shape (n_samples, 2), float64; ``explained`` the share of the variation that each axis holds.
    """

    coordinates: Float64
    explained: tuple[float, float]
    method: str


def ordinate(profiles: Float64, *, is_log_ratio: bool) -> Ordination:
    """Lay samples out in a plane.

    Parameters
    ----------
    profiles
        Abundance of CAGs, shape (n_cags, n_samples), float64.
    is_log_ratio
        Whether values are log-ratios, which may be negative and are compared as they are.
    """
    rows = profiles.T
    if is_log_ratio or (rows < 0).any():
        return Ordination(*_pca(rows), "Aitchison distance, PCA")
    if len(rows) > MAX_PCOA:
        total = rows.sum(1, keepdims=True)
        return Ordination(*_pca(np.sqrt(np.divide(rows, total, out=np.zeros_like(rows), where=total > 0))),
                          "Hellinger distance, PCA")  # fmt: skip
    return Ordination(*_pcoa(_bray_curtis(rows)), "Bray–Curtis distance, PCoA")


def _bray_curtis(rows: Float64) -> Float64:
    """Distances of all pairs, shape (n, n); two samples with nothing in them are at distance 0."""
    from scipy.spatial.distance import pdist, squareform

    with np.errstate(invalid="ignore"):
        return np.asarray(squareform(np.nan_to_num(pdist(rows, "braycurtis"))))


def _pcoa(distance: Float64) -> tuple[Float64, tuple[float, float]]:
    squared = -0.5 * distance**2
    centered = squared - squared.mean(0) - squared.mean(1, keepdims=True) + squared.mean()
    value, vector = np.linalg.eigh(centered)
    value, vector = value[::-1], vector[:, ::-1]
    positive = np.clip(value, 0, None)
    return _two(vector * np.sqrt(positive), positive)


def _pca(rows: Float64) -> tuple[Float64, tuple[float, float]]:
    centered = rows - rows.mean(0)
    gram = centered @ centered.T if len(rows) <= rows.shape[1] else None
    if gram is not None:
        value, vector = np.linalg.eigh(gram)
        value, vector = np.clip(value[::-1], 0, None), vector[:, ::-1]
        return _two(vector * np.sqrt(value), value)
    value, axis = np.linalg.eigh(centered.T @ centered)
    return _two(centered @ axis[:, ::-1], np.clip(value[::-1], 0, None))


def _two(coordinates: Float64, weight: Float64) -> tuple[Float64, tuple[float, float]]:
    """The first two axes; the largest coordinate of each is positive, so that no library decides on signs."""
    found = np.zeros((len(coordinates), 2))
    kept = min(2, coordinates.shape[1])
    found[:, :kept] = coordinates[:, :kept]
    for axis in range(kept):
        if len(found) and found[np.argmax(np.abs(found[:, axis])), axis] < 0:
            found[:, axis] *= -1
    total = max(float(weight.sum()), 1e-300)
    first, second = [float(w) / total for w in [*weight[:2].tolist(), 0.0, 0.0][:2]]
    return found, (first, second)


def similar_together(rows: Float64) -> NDArray[np.int64]:
    """An order of rows in which similar ones are neighbors, shape (n,); equal input, equal order."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(rows) < 3:
        return np.arange(len(rows))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    if len(rows) > MAX_CLUSTERED:
        return np.argsort(_pca(unit)[0][:, 0], kind="stable")
    return np.asarray(leaves_list(linkage(unit, "average")), np.int64)
