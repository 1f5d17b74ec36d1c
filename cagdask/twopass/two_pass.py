"""Two-pass clustering, from a source to a folder of results.

    first pass    draw --> read the drawn --> cluster (one task) --> leaders.zarr
    second pass   label every block --> labels.zarr, labels.parquet --> twopass.json, pictures

What is asked for, and whether it fits the workers, is checked before the first task; the folder appears when all of it
is there.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import schema, storage, stores
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.errors import SchemaError
from cagdask.io.inputs import takes_any_input
from cagdask.storage.scratch import scratch_folder
from cagdask.twopass import sample as first_pass
from cagdask.twopass import sources
from cagdask.twopass.checks import check_metric, check_sample, check_second_pass, checked, feature_order
from cagdask.twopass.sample import Recipe
from cagdask.twopass.sources import Items
from cagdask.twopass.stages import TwoPass

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)


@takes_any_input(sources.reads_itself)
def two_pass(
    source: str | Sequence[str],
    *,
    k: int,
    of: str | None = None,
    stride: int | None = None,
    sample: int | None = None,
    metric: str | None = None,
    linkage: str | None = None,
    n_leaders: int = 2,
    leader_rule: str | None = None,
    max_dist: float | None = None,
    topology: str | None = None,
    compat: str | None = None,
    block: int | None = None,
    seed: int = 0,
    output: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Cluster a sample in memory, then label everything by its nearest leader, streamed.

    Computes at once. Values are taken as they are stored: normalize a store first where its samples differ in depth.

    Parameters
    ----------
    source
        A store (path or URL), a Parquet file with names in the first column, or one or more trajectories (with mdtraj;
        .h5, .xtc, .trr, .dcd, .nc).
    k
        Clusters, at least 1.
    of
        For a store: ``genes`` (the default), ``samples``, or ``cags`` (the default for a result store).
    stride, sample
        Draw every ``stride``-th item from the first, or ``sample`` items by chance; by default 2,000, or all.
    metric
        ``euclidean`` (the default), ``cosine``, ``correlation``; for trajectories ``rmsd``, and only that.
    linkage
        Of the sample: ``ward`` (the default), ``average`` or ``complete``. Ward with ``cosine`` or ``correlation``
        works on the chord between directions, which is Euclidean; RMSD is not, and Ward's heights mean less there.
    n_leaders
        Items of each cluster that lead it; a smaller cluster is led by all of its members.
    leader_rule
        ``medoid`` (the default): the items to which the others are nearest in sum; ``random``; ``k-centre``: the medoid
        and then the farthest ones.
    max_dist
        Items farther from every leader are unassigned, label 0. Unit of ``metric`` (RMSD: nm).
    topology
        File with the topology of trajectories that have none of their own.
    compat
        ``mdtraj-notebook``: Ward's linkage of the rows of the square distance matrix, SciPy's numbering, leaders drawn
        with replacement, every 5th item unless said.
    block
        Items per task of the second pass; by default as many as fit. It changes no byte of the result.
    seed
        Of what is drawn by chance, >= 0.
    output
        Folder to make: ``labels.zarr``, ``labels.parquet``, ``leaders.zarr``, ``twopass.json``, three pictures. None
        keeps labels and leaders in memory.
    overwrite, client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    Dataset
        ``item_cluster`` (item) int64 from 1, 0 = unassigned; ``item_distance`` and ``item_margin`` (item) float32;
        ``leader_vector`` (leader, feature) float64, ``leader_cluster`` (leader), ``draw_row`` and ``draw_cluster``
        (draw), ``merge_child`` and ``merge_height`` of the sample, ``cluster_size`` (cluster). Attribute ``report`` is
        the content of ``twopass.json``.

    Raises
    ------
    ValueError
        A parameter is not known, or out of range.
    InputError, SchemaError, StoreError
        The source can not be used, or holds values that are no numbers.
    MemoryLimitError
        The sample does not fit a worker; names the largest that does.

    Notes
    -----
    8 bytes per pair of the sample on one worker; a block of items on each in the second pass. The source is read once,
    and before that where something was drawn. Labels do not depend on blocks, chunks or workers.
    """
    linkage, leader_rule = linkage or "", leader_rule or ""
    recipe = Recipe(k, stride, sample, metric or "", linkage, n_leaders, leader_rule, seed, compat)
    items, recipe = checked(sources.describe(source, of=of, topology=topology), recipe)
    max_dist, block = check_second_pass(max_dist, block)
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    with (
        scratch_folder() as scratch,
        as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=_work_bytes(items)) as runner,
    ):
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result")
        rows = first_pass.drawn_items(items.n_items, recipe)
        check_sample(len(rows), items, recipe, runner)
        asked = {"command": "two_pass", "recipe": asdict(recipe), "max_dist": max_dist}
        job = TwoPass.begun(items, target, asked, block, runner, recipe.k * recipe.n_leaders, overwrite=overwrite)
        attrs = first_pass.leaders_attributes(items, recipe, max_dist)
        found = job.fit(rows, recipe, attrs)
        found |= job.label(job.leaders, recipe.metric, max_dist, None, drawn=True)
        found |= {"parameters": json.loads(attrs["parameters"]), "notes": _notes(recipe, items, found)}
        return job.finish(found, in_memory=output is None)


@takes_any_input(sources.reads_itself)
def label_by_leaders(
    source: str | Sequence[str],
    *,
    leaders: str,
    of: str | None = None,
    max_dist: float | None = None,
    topology: str | None = None,
    block: int | None = None,
    output: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Label other items by the leaders of an earlier :func:`cagdask.two_pass`, streamed.

    Parameters
    ----------
    source, of, topology, block
        The new items, as for :func:`cagdask.two_pass`. Their features must be those of the leaders, in any order.
    leaders
        ``leaders.zarr``, or the folder that holds it.
    max_dist
        As for :func:`cagdask.two_pass`; by default what the leaders were made with.
    output
        Folder to make: ``labels.zarr``, ``labels.parquet``, ``twopass.json``, two pictures. None keeps the labels in
        memory.
    overwrite, client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    Dataset
        ``item_cluster``, ``item_distance``, ``item_margin`` (item), ``cluster_size`` (cluster).

    Raises
    ------
    ValueError, InputError, SchemaError, StoreError, MemoryLimitError
        As for :func:`cagdask.two_pass`; also where the features differ.
    """
    url = stores.in_folder(leaders, stores.LEADERS)
    held = storage.look(url)
    if held.attrs.get("kind") != schema.LEADERS_KIND:
        raise SchemaError(f"{url}: holds {held.attrs.get('kind')}, no leaders. Name what two_pass wrote.")
    schema.validate(held, "leader_vector", "leader_cluster", "feature_id", "draw_row", where=url)
    items = sources.describe(source, of=of, topology=topology)
    parameters = json.loads(held.attrs["parameters"])
    max_dist = parameters["max_dist"] if max_dist is None else max_dist
    max_dist, block = check_second_pass(max_dist, block)
    check_metric(items, parameters["metric"])
    order = feature_order(items, url, np.asarray(held["feature_id"].values, object))
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    with (
        scratch_folder() as scratch,
        as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=_work_bytes(items)) as runner,
    ):
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result")
        asked = {"command": "label_by_leaders", "leaders": url, "max_dist": max_dist}
        job = TwoPass.begun(items, target, asked, block, runner, held.sizes["leader"], overwrite=overwrite)
        found = job.label(url, parameters["metric"], max_dist, order, drawn=False)
        found |= {"parameters": parameters | {"max_dist": max_dist}, "leaders": url, "notes": _lost(items, found)}
        return job.finish(found, in_memory=output is None)


def _work_bytes(items: Items) -> int:
    """About how many bytes a two-pass clustering handles: all values once, and blocks of them in float64."""
    return 3 * 4 * items.n_items * items.n_features


def _notes(recipe: Recipe, items: Items, found: dict[str, Any]) -> list[str]:
    """What a user should know; also logged as warnings."""
    notes = []
    if found["n_clusters"] < recipe.k:
        notes.append(
            f"the sample falls into {found['n_clusters']} clusters, not {recipe.k}: merges of one height can not be "
            "cut apart."
        )
    few = [i + 1 for i, n in enumerate(found["drawn_sizes"]) if n < recipe.n_leaders and not recipe.compat]
    if few:
        first = ", ".join(map(str, few[:5])) + (", …" if len(few) > 5 else "")
        notes.append(f"fewer than {recipe.n_leaders} items were drawn of cluster {first}: all of them lead.")
    if recipe.metric == "rmsd" and recipe.linkage == "ward" and not recipe.compat:
        notes.append("Ward's linkage is meant for Euclidean distances, and RMSD is none; compare with average.")
    for note in notes:
        logger.warning("%s", note)
    return notes + _lost(items, found)


def _lost(items: Items, found: dict[str, Any]) -> list[str]:
    if not found["n_without_direction"]:
        return []
    note = (
        f"{found['n_without_direction']:,} {items.kind} have no direction and are unassigned; "
        f"the first is {found['first_without_direction']!r}."
    )
    logger.warning("%s", note)
    return [note]
