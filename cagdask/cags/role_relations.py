"""How CAGs belong together: accessory modules of a larger presence, and groups of genes that two CAGs share.

    the profile of a CAG, one of the references
      = sum of two larger ones                       a group of shared genes
      ∝ another where it is, absent in samples of it   an accessory module of that one
      else                                             a CAG of its own

Genes of an accessory module are present together, in a subset of the samples of their genome, and so end in a CAG of
their own. A profile of a CAG has little noise, so that this is decided for the CAG before it is for its genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.cags.role_choice import (
    BETTER,
    CHANCE,
    FAIR,
    MISSING,
    OF_CAGS,
    OF_CAGS_NARROWLY,
    best_pair,
    best_single,
    unexplained,
)
from cagdask.cags.role_model import by_chance, ratio, tally
from cagdask.cags.role_search import PRESENT_SHARE, SURE_SHARE, TRACE_SHARE, References, at_once, nearest
from cagdask.compute.kernels import njit
from cagdask.engine.plan.task_memory import CANDIDATES, TABLE_BYTES
from cagdask.storage.arrays import Files, array

Int64 = NDArray[np.int64]

KINDS = ("own", "accessory", "shared")
OWN, MODULE, OF_TWO = range(len(KINDS))
MODULE_FAIR, SMALLER_PARENT_FAIR = 0.25, 0.1
"""Share of its samples that the other CAG may leave unexplained of a module; if the other has fewer genes."""
SMALLEST_PARENT = 0.5
"""Least genes of a CAG that another is a module of, as a share of those of the module: few genes of a genome that get
reads of another one, too, are seen in more samples than the genome, and are not its core."""
FEWEST_WITHOUT, LEAST_WITHOUT = 3, 0.1
"""Samples with the other CAG and surely without the module: a number, and a share of those with both."""
N_NEAREST, N_MORE = CANDIDATES


class RelationFiles(Files):
    """What the references are to each other. Written by the tasks here, read where genes are judged."""

    kind: NDArray[np.int8] = array(np.int8, "reference", "number in KINDS")
    first: Int64 = array(np.int64, "reference", "place of the CAG it is a module of, or of the first of two; -1 none")
    second: Int64 = array(np.int64, "reference", "place of the second of two; -1 none")


def find_shared(folders: list[str], begin: int, end: int, held_bytes: int, folder: str) -> int:
    """Task: which of the references at places ``begin:end`` are the sum of two larger ones, as a RelationFiles.

    Candidates of all of them are found together, and read together for as many rows as ``held_bytes`` allow.
    """
    references = References(folders, held_bytes)
    kind, first, second = _nothing(end - begin)
    rows, places = _rows_of(references, begin, end), np.arange(begin, end)
    size = references.size

    def larger(of: Int64, at: Int64) -> Any:
        return size[at][None, :] > size[places[of]][:, None]

    near = nearest(rows, references, N_NEAREST, larger).place
    rest = np.zeros_like(rows)
    for some, table in _tables(references, near):
        for i in some:
            mine = near[i][near[i] >= 0]
            if len(mine) and rows[i].any():
                rest[i] = unexplained(rows[i], table.profiles(mine), _unit(rows[i]))
    more = nearest(rest, references, N_MORE, larger).place
    both = all_candidates(near, more)
    ascending = np.sort(size)
    for some, table in _tables(references, both):
        for i in some:
            mine = both[i][both[i] >= 0]
            if len(mine) < 2 or not rows[i].any():
                continue
            n_larger = len(size) - int(np.searchsorted(ascending, size[places[i]], side="right"))
            n_near = int((near[i] >= 0).sum())
            a, b = _two(rows[i], table.profiles(mine), _unit(rows[i]), n_near, n_larger)
            if a >= 0:
                kind[i], first[i], second[i] = OF_TWO, mine[a], mine[b]
    RelationFiles(kind=kind, first=first, second=second).write(folder)
    return int((kind == OF_TWO).sum())


def find_modules(folders: list[str], shared: list[str], begin: int, end: int, held_bytes: int, folder: str) -> int:
    """Task: which of the references ``begin:end`` are accessory modules; ``shared`` is from :func:`find_shared`."""
    references = References(folders, held_bytes)
    of_two = np.concatenate([files.kind for files in RelationFiles.open_all(shared)]) == OF_TWO
    kind, first, second = _nothing(end - begin)
    rows, places = _rows_of(references, begin, end), np.arange(begin, end)

    def others(of: Int64, at: Int64) -> Any:
        return (at[None, :] != places[of][:, None]) & ~of_two[at][None, :]

    near = nearest(rows, references, N_NEAREST, others).place
    near = all_candidates(near, nearest(rows, references, N_MORE, others, where_there=True).place)
    size = references.size
    for some, table in _tables(references, near, with_shares=True):
        share = references.shares(places[some])
        for i in some:
            mine = near[i][near[i] >= 0]
            if of_two[places[i]] or not len(mine) or not rows[i].any():
                continue
            shares = table.shares(mine)
            profiles = np.where(shares < TRACE_SHARE, 0.0, table.profiles(mine))
            mine_is = share[i - some[0]], size[places[i]], _unit(rows[i])
            at = _parent(rows[i], *mine_is, profiles, shares, size[mine], len(references))
            if at >= 0:
                kind[i], first[i] = MODULE, mine[at]
    RelationFiles(kind=kind, first=first, second=second).write(folder)
    return int((kind == MODULE).sum())


class _Table(NamedTuple):
    """References that some rows may rest on: their places, ascending, with profiles and shares of genes there."""

    place: Int64
    profile: Any
    share: Any

    def profiles(self, wanted: Int64) -> Any:
        """Profiles in the order of the places ``wanted``."""
        return self.profile[np.searchsorted(self.place, wanted)]

    def shares(self, wanted: Int64) -> Any:
        """The same of the shares."""
        return self.share[np.searchsorted(self.place, wanted)]


def _tables(references: References, candidates: Int64, *, with_shares: bool = False) -> Iterator[tuple[Int64, _Table]]:
    """Row numbers, some at a time, and a table of all their candidates, which are read once."""
    step = at_once(len(candidates) or 1, TABLE_BYTES * references.n_samples, references.held_bytes)
    for begin in range(0, len(candidates), step):
        some = np.arange(begin, min(begin + step, len(candidates)))
        place = np.unique(candidates[some][candidates[some] >= 0])
        share = references.shares(place) if with_shares else None
        yield some, _Table(place, references.profiles(place), share)


def relate(shared: list[str], modules: list[str], folder: str) -> dict[str, int]:
    """Task: relations of all references, those to a module replaced by what that is a module of."""
    parts = list(RelationFiles.open_all(shared)), list(RelationFiles.open_all(modules))
    kind = np.concatenate([np.maximum(a.kind, b.kind) for a, b in zip(*parts, strict=True)])
    first = np.concatenate([np.maximum(a.first, b.first) for a, b in zip(*parts, strict=True)])
    second = np.concatenate([files.second for files in parts[0]])
    first = np.where(kind == MODULE, roots(np.where(kind == MODULE, first, -1)), first)
    kind = np.where((kind == MODULE) & (first < 0), OWN, kind).astype(np.int8)
    up = np.where(kind == MODULE, first, np.arange(len(kind)))
    of_two = kind == OF_TWO
    first[of_two], second[of_two] = up[first[of_two]], up[second[of_two]]
    RelationFiles(kind=kind, first=first, second=second).write(folder)
    return {"modules": int((kind == MODULE).sum()), "shared": int(of_two.sum())}


def roots(parent: Int64) -> Int64:
    """The last one up from each; -1 for one without a parent, and for the smallest of a cycle.

    Examples
    --------
    >>> roots(np.array([-1, 0, 1, 4, 3]))
    array([-1,  0,  0, -1,  3])
    """
    parent = parent.copy()
    for start in range(len(parent)):  # a cycle is opened at its smallest member
        seen, at = {start}, start
        while parent[at] >= 0:
            at = int(parent[at])
            if at in seen:
                if at == start:
                    parent[start] = -1
                break
            seen.add(at)
    up = np.where(parent >= 0, parent, np.arange(len(parent)))
    while (up != up[up]).any():
        up = up[up]
    return np.where(parent >= 0, up, -1)


def all_candidates(near: Int64, more: Int64) -> Int64:
    """Places of both, each once, in the order of ``near``, then of ``more``; rows are filled up with -1.

    Examples
    --------
    >>> all_candidates(np.array([[4, 2, -1]]), np.array([[2, 7]]))
    array([[ 4,  2,  7, -1, -1]])
    """
    twice = (more[:, :, None] == near[:, None, :]).any(axis=2)
    both = np.concatenate([near, np.where(twice, -1, more)], axis=1)
    return np.take_along_axis(both, np.argsort(both < 0, axis=1, kind="stable"), axis=1)


def _nothing(n: int) -> tuple[NDArray[np.int8], Int64, Int64]:
    return np.zeros(n, np.int8), np.full(n, -1, np.int64), np.full(n, -1, np.int64)


def _rows_of(references: References, begin: int, end: int) -> Any:
    """Profiles of some references, 0 where too few of their genes are there."""
    places = np.arange(begin, end)
    return np.where(references.shares(places) < PRESENT_SHARE, 0.0, references.profiles(places))


def _unit(row: Any) -> float:
    """Half of the smallest abundance: every sample that has the CAG is to be explained."""
    return float(row[row > 0].min() / 2)


@njit(cache=True, nogil=True)
def _two(x: Any, profiles: Any, unit: float, n_near: int, n_references: int) -> tuple[int, int]:
    """The two profiles whose sum a CAG is, the larger part first; -1 for none."""
    tolerance, share = OF_CAGS
    _, _, wrong, _, _, _ = best_single(x, profiles[:n_near], unit, tolerance)
    a, b, r, s, solid, p_wrong, sure, zeros, _ = best_pair(x, profiles, unit, tolerance, False)
    if a < 0 or p_wrong > BETTER * wrong or p_wrong > FAIR * solid or zeros > max(1.0, MISSING * sure):
        return -1, -1
    if by_chance(solid, p_wrong, share, n_references * n_references / 2) >= CHANCE:
        return -1, -1
    return (a, b) if r * profiles[a].sum() >= s * profiles[b].sum() else (b, a)


@njit(cache=True, nogil=True)
def _parent(
    x: Any, share: Any, size: int, unit: float, profiles: Any, shares: Any, sizes: Any, n_references: int
) -> int:
    """Which of the profiles a CAG is a module of; -1 for none. Shares of genes there are those of each CAG."""
    tolerance, chance = OF_CAGS
    best, least, solid_of_best = -1, 0, 0
    for k in range(len(profiles)):
        if sizes[k] < SMALLEST_PARENT * size:
            continue
        r = ratio(x, profiles[k], unit)
        solid, wrong, _, _, _ = tally(x, profiles[k], profiles[k], r, 0.0, unit, tolerance)
        if best < 0 or wrong < least:
            best, least, solid_of_best = k, wrong, solid
    if best < 0:
        return -1
    without = with_both = 0
    for s in range(len(x)):
        if shares[best, s] >= SURE_SHARE:
            without += share[s] <= TRACE_SHARE
            with_both += share[s] >= PRESENT_SHARE
    fair = MODULE_FAIR if sizes[best] >= size else SMALLER_PARENT_FAIR
    if least > fair * solid_of_best or without < FEWEST_WITHOUT or without < LEAST_WITHOUT * with_both:
        return -1
    if by_chance(solid_of_best, least, chance, n_references) < CHANCE:
        return best
    n_there, n_off = _far_off(x, ratio(x, profiles[best], unit) * profiles[best], OF_CAGS_NARROWLY[0])
    return best if by_chance(n_there, n_off, OF_CAGS_NARROWLY[1], n_references) < CHANCE else -1


@njit(cache=True, nogil=True)
def _far_off(x: Any, expected: Any, tolerance: float) -> tuple[int, int]:
    """Samples with a CAG, and those of them that are off by more than a factor, with no allowance for counting."""
    n_there = n_off = 0
    for s in range(len(x)):
        if x[s] > 0:
            n_there += 1
            n_off += not (x[s] < expected[s] * tolerance and x[s] * tolerance > expected[s])
    return n_there, n_off
