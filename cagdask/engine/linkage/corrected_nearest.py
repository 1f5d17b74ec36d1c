"""The nearest group of each by similarity without noise: matrix products, and a compiled look at them.

    some groups x some others --product in float32--> upper bound of ρ --what can be nearer--> in float64, kept

Two genes alone are never joined, so that most pairs need no product: groups of two and more are multiplied with each
other and with genes alone, which are most. A pair is looked at once, for both of its groups.

Memory: of the groups on either side, directions in float64 and float32; :data:`ROWS_AT_ONCE` squared
products.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.compute.memory import one_thread
from cagdask.engine.linkage.noise_correction import LEAST, Bounds, Groups, bounds_of, inner_similarity
from cagdask.engine.linkage.refinement import ROWS_AT_ONCE
from cagdask.engine.linkage.refinement_table import NONE
from cagdask.engine.rows.files import product, rounded
from cagdask.engine.search.kernels import PRODUCT_MARGIN

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


DENSE = 2
"""Rows of a stretch per row that is wanted, up to which the whole stretch is multiplied."""


class Side(NamedTuple):
    """Groups on one side of a comparison, and the nearest that each of them has found.

    ``rows32`` are their directions in float32, ``inner`` (n,) the similarity of two of their genes, 1 for a gene alone.
    ``near`` (n,) is the gene of the nearest group, huge for none, and ``best`` (n,) its ρ, -2 for none.
    """

    groups: Groups
    rows32: Float32
    inner: Float64
    near: Int64
    best: Float64


def side_of(groups: Groups) -> Side:
    """Groups that have found nothing yet."""
    n = len(groups.gene)
    inner = np.where(groups.size > 1, inner_similarity(groups.size, groups.length), 1.0)
    return Side(groups, groups.rows.astype(np.float32), inner, np.full(n, NONE), np.full(n, -2.0))


def compare_sides(a: Side, at: Int64, b: Side, bt: Int64) -> int:
    """Keep what the groups at the positions ``at`` of one side and ``bt`` of another are to each other.

    ``near`` and ``best`` of both are changed in place. Both may be the same side. Gives the number of products.
    """
    n_products = 0
    with one_thread():
        for some, pairwise in _kinds(a, at):
            for others, others_pairwise in _kinds(b, bt):
                if not (pairwise or others_pairwise):
                    continue
                factors = _factors(a, some, others_pairwise), _factors(b, others, pairwise)
                n_products += len(some) * len(others)
                _compare_kind(a, some, b, others, factors)
    return n_products


def compare_within(side: Side, at: Int64) -> int:
    """As :func:`compare_sides` for all pairs of some groups of one side, each pair once."""
    n_products = 0
    (several, _), (alone, _) = _kinds(side, at)
    with one_thread():
        of_several = _factors(side, several, True)
        for begin in range(0, len(several), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            n_products += len(several[part]) * (len(several) - begin)
            _compare_kind(side, several[part], side, several[begin:], (of_several[part], of_several[begin:]))
        factors = _factors(side, several, False), _factors(side, alone, True)
        n_products += len(several) * len(alone)
        _compare_kind(side, several, side, alone, factors)
    return n_products


def _kinds(side: Side, at: Int64) -> tuple[tuple[Int64, bool], tuple[Int64, bool]]:
    """Those of the positions ``at`` that hold groups of two and more genes whose genes are alike; and genes alone."""
    alone = side.groups.size[at] == 1
    possible = (side.inner[at] > 0) & (side.groups.length[at] >= LEAST - PRODUCT_MARGIN)
    return (at[~alone & possible], True), (at[alone], False)


def _factors(side: Side, at: Int64, with_several: bool) -> Float32:
    """Factor of each of some groups, so that ρ is the product of the cosine and two factors."""
    inner = side.inner[at]
    return (side.groups.length[at] / (np.sqrt(inner) if with_several else inner)).astype(np.float32)


def _compare_kind(a: Side, at: Int64, b: Side, bt: Int64, factors: tuple[Float32, Float32]) -> None:
    if not len(at) or not len(bt):
        return
    bounds = bounds_of(a.rows32.shape[1])
    margin = np.float32(2 * PRODUCT_MARGIN) * max(np.float32(1), factors[0].max() * factors[1].max())
    room = np.empty(min(len(at), ROWS_AT_ONCE) * min(len(bt), ROWS_AT_ONCE), np.float32)
    for begin in range(0, len(bt), ROWS_AT_ONCE):
        others = slice(begin, begin + ROWS_AT_ONCE)
        right, column = _rows_of(b.rows32, bt[others], in_place=2 * len(at) <= ROWS_AT_ONCE)
        for first in range(0, len(at), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            left = a.rows32[at[some]] * factors[0][some, None]
            if room.size < len(left) * len(right):  # not more than products of two full parts
                room = np.empty(len(left) * len(right), np.float32)
            found = room[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=found)
            _keep(found, at[some], _Others(bt[others], column, factors[1][others]), a, b, margin, bounds)


class _Others(NamedTuple):
    """Groups on the other side: their positions, the column of products of each, and its factor."""

    at: Int64
    column: Int64
    factor: Float32


def _rows_of(rows: Float32, at: Int64, *, in_place: bool) -> tuple[Float32, Int64]:
    """Rows that hold those at some ascending positions, and where each of them is.

    With ``in_place``, where most rows of a stretch are wanted, it is the stretch: late rounds compare a few groups with
    all that are left, and copying these would take longer than the product.
    """
    first, last = int(at[0]), int(at[-1]) + 1
    if in_place and last - first <= DENSE * len(at):
        return rows[first:last], at - first
    return rows[at], np.arange(len(at))


@njit(cache=True, nogil=True)
def rho_of(a: Groups, i: int, inner_a: float, b: Groups, j: int, inner_b: float, bounds: Bounds) -> float:
    """What :func:`cagdask.engine.linkage.noise_correction.corrected` gives for two groups, not both of one gene."""
    mean = rounded(rounded(product(a.rows[i], b.rows[j])) * (a.length[i] * b.length[j]))
    if mean < LEAST:
        return -2.0
    if a.size[i] == 1:
        inner_a = inner_b
    elif b.size[j] == 1:
        inner_b = inner_a
    elif mean < rounded(bounds.as_noisy * max(inner_a, inner_b)):
        return -2.0
    rho = rounded(mean / np.sqrt(inner_a * inner_b))
    is_alone = a.size[i] == 1 or b.size[j] == 1
    return -2.0 if is_alone and rho < bounds.same_alone else rho


@njit(cache=True, nogil=True)
def _keep(cosine: Float32, at: Int64, others: _Others, a: Side, b: Side, margin: np.float32, bounds: Bounds) -> None:
    """Look in float64 at the pairs whose ρ in float32 may be nearer than what one of the two has.

    ``cosine`` holds products, scaled by the factor of the group ``at``.
    """
    bt, column, factor = others.at, others.column, others.factor
    same = np.float32(bounds.same)
    need_b = np.empty(len(bt), np.float32)
    for z in range(len(bt)):
        need_b[z] = max(same, np.float32(b.best[bt[z]])) - margin
    for y in range(len(at)):
        i = at[y]
        need_a = max(same, np.float32(a.best[i])) - margin
        for z in range(len(bt)):
            if cosine[y, column[z]] * factor[z] < min(need_a, need_b[z]):
                continue
            j = bt[z]
            gene, other = a.groups.gene[i], b.groups.gene[j]
            if gene == other:
                continue
            rho = rho_of(a.groups, i, a.inner[i], b.groups, j, b.inner[j], bounds)
            if rho < bounds.same:
                continue
            if rho > a.best[i] or (rho == a.best[i] and other < a.near[i]):
                a.best[i], a.near[i] = rho, other
                need_a = np.float32(rho) - margin
            if rho > b.best[j] or (rho == b.best[j] and gene < b.near[j]):
                b.best[j], b.near[j] = rho, gene
                need_b[z] = np.float32(rho) - margin
