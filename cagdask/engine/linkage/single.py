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
from numba import njit
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.linkage import average
from cagdask.engine.linkage.average import LinkagePlan, Linked, Mapper
from cagdask.engine.linkage.merging import flat, root_of
from cagdask.engine.rows.files import STEP, Block, save_rows, take_rows
from cagdask.storage import arrays

Int64 = NDArray[np.int64]

K = 8
_NO_BOUND = -2.0


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

    Writes ``component`` (n_genes,) int64, links to keep as ``ends`` and ``sim``, and the merges ``pair`` and
    ``height``. ``before`` is the folder of the round before.
    """
    gene = arrays.concatenate(lists, "gene")
    row, similarity, limit = (arrays.concatenate(lists, name) for name in ("row", "sim", "bound"))
    listed = row >= 0
    ends = np.column_stack([np.repeat(gene, listed.sum(axis=1)), gene[row[listed]]])
    ends.sort(axis=1)
    sim = similarity[listed]
    parent = np.arange(n_genes)
    if before is not None:
        parent = np.array(arrays.load(before, "component"))
        ends = np.concatenate([ends, arrays.load(before, "ends")])
        sim = np.concatenate([sim, arrays.load(before, "sim")])
    order = np.lexsort((ends[:, 1], ends[:, 0], -sim))
    ends, sim = ends[order], sim[order]
    new = np.ones(len(ends), bool)
    new[1:] = (ends[1:] != ends[:-1]).any(axis=1)
    ends, sim = ends[new], sim[new]
    bound = np.full(n_genes, _NO_BOUND)
    full = limit >= threshold
    np.maximum.at(bound, parent[gene[full]], limit[full])
    taken = join_links(ends, sim, parent, bound)
    component = flat(parent)
    keep = (taken == 2) & (component[ends[:, 0]] != component[ends[:, 1]])
    arrays.save(
        folder,
        component=component,
        ends=ends[keep],
        sim=sim[keep],
        pair=ends[taken == 1],
        height=np.rint((1 - sim[taken == 1]) * STEP) / STEP,
    )
    return {"merges": int((taken == 1).sum()), "kept": int(keep.sum())}


def go_on(chunk: str, lists: str, threshold: float, folder: str) -> int:
    """Task: the rows of a chunk whose lists were full, as a block."""
    full = arrays.load(lists, "bound") >= threshold
    save_rows(folder, take_rows(chunk, np.flatnonzero(full)))
    arrays.save(folder, **{name: arrays.load(chunk, name)[full] for name in ("gene", "size")})
    return int(full.sum())


def write_groups(chunk: str, components: str) -> int:
    """Task: the component of each row of a chunk, as ``group``."""
    gene = arrays.load(chunk, "gene")
    arrays.save(chunk, group=arrays.load(components, "component")[gene])
    return len(gene)


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
        here = storage.join(folder, f"round-{turn}")
        name = f"linkage {turn}: "
        chunked = average.order_rows(mapper, blocks, threshold, plan, here, name, done, seed=turn)
        if before is not None:
            mapper.map(f"{name}groups", write_groups, [(url, before) for url in chunked.chunks], done=done)
        again = before is not None
        lists = average.search(
            mapper, chunked, K, here, f"{name}search", linked, done, groups=again, probes=plan.probes
        )
        joined = storage.join(here, "joined")
        mapper.map(f"{name}join", join_components, [(lists, before, n_genes, threshold, joined)], done=done)
        linked.merges.append(joined)
        active = [storage.join(here, "active", str(i)) for i in range(len(lists))]
        items = [(c, n, threshold, url) for c, n, url in zip(chunked.chunks, lists, active, strict=True)]
        counts = mapper.map(f"{name}go on", go_on, items, done=done)
        blocks = [Block(url, n) for url, n in zip(active, counts, strict=True) if n]
        before = joined
        for part in ("chunks", "neighbors"):
            storage.remove(storage.join(here, part))
    return linked
