"""Assign genes to the CAG whose mean direction is nearest; the CAGs stay as they were clustered.

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
from cagdask.cags.description import metadata_of_genes
from cagdask.cags.results import CagFiles, LabelFiles, MemberFiles, MergeTableFiles
from cagdask.engine.grid import STEP, on_grid
from cagdask.engine.linkage.refinement_table import DirectionFiles
from cagdask.engine.rows.files import ProfileFiles, load_rows, take_rows
from cagdask.engine.search.nearest_group import NO_GROUP, Nearest
from cagdask.io.gene_matching import rows_by_name
from cagdask.storage.arrays import Files, array

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


class NewGeneFiles(Files):
    """Genes of a second store that the clustered one does not have.

    Written by :func:`match_genes`, read by :func:`join_block`.
    """

    row: Int64 = array(np.int64, "new gene", "row in the second store")


class NumberedFiles(MemberFiles):
    """CAGs of two genes or more.

    Written by :func:`write_members` and :func:`all_members`; read by assignment and, as
    :class:`cagdask.cags.results.MemberFiles`, where profiles are summed.
    """

    number: Int64 = array(np.int64, "group", "number of the CAG in the result")


class NearestFiles(Files):
    """The nearest CAG of genes that are in no CAG of two or more.

    Written by :func:`find_nearest`, read by :func:`write_assignment`.
    """

    gene: Int64 = array(np.int64, "gene", "gene row")
    cag: Int64 = array(np.int64, "gene", "number of the nearest CAG; -1 for none")
    distance: Float64 = array(np.float64, "gene", "cosine distance to its direction")
    support: Float64 = array(np.float64, "gene", "samples, effectively, on which the similarity rests")


class AssignedFiles(CagFiles):
    """The CAG of each gene after assignment. Written by :func:`write_assignment`; read by all that measure."""

    assigned: NDArray[np.bool_] = array(np.bool_, "gene", "whether the gene was assigned")


# -- genes of two stores as one --------------------------------------------------------------------------------------


def match_genes(clustered: str, store: str, folder: str) -> dict[str, int]:
    """Task: find the genes of ``store`` that ``clustered`` does not have, as a :class:`NewGeneFiles`."""
    known = rows_by_name(clustered, store) >= 0
    rows = np.flatnonzero(~known)
    NewGeneFiles(row=rows).write(folder)
    return {"n_new": len(rows), "n_known": int(known.sum())}


def join_block(
    clustered: str, store: str, matched: str, order: list[int] | None, begin: int, end: int, joined: str
) -> int:
    """Task: the rows ``begin:end`` of the joined store, which this task alone writes.

    First come the genes of ``clustered``, then the new ones of ``store``; ``order`` are the places of the samples of
    the first in the second, None if they are the same.
    """
    n_old = storage.open_array(clustered, "gene_id").shape[0]
    rows = NewGeneFiles.open(matched, max(begin - n_old, 0), max(end - n_old, 0)).row
    values: dict[str, NDArray[Any]] = {}
    for name in ("abundance", "gene_id", *metadata_of_genes(storage.open_group(joined))):
        parts = []
        if begin < n_old:
            parts.append(np.asarray(storage.open_array(clustered, name)[begin : min(end, n_old)]))
        if len(rows):
            parts.append(_new_rows(store, name, rows, order, storage.open_array(joined, name).dtype))
        values[name] = np.concatenate(parts)
    present = values["abundance"] != 0
    values["gene_prevalence"] = present.sum(axis=1) / present.shape[1]
    for name, of_genes in values.items():
        storage.open_array(joined, name, writable=True)[begin:end] = of_genes
    return end - begin


def _new_rows(store: str, name: str, rows: Int64, order: list[int] | None, dtype: Any) -> NDArray[Any]:
    group = storage.open_group(store)
    is_text = dtype.kind in "OUT"
    if name not in group or (group[name].dtype.kind in "OUT") != is_text:  # type: ignore[union-attr]  # it is an array
        unknown = {"i": -1, "f": np.nan}.get(dtype.kind, "" if is_text else 0)
        return np.full(len(rows), unknown, np.dtypes.StringDType() if is_text else dtype)
    held = np.asarray(storage.open_array(store, name)[int(rows[0]) : int(rows[-1]) + 1])
    block: NDArray[Any] = held[rows - rows[0]]
    return block[:, order] if block.ndim == 2 and order is not None else block


# -- CAGs and genes --------------------------------------------------------------------------------------------------


def write_members(result: str, n_genes: int, folder: str) -> dict[str, int]:
    """Task: the CAGs of two genes or more, numbered from 0, as a :class:`NumberedFiles`."""
    gene_cag = np.asarray(storage.open_array(result, "gene_cag")[:], np.int64)
    counts = np.bincount(gene_cag[gene_cag >= 0])
    number = np.flatnonzero(counts > 1)
    place = np.full(len(counts) + 1, -1, np.int64)  # the last is for label -1
    place[number] = np.arange(len(number))
    label = np.full(n_genes, -1, np.int64)
    label[: len(gene_cag)] = place[gene_cag]
    _write_numbered(label, number, counts[number], folder)
    return {"n": len(number)}


def _write_numbered(label: Int64, number: Int64, size: Int64, folder: str) -> None:
    first_gene = _first_rows(label, len(number))
    NumberedFiles(label=label, number=number, first_gene=first_gene, size=size).write(folder)


def _first_rows(label: Int64, n: int) -> Int64:
    first = np.zeros(n, np.int64)
    there = np.flatnonzero(label >= 0)
    first[label[there][::-1]] = there[::-1]
    return first


def find_nearest(profiles: str, members: str, groups: list[str], min_size: int, folder: str) -> int:
    """Task: for the genes of a block that no CAG of two or more has, the nearest CAG of at least ``min_size`` genes.

    Writes a :class:`NearestFiles`. A block of profiles, and one of directions.
    """
    gene, cags = ProfileFiles.open(profiles).gene, NumberedFiles.open(members)
    free = cags.label[gene] < 0
    rows = load_rows(profiles)[free]
    nearest = Nearest.of(len(rows))
    place = 0
    for url in groups:
        n = len(DirectionFiles.open(url).gene)
        large_enough = np.flatnonzero(cags.size[place : place + n] >= min_size)
        if len(large_enough) and len(rows):
            directions = take_rows(url, large_enough)
            nearest.update(rows, directions, cags.number[place + large_enough], unit=True)
        place += n
    cag = np.where(nearest.group == NO_GROUP, -1, nearest.group)
    support = _support(rows, np.searchsorted(cags.number, cag), cag >= 0, groups)
    NearestFiles(gene=gene[free], cag=cag, distance=nearest.best / 2, support=support).write(folder)
    return len(rows)


def _support(rows: Float64, place: Int64, has_nearest: NDArray[np.bool_], groups: list[str]) -> Float64:
    """Effective number of samples on which the similarity of each row with its nearest direction rests.

    With c the products of the two, sample by sample, it is (Σc)² / Σc²: 1 if a single sample makes all of it, n if n
    make the same share each.
    """
    support = np.zeros(len(rows))
    begin = 0
    for url in groups:
        n = len(DirectionFiles.open(url).gene)
        in_block = np.flatnonzero(has_nearest & (place >= begin) & (place < begin + n))
        shares = rows[in_block] * take_rows(url, place[in_block] - begin)
        squares = (shares * shares).sum(axis=1)
        total = shares.sum(axis=1)
        support[in_block] = np.divide(total * total, squares, out=np.zeros(len(in_block)), where=squares > 0)
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
    """Task: the CAG of each gene, as an :class:`AssignedFiles`; counts what was assigned.

    CAGs keep their numbers: one whose only gene has left is empty, and a new gene that is put nowhere is a CAG of its
    own, numbered on, unless it is in fewer than ``min_samples`` samples.
    """
    n_old = storage.open_array(result, "gene_cag").shape[0]
    member = MemberFiles.open(members).label
    n_genes = len(member)
    gene_cag, linkage_cag = np.full(n_genes, -1, np.int64), np.full(n_genes, -1, np.int64)
    gene_cag[:n_old] = storage.open_array(result, "gene_cag")[:]
    linkage_cag[:n_old] = storage.open_array(result, "gene_linkage_cag")[:]
    n_cags = storage.open_array(result, "cag_size").shape[0]
    assigned = np.zeros(n_genes, bool)
    furthest = on_grid(max_dist)
    for url in nearest:
        found = NearestFiles.open(url)
        is_near = (found.distance <= furthest) & (found.support >= min_support)
        gene = found.gene[is_near]
        gene_cag[gene] = found.cag[is_near]
        assigned[gene] = True
    alone = n_old + np.flatnonzero(gene_cag[n_old:] < 0)
    if len(alone):
        n_samples = storage.open_array(store, "sample_id").shape[0]
        prevalence = np.asarray(storage.open_array(store, "gene_prevalence")[n_old:], np.float64)
        alone = alone[np.rint(prevalence[alone - n_old] * n_samples) >= max(1, min_samples)]
        gene_cag[alone] = n_cags + np.arange(len(alone))
        n_cags += len(alone)
    size = np.bincount(gene_cag[gene_cag >= 0], minlength=n_cags)
    before = _count_earlier(result, assigned[:n_old])
    AssignedFiles(cag=gene_cag, linkage_cag=linkage_cag, size=size, assigned=assigned).write(folder)
    return {
        "n_cags": n_cags,
        "n_assigned": int(assigned.sum()),
        "n_clustered": int((member >= 0).sum()),
        "n_alone": int((size == 1).sum()),
        "n_left_out": int((gene_cag < 0).sum()),
        "n_assigned_new": int(assigned[n_old:].sum()),
        **before,
    }


def _count_earlier(result: str, assigned: NDArray[np.bool_]) -> dict[str, int]:
    """How many of the assigned genes were a CAG of one, and how many were left out."""
    label = np.asarray(storage.open_array(result, "gene_cag")[:])[assigned]
    return {"n_assigned_alone": int((label >= 0).sum()), "n_assigned_left_out": int((label < 0).sum())}


def place_directions(members: str, groups: list[str], labels: str, folder: str) -> int:
    """Task: where the directions of the CAGs lie in ``groups``, as a :class:`cagdask.cags.results.LabelFiles`.

    CAGs of one gene or none have no direction.
    """
    number, cags = NumberedFiles.open(members).number, CagFiles.open(labels)
    block, row = np.full(len(cags.size), -1, np.int64), np.full(len(cags.size), -1, np.int64)
    place = 0
    for b, files in enumerate(DirectionFiles.open_all(groups)):
        n = len(files.gene)
        cag = number[place : place + n]
        block[cag], row[cag] = b, np.arange(n)
        place += n
    LabelFiles(cag=cags.cag, linkage_cag=cags.linkage_cag, size=cags.size, block=block, row=row).write(folder)
    return place


def all_members(members: str, labels: str, folder: str) -> int:
    """Task: the CAGs of two genes or more with those that were assigned, as :func:`write_members` writes them."""
    number, cags = NumberedFiles.open(members).number, CagFiles.open(labels)
    place = np.full(len(cags.size) + 1, -1, np.int64)
    place[number] = np.arange(len(number))
    _write_numbered(place[cags.cag], number, cags.size[number], folder)
    return len(number)


def write_assigned(result: str, labels: str, begin: int, end: int) -> int:
    """Task: which of the genes ``begin:end`` of a result store were assigned."""
    storage.open_array(result, "gene_assigned", writable=True)[begin:end] = AssignedFiles.open(
        labels, begin, end
    ).assigned
    return end - begin


def copy_merges(result: str, n_genes: int, folder: str) -> int:
    """Task: the merge table of a result, for ``n_genes`` genes of which the last are new; nodes keep their meaning."""
    n_old = storage.open_array(result, "gene_cag").shape[0]
    child = np.asarray(storage.open_array(result, "merge_child")[:])
    height = np.asarray(storage.open_array(result, "merge_height")[:])
    MergeTableFiles(child=np.where(child >= n_old, child + n_genes - n_old, child), height=height).write(folder)
    return len(height)
