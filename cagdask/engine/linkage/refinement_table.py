"""The table of refinement: each group, its nearest and the similarity, where its direction lies; the pairs that join.

40 bytes per group, in one task.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask.engine.rows.files import GroupFiles
from cagdask.engine.search.neighbors import ListFiles
from cagdask.storage.arrays import Files, array

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

NONE = np.iinfo(np.int64).max
"""Gene of a nearest group where there is none; larger than any, so that ties go to real ones."""


class DirectionFiles(GroupFiles):
    """Groups with mean directions of unit length as rows.

    Written by :func:`write_directions` and :func:`join_pairs`; read by refinement, measuring and assignment.
    """

    mean_length: Float64 = array(np.float64, "group", "length of the mean profile, in [0, 1]")


class TableFiles(Files):
    """All groups after a round of refinement.

    Written by :func:`first_table` and :func:`next_table`; read by the tasks of the next round, and where CAGs are
    numbered.
    """

    gene: Int64 = array(np.int64, "group", "gene of the group, ascending")
    near: Int64 = array(np.int64, "group", "gene of the nearest group; huge for none")
    sim: Float64 = array(np.float64, "group", "its similarity; -2 for none")
    block: Int64 = array(np.int64, "group", "block that holds the group's direction")
    row: Int64 = array(np.int64, "group", "row in that block")
    keep: Int64 = array(np.int64, "pair", "gene of the group that another joins")
    leave: Int64 = array(np.int64, "pair", "gene of the group that joins it")
    orphan: Int64 = array(np.int64, "orphan", "genes of groups whose nearest is in a pair, and that are not")


class ComparedFiles(Files):
    """Nearest groups that one task found. Written by :func:`compare`, read by :func:`next_table`."""

    own_gene: Int64 = array(np.int64, "own", "genes of the task's own groups")
    own_near: Int64 = array(np.int64, "own", "gene of the nearest group that changed; huge for none")
    own_sim: Float64 = array(np.float64, "own", "its similarity; -2 for none")
    stale_gene: Int64 = array(np.int64, "stale", "genes of all stale groups")
    stale_near: Int64 = array(np.int64, "stale", "gene of the nearest of the task's own groups; huge for none")
    stale_sim: Float64 = array(np.float64, "stale", "its similarity; -2 for none")


class LostFiles(Files):
    """Orphans that are to be compared with all groups. Written by :func:`lost_orphans`, read by gathering."""

    gene: Int64 = array(np.int64, "orphan", "gene of the group, ascending")


def first_table(lists: list[str], groups: list[str], folder: str) -> dict[str, int]:
    """Task: the table after the first search."""
    gene = np.concatenate([files.gene for files in ListFiles.open_all(lists)])
    near = np.concatenate([files.row[:, 0] for files in ListFiles.open_all(lists)])
    near = np.where(near >= 0, gene[near], NONE)
    sim = np.concatenate([files.sim[:, 0] for files in ListFiles.open_all(lists)])
    order = np.argsort(gene)
    there = [files.gene for files in DirectionFiles.open_all(groups)]
    by_gene = np.argsort(np.concatenate(there))
    block = np.repeat(np.arange(len(there)), [len(part) for part in there])[by_gene]
    row = np.concatenate([np.arange(len(part)) for part in there])[by_gene]
    return _write_table(folder, gene[order], near[order], sim[order], block, row)


def next_table(before: str, new: list[str], first_block: int, compared: list[str], folder: str) -> dict[str, int]:
    """Task: the table after a round; ``new`` holds the joined groups, numbered from ``first_block``."""
    table = TableFiles.open(before)
    alive = ~np.isin(table.gene, table.leave)
    gene, near, sim = table.gene[alive], table.near[alive], table.sim[alive]
    block, row = table.block[alive], table.row[alive]
    stale = np.isin(gene, np.concatenate([table.keep, table.orphan]))
    near[stale], sim[stale] = NONE, -2.0
    for b, joined in enumerate(DirectionFiles.open_all(new)):
        i = np.searchsorted(gene, joined.gene)
        block[i], row[i] = first_block + b, np.arange(len(joined.gene))
    for part in ComparedFiles.open_all(compared):
        of_own = part.own_gene, part.own_near, part.own_sim
        of_stale = part.stale_gene, part.stale_near, part.stale_sim
        for genes, best, similarity in (of_own, of_stale):
            i = np.searchsorted(gene, genes)
            nearer = (similarity > sim[i]) | ((similarity == sim[i]) & (best < near[i]))
            near[i[nearer]], sim[i[nearer]] = best[nearer], similarity[nearer]
    return _write_table(folder, gene, near, sim, block, row)


def _write_table(folder: str, gene: Int64, near: Int64, sim: Float64, block: Int64, row: Int64) -> dict[str, int]:
    keep, leave = reciprocal_pairs(gene, near)
    moving = np.concatenate([keep, leave])
    orphan = gene[np.isin(near, moving) & ~np.isin(gene, moving)]
    TableFiles(gene=gene, near=near, sim=sim, block=block, row=row, keep=keep, leave=leave, orphan=orphan).write(folder)
    return {"n": len(gene), "pairs": len(keep), "orphans": len(orphan)}


def lost_orphans(table: str, compared: list[str], folder: str) -> int:
    """Task: the orphans of a table to which no group that changed is nearer than the one that they lost.

    ``compared`` are folders of what :func:`compare` found of groups that changed; without any, all orphans.
    """
    files = TableFiles.open(table)
    gene = files.orphan
    before = files.sim[np.searchsorted(files.gene, gene)]
    nearest = np.full(len(gene), -2.0)
    for part in ComparedFiles.open_all(compared):
        i = np.searchsorted(gene, part.own_gene)
        here = np.flatnonzero(i < len(gene))
        here = here[gene[i[here]] == part.own_gene[here]]
        nearest[i[here]] = part.own_sim[here]
    lost = gene[nearest <= before]  # another group may be as near as the one lost, and have a smaller gene
    LostFiles(gene=lost).write(folder)
    return len(lost)


def reciprocal_pairs(gene: Int64, near: Int64) -> tuple[Int64, Int64]:
    """Pairs of groups that are each other's nearest.

    ``gene`` (n,) ascending and ``near`` (n,), the gene of each one's nearest group, huge for none. Returns the genes
    that stay, ascending, and those that join them.
    """
    back = np.full(len(gene), NONE)
    has = near < NONE
    back[has] = near[np.searchsorted(gene, near[has])]
    mutual = has & (back == gene) & (gene < near)
    return gene[mutual], near[mutual]
