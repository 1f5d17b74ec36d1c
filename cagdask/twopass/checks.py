"""Parameters of a two-pass clustering: fill in defaults and check them before any task starts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from cagdask.compute.memory import format_bytes
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, MemoryLimitError, SchemaError
from cagdask.twopass import sample as first_pass
from cagdask.twopass import sources
from cagdask.twopass.options import FIRST_PASS, SECOND_PASS
from cagdask.twopass.sample import Recipe
from cagdask.twopass.sources import Items


def checked(items: Items, asked: Recipe) -> tuple[Items, Recipe]:
    """The parameters with defaults filled in; raises if one makes no sense."""
    given = {name: None if isinstance(value, str) and not value else value for name, value in asdict(asked).items()}
    taken = FIRST_PASS.check(**given)
    compat = taken["compat"]
    if compat and (taken["linkage"] not in (None, "ward") or taken["leader_rule"] not in (None, "random")):
        raise ValueError(
            "`compat='mdtraj-notebook'` means `linkage='ward'` and `leader_rule='random'`. Leave them out."
        )
    if taken["stride"] is not None and taken["sample"] is not None:
        raise ValueError("`stride` and `sample` are two ways to draw; give one of them.")
    metric = taken["metric"] or ("rmsd" if items.kind == "frames" else "euclidean")
    linkage = taken["linkage"] or "ward"
    rule = taken["leader_rule"] or ("random" if compat else "medoid")
    check_metric(items, metric)
    stride, sample, k = taken["stride"], taken["sample"], taken["k"]
    if stride is None and sample is None:
        stride = first_pass.COMPAT_STRIDE if compat else None
        sample = None if compat else first_pass.DEFAULT_SAMPLE
    n = -(-items.n_items // stride) if stride else min(items.n_items, sample or 0)
    if k > n:
        how = f"every {stride}th of" if stride else f"{n:,} of"
        raise InputError(
            f"{items.name}: `k` is {k}, but the sample has {n:,} {items.kind} ({how} {items.n_items:,}). "
            "Use a smaller `k`, or draw more."
        )
    filled = taken | {"metric": metric, "linkage": linkage, "leader_rule": rule}
    return items, Recipe(**filled | {"stride": stride, "sample": sample})


def check_metric(items: Items, metric: str) -> None:
    """Check the metric: RMSD is for trajectory frames only, and frames have no other."""
    if (metric == "rmsd") != (items.kind == "frames"):
        only = "frames have the metric rmsd" if items.kind == "frames" else "rmsd is for trajectories"
        raise ValueError(f"`metric` is {metric!r}, but {items.name} holds {items.kind}: {only}.")


def check_second_pass(max_dist: float | None, block: int | None) -> tuple[float | None, int | None]:
    """The largest distance and the block size of the second pass, as plain Python numbers."""
    return SECOND_PASS["max_dist"].check(max_dist), SECOND_PASS["block"].check(block)


def check_sample(n: int, items: Items, recipe: Recipe, runner: Runner) -> None:
    """Check that the sample fits a worker's memory; the error names the largest that does."""
    need = first_pass.sample_bytes(n, items.n_features, recipe.compat)
    if need <= runner.task_budget:
        return
    fitting = first_pass.largest_sample(items.n_features, runner.task_budget, recipe.compat)
    way = f"`stride={-(-items.n_items // max(1, fitting))}` or `sample={fitting}`" if fitting else "fewer features"
    raise MemoryLimitError(
        f"first pass: a sample of {n:,} {items.kind} x {items.n_features:,} values needs {format_bytes(need)}, but a "
        f"worker of {format_bytes(runner.memory_limit)} gives its tasks {format_bytes(runner.task_budget)}. The "
        f"largest that fits has {fitting:,}: use {way}, or a larger `memory_limit`."
    )


def feature_order(items: Items, url: str, wanted: Any) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Column of each feature of the representatives in the items' table; None if the columns are the same."""
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
