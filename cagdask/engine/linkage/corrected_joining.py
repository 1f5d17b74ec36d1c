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
from cagdask.engine.linkage.noise_correction import (
    ATTACHED,
    ATTACHED_LEAST,
    SECOND,
    SMALL,
    Groups,
    exact_cosines,
    inner_similarity,
    nearest,
)
from cagdask.engine.linkage.refinement import (
    ROWS_AT_ONCE,
    _in_parts,
    _lengths,
    _pack,
    _rows_of,
    _sizes,
    gather_orphans,
    join_pairs,
)
from cagdask.engine.linkage.refinement_table import (
    NONE,
    ComparedFiles,
    DirectionFiles,
    TableFiles,
    next_table,
    reciprocal_pairs,
)
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan, Linked, Mapper, Round
from cagdask.engine.rows.files import STEP, Block, load_rows, smaller_form, take_rows
from cagdask.engine.search.kernels import PRODUCT_MARGIN
from cagdask.storage.arrays import Files, array

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


PAIRS_IN_MEMORY = 2**21
"""Pairs of groups compared at once: some 40 bytes each."""


class AttachedFiles(Files):
    """Small groups of a task's blocks that join a larger one. Written by :func:`attach`."""

    small: Int64 = array(np.int64, "attached", "gene of the small group")
    large: Int64 = array(np.int64, "attached", "gene of the larger group that it joins")


# -- tasks -----------------------------------------------------------------------------------------------------------


def begin_table(groups: list[str], folder: str) -> dict[str, int]:
    """Task: the table of all groups, none of which knows its nearest yet."""
    there = [files.gene for files in DirectionFiles.open_all(groups)]
    gene = np.concatenate(there)
    block = np.repeat(np.arange(len(there)), [len(part) for part in there])
    row = np.concatenate([np.arange(len(part)) for part in there])
    order = np.argsort(gene)
    _write_pairs(folder, gene[order], block[order], row[order], np.empty(0, np.int64), np.empty(0, np.int64))
    return {"n": len(gene)}


def _write_pairs(folder: str, gene: Int64, block: Int64, row: Int64, keep: Int64, leave: Int64) -> None:
    none = np.full(len(gene), NONE)
    TableFiles(
        gene=gene, near=none, sim=np.full(len(gene), -2.0), block=block, row=row, keep=keep, leave=leave,
        orphan=np.empty(0, np.int64),
    ).write(folder)  # fmt: skip


def _living(groups: list[str], numbers: list[int], first_new: int, table: str) -> Groups:
    """Groups that live in these blocks; those that pairs joined live in the blocks from ``first_new`` on."""
    files = TableFiles.open(table)
    moved = np.concatenate([files.keep, files.leave])
    parts = []
    for number in numbers:
        block = DirectionFiles.open(groups[number])
        part = Groups(load_rows(groups[number]), block.gene, block.size, block.mean_length)
        if number < first_new:
            part = part.take(np.isin(part.gene, files.gene[files.block == number]) & ~np.isin(part.gene, moved))
        parts.append(part)
    return Groups(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def compare(
    groups: list[str], numbers: list[int], table: str, changed: list[str], others: list[str], folder: str
) -> int:
    """Task: some blocks of groups against those that changed and others that need a new nearest.

    ``others`` are folders of rows with a gene each, whose sizes are in the blocks that ``table`` names. Writes a
    :class:`cagdask.engine.linkage.refinement.ComparedFiles`; returns the pairs evaluated.
    """
    own = _living(groups, numbers, len(groups) - len(changed), table)
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


def attach(groups: list[str], numbers: list[int], table: str, folder: str) -> int:
    """Task: the small groups of some blocks that belong to a larger group; writes an :class:`AttachedFiles`."""
    own = _living(groups, numbers, len(groups), table)
    small = own.take(own.size <= SMALL)
    best, second = np.full(len(small.gene), -2.0), np.full(len(small.gene), 0.0)
    large, rho, mean = np.full(len(small.gene), NONE), np.zeros(len(small.gene)), np.zeros(len(small.gene))
    for number in range(len(groups)):
        others = _living(groups, [number], len(groups), table)
        others = others.take(others.size > SMALL)
        for begin in range(0, len(others.gene), ROWS_AT_ONCE):
            some = others.take(slice(begin, begin + ROWS_AT_ONCE))
            i, j, cosine = _two_nearest(small, some)
            for at, k, cos in zip(i.tolist(), j.tolist(), cosine.tolist(), strict=True):
                if cos < best[at] or (cos == best[at] and some.gene[k] > large[at]):
                    second[at] = max(second[at], cos)
                    continue
                second[at] = max(second[at], best[at])
                best[at], large[at] = cos, some.gene[k]
                mean[at] = cos * small.length[at] * some.length[k]
                c = inner_similarity(some.size[k : k + 1], some.length[k : k + 1])[0]
                rho[at] = mean[at] / c if c > 0 else 0.0
    grid = [np.rint(values * STEP) / STEP for values in (rho, mean, SECOND * best)]
    joins = (large < NONE) & (grid[0] >= ATTACHED) & (grid[1] >= ATTACHED_LEAST) & (second <= grid[2])
    AttachedFiles(small=small.gene[joins], large=large[joins]).write(folder)
    return int(joins.sum())


def _two_nearest(small: Groups, some: Groups) -> tuple[Int64, Int64, Float64]:
    """Pairs among which are the two nearest of ``some`` for each small group, by cosine, ordered; their cosines."""
    if not len(small.gene) or not len(some.gene):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    products = small.rows.astype(np.float32) @ some.rows.astype(np.float32).T
    if products.shape[1] > 2:
        need = np.partition(products, -2, axis=1)[:, -2] - 2 * PRODUCT_MARGIN
    else:
        need = np.full(len(products), -2.0)
    i, j = np.nonzero(products >= need[:, None])
    return i, j, exact_cosines(i, j, small, some)


def attached_table(before: str, parts: list[str], folder: str) -> dict[str, int]:
    """Task: the table in which small groups join larger ones; groups are named by their smallest gene."""
    table = TableFiles.open(before)
    small = np.concatenate([files.small for files in AttachedFiles.open_all(parts)])
    large = np.concatenate([files.large for files in AttachedFiles.open_all(parts)])
    heads, target = np.unique(large, return_inverse=True)
    name = heads.copy()
    np.minimum.at(name, target, small)
    keep = np.concatenate([name[target], name])
    leave = np.concatenate([small, heads])
    moves = keep != leave
    keep, leave = keep[moves], leave[moves]
    # The name of a group may have been that of a small one; then the larger one leaves, like the other small ones.
    order = np.lexsort((leave, keep))
    _write_pairs(folder, table.gene, table.block, table.row, keep[order], leave[order])
    return {"n": len(table.gene), "groups": len(name)}


def join_attached(table: str, groups: list[str], begin: int, end: int, folder: str) -> int:
    """Task: larger groups with what joins them, as a new block: the names ``begin:end`` of all that take any in."""
    files = TableFiles.open(table)
    name = np.unique(files.keep)[begin:end]
    taken = np.isin(files.keep, name)
    gene = np.concatenate([name, files.leave[taken]])
    target = np.concatenate([np.arange(len(name)), np.searchsorted(name, files.keep[taken])])
    order = np.lexsort((gene, target))
    rows, n, length = (_rows_of(gene[order], table, groups, read) for read in (take_rows, _sizes, _lengths))
    total, size = np.zeros((len(name), rows.shape[1])), np.zeros(len(name), np.int64)
    np.add.at(total, target[order], (n * length)[:, None] * rows)
    np.add.at(size, target[order], n)
    mean = total / size[:, None]
    new_length = np.sqrt(np.einsum("ij,ij->i", mean, mean))
    directions = smaller_form(mean / new_length[:, None])._asdict()
    DirectionFiles(**directions, size=size, gene=name, mean_length=new_length).write(folder)
    return len(name)


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
            for i, numbers in enumerate(_numbered(n_rows, plan))
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
    blocks, table, attached = _attach_all(mapper, blocks, n_rows, table, plan, folder, done)
    return blocks, table, joined + attached, linked


def _numbered(n_rows: list[int], plan: LinkagePlan) -> list[list[int]]:
    """Numbers of the blocks, packed so that each list of blocks is at most a chunk."""
    packed = _pack([Block(str(i), n) for i, n in enumerate(n_rows)], plan.chunk_rows)
    return [[int(block.folder) for block in part] for part in packed]


def _attach_all(
    mapper: Mapper, blocks: list[str], n_rows: list[int], table: str, plan: LinkagePlan, folder: str, done: str | None
) -> tuple[list[str], str, list[str]]:
    """Join small groups to larger ones; the blocks, the last table, and the table that joined any."""
    here = storage.join(folder, "attach")
    items = [
        (blocks, numbers, table, storage.join(here, "found", str(i)))
        for i, numbers in enumerate(_numbered(n_rows, plan))
    ]
    if not sum(mapper.map("attach: compare", attach, items, done=done)):
        return blocks, table, []
    pairs = storage.join(here, "pairs")
    found = mapper.map("attach: table", attached_table, [(table, [item[-1] for item in items], pairs)], done=done)[0]
    this = Round(mapper, plan, here, done, "attach")
    new = _in_parts(this, "join", join_attached, pairs, blocks, found["groups"]).folders
    last = this.path("table")
    this.one("last table", next_table, pairs, new, len(blocks), [], last)
    return blocks + new, last, [pairs]


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
    _write_pairs(table, held.gene, nowhere, nowhere, keep, leave)
    last = storage.join(folder, "table")
    row = np.arange(len(found.gene))
    _write_pairs(last, found.gene, np.zeros_like(row), row, row[:0], row[:0])
    made, last, attached = _attach_all(InPlace(), [block], [len(row)], last, LinkagePlan(**plan), folder, None)
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
