"""Command for two-pass clustering: ``twopass``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import click

from cagdask.cli.next_steps import then
from cagdask.cli.options import Outcome, Setting, computes, declared
from cagdask.cli.tables import table
from cagdask.cli.task_help import TaskCommand
from cagdask.twopass.options import FIRST_PASS, TWO_PASS


@click.command(cls=TaskCommand)
@click.argument("source", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--output", required=True, metavar="FOLDER", help="Folder to make: a path, or an s3:// URL.")
@declared(replace(FIRST_PASS["k"], required=False))
@click.option("--leaders-from", "fitted", metavar="FOLDER", help="Label by the leaders of an earlier twopass instead.")
@declared(*(option for option in TWO_PASS.values() if option.name != "k"))
@computes
def twopass(setting: Setting, source: tuple[str, ...], fitted: str | None, **options: Any) -> Outcome:
    """Cluster a sample, then put everything to its nearest leader.

    SOURCE is a store, a Parquet file with names in its first column, or one or more trajectories. The leaders are kept
    in FOLDER, and label other data with --leaders-from.
    """
    first_pass = {name: options.pop(name) for name in FIRST_PASS}
    source_of = click.get_current_context().get_parameter_source
    given_too = [name for name in FIRST_PASS if source_of(name) is click.core.ParameterSource.COMMANDLINE]
    if fitted and given_too:
        raise click.UsageError(f"{FIRST_PASS[given_too[0]].flag} is for a first pass, and --leaders-from skips it.")
    if not fitted and first_pass["k"] is None:
        raise click.UsageError("Missing option '-k', the number of clusters (or --leaders-from).")
    if first_pass["stride"] is not None and first_pass["sample"] is not None:
        raise click.UsageError("--stride and --sample are two ways to draw; give one of them.")

    import json

    from cagdask.twopass.two_pass import label_by_leaders, two_pass

    given = source[0] if len(source) == 1 else list(source)
    shared = {"overwrite": setting.overwrite, **setting.where, **options}
    if fitted:
        ds = label_by_leaders(given, leaders=fitted, **shared)
    else:
        ds = two_pass(given, **first_pass, **shared)
    report = json.loads(ds.attrs["report"])
    return {"output": options["output"]} | report, _text(report, options["output"])


def _text(report: dict[str, Any], output: str) -> str:
    items = report["items"]
    header, rows = ["cluster", items], [[str(i + 1), f"{n:,}"] for i, n in enumerate(report["sizes"][:20])]
    if "drawn_sizes" in report:
        header.append("in the sample")
        rows = [[*row, f"{n:,}"] for row, n in zip(rows, report["drawn_sizes"], strict=False)]
    lines = [
        f"{report['n_items']:,} {items} in {len(report['sizes'])} clusters, {report['n_unassigned']:,} unassigned."
    ]
    if "kept_first_label" in report:
        lines[0] += f" {report['kept_first_label']:.1%} of the {report['n_drawn']:,} drawn kept their first label."
    lines += ["", table(header, rows), "", f"Files in {output}:", *(f"  {name}" for name in report["files"])]
    picture = "dendrogram.png" if "dendrogram.png" in report["files"] else "distances.png"
    new = f"cagdask twopass NEW --leaders-from {shlex.quote(output)} --output new-labels"
    lines += ["", f"Look at {picture}: whether the clusters are apart.", "", then((new, "label other items by these"))]
    return "\n".join(lines)
