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
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import provenance, schema, storage
from cagdask.client import Runner, as_runner
from cagdask.engine import arrays
from cagdask.errors import InputError, MemoryLimitError, SchemaError
from cagdask.leaders import labels, pictures, sources
from cagdask.leaders import sample as first_pass
from cagdask.leaders.distances import METRICS
from cagdask.leaders.sample import Recipe
from cagdask.leaders.sources import Items
from cagdask.resources import check_fits, format_bytes

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

LARGEST_BLOCK = 200_000
"""Items of a block, at most."""


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
    recipe = Recipe(
        k=k,
        stride=stride,
        sample=sample,
        metric=metric or "",
        linkage=linkage or "",
        n_leaders=n_leaders,
        leader_rule=leader_rule or "",
        seed=seed,
        compat=compat,
    )
    items, recipe = _checked(sources.describe(source, of=of, topology=topology), recipe)
    _check_second_pass(max_dist, block)
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    with (
        tempfile.TemporaryDirectory(prefix="cagdask-") as scratch,
        as_runner(client, n_workers=n_workers, memory_limit=memory_limit) as runner,
    ):
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result")
        rows = first_pass.drawn_items(items.n_items, recipe)
        _check_sample(len(rows), items, recipe, runner)
        asked = {"command": "two_pass", "recipe": asdict(recipe), "max_dist": max_dist}
        job = _Job.begun(items, target, asked, block, runner, recipe.k * recipe.n_leaders, overwrite=overwrite)
        attrs = first_pass.leaders_attributes(items, recipe, max_dist)
        found = job.fit(rows, recipe, attrs)
        found |= job.label(job.leaders, recipe.metric, max_dist, None, drawn=True)
        found |= {"parameters": json.loads(attrs["parameters"]), "notes": _notes(recipe, items, found)}
        return job.finish(found, in_memory=output is None)


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
    url = storage.absolute(leaders)
    inside = storage.join(url, "leaders.zarr")
    url = inside if storage.exists(inside) else url
    held = storage.open_dataset(url)
    if held.attrs.get("kind") != schema.LEADERS_KIND:
        raise SchemaError(f"{url}: holds {held.attrs.get('kind')}, no leaders. Name what two_pass wrote.")
    schema.validate(held, "leader_vector", "leader_cluster", "feature_id", "draw_row", where=url)
    items = sources.describe(source, of=of, topology=topology)
    parameters = json.loads(held.attrs["parameters"])
    max_dist = parameters["max_dist"] if max_dist is None else max_dist
    _check_second_pass(max_dist, block)
    _check_metric(items, parameters["metric"])
    order = _feature_order(items, url, np.asarray(held["feature_id"].values, object))
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    with (
        tempfile.TemporaryDirectory(prefix="cagdask-") as scratch,
        as_runner(client, n_workers=n_workers, memory_limit=memory_limit) as runner,
    ):
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result")
        asked = {"command": "label_by_leaders", "leaders": url, "max_dist": max_dist}
        job = _Job.begun(items, target, asked, block, runner, held.sizes["leader"], overwrite=overwrite)
        found = job.label(url, parameters["metric"], max_dist, order, drawn=False)
        found |= {"parameters": parameters | {"max_dist": max_dist}, "leaders": url, "notes": _lost(items, found)}
        return job.finish(found, in_memory=output is None)


# -- checks ----------------------------------------------------------------------------------------------------------


def _checked(items: Items, asked: Recipe) -> tuple[Items, Recipe]:
    """The recipe with defaults filled in, refused if it can not be meant."""
    compat = asked.compat
    if compat is not None and compat not in first_pass.COMPATS:
        raise ValueError(f"compat is {compat!r}; choose {', '.join(first_pass.COMPATS)}.")
    if compat and (asked.linkage not in ("", "ward") or asked.leader_rule not in ("", "random")):
        raise ValueError("compat mdtraj-notebook means linkage ward and leader_rule random. Leave them out.")
    for name, least in (("k", 1), ("n_leaders", 1), ("stride", 1), ("sample", 1), ("seed", 0)):
        value = getattr(asked, name)
        if value is None and name in ("stride", "sample"):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    if asked.stride is not None and asked.sample is not None:
        raise ValueError("stride and sample are two ways to draw; give one of them.")
    metric = asked.metric or ("rmsd" if items.kind == "frames" else "euclidean")
    linkage = asked.linkage or "ward"
    rule = asked.leader_rule or ("random" if compat else "medoid")
    choices = {"metric": (metric, METRICS), "linkage": (linkage, first_pass.LINKAGES)}
    for name, (value, known) in (choices | {"leader_rule": (rule, first_pass.RULES)}).items():
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}.")
    _check_metric(items, metric)
    stride, sample = asked.stride, asked.sample
    if stride is None and sample is None:
        stride = first_pass.COMPAT_STRIDE if compat else None
        sample = None if compat else first_pass.DEFAULT_SAMPLE
    n = -(-items.n_items // stride) if stride else min(items.n_items, sample or 0)
    if asked.k > n:
        how = f"every {stride}th of" if stride else f"{n:,} of"
        raise InputError(
            f"{items.name}: k is {asked.k}, but the sample has {n:,} {items.kind} ({how} {items.n_items:,}). "
            "Use a smaller k, or draw more."
        )
    filled = asdict(asked) | {"metric": metric, "linkage": linkage, "leader_rule": rule}
    return items, Recipe(**filled | {"stride": stride, "sample": sample})


def _check_metric(items: Items, metric: str) -> None:
    if (metric == "rmsd") != (items.kind == "frames"):
        only = "frames have the metric rmsd" if items.kind == "frames" else "rmsd is for trajectories"
        raise ValueError(f"metric is {metric!r}, but {items.name} holds {items.kind}: {only}.")


def _check_second_pass(max_dist: float | None, block: int | None) -> None:
    if max_dist is not None and (isinstance(max_dist, bool) or not 0 <= max_dist < float("inf")):
        raise ValueError(f"max_dist is {max_dist!r}; it must be a number of at least 0.")
    if block is not None and (isinstance(block, bool) or not isinstance(block, int) or block < 1):
        raise ValueError(f"block is {block!r}; it must be a whole number of at least 1.")


def _check_sample(n: int, items: Items, recipe: Recipe, runner: Runner) -> None:
    """Refuse a sample that does not fit a worker, and name the largest that does."""
    need = first_pass.sample_bytes(n, items.n_features, recipe.compat)
    if need <= runner.task_budget:
        return
    fitting = first_pass.largest_sample(items.n_features, runner.task_budget, recipe.compat)
    way = f"--stride {-(-items.n_items // max(1, fitting))} or --sample {fitting}" if fitting else "fewer features"
    raise MemoryLimitError(
        f"first pass: a sample of {n:,} {items.kind} x {items.n_features:,} values needs {format_bytes(need)}, but a "
        f"worker of {format_bytes(runner.memory_limit)} gives its tasks {format_bytes(runner.task_budget)}. The "
        f"largest that fits has {fitting:,}: use {way}, or a larger --memory-limit."
    )


def _feature_order(items: Items, url: str, wanted: Any) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Places of the leaders' features among those of the items; None if they are the same."""
    found = sources.features(items)
    if len(found) == len(wanted) and (found == wanted).all():
        return None
    place = {name: i for i, name in enumerate(found.tolist())}
    missing = [name for name in wanted.tolist() if name not in place]
    if missing or len(found) != len(wanted) or items.kind == "frames":
        first = f"; {missing[0]!r} is missing" if missing else ""
        raise SchemaError(
            f"{items.name}: its {len(found):,} values per item are not the {len(wanted):,} of {url}{first}. Items to "
            "label need the features that the leaders have, and no others."
        )
    return np.array([place[name] for name in wanted.tolist()], np.int64)


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


# -- the stages ------------------------------------------------------------------------------------------------------


@dataclass
class _Job:
    """One folder of results in the making."""

    items: Items
    target: str
    folder: str
    done: str
    rows: int
    runner: Runner

    @classmethod
    def begun(
        cls,
        items: Items,
        target: str,
        asked: dict[str, Any],
        block: int | None,
        runner: Runner,
        n_leaders: int,
        *,
        overwrite: bool,
    ) -> _Job:
        """Plan the second pass, start or resume the work folder, and turn samples round."""
        rows = _block_rows(items, block, runner, n_leaders)
        sizes = [storage.size_of(url) for url in items.urls] if items.kind in ("rows", "frames") else []
        made = {} if sizes else dict(storage.open_group(items.urls[0]).attrs)
        recipe = asked | {"items": items.to_json(), "bytes": sizes, "input_digest": made.get("input_digest", "")}
        folder, plan = storage.begin_work(target, recipe | {"plan": {"rows": rows}}, overwrite=overwrite)
        job = cls(items, target, folder, storage.join(folder, "done"), int(plan["rows"]), runner)
        if items.kind == "rows":
            job._attempt("names", sources.check_rows, items.to_json())
        job.items = sources.turned_round(items, runner, job._at("samples"), job.done)
        return job

    @property
    def staged(self) -> str:
        """The folder of results until it is published."""
        return self._at("store")

    @property
    def leaders(self) -> str:
        """The leaders that this job makes."""
        return storage.join(self.staged, "leaders.zarr")

    def _at(self, *parts: str) -> str:
        return storage.join(self.folder, *parts)

    def _attempt(self, stage: str, function: Any, *item: Any) -> Any:
        """Run one task; input that it refuses leaves nothing behind."""
        try:
            return self.runner.one(stage, function, *item, done=self.done)
        except InputError:
            storage.end_work(self.target)
            raise

    def fit(self, rows: Any, recipe: Recipe, attrs: dict[str, Any]) -> dict[str, Any]:
        """The first pass, which writes the leaders."""
        blocks = np.split(rows, np.flatnonzero(np.diff(rows // self.rows)) + 1)
        parts = [self._at("drawn", str(i)) for i in range(len(blocks))]
        items = self.items.to_json()
        work = [(items, int(block[0]), block.tolist(), part) for block, part in zip(blocks, parts, strict=True)]
        bad = self.runner.map("sample", first_pass.read_drawn, work, done=self.done)
        if any(bad):
            self._refuse_values()
        arrays.save(self._at("drawn"), rows=rows)
        asked = (items, parts, self._at("drawn"), asdict(recipe), attrs, self.leaders)
        found: dict[str, Any] = self._attempt("first pass", first_pass.cluster_sample, *asked)
        return found

    def label(self, leaders: str, metric: str, max_dist: float | None, order: Any, *, drawn: bool) -> dict[str, Any]:
        """The second pass, which writes the labels and counts them."""
        place = None
        if order is not None:
            place = self._at("order")
            arrays.save(place, place=order)
        ranges = _ranges(self.items.n_items, self.rows)
        parts = [self._at("labels", str(i)) for i in range(len(ranges))]
        items = self.items.to_json()
        found = self.runner.map(
            "second pass",
            labels.label_block,
            [(items, b, e, leaders, metric, max_dist, place, part) for (b, e), part in zip(ranges, parts, strict=True)],
            done=self.done,
            unit=self.items.kind,
            weights=[e - b for b, e in ranges],
        )
        if any(answer["n_bad"] for answer in found):
            self._refuse(found)
        url = storage.join(self.staged, "labels.zarr")
        labels.create_labels(url, self.items.n_items, {"metric": metric, "max_dist": max_dist, "of": self.items.kind})
        chunks = _ranges(self.items.n_items, labels.ITEM_CHUNK)
        work = [(items, *_covering(parts, ranges, b, e), b, e, url) for b, e in chunks]
        self.runner.map("write labels", labels.write_labels, work, weights=[e - b for b, e in chunks])
        self.runner.one("write table", labels.write_table, url, storage.join(self.staged, "labels.parquet"))
        counted: dict[str, Any] = self.runner.one("count labels", labels.summarize, url, leaders, drawn)
        return counted

    def _refuse_values(self) -> None:
        """Count what is no number in the whole source, and raise."""
        ranges = _ranges(self.items.n_items, self.rows)
        items = self.items.to_json()
        self._refuse(self.runner.map("count values", labels.count_bad, [(items, b, e) for b, e in ranges]))

    def _refuse(self, found: list[dict[str, Any]]) -> None:
        storage.end_work(self.target)
        first = next(answer for answer in found if answer["n_bad"])
        name = sources.read_names(self.items, first["row"], first["row"] + 1)[0]
        feature = sources.features(self.items)[first["feature"]]
        n_bad = sum(answer["n_bad"] for answer in found)
        raise InputError(
            f"{self.items.name}: {n_bad:,} values are missing or infinite; the first "
            f"is {feature!r} of {name!r}. Correct them, or leave these items out."
        )

    def finish(self, found: dict[str, Any], *, in_memory: bool) -> xr.Dataset:
        """Write report and pictures, and publish the folder."""
        leaders = found.pop("leaders", self.leaders)
        report: dict[str, Any] = {"items": self.items.kind, "source": list(self.items.urls)} | found
        report["files"] = ["labels.zarr", "labels.parquet"]
        if storage.exists(self.leaders):
            report["files"].append("leaders.zarr")
        if not in_memory:
            report["files"] += pictures.draw_all(report, leaders, self.staged)
        report["files"].append("twopass.json")
        report["versions"] = provenance.versions()
        report["stages"] = [asdict(used) for used in self.runner.usage]
        storage.write_json(storage.join(self.staged, "twopass.json"), report)
        storage.publish(self.staged, self.target)
        storage.end_work(self.target)
        ds = storage.open_dataset(storage.join(self.target, "labels.zarr"))
        if "leaders.zarr" in report["files"]:
            ds = ds.assign(storage.open_dataset(storage.join(self.target, "leaders.zarr")).variables)
        ds.attrs["report"] = json.dumps(report, sort_keys=True)
        return ds.load() if in_memory else ds


def _block_rows(items: Items, block: int | None, runner: Runner, n_leaders: int) -> int:
    """Items of a block, whole chunks where these fit; refused where not even one item does."""

    def need(rows: int) -> int:
        return labels.block_bytes(rows, items.n_features, min(items.chunk, items.n_items), n_leaders)

    fixed, per_row = need(0), need(1) - need(0)
    fitting = max(1, (runner.task_budget - fixed) // per_row)
    shared = -(-items.n_items // (4 * runner.n_threads))
    rows = min(fitting, LARGEST_BLOCK, max(shared, min(1000, items.n_items)))
    if rows > items.chunk:
        rows = rows // items.chunk * items.chunk
    rows = min(items.n_items, block or rows)
    at_once = max(1, runner.n_threads // max(1, runner.n_workers))
    what = f"{rows:,} {items.kind} x {items.n_features:,} values and {n_leaders:,} leaders"
    check_fits("second pass", need(rows), what, runner.memory_limit, at_once)
    return rows


def _ranges(n: int, step: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + step, n)) for begin in range(0, n, step)]


def _covering(
    parts: list[str], ranges: list[tuple[int, int]], begin: int, end: int
) -> tuple[list[str], list[tuple[int, int]]]:
    """The parts that hold items of ``begin:end``, and their ranges."""
    found = [(part, at) for part, at in zip(parts, ranges, strict=True) if at[0] < end and at[1] > begin]
    return [part for part, _ in found], [at for _, at in found]
