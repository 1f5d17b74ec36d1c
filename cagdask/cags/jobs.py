"""How a result store is begun and finished, whichever command makes it.

    check_source --> begin --> a job: stages of tasks in a work folder --> finish --> result store
    metadata only    plan,     clustering, cutting or assignment           labels, measures, one publication
                     recipe

What determines a result is written down before any work, so that an interrupted command goes on when it is called
again; the attributes of the result say nothing about where or how it was made.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cagdask import provenance, schema, storage
from cagdask.cags.parameters import Parameters, choice_in_words
from cagdask.cags.strata import codes_of
from cagdask.compute import memory, settings
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.normalization.sample_statistics import sample_statistics

if TYPE_CHECKING:
    from cagdask.cags.stages import Clustering, Groups
    from cagdask.engine.plan.task_memory import EnginePlan  # the engine compiles: that takes half a second to import

logger = logging.getLogger(__name__)

WORK_FORMAT = 9
"""Of the files that tasks hand to each other; work that was begun in another is not gone on with."""


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
        It has fewer samples than ``min_samples``, or no use as ``strata``.
    """
    ds = storage.look(url)
    kind = ds.attrs.get("kind", "abundance")
    if kind not in ("abundance", "expression"):
        raise SchemaError(f"{url}: holds {kind}, and CAGs are found in abundance or expression. Name another store.")
    schema.validate(ds, "abundance", "gene_id", "sample_id", where=url)
    n_genes, n_samples = ds["abundance"].shape
    if parameters.strata is not None:
        codes_of(url, parameters.strata)
    check_samples(url, n_samples, parameters.min_samples, parameters.stability)
    earlier = ds.attrs.get("normalization", "none")
    if parameters.normalization != "none" and (earlier != "none" or kind == "expression"):
        held = f"is normalized already, by {earlier}" if earlier != "none" else "holds expression values"
        raise SchemaError(f"{url}: {held}. {remedy}")
    return n_genes, n_samples


def check_samples(url: str, n_samples: int, min_samples: int, stability: int) -> None:
    """Refuse options that need more samples than there are."""
    from cagdask.cags.stability import FEWEST_TO_HALVE

    if stability and n_samples < FEWEST_TO_HALVE:
        raise InputError(
            f"{url}: has {n_samples} samples, and `stability` needs {FEWEST_TO_HALVE} or more to halve. Leave it out."
        )
    if min_samples > n_samples:
        raise InputError(
            f"{url}: `min_samples` is {min_samples}, but there are {n_samples} samples. Use at most {n_samples}."
        )


def work_bytes(n_genes: int, n_samples: int) -> int:
    """About how many bytes clustering handles: the matrix, and what the largest tasks hold at once."""
    from cagdask.engine.plan.task_memory import plan_engine

    n_threads = settings.n_cores()
    plan = plan_engine(n_genes, max(1, n_samples), memory.task_budget(2**32), n_threads)
    return 4 * n_genes * n_samples + n_threads * max(plan.task_bytes.values())


def checked_plan(n_genes: int, n_samples: int, linkage: str, runner: Runner) -> EnginePlan:
    """The plan of a run, refused if a task can not fit its worker."""
    from cagdask.engine.plan.task_memory import plan_engine

    plan = plan_engine(n_genes, n_samples, runner.task_budget, runner.n_threads, linkage)
    _check_plan(plan, n_genes, n_samples, runner)
    return plan


def _check_plan(plan: EnginePlan, n_genes: int, n_samples: int, runner: Runner) -> None:
    worst = max(plan.task_bytes, key=lambda name: plan.task_bytes[name])
    what = f"{n_genes:,} genes x {n_samples:,} samples"
    runner.check_fits(worst, plan.task_bytes[worst], what)


def begin(
    store: str, target: str, parameters: Parameters, runner: Runner, command: str, *, overwrite: bool
) -> tuple[Clustering, dict[str, Any]]:
    """A job in its work folder, and the attributes of the store; ``command`` is the word for the history."""
    runner.load("cagdask.cags.stages")
    from cagdask.cags.stages import Clustering
    from cagdask.engine.plan.task_memory import EnginePlan

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
    folder, planned = storage.begin_work(target, recipe, overwrite=overwrite, is_store=True)
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


def finish(
    job: Clustering,
    target: str,
    tree: str,
    groups: Groups,
    attrs: dict[str, Any],
    command: str,
    *,
    certified: bool,
    about: dict[str, Any] | None = None,
) -> None:
    """Label and measure the groups, and publish the result store; ``about`` as for :func:`cagdask.storage.publish`."""
    labels = job.label(tree, groups)
    if job.parameters.refine == "noise-corrected":
        attrs["error_rate"] = json.dumps(judged := job.judge(), sort_keys=True)
        if judged["support_bound"] is None:
            logger.warning("%s", judged["in_words"])
        if job.parameters.unsupported == "alone" and judged["n_unsupported"]:
            groups, labels["n_cags"] = job.leave_alone()
    job.measure(tree, groups, labels, result_attributes(attrs, job.parameters, command, certified=certified))
    if job.parameters.stability:
        from cagdask.cags.stability import add_stability

        add_stability(job, job.labelled or job.path("labels"), labels["n_cags"])
    storage.publish(job.staged, target, about)
    storage.end_work(target)


def result_attributes(
    store: dict[str, Any], parameters: Parameters, command: str, *, certified: bool
) -> dict[str, Any]:
    """Attributes of a result store; nothing in them depends on where or how it was made."""
    asked = asdict(parameters)
    if parameters.refine != "noise-corrected":
        del asked["fdr"], asked["strata"], asked["unsupported"]  # nothing was estimated
    if not parameters.stability:
        del asked["stability"]
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
        **({"choice": said} if (said := choice_in_words(parameters)) else {}),
    }
