"""Genes put to the CAG whose mean direction is nearest, while the CAGs stay as they were clustered.

    labels of a result --> members of each CAG --sums--> directions         as for a result
    profiles of the genes that are alone, left out or new --GEMM--> nearest direction, and the next
    nearest within max_dist --> labels of all genes --sums--> cohesion      as for a result

A CAG is known here by its number in the result, and by its place among those of two genes or more, which are the only
ones that have a direction of their own. Tables of all genes take 100 bytes a gene in one task; the others hold a block
of profiles and one of directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.rows.files import load_rows, take_rows
from cagdask.engine.search.nearest_group import NO_GROUP, STEP, Nearest
from cagdask.io.gene_matching import rows_by_name
from cagdask.storage import arrays

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


# -- genes of two stores as one --------------------------------------------------------------------------------------


def match_genes(clustered: str, store: str, folder: str) -> dict[str, int]:
    """Task: find the genes of ``store`` that ``clustered`` does not have; writes their rows, ``row`` (n_new,) int64."""
    known = rows_by_name(clustered, store) >= 0
    rows = np.flatnonzero(~known)
    arrays.save(folder, row=rows)
    return {"n_new": len(rows), "n_known": int(known.sum())}


def join_block(
    clustered: str, store: str, matched: str, order: list[int] | None, begin: int, end: int, joined: str
) -> int:
    """Task: the rows ``begin:end`` of the joined store, which this task alone writes.

    First come the genes of ``clustered``, then the new ones of ``store``; ``order`` are the places of the samples of
    the first in the second, None if they are the same.
    """
    n_old = storage.open_array(clustered, "gene_id").shape[0]
    rows = np.asarray(arrays.load(matched, "row"))[max(begin - n_old, 0) : max(end - n_old, 0)]
    values: dict[str, NDArray[Any]] = {}
    for name in ("abundance", "gene_id", "gene_length"):
        if name not in storage.open_group(joined):
            continue
        parts = []
        if begin < n_old:
            parts.append(np.asarray(storage.open_array(clustered, name)[begin : min(end, n_old)]))
        if len(rows):
            parts.append(_new_rows(store, name, rows, order))
        values[name] = np.concatenate(parts)
    present = values["abundance"] != 0
    values["gene_prevalence"] = present.sum(axis=1) / present.shape[1]
    for name, of_genes in values.items():
        storage.open_array(joined, name, writable=True)[begin:end] = of_genes
    return end - begin


def _new_rows(store: str, name: str, rows: Int64, order: list[int] | None) -> NDArray[Any]:
    if name not in storage.open_group(store):  # a length that is not known
        return np.full(len(rows), -1, np.int64)
    held = np.asarray(storage.open_array(store, name)[int(rows[0]) : int(rows[-1]) + 1])
    block: NDArray[Any] = held[rows - rows[0]]
    return block[:, order] if block.ndim == 2 and order is not None else block


# -- CAGs and genes --------------------------------------------------------------------------------------------------


def write_members(result: str, n_genes: int, folder: str) -> dict[str, int]:
    """Task: the CAGs of two genes or more.

    Writes ``label`` (n_genes,) int64, the place of each gene's CAG among them or -1, and by place ``number``, its
    number in the result, ``leader``, its first gene, and ``size``.
    """
    gene_cag = np.asarray(storage.open_array(result, "gene_cag")[:], np.int64)
    counts = np.bincount(gene_cag[gene_cag >= 0])
    number = np.flatnonzero(counts > 1)
    place = np.full(len(counts) + 1, -1, np.int64)  # the last is for label -1
    place[number] = np.arange(len(number))
    label = np.full(n_genes, -1, np.int64)
    label[: len(gene_cag)] = place[gene_cag]
    arrays.save(folder, label=label, number=number, leader=_first_rows(label, len(number)), size=counts[number])
    return {"n": len(number)}


def _first_rows(label: Int64, n: int) -> Int64:
    first = np.zeros(n, np.int64)
    there = np.flatnonzero(label >= 0)
    first[label[there][::-1]] = there[::-1]
    return first


def find_nearest(profiles: str, members: str, groups: list[str], min_size: int, folder: str) -> int:
    """Task: for the genes of a block that no CAG of two or more has, the nearest CAG of at least ``min_size`` genes.

    Writes ``gene``, ``cag`` (its number, -1 for none), ``distance``, ``margin`` and ``support`` float64. A block of
    profiles, and one of directions.
    """
    rows, gene = load_rows(profiles), arrays.load(profiles, "gene")
    free = np.asarray(arrays.load(members, "label"))[gene] < 0
    mine = np.asarray(rows[free])
    number, size = (np.asarray(arrays.load(members, name)) for name in ("number", "size"))
    found = Nearest.of(len(mine))
    place = 0
    for url in groups:
        n = len(arrays.load(url, "gene"))
        open_ = np.flatnonzero(size[place : place + n] >= min_size)
        if len(open_) and len(mine):
            found.update(mine, take_rows(url, open_), number[place + open_], unit=True)
        place += n
    margin = np.full(len(mine), np.nan)
    np.subtract(found.second / 2, found.best / 2, out=margin, where=np.isfinite(found.second))
    cag = np.where(found.group == NO_GROUP, -1, found.group)
    support = _support(mine, np.searchsorted(number, cag), cag >= 0, groups)
    arrays.save(folder, gene=np.asarray(gene)[free], cag=cag, distance=found.best / 2, margin=margin, support=support)
    return len(mine)


def _support(rows: Float64, place: Int64, there: NDArray[np.bool_], groups: list[str]) -> Float64:
    """Effective number of samples on which the similarity of each row with its direction rests.

    With c the products of the two, sample by sample, it is (Σc)² / Σc²: 1 if a single sample makes all of it, n if n
    make the same share each.
    """
    support = np.zeros(len(rows))
    begin = 0
    for url in groups:
        n = len(arrays.load(url, "gene"))
        mine = np.flatnonzero(there & (place >= begin) & (place < begin + n))
        shares = rows[mine] * take_rows(url, place[mine] - begin)
        squares = (shares * shares).sum(axis=1)
        total = shares.sum(axis=1)
        support[mine] = np.divide(total * total, squares, out=np.zeros(len(mine)), where=squares > 0)
        begin += n
    return np.rint(support * STEP) / STEP


def write_assignment(
    result: str,
    store: str,
    members: str,
    nearest: list[str],
    max_dist: float,
    min_support: float,
    min_samples: int,
    folder: str,
) -> dict[str, Any]:
    """Task: the labels of all genes, as :func:`cagdask.cags.results.write_labels` writes them, and what was assigned.

    CAGs keep their numbers: one whose only gene has left is empty, and a new gene that is put nowhere is a CAG of its
    own, numbered on, unless it is in fewer than ``min_samples`` samples.
    """
    n_old = storage.open_array(result, "gene_cag").shape[0]
    member = np.asarray(arrays.load(members, "label"))
    n_genes = len(member)
    gene_cag, linkage_cag = np.full(n_genes, -1, np.int64), np.full(n_genes, -1, np.int64)
    gene_cag[:n_old] = storage.open_array(result, "gene_cag")[:]
    linkage_cag[:n_old] = storage.open_array(result, "gene_linkage_cag")[:]
    n_cags = storage.open_array(result, "cag_size").shape[0]
    assigned, margin = np.zeros(n_genes, bool), np.full(n_genes, np.nan, np.float32)
    furthest = np.rint(max_dist * STEP) / STEP
    for url in nearest:
        gene, cag, distance, beyond = (np.asarray(x) for x in arrays.load_all(url, "gene", "cag", "distance", "margin"))
        near = distance <= furthest
        near &= np.asarray(arrays.load(url, "support")) >= min_support
        gene_cag[gene[near]] = cag[near]
        assigned[gene[near]] = True
        margin[gene[near]] = beyond[near]
    alone = n_old + np.flatnonzero(gene_cag[n_old:] < 0)
    if len(alone):
        n_samples = storage.open_array(store, "sample_id").shape[0]
        prevalence = np.asarray(storage.open_array(store, "gene_prevalence")[n_old:], np.float64)
        alone = alone[np.rint(prevalence[alone - n_old] * n_samples) >= max(1, min_samples)]
        gene_cag[alone] = n_cags + np.arange(len(alone))
        n_cags += len(alone)
    size = np.bincount(gene_cag[gene_cag >= 0], minlength=n_cags)
    before = _were(result, assigned[:n_old])
    arrays.save(folder, gene_cag=gene_cag, gene_linkage_cag=linkage_cag, size=size, assigned=assigned, margin=margin)
    return {
        "n_cags": n_cags,
        "n_assigned": int(assigned.sum()),
        "n_clustered": int((member >= 0).sum()),
        "n_alone": int((size == 1).sum()),
        "n_left_out": int((gene_cag < 0).sum()),
        "n_assigned_new": int(assigned[n_old:].sum()),
        **before,
    }


def _were(result: str, assigned: NDArray[np.bool_]) -> dict[str, int]:
    """How many of the assigned genes were a CAG of one, and how many were left out."""
    label = np.asarray(storage.open_array(result, "gene_cag")[:])[assigned]
    return {"n_assigned_alone": int((label >= 0).sum()), "n_assigned_left_out": int((label < 0).sum())}


def place_directions(members: str, groups: list[str], labels: str, folder: str) -> int:
    """Task: where the directions of the CAGs lie, for those who measure them.

    Writes ``gene_cag``, ``gene_linkage_cag`` and ``size`` as they are in ``labels``, and ``block`` and ``row``
    (n_cags,) into ``groups``, -1 for CAGs of one gene or none.
    """
    number = np.asarray(arrays.load(members, "number"))
    size = np.asarray(arrays.load(labels, "size"))
    block, row = np.full(len(size), -1, np.int64), np.full(len(size), -1, np.int64)
    place = 0
    for b, url in enumerate(groups):
        n = len(arrays.load(url, "gene"))
        at = number[place : place + n]
        block[at], row[at] = b, np.arange(n)
        place += n
    same = {name: np.asarray(arrays.load(labels, name)) for name in ("gene_cag", "gene_linkage_cag")}
    arrays.save(folder, block=block, row=row, size=size, **same)
    return place


def all_members(members: str, labels: str, folder: str) -> int:
    """Task: the CAGs of two genes or more with those that were assigned, as :func:`write_members` writes them."""
    number = np.asarray(arrays.load(members, "number"))
    gene_cag, size = (np.asarray(arrays.load(labels, name)) for name in ("gene_cag", "size"))
    place = np.full(len(size) + 1, -1, np.int64)
    place[number] = np.arange(len(number))
    label = place[gene_cag]
    arrays.save(folder, label=label, number=number, leader=_first_rows(label, len(number)), size=size[number])
    return len(number)


def write_assigned(result: str, labels: str, begin: int, end: int) -> int:
    """Task: which of the genes ``begin:end`` of a result store were assigned, and by what margin."""
    for name, variable in (("assigned", "gene_assigned"), ("margin", "gene_cag_margin")):
        storage.open_array(result, variable, writable=True)[begin:end] = arrays.load(labels, name, begin, end)
    return end - begin


def copy_merges(result: str, n_genes: int, folder: str) -> int:
    """Task: the merge table of a result, for ``n_genes`` genes of which the last are new; nodes keep their meaning."""
    n_old = storage.open_array(result, "gene_cag").shape[0]
    child = np.asarray(storage.open_array(result, "merge_child")[:])
    height = np.asarray(storage.open_array(result, "merge_height")[:])
    arrays.save(folder, child=np.where(child >= n_old, child + n_genes - n_old, child), height=height)
    return len(height)
