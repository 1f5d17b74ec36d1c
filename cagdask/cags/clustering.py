"""Co-abundant gene groups of a store.

    store --statistics--> normalization --profiles--> fold --linkage--> merge tree --refinement--> CAGs --measure-->
    result

Each step is a stage of tasks on the workers (:mod:`cagdask.engine`); this module puts them in order, checks what it is
given before any of them, and publishes the result store at the end.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cagdask import provenance, schema, storage, stores
from cagdask.cags.parameters import Parameters
from cagdask.compute import memory, settings
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.compute.work import scratch_folder
from cagdask.engine.plan.task_memory import EnginePlan, plan_engine
from cagdask.engine.rows.files import on_grid
from cagdask.errors import InputError, SchemaError
from cagdask.io.inputs import as_store
from cagdask.normalization.sample_statistics import sample_statistics

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

    from cagdask.cags.stages import Clustering, Groups

logger = logging.getLogger(__name__)

WORK_FORMAT = 5
"""Of the files that tasks hand to each other; work that was begun in another is not gone on with."""


def find_cags(
    source: str | Any,
    *,
    output: str | None = None,
    normalization: str | None = None,
    clr_floor: float | str | None = None,
    max_dist: float | str = 0.2,
    min_samples: int = 1,
    metric: str | None = None,
    linkage: str = "average",
    refine: str | None = None,
    refine_dist: float | None = None,
    search: str = "exact",
    probes: int = 8,
    fdr: float = 0.01,
    seed: int = 0,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Find the co-abundant gene groups of a store, exactly.

    The partition is that of ``scipy.cluster.hierarchy.linkage`` (average or single) cut at ``max_dist``, for any number
    of genes; equal distances are broken by the smallest (gene row, gene row) pair. Computes at once.

    Parameters
    ----------
    source
        Path or URL of an abundance or expression store, of the folder of a run, or of a sample sheet or table; or a
        table in memory: see :func:`cagdask.as_dataset`.
    output
        Path or URL of the result store. None keeps the result in memory.
    normalization
        Per sample: ``sum``, ``median``, ``hellinger``, ``clr`` or ``none``; see :func:`cagdask.normalize`. None
        is ``sum``, and ``clr`` if ``max_dist`` is ``"auto"``.
    clr_floor
        For ``clr``: ``"auto"``, log10 of a ratio, or None for the minimum of the table.
    max_dist
        Groups join while their mean distance is at most this, in [0, 1), unit of ``metric``. ``"auto"``: no threshold;
        after linkage to 0.2, groups join by their similarity without noise (``clr_floor`` is then ``"auto"``, too).
    min_samples
        Genes present in fewer samples are left out (label -1).
    metric
        ``cosine`` distance of the profiles, ``correlation`` (of the centered profiles) or ``spearman`` (of ranks).
        None is ``cosine``, and ``correlation`` if ``max_dist`` is ``"auto"``.
    linkage
        ``average`` or ``single``.
    refine
        ``aggregate`` joins CAGs whose mean profiles are within ``refine_dist``; ``noise-corrected`` those that are one
        once noise is taken out, and estimates an error rate on shuffled genes; ``none`` does not join any. None is
        ``aggregate``, and ``noise-corrected`` if ``max_dist`` is ``"auto"``.
    refine_dist
        Cosine distance in [0, 1); by default the smaller of ``max_dist`` and 0.2.
    search
        ``exact``, or ``approximate``: neighbors are looked for only around the ``probes`` pivots that are nearest to a
        gene (FAISS). Then the attribute ``certified`` is false, and ``search_recall`` holds the share of neighbors that
        was found of 1,000 genes, measured against the exact search.
    probes
        Pivots whose genes an approximate search looks at, at least 1.
    fdr
        For ``noise-corrected``: share of grouped genes that chance may have grouped, in (0, 0.5]; genes whose support
        is too small for it get the ``gene_status`` "too little support".
    seed
        Kept with the result. Only the shuffled genes depend on it.
    overwrite
        Replace ``output``, once the new result is complete.
    client
        A Dask client, a scheduler's address or a :class:`cagdask.compute.runner.Runner`; None starts a LocalCluster of
        ``n_workers`` workers with ``memory_limit`` each.

    Returns
    -------
    Dataset
        The result store of the data model: ``gene_cag`` (gene) int64, ``merge_child`` (merge, child) int64,
        ``merge_height`` (merge) float64, ``cag_abundance`` (cag, sample) float32, and more. Lazy if ``output`` is
        given.

    Raises
    ------
    ValueError
        A parameter is not known or out of range.
    SchemaError, InputError, StoreError
        The source can not be clustered, or the output not written.
    MemoryLimitError
        A worker's memory does not suffice.

    References
    ----------
    .. [1] Minot and Willis (2019). Clustering co-abundant genes identifies components of the gut microbiome that are
       reproducibly associated with colorectal cancer and inflammatory bowel disease. Microbiome 7:110.
    """
    parameters = Parameters(
        normalization, clr_floor, max_dist, min_samples, metric, linkage, refine, refine_dist, search, probes, fdr, seed
    ).checked()
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    where: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    with (
        scratch_folder() as scratch,
        as_store(source, beside=output, **where) as store,
    ):
        n_genes, n_samples = check_source(store, parameters)
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result.zarr")
        with as_runner(**where, work_bytes=work_bytes(n_genes, n_samples)) as runner:
            cluster_store(storage.absolute(store), target, parameters, runner, overwrite=overwrite)
        result = storage.open_dataset(target)
        return result if output is not None else result.load()


def check_source(
    url: str,
    parameters: Parameters,
    remedy: str = "Use normalization none, or start from the abundances as ingested.",
) -> tuple[int, int]:
    """Refuse a store that can not be clustered with these parameters, from its metadata; gives its shape.

    ``remedy`` says what to do about one that is normalized already.

    Raises
    ------
    StoreError, SchemaError
        It is missing, unfinished, or not a store of genes x samples.
    InputError
        It has fewer samples than ``min_samples``.
    """
    ds = storage.look(url)
    kind = ds.attrs.get("kind", "abundance")
    if kind not in ("abundance", "expression"):
        raise SchemaError(f"{url}: holds {kind}, and CAGs are found in abundance or expression. Name another store.")
    schema.validate(ds, "abundance", "gene_id", "sample_id", where=url)
    n_genes, n_samples = ds["abundance"].shape
    if parameters.min_samples > n_samples:
        raise InputError(
            f"{url}: min_samples is {parameters.min_samples}, but there are {n_samples} samples. "
            f"Use at most {n_samples}."
        )
    earlier = ds.attrs.get("normalization", "none")
    if parameters.normalization != "none" and (earlier != "none" or kind == "expression"):
        held = f"is normalized already, by {earlier}" if earlier != "none" else "holds expression values"
        raise SchemaError(f"{url}: {held}. {remedy}")
    return n_genes, n_samples


def work_bytes(n_genes: int, n_samples: int) -> int:
    """About how many bytes clustering handles: the matrix, and what the largest tasks hold at once."""
    n_threads = settings.n_cores()
    plan = plan_engine(n_genes, max(1, n_samples), memory.task_budget(2**32), n_threads)
    return 4 * n_genes * n_samples + n_threads * max(plan.task_bytes.values())


def checked_plan(n_genes: int, n_samples: int, linkage: str, runner: Runner) -> EnginePlan:
    """The plan of a run, refused if a task can not fit its worker."""
    plan = plan_engine(n_genes, n_samples, runner.task_budget, runner.n_threads, linkage)
    _check_plan(plan, n_genes, n_samples, runner)
    return plan


def cut(
    result: str | xr.Dataset,
    *,
    max_dist: float,
    store: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """The CAGs at a smaller threshold, from the merge tree of a result: nothing is clustered again.

    Parameters
    ----------
    result
        Path or URL of a result store, or what :func:`find_cags` returned.
    max_dist
        At most that of the result, unit of its metric.
    store
        The abundance store that was clustered, from which the measures of the new CAGs are taken. By default
        ``abundance.zarr`` beside the result; must be given for a result in memory.
    output
        Path or URL of the new result store. None keeps it in memory.
    overwrite, client, n_workers, memory_limit
        As for :func:`find_cags`.

    Returns
    -------
    Dataset
        A result store at ``max_dist``, unrefined: what :func:`find_cags` gives with ``refine="none"``.

    Raises
    ------
    ValueError
        ``max_dist`` is above that of the result, or not in [0, 1).
    SchemaError
        ``result`` is no result store, or ``store`` is not what it was made from.

    Notes
    -----
    One pass over the store for the measures; the cut itself takes O(merges).
    """
    result = stores.result_url(result) if isinstance(result, str) else result
    ds = storage.open_dataset(result) if isinstance(result, str) else result
    where = result if isinstance(result, str) else result.encoding.get("source", "the result")
    schema.validate(ds, "merge_child", "merge_height", "gene_cag", where=where)
    missing = [name for name in schema.RESULT_ATTRIBUTES if name not in ds.attrs]
    if missing:
        raise SchemaError(f"{where}: lacks the attributes {', '.join(missing)}. Cluster again.")
    try:
        earlier = json.loads(ds.attrs["parameters"])
        parameters = Parameters(**(earlier | {"max_dist": max_dist, "refine": "none", "refine_dist": None})).checked()
        highest = float(earlier["max_dist"])
    except (TypeError, KeyError, json.JSONDecodeError) as err:
        raise SchemaError(f"{where}: its attribute parameters is damaged ({err}). Cluster again.") from err
    if on_grid(max_dist) > on_grid(highest):
        raise ValueError(
            f"max_dist is {max_dist}, but {where} was clustered up to {highest}. Cluster again to go higher."
        )
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    if store is None and not storage.exists(where):
        raise ValueError("the result is in memory only: name the store that was clustered (store=...).")
    store = storage.absolute(store or storage.join(storage.parent_of(storage.absolute(where)), stores.ABUNDANCE))
    work = work_bytes(*check_source(store, parameters))
    held = storage.open_group(store).attrs.get("input_digest", "")
    if held and held != ds.attrs["input_digest"]:
        raise SchemaError(f"{store}: is not the store that {where} was made from. Name that one with --store.")
    with (
        scratch_folder() as scratch,
        as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work) as runner,
    ):
        if not storage.exists(where):
            where = os.path.join(scratch, "earlier.zarr")
            storage.save_dataset(ds, where)
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result.zarr")
        job, attrs = _begin(store, target, parameters, runner, "cut", overwrite=overwrite)
        job.prepare()
        tree = job.cut(storage.absolute(where))
        groups = job.refine(job.directions(job.mean_profiles(tree)))
        _finish(job, target, tree, groups, attrs, "cut", certified=bool(ds.attrs["certified"]))
        made = storage.open_dataset(target)
        return made if output is not None else made.load()


def _check_plan(plan: EnginePlan, n_genes: int, n_samples: int, runner: Runner) -> None:
    worst = max(plan.task_bytes, key=lambda name: plan.task_bytes[name])
    what = f"{n_genes:,} genes x {n_samples:,} samples"
    runner.check_fits(worst, plan.task_bytes[worst], what)


def cluster_store(
    store: str, target: str, parameters: Parameters, runner: Runner, *, overwrite: bool
) -> dict[str, Any]:
    """Make the result store ``target``, or resume making it.

    Returns
    -------
    dict
        What the searches did: ``rounds`` and ``refine_rounds``, ``active`` (groups at the beginning of each round),
        ``pairs_evaluated`` (of groups, by all their samples), the counts of
        :data:`cagdask.engine.linkage.rounds.COUNTED`, ``multiply_adds_share`` (of those that comparing all pairs in
        full would take), and ``search_recall`` of an approximate search.
    """
    from cagdask.engine.linkage.rounds import COUNTED

    job, attrs = _begin(store, target, parameters, runner, "find_cags", overwrite=overwrite)
    job.prepare()
    tree, found, linked = job.link()
    groups = job.refine(found)
    counts: dict[str, Any] = {
        "rounds": len(linked.active),
        "active": linked.active,
        "refine_rounds": len(groups.linked.active),
        **{name: getattr(linked, name) + getattr(groups.linked, name) for name in COUNTED},
    }
    counts["pairs_evaluated"] = counts["multiplied"]  # all others were decided by bounds
    counts["multiply_adds_share"] = counts["multiply_adds"] / (job.n_genes**2 * job.n_samples)
    if linked.recall is not None:
        attrs["search_recall"] = counts["search_recall"] = linked.recall
    _finish(job, target, tree, groups, attrs, "find_cags", certified=parameters.search == "exact")
    return counts


def _begin(
    store: str, target: str, parameters: Parameters, runner: Runner, command: str, *, overwrite: bool
) -> tuple[Clustering, dict[str, Any]]:
    """A job in its work folder, and the attributes of the store."""
    runner.load("cagdask.cags.stages")
    from cagdask.cags.stages import Clustering

    n_genes, n_samples = check_source(store, parameters)
    runner.check_reach([store], [target])
    attrs = dict(storage.open_group(store).attrs)
    attrs["input_digest"] = attrs.get("input_digest") or _digest_of(store, runner)
    recipe = {
        "command": command,
        "work": WORK_FORMAT,
        "parameters": asdict(parameters),
        "store": store,
        "shape": [n_genes, n_samples],
        "input_digest": attrs["input_digest"],
        "plan": asdict(checked_plan(n_genes, n_samples, parameters.linkage, runner)),
    }
    folder, planned = storage.begin_work(target, recipe, overwrite=overwrite)
    plan = EnginePlan(**planned)
    _check_plan(plan, n_genes, n_samples, runner)  # that of an earlier try may be of larger workers
    return Clustering(folder, runner, store, n_genes, n_samples, parameters, plan), attrs


def _digest_of(store: str, runner: Runner) -> str:
    """Digest of a store that has none of its own: of its exact sums per sample."""
    folder = storage.join(storage.parent_of(store), f".{storage.name_of(store)}.sums")
    try:
        return provenance.digest(sample_statistics(store, runner, "sum", folder).to_bytes())
    finally:
        storage.remove(folder)


def _finish(
    job: Clustering, target: str, tree: str, groups: Groups, attrs: dict[str, Any], command: str, *, certified: bool
) -> None:
    """Label and measure the groups, and publish the result store."""
    labels = job.label(tree, groups)
    if job.parameters.refine == "noise-corrected":
        attrs["error_rate"] = json.dumps(judged := job.judge(), sort_keys=True)
        if judged["support_bound"] is None:
            logger.warning("%s", judged["in_words"])
    job.measure(tree, groups, labels, _attributes(attrs, job.parameters, command, certified=certified))
    storage.publish(job.staged, target)
    storage.end_work(target)


def _attributes(store: dict[str, Any], parameters: Parameters, command: str, *, certified: bool) -> dict[str, Any]:
    """Attributes of a result store; nothing in them depends on where or how it was made."""
    asked = asdict(parameters)
    if parameters.refine != "noise-corrected":
        del asked["fdr"]  # nothing was estimated
    as_json = json.dumps(asked, sort_keys=True)
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": schema.RESULT_KIND,
        "source": provenance.source(),
        "history": provenance.add_history(store.get("history", ""), f"{command} {as_json}"),
        "parameters": as_json,
        "input_digest": store["input_digest"],
        "seed": parameters.seed,
        "metric": parameters.metric,
        "linkage": parameters.linkage,
        "max_dist": parameters.max_dist,
        "certified": certified,
        **{name: store[name] for name in ("search_recall", "error_rate") if name in store},
    }
