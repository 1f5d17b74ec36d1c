"""All CAGs, and all genes, as points of a plane: near on the map is similar over the samples.

    the largest CAGs --t-SNE--> landmarks        at most 1,000
    every other CAG  --its three most similar landmarks, weighted by similarity--> beside them
    unlike all landmarks --> the rim
    a gene --> beside its CAG, the farther out the less typical it is

The same result gives the same map: t-SNE starts from principal components, runs in one thread, and has a seed. As with
every such map, what is near is similar; what is far apart may still be alike, and distances between groups say little.
Memory: a block of profiles, its similarities to the landmarks, and 8 bytes per CAG.

References
----------
.. [1] van der Maaten, Hinton (2008). Visualizing data using t-SNE.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.vectors.ranking import unit_rows

BLOCK_BYTES = 16 * 2**20
"""Profiles of CAGs that are read at a time."""
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

N_LANDMARKS = 1_000
"""CAGs that t-SNE lays out: the largest."""
N_NEAREST = 3
LEAST_SIMILARITY = 0.3
"""To the most similar landmark; CAGs below are on the rim."""
GOLDEN_ANGLE = 2.399963229728653
"""Points at multiples of this angle are spread evenly around a center."""


class CagMap(NamedTuple):
    """Places of CAGs.

    ``place`` (n_cags, 2) float32, in a square of about -1 to 1; ``on_rim`` (n_cags,) bool: unlike every landmark.
    """

    place: Float32
    on_rim: NDArray[np.bool_]

    @property
    def edge(self) -> float:
        """Half the width of a square around all of it."""
        return 1.5 if self.on_rim.any() else 1.05


def map_of(result: str, metric: str) -> CagMap:
    """The map of the CAGs of a result store; their profiles are read some at a time."""
    array = storage.open_array(result, "cag_abundance")
    n, chunk = array.shape[0], max(1, array.chunks[0])
    step = max(chunk, BLOCK_BYTES // (4 * array.shape[1]) // chunk * chunk)
    blocks = (np.asarray(array[begin : begin + step]) for begin in range(0, n, step))
    return lay_out(blocks, n, metric=metric)


def lay_out(blocks: Iterable[NDArray[Any]], n_cags: int, *, metric: str = "cosine", seed: int = 0) -> CagMap:
    """Lay CAGs out in a plane.

    Parameters
    ----------
    blocks
        Mean profiles of the CAGs in order, in pieces of shape (any, n_samples); the largest CAG first.
    n_cags
        CAGs in all.
    metric
        ``cosine`` or ``correlation``.
    seed
        Of t-SNE.

    Returns
    -------
    CagMap
        The same for any size of the pieces.
    """
    place = np.zeros((n_cags, 2), np.float32)
    on_rim = np.zeros(n_cags, bool)
    held: list[Float32] = []
    landmarks: Float32 | None = None
    begin = 0
    for block in blocks:
        held.append(unit_rows(np.asarray(block, np.float32), metric))
        n_held = sum(map(len, held))
        if landmarks is None and n_held < min(N_LANDMARKS, n_cags - begin):
            continue
        rows = np.concatenate(held)
        held = []
        if landmarks is None:
            landmarks = rows[:N_LANDMARKS]
            anchors = _landmark_places(landmarks, seed)
        here = slice(begin, begin + len(rows))
        place[here], on_rim[here] = _beside(rows, landmarks, anchors, begin)
        begin += len(rows)
    if landmarks is not None:
        place[: len(landmarks)], on_rim[: len(landmarks)] = anchors, False
    return CagMap(place, on_rim)


def _landmark_places(landmarks: Float32, seed: int) -> Float32:
    """Places of the landmarks, in a square of -0.85 to 0.85."""
    n = len(landmarks)
    if n < 4:
        angle = GOLDEN_ANGLE * np.arange(n)
        return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32) * np.float32(0.5)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(20.0, (n - 1) / 3)
    with threadpool_limits(1):
        made = TSNE(perplexity=perplexity, init=_first_axes(landmarks), random_state=seed, n_jobs=1, max_iter=500)
        found = np.asarray(made.fit_transform(landmarks), np.float64)
    low, high = found.min(axis=0), found.max(axis=0)
    share = (found - low) / np.maximum(high - low, 1e-12)
    return np.asarray((share * 2 - 1) * 0.85, np.float32)


def _first_axes(rows: Float32) -> Float32:
    """The first two principal components, scaled as t-SNE expects its start; signs do not depend on the library."""
    centered = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    axes = np.zeros((len(rows), 2))
    axes[:, : min(2, len(s))] = (u * s)[:, :2]
    for axis in range(2):
        if axes[np.argmax(np.abs(axes[:, axis])), axis] < 0:
            axes[:, axis] *= -1
    return (axes / max(float(axes[:, 0].std()), 1e-12) * 1e-4).astype(np.float32)


def _beside(rows: Float32, landmarks: Float32, anchors: Float32, begin: int) -> tuple[Float32, NDArray[np.bool_]]:
    """Places of CAGs by the landmarks that are most like them, and whether they are like none."""
    k = min(N_NEAREST, len(landmarks))
    place = np.empty((len(rows), 2), np.float32)
    on_rim = np.empty(len(rows), bool)
    step = 4_096
    for first in range(0, len(rows), step):
        similarity = rows[first : first + step] @ landmarks.T
        best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        value = np.take_along_axis(similarity, best, axis=1)
        weight = np.maximum(value, 1e-3) ** 8
        weight /= weight.sum(axis=1, keepdims=True)
        near = np.einsum("ij,ijk->ik", weight, anchors[best])
        number = begin + first + np.arange(len(near))
        far = np.asarray(value.max(axis=1) < LEAST_SIMILARITY)
        angle = GOLDEN_ANGLE * number
        spread = 0.012 * np.sqrt((number * 0.6180339887498949) % 1)
        around = np.column_stack([np.cos(angle), np.sin(angle)])
        place[first : first + step] = np.where(
            far[:, None], around * (1.3 + 5 * spread[:, None]), near + around * spread[:, None]
        )
        on_rim[first : first + step] = far
    return place, on_rim


def gene_places(made: CagMap, label: Int64, distance: Float32, sizes: Int64) -> Float32:
    """Places of genes: around their CAG, the larger it is the wider, the less typical the gene the farther out.

    Parameters
    ----------
    made
        The map.
    label, distance
        CAG of each gene, -1 = filtered out, and its distance to the CAG's mean; shape (n_genes,).
    sizes
        Genes per CAG, shape (n_cags,).

    Returns
    -------
    ndarray
        Shape (n_genes, 2), float32; NaN for genes filtered out.
    """
    place = made.place[np.maximum(label, 0)].copy()
    largest = np.zeros(len(sizes), np.float32)
    kept = np.flatnonzero(label >= 0)
    typical = np.nan_to_num(distance)
    np.maximum.at(largest, label[kept], typical[kept])
    share = np.divide(typical, largest[np.maximum(label, 0)], out=np.zeros_like(typical), where=typical > 0)
    width = 0.004 * np.minimum(np.sqrt(sizes[np.maximum(label, 0)]), 16) * (sizes[np.maximum(label, 0)] > 1)
    angle = GOLDEN_ANGLE * np.arange(len(label))
    place[:, 0] += width * share * np.cos(angle)
    place[:, 1] += width * share * np.sin(angle)
    place[label < 0] = np.nan
    return place


def density(place: Float32, x: tuple[float, float], y: tuple[float, float], shape: tuple[int, int]) -> Int64:
    """Points per pixel of a picture of a part of the plane, shape (height, width), the lowest row first."""
    height, width = shape
    with np.errstate(invalid="ignore"):
        column = np.floor((place[:, 0] - x[0]) * (width / max(x[1] - x[0], 1e-12)))
        row = np.floor((place[:, 1] - y[0]) * (height / max(y[1] - y[0], 1e-12)))
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cell = row[inside].astype(np.int64) * width + column[inside].astype(np.int64)
    return np.bincount(cell, minlength=height * width).reshape(height, width)
