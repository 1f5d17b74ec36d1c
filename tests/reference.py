"""What the engine must find, done the slow way: every pair of rows, one merge after the other.

Nothing of the engine is used. Distances between groups are means over all pairs of the pairwise matrix, similarities
are rounded to 1e-10 before they are compared, and of equal ones the smallest (row, row) pair goes first, where a
group's row is its smallest gene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

DECIMALS = 10
NEAR = 3e-10
"""Similarities closer than this, yet not equal.

May be rounded to equal ones or not: nobody can say which pair is first.
"""
EQUAL = 1e-13


@dataclass(frozen=True)
class Merges:
    """Merges in the order in which they are made.

    Attributes
    ----------
    pair, height
        (n_merges, 2) smallest gene of either group, and (n_merges,) their distance.
    ties
        Whether two pairs that could go next were equally near at any time.
    unclear
        Whether two of them differed, or one and the threshold did, by less than rounding tells apart.
    """

    pair: Int64
    height: Float64
    ties: bool
    unclear: bool


def unit_profiles(values: Float64, metric: str = "cosine") -> Float64:
    """Rows as the metric compares them, of length one; zero where nothing is left to compare."""
    profiles = np.array(values, np.float64)
    if metric == "spearman":
        profiles = rankdata(profiles, axis=1).astype(np.float64)
    if metric != "cosine":
        constant = np.ptp(profiles, axis=1) <= 1e-14 * np.abs(profiles).max(axis=1)
        profiles -= profiles.mean(axis=1, keepdims=True)
        profiles[constant] = 0
    length = np.sqrt((profiles**2).sum(axis=1, keepdims=True))
    return np.divide(profiles, length, out=np.zeros_like(profiles), where=length > 0)


def naive_linkage(profiles: Float64, threshold: float, method: str = "average") -> Merges:
    """Merge the most similar two groups while their similarity is at least ``threshold``; O(n^3)."""
    n = len(profiles)
    total = profiles @ profiles.T  # of a pair of groups: the sum (or the largest) of the similarities of their genes
    size = np.ones(n)
    alive = profiles.any(axis=1)
    pairs, heights = [], []
    ties = unclear = False
    upper = np.triu(np.ones((n, n), bool), 1)
    while True:
        exact = np.where(upper & alive[:, None] & alive[None, :], total, -2.0)
        if method == "average":
            exact = np.where(exact > -2, exact / np.outer(size, size), -2.0)
        rounded = np.round(exact, DECIMALS)
        best = rounded.max(initial=-2)
        unclear |= bool((np.abs(exact - threshold) < NEAR).sum() > (np.abs(exact - threshold) < EQUAL).sum())
        if best < threshold:
            break
        a, b = np.unravel_index(np.argmax(rounded), rounded.shape)  # the first of equal ones: the smallest rows
        close = exact[np.abs(exact - exact[a, b]) < NEAR]
        ties |= len(close) > 1
        unclear |= np.ptp(close) > EQUAL
        pairs.append((a, b))
        heights.append(np.round(1 - best, DECIMALS))
        joined = np.maximum(total[a], total[b]) if method == "single" else total[a] + total[b]
        total[a, :] = total[:, a] = joined
        alive[b] = False
        size[a] += size[b]
    return Merges(np.array(pairs, np.int64).reshape(-1, 2), np.array(heights, np.float64), bool(ties), bool(unclear))


def leaders_at(merges: Merges, n_genes: int, max_dist: float) -> Int64:
    """The smallest gene of each gene's group once all merges up to ``max_dist`` are made; heights never fall."""
    leader = np.arange(n_genes)
    for (a, b), height in zip(merges.pair, np.maximum.accumulate(merges.height), strict=True):
        if height <= max_dist:
            leader[leader == b] = a
    return leader


def naive_labels(leader: Int64, left_out: NDArray[np.bool_] | None = None) -> Int64:
    """Labels by falling size, ties by smallest gene; -1 for genes left out."""
    genes = [g for g in range(len(leader)) if left_out is None or not left_out[g]]
    groups: dict[int, list[int]] = {}
    for g in genes:
        groups.setdefault(int(leader[g]), []).append(g)
    labels = np.full(len(leader), -1, np.int64)
    for label, members in enumerate(sorted(groups.values(), key=lambda m: (-len(m), m[0]))):
        labels[members] = label
    return labels


def naive_refinement(profiles: Float64, leader: Int64, threshold: float) -> Int64:
    """Leaders after joining, round by round, all pairs of groups whose mean directions are each other's nearest."""
    leader = leader.copy()
    has_profile = profiles.any(axis=1)
    while True:
        heads = np.unique(leader[has_profile])
        means = np.array([profiles[leader == head].mean(axis=0) for head in heads])
        directions = means / np.sqrt((means**2).sum(axis=1, keepdims=True))
        similarity = np.round(directions @ directions.T, DECIMALS)
        np.fill_diagonal(similarity, -2)
        nearest = similarity.argmax(axis=1)
        near = similarity.max(axis=1) >= threshold
        joining = [(i, j) for i, j in enumerate(nearest) if near[i] and nearest[j] == i and i < j]
        if not joining:
            return leader
        for i, j in joining:
            leader[leader == heads[j]] = heads[i]
