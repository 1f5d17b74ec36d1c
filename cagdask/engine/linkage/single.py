"""Single linkage with the same certified lists: the minimum spanning forest of the pairs within ``max_dist``.

Of all links that leave a component the strongest is always in the forest. So, as in Borůvka's method, components join
along links that are known to be their strongest:

    rows with unlisted links --search, own component left out--> links --Kruskal, as far as proven--> components

A row whose list was not full has no other link; only rows with full lists are searched again, against each other. Every
component that has a link joins another one in each round, so their number at least halves.

Links of all lists are joined in one task: 24 · k bytes per gene.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.engine.grid import STEP
from cagdask.engine.linkage.components import root_of, roots_of
from cagdask.engine.linkage.merging import MergeFiles
from cagdask.engine.linkage.rounds import LinkagePlan, Linked, Mapper, Round, order_rows, search
from cagdask.engine.rows.files import Block, GroupFiles, smaller_form, take_rows
from cagdask.engine.search.neighbors import ComponentFiles, ListFiles, components_of
from cagdask.engine.stage_names import JOIN, MARK_JOINED, TAKE_OPEN, linkage_round
from cagdask.storage.arrays import array

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

K = 8
"""Stages of a round, beside those of ordering and searching."""
_NO_BOUND = -2.0


class LinkFiles(MergeFiles):
    """Components after a round, and what is left to join.

    Written by :func:`join_components`; read by the next one, by :func:`write_components`, and for its merges like any
    :class:`MergeFiles`.
    """

    component: Int64 = array(np.int64, "gene", "smallest gene of the component of each gene")
    ends: Int64 = array(np.int64, "link, 2", "genes of a link that is not proven yet, the smaller first")
    sim: Float64 = array(np.float64, "link", "similarity of the two")


@njit(cache=True, nogil=True)
def join_links(ends: Any, sim: Any, parent: Any, bound: Any) -> Any:
    """Kruskal's method as far as it is proven.

    Parameters
    ----------
    ends, sim
        Links (n, 2) int64 between rows and their similarities, strongest first.
    parent
        Component of every row, (n_rows,) int64; in place.
    bound
        Of every component, the similarity that no unlisted link of it exceeds, (n_rows,) float64; in place.

    Returns
    -------
    taken
        1 for links that join, 0 for those inside a component by now, 2 for those to keep for the next round.
    """
    taken = np.zeros(len(ends), np.int8)
    seen = np.zeros(len(parent), np.bool_)
    for i in range(len(ends)):
        a, b = root_of(parent, ends[i, 0]), root_of(parent, ends[i, 1])
        if a == b:
            continue
        if seen[a] and seen[b] and sim[i] <= bound[a] and sim[i] <= bound[b]:
            taken[i] = 2
            continue
        taken[i] = 1
        low, high = min(a, b), max(a, b)
        parent[high] = low
        bound[low] = max(bound[a], bound[b])
        seen[low] = True
    return taken


def join_components(
    lists: list[str], before: str | None, n_genes: int, threshold: float, folder: str
) -> dict[str, int]:
    """Task: join components along the links that a round of searches listed.

    Writes a :class:`LinkFiles`. ``before`` is the folder of the round before.
    """
    files = list(ListFiles.open_all(lists))
    gene, row = np.concatenate([part.gene for part in files]), np.concatenate([part.row for part in files])
    similarity, limit = np.concatenate([part.sim for part in files]), np.concatenate([part.bound for part in files])
    del files
    listed = row >= 0
    ends = np.column_stack([np.repeat(gene, listed.sum(axis=1)), gene[row[listed]]])
    ends.sort(axis=1)
    sim = similarity[listed]
    parent = np.arange(n_genes)
    if before is not None:
        earlier = LinkFiles.open(before)
        parent = np.array(earlier.component)
        ends, sim = np.concatenate([ends, earlier.ends]), np.concatenate([sim, earlier.sim])
    order = np.lexsort((ends[:, 1], ends[:, 0], -sim))
    ends, sim = ends[order], sim[order]
    new = np.ones(len(ends), bool)
    new[1:] = (ends[1:] != ends[:-1]).any(axis=1)
    ends, sim = ends[new], sim[new]
    bound = np.full(n_genes, _NO_BOUND)
    full = limit >= threshold
    np.maximum.at(bound, parent[gene[full]], limit[full])
    taken = join_links(ends, sim, parent, bound)
    component = roots_of(parent)
    keep = (taken == 2) & (component[ends[:, 0]] != component[ends[:, 1]])
    LinkFiles(
        component=component,
        ends=ends[keep],
        sim=sim[keep],
        pair=ends[taken == 1],
        height=np.rint((1 - sim[taken == 1]) * STEP) / STEP,
    ).write(folder)
    return {"merges": int((taken == 1).sum()), "kept": int(keep.sum())}


def take_open_rows(chunk: str, lists: str, threshold: float, folder: str) -> int:
    """Task: the rows of a chunk whose lists were full, and may have unlisted links, as a block for the next round."""
    full = ListFiles.open(lists).bound >= threshold
    rows, groups = smaller_form(take_rows(chunk, np.flatnonzero(full)))._asdict(), GroupFiles.open(chunk)
    GroupFiles(**rows, gene=groups.gene[full], size=groups.size[full]).write(folder)
    return int(full.sum())


def write_components(chunk: str, joined: str) -> int:
    """Task: the component of each row of a chunk, after the round that ``joined`` holds."""
    component = LinkFiles.open(joined).component[GroupFiles.open(chunk).gene]
    ComponentFiles(component=component).write(components_of(chunk))
    return len(component)


def single_linkage(
    mapper: Mapper, blocks: list[Block], n_genes: int, threshold: float, plan: LinkagePlan, folder: str,
    done: str | None = None,
) -> Linked:  # fmt: skip
    """Join groups while two of their members have a similarity of at least ``threshold``, the most similar first.

    Parameters and result as for :func:`cagdask.engine.linkage.average.average_linkage`; merges name a gene of either
    group, and no finished blocks are written.
    """
    linked = Linked()
    before: str | None = None
    while total := sum(block.n for block in blocks):
        linked.active.append(total)
        turn = len(linked.active)
        this = Round(mapper, plan, storage.join(folder, f"round-{turn}"), done, linkage_round(turn))
        chunked = order_rows(this, blocks, threshold, seed=turn)
        if before is not None:
            this.map(MARK_JOINED, write_components, [(url, before) for url in chunked.chunks])
        lists = search(this, chunked, K, linked, groups=before is not None, probes=plan.probes)
        joined = this.path("joined")
        this.one(JOIN, join_components, lists, before, n_genes, threshold, joined)
        linked.merges.append(joined)
        active = [this.path("active", str(i)) for i in range(len(lists))]
        items = [(c, n, threshold, url) for c, n, url in zip(chunked.chunks, lists, active, strict=True)]
        counts = this.map(TAKE_OPEN, take_open_rows, items)
        blocks = [Block(url, n) for url, n in zip(active, counts, strict=True) if n]
        before = joined
        this.remove("chunks", "neighbors")
    return linked
