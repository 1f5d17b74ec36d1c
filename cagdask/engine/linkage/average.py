"""Average linkage: order, search, merge, until nothing is left to join.

    active groups --pivots--> chunks --neighbors--> lists --merging--> merges, finished groups, active groups --> again

The active set falls four- to tenfold a round. Once it is small, one task does all that is left.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Any

from cagdask import storage
from cagdask.engine.linkage import components, merging
from cagdask.engine.linkage.rounds import (
    LISTED_AT_ONCE,
    Chunked,
    InPlace,
    LinkagePlan,
    Linked,
    Mapper,
    Round,
    order_rows,
    search,
)
from cagdask.engine.rows.files import Block
from cagdask.engine.stage_names import FIND_COMPONENTS, MERGE, last_stage, linkage_round
from cagdask.storage.arrays import in_memory, remove

logger = logging.getLogger(__name__)

SLOW = 0.25
"""Share of the groups that a round must join; after one that joins fewer, lists grow."""
GROWTH = 4


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
        For the arrays, and for saved results of finished tasks.
    """
    linked = Linked()
    is_alone = isinstance(mapper, InPlace)
    k, below = plan.k, 1.0 if plan.probes is None else 0.0
    while total := sum(block.n for block in blocks):
        turn = len(linked.active) + 1
        this = Round(mapper, plan, storage.join(folder, f"round-{turn}"), done, linkage_round(turn))
        if total <= plan.small and not is_alone:
            item = [asdict(block) for block in blocks], threshold, asdict(plan), this.folder
            linked.extend(this.one(last_stage(total), finish_alone, *item))
            return linked
        linked.active.append(total)
        k = max(1, min(total - 1, max(k, LISTED_AT_ONCE // total)))
        sized = plan.with_lists_of(k)
        this = replace(this, plan=sized if is_alone else sized.shared_out(total))
        chunked = order_rows(this, blocks, threshold, seed=turn, below=below)
        lists = search(this, chunked, k, linked, probes=plan.probes)
        below, is_last = chunked.level, chunked.level <= threshold
        before = blocks
        blocks, n_merges = _merge(this, chunked, lists, linked, is_last=is_last)
        for block in before if is_alone and turn > 1 else ():  # the first are profiles, which others read
            remove(block.folder)
        if is_last and n_merges < SLOW * total:  # what is left has many near neighbors: longer lists prove more
            k *= GROWTH
        if is_last and not n_merges:  # equal similarities in a component that was cut: no part of it proves anything
            plan = replace(plan, merge_rows=2 * plan.merge_rows)
        this.remove("sorted", "chunks", "cut", "neighbors", "batches")
    return linked


def finish_alone(blocks: list[dict[str, Any]], threshold: float, plan: dict[str, Any], folder: str) -> dict[str, Any]:
    """Task: the rest of a linkage, in one process."""
    sizes, given = LinkagePlan(**plan).alone(), [Block(**block) for block in blocks]
    with in_memory(folder, wanted=sizes.holds_in_memory(sum(block.n for block in given))) as write:
        linked = average_linkage(InPlace(), given, threshold, sizes, folder)
        n_merges = len(linked.merges)
        places = write([*linked.merges, *(block.folder for block in linked.finished)])
        linked.merges = places[:n_merges]
        linked.finished = [
            replace(block, folder=to) for block, to in zip(linked.finished, places[n_merges:], strict=True)
        ]
    return linked.to_json()


def _merge(
    this: Round, chunked: Chunked, lists: list[str], linked: Linked, *, is_last: bool
) -> tuple[list[Block], int]:
    """Merge what the lists prove; the groups that are searched again, and the number of merges."""
    plan, offsets, total = this.plan, chunked.offsets, chunked.offsets[-1]
    share = total if isinstance(this.mapper, InPlace) else max(2_000, total // 8)  # alone, nothing is to be shared out
    batch_rows = max(1, min(plan.merge_rows, share))
    batches = this.path("batches")
    packed = this.one(FIND_COMPONENTS, components.make_batches, lists, offsets, batch_rows, plan.merge_rows, batches)
    merged = [this.path("merged", str(i)) for i in range(len(packed["batches"]))]
    items = [
        (storage.join(batches, str(i)), chunked.chunks, lists, offsets, chunked.level, is_last, plan.probes is None, to)
        for i, to in enumerate(merged)
    ]
    counts = list(zip(merged, this.map(MERGE, merging.merge_batch, items), strict=True))
    linked.merges += [storage.join(url, "merges") for url, n in counts if n["merges"]]
    linked.finished += [Block(storage.join(url, "finished"), n["finished"]) for url, n in counts if n["finished"]]
    n_merges = sum(n["merges"] for _, n in counts)
    logger.debug("%s: %d merges, largest component %d", this.name, n_merges, packed["largest_component"])
    return [Block(storage.join(url, "active"), n["active"]) for url, n in counts if n["active"]], n_merges
