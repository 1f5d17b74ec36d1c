r"""Rounds of joining with links: groups that may ever join are listed once, not looked for in every round.

    all pairs with ρ >= LISTED same (a gene alone: LISTED_ALONE same_alone) --> links of both groups
    a round: pairs join --> links of both are those of the new group --> ρ of it and of what it is linked with

With ``S`` the sum of a group's unit profiles and ``w = n sqrt(c)``, ρ of two groups is ``S_A·S_B / (w_A w_B)``, and
``S`` of two that joined is the sum of theirs. Let ``S_X·S_P <= τ W_X W_P`` for any two groups that are not linked. If
``W`` is added up when groups join, this holds for what they become, too, as long as these are not linked. ``W / w`` is
1 when a group was compared with all, and grows as it takes in others. Once two that are not linked might reach what
joining needs, the group is compared with all again. For a gene alone ``X`` the same holds with ``S_A·u_X <= τ W'_A``
and ``w' = n c``. So links hold all pairs that may join, in every round, and the result is that of comparing all.

What a gene alone adds to the group that takes it in: groups that it is not linked with it may not join, so ``u·S_P``
is at most ``same_alone n c``, which is at most ``same_alone W_P``. Genes alone have no links to each other; there
``u·u_X <= 1``.

Memory: of all groups the directions in float64, and :data:`LINK_BYTES` per link.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.compute.memory import one_thread
from cagdask.engine.linkage.components import root_of
from cagdask.engine.linkage.corrected_nearest import Linking, factors_of, kinds_of, least_listed, rho_of
from cagdask.engine.linkage.links import Links, add_link, compact, room_for
from cagdask.engine.linkage.noise_correction import Bounds, Groups, bounds_of, inner_similarity
from cagdask.engine.linkage.refinement import ROWS_AT_ONCE
from cagdask.engine.linkage.refinement_table import NONE

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

LINK_BYTES = 40
"""Of a link: as a pair, in the lists of both groups, and where these are copied to have room."""
SLACK = 1 - 1e-6
"""What rounding may do to a bound."""


class State(NamedTuple):
    """All groups, ordered by gene, in place; ``near`` (n,) are positions, -1 for none, and ``best`` (n,) their ρ.

    ``parent`` is the forest of those that joined. ``marked`` and ``seen``, with ``tick``, are for kernels to use.
    """

    groups: Groups
    inner: Float64
    near: Int64
    best: Float64
    parent: Int64
    marked: NDArray[np.bool_]
    seen: Int64
    tick: Int64


class Weights(NamedTuple):
    """``W`` of each group, (n,): for pairs with groups of several genes, and for pairs with genes alone."""

    several: Float64
    alone: Float64


class Joined(NamedTuple):
    """Which groups are left, (n,); genes of the pairs that joined, in order; groups in each round; pairs evaluated."""

    lives: NDArray[np.bool_]
    keep: Int64
    leave: Int64
    active: list[int]
    n_pairs: int


def join_linked(groups: Groups, near: Int64, best: Float64, one: Int32, other: Int32) -> Joined:
    """Join groups, ordered by gene, with links; changes them in place.

    Parameters
    ----------
    groups
        Of all genes.
    near, best
        Gene of the nearest of each group, huge for none, and its ρ.
    one, other
        Positions of groups that are linked: all pairs that reach :func:`least_listed`.
    """
    gene, n = groups.gene, len(groups.gene)
    inner = np.where(groups.size > 1, inner_similarity(groups.size, groups.length), 1.0)
    at = np.where(near < NONE, np.searchsorted(gene, near), -1)
    state = State(
        groups, inner, at, best, np.arange(n), np.zeros(n, np.bool_), np.full(n, -1), np.zeros(1, np.int64)
    )  # fmt: skip
    bounds = bounds_of(groups.rows.shape[1])
    weights = _weights(state, bounds)
    links = link(n, one, other)
    lives = np.ones(n, bool)
    kept, left, active, n_pairs = [gene[:0]], [gene[:0]], list[int](), 0
    i, j = _mutual(np.arange(n), state.near)
    while len(i):
        kept.append(gene[i])
        left.append(gene[j])
        lives[j] = False
        join_rows(groups, inner, i, j)
        links, stale = _join_links(i, j, state, links)
        outgrown = _add_weights(weights, state, i, j, bounds)
        if len(outgrown):
            links, n_products = _compare_anew(state, lives, outgrown, links, bounds)
            n_pairs += n_products
        touched, n_looked = _renew(np.concatenate([i, stale]), len(i), state, links, bounds)
        n_pairs += n_looked
        active.append(int(lives.sum()))
        i, j = _mutual(touched, state.near)
    return Joined(lives, np.concatenate(kept), np.concatenate(left), active, n_pairs)


def join_rows(groups: Groups, inner: Float64, i: Int64, j: Int64) -> None:
    """Join the groups ``j`` to those ``i``, as :func:`cagdask.engine.linkage.refinement.join_pairs` does."""
    total = 0.0 + (groups.size[i] * groups.length[i])[:, None] * groups.rows[i]
    total = total + (groups.size[j] * groups.length[j])[:, None] * groups.rows[j]
    groups.size[i] += groups.size[j]
    mean = total / groups.size[i][:, None]
    groups.length[i] = np.sqrt(np.einsum("ij,ij->i", mean, mean))
    groups.rows[i] = mean / groups.length[i][:, None]
    inner[i] = inner_similarity(groups.size[i], groups.length[i])


def _mutual(touched: Int64, near: Int64) -> tuple[Int64, Int64]:
    """Pairs that are each other's nearest, of which one was ``touched``; the smaller gene first, ascending."""
    touched = touched[near[touched] >= 0]
    back = near[touched]
    both = near[back] == touched
    keep, index = np.unique(np.minimum(touched, back)[both], return_index=True)
    return keep, np.maximum(touched, back)[both][index]


# -- what is proven of pairs that are not linked -----------------------------------------------------------------------


def _weights(state: State, bounds: Bounds) -> Weights:
    """``W`` of groups that have been compared with all; of a gene alone what it adds to a group."""
    several, alone = least_listed(bounds)
    own = _own_weights(state, np.arange(len(state.inner)))
    is_alone = state.groups.size == 1
    return Weights(
        np.where(is_alone, bounds.same_alone / several, own.several), np.where(is_alone, 1 / alone, own.alone)
    )


def _own_weights(state: State, at: Int64) -> Weights:
    """``w`` of some groups."""
    size, inner = state.groups.size[at].astype(np.float64), np.maximum(state.inner[at], 0.0)
    return Weights(size * np.sqrt(inner), size * inner)


def _add_weights(weights: Weights, state: State, i: Int64, j: Int64, bounds: Bounds) -> Int64:
    """Add the weights of groups ``j`` to those ``i``; which must be compared with all, whose weights are then new."""
    listed, listed_alone = least_listed(bounds)
    own = _own_weights(state, i)
    outgrown = np.zeros(len(i), bool)
    most = (bounds.same / listed) ** 0.5, bounds.same_alone / listed_alone
    for added, of_own, growth in zip(weights, own, most, strict=True):
        added[i] = np.maximum(added[i] + added[j], of_own)
        outgrown |= added[i] > growth * SLACK * of_own
    for added, of_own in zip(weights, own, strict=True):
        added[i[outgrown]] = of_own[outgrown]
    return i[outgrown]


def _compare_anew(state: State, lives: NDArray[np.bool_], at: Int64, links: Links, bounds: Bounds) -> tuple[Links, int]:
    """Link the groups ``at`` with all that they may join; what they were linked with before is forgotten."""
    links.count[at] = 0
    n_products = 0
    groups, inner = state.groups, state.inner
    both = kinds_of(groups, inner, np.flatnonzero(lives))
    for (others, several), least in zip(both, least_listed(bounds), strict=True):
        linking = Linking(np.iinfo(np.int64).max)
        factor = factors_of(groups, inner, at, with_several=several)
        of_others = factors_of(groups, inner, others, with_several=True)
        n_products += len(at) * len(others)
        with one_thread():
            for begin in range(0, len(others), ROWS_AT_ONCE):
                some = others[begin : begin + ROWS_AT_ONCE]
                right = groups.rows[some].astype(np.float32)
                for first in range(0, len(at), ROWS_AT_ONCE):
                    part = slice(first, first + ROWS_AT_ONCE)
                    left = groups.rows[at[part]].astype(np.float32) * factor[part, None]
                    factors = factor[part], of_others[begin : begin + ROWS_AT_ONCE]
                    products: Float32 = np.matmul(left, right.T)
                    linking.look(products, np.arange(len(some)), factors, (at[part], some), least)
        one, other = linking.pairs()
        links = _add_links(one, other, state.parent, links)
    return links, n_products


# -- kernels -----------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def link(n: int, one: Any, other: Any) -> Links:
    """The links of ``n`` groups, from pairs of their positions."""
    count = np.zeros(n, np.int64)
    for e in range(len(one)):
        count[one[e]] += 1
        count[other[e]] += 1
    links = room_for(count)
    for e in range(len(one)):
        add_link(links, one[e], other[e])
        add_link(links, other[e], one[e])
    return links


@njit(cache=True, nogil=True)
def _make_room(a: int, wanted: int, parent: Any, also: int, links: Links) -> Links:
    """Move the list of ``a`` to where it has room for ``wanted``."""
    start, count, room = links.start, links.count, links.room
    if links.end[0] + wanted > len(links.pool):
        links = compact(links, parent, also, wanted)
    end = links.end[0]
    links.pool[end : end + count[a]] = links.pool[start[a] : start[a] + count[a]]
    start[a] = end
    room[a] = wanted
    links.end[0] += wanted
    return links


@njit(cache=True, nogil=True)
def _add_links(one: Any, other: Any, parent: Any, links: Links) -> Links:
    """Link pairs of groups."""
    count, room = links.count, links.room
    for e in range(len(one)):
        for a, b in ((one[e], other[e]), (other[e], one[e])):
            if count[a] == room[a]:
                links = _make_room(a, 2 * count[a] + 4, parent, a, links)
            add_link(links, a, b)
    return links


@njit(cache=True, nogil=True)
def _join_links(i: Int64, j: Int64, state: State, links: Links) -> tuple[Links, Int64]:
    """Give the groups ``i`` the links of those ``j`` too; and which others had one of these as their nearest."""
    parent, seen, tick, moved = state.parent, state.seen, state.tick, state.marked
    start, count, room = links.start, links.count, links.room
    moved[i] = True
    moved[j] = True
    stale = np.empty(1000, np.int64)
    n_stale = 0
    for p in range(len(i)):
        a, b = i[p], j[p]
        if count[a] < count[b]:  # the longer list stays where it is
            start[a], start[b] = start[b], start[a]
            count[a], count[b] = count[b], count[a]
            room[a], room[b] = room[b], room[a]
        if count[a] + count[b] > room[a]:
            links = _make_room(a, 2 * (count[a] + count[b]), parent, b, links)
        parent[b] = a
        tick[0] += 1
        seen[a] = tick[0]
        kept = 0
        for part in (a, b):
            for u in range(start[part], start[part] + count[part]):
                r = root_of(parent, links.pool[u])
                if seen[r] == tick[0]:
                    continue
                seen[r] = tick[0]
                links.pool[start[a] + kept] = r
                kept += 1
                if not moved[r] and state.near[r] >= 0 and moved[state.near[r]]:
                    if n_stale == len(stale):
                        stale = np.append(stale, np.empty_like(stale))
                    stale[n_stale] = r
                    n_stale += 1
        count[a] = kept
    moved[i] = False
    moved[j] = False
    return links, np.unique(stale[:n_stale])


@njit(cache=True, nogil=True)
def _renew(fresh: Int64, n_changed: int, state: State, links: Links, bounds: Bounds) -> tuple[Int64, int]:
    """Find the nearest of groups among their links, and tell these of the first ``n_changed``, which are new.

    Returns all groups whose nearest may be another now, and the number of pairs looked at.
    """
    groups, inner, near, best = state.groups, state.inner, state.near, state.best
    parent, seen, tick, touched = state.parent, state.seen, state.tick, state.marked
    touched[:] = False
    n_pairs = 0
    for a in fresh:
        best[a], near[a] = -2.0, -1
        touched[a] = True
    for p in range(len(fresh)):
        a = fresh[p]
        tick[0] += 1
        seen[a] = tick[0]
        kept = 0
        for u in range(links.start[a], links.start[a] + links.count[a]):
            r = root_of(parent, links.pool[u])
            if seen[r] == tick[0]:
                continue
            seen[r] = tick[0]
            links.pool[links.start[a] + kept] = r
            kept += 1
            n_pairs += 1
            rho = rho_of(groups, a, inner[a], groups, r, inner[r], bounds)
            if rho < bounds.same:
                continue
            if rho > best[a] or (rho == best[a] and r < near[a]):
                best[a], near[a] = rho, r
            if p < n_changed and (rho > best[r] or (rho == best[r] and a < near[r])):
                best[r], near[r] = rho, a
                touched[r] = True
        links.count[a] = kept
    found = np.flatnonzero(touched)
    touched[:] = False
    return found, n_pairs
