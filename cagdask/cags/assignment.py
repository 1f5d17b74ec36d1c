"""Assign unclustered or new genes to the nearest CAG.

    result, store --> directions of the CAGs as clustered
                                  |
    genes alone, left out, or of another store --> the nearest direction within max_dist --> result with more members

Average linkage compares a gene with the *genes* of a CAG, whose noise adds to its own; here it is compared with their
mean, which has none left. The CAGs themselves are not changed by who joins: each gene is judged by the clustered ones
alone, so the order of genes and batches does not matter.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import provenance, storage
from cagdask.cags import assignment_tasks
from cagdask.cags.assignment_sources import Sources, digest_of, sources_of, usual_distance
from cagdask.cags.description import create_metadata
from cagdask.cags.jobs import WORK_FORMAT, checked_plan, work_bytes
from cagdask.cags.options import ASSIGN
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.engine.plan.task_memory import EnginePlan
from cagdask.engine.search.nearest_group import POINTS_AT_ONCE, ROWS_AT_ONCE
from cagdask.engine.stage_names import WRITE_MERGES
from cagdask.io.inputs import takes_any_input
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

    from cagdask.cags.stages import Clustering

logger = logging.getLogger(__name__)


@takes_any_input()
def assign(
    store: str,
    *,
    to: str,
    clustered: str | None = None,
    max_dist: float | None = None,
    min_size: int = 2,
    min_support: float = 2.0,
    output: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Assign genes that are in no CAG of two or more to the nearest CAG, if it is near enough.

    Computes at once. Profiles are made as the result's parameters say; a gene's distance is that to the mean direction
    of the clustered genes of a CAG.

    Parameters
    ----------
    store
        Path or URL of an abundance store: the one that was clustered, whose genes alone and left out are put to CAGs,
        or one with other genes of the same samples, in the same unit. These are added to the result; genes that it
        knows by name are not taken again.
    to
        Result store, or the folder of a run that holds ``cags.zarr``.
    clustered
        The store that was clustered, if ``store`` is another one; by default ``abundance.zarr`` beside the result. New
        genes are normalized by its samples' statistics.
    max_dist
        Largest distance, in [0, 1), unit of the result's metric; by default that of the result. One made without a
        threshold has none: then it is the distance within which 95 % of its grouped genes are from their mean.
    min_size
        Fewest clustered genes of a CAG that takes others in, at least 2.
    min_support
        Fewest samples, effectively, on which the similarity of gene and CAG must rest, at least 1. Where one sample
        makes nearly all of both profiles, they are near each other whatever they are.
    output
        Path or URL of the new result store. None keeps it in memory.
    overwrite, client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    Dataset
        A result store with the CAGs and numbers of ``to`` and, besides, ``gene_assigned`` (gene) bool.
        ``gene_cag_distance`` and ``gene_cag_margin`` are taken from the clustered members' mean directions. A CAG
        of one whose gene was assigned has size 0; a new gene near none is a CAG of its own, numbered on. Attribute
        ``assignment`` (JSON) says how many were what.

    Raises
    ------
    ValueError
        A parameter is out of range.
    SchemaError, InputError, StoreError
        A store can not be used, does not hold the samples, or is not the one that was clustered.
    MemoryLimitError
        A worker's memory does not suffice.

    Notes
    -----
    A few passes over the store, and genes to assign × CAGs × samples multiplications by BLAS. What that can not decide
    is computed again in a fixed order, so the result has the same bytes for any chunks and workers; ties go to the
    smaller CAG.
    """
    given = ASSIGN.check(max_dist=max_dist, min_size=min_size, min_support=min_support)
    max_dist, min_size, min_support = given["max_dist"], given["min_size"], given["min_support"]
    sources = sources_of(store, to, clustered)
    max_dist = usual_distance(sources) if max_dist is None else max_dist
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    n_genes, n_samples = storage.open_array(sources.clustered, "abundance").shape
    if sources.store != sources.clustered:
        n_genes += storage.open_array(sources.store, "gene_id").shape[0]
    work = work_bytes(n_genes, n_samples)
    with (
        scratch_folder() as scratch,
        as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work) as runner,
    ):
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result.zarr")
        asked = {"max_dist": max_dist, "min_size": min_size, "min_support": float(min_support)}
        _assign(sources, target, asked, runner, overwrite=overwrite)
        return storage.open_dataset(target) if output is not None else storage.load_dataset(target)


# -- the stages ------------------------------------------------------------------------------------------------------


def _assign(sources: Sources, target: str, asked: dict[str, Any], runner: Runner, *, overwrite: bool) -> None:
    """Make the result store ``target``, or resume making it."""
    folder, n_genes, n_samples, attrs, plan = _begin(sources, target, asked, runner, overwrite=overwrite)
    done = storage.join(folder, "done")
    store = sources.clustered
    if sources.store != sources.clustered:
        store, n_genes = _join(sources, folder, done, plan, n_samples, runner)
    from cagdask.cags.stages import Clustering

    parameters = replace(sources.parameters, min_samples=1)  # those left out for being in too few samples take part
    job = Clustering(folder, runner, store, n_genes, n_samples, parameters, plan)
    job.profile(sources.clustered)
    members, labels, tree = (storage.join(folder, name) for name in ("members", "labels", "tree"))
    item = (sources.result, n_genes, members)
    n = runner.one("list genes of CAGs", assignment_tasks.write_members, *item, done=done)["n"]
    directions = [block.folder for block in job.directions(job.means_of(members, n))]
    nearest = [storage.join(folder, "nearest", str(i)) for i in range(len(job.profiles))]
    runner.map(
        "find nearest CAGs",
        assignment_tasks.find_nearest,
        [(url, members, directions, asked["min_size"], to) for url, to in zip(job.profiles, nearest, strict=True)],
        done=done,
        unit="genes",
        weights=[end - begin for begin, end in job.ranges],
    )
    counts = runner.one(
        "assign genes",
        assignment_tasks.write_assignment,
        sources.result,
        store,
        members,
        nearest,
        asked["max_dist"],
        asked["min_support"],
        sources.parameters.min_samples,
        labels,
        done=done,
    )
    attrs["assignment"] = json.dumps(asked | counts, sort_keys=True)
    item = (sources.result, n_genes, tree)
    counts["n_merges"] = runner.one(WRITE_MERGES, assignment_tasks.copy_merges, *item, done=done)
    _measure(job, members, labels, tree, directions, counts, attrs)
    storage.publish(job.staged, target)
    storage.end_work(target)


def _measure(
    job: Clustering,
    members: str,
    labels: str,
    tree: str,
    directions: list[str],
    counts: dict[str, int],
    attrs: dict[str, Any],
) -> None:
    """Write the result store: distances to the directions as clustered, all else over all members."""
    from cagdask.cags.roles import GENE_CHUNK

    runner = job.runner
    clustered, everyone, joined = (storage.join(job.folder, name) for name in ("placed", "everyone", "placed-all"))
    place = assignment_tasks.place_directions
    runner.one("place CAGs as clustered", place, members, directions, labels, clustered, done=job.done)
    job.measure_genes(clustered, directions)
    n = runner.one("list all genes of CAGs", assignment_tasks.all_members, members, labels, everyone, done=job.done)
    means = job.means_of(everyone, n, "all CAGs")
    lengths = [block.folder for block in job.directions(means, "all CAGs", "all")]
    runner.one("place CAGs with all genes", place, members, lengths, labels, joined, done=job.done)
    job.write(tree, joined, lengths, counts, attrs)
    group = storage.open_group(job.staged, writable=True)
    storage.create_array(group, "gene_assigned", (job.n_genes,), chunks=(GENE_CHUNK,))
    ranges = [(begin, min(begin + GENE_CHUNK, job.n_genes)) for begin in range(0, job.n_genes, GENE_CHUNK)]
    runner.map("write assigned genes", assignment_tasks.write_assigned, [(job.staged, labels, b, e) for b, e in ranges])
    storage.finish_group(storage.open_group(job.staged, writable=True))


def _begin(
    sources: Sources, target: str, asked: dict[str, Any], runner: Runner, *, overwrite: bool
) -> tuple[str, int, int, dict[str, Any], EnginePlan]:
    """The work folder, the shape of the clustered store, attributes of the result, and sizes of tasks."""
    n_genes, n_samples = storage.open_array(sources.clustered, "abundance").shape
    at_most = n_genes
    digests = [sources.attrs["input_digest"]]
    if sources.store != sources.clustered:
        at_most += storage.open_array(sources.store, "gene_id").shape[0]
        digests.append(digest_of(sources.store))
    plan = checked_plan(at_most, n_samples, sources.parameters.linkage, runner)
    need = plan.block_rows * 8 * n_samples + 8 * ROWS_AT_ONCE * POINTS_AT_ONCE + 16 * POINTS_AT_ONCE * n_samples
    runner.check_fits("find nearest CAGs", need, f"{at_most:,} genes x {n_samples:,} samples")
    recipe = {
        "command": "assign",
        "work": WORK_FORMAT,
        **asked,
        "result": sources.result,
        "clustered": sources.clustered,
        "store": sources.store,
        "input_digests": digests,
        "parameters": asdict(sources.parameters),
        "plan": asdict(plan),
    }
    folder, planned = storage.begin_work(target, recipe, overwrite=overwrite, is_store=True)
    line = f"assign {json.dumps(asked, sort_keys=True)}"
    parameters = {key: value for key, value in json.loads(sources.attrs["parameters"]).items() if key != "stability"}
    attrs = sources.attrs | {
        "parameters": json.dumps(parameters, sort_keys=True),
        "source": provenance.source(),
        "history": provenance.add_history(sources.attrs.get("history", ""), line),
        "input_digest": digests[0] if len(digests) == 1 else provenance.digest(digests),
    }
    return folder, n_genes, n_samples, attrs, EnginePlan(**planned)


def _join(
    sources: Sources, folder: str, done: str, plan: EnginePlan, n_samples: int, runner: Runner
) -> tuple[str, int]:
    """The clustered store with the new genes of the other below, in the work folder; and its number of genes."""
    matched, url = storage.join(folder, "matched"), storage.join(folder, "joined.zarr")
    found = runner.one(
        "match genes", assignment_tasks.match_genes, sources.clustered, sources.store, matched, done=done
    )
    if found["n_known"]:
        logger.warning(
            "%s: %d genes that %s knows are taken from there", sources.store, found["n_known"], sources.clustered
        )
    n_old = storage.open_array(sources.clustered, "gene_id").shape[0]
    n_genes = n_old + found["n_new"]
    if not storage.exists(storage.join(url, "zarr.json")):
        before = storage.open_group(sources.clustered)
        group = storage.create_group(url, dict(before.attrs))
        storage.create_array(group, "abundance", (n_genes, n_samples), chunks=(plan.block_rows, n_samples))
        for name in ("gene_id", "gene_prevalence"):
            storage.create_array(group, name, (n_genes,), chunks=(plan.block_rows,))
        create_metadata(group, before, n_genes, plan.block_rows)
        for name in before.array_keys():
            if name.startswith("sample_"):
                values = storage.open_array(sources.clustered, name)
                storage.write_array(group, name, np.asarray(values[:]), dims=("sample",), attrs=dict(values.attrs))
    ranges = [(begin, min(begin + plan.block_rows, n_genes)) for begin in range(0, n_genes, plan.block_rows)]
    work = [(sources.clustered, sources.store, matched, sources.order, b, e, url) for b, e in ranges]
    sizes = [e - b for b, e in ranges]
    runner.map("join old and new genes", assignment_tasks.join_block, work, done=done, unit="genes", weights=sizes)
    return url, n_genes
