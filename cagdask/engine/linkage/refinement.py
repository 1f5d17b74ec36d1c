"""Join groups whose mean directions are close: parts of one genome that noise had separated.

Average linkage at low coverage loses members: their own profiles are too noisy to reach the threshold, the means of two
halves of a genome are not. So, as the established tool does, groups whose means are within ``refine_dist`` (cosine of
the means) are joined; here in rounds that are the same for everybody:

    nearest other group of every group --> all reciprocal nearest pairs join, means weighted by size --> again

until no two are near enough. This is centroid linkage, for which order matters, hence the rounds. The first round finds
the nearest with the search of the linkage. After that groups that changed are compared with all others, block by block.
*Orphans*, whose nearest changed, have no other at a larger similarity than the one they lost: if a group that changed
has, it is their nearest. Only the others are compared with all.

Blocks of groups are never changed: joined groups go to a new block, and one table says which rows of which blocks live,

    table     each group, its nearest and the similarity, where its direction lies; the pairs that join
              (:class:`TableFiles`)

40 bytes per group. Other tasks hold a few blocks' worth of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.grid import STEP
from cagdask.engine.linkage.refinement_table import (
    NONE,
    ComparedFiles,
    DirectionFiles,
    LostFiles,
    TableFiles,
    first_table,
    lost_orphans,
    next_table,
)
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan, Linked, Mapper, Round, order_rows, search
from cagdask.engine.rows.files import Block, GroupFiles, RowFiles, concatenate_rows, load_rows, smaller_form, take_rows
from cagdask.engine.search.kernels import PRODUCT_MARGIN
from cagdask.engine.stage_names import (
    CHOOSE_ORPHANS,
    CHOOSE_PAIRS,
    COMPARE,
    COMPARE_ORPHANS,
    GATHER,
    JOIN_PAIRS,
    REFINE,
    refinement_round,
)
from cagdask.storage.arrays import array, in_memory

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

"""Stages of a round; the first round orders and searches instead of joining and comparing."""
ROWS_AT_ONCE = 256
FEW_ORPHANS = 512
"""Orphans that are compared with all in one go with what changed: reading all blocks twice would cost more."""
PAIRS_AT_ONCE = 2**14


class Blocks(NamedTuple):
    """Folders of blocks of groups, and the groups in each."""

    folders: list[str]
    n_rows: list[int]


class OrphanFiles(RowFiles):
    """Directions of groups that lost their nearest. Written by :func:`gather_orphans`, read by :func:`compare`."""

    gene: Int64 = array(np.int64, "row", "gene of the group")


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
    counts = mapper.map(f"scale profiles of {what}", write_directions, items, done=done)
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


# -- joining and comparing -------------------------------------------------------------------------------------------


def _rows_of(genes: Int64, table: str, groups: list[str], read: Callable[[str, Int64], NDArray[Any]]) -> NDArray[Any]:
    """What ``read`` gives for the rows of these genes in the folders of their blocks, in the order of the genes."""
    files = TableFiles.open(table)
    i = np.searchsorted(files.gene, genes)
    block, row = files.block[i], files.row[i]
    values: NDArray[Any] | None = None
    for b in np.unique(block).tolist():
        part = read(groups[b], row[block == b])
        if values is None:
            values = np.empty((len(genes), *part.shape[1:]), part.dtype)
        values[block == b] = part
    assert values is not None, "no genes"
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


def gather_orphans(lost: str, table: str, groups: list[str], begin: int, end: int, folder: str) -> int:
    """Task: the directions of the orphans ``begin:end`` of a :class:`LostFiles`."""
    gene = LostFiles.open(lost, begin, end).gene
    OrphanFiles(**smaller_form(_rows_of(gene, table, groups, take_rows))._asdict(), gene=gene).write(folder)
    return len(gene)


def compare(
    groups: list[str],
    numbers: list[int],
    table: str,
    first_new: int,
    changed: list[str],
    orphans: list[str],
    threshold: float,
    folder: str,
) -> int:
    """Task: some blocks of groups against groups that changed, and orphans.

    Blocks from ``first_new`` on hold the groups that changed. Writes a :class:`ComparedFiles`. Returns the pairs
    evaluated.
    """
    rows, gene = _living(groups, numbers, first_new, table)
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
        answer = mapper.map(REFINE, refine_alone, items, done=done)[0]
        return answer["blocks"], answer["table"], answer["joined"], Linked(**answer["linked"])
    linked, joined = Linked(), list[str]()
    this = Round(mapper, plan, storage.join(folder, "round-1"), done, refinement_round(1))
    chunked = order_rows(this, groups, threshold, seed=1)
    lists = search(this, chunked, 1, linked)
    blocks, table = Blocks([block.folder for block in groups], [block.n for block in groups]), this.path("table")
    state = this.one(CHOOSE_PAIRS, first_table, lists, blocks.folders, table)
    this.remove("chunks", "neighbors")
    linked.active.append(state["n"])
    while state["pairs"]:
        joined.append(table)
        number = len(joined) + 1
        this = Round(mapper, plan, storage.join(folder, f"round-{number}"), done, refinement_round(number))
        blocks, table, state = _join_and_compare(this, blocks, table, state, threshold, linked)
        linked.active.append(state["n"])
    return blocks.folders, table, joined, linked


def _join_and_compare(
    this: Round, blocks: Blocks, table: str, state: dict[str, int], threshold: float, linked: Linked
) -> tuple[Blocks, str, dict[str, int]]:
    """One round: join the pairs of a table, and look for the nearest of all groups that changed or lost theirs."""
    changed = _in_parts(this, JOIN_PAIRS, join_pairs, (table, blocks.folders), state["pairs"])
    before, first_new, new = blocks.folders, len(blocks.folders), changed.folders
    blocks = Blocks(blocks.folders + new, blocks.n_rows + changed.n_rows)
    compared: list[str] = []
    if state["orphans"] > FEW_ORPHANS:
        compared = _compare_all(this, blocks, COMPARE, (table, first_new, new, [], threshold), linked)
    lost = this.path("lost")
    n_lost = this.one(CHOOSE_ORPHANS, lost_orphans, table, compared, lost)
    orphans = _in_parts(this, GATHER, gather_orphans, (lost, table, before), n_lost).folders
    if not compared:
        compared = _compare_all(this, blocks, COMPARE, (table, first_new, new, orphans, threshold), linked)
    elif orphans:
        compared += _compare_all(this, blocks, COMPARE_ORPHANS, (table, first_new, [], orphans, threshold), linked)
    next_ = this.path("table")
    return blocks, next_, this.one(CHOOSE_PAIRS, next_table, table, new, first_new, compared, next_)


def _compare_all(this: Round, blocks: Blocks, stage: str, about: tuple[Any, ...], linked: Linked) -> list[str]:
    """Compare all blocks, some at a time; the folders of what was found. ``about`` is for :func:`compare`."""
    numbered = _pack([Block(str(i), n) for i, n in enumerate(blocks.n_rows)], this.plan.chunk_rows)
    where = "compared" if stage == COMPARE else "compared-orphans"
    compared = [this.path(where, str(i)) for i in range(len(numbered))]
    items = [
        (blocks.folders, [int(block.folder) for block in part], *about, url)
        for part, url in zip(numbered, compared, strict=True)
    ]
    linked.multiplied += sum(this.map(stage, compare, items))
    return compared


def _in_parts(this: Round, stage: str, function: Any, given: tuple[Any, ...], n: int) -> Blocks:
    """Run ``function`` on what is ``given`` and ranges of ``n`` things; the folders it wrote, and what it returned."""
    step = this.plan.chunk_rows
    ranges = [(begin, min(begin + step, n)) for begin in range(0, n, step)]
    folders = [this.path(function.__name__, str(i)) for i in range(len(ranges))]
    items = [(*given, begin, end, url) for (begin, end), url in zip(ranges, folders, strict=True)]
    return Blocks(folders, this.map(stage, function, items))


def refine_alone(groups: list[dict[str, Any]], threshold: float, plan: dict[str, Any], folder: str) -> dict[str, Any]:
    """Task: a whole refinement, in one process."""
    sizes, given = LinkagePlan(**plan).alone(), [Block(**block) for block in groups]
    with in_memory(folder, wanted=sizes.holds_in_memory(sum(block.n for block in given))) as write:
        blocks, last, joined, linked = refine(InPlace(), given, threshold, sizes, folder)
        table, *places = write([last, *joined, *blocks])
    n = len(joined)
    return {"blocks": places[n:], "table": table, "joined": places[:n], "linked": linked.to_json()}
