"""Tasks of roles: marker genes, what CAGs have in common, and the role of each gene.

    CAGs, distances --choose--> marker genes: of each CAG those nearest to its mean direction
    store --gather--> their rows, in the order of CAGs --profile--> a trimmed mean per CAG, and the share of genes there
    store, profiles, relations of CAGs --judge--> role of each gene

Only marker genes are gathered, so that a task holds a bounded number of rows of the largest CAG.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.cags.results import CagFiles, MeasuredFiles
from cagdask.cags.role_choice import ACCESSORY, ALONE, CORE, LEFT_OUT, SHARED, choose, own_role, unexplained
from cagdask.cags.role_model import trimmed_mean
from cagdask.cags.role_relations import MODULE, N_MORE, N_NEAREST, OF_TWO, RelationFiles, all_candidates
from cagdask.cags.role_search import LEAST_GENES, ROWS_AT_ONCE, ReferenceFiles, References, at_once, nearest
from cagdask.compute.kernels import njit
from cagdask.engine.plan.task_memory import JUDGED_AT_ONCE, JUDGED_BYTES
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MOST_MARKERS = 100
"""Genes of a CAG that are looked at together: those nearest to its mean direction."""


class MarkerFiles(Files):
    """Marker genes. Written by :func:`choose_markers`, read by :func:`gather_markers`."""

    gene: Int64 = array(np.int64, "marker", "gene row, ascending")
    cag: Int64 = array(np.int64, "marker", "number of its CAG")


class GatheredFiles(Files):
    """Marker genes of a block, in the order of their CAGs. Written by :func:`gather_markers`."""

    cag: Int64 = array(np.int64, "row", "number of the CAG, ascending")
    gene: Int64 = array(np.int64, "row", "gene row, ascending within a CAG")
    values: Float32 = array(np.float32, "row, sample", "abundances, as ingested")


class RoleFiles(Files):
    """What genes of a block are to CAGs. Written by :func:`judge_genes`; read where results are written."""

    role: NDArray[np.int8] = array(np.int8, "gene", "number in ROLES")
    core: Int64 = array(np.int64, "gene", "number of the CAG that the gene goes with; -1 for none")
    second: Int64 = array(np.int64, "gene", "number of the other CAG of a shared gene; -1 for others")


def choose_markers(labels: str, measured: list[str], folder: str) -> dict[str, int]:
    """Task: the genes of each CAG of two or more that are nearest to its direction, as a :class:`MarkerFiles`.

    Of equally near ones those of the smaller row. 60 bytes per gene.
    """
    cags = CagFiles.open(labels)
    label = np.asarray(cags.cag)
    distance = np.concatenate([files.distance for files in MeasuredFiles.open_all(measured)])
    gene = np.flatnonzero((label >= 0) & (np.asarray(cags.size)[label] > 1))
    gene = gene[np.lexsort((distance[gene], label[gene]))]
    first = np.flatnonzero(np.diff(label[gene], prepend=-1))
    rank = np.arange(len(gene)) - np.repeat(first, np.diff(np.append(first, len(gene))))
    gene = np.sort(gene[rank < MOST_MARKERS])
    MarkerFiles(gene=gene, cag=label[gene]).write(folder)
    return {"n": len(gene)}


def gather_markers(store: str, begin: int, end: int, markers: str, folder: str) -> int:
    """Task: the marker genes among rows ``begin:end`` of a store, as a :class:`GatheredFiles`. Twice their bytes."""
    files = MarkerFiles.open(markers)
    first, last = np.searchsorted(files.gene, [begin, end])
    gene, cag = np.asarray(files.gene[first:last]), np.asarray(files.cag[first:last])
    order = np.argsort(cag, kind="stable")
    block = np.asarray(storage.open_array(store, "abundance")[begin:end], np.float32)
    GatheredFiles(cag=cag[order], gene=gene[order], values=block[gene[order] - begin]).write(folder)
    return len(gene)


def markers_of(
    gathered: Sequence[str], begin: int, end: int, most: int
) -> Iterator[tuple[Int64, Int64, Int64, Float32]]:
    """Marker genes of the CAGs ``begin:end``, at most about ``most`` rows at a time, whole CAGs.

    Yields CAG, gene and part of each row, sorted by CAG, then gene; and the rows.
    """
    parts = [GatheredFiles.open(url) for url in gathered]
    edges = [np.searchsorted(part.cag, np.arange(begin, end + 1)) for part in parts]
    rows = np.cumsum(np.sum([np.diff(edge) for edge in edges], axis=0)) if parts else np.zeros(0, np.int64)
    at = 0
    while at < end - begin:
        before = rows[at - 1] if at else 0
        stop = max(at + 1, int(np.searchsorted(rows, before + most, side="right")))
        stop = min(stop, end - begin)
        slices = [slice(int(edge[at]), int(edge[stop])) for edge in edges]
        taken = [GatheredFiles.open(url, s.start, s.stop) for url, s in zip(gathered, slices, strict=True)]
        cag = np.concatenate([part.cag for part in taken])
        gene = np.concatenate([part.gene for part in taken])
        number = np.repeat(np.arange(len(parts)), [s.stop - s.start for s in slices])
        values = np.concatenate([part.values for part in taken])
        order = np.lexsort((gene, cag))
        yield cag[order], gene[order], number[order], values[order]
        at = stop


def profile_cags(gathered: list[str], labels: str, begin: int, end: int, most: int, folder: str) -> dict[str, int]:
    """Task: what the genes of each of the CAGs ``begin:end`` have in common, as a :class:`ReferenceFiles`.

    CAGs of one gene are left out. ``most`` rows at a time, three times.
    """
    numbers, profiles, shares = [], [], []
    for cag, _, _, values in markers_of(gathered, begin, end, most):
        found, first = np.unique(cag, return_index=True)
        edge = np.append(first, len(cag))
        numbers.append(found)
        profile, share = np.zeros((2, len(found), values.shape[1]), np.float32)
        _summarize(values.astype(np.float64), edge, profile, share)
        profiles.append(profile)
        shares.append(share)
    number = np.concatenate([*numbers, np.zeros(0, np.int64)])
    n_samples = profiles[0].shape[1] if profiles else 1
    empty = [np.zeros((0, n_samples), np.float32)]
    size = np.asarray(CagFiles.open(labels).size)[number]
    files = ReferenceFiles(
        number=number, size=size, profile=np.concatenate([*profiles, *empty]), share=np.concatenate([*shares, *empty])
    )
    files.write(folder)
    return {"n": int((size >= LEAST_GENES).sum())}


@njit(cache=True, nogil=True)
def _summarize(values: Any, edge: Any, profile: Any, share: Any) -> None:
    """Trimmed mean, and share of rows above 0, of each group of rows."""
    for g in range(len(profile)):
        rows = values[edge[g] : edge[g + 1]]
        profile[g] = trimmed_mean(rows)
        for j in range(rows.shape[1]):
            n = 0
            for i in range(len(rows)):
                n += rows[i, j] > 0
            share[g, j] = n / len(rows)


# -- roles of genes --------------------------------------------------------------------------------------------------


def judge_genes(
    store: str, begin: int, end: int, labels: str, references: list[str], relations: str, held_bytes: int, folder: str
) -> dict[str, int]:
    """Task: roles of the genes of rows ``begin:end``, as a :class:`RoleFiles`.

    A block in float32, and ``held_bytes`` for each of the references and the genes that are compared.
    """
    label = np.asarray(CagFiles.open(labels, begin, end).cag)
    held = References(references, held_bytes)
    kinds = RelationFiles.open(relations)
    kind, up, other = (np.asarray(part) for part in (kinds.kind, kinds.first, kinds.second))
    place = held.places_of(label)
    block = np.asarray(storage.open_array(store, "abundance")[begin:end], np.float32)
    unit = _units(block)
    role = np.where(label < 0, LEFT_OUT, ALONE).astype(np.int8)
    first, second = np.full((2, end - begin), -1, np.int64)
    grouped = place >= 0
    of_two = grouped.copy()
    of_two[grouped] = kind[place[grouped]] == OF_TWO
    role[of_two], first[of_two], second[of_two] = SHARED, up[place[of_two]], other[place[of_two]]
    by_own = np.flatnonzero(grouped & ~of_two & (unit > 0))
    well = _by_own(held, block, unit, place, by_own, role)
    first[by_own] = place[by_own]
    open_ = (label >= 0) & (unit > 0) & ~of_two
    open_[by_own] = ~well
    if len(held):
        may_explain = kind != OF_TWO
        step = at_once(JUDGED_AT_ONCE, JUDGED_BYTES * block.shape[1], held_bytes)
        for rows in _in_parts(np.flatnonzero(open_), step):
            found = _judge(held, block[rows].astype(np.float64), unit[rows], place[rows], may_explain)
            role[rows], first[rows], second[rows] = found
    _resolve(role, first, second, kind, up)
    core, pair = (np.where(at >= 0, held.number[at], -1) if len(held) else at for at in (first, second))
    RoleFiles(role=role, core=core, second=pair).write(folder)
    return {f"n_{name}": int((role == number).sum()) for name, number in (("accessory", ACCESSORY), ("shared", SHARED))}


def _in_parts(rows: Int64, step: int) -> Iterator[Int64]:
    return (rows[begin : begin + step] for begin in range(0, len(rows), step))


def _units(block: Float32) -> Float64:
    """Smallest abundance above 0 of each gene; 0 for one that is nowhere."""
    least = np.where(block > 0, block, np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(least), least, 0).astype(np.float64)


def _by_own(
    held: References, block: Float32, unit: Float64, place: Int64, rows: Int64, role: NDArray[np.int8]
) -> NDArray[np.bool_]:
    """Set the roles of genes by their own CAGs; whether these explain them well."""
    well = np.zeros(len(rows), bool)
    order = np.argsort(place[rows], kind="stable")
    for part in _in_parts(order, at_once(ROWS_AT_ONCE, 32 * block.shape[1], held.held_bytes)):
        places, inverse = np.unique(place[rows[part]], return_inverse=True)
        profiles = held.profiles(places)
        made = np.zeros(len(part), np.int8)
        fits = np.zeros(len(part), bool)
        _own_roles(block[rows[part]].astype(np.float64), unit[rows[part]], profiles, inverse, made, fits)
        role[rows[part]], well[part] = made, fits
    return well


@njit(cache=True, nogil=True)
def _own_roles(rows: Any, unit: Any, profiles: Any, of: Any, role: Any, well: Any) -> None:
    for i in range(len(rows)):
        role[i], well[i] = own_role(rows[i], profiles[of[i]], unit[i])


def _judge(
    held: References, rows: Float64, unit: Float64, own: Int64, may_explain: NDArray[np.bool_]
) -> tuple[NDArray[np.int8], Int64, Int64]:
    """Roles of genes that their own CAGs do not explain, or that have none; and the places that these rest on."""

    def allowed(_: Int64, places: Int64) -> Any:
        return np.broadcast_to(may_explain[places], (len(_), len(places)))

    near = nearest(rows, held, N_NEAREST, allowed).place
    lacks = (own >= 0) & (near != own[:, None]).all(axis=1)
    near[lacks, 1:], near[lacks, 0] = near[lacks, :-1], own[lacks]
    places = np.unique(near[near >= 0])
    rest = np.zeros_like(rows)
    if len(places):
        profiles = held.profiles(places)
        _unexplained(rows, unit, profiles, _at(places, near), rest)
    more = nearest(rest, held, N_MORE, allowed).place
    both = all_candidates(near, more)
    found = np.full((len(rows), 3), -1, np.int64)
    found[:, 0] = ALONE
    places = np.unique(both[both >= 0])
    if len(places):
        profiles = held.profiles(places)
        _choose(rows, unit, profiles, _at(places, both), _at(places, own), int(may_explain.sum()), found)
        found[:, 1:] = np.where(found[:, 1:] >= 0, places[found[:, 1:]], -1)
    return found[:, 0].astype(np.int8), found[:, 1], found[:, 2]


def _at(places: Int64, wanted: Int64) -> Int64:
    """Where among ``places`` each is; -1 stays."""
    return np.where(wanted >= 0, np.searchsorted(places, wanted), -1)


@njit(cache=True, nogil=True)
def _unexplained(rows: Any, unit: Any, profiles: Any, near: Any, rest: Any) -> None:
    for i in range(len(rows)):
        mine = near[i][near[i] >= 0]
        if len(mine):
            rest[i] = unexplained(rows[i], profiles[mine], unit[i])


@njit(cache=True, nogil=True)
def _choose(rows: Any, unit: Any, profiles: Any, near: Any, own: Any, n_references: int, found: Any) -> None:
    """Write role, first and second of each row into ``found``, shape (n, 3)."""
    for i in range(len(rows)):
        mine = near[i][near[i] >= 0]
        if not len(mine):
            continue
        at = -1
        for k in range(len(mine)):
            if mine[k] == own[i] and own[i] >= 0:
                at = k
        found[i, 0], a, b = choose(rows[i], profiles[mine], at, unit[i], n_references)
        found[i, 1] = mine[a] if a >= 0 else -1
        found[i, 2] = mine[b] if b >= 0 else -1


def _resolve(role: NDArray[np.int8], first: Int64, second: Int64, kind: Any, up: Any) -> None:
    """Put the CAG that a module belongs to in its place: its genes are accessory there."""
    if not len(kind):
        return
    is_module = (first >= 0) & (kind[first] == MODULE)
    role[is_module & (role == CORE)] = ACCESSORY
    for at in (first, second):
        module = (at >= 0) & (kind[at] == MODULE)
        at[module] = up[at[module]]
    same = (second >= 0) & (first == second)  # two parts of one genome
    role[same], second[same] = ACCESSORY, -1
