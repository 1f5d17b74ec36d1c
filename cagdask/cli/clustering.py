"""Commands that find CAGs: ``run``, ``cluster``, ``cut``, ``assign``."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import DISTANCE, Outcome, Setting, clustering, computes, keys, kind, on_bad_sample
from cagdask.cli.tables import cag_table, counts


def _outcome(output: str) -> Outcome:
    """Tell what a run found and where its files are."""
    from cagdask import storage, stores

    content = storage.read_json(storage.join(output, stores.RUN))
    summary = content["summary"]
    files = [*content["files"], stores.RUN]
    text = [counts(summary), "", cag_table(summary["largest"]), "", f"Files in {output}:"]
    if "error_rate" in content:
        text[1:1] = [content["error_rate"]["in_words"]]
    text += [f"  {name}" for name in files]
    return content, "\n".join(text)


@click.command()
@click.argument("source", metavar="INPUT")
@click.option(
    "--output", "--store", "output", required=True, metavar="URL", help="Folder to write to: a path, or an s3:// URL."
)
@clustering
@keys
@kind
@on_bad_sample
@computes
def run(setting: Setting, source: str, output: str, **options: Any) -> Outcome:
    """Ingest, cluster, and write all files, in one go.

    INPUT is a sample sheet (a JSON object of sample and file), a table of genes and samples (TSV or CSV, also gzipped,
    Parquet, Feather), or a store. An interrupted run goes on when the same command is given again.
    """
    from cagdask.runs import pipeline

    pipeline.write_run(source, output, options, {"overwrite": setting.overwrite} | setting.where)  # type: ignore[arg-type]  # click checks them
    return _outcome(output)


@click.command()
@click.argument("store", metavar="STORE")
@click.option("--output", required=True, metavar="URL", help="Folder to write to: a path, or an s3:// URL.")
@clustering
@computes
def cluster(setting: Setting, store: str, output: str, **options: Any) -> Outcome:
    """Find the CAGs of a store, and write all files of a run but the report.

    STORE is what `cagdask ingest` made. An interrupted command goes on when it is given again.
    """
    from cagdask.runs import pipeline

    pipeline.write_clusters(store, output, options, {"overwrite": setting.overwrite} | setting.where)  # type: ignore[arg-type]  # click checks them
    return _outcome(output)


@click.command()
@click.argument("result", metavar="RESULT")
@click.option("--max-dist", type=DISTANCE, required=True, help="Distance to cut at; at most that of RESULT.")
@click.option("--output", required=True, metavar="URL", help="Result store to make.")
@click.option("--store", metavar="URL", help="Store that was clustered; default: what the run of RESULT says.")
@computes
def cut(setting: Setting, result: str, max_dist: float, output: str, store: str | None) -> Outcome:
    """Get the CAGs of a smaller threshold, without clustering again.

    RESULT is a cags.zarr, or the folder of a run that holds one.
    """
    from cagdask import stores
    from cagdask.cags import clustering as cags
    from cagdask.reports import page

    url = stores.open_result(result).url
    store = store or stores.clustered_store(url)
    cags.cut(url, max_dist=max_dist, store=store, output=output, overwrite=setting.overwrite, **setting.where)
    summary = page.summarize(output)
    text = f"{counts(summary)}\n\n{cag_table(summary['largest'])}\n\nResult: {output}"
    return {"output": output, "max_dist": max_dist, "summary": summary}, text


@click.command()
@click.argument("store", metavar="STORE")
@click.option("--to", required=True, metavar="RESULT", help="A cags.zarr, or the folder of a run that holds one.")
@click.option("--output", required=True, metavar="URL", help="Result store to make.")
@click.option("--max-dist", type=DISTANCE, help="Largest distance to a CAG's mean direction; default: that of RESULT.")
@click.option(
    "--min-size",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="Fewest genes of a CAG that takes others in.",
)
@click.option(
    "--min-support",
    type=click.FloatRange(1),
    default=2,
    show_default=True,
    help="Fewest samples, effectively, on which a similarity must rest.",
)
@click.option(
    "--clustered", metavar="URL", help="Store that was clustered, if not STORE; default: what the run of RESULT says."
)
@computes
def assign(setting: Setting, store: str, to: str, output: str, clustered: str | None, **options: Any) -> Outcome:
    """Put genes that are alone, left out or new to the nearest CAG.

    STORE is the store that was clustered, or one with other genes of the same samples. CAGs keep their numbers.
    """
    import json

    from cagdask import stores
    from cagdask.cags import assignment
    from cagdask.reports import page

    url = stores.open_result(to).url
    clustered = clustered or stores.clustered_store(url)
    ds = assignment.assign(
        store, to=to, output=output, clustered=clustered, overwrite=setting.overwrite, **setting.where, **options
    )
    found = json.loads(ds.attrs["assignment"])
    summary = page.summarize(output)
    text = (
        f"{found['n_assigned']:,} genes assigned within {found['max_dist']:g}: {found['n_assigned_alone']:,} were "
        f"alone, {found['n_assigned_left_out']:,} left out, {found['n_assigned_new']:,} new. {found['n_clustered']:,} "
        f"are clustered, {found['n_alone']:,} alone, {found['n_left_out']:,} left out."
    )
    return {"output": output, "assignment": found, "summary": summary}, f"{text}\n\nResult: {output}"
