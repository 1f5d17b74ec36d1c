"""One round of linkage or refinement: order the rows, and list the nearest of each.

    blocks of groups --pivots--> sorted blocks --gather--> chunks --search--> lists

Shared by average and single linkage and by refinement. The driver handles only folders and counts; a :class:`Mapper`
runs the tasks, on Dask or, within a task, in place.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from cagdask import storage
from cagdask.engine.rows.files import Block
from cagdask.engine.search import approximate, chunks, kernels, neighbors, pivots
from cagdask.engine.stage_names import (
    COUNT_FOUND,
    DRAW_ROWS,
    FIND_PIVOTS,
    GATHER_CHUNKS,
    LIST_CHUNKS,
    PLAN_CHUNKS,
    SEARCH,
    SEARCH_DRAWN,
    SEARCH_LISTS,
    SEARCH_OWN,
    SORT_BLOCKS,
)
from cagdask.storage.arrays import remove

logger = logging.getLogger(__name__)

# Stages of a round, as progress shows them after the number of the round


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
LISTED_AT_ONCE = 2**17
"""Neighbors that are listed in a round at least: few rows get long lists."""
LISTED_BYTES = 52
"""Bytes of a listed neighbor, as it is read and as it is linked in both directions."""
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

    def alone(self) -> LinkagePlan:
        """The plan for one task that shares nothing out: as few chunks as it has room for."""
        return replace(self, chunk_rows=max(self.chunk_rows, min(self.small, SMALL_BLOCK)))

    def holds_in_memory(self, n: int) -> bool:
        """Whether a task that finishes ``n`` groups alone has room for the files of its rounds, too.

        Those are their rows, twice, and their lists, three times.
        """
        lists = 3 * LISTED_BYTES // 2 * max(n * self.k, LISTED_AT_ONCE)
        return 2 * n * self.row_bytes + lists <= self.small * self.row_bytes

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
        Folders of :class:`cagdask.engine.linkage.merging.MergeFiles`, parts before wholes.
    finished
        Blocks of groups at the threshold.
    active
        Groups in each round.
    screened, tested, bounded, checked, multiplied
        Pairs, see :data:`cagdask.engine.search.kernels.COUNTS`.
    multiply_adds, bytes_read
        By searches.
    recall
        Of an approximate search, measured in its first round.
    """

    merges: list[str] = field(default_factory=list)
    finished: list[Block] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    screened: int = 0
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

    def count(self, counts: dict[str, Any]) -> None:
        """Add what a search counted."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + counts[name])


@dataclass(frozen=True)
class Chunked:
    """Rows in pivot order.

    Attributes
    ----------
    folder
        Chunk ``i`` is ``folder/i``; a directory beside them knows all of them.
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
        return parts_of(self.folder, len(self.rows))

    @property
    def offsets(self) -> list[int]:
        """Position of the first row of each chunk, and the end."""
        return [0, *itertools.accumulate(self.rows)]


def parts_of(folder: str, n: int) -> list[str]:
    """Folders ``folder/0``, ``folder/1``, ...; ``n`` of them."""
    return [storage.join(folder, str(i)) for i in range(n)]


@dataclass(frozen=True)
class Round:
    """Where one round runs, and what its stages and folders are called.

    Attributes
    ----------
    mapper
        Runs the tasks.
    plan
        Sizes of the round.
    folder, done
        For the arrays, and for saved results of finished tasks.
    name
        What stages begin with, as ``clustering round 2``.
    """

    mapper: Mapper
    plan: LinkagePlan
    folder: str
    done: str | None
    name: str

    def map(self, stage: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Results of a stage, in the order of the items."""
        return self.mapper.map(f"{self.name}: {stage}", function, items, done=self.done)

    def one(self, stage: str, function: Callable[..., Any], *item: Any) -> Any:
        """The result of a stage of one task."""
        return self.map(stage, function, [item])[0]

    def path(self, *parts: str) -> str:
        """A folder of the round."""
        return storage.join(self.folder, *parts)

    def remove(self, *parts: str) -> None:
        """Delete folders that nobody reads any more."""
        for part in parts:
            remove(self.path(part))


def order_rows(this: Round, blocks: list[Block], threshold: float, *, seed: int, below: float = 0.0) -> Chunked:
    """Rewrite the rows of blocks in pivot order, as chunks of whole lists.

    They are to be searched at ``threshold``, or at a level between it and ``below``, where that costs less.
    """
    plan, trained, in_order, rewritten = this.plan, this.path("pivots"), this.path("sorted"), this.path("chunks")
    as_json = [asdict(block) for block in blocks if block.n]
    total = sum(block.n for block in blocks)
    training = as_json, total, plan.training_bytes, plan.sizes, threshold, below, seed, trained
    level = this.one(FIND_PIVOTS, pivots.train_pivots, *training)
    sorted_blocks = parts_of(in_order, len(as_json))
    items: list[tuple[Any, ...]] = [(block, trained, url) for block, url in zip(as_json, sorted_blocks, strict=True)]
    this.map(SORT_BLOCKS, chunks.assign_block, items)
    cut = this.path("cut")
    rows = this.one(PLAN_CHUNKS, chunks.write_chunk_plan, sorted_blocks, plan.chunk_rows, cut)
    items = [(in_order, cut, i, trained, url) for i, url in enumerate(parts_of(rewritten, len(rows)))]
    this.map(GATHER_CHUNKS, chunks.gather_chunk, items)
    partners = this.one(LIST_CHUNKS, chunks.write_directory, rewritten, rows, level)
    this.remove("sorted")
    return Chunked(rewritten, rows, trained, level, partners)


def search(
    this: Round, chunked: Chunked, k: int, linked: Linked, *, groups: bool = False, probes: int | None = None
) -> list[str]:
    """Lists of the k nearest of every row, one folder per chunk; what was counted is added to ``linked``.

    With ``groups`` rows of one component are not listed for each other.
    """
    lists = parts_of(this.path("neighbors"), len(chunked.rows))
    if probes is None:
        counts = _search_exactly(this, chunked, k, groups)
    else:
        items = [
            (chunked.folder, i, chunked.pivots, probes, chunked.level, k, groups, this.path("neighbors"))
            for i in range(len(lists))
        ]
        counts = this.map(SEARCH, approximate.search_approximate, items)
        if linked.recall is None and not groups:
            linked.recall = _recall(this, chunked, lists, k)
    for part in counts:
        linked.count(part)
    total = {name: sum(part[name] for part in counts) for name in COUNTED}
    logger.info("%s: search at similarity %.4g of %d rows: %s", this.name, chunked.level, chunked.offsets[-1], total)
    return lists


def _search_exactly(this: Round, chunked: Chunked, k: int, groups: bool) -> list[dict[str, int]]:
    """Each pair of chunks that can have near rows is looked at once; what the tasks counted."""
    where, level, partners = this.path("neighbors"), chunked.level, chunked.partners
    numbers = range(len(partners))
    items: list[tuple[Any, ...]]
    items = [(chunked.folder, i, level, k, groups, storage.join(where, str(i))) for i in numbers]
    counts = this.map(SEARCH_OWN, neighbors.search_own, items)
    items = [(chunked.folder, i, partners[i], where, level, groups) for i in numbers]
    counts += this.map(SEARCH, neighbors.search_others, items)
    sources = [[i for i in numbers if j in partners[i]] for j in numbers]
    items = [(chunked.folder, i, where, sources[i], level) for i in numbers]
    this.map(SEARCH_LISTS, neighbors.finish_lists, items)
    return counts


def _recall(this: Round, chunked: Chunked, lists: list[str], k: int) -> float:
    """Share of the k nearest of some rows that are on their lists."""
    drawn, exact = this.path("drawn"), parts_of(this.path("exact"), len(lists))
    this.one(DRAW_ROWS, approximate.draw_rows, chunked.folder, len(lists), drawn)
    items = [(chunked.folder, i, drawn, chunked.pivots, chunked.level, k, url) for i, url in enumerate(exact)]
    this.map(SEARCH_DRAWN, approximate.search_drawn, items)
    n_found, n_true = this.one(
        COUNT_FOUND, approximate.count_found, exact, drawn, lists, chunked.offsets, chunked.level
    )
    return float(n_found / n_true) if n_true else 1.0
