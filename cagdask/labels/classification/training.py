"""The library call ``classify``: learn labels, and say honestly how well.

    labels --judged--> samples, labels --dealt--> folds of the random, the grouped and the study split, and all samples
    store  --ranked--> features of every fold --read--> values
    folds  --tasks---> scores of held-out samples --> tables, warnings, pictures
    all    --task----> the model that is kept

Every fold chooses its features, fits and calibrates from its training samples alone.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.io.inputs import takes_any_input
from cagdask.labels.association import warn_of_scale
from cagdask.labels.classification import answers, boosting, features, gan, results, splits
from cagdask.labels.classification.folds import FoldFiles, ScoredFiles, fit_calibrated, fold_task
from cagdask.labels.classification.models import Recipe
from cagdask.labels.classification.neighbors import fit_plane
from cagdask.labels.classification.options import CLASSIFY, ClassifyOptions, checked
from cagdask.labels.judging import Verdict, confounded, judge
from cagdask.labels.reading import some_of
from cagdask.labels.sets import LabelSet, read_label_set

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

INNER_FOLDS = 3
"""Parts of the training samples for calibration."""
LEAK = 0.1
"""A macro F1 or AUC of the random split that is so much above that of the grouped one is warned of."""
Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Samples:
    """What is learned from.

    Attributes
    ----------
    found
        Labels that can be learned, of all samples of the store.
    verdicts
        What was said of each label.
    column
        Places of the samples that are used, in the store.
    studies
        Study of each used sample; None without studies.
    messages
        What was found to say of the labels.
    """

    found: LabelSet
    verdicts: list[Verdict]
    column: Int64
    studies: NDArray[np.object_] | None
    messages: list[str]

    @property
    def member(self) -> Bools:
        """Labels of the used samples, shape (n_used, n_labels)."""
        return self.found.member[self.column]

    @property
    def names(self) -> list[str]:
        """Names of the used samples."""
        return [str(name) for name in self.found.table.index[self.column]]


@dataclass(frozen=True)
class Fold:
    """Which of the used samples train and test; ``test`` has none for the model that is kept."""

    split: str
    number: int
    train: Bools
    test: Bools
    inner: Int64


@takes_any_input(features.reads_itself)
def classify(
    source: str,
    *,
    labels: str,
    output: str,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
    **options: Unpack[ClassifyOptions],
) -> dict[str, Any]:
    """Learn labels of samples, test what was learned on samples kept apart, and keep a model. Computes at once.

    Parameters
    ----------
    source
        Store of abundances or expression (genes), result store or run folder (CAGs), or folder of factors.
    labels
        A folder of lists of samples, a TSV or CSV, or a column of sample metadata:
        :func:`cagdask.labels.sets.read_label_set`.
    output
        Folder to make: ``model.json`` (the model card), ``model/``, ``scores.tsv``, ``predictions.tsv`` of held-out
        samples, ``features.tsv``, ``labels.tsv``, ``curves.json``, pictures, and ``unlabelled.tsv`` if there are such
        samples.
    overwrite
        Replace ``output``.
    client, n_workers, memory_limit
        As for :func:`cagdask.find_cags`.
    **options
        ``label_column``, ``separator``, ``label_kind`` ("auto"), ``min_label`` (10): which labels.
        ``model`` ("random-forest", "logistic" or "lightgbm"), ``features`` ("genes", "cags", "factors", "signal"),
        ``n_features`` (5000), ``n_trees`` (300), ``strength`` (1.0), ``augment`` ("none", "smote", "gaussian", "gan"),
        ``rare_below`` (20), ``seed`` (0): what learns, and from what.
        ``groups`` (column of studies), ``batch``, ``n_folds`` (5), ``leave_study_out``, ``unknown_below`` (0.5): how
        it is tested.

    Returns
    -------
    dict
        The model card, as in ``model.json``.

    Raises
    ------
    TypeError, ValueError
        An option is unknown or not allowed.
    InputError
        Fewer than two labels can be learned, a column is missing, or a value is not a number.
    MemoryLimitError
        The chosen features of all samples do not fit a worker.
    """
    chosen = checked(dict(options), CLASSIFY)
    if chosen["model"] == "lightgbm":
        boosting.check_installed()
    if chosen["augment"] == "gan":
        gan.check_installed()
    storage.check_target(storage.absolute(output), overwrite=overwrite)
    held = features.open_source(source, chosen["features"])
    samples = usable(held, labels, chosen)
    for message in samples.messages:
        logger.warning("%s", message)
    if held.matrix.name == "abundance":
        warn_of_scale(held.matrix)
    with as_runner(
        client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=12 * held.n * held.n_samples
    ) as runner:
        target = storage.absolute(output)
        recipe = {"command": "classify", "source": held.matrix.digest, "labels": labels, "options": chosen}
        folder, _ = storage.begin_work(target, recipe, overwrite=overwrite)
        try:
            card = _classified(held, samples, chosen, runner, folder)
            storage.publish(storage.join(folder, "result"), target)
        finally:
            storage.abandon_work(folder)  # folds are short: nothing is kept for a later try
    return card


def usable(held: features.Source, labels: str, chosen: dict[str, Any]) -> Samples:
    """Samples and labels that can be learned from; raises if there are too few."""
    found = read_label_set(
        labels,
        held.matrix.url,
        held.matrix.sample_names(),
        column=chosen["label_column"],
        separator=chosen["separator"],
        kind=chosen["label_kind"],
    )
    messages = found.messages()
    studies = None
    if chosen.get("groups"):
        studies = found.column(chosen["groups"], "studies")
        homeless = found.labelled & (studies == "")
        if homeless.any():
            names = [str(name) for name in found.table.index[homeless]]
            messages.append(f"{len(names):,} labelled samples have no study and are left out: {some_of(names)}")
            found.member[homeless] = False
    verdicts = judge(found, studies, chosen["min_label"])
    scored = [one.label for one in verdicts if not one.why_not]
    messages += [
        f"label {one.label!r} is not learned: {one.why_not} ({one.n_samples})" for one in verdicts if one.why_not
    ]
    if len(scored) < (2 if found.single else 1):
        said = "; ".join(f"{one.label}: {one.why_not or 'good'}" for one in verdicts[:10])
        raise InputError(f"{labels}: there is nothing to tell apart, {len(scored)} labels can be learned ({said}).")
    found = found.only(scored)
    for option in ("groups", "batch"):
        if chosen.get(option):
            messages += _confounding(found, chosen[option])
    column = np.flatnonzero(found.labelled).astype(np.int64)
    if studies is not None:
        studies = studies[column]
        if len(set(studies)) < 2:
            raise InputError(
                f"all labelled samples are of one study in column {chosen['groups']!r}. Leave out `groups`."
            )
    return Samples(found, verdicts, column, studies, messages)


def _confounding(found: LabelSet, column: str) -> list[str]:
    told = confounded(found, found.column(column, "batches"))
    if not told:
        return []
    return [f"{some_of(told)}: can not be told from {column!r}, none of whose values has samples with and without the "
            "label. What is learned may be the batch."]  # fmt: skip


# -- folds -----------------------------------------------------------------------------------------------------------


def folds_of(samples: Samples, chosen: dict[str, Any]) -> list[Fold]:
    """Folds of every split, and at last that of the model that is kept."""
    strata, seed = splits.strata_of(samples.member), chosen["seed"]
    n = min(chosen["n_folds"], int(np.bincount(strata).max()))
    dealt = {"random": splits.random_folds(strata, n, seed)}
    studies = samples.studies
    if studies is not None:
        n_groups = min(chosen["n_folds"], len(set(studies)))
        dealt["grouped"] = splits.grouped_folds(strata, studies, n_groups, seed)
        if chosen["leave_study_out"]:
            dealt["study"] = splits.study_folds(studies)
    elif chosen["leave_study_out"]:
        raise ValueError("`leave_study_out` needs studies: name their column with `groups`.")
    made = []
    for split, number in dealt.items():
        inner_groups = None if split == "random" else studies
        for fold in range(int(number.max()) + 1):
            train = number != fold
            inner = splits.inner_folds(strata, inner_groups, train, INNER_FOLDS, seed)
            made.append(Fold(split, fold, train, ~train, inner))
    every = np.ones(len(strata), bool)
    made.append(Fold("all", 0, every, ~every, splits.inner_folds(strata, studies, every, INNER_FOLDS, seed)))
    return made


def _classified(
    held: features.Source, samples: Samples, chosen: dict[str, Any], runner: Runner, folder: str
) -> dict[str, Any]:
    folds = folds_of(samples, chosen)
    recipe = Recipe(
        **{name: chosen[name] for name in ("model", "n_trees", "strength", "seed", "augment", "rare_below")}
    )
    check_memory(held, samples, chosen, runner)
    given = features.TrainFiles(
        column=samples.column, member=samples.member, train=np.stack([fold.train for fold in folds])
    )
    rows = features.choose(held, given, min(held.n, chosen["n_features"]), runner, folder)
    parts = features.gather(held, np.unique(np.concatenate(rows)), runner, folder)
    items = []
    main = "random" if samples.studies is None else "grouped"
    for i, (fold, own) in enumerate(zip(folds, rows, strict=True)):
        asked = storage.join(folder, f"fold-{i}-asked")
        FoldFiles(
            row=own, column=samples.column, member=samples.member, train=fold.train, test=fold.test, inner=fold.inner
        ).write(asked)
        items.append((parts, asdict(recipe), samples.found.single, fold.split == main, asked,
                      storage.join(folder, f"fold-{i}")))  # fmt: skip
    runner.map("folds", fold_task, items[:-1], unit="folds")
    staged = storage.join(folder, "result")
    runner.one("model", model_task, *items[-1][:3], items[-1][4], staged)
    found = [ScoredFiles.open(item[-1]) for item in items[:-1]]
    return results.write(results.Outcome(held, samples, chosen, folds[:-1], found, rows[-1], parts), staged, LEAK)


def check_memory(held: features.Source, samples: Samples, chosen: dict[str, Any], runner: Runner) -> None:
    """Refuse more chosen features than a worker can hold as often as a task does, before any of them is read."""
    n = min(held.n, chosen["n_features"])
    cell = 16 if chosen["model"] == "random-forest" else 40
    what = f"{len(samples.column):,} samples x {n:,} features; use fewer with `n_features`"
    runner.check_fits("classify", cell * len(samples.column) * n, what)


def model_task(parts: list[str], recipe: dict[str, Any], single: bool, given: str, folder: str) -> int:
    """Fit the model that is kept, of all samples, and write its arrays."""
    asked = FoldFiles.open(given)
    values = features.read_values(parts, np.asarray(asked.row), np.asarray(asked.column))
    model, curve = fit_calibrated(Recipe(**recipe), values, np.asarray(asked.member), np.asarray(asked.inner), single)
    model.files.write(storage.join(folder, answers.MODEL))
    curve.files.write(storage.join(folder, answers.CALIBRATION))
    fit_plane(values).write(storage.join(folder, answers.PLANE))
    return len(values)
