"""Commands that find CAGs: ``run``, ``cluster``, ``cut``, ``assign``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cagdask.cags.options import ASSIGN
from cagdask.cli.failures import worded
from cagdask.cli.next_steps import after_result
from cagdask.cli.options import (
    DISTANCE,
    Outcome,
    Setting,
    clustering,
    computes,
    declared,
    keys,
    kind,
    on_bad_sample,
    reading,
)
from cagdask.cli.tables import cag_table, counts, table
from cagdask.cli.task_help import TaskCommand


def _checked(_ctx: click.Context, _param: click.Parameter, formats: str) -> tuple[str, ...]:
    if not formats:
        return ()
    from cagdask.runs.files import checked_formats

    try:
        return checked_formats(formats)
    except ValueError as err:
        raise click.BadParameter(str(err)) from err


_formats = click.option(
    "--format",
    "formats",
    metavar="NAME[,NAME]",
    default="",
    callback=_checked,
    help="Formats of tables beside Parquet: tsv, csv, h5ad (AnnData), geneshot (HDF5).",
)


def _outcome(output: str) -> Outcome:
    """Tell what a run found and where its files are."""
    from cagdask import storage, stores

    content = storage.read_json(storage.join(output, stores.RUN))
    summary = content["summary"]
    files = [*content["files"], stores.RUN]
    text = [counts(summary), "", cag_table(summary["largest"]), "", f"Files in {output}:"]
    said = [content["choice"]] if "choice" in content else []
    if "error_rate" in content:
        said.append(worded(click.get_current_context(), content["error_rate"]["in_words"]))
    text[1:1] = said
    text += [f"  {name}" for name in files]
    text += ["", after_result(output)]
    return content, "\n".join(text)


@click.command(cls=TaskCommand)
@click.argument("source", metavar="INPUT")
@click.option(
    "--output", "--store", "output", required=True, metavar="URL", help="Folder to write to: a path, or an s3:// URL."
)
@clustering
@keys
@kind
@on_bad_sample
@reading
@_formats
@computes
def run(setting: Setting, source: str, output: str, formats: tuple[str, ...], **options: Any) -> Outcome:
    """Ingest, cluster, and write all files, in one go.

    INPUT is what `cagdask ingest` takes (a table of genes and samples, a sheet, a folder of samples), or a store. An
    interrupted run goes on when the same command is given again.
    """
    from cagdask.compute.quick_start import start_quickly
    from cagdask.runs import pipeline

    start_quickly()
    where = {"overwrite": setting.overwrite, "formats": formats} | setting.where
    pipeline.write_run(source, output, options, where)  # type: ignore[arg-type]  # click checks them
    return _outcome(output)


@click.command(cls=TaskCommand)
@click.argument("store", metavar="STORE")
@click.option("--output", required=True, metavar="URL", help="Folder to write to: a path, or an s3:// URL.")
@clustering
@_formats
@computes
def cluster(setting: Setting, store: str, output: str, formats: tuple[str, ...], **options: Any) -> Outcome:
    """Find the CAGs of a store, and write all files of a run but the report.

    STORE is what `cagdask ingest` made. An interrupted command goes on when it is given again.
    """
    from cagdask.compute.quick_start import start_quickly
    from cagdask.runs import pipeline

    start_quickly()
    where = {"overwrite": setting.overwrite, "formats": formats} | setting.where
    pipeline.write_clusters(store, output, options, where)  # type: ignore[arg-type]  # click checks them
    return _outcome(output)


@click.command(cls=TaskCommand)
@click.argument("result", metavar="RESULT")
@click.option("--max-dist", type=DISTANCE, help="Distance to cut at; at most that of RESULT.")
@click.option(
    "--output", metavar="URL", help="Folder to write the files of a run to; or NAME.zarr, for the result store alone."
)
@click.option("--store", metavar="URL", help="Store that was clustered; default: what the run of RESULT says.")
@click.option("--sweep", is_flag=True, help="Only show what every threshold would give; nothing is written.")
@_formats
@computes
def cut(
    setting: Setting,
    result: str,
    max_dist: float | None,
    output: str | None,
    store: str | None,
    sweep: bool,
    formats: tuple[str, ...],
) -> Outcome:
    """Get the CAGs of a smaller threshold, without clustering again.

    RESULT is a cags.zarr, or the folder of a run that holds one.

    Examples: cagdask cut my-cags --sweep, then cagdask cut my-cags --max-dist 0.1 --output finer-cags
    """
    if sweep:
        if max_dist is not None or output or store or formats:
            raise click.UsageError("--sweep writes nothing; leave --max-dist, --output, --store and --format out.")
        return _sweep(result)
    if max_dist is None or output is None:
        raise click.UsageError("Give --max-dist and --output; or --sweep to see what every threshold gives.")
    from cagdask import stores
    from cagdask.compute.quick_start import start_quickly
    from cagdask.runs import derived

    start_quickly()
    url = stores.open_result(result).url
    where = {"overwrite": setting.overwrite, "formats": formats} | setting.where
    made = derived.write_cut(url, output, max_dist=max_dist, store=store, where=where)
    content, text = _told(output, made)
    return content | {"output": output, "max_dist": max_dist}, text


def _told(output: str, made: str) -> Outcome:
    """What was made of a result: a folder with the files of a run, or the result store ``made`` alone."""
    from cagdask.reports import page

    if not output.rstrip("/").endswith(".zarr"):
        return _outcome(output)
    summary = page.summarize(made)
    return {"summary": summary}, f"{counts(summary)}\n\n{cag_table(summary['largest'])}\n\nResult: {output}"


_SHOWN_THRESHOLDS = 20
"""Lines of a sweep's table on screen; --json has all."""


def _sweep(result: str) -> Outcome:
    """What every smaller threshold would give, from the merge tree alone."""
    from cagdask import storage, stores
    from cagdask.plot.numbers import threshold_table

    made = threshold_table(storage.open_dataset(stores.open_result(result).url))
    made = made.astype(object).where(made.notna(), None)
    step = max(1, len(made) // _SHOWN_THRESHOLDS)
    rows = made.iloc[(len(made) - 1) % step :: step]  # the last one is that of the result
    with_rate = "fdr" in rows

    def cells(row: Any) -> list[str]:
        rate = ["-" if row.fdr is None else f"{row.fdr:.2%}"] if with_rate else []
        cohesion = "-" if row.cohesion is None else f"{row.cohesion:.3f}"
        sizes = f"{row.n_groups:,}", f"{row.n_alone:,}", f"{row.largest:.1%}"
        return [f"{row.max_dist:.4f}", *sizes, cohesion, *rate, "yes" if row.plateau else ""]

    by_chance, said = [], ""
    if with_rate:
        by_chance = ["by chance"]
        said = "By chance: share of the genes in CAGs that would be in some if the samples of each gene were shuffled. "
    head = ["max_dist", "CAGs of two or more", "genes alone", "largest CAG", "cohesion", *by_chance, "plateau"]
    note = (
        "Before refinement. On a plateau the threshold hardly matters: over a fifth of the range or more, at most 2 % "
        f"of the CAGs and genes alone are joined. {said}"
        f"As a picture: cagdask plot threshold-curve {shlex.quote(result)} -o thresholds.svg"
    )
    text = table(head, [cells(row) for row in rows.itertuples()])
    return {"thresholds": made.to_dict("records")}, f"{text}\n\n{note}"


@click.command(cls=TaskCommand)
@click.argument("store", metavar="STORE")
@click.option("--to", required=True, metavar="RESULT", help="A cags.zarr, or the folder of a run that holds one.")
@click.option(
    "--output",
    required=True,
    metavar="URL",
    help="Folder to write the files of a run to; or NAME.zarr, for the result store alone.",
)
@declared(ASSIGN)
@click.option(
    "--clustered", metavar="URL", help="Store that was clustered, if not STORE; default: what the run of RESULT says."
)
@_formats
@computes
def assign(
    setting: Setting,
    store: str,
    to: str,
    output: str,
    clustered: str | None,
    formats: tuple[str, ...],
    **options: Any,
) -> Outcome:
    """Assign genes that are alone, left out or new to the nearest CAG.

    STORE is the store that was clustered, or one with other genes of the same samples. CAGs keep their numbers.
    """
    import json

    from cagdask import storage, stores
    from cagdask.compute.quick_start import start_quickly
    from cagdask.runs import derived

    start_quickly()
    url = stores.open_result(to).url
    where = {"overwrite": setting.overwrite, "formats": formats} | setting.where
    made = derived.write_assigned(store, output, to=url, clustered=clustered, options=options, where=where)
    found = json.loads(storage.look(made).attrs["assignment"])
    content, told = _told(output, made)
    text = (
        f"{found['n_assigned']:,} genes assigned within {found['max_dist']:g}: {found['n_assigned_alone']:,} were "
        f"alone, {found['n_assigned_left_out']:,} left out, {found['n_assigned_new']:,} new. {found['n_clustered']:,} "
        f"are clustered, {found['n_alone']:,} alone, {found['n_left_out']:,} left out."
    )
    return content | {"output": output, "assignment": found}, f"{text}\n\n{told}"
