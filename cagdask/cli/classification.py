"""The commands ``classify``, ``predict`` and ``augment``: labels learned from samples, and given to new ones."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import Outcome, Setting, computes, declared
from cagdask.cli.task_help import TaskCommand
from cagdask.labels.classification.options import AUGMENT, CLASSIFY

SHOWN = 20
"""Labels of the summary: those with the most samples."""


@click.command(cls=TaskCommand)
@click.argument("source", metavar="SOURCE")
@click.option(
    "--labels",
    required=True,
    metavar="FOLDER|FILE|COLUMN",
    help="Lists of samples, a TSV or CSV, or a metadata column.",
)
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder to make: model, scores, pictures.")
@declared(CLASSIFY)
@computes
def classify(setting: Setting, source: str, labels: str, output: str, **options: Any) -> Outcome:
    """Learn labels of samples, and test what was learned on samples kept apart.

    SOURCE is a store of abundances or expression (genes) or what cagdask ingest makes one of, a cags.zarr or the folder
    of a run (CAGs), or the output of cagdask nmf (factors). With --groups, whole studies are kept apart as well, which
    is what new studies will see.

    Example: cagdask classify cohort.zarr --labels metadata.tsv --label-column disease --groups study -o model
    """
    from cagdask.labels.classification.training import classify as of_library

    where = {"overwrite": setting.overwrite, **setting.where}
    card = of_library(source, labels=labels, output=output, **options, **where)
    names = ("label_names", "main_split", "splits", "warnings")
    content = {"output": output, "n_samples": len(card["samples"]), "n_features": len(card["features"]["names"])}
    return content | {name: card[name] for name in names}, lambda: _classified(output, card)


def _classified(output: str, card: dict[str, Any]) -> str:
    from cagdask.cli.tables import table

    lines = [f"{output}: {len(card['label_names'])} labels, {len(card['samples']):,} samples, "
             f"{len(card['features']['names']):,} features"]  # fmt: skip
    for split, found in card["splits"].items():
        auc = "-" if found["macro_auc"] is None else f"{found['macro_auc']:.3f}"
        lines.append(
            f"{split} split: macro F1 {found['macro_f1']:.3f}, macro AUC {auc}, {found['unknown']:.0%} unknown"
        )
    rows = sorted(card["splits"][card["main_split"]]["labels"], key=lambda row: (-row["support"], row["label"]))[:SHOWN]
    header = ["label", "samples", "precision", "recall", "F1", "AUC"]
    cells = [[row["label"], str(row["support"]), *(_number(row[name]) for name in ("precision", "recall", "f1", "auc"))]
             for row in rows]  # fmt: skip
    return "\n".join([*lines, "", table(header, cells)])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@click.command(cls=TaskCommand)
@click.argument("model", metavar="MODEL")
@click.argument("new", metavar="NEW")
@click.option("-o", "--output", required=True, metavar="FILE", help="Table to make, .tsv.")
@click.option(
    "--missing",
    type=click.Choice(["error", "zero"]),
    default="error",
    show_default=True,
    help="Features of the model that NEW lacks: stop, or take them as absent.",
)
@computes
def predict(setting: Setting, model: str, new: str, output: str, missing: str) -> Outcome:
    """Give labels to new samples.

    MODEL is the output of cagdask classify. NEW holds samples with the same kind of features, made comparable in the
    same way; features are matched by name. For a model of CAGs, NEW may hold genes: a store, a table or a sample sheet.
    """
    from cagdask.labels.classification.prediction import predict as of_library

    where = {"overwrite": setting.overwrite, **setting.where}
    found = of_library(model, new, output=output, missing=missing, **where)
    n_unknown = int(found["unknown"].sum())
    counts = {
        str(name): int(n) for name, n in sorted(found["call"].value_counts().items(), key=lambda one: str(one[0]))
    }
    text = f"{output}: {len(found):,} samples, {n_unknown:,} of them unknown"
    content = {"output": output, "n_samples": len(found), "n_unknown": n_unknown, "calls": counts}
    if found.attrs:
        text += "; {n_genes_found:,} of the {n_genes_of_model:,} genes of the model's CAGs are there".format(
            **found.attrs
        )
    return content | dict(found.attrs), text


@click.command(cls=TaskCommand)
@click.argument("source", metavar="SOURCE")
@click.option(
    "--labels",
    required=True,
    metavar="FOLDER|FILE|COLUMN",
    help="Lists of samples, a TSV or CSV, or a metadata column.",
)
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder to make: report, scores, picture.")
@declared(AUGMENT)
@computes
def augment(setting: Setting, source: str, labels: str, output: str, **options: Any) -> Outcome:
    """Measure whether synthetic samples of rare labels help a model with real ones.

    Samples are split again and again; synthetic ones are made from training samples, and only real ones are tested.
    What is recommended is for --augment of cagdask classify.
    """
    from cagdask.cli.tables import table
    from cagdask.labels.classification.augmentation import augment as of_library

    where = {"overwrite": setting.overwrite, **setting.where}
    report = of_library(source, labels=labels, output=output, **options, **where)
    names = ("recommended", "rare_labels", "methods", "not_tried", "warnings")
    rows = [[name, *(f"{one[number]:.3f}" for number in ("rare_f1", "macro_f1", "rise", "standard_error"))]
            for name, one in report["methods"].items()]  # fmt: skip
    text = f"{output}: rare labels are {', '.join(report['rare_labels'])}; recommended: {report['recommended']}"
    header = ["synthetic samples", "F1 of rare labels", "macro F1", "rise", "standard error"]
    lines = [f"{text}\n\n{table(header, rows)}"]
    for name, one in report["methods"].items():
        lines += [f"{name}: no samples of {r['label']} in {r['n_splits']} splits, they were {r['why']}"
                  for r in one["refused"]]  # fmt: skip
    if "gan" in report["not_tried"]:
        lines.append('gan was not tried: PyTorch is not installed (pip install "cagdask[gan]")')
    return {"output": output} | {name: report[name] for name in names}, "\n".join(lines)
