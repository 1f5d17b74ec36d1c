"""Small groups put to the larger group that they are nearest to, once, after the rounds of joining.

    small groups x larger groups --cosine--> best and second best --rule--> pairs --> larger groups with new members

The rule is in :mod:`cagdask.engine.linkage.noise_correction`. A task holds a chunk of groups and a few rows of others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.compute.memory import one_thread
from cagdask.engine.grid import STEP
from cagdask.engine.linkage.noise_correction import (
    ATTACHED,
    ATTACHED_LEAST,
    SMALL,
    Groups,
    bounds_of,
    inner_similarity,
)
from cagdask.engine.linkage.refinement import ROWS_AT_ONCE, _in_parts, _lengths, _pack, _rows_of, _sizes
from cagdask.engine.linkage.refinement_table import NONE, DirectionFiles, TableFiles, next_table
from cagdask.engine.linkage.rounds import LinkagePlan, Mapper, Round
from cagdask.engine.rows.files import Block, load_rows, product, rounded, smaller_form, take_rows
from cagdask.engine.search.kernels import PRODUCT_MARGIN
from cagdask.engine.stage_names import ATTACH, CHOOSE_PAIRS, COMPARE, JOIN_PAIRS
from cagdask.storage.arrays import Files, array

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class AttachedFiles(Files):
    """Small groups of a task's blocks that join a larger one. Written by :func:`attach`."""

    small: Int64 = array(np.int64, "attached", "gene of the small group")
    large: Int64 = array(np.int64, "attached", "gene of the larger group that it joins")


class _Two(NamedTuple):
    """Of each small group the two largest cosines to larger ones; the nearest's gene, mean similarity to it, its c."""

    best: Float64
    second: Float64
    large: Int64
    mean: Float64
    inner: Float64


def write_pairs(folder: str, gene: Int64, block: Int64, row: Int64, keep: Int64, leave: Int64) -> None:
    """A table in which pairs join and no group has a nearest one."""
    none = np.full(len(gene), NONE)
    TableFiles(
        gene=gene, near=none, sim=np.full(len(gene), -2.0), block=block, row=row, keep=keep, leave=leave,
        orphan=np.empty(0, np.int64),
    ).write(folder)  # fmt: skip


def living_groups(groups: list[str], numbers: list[int], first_new: int, table: str, larger_than: int = 0) -> Groups:
    """Groups that live in these blocks; those that pairs joined live in the blocks from ``first_new`` on."""
    files = TableFiles.open(table)
    moved = np.concatenate([files.keep, files.leave])
    parts = []
    for number in numbers:
        block = DirectionFiles.open(groups[number])
        lives = block.size > larger_than
        if number < first_new:
            lives &= np.isin(block.gene, files.gene[files.block == number]) & ~np.isin(block.gene, moved)
        at = np.flatnonzero(lives)
        rows = load_rows(groups[number]) if len(at) == len(lives) else take_rows(groups[number], at)
        parts.append((rows, block.gene[at], block.size[at], block.mean_length[at]))
    return Groups(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def attach(groups: list[str], numbers: list[int], table: str, folder: str) -> int:
    """Task: the small groups of some blocks that belong to a larger group; writes an :class:`AttachedFiles`."""
    small = living_groups(groups, numbers, len(groups), table)
    small = small.take(small.size <= SMALL)
    rows32 = small.rows.astype(np.float32)
    n = len(small.gene)
    found = _Two(np.full(n, -2.0), np.zeros(n), np.full(n, NONE), np.zeros(n), np.ones(n))
    for number in range(len(groups)) if n else ():
        some = living_groups(groups, [number], len(groups), table, larger_than=SMALL)
        c, some32 = inner_similarity(some.size, some.length), some.rows.astype(np.float32)
        for begin in range(0, len(some.gene), ROWS_AT_ONCE):
            with one_thread():
                products = rows32 @ some32[begin : begin + ROWS_AT_ONCE].T
            _keep_two(products, begin, small, some, c, found)
    rho = np.where(found.inner > 0, found.mean / np.where(found.inner > 0, found.inner, 1.0), 0.0)
    at_most = bounds_of(rows32.shape[1]).second * found.best
    grid = [np.rint(values * STEP) / STEP for values in (rho, found.mean, at_most)]
    joins = (found.large < NONE) & (grid[0] >= ATTACHED) & (grid[1] >= ATTACHED_LEAST) & (found.second <= grid[2])
    AttachedFiles(small=small.gene[joins], large=found.large[joins]).write(folder)
    return int(joins.sum())


@njit(cache=True, nogil=True)
def _keep_two(products: NDArray[np.float32], begin: int, small: Groups, some: Groups, c: Float64, found: _Two) -> None:
    """Keep what is found for each small group; products tell where to look.

    ``products`` are those of all small groups with the larger ones from ``begin`` on, in float32, ``c`` the similarity
    of two genes of each larger group.
    """
    best, second, large = found.best, found.second, found.large
    for i in range(len(products)):
        need = np.float32(second[i]) - PRODUCT_MARGIN
        for z in range(products.shape[1]):
            if products[i, z] < need:
                continue
            k = begin + z
            cosine = rounded(product(small.rows[i], some.rows[k]))
            if cosine < best[i] or (cosine == best[i] and some.gene[k] > large[i]):
                second[i] = max(second[i], cosine)
            else:
                second[i] = max(second[i], best[i])
                best[i], large[i], found.inner[i] = cosine, some.gene[k], c[k]
                found.mean[i] = cosine * small.length[i] * some.length[k]
            need = np.float32(second[i]) - PRODUCT_MARGIN


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
    write_pairs(folder, table.gene, table.block, table.row, keep[order], leave[order])
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


def block_numbers(n_rows: list[int], plan: LinkagePlan) -> list[list[int]]:
    """Numbers of the blocks, packed so that each list of blocks is at most a chunk."""
    packed = _pack([Block(str(i), n) for i, n in enumerate(n_rows)], plan.chunk_rows)
    return [[int(block.folder) for block in part] for part in packed]


def attach_all(
    mapper: Mapper, blocks: list[str], n_rows: list[int], table: str, plan: LinkagePlan, folder: str, done: str | None
) -> tuple[list[str], str, list[str]]:
    """Join small groups to larger ones; the blocks, the last table, and the table that joined any."""
    here = storage.join(folder, "attach")
    items = [
        (blocks, numbers, table, storage.join(here, "found", str(i)))
        for i, numbers in enumerate(block_numbers(n_rows, plan))
    ]
    if not sum(mapper.map(f"{ATTACH}: {COMPARE}", attach, items, done=done)):
        return blocks, table, []
    pairs = storage.join(here, "pairs")
    found = mapper.map(
        f"{ATTACH}: {CHOOSE_PAIRS}", attached_table, [(table, [item[-1] for item in items], pairs)], done=done
    )[0]
    this = Round(mapper, plan, here, done, ATTACH)
    new = _in_parts(this, JOIN_PAIRS, join_attached, (pairs, blocks), found["groups"]).folders
    last = this.path("table")
    this.one("write table", next_table, pairs, new, len(blocks), [], last)
    return blocks + new, last, [pairs]
