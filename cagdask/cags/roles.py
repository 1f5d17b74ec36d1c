"""Roles of genes: core, accessory, shared, alone; and the abundance of CAGs from their core genes.

    CAGs --marker genes--> a profile per CAG --relations--> modules and groups of shared genes among CAGs
                                             --judge-----> role of each gene
                                                             --core genes--> robust abundance of each CAG

``core``: present wherever the CAG is. ``accessory``: present in a part of the CAG's samples, and proportional to it
there. ``shared``: the sum of two CAGs explains it, and one does not. ``alone``: in no CAG of three genes or more, and
explained by none. See :mod:`cagdask.cags.role_choice` for what "explains" means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import storage
from cagdask.cags import core_abundance, role_relations, role_tasks
from cagdask.cags.role_choice import ACCESSORY, CORE, ROLES, SHARED
from cagdask.cags.role_search import at_once
from cagdask.cags.role_tasks import RoleFiles
from cagdask.engine.plan.task_memory import RELATED_AT_ONCE, RELATED_BYTES, most_markers
from cagdask.engine.stage_names import JUDGE_GENES, PROFILE_CAGS, RELATE_CAGS, WRITE_CORE

if TYPE_CHECKING:
    from cagdask.cags.stages import Clustering

NOT_LINEAR = ("clr", "hellinger", "quantile")
"""Normalizations after which abundances do not add up."""
GENE_CHUNK = 65_536
"""Genes per chunk of a result store, whatever the plan: the same result is the same bytes."""


def can_tell(store: str) -> bool:
    """Whether a store holds abundances that add up, so that roles have a meaning."""
    attrs = storage.look(store).attrs
    return attrs.get("kind", "abundance") == "abundance" and attrs.get("normalization", "none") not in NOT_LINEAR


def add_roles(job: Clustering, labels: str, n_cags: int) -> None:
    """Add roles and core abundances to a result store in the making, whose other variables are all there.

    Where abundances do not add up (log ratios, expression) there are no roles, and all genes of a CAG are its core.

    Parameters
    ----------
    job
        The clustering, with its measures made.
    labels
        Folder of the :class:`cagdask.cags.results.CagFiles`.
    n_cags
        CAGs of the result.
    """
    gathered = _gather(job, labels)
    roles = _judge(job, labels, n_cags, gathered) if can_tell(job.store) else []
    _create(job, n_cags, with_roles=bool(roles))
    if roles:
        of_genes = [(b, min(b + GENE_CHUNK, job.n_genes)) for b in range(0, job.n_genes, GENE_CHUNK)]
        job.runner.map("write roles", write_roles, [(job.staged, roles, job.ranges, b, e) for b, e in of_genes])
        job.runner.one("write modules", write_parents, job.staged, labels, roles)
    job.runner.map(
        WRITE_CORE,
        core_abundance.write_core_abundance,
        [
            (job.staged, gathered, roles, job.plan.block_rows, job.recipe(), b, e, _most(job))
            for b, e in ranges_of_cags(job, n_cags)
        ],
    )


def _gather(job: Clustering, labels: str) -> list[str]:
    """Folders of the rows of the marker genes, by block."""
    markers, measured = job.path("roles", "markers"), [job.path("measured", str(i)) for i in range(len(job.ranges))]
    job.runner.one("choose marker genes", role_tasks.choose_markers, labels, measured, markers, done=job.done)
    gathered = [job.path("roles", "rows", str(i)) for i in range(len(job.ranges))]
    items = [(job.store, b, e, markers, url) for (b, e), url in zip(job.ranges, gathered, strict=True)]
    job.runner.map("gather marker genes", role_tasks.gather_markers, items, done=job.done)
    return gathered


def _judge(job: Clustering, labels: str, n_cags: int, gathered: list[str]) -> list[str]:
    """Folders of the roles of the genes, by block."""
    ranges = ranges_of_cags(job, n_cags)
    folders = [job.path("roles", "cags", str(i)) for i in range(len(ranges))]
    items = [(gathered, labels, b, e, _most(job), url) for (b, e), url in zip(ranges, folders, strict=True)]
    made = job.runner.map(PROFILE_CAGS, role_tasks.profile_cags, items, done=job.done)
    relations = _relate(job, folders, sum(one["n"] for one in made))
    roles = [job.path("roles", "genes", str(i)) for i in range(len(job.ranges))]
    job.runner.map(
        JUDGE_GENES,
        role_tasks.judge_genes,
        [
            (job.store, b, e, labels, folders, relations, job.plan.role_bytes, url)
            for (b, e), url in zip(job.ranges, roles, strict=True)
        ],
        done=job.done,
        unit="genes",
        weights=[e - b for b, e in job.ranges],
    )
    return roles


def ranges_of_cags(job: Clustering, n_cags: int) -> list[tuple[int, int]]:
    """CAGs of each task: whole chunks of the result store."""
    step = max(job.cag_rows, job.plan.cag_rows // job.cag_rows * job.cag_rows)
    return [(begin, min(begin + step, n_cags)) for begin in range(0, n_cags, step)]


def _most(job: Clustering) -> int:
    """Rows of marker genes that a task holds at a time."""
    return most_markers(job.plan.block_rows)


def _relate(job: Clustering, folders: list[str], n: int) -> str:
    """Folder of the relations of the ``n`` references."""
    held_bytes = job.plan.role_bytes
    step = at_once(RELATED_AT_ONCE, RELATED_BYTES * job.n_samples, held_bytes)
    ranges = [(b, min(b + step, n)) for b in range(0, n, step)] or [(0, 0)]
    shared = [job.path("roles", "shared", str(i)) for i in range(len(ranges))]
    modules = [job.path("roles", "modules", str(i)) for i in range(len(ranges))]
    items = [(folders, b, e, held_bytes, url) for (b, e), url in zip(ranges, shared, strict=True)]
    job.runner.map(RELATE_CAGS, role_relations.find_shared, items, done=job.done)
    of_modules = [(folders, shared, b, e, held_bytes, url) for (b, e), url in zip(ranges, modules, strict=True)]
    job.runner.map("find accessory CAGs", role_relations.find_modules, of_modules, done=job.done)
    relations = job.path("roles", "relations")
    job.runner.one("relate CAGs", role_relations.relate, shared, modules, relations, done=job.done)
    return relations


def _create(job: Clustering, n_cags: int, *, with_roles: bool) -> None:
    """Arrays of the result store, yet to fill."""
    group = storage.open_group(job.staged, writable=True)
    if with_roles:
        for name in ("gene_role", "gene_core_cag"):
            storage.create_array(group, name, (job.n_genes,), chunks=(GENE_CHUNK,))
        storage.create_array(group, "cag_parent", (n_cags,), chunks=(job.cag_rows,))
    for name in ("cag_core_abundance", "cag_core_share"):
        storage.create_array(group, name, (n_cags, job.n_samples), chunks=(job.cag_rows, job.n_samples))


# -- tasks that write the result -------------------------------------------------------------------------------------


def write_roles(result: str, roles: list[str], ranges: list[tuple[int, int]], begin: int, end: int) -> int:
    """Task: the roles of the genes ``begin:end`` of a result store, which this task alone writes."""
    parts = [
        RoleFiles.open(url, max(begin - b, 0), end - b)
        for url, (b, e) in zip(roles, ranges, strict=True)
        if b < end and e > begin
    ]
    role = np.concatenate([part.role for part in parts])
    second = np.concatenate([part.second for part in parts])
    core = np.concatenate([part.core for part in parts])
    values: dict[str, Any] = {"gene_role": np.array(ROLES, np.dtypes.StringDType())[role], "gene_core_cag": core}
    group = storage.open_group(result)
    if "gene_cag_second" in group:  # for a shared gene it is the other CAG that explains it
        nearest = np.asarray(storage.open_array(result, "gene_cag_second")[begin:end])
        values["gene_cag_second"] = np.where(role == SHARED, second, nearest)
    for variable, of_genes in values.items():
        storage.open_array(result, variable, writable=True)[begin:end] = of_genes
    return end - begin


def write_parents(result: str, labels: str, roles: list[str]) -> int:
    """Task: the CAG that each accessory CAG is a part of; their number. 30 bytes per gene."""
    from cagdask.cags.results import CagFiles

    cags = CagFiles.open(labels)
    parts = list(RoleFiles.open_all(roles))
    role = np.concatenate([part.role for part in parts])
    core = np.concatenate([part.core for part in parts])
    parent = parents(np.asarray(cags.cag), role, core, len(cags.size))
    storage.open_array(result, "cag_parent", writable=True)[...] = parent
    return int((parent >= 0).sum())


def parents(cag: Any, role: Any, core: Any, n_cags: int) -> Any:
    """Of each CAG the one that most of its core and accessory genes go with, if that is another one; else -1.

    Examples
    --------
    >>> cag, core = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 0, -1])
    >>> parents(cag, np.array([CORE, CORE, ACCESSORY, ACCESSORY, 3]), core, 3)
    array([-1,  0, -1])
    """
    counted = np.flatnonzero((cag >= 0) & (core >= 0) & np.isin(role, (CORE, ACCESSORY)))
    size = np.bincount(cag[cag >= 0], minlength=n_cags)
    pairs, count = np.unique(np.stack([cag[counted], core[counted]]), axis=1, return_counts=True)
    found = np.full(n_cags, -1, np.int64)
    most = (count > size[pairs[0]] / 2) & (pairs[0] != pairs[1])
    found[pairs[0][most]] = pairs[1][most]
    return found
