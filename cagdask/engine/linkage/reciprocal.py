"""Reciprocal nearest groups of one batch, merged: compiled.

The nearest group of A is known when the best of its list, computed from the means, is more similar than A's bound; when
two groups merge, their bounds average like their similarities do. A group whose nearest is not known waits for the next
search. Among equals the smallest gene is the nearest, so a list that ends among equals proves its best as long as that
has a smaller gene than the last one listed: *tie*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cagdask.compute.kernels import njit
from cagdask.engine.grid import STEP
from cagdask.engine.linkage.components import root_of
from cagdask.engine.linkage.links import Links, add_link, compact, room_for
from cagdask.engine.rows.files import product, rounded

UNKNOWN, WAITS, FINISHED = -3, -2, -1
"""States of a group; a state of 0 or more is the nearest group."""
_SLACK = 2 / STEP  # what rounding can hide between a bound and a similarity


class Groups(NamedTuple):
    """Groups of a batch, known by the row that holds them; all in place.

    Attributes
    ----------
    mean
        Mean of the unit profiles of each group, (n, n_samples) float64.
    size, gene
        Genes in each group, and the smallest of them, (n,) int64.
    """

    mean: Any
    size: Any
    gene: Any


class Proofs(NamedTuple):
    """What the lists prove of each group; all in place but ``first_sim``.

    Attributes
    ----------
    first, first_sim
        The nearest of each row, (n,) int64, and its similarity, (n,) float64; -1 where it is not here, or not known for
        sure: then all that list the row, or that it lists, are compared.
    bound
        Nothing unlisted is more similar, (n,) float64.
    tie
        What is unlisted and as similar as the bound has a larger gene than this, (n,) int64.
    """

    first: Any
    first_sim: Any
    bound: Any
    tie: Any


class Progress(NamedTuple):
    """How far merging is.

    Attributes
    ----------
    parent
        The row that holds each row, or one nearer to it: a forest.
    state, near
        The nearest group of each, or why it has none, and its similarity.
    fresh
        Whether the first of a row's list is still its nearest: neither has joined another, nor been outdated.
    seen, tick
        ``seen[i] == tick[0]`` marks what the current step has come by; a new tick clears all marks at once.
    """

    parent: Any
    state: Any
    near: Any
    fresh: Any
    seen: Any
    tick: Any


class Queue(NamedTuple):
    """Groups to look at: a stack of ``size[0]``, and whether each group is on it."""

    stack: Any
    queued: Any
    size: Any


@njit(cache=True, nogil=True)
def _begin(n: int) -> tuple[Progress, Queue]:
    """Nothing is joined, and all are to be looked at, the first row first."""
    progress = Progress(
        np.arange(n), np.full(n, UNKNOWN, np.int64), np.zeros(n), np.ones(n, np.bool_), np.full(n, -1, np.int64),
        np.zeros(1, np.int64),
    )  # fmt: skip
    return progress, Queue(np.arange(n)[::-1].copy(), np.ones(n, np.bool_), np.full(1, n, np.int64))


@njit(cache=True, nogil=True)
def _put(queue: Queue, i: int) -> None:
    if not queue.queued[i]:
        queue.stack[queue.size[0]] = i
        queue.size[0] += 1
        queue.queued[i] = True


@njit(cache=True, nogil=True)
def _take(queue: Queue) -> int:
    queue.size[0] -= 1
    i = queue.stack[queue.size[0]]
    queue.queued[i] = False
    return int(i)


@njit(cache=True, nogil=True)
def _nearest(
    a: int, groups: Groups, links: Links, proofs: Proofs, progress: Progress, threshold: float
) -> tuple[int, float]:
    """The nearest group of ``a`` and its similarity if the list proves it.

    FINISHED if none can be near enough; else WAITS.
    """
    first = proofs.first[a]
    if progress.fresh[a] and first >= 0 and progress.fresh[first]:
        return first, proofs.first_sim[a]
    gene, bound = groups.gene, proofs.bound[a]
    progress.tick[0] += 1
    best = -2.0
    partner = -1
    kept = 0
    begin = links.start[a]
    for u in range(begin, begin + links.count[a]):
        r = root_of(progress.parent, links.pool[u])
        if r == a or progress.seen[r] == progress.tick[0]:
            continue
        progress.seen[r] = progress.tick[0]
        links.pool[begin + kept] = r
        kept += 1
        x = rounded(product(groups.mean[a], groups.mean[r]))
        if x > best or (x == best and gene[r] < gene[partner]):
            best = x
            partner = r
    links.count[a] = kept
    if partner >= 0 and best >= threshold:
        # a list that ends among equals proves its best as long as that has a smaller gene than the last one listed
        if best > bound + _SLACK or (best == bound and gene[partner] <= proofs.tie[a]):
            return partner, best
    if best < threshold and bound < threshold:
        return FINISHED, best
    return WAITS, best


@njit(cache=True, nogil=True)
def _look(a: int, groups: Groups, links: Links, proofs: Proofs, progress: Progress, threshold: float) -> None:
    """Find the nearest of ``a``, if it is not known."""
    if progress.state[a] == UNKNOWN:
        progress.state[a], progress.near[a] = _nearest(a, groups, links, proofs, progress, threshold)


@njit(cache=True, nogil=True)
def _is_outdated(b: int, a: int, progress: Progress, gene: Any) -> bool:
    """Whether the nearest of ``b`` is farther than ``a``, whose nearest is ``b``.

    What joins elsewhere never comes nearer to ``b``, so a nearest once known stays it; unless one of two that joined is
    missing from the list of ``b``, as may be in an approximate search, or rounding lifts the mean of equals. Taken for
    true, it would send the search for reciprocal pairs in circles.
    """
    state, near = progress.state, progress.near
    if near[b] != near[a]:
        return bool(near[b] < near[a])
    return bool(state[b] >= 0 and gene[state[b]] > gene[a])


@njit(cache=True, nogil=True)
def _link(index: Any) -> Links:
    """Lists in both directions, from lists (n, k) of rows; -1 is none."""
    n, k = index.shape
    count = np.zeros(n, np.int64)
    for i in range(n):
        for j in range(k):
            if index[i, j] >= 0:
                count[i] += 1
                count[index[i, j]] += 1
    links = room_for(count)
    for i in range(n):
        for j in range(k):
            if index[i, j] >= 0:
                add_link(links, i, index[i, j])
                add_link(links, index[i, j], i)
    return links


@njit(cache=True, nogil=True)
def _join_lists(a: int, b: int, links: Links, progress: Progress) -> Links:
    """Add the list of ``b`` to that of ``a``; a list that outgrows its room moves to the end of the pool."""
    start, count, room = links.start, links.count, links.room
    if count[a] + count[b] > room[a]:
        wanted = 2 * (count[a] + count[b])
        if links.end[0] + wanted > len(links.pool):
            links = compact(links, progress.parent, b, wanted)
        end = links.end[0]
        links.pool[end : end + count[a]] = links.pool[start[a] : start[a] + count[a]]
        start[a] = end
        room[a] = wanted
        links.end[0] += wanted
    progress.tick[0] += 1
    progress.seen[a] = progress.tick[0]
    kept = 0
    for part in (a, b):
        for u in range(start[part], start[part] + count[part]):
            r = root_of(progress.parent, links.pool[u])
            if progress.seen[r] != progress.tick[0]:
                progress.seen[r] = progress.tick[0]
                links.pool[start[a] + kept] = r
                kept += 1
    count[a] = kept
    return links


@njit(cache=True, nogil=True)
def _absorb(a: int, b: int, groups: Groups, proofs: Proofs, progress: Progress) -> None:
    """Let ``a`` hold ``b``: means, and the bounds on what is unlisted, average by size, as similarities do."""
    mean, size, gene = groups
    bound, tie = proofs.bound, proofs.tie
    total = size[a] + size[b]
    for i in range(mean.shape[1]):
        mean[a, i] = (size[a] * mean[a, i] + size[b] * mean[b, i]) / total
    if bound[a] == bound[b]:  # what is as similar as that to both is as similar to their union
        tie[a] = max(tie[a], tie[b])
    else:
        bound[a] = (size[a] * bound[a] + size[b] * bound[b]) / total
        tie[a] = -1
    size[a] = total
    gene[a] = min(gene[a], gene[b])
    progress.parent[b] = a
    progress.fresh[a] = False
    progress.fresh[b] = False


@njit(cache=True, nogil=True)
def _forget(a: int, b: int, links: Links, progress: Progress, queue: Queue) -> None:
    """Look again at ``a``, which has absorbed ``b``, and at all whose nearest was one of the two."""
    state = progress.state
    state[a] = UNKNOWN
    _put(queue, a)
    for u in range(links.start[a], links.start[a] + links.count[a]):
        x = links.pool[u]
        if state[x] == a or state[x] == b:
            state[x] = UNKNOWN
            _put(queue, x)


@njit(cache=True, nogil=True)
def merge_groups(groups: Groups, index: Any, proofs: Proofs, threshold: float) -> Any:
    """Join reciprocal nearest groups until no more can be proven.

    Parameters
    ----------
    groups, proofs
        In place.
    index
        Lists (n, k) int64, -1 for none.
    threshold
        Smallest similarity at which groups join.

    Returns
    -------
    parent, state, merges, heights
        Of each row the group that holds it, each group's state, (n_merges, 2) genes joined and their distances.

    Notes
    -----
    A group that is off the queue is finished, waits for the next search, or has a nearest group that prefers another
    one; then it is put back as soon as that one joins (:func:`_forget`), so no reciprocal pair is missed.
    """
    n = len(index)
    links = _link(index)
    progress, queue = _begin(n)
    state, near, gene = progress.state, progress.near, groups.gene
    merges = np.empty((n, 2), np.int64)
    heights = np.empty(n)
    n_merges = 0
    while queue.size[0] > 0:
        a = _take(queue)
        if progress.parent[a] != a:
            continue
        _look(a, groups, links, proofs, progress, threshold)
        b = state[a]
        if b < 0:
            continue
        if state[b] != UNKNOWN and _is_outdated(b, a, progress, gene):
            state[b] = UNKNOWN
            progress.fresh[b] = False
        _look(b, groups, links, proofs, progress, threshold)
        if state[b] != a:
            if state[b] >= 0:
                _put(queue, b)
            continue
        merges[n_merges, 0], merges[n_merges, 1] = min(gene[a], gene[b]), max(gene[a], gene[b])
        heights[n_merges] = np.rint((1.0 - near[a]) * STEP) / STEP
        n_merges += 1
        if links.count[a] < links.count[b]:  # the longer list stays where it is
            a, b = b, a
        _absorb(a, b, groups, proofs, progress)
        links = _join_lists(a, b, links, progress)
        _forget(a, b, links, progress, queue)
    return progress.parent, state, merges[:n_merges], heights[:n_merges]
