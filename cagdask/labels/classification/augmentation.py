"""The library call ``augment``: whether synthetic samples of rare labels help with real ones.

    labelled samples --split, many times--> training samples            -+--> model --> F1 of every label, on real
                                            training and smote samples   |              samples that were kept apart
                                            training and gaussian ones  -+
                                            training and those of a gan -+     (where PyTorch is installed)

Synthetic samples are made from training samples alone and are never tested. A way of making them is recommended only if
the F1 of rare labels rises by more than twice its standard error over the splits.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, storage
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.io.inputs import takes_any_input
from cagdask.labels.classification import balance, boosting, features, gan, scoring, splits
from cagdask.labels.classification.folds import FoldFiles
from cagdask.labels.classification.models import Recipe, decide, fit
from cagdask.labels.classification.neighbors import fit_plane
from cagdask.labels.classification.options import AUGMENT, AugmentOptions, checked
from cagdask.labels.classification.results import write_table
from cagdask.labels.classification.training import Samples, check_memory, usable

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

Float64 = NDArray[np.float64]

SURE = 2
"""Standard errors by which a rise is believed: of three ways that are tried, one often rises by one of them alone."""


def methods() -> tuple[str, ...]:
    """Ways of making synthetic samples that this environment has, the first of which is none."""
    return ("none", *(one for one in balance.METHODS if one != "gan" or gan.is_installed()))


@takes_any_input(features.reads_itself)
def augment(
    source: str,
    *,
    labels: str,
    output: str,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
    **options: Unpack[AugmentOptions],
) -> dict[str, Any]:
    """Measure whether synthetic samples of rare labels help a model with real samples. Computes at once.

    Parameters
    ----------
    source, labels
        As for :func:`cagdask.classify`.
    output
        Folder to make: ``augment.json`` (what is recommended, and all numbers), ``scores.tsv``, ``synthetic.tsv`` (real
        and synthetic samples in the plane of two principal components) and its picture.
    overwrite, client, n_workers, memory_limit
        As for :func:`cagdask.classify`.
    **options
        ``label_column``, ``separator``, ``label_kind``, ``min_label`` (5); ``model``, ``features``, ``n_features``,
        ``n_trees``, ``strength``, ``rare_below`` (20), ``seed`` as for :func:`cagdask.classify`; ``n_splits`` (12) and
        ``test_share`` (0.33); ``groups``, the column of studies, of which a split keeps whole ones apart.

    Returns
    -------
    dict
        The content of ``augment.json``. ``recommended`` is ``none``, ``smote``, ``gaussian`` or ``gan``: the value of
        the option ``augment`` of :func:`cagdask.classify`.

    Raises
    ------
    TypeError, ValueError
        An option is unknown or not allowed.
    InputError
        No label is rare, or fewer than two labels can be learned.
    """
    chosen = checked(dict(options), AUGMENT)
    if chosen["model"] == "lightgbm":
        boosting.check_installed()
    target = storage.absolute(output)
    storage.check_target(target, overwrite=overwrite)
    held = features.open_source(source, chosen["features"])
    samples = usable(held, labels, chosen)
    for message in samples.messages:
        logger.warning("%s", message)
    if not gan.is_installed():
        logger.info("gan is not tried: PyTorch is not installed")
    rare = [i for i, n in enumerate(samples.member.sum(axis=0).tolist()) if n < chosen["rare_below"]]
    if not rare:
        least = int(samples.member.sum(axis=0).min())
        raise InputError(
            f"{labels}: no label is rare, all have {least} samples or more. Raise `rare_below` to ask of more."
        )
    work_bytes = 12 * held.n * held.n_samples
    with as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work_bytes) as runner:
        recipe = {"command": "augment", "source": held.matrix.digest, "labels": labels, "options": chosen}
        folder, _ = storage.begin_work(target, recipe, overwrite=overwrite)
        try:
            report = _measured(held, samples, rare, chosen, runner, folder)
            storage.publish(storage.join(folder, "result"), target)
        finally:
            storage.abandon_work(folder)
    return report


def _measured(
    held: features.Source, samples: Samples, rare: list[int], chosen: dict[str, Any], runner: Runner, folder: str
) -> dict[str, Any]:
    recipe = Recipe(**{name: chosen[name] for name in ("model", "n_trees", "strength", "seed", "rare_below")})
    check_memory(held, samples, chosen, runner)
    strata = splits.strata_of(samples.member)
    by = chosen["test_share"], chosen["n_splits"], chosen["seed"]
    tests = splits.shares(strata, *by)
    if samples.studies is not None:
        tests = splits.study_shares(strata, samples.studies, *by)
    every = np.zeros(len(strata), bool)
    train = np.stack([~test for test in [*tests, every]])
    given = features.TrainFiles(column=samples.column, member=samples.member, train=train)
    rows = features.choose(held, given, min(held.n, chosen["n_features"]), runner, folder)
    parts = features.gather(held, np.unique(np.concatenate(rows)), runner, folder)
    items = []
    for i, (test, own) in enumerate(zip([*tests, every], rows, strict=True)):
        asked = storage.join(folder, f"split-{i}")
        FoldFiles(row=own, column=samples.column, member=samples.member, train=~test, test=test,
                  inner=np.full(len(test), -1, np.int64)).write(asked)  # fmt: skip
        items.append((parts, asdict(recipe), samples.found.single, asked))
    tried = methods()
    found = runner.map("splits", split_task, [(*item, list(tried)) for item in items[:-1]], unit="splits")
    report = _report(samples, rare, chosen, dict(zip(tried, zip(*found, strict=True), strict=True)))
    staged = storage.join(folder, "result")
    storage.write_json(storage.join(staged, "augment.json"), report)
    write_table(_scores(report), storage.join(staged, "scores.tsv"))
    shown = report["recommended"] if report["recommended"] != "none" else report["best"]
    runner.one("plane", plane_task, *items[-1], shown, list(samples.found.names), rare, staged)
    return report


def split_task(
    parts: list[str], recipe: dict[str, Any], single: bool, given: str, tried: list[str]
) -> list[tuple[list[float], dict[int, str]]]:
    """F1 of every label on the test samples of one split, and the labels that got no samples, for each method."""
    asked, made_of = FoldFiles.open(given), Recipe(**recipe)
    values = features.read_values(parts, np.asarray(asked.row), np.asarray(asked.column))
    train, test, member = np.asarray(asked.train), np.asarray(asked.test), np.asarray(asked.member)
    found = []
    for method in tried:
        more = balance.augmented(values[train], member[train], method, made_of.rare_below, made_of.seed)
        made = fit(made_of, more.values, more.member, single)
        f1 = scoring.f1_of(decide(made.scores(values[test]), single), member[test])
        found.append(([float(x) for x in f1], more.refused))
    return found


def plane_task(
    parts: list[str], recipe: dict[str, Any], single: bool, given: str, method: str, names: list[str],
    rare: list[int], folder: str,
) -> int:  # fmt: skip
    """Write real samples, and synthetic ones of rare labels, in the plane of two components; and the picture."""
    import pandas as pd

    from cagdask.plot import save as save_chart
    from cagdask.plot.classification import real_and_synthetic

    asked = FoldFiles.open(given)
    values = features.read_values(parts, np.asarray(asked.row), np.asarray(asked.column))
    member, made_of = np.asarray(asked.member), Recipe(**recipe)
    more = balance.augmented(values, member, method, made_of.rare_below, made_of.seed)
    every, labels = more.values, more.member
    plane = fit_plane(values)
    place = ((every.astype(np.float64) - plane.center) / plane.scale) @ plane.axis[:, :2]
    place = np.pad(place, ((0, 0), (0, 2 - place.shape[1])))
    own = [next((names[i] for i in rare if row[i]), "other") for row in labels.tolist()]
    kinds = ["real"] * len(values) + [method] * (len(every) - len(values))
    table = pd.DataFrame({"kind": kinds, "label": own, "component_1": place[:, 0], "component_2": place[:, 1]})
    write_table(table, storage.join(folder, "synthetic.tsv"))
    save_chart(real_and_synthetic(table), storage.join(folder, "synthetic.png"))
    return len(every)


def _report(
    samples: Samples, rare: list[int], chosen: dict[str, Any], found: dict[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """``found``: what each split said of each method."""
    report: dict[str, Any] = {}
    names = samples.found.names
    none = np.array([f1 for f1, _ in found["none"]])[:, rare].mean(axis=1)
    for method, splits_of in found.items():
        f1 = np.array([one for one, _ in splits_of])
        rise = f1[:, rare].mean(axis=1) - none
        error = float(rise.std(ddof=1) / np.sqrt(len(rise)))
        refused = Counter((names[int(label)], why) for _, some in splits_of for label, why in some.items())
        report[method] = {
            "rare_f1": float(f1[:, rare].mean()),
            "macro_f1": float(f1.mean()),
            "rise": float(rise.mean()),
            "standard_error": error,
            "helps": bool(method != "none" and rise.mean() > SURE * error),
            "labels": {name: float(x) for name, x in zip(names, f1.mean(axis=0), strict=True)},
            "refused": [{"label": label, "why": why, "n_splits": n} for (label, why), n in sorted(refused.items())],
        }
    best = max(list(report)[1:], key=lambda name: (report[name]["helps"], report[name]["rise"]))
    return {
        "kind": "augmentation",
        "source": provenance.source(),
        "options": chosen,
        "split_by": chosen["groups"] if samples.studies is not None else None,
        "rare_labels": [names[i] for i in rare],
        "best": best,
        "recommended": best if report[best]["helps"] else "none",
        "methods": report,
        "not_tried": [one for one in balance.METHODS if one not in found],
        "warnings": samples.messages,
    }


def _scores(report: dict[str, Any]) -> Any:
    import pandas as pd

    none = report["methods"]["none"]["labels"]
    rare = report["rare_labels"]
    rows = [{"method": method, "label": label, "is_rare": label in rare, "f1": f1, "rise": f1 - none[label]}
            for method, found in report["methods"].items() for label, f1 in found["labels"].items()]  # fmt: skip
    return pd.DataFrame(rows)
