"""How a gene fits: its distance to its CAG, and of all other CAGs the one whose mean direction is nearest.

    profiles, some at a time --product in float32 with a slice of directions--> what may be nearer than the best so far
                                                                                   |
                                                             again in float64, in a fixed order of additions, kept

Choices are the :data:`MOST_CHOICES` largest CAGs, if they have two genes or more: of a million genes, comparing with
all would take a fifth of the run. The product in float32 only rules out, so the answer does not depend on how
genes or CAGs are split, nor on threads; ties go to the smaller CAG. Beside the rows, a task holds a slice of directions
twice and :data:`ROWS_AT_ONCE` × :data:`DIRECTIONS_AT_ONCE` products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.cags.results import LabelFiles
from cagdask.compute.kernels import njit
from cagdask.compute.memory import one_thread
from cagdask.engine.rows.files import ProfileFiles, load_rows, product, rounded, take_rows
from cagdask.engine.search.kernels import PRODUCT_MARGIN

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MOST_CHOICES = 6_000
"""CAGs that are compared with each gene; they are numbered by size, so these are the largest."""
ROWS_AT_ONCE = 512
DIRECTIONS_AT_ONCE = 2048
NOTHING = -2.0
"""Similarity of a gene that has no second choice."""


def fit_of(profiles: str, label: Int64, begin: int, labels: str, groups: list[str]) -> dict[str, NDArray[Any]]:
    """How near the genes of a block, which begins with row ``begin``, are to their CAG and to the next one."""
    n = len(label)
    distance, second, margin = np.zeros(n, np.float32), np.full(n, -1, np.int64), np.full(n, np.nan, np.float32)
    with_profile, rows = ProfileFiles.open(profiles).gene - begin, load_rows(profiles)
    own = _distances(rows, label[with_profile], labels, groups)
    other = second_of(rows, label[with_profile], labels, groups)
    is_known = (other.cag >= 0) & (label[with_profile] >= 0)
    distance[with_profile], second[with_profile] = own, np.where(is_known, other.cag, -1)
    margin[with_profile] = np.where(is_known, 1 - other.cosine - own.astype(np.float64), np.nan)
    return {"distance": distance, "second": second, "margin": margin}


def _distances(rows: NDArray[np.float64], label: Int64, labels: str, groups: list[str]) -> NDArray[np.float32]:
    """Cosine distance of each profile to its CAG's mean direction; 0 for a gene alone."""
    files = LabelFiles.open(labels)
    block, row = files.block[label], files.row[label]
    distance = np.zeros(len(rows))
    has_company = (files.size[label] > 1) & (label >= 0)
    for b in np.unique(block[has_company]):
        in_block = np.flatnonzero(has_company & (block == b))
        in_block = in_block[np.argsort(row[in_block], kind="stable")]  # directions are read in the order of the file
        directions = take_rows(groups[b], row[in_block])
        distance[in_block] = 1 - np.einsum("ij,ij->i", rows[in_block], directions)
    return np.clip(distance, 0, 2).astype(np.float32)


class Second(NamedTuple):
    """The second choice of some genes, in place: (n,) CAG, -1 for none; cosine to it, :data:`NOTHING` for none."""

    cag: Int64
    cosine: Float64


def second_of(rows: Float64, label: Int64, labels: str, groups: list[str]) -> Second:
    """The second choice of genes.

    Parameters
    ----------
    rows
        Unit profiles, (n, n_samples).
    label
        CAG of each, (n,).
    labels, groups
        Folders of the :class:`cagdask.cags.results.LabelFiles`, and of the directions.
    """
    files = LabelFiles.open(labels)
    found = Second(np.full(len(rows), -1, np.int64), np.full(len(rows), NOTHING))
    rows32 = rows.astype(np.float32)
    choices = np.flatnonzero((files.block >= 0) & (files.size > 1))[:MOST_CHOICES]
    block, row = files.block[choices], files.row[choices]
    step = max(1, min(DIRECTIONS_AT_ONCE, len(rows)))  # no more than the rows take, which the plan counts
    for b in np.unique(block):
        here = np.flatnonzero(block == b)
        here = here[np.argsort(row[here], kind="stable")]  # directions are read in the order of the file
        for begin in range(0, len(here), step):
            some = here[begin : begin + step]
            offer(found, rows, rows32, label, take_rows(groups[b], row[some]), choices[some])
    return found


def offer(found: Second, rows: Float64, rows32: Float32, label: Int64, directions: Float64, cag: Int64) -> None:
    """Take the directions of some CAGs into account; ``found`` is changed in place.

    Examples
    --------
    >>> rows, found = np.eye(2), Second(np.array([-1, -1]), np.full(2, NOTHING))
    >>> offer(found, rows, rows.astype(np.float32), np.array([0, 1]), np.array([[1.0, 0.0], [0.6, 0.8]]), np.arange(2))
    >>> found.cag, found.cosine
    (array([1, 0]), array([0.6, 0. ]))
    """
    directions32 = directions.astype(np.float32)
    with one_thread():
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            rough = rows32[part] @ directions32.T
            _keep(rough, rows[part], label[part], directions, cag, found.cag[part], found.cosine[part])


@njit(cache=True, nogil=True)
def _keep(rough: Any, rows: Any, label: Any, directions: Any, cag: Any, best: Any, cosine: Any) -> None:
    """Compute again, in float64, what may be nearer than the best so far, and keep it if it is."""
    for i in range(len(rows)):
        need = np.float32(cosine[i]) - PRODUCT_MARGIN
        for j in range(len(cag)):
            if rough[i, j] < need or cag[j] == label[i]:
                continue
            exact = rounded(product(rows[i], directions[j]))
            if exact > cosine[i] or (exact == cosine[i] and cag[j] < best[i]):
                cosine[i], best[i] = exact, cag[j]
                need = np.float32(exact) - PRODUCT_MARGIN
