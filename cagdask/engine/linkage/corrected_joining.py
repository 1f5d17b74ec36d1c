"""The rounds in which groups are joined by their similarity without noise.

    groups of linkage --compare all--> table --join pairs--> new groups --compare those with all--> table, and so on
                                                                     last table --attach--> small groups to larger ones

What is joined is told by :mod:`cagdask.engine.linkage.noise_correction`; the files are those of
:mod:`cagdask.engine.linkage.refinement`. Blocks are never changed, and order does not depend on them. The first round
compares each pair of chunks once, and lists the pairs that may ever join. If all groups and these links fit one task,
it does the other rounds with them (:mod:`cagdask.engine.linkage.corrected_links`): a large group may take in hundreds
of others, one a round, and with files each of these rounds would open all blocks. If not, rounds go on over files,
until all groups that are left fit one task.

A task of a round over files holds a chunk of groups, and pieces of others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.linkage.attaching import attach_all, block_numbers, living_groups, write_pairs
from cagdask.engine.linkage.corrected_links import LINK_BYTES, Joined, join_linked, join_rows
from cagdask.engine.linkage.corrected_nearest import Linking, Side, compare_sides, compare_within, side_of
from cagdask.engine.linkage.noise_correction import Groups
from cagdask.engine.linkage.refinement import ROWS_AT_ONCE, _in_parts, _lengths, _rows_of, _sizes, join_pairs
from cagdask.engine.linkage.refinement_table import (
    NONE,
    ComparedFiles,
    DirectionFiles,
    TableFiles,
    next_table,
    reciprocal_pairs,
)
from cagdask.engine.linkage.rounds import LinkagePlan, Linked, Mapper, Round
from cagdask.engine.rows.files import Block, load_rows, smaller_form, take_rows
from cagdask.engine.search.chunks import partners_of
from cagdask.engine.stage_names import CHOOSE_PAIRS, COMPARE, GATHER, JOIN_PAIRS, REFINE, refinement_round
from cagdask.storage.arrays import Files, array

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class LinkFiles(Files):
    """Pairs of groups that may join, now or later. Written by :func:`compare`, read by :func:`join_alone`."""

    one: Int64 = array(np.int64, "link", "gene of a group")
    other: Int64 = array(np.int64, "link", "gene of another")


# -- tasks -----------------------------------------------------------------------------------------------------------


def begin_table(groups: list[str], folder: str) -> dict[str, int]:
    """Task: the table of all groups, none of which knows its nearest yet."""
    there = [files.gene for files in DirectionFiles.open_all(groups)]
    gene = np.concatenate(there)
    block = np.repeat(np.arange(len(there)), [len(part) for part in there])
    row = np.concatenate([np.arange(len(part)) for part in there])
    order = np.argsort(gene)
    write_pairs(folder, gene[order], block[order], row[order], np.empty(0, np.int64), np.empty(0, np.int64))
    return {"n": len(gene)}


def gather_groups(table: str, groups: list[str], begin: int, end: int, folder: str) -> int:
    """Task: the groups ``begin:end`` of those that lost their nearest, as a block."""
    gene = TableFiles.open(table, begin, end).orphan
    rows, size, length = (_rows_of(gene, table, groups, read) for read in (take_rows, _sizes, _lengths))
    DirectionFiles(**smaller_form(rows)._asdict(), size=size, gene=gene, mean_length=length).write(folder)
    return len(gene)


def compare(
    groups: list[str], numbers: list[int], table: str, first_new: int, others: list[str], most_links: int | None,
    folder: str,
) -> tuple[int, int]:  # fmt: skip
    """Task: some blocks of groups against others; with ``most_links`` also against each other.

    Writes a :class:`cagdask.engine.linkage.refinement_table.ComparedFiles`; returns the pairs evaluated. With
    ``most_links`` writes a :class:`LinkFiles`, too, unless it would hold more, and returns how many these are.
    """
    own = side_of(living_groups(groups, numbers, first_new, table))
    at = np.arange(len(own.groups.gene))
    linking = Linking(most_links) if most_links else None
    n_pairs = compare_within(own, at, linking) if most_links is not None else 0
    stale = [(own.groups.gene[:0], own.near[:0], own.best[:0])]
    for url in others:
        files = DirectionFiles.open(url)
        for begin in range(0, len(files.gene), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            some = side_of(Groups(
                np.array(load_rows(url, begin, begin + ROWS_AT_ONCE)), np.array(files.gene[part]),
                np.array(files.size[part]), np.array(files.mean_length[part]),
            ))  # fmt: skip
            n_pairs += compare_sides(some, np.arange(len(some.groups.gene)), own, at, linking)
            stale.append((some.groups.gene, some.near, some.best))
    stale_gene, stale_near, stale_sim = (np.concatenate(part) for part in zip(*stale, strict=True))
    ComparedFiles(
        own_gene=own.groups.gene, own_near=own.near, own_sim=own.best, stale_gene=stale_gene, stale_near=stale_near,
        stale_sim=stale_sim,
    ).write(folder)  # fmt: skip
    if linking is None:
        return n_pairs, 0
    one, other = linking.pairs()
    LinkFiles(one=one, other=other).write(storage.join(folder, "links"))
    return n_pairs, linking.n


# -- the rounds ------------------------------------------------------------------------------------------------------


def join_corrected(
    mapper: Mapper, groups: list[Block], plan: LinkagePlan, folder: str, done: str | None = None
) -> tuple[list[str], str, list[str], Linked]:
    """Join groups that are one once noise is taken out.

    Parameters
    ----------
    mapper, plan, folder, done
        As for :func:`cagdask.engine.linkage.average.average_linkage`.
    groups
        As :func:`cagdask.engine.linkage.refinement.directions_of` gives them; at least one.

    Returns
    -------
    blocks, table, joined, linked
        As :func:`cagdask.engine.linkage.refinement.refine`.

    Notes
    -----
    Time is that of a product of all groups of two and more with all others, and of those that change in later rounds.
    """
    linked = Linked()
    blocks, n_rows = [block.folder for block in groups], [block.n for block in groups]
    table = storage.join(folder, "table")
    n = mapper.map(f"{REFINE}: list groups", begin_table, [(blocks, table)], done=done)[0]["n"]
    joined: list[str] = []
    searched, links = n > plan.small, list[str]()
    if searched:
        blocks, n_rows, table, joined, n, links = _rounds(mapper, blocks, n_rows, table, plan, folder, linked, done)
    if n:
        alone = [(blocks, table, searched, links, most_links(n, plan), plan.chunk_rows, storage.join(folder, "alone"))]
        answer = mapper.map(f"{REFINE}: in memory", join_alone, alone, done=done)[0]
        blocks, n_rows, table = answer["blocks"], answer["n_rows"], answer["table"]
        joined.append(answer["joined"])
        linked.active += answer["active"]
        linked.multiplied += answer["n_pairs"]
    blocks, table, attached = attach_all(mapper, blocks, n_rows, table, plan, folder, done)
    return blocks, table, joined + attached, linked


def most_links(n: int, plan: LinkagePlan) -> int:
    """Links of ``n`` groups that a task has room for beside their directions, which take a third of merging them."""
    return max(0, plan.merge_rows * plan.merge_row_bytes - n * plan.merge_row_bytes // 3) // LINK_BYTES


def _rounds(
    mapper: Mapper, blocks: list[str], n_rows: list[int], table: str, plan: LinkagePlan, folder: str, linked: Linked,
    done: str | None,
) -> tuple[list[str], list[int], str, list[str], int, list[str]]:  # fmt: skip
    """The rounds over files, until nothing joins, or all groups fit one task, alone or with all their links.

    Returns the blocks, their rows, the last table, the tables whose pairs were joined, how many groups are left for
    one task to go on with, and folders of their links.
    """
    joined: list[str] = []
    new: list[str] = []
    others: list[str] | None = None
    most = most_links(sum(n_rows), plan)
    while True:
        here = storage.join(folder, f"round-{len(joined) + 1}")
        name = refinement_round(len(joined) + 1)
        numbers = block_numbers(n_rows, plan)
        compared = [storage.join(here, "compared", str(i)) for i in range(len(numbers))]
        against = _ahead(blocks, numbers) if others is None else [new + others] * len(numbers)
        items = [
            (blocks, part, table, len(blocks) - len(new), against[i], most if others is None else None, compared[i])
            for i, part in enumerate(numbers)
        ]
        n_pairs, n_links = np.sum(mapper.map(f"{name}: {COMPARE}", compare, items, done=done), axis=0).tolist()
        linked.multiplied += n_pairs
        before, table = table, storage.join(here, "table")
        item = (before, new, len(blocks) - len(new), compared, table)
        state = mapper.map(f"{name}: {CHOOSE_PAIRS}", next_table, [item], done=done)[0]
        linked.active.append(state["n"])
        if not state["pairs"]:
            return blocks, n_rows, table, joined, 0, []
        if others is None and 0 < most >= n_links:
            return blocks, n_rows, table, joined, state["n"], [storage.join(url, "links") for url in compared]
        if state["n"] <= max(plan.small, plan.merge_rows):
            return blocks, n_rows, table, joined, state["n"], []
        joined.append(table)
        this = Round(mapper, plan, here, done, refinement_round(len(joined)))
        changed = _in_parts(this, JOIN_PAIRS, join_pairs, (table, blocks), state["pairs"])
        others = _in_parts(this, GATHER, gather_groups, (table, blocks), state["orphans"]).folders
        new = changed.folders
        blocks, n_rows = blocks + new, n_rows + changed.n_rows


def _ahead(blocks: list[str], numbers: list[list[int]]) -> list[list[str]]:
    """For every task the blocks of others that it compares its own with, so that each pair of tasks is seen once."""
    partners = partners_of(np.ones((len(numbers), len(numbers)), bool))
    return [[blocks[number] for task in tasks for number in numbers[task]] for tasks in partners]


# -- all groups in memory --------------------------------------------------------------------------------------------


def join_alone(
    groups: list[str], table: str, searched: bool, links: list[str], most: int, block_rows: int, folder: str
) -> dict[str, Any]:
    """Task: all rounds from a table on, with all groups in memory: 8 bytes per group and sample, and the links.

    With ``searched`` the table tells the nearest of all groups, and ``links`` are folders of their links, if these are
    known. Without links, or if there are more than ``most``, 24 bytes per group and sample. What is left is written in
    blocks of ``block_rows``.
    """
    files = TableFiles.open(table)
    gene = np.array(files.gene)
    held = Groups(*(_rows_of(gene, table, groups, read) for read in (take_rows, _genes, _sizes, _lengths)))
    if links:
        near, best = np.array(files.near), np.array(files.sim)
        lives, keep, leave, active, n_pairs = join_linked(held, near, best, *_linked_positions(links, gene))
    else:
        known = (np.array(files.near), np.array(files.sim)) if searched else None
        lives, keep, leave, active, n_pairs = _join_unlinked(held, known, most)
    pairs, last = storage.join(folder, "pairs"), storage.join(folder, "table")
    at = np.flatnonzero(lives)
    row = np.arange(len(at))
    n_rows = [len(at[begin : begin + block_rows]) for begin in range(0, len(at), block_rows)]
    blocks = [storage.join(folder, "joined", str(i)) for i in range(len(n_rows))]
    for i, url in enumerate(blocks):
        some = held.take(at[i * block_rows : (i + 1) * block_rows])
        directions = smaller_form(some.rows)._asdict()
        DirectionFiles(**directions, size=some.size, gene=some.gene, mean_length=some.length).write(url)
    nowhere = np.zeros(len(gene), np.int64)
    write_pairs(pairs, gene, nowhere, nowhere, keep, leave)
    write_pairs(last, gene[at], row // block_rows, row % block_rows, keep[:0], leave[:0])
    return {
        "blocks": blocks, "n_rows": n_rows, "table": last, "joined": pairs, "active": active, "n_pairs": n_pairs,
    }  # fmt: skip


def _genes(folder: str, rows: Int64) -> Int64:
    return DirectionFiles.open(folder).gene[rows]


def _linked_positions(links: list[str], gene: Int64) -> tuple[Int32, Int32]:
    """Positions among ``gene`` of the groups of all pairs."""
    parts = [
        [np.searchsorted(gene, side).astype(np.int32) for side in (files.one, files.other)]
        for files in LinkFiles.open_all(links)
    ]
    one, other = (np.concatenate(sides) for sides in zip(*parts, strict=True))
    return one, other


def _join_unlinked(groups: Groups, known: tuple[Int64, NDArray[np.float64]] | None, most: int) -> Joined:
    """Join groups that no links are known of; ``known`` are genes of the nearest, and ρ, if they were looked for."""
    held = side_of(groups)
    if known is not None:
        held.near[:], held.best[:] = known
        return join_in_memory(held)
    linking = Linking(most)
    n_pairs = compare_within(held, np.arange(len(groups.gene)), linking)
    if linking.n <= most:
        one, other = (np.searchsorted(groups.gene, side).astype(np.int32) for side in linking.pairs())
        found = join_linked(groups, held.near, held.best, one, other)
    else:
        found = join_in_memory(held)
    return found._replace(active=[len(groups.gene), *found.active], n_pairs=found.n_pairs + n_pairs)


def join_in_memory(held: Side) -> Joined:
    """Join groups, ordered by gene, that know their nearest; all that change are compared with all others.

    The rounds are those over files. Changes the groups in place.
    """
    gene = held.groups.gene
    lives, n_pairs = np.ones(len(gene), bool), 0
    kept, left, active = [gene[:0]], [gene[:0]], list[int]()
    while True:
        at = np.flatnonzero(lives)
        keep, leave = reciprocal_pairs(gene[at], held.near[at])
        if not len(keep):
            return Joined(lives, np.concatenate(kept), np.concatenate(left), active, n_pairs)
        kept.append(keep)
        left.append(leave)
        i, j = np.searchsorted(gene, keep), np.searchsorted(gene, leave)
        stale = lives & np.isin(held.near, np.concatenate([keep, leave]))
        stale[i], stale[j], lives[j] = True, False, False
        join_rows(held.groups, held.inner, i, j)
        held.rows32[i] = held.groups.rows[i]
        held.near[stale], held.best[stale] = NONE, -2.0
        n_pairs += compare_sides(held, np.flatnonzero(stale & lives), held, np.flatnonzero(lives))
        active.append(int(lives.sum()))
