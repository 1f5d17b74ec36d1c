"""Commands that find CAGs: ``run``, ``cluster``, ``cut``."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import DISTANCE, Setting, clustering, computes, keys, kind, writes
from cagdask.cli.tables import cag_table, counts


def _emit(setting: Setting, output: str) -> None:
    """Print what a run found and where its files are."""
    from cagdask import storage

    content = storage.read_json(storage.join(output, "run.json"))
    summary = content["summary"]
    files = [*content["files"], "run.json"]
    text = [counts(summary), "", cag_table(summary["largest"]), "", f"Files in {output}:"]
    text += [f"  {name}" for name in files]
    setting.emit(content, "\n".join(text))


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--output", required=True, metavar="URL", help="Folder to write to: a path, or an s3:// URL.")
@clustering
@keys
@kind
@computes
def run(setting: Setting, source: str, output: str, **options: Any) -> None:
    """Ingest, cluster, and write all files, in one go.

    INPUT is a sample sheet (a JSON object of sample and file), a table of genes and samples (TSV or CSV, also gzipped,
    Parquet, Feather), or a store. An interrupted run goes on when the same command is given again.
    """
    from cagdask import pipeline

    pipeline.run(source, output=output, overwrite=setting.overwrite, **setting.where, **options)
    _emit(setting, output)


@click.command()
@click.argument("store", metavar="STORE")
@click.option("--output", required=True, metavar="URL", help="Folder to write to: a path, or an s3:// URL.")
@clustering
@computes
def cluster(setting: Setting, store: str, output: str, **options: Any) -> None:
    """Find the CAGs of a store, and write all files of a run but the report.

    STORE is what `cagdask ingest` made. An interrupted command goes on when it is given again.
    """
    from cagdask import pipeline

    pipeline.cluster(store, output=output, overwrite=setting.overwrite, **setting.where, **options)
    _emit(setting, output)


@click.command()
@click.argument("result", metavar="RESULT")
@click.option("--max-dist", type=DISTANCE, required=True, help="Distance to cut at; at most that of RESULT.")
@click.option("--output", required=True, metavar="URL", help="Result store to make.")
@writes
def cut(setting: Setting, result: str, max_dist: float, output: str) -> None:
    """Get the CAGs of a smaller threshold, without clustering again.

    RESULT is a cags.zarr, or the folder of a run that holds one.
    """
    from cagdask import cags, reporting

    ds = reporting.open_result(result)
    cags.cut(ds.encoding["source"], max_dist=max_dist, output=output, overwrite=setting.overwrite)
    summary = reporting.summarize(output)
    text = f"{counts(summary)}\n\n{cag_table(summary['largest'])}\n\nResult: {output}"
    setting.emit({"output": output, "max_dist": max_dist, "summary": summary}, text)
