"""The rounds in which groups are joined by their similarity without noise.

    groups of linkage --compare all--> table --join pairs--> new groups --compare those with all--> table, and so on
                                                                     last table --attach--> small groups to larger ones

What is joined is told by :mod:`cagdask.engine.linkage.noise_correction`; the files are those of
:mod:`cagdask.engine.linkage.refinement`. Blocks are never changed, and order does not depend on them. A task holds a
chunk of groups and a few rows of others.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.linkage.attaching import attach_all, block_numbers, living_groups, write_pairs
from cagdask.engine.linkage.noise_correction import (
    Groups,
    nearest,
)
from cagdask.engine.linkage.refinement import (
    ROWS_AT_ONCE,
    _in_parts,
    _lengths,
    _rows_of,
    _sizes,
    gather_orphans,
    join_pairs,
)
from cagdask.engine.linkage.refinement_table import (
    NONE,
    ComparedFiles,
    DirectionFiles,
    next_table,
    reciprocal_pairs,
)
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan, Linked, Mapper, Round
from cagdask.engine.rows.files import Block, load_rows, smaller_form

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


PAIRS_IN_MEMORY = 2**21
"""Pairs of groups compared at once: some 40 bytes each."""


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


def compare(
    groups: list[str], numbers: list[int], table: str, changed: list[str], others: list[str], folder: str
) -> int:
    """Task: some blocks of groups against those that changed and others that need a new nearest.

    ``others`` are folders of rows with a gene each, whose sizes are in the blocks that ``table`` names. Writes a
    :class:`cagdask.engine.linkage.refinement.ComparedFiles`; returns the pairs evaluated.
    """
    own = living_groups(groups, numbers, len(groups) - len(changed), table)
    near, best = np.full(len(own.gene), NONE), np.full(len(own.gene), -2.0)
    stale = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    n_pairs = 0
    for url in changed + others:
        some_genes = DirectionFiles.open(url).gene
        for begin in range(0, len(some_genes), ROWS_AT_ONCE):
            end = begin + ROWS_AT_ONCE
            gene = some_genes[begin:end]
            if url in changed:
                files = DirectionFiles.open(url, begin, end)
                size, length = files.size, files.mean_length
            else:
                size, length = (_rows_of(gene, table, groups, read) for read in (_sizes, _lengths))
            some = Groups(load_rows(url, begin, end), gene, size, length)
            n_pairs += len(gene) * len(own.gene)
            stale.append((gene, *nearest(some, own)))
            if url in changed:
                other, rho = nearest(own, some)
                nearer = (rho > best) | ((rho == best) & (other < near))
                near[nearer], best[nearer] = other[nearer], rho[nearer]
    stale_gene, stale_near, stale_sim = (np.concatenate(part) for part in zip(*stale, strict=True))
    ComparedFiles(
        own_gene=own.gene, own_near=near, own_sim=best, stale_gene=stale_gene, stale_near=stale_near,
        stale_sim=stale_sim,
    ).write(folder)  # fmt: skip
    return n_pairs


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
    Time is that of a product of all groups with all, and of those that change with all in each later round.
    """
    if sum(block.n for block in groups) <= max(plan.small, plan.merge_rows):
        alone = [([asdict(block) for block in groups], asdict(plan), folder)]
        answer = mapper.map("join", join_alone, alone, done=done)[0]
        return answer["blocks"], answer["table"], answer["joined"], Linked(**answer["linked"])
    return _rounds(mapper, groups, plan, folder, done)


def _rounds(
    mapper: Mapper, groups: list[Block], plan: LinkagePlan, folder: str, done: str | None
) -> tuple[list[str], str, list[str], Linked]:
    """The rounds over files, and the step that attaches small groups."""
    linked = Linked()
    blocks, n_rows = [block.folder for block in groups], [block.n for block in groups]
    table = storage.join(folder, "table")
    state = mapper.map("join: table", begin_table, [(blocks, table)], done=done)[0]
    new: list[str] = []
    others, joined = blocks, [table]
    while True:
        here = storage.join(folder, f"round-{len(joined)}")
        name = f"join {len(joined)}: "
        items = [
            (blocks, numbers, table, new, others, storage.join(here, "compared", str(i)))
            for i, numbers in enumerate(block_numbers(n_rows, plan))
        ]
        linked.multiplied += sum(mapper.map(f"{name}compare", compare, items, done=done))
        before, table = table, storage.join(here, "table")
        compared = [item[-1] for item in items]
        item = (before, new, len(blocks) - len(new), compared, table)
        state = mapper.map(f"{name}table", next_table, [item], done=done)[0]
        linked.active.append(state["n"])
        if not state["pairs"]:
            break
        joined.append(table)
        this = Round(mapper, plan, here, done, f"join {len(joined) - 1}")
        changed = _in_parts(this, "join", join_pairs, table, blocks, state["pairs"])
        orphans = _in_parts(this, "gather", gather_orphans, table, blocks, state["orphans"])
        new, others = changed.folders, orphans.folders
        blocks, n_rows = blocks + new, n_rows + changed.n_rows
    blocks, table, attached = attach_all(mapper, blocks, n_rows, table, plan, folder, done)
    return blocks, table, joined + attached, linked


def join_alone(groups: list[dict[str, Any]], plan: dict[str, Any], folder: str) -> dict[str, Any]:
    """Task: all of it, with all groups in memory: 12 bytes per group and sample.

    A large group may take in hundreds of others, one a round; with files, each of these rounds would open all blocks.
    """
    blocks = [block["folder"] for block in groups]
    files = list(DirectionFiles.open_all(blocks))
    gene = np.concatenate([one.gene for one in files])
    order = np.argsort(gene)
    size = np.concatenate([one.size for one in files])[order]
    length = np.concatenate([one.mean_length for one in files])[order]
    held = Groups(np.concatenate([load_rows(url) for url in blocks])[order], gene[order], size, length)
    found, keep, leave, rounds = join_in_memory(held)
    block, table = storage.join(folder, "joined"), storage.join(folder, "pairs")
    DirectionFiles(
        **smaller_form(found.rows)._asdict(), size=found.size, gene=found.gene, mean_length=found.length
    ).write(block)
    nowhere = np.zeros(len(held.gene), np.int64)
    write_pairs(table, held.gene, nowhere, nowhere, keep, leave)
    last = storage.join(folder, "table")
    row = np.arange(len(found.gene))
    write_pairs(last, found.gene, np.zeros_like(row), row, row[:0], row[:0])
    made, last, attached = attach_all(InPlace(), [block], [len(row)], last, LinkagePlan(**plan), folder, None)
    return {"blocks": made, "table": last, "joined": [table, *attached], "linked": Linked(active=rounds).to_json()}


def join_in_memory(held: Groups) -> tuple[Groups, Int64, Int64, list[int]]:
    """Join groups, ordered by gene, in the same rounds as with files; uses up the arrays.

    Returns
    -------
    groups, keep, leave, active
        What is left; the genes of the pairs that joined, in the order in which they did; groups in each round.
    """
    near, best = nearest_of_all(held, held)
    lives = np.ones(len(held.gene), bool)
    kept, left, active = [held.gene[:0]], [held.gene[:0]], [len(held.gene)]
    while True:
        at = np.flatnonzero(lives)
        keep, leave = reciprocal_pairs(held.gene[at], near[at])
        if not len(keep):
            break
        kept.append(keep)
        left.append(leave)
        i, j = np.searchsorted(held.gene, keep), np.searchsorted(held.gene, leave)
        orphans = lives & np.isin(near, np.concatenate([keep, leave]))
        _join_rows(held, i, j)
        lives[j] = False
        stale = np.union1d(i, np.flatnonzero(orphans & lives))
        near[stale], best[stale] = nearest_of_all(held.take(stale), held)
        fresh = np.flatnonzero(lives)
        fresh = fresh[~np.isin(fresh, stale)]
        other, rho = nearest_of_all(held.take(fresh), held.take(i))
        nearer = (rho > best[fresh]) | ((rho == best[fresh]) & (other < near[fresh]))
        near[fresh[nearer]], best[fresh[nearer]] = other[nearer], rho[nearer]
        active.append(int(lives.sum()))
    return held.take(lives), np.concatenate(kept), np.concatenate(left), active


def _join_rows(held: Groups, i: Int64, j: Int64) -> None:
    """Join the groups ``j`` to those ``i``, as :func:`cagdask.engine.linkage.refinement.join_pairs` does."""
    total = 0.0 + (held.size[i] * held.length[i])[:, None] * held.rows[i]
    total = total + (held.size[j] * held.length[j])[:, None] * held.rows[j]
    held.size[i] += held.size[j]
    mean = total / held.size[i][:, None]
    held.length[i] = np.sqrt(np.einsum("ij,ij->i", mean, mean))
    held.rows[i] = mean / held.length[i][:, None]
    held.rows[j], held.size[j] = 0, 1  # like nothing, so that no group is near it


def nearest_of_all(a: Groups, b: Groups) -> tuple[Int64, Float64]:
    """As :func:`cagdask.engine.linkage.noise_correction.nearest`, for any number of groups."""
    step = max(1, PAIRS_IN_MEMORY // max(1, len(b.gene)))
    parts = [nearest(a.take(slice(p, p + step)), b) for p in range(0, len(a.gene), step)]
    parts.append((np.empty(0, np.int64), np.empty(0)))
    near, best = (np.concatenate(part) for part in zip(*parts, strict=True))
    return near, best
