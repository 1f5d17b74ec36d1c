"""The files of a classification: model card, tables, curves and pictures.

model.json        the model card: labels, features, options, numbers of every split, warnings
model/, calibration/, plane/   arrays of the model that is kept; nothing of them is executed when they are read
scores.tsv        split, label, precision, recall, f1, auc, support
studies.tsv       the same of each study by itself
predictions.tsv   every held-out sample: its labels, those given, how probable they are
features.tsv      features of the model, with permutation importance over the folds
members.parquet   genes of the CAGs that the model uses
labels.tsv        samples and studies of each label, and why some are not learned
unlabelled.tsv    samples of the source without a label: those given, and the most similar labelled samples
curves.json       points of ROC and calibration curves, confusion matrix
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, storage
from cagdask.labels.classification import features, scoring
from cagdask.labels.classification.aggregation import how_made, write_members
from cagdask.labels.classification.answers import SEPARATOR, UNKNOWN, answers, per_label, predicted
from cagdask.labels.classification.models import decide

if TYPE_CHECKING:
    import pandas as pd

    from cagdask.labels.classification.folds import ScoredFiles
    from cagdask.labels.classification.training import Fold, Samples

logger = logging.getLogger(__name__)

CARD, CURVES = "model.json", "curves.json"
FORMAT = 2
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """All that files are made of: the source, its samples, options, folds with what they found, the kept features."""

    held: features.Source
    samples: Samples
    chosen: dict[str, Any]
    folds: list[Fold]
    found: list[ScoredFiles]
    rows: Int64
    parts: list[str]

    @property
    def names(self) -> list[str]:
        """Labels."""
        return list(self.samples.found.names)

    @property
    def main(self) -> str:
        """The split whose numbers count."""
        return "grouped" if any(fold.split == "grouped" for fold in self.folds) else "random"


@dataclass(frozen=True)
class HeldOut:
    """Tested samples of one split, in the order of the store: place, fold, scores and probabilities."""

    place: Int64
    fold: Int64
    scores: Float64
    probabilities: Float64


def write(outcome: Outcome, folder: str, leak: float) -> dict[str, Any]:
    """Write all files but the model's arrays into a folder; gives the model card.

    Parameters
    ----------
    outcome
        What they are made of.
    folder
        Where the arrays are already.
    leak
        Difference of the splits' numbers that is warned of.
    """
    samples, single = outcome.samples, outcome.samples.found.single
    numbers: dict[str, Any] = {}
    tables, curves = [], {}
    for split in dict.fromkeys(fold.split for fold in outcome.folds):
        held = _held_out(outcome, split)
        having = samples.member[held.place]
        given = decide(held.scores, single)
        rows = scoring.score_labels(outcome.names, held.scores, given, having)
        calls = answers(held.scores, held.probabilities, outcome.names, single, outcome.chosen["unknown_below"])
        known = ~calls["unknown"].to_numpy(bool)
        numbers[split] = scoring.summarize(rows, held.probabilities, given, having) | {
            "n_folds": int(held.fold.max()) + 1,
            "unknown": float(1 - known.mean()),
            "accuracy_if_known": float((given == having).all(axis=1)[known].mean()) if known.any() else None,
            "labels": rows,
        }
        tables.append(_predictions(outcome, split, held, calls))
        curves[split] = _curves(outcome.names, held, calls, having, single)
    warnings = [*samples.messages, *leaks(numbers, leak)]
    for message in warnings[len(samples.messages) :]:
        logger.warning("%s", message)
    card = _card(outcome, numbers, warnings)
    _write_tables(outcome, folder, numbers, tables)
    storage.write_json(storage.join(folder, CURVES), curves)
    storage.write_json(storage.join(folder, CARD), card)
    if outcome.held.kind == "cags":
        write_members(outcome.held.matrix.url, outcome.rows, folder)
    _write_unlabelled(outcome, folder, card)
    draw(folder)
    return card


def leaks(numbers: dict[str, Any], leak: float) -> list[str]:
    """Warn of a random split that reads much higher than the grouped one."""
    if "grouped" not in numbers:
        return []
    said = []
    for name, title in (("macro_f1", "macro F1"), ("macro_auc", "macro AUC")):
        one, other = numbers["random"][name], numbers["grouped"][name]
        if one is not None and other is not None and one - other > leak:
            said.append(
                f"{title} is {one:.2f} if samples are split at random, and {other:.2f} if studies are kept apart: "
                "the first is a batch effect of the studies. Expect the second of new studies."
            )
    return said


def _held_out(outcome: Outcome, split: str) -> HeldOut:
    folds = [(fold, one) for fold, one in zip(outcome.folds, outcome.found, strict=True) if fold.split == split]
    place = np.concatenate([np.flatnonzero(fold.test) for fold, _ in folds])
    order = np.argsort(place, kind="stable")
    number = np.concatenate([np.full(int(fold.test.sum()), fold.number) for fold, _ in folds])
    scores = np.concatenate([one.score for _, one in folds])
    probabilities = np.concatenate([one.probability for _, one in folds])
    return HeldOut(place[order], number[order], scores[order], probabilities[order])


# -- tables ----------------------------------------------------------------------------------------------------------


def _said(outcome: Outcome, place: Int64) -> list[str]:
    return [SEPARATOR.join(name for name, one in zip(outcome.names, row, strict=True) if one)
            for row in outcome.samples.member[place].tolist()]  # fmt: skip


def _predictions(outcome: Outcome, split: str, held: HeldOut, calls: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    samples = outcome.samples
    made = {"split": split, "fold": held.fold, "sample": [samples.names[i] for i in held.place.tolist()]}
    if samples.studies is not None:
        made["study"] = samples.studies[held.place]
    made["label"] = _said(outcome, held.place)
    table = pd.concat([pd.DataFrame(made), calls], axis=1)
    return table.assign(**per_label(outcome.names, held.probabilities))


def _write_tables(outcome: Outcome, folder: str, numbers: dict[str, Any], tables: list[pd.DataFrame]) -> None:
    import pandas as pd

    every = pd.concat(tables, ignore_index=True)
    write_table(every, storage.join(folder, "predictions.tsv"))
    rows = [{"split": split, **row} for split, found in numbers.items() for row in found["labels"]]
    write_table(pd.DataFrame(rows), storage.join(folder, "scores.tsv"))
    write_table(pd.DataFrame([one._asdict() for one in outcome.samples.verdicts]), storage.join(folder, "labels.tsv"))
    write_table(importance_table(outcome), storage.join(folder, "features.tsv"))
    if "study" in numbers:
        write_table(_studies(every[every["split"] == "study"]), storage.join(folder, "studies.tsv"))


def _studies(held: pd.DataFrame) -> pd.DataFrame:
    """One row per study that was kept apart."""
    import pandas as pd

    rows = []
    for study, own in held.groupby("study", sort=True):
        labels = sorted(set(own["label"]))
        f1 = [scoring.f1_of(*((own[c] == x).to_numpy()[:, None] for c in ("predicted", "label")))[0] for x in labels]
        right = float((own["label"] == own["predicted"]).mean())
        rows.append({"study": study, "n_samples": len(own), "labels": SEPARATOR.join(labels), "accuracy": right,
                     "macro_f1": float(np.mean(f1)), "unknown": float(own["unknown"].mean())})  # fmt: skip
    return pd.DataFrame(rows)


def importance_table(outcome: Outcome) -> pd.DataFrame:
    """Features of the model: permutation importance, mean over the folds of the main split that used a feature most."""
    import pandas as pd

    total, count = np.zeros(outcome.held.n), np.zeros(outcome.held.n, np.int64)
    for fold, one in zip(outcome.folds, outcome.found, strict=True):
        if fold.split == outcome.main:
            total[one.permuted] += one.importance
            count[one.permuted] += 1
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)[outcome.rows]
    names = outcome.held.names_of(outcome.rows)
    table = pd.DataFrame({"feature": names, "importance": mean, "n_folds": count[outcome.rows]})
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def write_table(table: pd.DataFrame, url: str) -> None:
    """A TSV; numbers with nine digits."""
    text = table.to_csv(sep="\t", index=False, lineterminator="\n", float_format="%.9g", na_rep="")
    storage.write_bytes(url, text.encode())


def _write_unlabelled(outcome: Outcome, folder: str, card: dict[str, Any]) -> None:
    labelled = outcome.samples.found.labelled
    column = np.flatnonzero(~labelled).astype(np.int64)
    if not len(column):
        return
    names = [str(name) for name in outcome.samples.found.table.index[column]]

    def read(begin: int, end: int) -> Any:
        return features.read_values(outcome.parts, outcome.rows, column[begin:end])

    write_table(predicted(folder, card, names, read), storage.join(folder, "unlabelled.tsv"))


# -- card, curves, pictures ------------------------------------------------------------------------------------------


def _card(outcome: Outcome, numbers: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    samples, held = outcome.samples, outcome.held
    digest = str(storage.open_group(held.matrix.url).attrs.get("input_digest", held.matrix.digest))
    studies = None if samples.studies is None else len(set(samples.studies))
    return {
        "format": FORMAT,
        "kind": "classifier",
        "source": provenance.source(),
        "input_digest": digest,
        "options": outcome.chosen,
        "features": {
            "kind": held.kind,
            "identity": features.identity_of(held),
            "n_available": held.n,
            "names": held.names_of(outcome.rows),
        }
        | (how_made(held.matrix.url) if held.kind == "cags" else {}),
        "labels": [asdict_verdict(one) for one in samples.verdicts],
        "label_names": outcome.names,
        "single": samples.found.single,
        "samples": samples.names,
        "sample_labels": _said(outcome, np.arange(len(samples.names))),
        "n_studies": studies,
        "main_split": outcome.main,
        "splits": numbers,
        "warnings": warnings,
    }


def asdict_verdict(one: Any) -> dict[str, Any]:
    """A verdict as JSON."""
    return dict(one._asdict(), learned=not one.why_not)


def _curves(names: list[str], held: HeldOut, calls: pd.DataFrame, having: Bools, single: bool) -> dict[str, Any]:
    curves: dict[str, Any] = {"calibration": scoring.calibration_curve(held.probabilities, having)}
    curves["roc"] = {name: scoring.roc_points(held.scores[:, i], having[:, i]) for i, name in enumerate(names)}
    if single:
        place = {name: i for i, name in enumerate([*names, UNKNOWN])}
        counts = np.zeros((len(names), len(names) + 1), int)
        for true, call in zip(having.argmax(axis=1).tolist(), calls["call"], strict=True):
            counts[true, place[call] if call in place else -1] += 1
        curves["confusion"] = {"labels": names, "counts": counts.tolist()}
    return curves


def draw(folder: str) -> None:
    """The pictures of a classification, as PNG beside its tables; of the split whose numbers count."""
    from cagdask.plot import classification
    from cagdask.plot import save as save_chart

    for name, picture in classification.MODEL_PLOTS.items():
        chart = picture(folder)
        if chart is not None:
            save_chart(chart, storage.join(folder, f"{name}.png"))
