"""The nearest group of each by similarity without noise: matrix products, and a compiled look at them.

    some groups x some others --product in float32--> upper bound of ρ --what can be nearer--> in float64, kept

Two genes alone are never joined, so that most pairs need no product: groups of two and more are multiplied with each
other and with genes alone, which are most. A pair is looked at once, for both of its groups.

Memory: of the groups on either side, directions in float64 and float32; :data:`ROWS_AT_ONCE` squared
products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
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
LISTED = 0.85
"""ρ from which on two groups are linked, as a share of what joining needs."""
LISTED_ALONE = 0.9
"""The same for a gene alone and a group."""


def least_listed(bounds: Bounds) -> tuple[float, float]:
    """ρ from which on pairs are linked: of two groups of several genes, and of such a group and a gene alone."""
    return LISTED * bounds.same, LISTED_ALONE * bounds.same_alone


class Linking:
    """Pairs of groups that may join, now or later; all are forgotten if there are more than ``most``."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.n = 0
        self._pairs = [np.empty((2, 0), np.int64)]

    def look(self, products: Float32, column: Int64, factors: tuple[Float32, Float32], ids: tuple[Int64, Int64],
             least: float) -> None:  # fmt: skip
        """Take the pairs whose ρ may be ``least`` or more.

        ``products`` (n, m) are scaled by the first of the ``factors``; column ``column[z]`` is that of group ``z`` of
        the others. ``ids`` name the groups of either side.
        """
        if self.n > self.most:
            return
        found = _listed(products, column, factors[0], factors[1], ids[0], ids[1], np.float32(least))
        self.n += found.shape[1]
        self._pairs.append(found)
        if self.n > self.most:
            self._pairs = [np.empty((2, 0), np.int64)]

    def pairs(self) -> tuple[Int64, Int64]:
        """Names of the groups of each pair."""
        one, other = np.concatenate(self._pairs, axis=1)
        return one, other


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


def compare_sides(a: Side, at: Int64, b: Side, bt: Int64, linking: Linking | None = None) -> int:
    """Keep what the groups at the positions ``at`` of one side and ``bt`` of another are to each other.

    ``near`` and ``best`` of both are changed in place. Both may be the same side. Gives the number of products.
    ``linking`` takes the genes of pairs that may ever join.
    """
    n_products = 0
    with one_thread():
        for some, pairwise in kinds_of(a.groups, a.inner, at):
            for others, others_pairwise in kinds_of(b.groups, b.inner, bt):
                if not (pairwise or others_pairwise):
                    continue
                factors = (
                    factors_of(a.groups, a.inner, some, with_several=others_pairwise),
                    factors_of(b.groups, b.inner, others, with_several=pairwise),
                )
                n_products += len(some) * len(others)
                _compare_kind(a, some, b, others, factors, linking)
    return n_products


def compare_within(side: Side, at: Int64, linking: Linking | None = None) -> int:
    """As :func:`compare_sides` for all pairs of some groups of one side, each pair once."""
    n_products = 0
    groups, inner = side.groups, side.inner
    (several, _), (alone, _) = kinds_of(groups, inner, at)
    with one_thread():
        of_several = factors_of(groups, inner, several, with_several=True)
        for begin in range(0, len(several), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            n_products += len(several[part]) * (len(several) - begin)
            factors = of_several[part], of_several[begin:]
            _compare_kind(side, several[part], side, several[begin:], factors, linking)
        factors = (
            factors_of(groups, inner, several, with_several=False), factors_of(groups, inner, alone, with_several=True),
        )  # fmt: skip
        n_products += len(several) * len(alone)
        _compare_kind(side, several, side, alone, factors, linking)
    return n_products


def kinds_of(groups: Groups, inner: Float64, at: Int64) -> tuple[tuple[Int64, bool], tuple[Int64, bool]]:
    """Those of the positions ``at`` that hold groups of two and more genes whose genes are alike; and genes alone."""
    alone = groups.size[at] == 1
    possible = (inner[at] > 0) & (groups.length[at] >= LEAST - PRODUCT_MARGIN)
    return (at[~alone & possible], True), (at[alone], False)


def factors_of(groups: Groups, inner: Float64, at: Int64, *, with_several: bool) -> Float32:
    """Factor of each of some groups, so that ρ is the product of the cosine and two factors."""
    of_own = inner[at]
    return (groups.length[at] / (np.sqrt(of_own) if with_several else of_own)).astype(np.float32)


def _compare_kind(
    a: Side, at: Int64, b: Side, bt: Int64, factors: tuple[Float32, Float32], linking: Linking | None
) -> None:
    if not len(at) or not len(bt):
        return
    bounds = bounds_of(a.rows32.shape[1])
    least = least_listed(bounds)[int(a.groups.size[at[0]] == 1 or b.groups.size[bt[0]] == 1)]
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
            if linking is not None:
                ids = a.groups.gene[at[some]], b.groups.gene[bt[others]]
                linking.look(found, column, (factors[0][some], factors[1][others]), ids, least)


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


@njit(cache=True, nogil=True)
def _listed(products: Any, column: Any, factor: Any, other_factor: Any, one: Any, other: Any, least: np.float32) -> Any:
    """Names of the pairs whose ρ in float32 may be ``least``, shape (2, n); see :meth:`Linking.look`."""
    n = 0
    margin = np.float32(2 * PRODUCT_MARGIN)
    found = np.empty((2, products.shape[0] * len(column)), np.int64)
    for y in range(products.shape[0]):
        for z in range(len(column)):
            rho = products[y, column[z]] * other_factor[z]
            if rho < least - margin * max(np.float32(1), factor[y] * other_factor[z]) or one[y] == other[z]:
                continue
            found[0, n] = one[y]
            found[1, n] = other[z]
            n += 1
    return found[:, :n].copy()
