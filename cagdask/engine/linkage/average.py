"""The loop: order, search, merge, until nothing is left to join.

    active groups --pivots--> chunks --neighbors--> lists --merging--> merges, finished groups, active groups --> again

The active set falls four- to tenfold a round. Once it is small, one task does all that is left. The driver handles only
folders and counts; a :class:`Mapper` runs the tasks, on Dask or, within that last task, in place.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from cagdask import storage
from cagdask.engine.linkage import components, merging
from cagdask.engine.rows.files import Block
from cagdask.engine.search import approximate, chunks, kernels, neighbors, pivots

logger = logging.getLogger(__name__)


class Mapper(Protocol):
    """Runs a task function on every item; :class:`cagdask.compute.runner.Runner` is one."""

    def map(
        self, stage: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], *, done: str | None = None
    ) -> list[Any]:
        """Results in the order of the items."""


class InPlace:
    """Runs tasks one after the other where it is."""

    def map(
        self, stage: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], *, done: str | None = None
    ) -> list[Any]:
        """Results in the order of the items."""
        return [function(*item) for item in items]


COUNTED = (*kernels.COUNTS, "multiply_adds", "bytes_read")
"""What searches count, and what is added up over all rounds."""
LISTED_BYTES = 52
"""Bytes of a listed neighbor, as it is read and as it is linked in both directions."""
LISTED_AT_ONCE = 2**19
"""Neighbors that are listed in a round at least: few rows get long lists."""
SLOW = 0.25
"""Share of the groups that a round must join; after one that joins fewer, lists grow."""
GROWTH = 4
SMALL_BLOCK = 8_192
"""Rows up to which two blocks a thread, rather than four, share out the work: a task costs some 20 ms."""
SMALLEST_BLOCK = 256


def shared_rows(n: int, n_threads: int) -> int:
    """Rows of a block so that no thread idles for long at the end: four blocks for each, or two small ones.

    A little above that share: chunks, which are of whole lists, would be one more, and one thread be alone with it.
    """
    share = max(SMALLEST_BLOCK, -(-n // (4 * n_threads)), min(-(-n // (2 * n_threads)), SMALL_BLOCK))
    return share + share // 32


@dataclass(frozen=True)
class LinkagePlan:
    """Sizes of a run; they decide its cost, never its result.

    Attributes
    ----------
    chunk_rows
        Rows of a chunk, and of a block of groups.
    merge_rows
        Rows that one merging task may hold.
    training_bytes
        Bytes of the rows that pivots are trained on, at most.
    k
        Neighbors listed per row, at least; more once fewer rows are active.
    sizes
        Groups of samples in the coarse and in the fine sketch; None takes what costs least.
    small
        Groups below which one task finishes alone.
    row_bytes, merge_row_bytes
        Bytes that a row takes in a search without its list, and in merging with one of ``k``.
    probes
        Pivots whose lists are searched for a row; None searches all, exactly.
    n_threads
        Tasks that run at once: later rounds of average linkage, of fewer rows, are shared out among them again.
    """

    chunk_rows: int
    merge_rows: int
    training_bytes: int = 2**28
    k: int = 16
    sizes: tuple[int, int] | None = None
    small: int = 5_000
    row_bytes: int = 2_000
    merge_row_bytes: int = 2_000
    probes: int | None = None
    n_threads: int = 1

    def shared_out(self, n: int) -> LinkagePlan:
        """The plan for a round of ``n`` rows."""
        return replace(self, chunk_rows=min(self.chunk_rows, shared_rows(n, self.n_threads)))

    def with_lists_of(self, k: int) -> LinkagePlan:
        """The plan with fewer rows at once, as longer lists leave room for."""
        longer = LISTED_BYTES * max(0, k - self.k)
        searched, merged = self.row_bytes + LISTED_BYTES * self.k, self.merge_row_bytes
        return replace(
            self,
            chunk_rows=max(1, int(self.chunk_rows * searched / (searched + longer))),
            merge_rows=max(2, int(self.merge_rows * merged / (merged + longer))),
        )


@dataclass
class Linked:
    """What linkage found, as folders.

    Attributes
    ----------
    merges
        Folders with ``pair`` (n, 2) genes and ``height`` (n,), in an order in which parts come before wholes.
    finished
        Blocks of groups at the threshold.
    active
        Groups in each round.
    tested, bounded, checked, multiplied
        Pairs, see :data:`cagdask.engine.search.kernels.COUNTS`.
    multiply_adds, bytes_read
        By searches.
    recall
        Of an approximate search, measured in its first round.
    """

    merges: list[str] = field(default_factory=list)
    finished: list[Block] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    tested: int = 0
    bounded: int = 0
    checked: int = 0
    multiplied: int = 0
    multiply_adds: int = 0
    bytes_read: int = 0
    recall: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As a task returns it."""
        return asdict(self)

    def extend(self, other: dict[str, Any]) -> None:
        """Add what a later task found."""
        self.merges += other["merges"]
        self.finished += [Block(**block) for block in other["finished"]]
        self.active += other["active"]
        self.recall = other["recall"] if self.recall is None else self.recall
        self.count(other)

    def count(self, found: dict[str, Any]) -> None:
        """Add what a search counted."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + found[name])


@dataclass(frozen=True)
class Chunked:
    """Rows in pivot order.

    Attributes
    ----------
    folder
        Chunk ``i`` is ``folder/i``; ``folder/directory`` knows all of them.
    rows
        Rows of each chunk.
    pivots
        Folder of the pivots.
    level
        Similarity to search for.
    partners
        For each chunk those that it is to be compared with.
    """

    folder: str
    rows: list[int]
    pivots: str
    level: float
    partners: list[list[int]]

    @property
    def chunks(self) -> list[str]:
        """Folder of each chunk."""
        return _parts(self.folder, len(self.rows))

    @property
    def offsets(self) -> list[int]:
        """Position of the first row of each chunk, and the end."""
        return [0, *itertools.accumulate(self.rows)]


def _parts(folder: str, n: int) -> list[str]:
    return [storage.join(folder, str(i)) for i in range(n)]


def average_linkage(
    mapper: Mapper, blocks: list[Block], threshold: float, plan: LinkagePlan, folder: str, done: str | None = None
) -> Linked:
    """Join groups while the mean similarity of two is at least ``threshold``, the most similar first.

    Parameters
    ----------
    mapper
        Runs the tasks.
    blocks
        Unit profiles, as :func:`cagdask.engine.rows.profiles.write_profiles` writes them.
    threshold
        1 - max_dist.
    plan
        Sizes of the run.
    folder, done
        For the arrays, and for the answers of finished tasks.
    """
    linked = Linked()
    k, below = plan.k, 1.0 if plan.probes is None else 0.0
    while total := sum(block.n for block in blocks):
        turn = len(linked.active) + 1
        here = storage.join(folder, f"round-{turn}")
        if total <= plan.small and not isinstance(mapper, InPlace):
            items = [([asdict(b) for b in blocks], threshold, asdict(plan), here)]
            linked.extend(mapper.map(f"linkage {turn}: the last {total}", finish_alone, items, done=done)[0])
            return linked
        linked.active.append(total)
        k = max(1, min(total - 1, max(k, LISTED_AT_ONCE // total)))
        sized = plan.with_lists_of(k)
        if not isinstance(mapper, InPlace):
            sized = sized.shared_out(total)
        chunked = order_rows(mapper, blocks, threshold, sized, here, f"linkage {turn}: ", done, seed=turn, below=below)
        lists = search(mapper, chunked, k, here, f"linkage {turn}: search", linked, done, probes=plan.probes)
        below, is_last = chunked.level, chunked.level <= threshold
        name = f"linkage {turn}: "
        blocks, n_merges = _merge(mapper, chunked, lists, sized, here, name, linked, done, is_last=is_last)
        if is_last and n_merges < SLOW * total:
            k *= GROWTH
        for name in ("sorted", "chunks", "cut", "neighbors", "batches"):
            storage.remove(storage.join(here, name))
    return linked


def finish_alone(blocks: list[dict[str, Any]], threshold: float, plan: dict[str, Any], folder: str) -> dict[str, Any]:
    """Task: the rest of a linkage, in one process."""
    return average_linkage(
        InPlace(), [Block(**block) for block in blocks], threshold, LinkagePlan(**plan), folder
    ).to_json()


def order_rows(
    mapper: Mapper, blocks: list[Block], threshold: float, plan: LinkagePlan, folder: str, name: str,
    done: str | None, *, seed: int, below: float = 0.0,
) -> Chunked:  # fmt: skip
    """Rewrite the rows of blocks in pivot order, as chunks of whole lists.

    They are to be searched at ``threshold``, or at a level between it and ``below``, where that costs less.
    """
    here, in_order, rewritten = (storage.join(folder, part) for part in ("pivots", "sorted", "chunks"))
    as_json = [asdict(block) for block in blocks if block.n]
    total = sum(block.n for block in blocks)
    level = mapper.map(
        f"{name}pivots",
        pivots.train_pivots,
        [(as_json, total, plan.training_bytes, plan.sizes, threshold, below, seed, here)],
        done=done,
    )[0]
    sorted_blocks = _parts(in_order, len(as_json))
    items: list[tuple[Any, ...]] = [(block, here, url) for block, url in zip(as_json, sorted_blocks, strict=True)]
    mapper.map(f"{name}assign", chunks.assign_block, items, done=done)
    cut = storage.join(folder, "cut")
    rows = mapper.map(f"{name}cut", chunks.write_chunk_plan, [(sorted_blocks, plan.chunk_rows, cut)], done=done)[0]
    items = [(in_order, cut, i, here, url) for i, url in enumerate(_parts(rewritten, len(rows)))]
    mapper.map(f"{name}gather", chunks.gather_chunk, items, done=done)
    partners = mapper.map(f"{name}directory", chunks.write_directory, [(rewritten, rows, level)], done=done)[0]
    storage.remove(in_order)
    return Chunked(rewritten, rows, here, level, partners)


def search(
    mapper: Mapper, chunked: Chunked, k: int, folder: str, name: str, linked: Linked, done: str | None, *,
    groups: bool = False, probes: int | None = None,
) -> list[str]:  # fmt: skip
    """Lists of the k nearest of every row, one folder per chunk."""
    where = storage.join(folder, "neighbors")
    lists = _parts(where, len(chunked.rows))
    at, numbers, partners = chunked.folder, range(len(lists)), chunked.partners
    items: list[tuple[Any, ...]]
    if probes is None:
        items = [(at, i, chunked.level, k, groups, lists[i]) for i in numbers]
        found = mapper.map(f"{name} own", neighbors.search_own, items, done=done)
        items = [(at, i, partners[i], where, chunked.level, groups) for i in numbers]
        found += mapper.map(name, neighbors.search_others, items, done=done)
        sources = [[i for i in numbers if j in partners[i]] for j in numbers]
        items = [(at, i, where, sources[i], chunked.level) for i in numbers]
        mapper.map(f"{name} lists", neighbors.finish_lists, items, done=done)
    else:
        items = [(at, i, chunked.pivots, probes, chunked.level, k, groups, where) for i in numbers]
        found = mapper.map(name, approximate.search_approximate, items, done=done)
        if linked.recall is None and not groups:
            linked.recall = _recall(mapper, chunked, lists, k, folder, f"{name} recall", done)
    for part in found:
        linked.count(part)
    total = {name: sum(part[name] for part in found) for name in COUNTED}
    logger.info("%s at similarity %.4g of %d rows: %s", name, chunked.level, chunked.offsets[-1], total)
    return lists


def _recall(
    mapper: Mapper, chunked: Chunked, lists: list[str], k: int, folder: str, name: str, done: str | None
) -> float:
    """Share of the k nearest of some rows that are on their lists."""
    drawn, exact = storage.join(folder, "drawn"), _parts(storage.join(folder, "exact"), len(lists))
    mapper.map(f"{name} draw", approximate.draw_rows, [(chunked.folder, len(lists), drawn)], done=done)
    items = [(chunked.folder, i, drawn, chunked.pivots, chunked.level, k, url) for i, url in enumerate(exact)]
    mapper.map(f"{name} search", approximate.search_drawn, items, done=done)
    items_ = [(exact, drawn, lists, chunked.offsets, chunked.level)]
    n_found, n_true = mapper.map(f"{name} count", approximate.count_found, items_, done=done)[0]
    return n_found / n_true if n_true else 1.0


def _merge(
    mapper: Mapper, chunked: Chunked, lists: list[str], plan: LinkagePlan, folder: str, name: str, linked: Linked,
    done: str | None, *, is_last: bool,
) -> tuple[list[Block], int]:  # fmt: skip
    """Merge what the lists prove; the groups that go on, and the merges."""
    batches = storage.join(folder, "batches")
    total = chunked.offsets[-1]
    share = total if isinstance(mapper, InPlace) else max(2_000, total // 8)  # alone, nothing is to be shared out
    batch_rows = max(1, min(plan.merge_rows, share))
    is_exact = plan.probes is None
    made = mapper.map(
        f"{name}components",
        components.make_batches,
        [(lists, chunked.offsets, batch_rows, plan.merge_rows, batches)],
        done=done,
    )[0]
    merged = [storage.join(folder, "merged", str(i)) for i in range(len(made["batches"]))]
    counts = mapper.map(
        f"{name}merge",
        merging.merge_batch,
        [
            (
                storage.join(batches, str(i)),
                chunked.chunks,
                lists,
                chunked.offsets,
                chunked.level,
                is_last,
                is_exact,
                url,
            )
            for i, url in enumerate(merged)
        ],
        done=done,
    )
    linked.merges += [storage.join(url, "merges") for url, c in zip(merged, counts, strict=True) if c["merges"]]
    linked.finished += [
        Block(storage.join(url, "finished"), c["finished"])
        for url, c in zip(merged, counts, strict=True)
        if c["finished"]
    ]
    n_merges = sum(c["merges"] for c in counts)
    logger.debug("%s%d merges, largest component %d", name, n_merges, made["largest_component"])
    active = [
        Block(storage.join(url, "active"), c["active"]) for url, c in zip(merged, counts, strict=True) if c["active"]
    ]
    return active, n_merges
