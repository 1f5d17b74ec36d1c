"""Classification of real labelled cohorts: beside scikit-learn in memory, and from CAGs instead of genes.

    python scripts/real_labels.py beside --data FOLDER      # same folds, same forest, the whole matrix in memory
    python scripts/real_labels.py features --data FOLDER    # genes, and CAGs, as features
    python scripts/real_labels.py rare --data FOLDER        # F1 of rare labels over 12 splits

The data are not part of the project. FOLDER (or the environment variable CAGDASK_REAL_DATA) holds

    03_prism_gene_catalogue   of biobakery's test data: demo_genecatalogs_counts.RPK.tsv.gz, maaslin2_metadata.tsv
    04_mlrepo_labelled        ravel, karlsson, kostic and sokol of MLRepo (knights-lab/MLRepo)
    05_tcga_expression        three subsets of cognoma/cancer-data, with samples.tsv
    10_scrna                  10x_pbmc68k_reduced.h5ad of scanpy

Prints one line of Markdown for each cohort and split.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, roc_auc_score

MLREPO = "04_mlrepo_labelled"
N_TREES = 300


@dataclass(frozen=True)
class Cohort:
    """A table, where its labels are, and how it is read.

    Attributes
    ----------
    table, labels, column
        Files below the folder of data, and the column with labels.
    ingest, classify
        More options of these commands.
    normalization
        How samples are made comparable; none for what is so already.
    """

    table: str
    labels: str
    column: str = "Var"
    ingest: tuple[str, ...] = ()
    classify: tuple[str, ...] = ()
    normalization: str = "sum"


def mlrepo(folder: str, task: str, *ingest: str, table: str = "gg_otutable.txt.gz", groups: str = "") -> Cohort:
    """A cohort of MLRepo."""
    return Cohort(f"{MLREPO}/{folder}/{table}", f"{MLREPO}/{folder}/{task}", ingest=ingest,
                  classify=("--groups", groups) if groups else ())  # fmt: skip


COHORTS = {
    "ravel, Nugent score": mlrepo("ravel", "task-nugent-category.txt"),
    "karlsson, NGT or T2D": mlrepo(
        "karlsson", "task-normal-diabetes.txt", "--exclude-genes", "^$", table="taxatable.txt.gz"
    ),
    "kostic, tumor": mlrepo("kostic", "task.txt", groups="ControlVar"),
    "sokol, Crohn's disease": mlrepo("sokol", "task-healthy-cd.txt", table="gg_otutable.biom.gz"),
    "sokol, ulcerative colitis": mlrepo("sokol", "task-healthy-uc.txt", table="gg_otutable.biom.gz"),
    "TCGA, cancer type": Cohort(
        "05_tcga_expression", "05_tcga_expression/samples.tsv", "acronym", ("--orient", "samples-by-genes"),
        ("--min-label", "5", "--n-features", "20000"), "none",
    ),
    "TCGA, 5,000 genes chosen": Cohort(
        "05_tcga_expression", "05_tcga_expression/samples.tsv", "acronym", ("--orient", "samples-by-genes"),
        ("--min-label", "5"), "none",
    ),
}  # fmt: skip
SHOTGUN = {
    "karlsson, NGT or T2D": COHORTS["karlsson, NGT or T2D"],
    "PRISM, Crohn's disease": Cohort(
        "03_prism_gene_catalogue/demo_genecatalogs_counts.RPK.tsv.gz",
        "03_prism_gene_catalogue/maaslin2_metadata.tsv", "diagnosis",
    ),
}  # fmt: skip


def command(*arguments: str) -> dict[str, Any]:
    """What a command of cagdask prints as JSON."""
    done = subprocess.run([sys.executable, "-m", "cagdask", *arguments, "--json", "--no-progress"],
                          check=False, capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise click.ClickException(f"cagdask {' '.join(arguments)}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table_of(data: Path, cohort: Cohort, folder: str) -> str:
    """The table of a cohort; that of TCGA comes in parts, two of whose samples are there twice."""
    if not (data / cohort.table).is_dir():
        return str(data / cohort.table)
    parts = [pd.read_csv(one, sep="\t", index_col=0) for one in sorted((data / cohort.table).glob("*-all-genes.*"))]
    whole = pd.concat(parts)
    url = f"{folder}/table.tsv"
    whole[~whole.index.duplicated()].to_csv(url, sep="\t")
    return url


def ingested(data: Path, cohort: Cohort, folder: str) -> str:
    """Store of a cohort, comparable over samples."""
    raw, store = f"{folder}/raw.zarr", f"{folder}/store.zarr"
    kind = () if cohort.normalization != "none" else ("--kind", "expression")
    command("ingest", table_of(data, cohort, folder), "--store", raw, *cohort.ingest, *kind)
    if cohort.normalization == "none":
        return raw
    command("normalize", raw, "--method", cohort.normalization, "--output", store)
    return store


def classified(data: Path, cohort: Cohort, source: str, output: str, *more: str) -> tuple[dict[str, Any], Any]:
    """Model card and held-out samples of a classification."""
    command("classify", source, "--labels", str(data / cohort.labels), "--label-column", cohort.column,
            "-o", output, "--n-trees", str(N_TREES), *cohort.classify, *more)  # fmt: skip
    card = json.loads(Path(output, "model.json").read_text())
    return card, pd.read_csv(f"{output}/predictions.tsv", sep="\t", dtype={"sample": str, "label": str})


def whole_matrix(data: Path, cohort: Cohort, folder: str) -> pd.DataFrame:
    """Samples x features in memory, read by pandas alone, each sample over its sum where that is asked for."""
    url = table_of(data, cohort, folder)
    if ".biom" in url:
        with gzip.open(url) as file:
            held = json.load(file)
        made = np.zeros(held["shape"])
        for row, column, value in held["data"]:
            made[row, column] = value
        frame = pd.DataFrame(made, columns=[one["id"] for one in held["columns"]]).T
    elif "samples-by-genes" in cohort.ingest:
        frame = pd.read_csv(url, sep="\t", index_col=0)
    else:
        frame = pd.read_csv(url, sep="\t", index_col=0, keep_default_na=False).T
        frame = frame.loc[:, frame.columns != ""].astype(float)
    frame.index = frame.index.astype(str)
    return frame if cohort.normalization == "none" else frame.div(frame.sum(axis=1), axis=0)


def by_scikit_learn(matrix: pd.DataFrame, held: pd.DataFrame) -> dict[str, float]:
    """The same forest on the same folds of the whole matrix."""
    X, y = matrix.loc[held["sample"]].to_numpy(np.float32), held["label"].to_numpy()
    names = sorted(set(y))
    scores = np.zeros((len(y), len(names)))
    for fold in sorted(set(held["fold"])):
        test = (held["fold"] == fold).to_numpy()
        forest = RandomForestClassifier(N_TREES, random_state=0).fit(X[~test], y[~test])
        scores[np.ix_(test, np.searchsorted(names, forest.classes_))] = forest.predict_proba(X[test])
    given = np.array(names)[scores.argmax(axis=1)]
    areas = [roc_auc_score(y == name, scores[:, i]) for i, name in enumerate(names)]
    return {"macro_auc": float(np.mean(areas)), "accuracy": float((given == y).mean()),
            "macro_f1": float(f1_score(y, given, average="macro"))}  # fmt: skip


def beside_rows(data: Path, cohort: Cohort) -> Iterator[str]:
    """Of each split: size, and each number by both."""
    with tempfile.TemporaryDirectory() as folder:
        card, held = classified(data, cohort, ingested(data, cohort, folder), f"{folder}/model")
        matrix = whole_matrix(data, cohort, folder)
        for split, numbers in card["splits"].items():
            own = held[held["split"] == split]
            other = by_scikit_learn(matrix, own)
            size = f"{len(own)} x {matrix.shape[1]:,} | {len(card['label_names'])} | {split}"
            yield " | ".join([size, *(f"{numbers[name]:.3f}, {other[name]:.3f}" for name in other)])


folder_option = click.option("--data", envvar="CAGDASK_REAL_DATA", required=True, type=click.Path(path_type=Path))


@click.group()
def main() -> None:
    """Classify real cohorts."""


@main.command()
@folder_option
@click.option("--only", default="", help="Cohorts whose name begins so.")
def beside(data: Path, only: str) -> None:
    """Each cohort by cagdask, and by scikit-learn with the whole matrix in memory."""
    click.echo("| cohort | samples x features | labels | split | AUC | accuracy | macro F1 |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    for name, cohort in COHORTS.items():
        for row in beside_rows(data, cohort) if name.startswith(only) else ():
            click.echo(f"| {name} | {row} |")


@main.command()
@folder_option
@click.option("--seeds", default=5, show_default=True, help="Times that samples are dealt to folds anew.")
@click.option("--max-dist", default="auto", show_default=True)
def features(data: Path, seeds: int, max_dist: str) -> None:
    """Genes and CAGs of shotgun tables as features, on the same folds."""
    click.echo("| cohort | features | number | AUC | accuracy | macro F1 |")
    click.echo("| --- | --- | --- | --- | --- | --- |")
    for name, cohort in SHOTGUN.items():
        with tempfile.TemporaryDirectory() as folder:
            store = ingested(data, cohort, folder)
            command("run", f"{folder}/raw.zarr", "--output", f"{folder}/cags", "--max-dist", max_dist)
            for said, source in (("genes", store), ("CAGs", f"{folder}/cags")):
                found = []
                for seed in range(seeds):
                    card, _ = classified(data, cohort, source, f"{folder}/model", "--seed", str(seed), "--overwrite")
                    found.append([card["splits"]["random"][one] for one in ("macro_auc", "accuracy", "macro_f1")])
                number = len(card["features"]["names"])
                means, spread = np.mean(found, axis=0), np.std(found, axis=0)
                row = " | ".join(f"{mean:.3f} ± {one:.3f}" for mean, one in zip(means, spread, strict=True))
                click.echo(f"| {name} | {said} | {number:,} | {row} |")


@main.command()
@folder_option
def rare(data: Path) -> None:
    """F1 of labels with few samples, and of all, over 12 splits of 67 to 33 %, for each model and augmentation."""
    click.echo("| model | augmentation | F1 of rare labels | macro F1 |")
    click.echo("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/cells.zarr"
        command("ingest", str(data / "10_scrna" / "10x_pbmc68k_reduced.h5ad"), "--store", store, "--kind", "expression")
        models = {"logistic": ("--model", "logistic"), "random-forest, 10 trees": ("--n-trees", "10"),
                  "random-forest, 100 trees": ("--n-trees", "100")}  # fmt: skip
        for name, options in models.items():
            found = command("augment", store, "--labels", "bulk_labels", "-o", f"{folder}/a", "--overwrite", *options)
            for method, numbers in found["methods"].items():
                click.echo(f"| {name} | {method} | {numbers['rare_f1']:.3f} | {numbers['macro_f1']:.3f} |")


if __name__ == "__main__":
    main()
