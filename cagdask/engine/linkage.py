"""The loop: order, search, merge, until nothing is left to join.

    active groups --pivots--> chunks --neighbors--> lists --merging--> merges, finished groups, active groups --> again

The active set falls four- to tenfold a round. Once it is small, one task does all that is left. The driver handles only
folders and counts; a :class:`Mapper` runs the tasks, on Dask or, within that last task, in place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from cagdask import storage
from cagdask.engine import merging, neighbors, pivots
from cagdask.engine.pivots import Block

logger = logging.getLogger(__name__)


class Mapper(Protocol):
    """Runs a task function on every item; :class:`cagdask.client.Runner` is one."""

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


@dataclass(frozen=True)
class LinkagePlan:
    """Sizes of a run; they decide its cost, never its result.

    Attributes
    ----------
    chunk_rows
        Rows of a chunk, and of a block of groups.
    merge_rows
        Rows that one merging task may hold.
    training_rows
        Rows that pivots are trained on, at most.
    k
        Neighbors listed per row, at least; more once fewer rows are active.
    n_lead
        Leading directions in the first bound.
    small
        Groups below which one task finishes alone.
    """

    chunk_rows: int
    merge_rows: int
    training_rows: int = 200_000
    k: int = 16
    n_lead: int = 64
    small: int = 5_000


MAX_K = 256
LISTED_AT_ONCE = 2**19


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
    """

    merges: list[str] = field(default_factory=list)
    finished: list[Block] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    n_bounded: int = 0
    n_full: int = 0
    bytes_read: int = 0

    def to_json(self) -> dict[str, Any]:
        """As a task returns it."""
        return asdict(self)

    def extend(self, other: dict[str, Any]) -> None:
        """Add what a later task found."""
        self.merges += other["merges"]
        self.finished += [Block(**block) for block in other["finished"]]
        self.active += other["active"]
        self.n_bounded += other["n_bounded"]
        self.n_full += other["n_full"]
        self.bytes_read += other["bytes_read"]


@dataclass(frozen=True)
class Chunked:
    """Rows in pivot order: chunk folders, positions of their first rows (and the end), and the pivots' folder."""

    chunks: list[str]
    offsets: list[int]
    pivots: str


def average_linkage(
    mapper: Mapper, blocks: list[Block], threshold: float, plan: LinkagePlan, folder: str, done: str | None = None
) -> Linked:
    """Join groups while the mean similarity of two is at least ``threshold``, the most similar first.

    Parameters
    ----------
    mapper
        Runs the tasks.
    blocks
        Unit profiles, as :func:`cagdask.engine.profiles.write_profiles` writes them.
    threshold
        1 - max_dist.
    plan
        Sizes of the run.
    folder, done
        For the arrays, and for the answers of finished tasks.
    """
    linked = Linked()
    while total := sum(block.n for block in blocks):
        turn = len(linked.active) + 1
        here = storage.join(folder, f"round-{turn}")
        if total <= plan.small and not isinstance(mapper, InPlace):
            items = [([asdict(b) for b in blocks], threshold, asdict(plan), here)]
            linked.extend(mapper.map(f"linkage {turn}: the last {total}", finish_alone, items, done=done)[0])
            return linked
        linked.active.append(total)
        k = int(np.clip(LISTED_AT_ONCE // total, plan.k, max(plan.k, MAX_K)))
        chunked = order_rows(mapper, blocks, threshold, plan, here, f"linkage {turn}: ", done, seed=turn)
        lists = search(mapper, chunked, threshold, k, here, f"linkage {turn}: search", linked, done)
        blocks = _merge(mapper, chunked, lists, threshold, plan, here, f"linkage {turn}: ", linked, done)
        for name in ("sorted", "chunks", "neighbors", "batches"):
            storage.remove(storage.join(here, name))
    return linked


def finish_alone(blocks: list[dict[str, Any]], threshold: float, plan: dict[str, Any], folder: str) -> dict[str, Any]:
    """Task: the rest of a linkage, in one process."""
    return average_linkage(
        InPlace(), [Block(**block) for block in blocks], threshold, LinkagePlan(**plan), folder
    ).to_json()


def order_rows(
    mapper: Mapper, blocks: list[Block], threshold: float, plan: LinkagePlan, folder: str, name: str,
    done: str | None, *, seed: int,
) -> Chunked:  # fmt: skip
    """Rewrite the rows of blocks in pivot order, as chunks of whole lists."""
    here = storage.join(folder, "pivots")
    as_json = [asdict(block) for block in blocks if block.n]
    total = sum(block.n for block in blocks)
    n_pivots = mapper.map(
        f"{name}pivots",
        pivots.train_pivots,
        [(as_json, total, plan.training_rows, plan.n_lead, threshold, seed, here)],
        done=done,
    )[0]
    in_order = [storage.join(folder, "sorted", str(i)) for i in range(len(as_json))]
    counts = mapper.map(
        f"{name}assign",
        pivots.assign_block,
        [(block, here, url) for block, url in zip(as_json, in_order, strict=True)],
        done=done,
    )
    planned = pivots.plan_chunks(np.array(counts, np.int64).reshape(-1, n_pivots), plan.chunk_rows)
    chunks = [storage.join(folder, "chunks", str(i)) for i in range(len(planned))]
    slices = [[(in_order[b], begin, end) for b, begin, end in part] for part in planned]
    rows = mapper.map(
        f"{name}gather",
        pivots.gather_chunk,
        [(part, here, url) for part, url in zip(slices, chunks, strict=True)],
        done=done,
    )
    storage.remove(storage.join(folder, "sorted"))
    return Chunked(chunks, [0, *np.cumsum([r["n"] for r in rows]).tolist()], here)


def search(
    mapper: Mapper, chunked: Chunked, threshold: float, k: int, folder: str, name: str, linked: Linked,
    done: str | None, *, groups: bool = False,
) -> list[str]:  # fmt: skip
    """Lists of the k nearest of every row, one folder per chunk."""
    directory = storage.join(folder, "directory")
    mapper.map(f"{name} plan", pivots.write_directory, [(chunked.chunks, directory)], done=done)
    lists = [storage.join(folder, "neighbors", str(i)) for i in range(len(chunked.chunks))]
    found = mapper.map(
        name,
        neighbors.search_chunk,
        [
            (chunked.chunks, chunked.offsets, i, chunked.pivots, directory, threshold, k, groups, url)
            for i, url in enumerate(lists)
        ],
        done=done,
    )
    linked.n_bounded += sum(part["n_bounded"] for part in found)
    linked.n_full += sum(part["n_full"] for part in found)
    linked.bytes_read += sum(part["bytes_read"] for part in found)
    return lists


def _merge(
    mapper: Mapper, chunked: Chunked, lists: list[str], threshold: float, plan: LinkagePlan, folder: str, name: str,
    linked: Linked, done: str | None,
) -> list[Block]:  # fmt: skip
    """Merge what the lists prove; the groups that go on."""
    batches = storage.join(folder, "batches")
    total = chunked.offsets[-1]
    batch_rows = max(1, min(plan.merge_rows, max(2_000, total // 8)))
    made = mapper.map(
        f"{name}components",
        merging.make_batches,
        [(lists, chunked.offsets, batch_rows, plan.merge_rows, batches)],
        done=done,
    )[0]
    merged = [storage.join(folder, "merged", str(i)) for i in range(len(made["batches"]))]
    counts = mapper.map(
        f"{name}merge",
        merging.merge_batch,
        [
            (storage.join(batches, str(i)), chunked.chunks, lists, chunked.offsets, threshold, url)
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
    logger.debug("%s%d merges, largest component %d", name, sum(c["merges"] for c in counts), made["largest_component"])
    return [
        Block(storage.join(url, "active"), c["active"]) for url, c in zip(merged, counts, strict=True) if c["active"]
    ]
