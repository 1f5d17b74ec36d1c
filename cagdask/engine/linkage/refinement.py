"""Groups whose mean directions are close, joined: what noise has torn apart.

Average linkage at low coverage loses members: their own profiles are too noisy to reach the threshold, the means of two
halves of a genome are not. So, as the established tool does, groups whose means are within ``refine_dist`` (cosine of
the means) are joined; here in rounds that are the same for everybody:

    nearest other group of every group --> all reciprocal nearest pairs join, means weighted by size --> again

until no two are near enough. This is centroid linkage, for which order matters, hence the rounds. The first round finds
the nearest with the search of the linkage. After that only *stale* groups, those that changed or whose nearest did, are
compared with all others, block by block, and all others with those that changed.

Blocks of groups are never changed: joined groups go to a new block, and one table says which rows of which blocks live,

    table     each group, its nearest and the similarity, where its direction lies; the pairs that join
              (:class:`TableFiles`)

40 bytes per group. Other tasks hold a few blocks' worth of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.linkage import average
from cagdask.engine.linkage.average import InPlace, LinkagePlan, Linked, Mapper
from cagdask.engine.rows.files import (
    STEP,
    Block,
    GroupFiles,
    RowFiles,
    concatenate_rows,
    load_rows,
    smaller_form,
    take_rows,
)
from cagdask.engine.search.kernels import PRODUCT_MARGIN
from cagdask.engine.search.neighbors import ListFiles
from cagdask.storage.arrays import Files, array

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

NONE = np.iinfo(np.int64).max
"""Gene of a nearest group where there is none; larger than any, so that ties go to real ones."""
ROWS_AT_ONCE = 256
PAIRS_AT_ONCE = 2**14


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


class OrphanFiles(RowFiles):
    """Directions of groups that lost their nearest. Written by :func:`gather_orphans`, read by :func:`compare`."""

    gene: Int64 = array(np.int64, "row", "gene of the group")


class ComparedFiles(Files):
    """Nearest groups that one task found. Written by :func:`compare`, read by :func:`next_table`."""

    own_gene: Int64 = array(np.int64, "own", "genes of the task's own groups")
    own_near: Int64 = array(np.int64, "own", "gene of the nearest group that changed; huge for none")
    own_sim: Float64 = array(np.float64, "own", "its similarity; -2 for none")
    stale_gene: Int64 = array(np.int64, "stale", "genes of all stale groups")
    stale_near: Int64 = array(np.int64, "stale", "gene of the nearest of the task's own groups; huge for none")
    stale_sim: Float64 = array(np.float64, "stale", "its similarity; -2 for none")


def directions_of(
    mapper: Mapper,
    blocks: list[Block],
    block_rows: int,
    folder: str,
    done: str | None = None,
    what: str = "groups",
) -> list[Block]:
    """Groups as linkage leaves them, as blocks of a :class:`DirectionFiles` each, in larger blocks."""
    packed = _pack(blocks, block_rows)
    made = [storage.join(folder, str(i)) for i in range(len(packed))]
    items = [([block.folder for block in part], url) for part, url in zip(packed, made, strict=True)]
    counts = mapper.map(f"directions of {what}", write_directions, items, done=done)
    return [Block(url, n) for url, n in zip(made, counts, strict=True)]


def _pack(blocks: list[Block], rows: int) -> list[list[Block]]:
    packed: list[list[Block]] = []
    room = 0
    for block in blocks:
        if block.n > room:
            packed.append([])
            room = rows
        packed[-1].append(block)
        room -= block.n
    return packed


def write_directions(blocks: list[str], folder: str) -> int:
    """Task: the groups of some blocks with their means scaled to unit length."""
    rows = concatenate_rows(blocks)
    size = np.concatenate([files.size for files in GroupFiles.open_all(blocks)])
    gene = np.concatenate([files.gene for files in GroupFiles.open_all(blocks)])
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= length[:, None]
    DirectionFiles(**smaller_form(rows)._asdict(), size=size, gene=gene, mean_length=length).write(folder)
    return len(gene)


# -- the table -------------------------------------------------------------------------------------------------------


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


# -- joining and comparing -------------------------------------------------------------------------------------------


def _rows_of(genes: Int64, table: str, groups: list[str], read: Callable[[str, Int64], NDArray[Any]]) -> NDArray[Any]:
    """What ``read`` gives for the rows of these genes in the folders of their blocks, in the order of the genes."""
    files = TableFiles.open(table)
    i = np.searchsorted(files.gene, genes)
    block, row = files.block[i], files.row[i]
    parts = {b: read(groups[b], row[block == b]) for b in np.unique(block).tolist()}
    sample = next(iter(parts.values()))
    values = np.empty((len(genes), *sample.shape[1:]), sample.dtype)
    for b, part in parts.items():
        values[block == b] = part
    return values


def _sizes(folder: str, rows: Int64) -> NDArray[Any]:
    return DirectionFiles.open(folder).size[rows]


def _lengths(folder: str, rows: Int64) -> NDArray[Any]:
    return DirectionFiles.open(folder).mean_length[rows]


def join_pairs(table: str, groups: list[str], begin: int, end: int, folder: str) -> int:
    """Task: the pairs ``begin:end`` joined, as a new block; means weighted by size, named by the smaller gene."""
    pairs = TableFiles.open(table, begin, end)
    total = 0.0
    size = np.zeros(end - begin, np.int64)
    for genes in (pairs.keep, pairs.leave):
        rows, n, length = (_rows_of(genes, table, groups, read) for read in (take_rows, _sizes, _lengths))
        total = total + (n * length)[:, None] * rows
        size += n
    mean = np.asarray(total / size[:, None])
    length = np.sqrt(np.einsum("ij,ij->i", mean, mean))
    directions = smaller_form(mean / length[:, None])._asdict()
    DirectionFiles(**directions, size=size, gene=pairs.keep, mean_length=length).write(folder)
    return len(pairs.keep)


def gather_orphans(table: str, groups: list[str], begin: int, end: int, folder: str) -> int:
    """Task: the directions of the groups ``begin:end`` that lost their nearest."""
    gene = TableFiles.open(table, begin, end).orphan
    OrphanFiles(**smaller_form(_rows_of(gene, table, groups, take_rows))._asdict(), gene=gene).write(folder)
    return len(gene)


def compare(
    groups: list[str],
    numbers: list[int],
    table: str,
    changed: list[str],
    orphans: list[str],
    threshold: float,
    folder: str,
) -> int:
    """Task: some blocks of groups against all stale ones.

    Writes a :class:`ComparedFiles`. Returns the pairs evaluated.
    """
    rows, gene = _living(groups, numbers, len(groups) - len(changed), table)
    rows32 = rows.astype(np.float32)
    near, sim = np.full(len(gene), NONE), np.full(len(gene), -2.0)
    stale = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    n_pairs = 0
    genes_of = [files.gene for files in DirectionFiles.open_all(changed)]
    genes_of += [files.gene for files in OrphanFiles.open_all(orphans)]
    for url, genes in zip(changed + orphans, genes_of, strict=True):
        for begin in range(0, len(genes), ROWS_AT_ONCE):
            some = load_rows(url, begin, begin + ROWS_AT_ONCE)
            some_gene = genes[begin : begin + ROWS_AT_ONCE]
            products = some.astype(np.float32) @ rows32.T
            products[some_gene[:, None] == gene[None, :]] = -2
            n_pairs += products.size
            stale.append((some_gene, *_best(products, some, rows, gene, threshold)))
            if url in changed:
                other, similarity = _best(products.T, rows, some, some_gene, threshold)
                nearer = (similarity > sim) | ((similarity == sim) & (other < near))
                near[nearer], sim[nearer] = other[nearer], similarity[nearer]
    stale_gene, stale_near, stale_sim = (np.concatenate(part) for part in zip(*stale, strict=True))
    ComparedFiles(
        own_gene=gene, own_near=near, own_sim=sim, stale_gene=stale_gene, stale_near=stale_near, stale_sim=stale_sim
    ).write(folder)
    return n_pairs


def _living(groups: list[str], numbers: list[int], first_new: int, table: str) -> tuple[Float64, Int64]:
    """Directions and genes of the groups that live in these blocks; those that pairs joined live in the new ones."""
    files = TableFiles.open(table)
    moved = np.concatenate([files.keep, files.leave])
    parts = []
    for number in numbers:
        rows, gene = load_rows(groups[number]), DirectionFiles.open(groups[number]).gene
        if number < first_new:
            lives = np.isin(gene, files.gene[files.block == number]) & ~np.isin(gene, moved)
            rows, gene = rows[lives], gene[lives]
        parts.append((rows, gene))
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([gene for _, gene in parts])


def _best(products: Any, rows: Float64, others: Float64, gene: Int64, threshold: float) -> tuple[Int64, Float64]:
    """Gene and similarity of the nearest of ``others`` for each of ``rows``.

    Products in float32 tell whom to look at.
    """
    near, sim = np.full(len(rows), NONE), np.full(len(rows), -2.0)
    if not products.size:
        return near, sim
    need = np.maximum(products.max(axis=1), np.float32(threshold)) - 2 * PRODUCT_MARGIN
    i, j = np.nonzero(products >= need[:, None])
    parts = [np.einsum("ij,ij->i", rows[i[p]], others[j[p]]) for p in _slices(len(i))]
    exact = np.rint(np.concatenate([np.empty(0), *parts]) * STEP) / STEP
    i, j, exact = i[exact >= threshold], j[exact >= threshold], exact[exact >= threshold]
    order = np.lexsort((gene[j], -exact, i))
    first = np.ones(len(order), bool)
    first[1:] = i[order][1:] != i[order][:-1]
    chosen = order[first]
    near[i[chosen]], sim[i[chosen]] = gene[j[chosen]], exact[chosen]
    return near, sim


def _slices(n: int) -> list[slice]:
    return [slice(begin, begin + PAIRS_AT_ONCE) for begin in range(0, n, PAIRS_AT_ONCE)]


# -- the rounds ------------------------------------------------------------------------------------------------------


def refine(
    mapper: Mapper, groups: list[Block], threshold: float, plan: LinkagePlan, folder: str, done: str | None = None
) -> tuple[list[str], str, list[str], Linked]:
    """Join groups whose mean directions have a similarity of at least ``threshold``.

    Parameters
    ----------
    mapper, plan, folder, done
        As for :func:`cagdask.engine.linkage.average.average_linkage`.
    groups
        As :func:`directions_of` gives them.
    threshold
        1 - refine_dist.

    Returns
    -------
    blocks, table, joined, linked
        Folders of all blocks, the last table, the tables of all rounds that joined any, and the account of the
        searches.
    """
    if sum(block.n for block in groups) <= plan.small and not isinstance(mapper, InPlace):
        items = [([asdict(block) for block in groups], threshold, asdict(plan), folder)]
        answer = mapper.map("refine", refine_alone, items, done=done)[0]
        return answer["blocks"], answer["table"], answer["joined"], Linked(**answer["linked"])
    linked = Linked()
    here = storage.join(folder, "round-1")
    chunked = average.order_rows(mapper, groups, threshold, plan, here, "refine 1: ", done, seed=1)
    lists = average.search(mapper, chunked, 1, here, "refine 1: search", linked, done)
    blocks = [block.folder for block in groups]
    n_rows = [block.n for block in groups]
    table = storage.join(here, "table")
    state = mapper.map("refine 1: table", first_table, [(lists, blocks, table)], done=done)[0]
    for part in ("chunks", "neighbors"):
        storage.remove(storage.join(here, part))
    joined: list[str] = []
    linked.active.append(state["n"])
    while state["pairs"]:
        joined.append(table)
        here = storage.join(folder, f"round-{len(joined) + 1}")
        name = f"refine {len(joined) + 1}: "
        changed = _in_parts(mapper, f"{name}join", join_pairs, table, blocks, state["pairs"], plan, here, done)
        orphans = _in_parts(mapper, f"{name}gather", gather_orphans, table, blocks, state["orphans"], plan, here, done)
        first_new = len(blocks)
        blocks = blocks + [url for url, _ in changed]
        n_rows = n_rows + [n for _, n in changed]
        new, lone = [url for url, _ in changed], [url for url, _ in orphans]
        numbered = _pack([Block(str(i), n) for i, n in enumerate(n_rows)], plan.chunk_rows)
        compared = [storage.join(here, "compared", str(i)) for i in range(len(numbered))]
        tasks = [
            (blocks, [int(block.folder) for block in part], table, new, lone, threshold, url)
            for part, url in zip(numbered, compared, strict=True)
        ]
        linked.multiplied += sum(mapper.map(f"{name}compare", compare, tasks, done=done))
        new_table = storage.join(here, "table")
        state = mapper.map(f"{name}table", next_table, [(table, new, first_new, compared, new_table)], done=done)[0]
        linked.active.append(state["n"])
        table = new_table
    return blocks, table, joined, linked


def _in_parts(
    mapper: Mapper, name: str, function: Any, table: str, blocks: list[str], n: int, plan: LinkagePlan, folder: str,
    done: str | None,
) -> list[tuple[str, int]]:  # fmt: skip
    """Run ``function`` on ranges of ``n`` things; the folders that it wrote, and what it returned."""
    ranges = [(begin, min(begin + plan.chunk_rows, n)) for begin in range(0, n, plan.chunk_rows)]
    made = [storage.join(folder, function.__name__, str(i)) for i in range(len(ranges))]
    items = [(table, blocks, begin, end, url) for (begin, end), url in zip(ranges, made, strict=True)]
    return list(zip(made, mapper.map(name, function, items, done=done), strict=True))


def refine_alone(groups: list[dict[str, Any]], threshold: float, plan: dict[str, Any], folder: str) -> dict[str, Any]:
    """Task: a whole refinement, in one process."""
    found = refine(InPlace(), [Block(**block) for block in groups], threshold, LinkagePlan(**plan), folder)
    return {"blocks": found[0], "table": found[1], "joined": found[2], "linked": found[3].to_json()}
