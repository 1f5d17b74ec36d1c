"""Command for two-pass clustering: ``twopass``."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import COUNT, Outcome, Setting, computes
from cagdask.cli.tables import table

_FIRST_PASS = {
    "k": "-k",
    "stride": "--stride",
    "sample": "--sample",
    "metric": "--metric",
    "linkage": "--linkage",
    "n_leaders": "--leaders",
    "leader_rule": "--leader-rule",
    "compat": "--compat",
    "seed": "--seed",
}


@click.command()
@click.argument("source", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--output", required=True, metavar="FOLDER", help="Folder to make: a path, or an s3:// URL.")
@click.option("-k", "--clusters", "k", type=COUNT, help="Number of clusters.")
@click.option("--leaders-from", "fitted", metavar="FOLDER", help="Label by the leaders of an earlier twopass instead.")
@click.option(
    "--of",
    type=click.Choice(["genes", "samples", "cags"]),
    help="What of a store is clustered; default: genes, or the CAGs of a result.",
)
@click.option("--stride", type=COUNT, help="Cluster every N-th item in the first pass.")
@click.option("--sample", type=COUNT, help="Or so many, drawn by chance; default: 2000, or all.")
@click.option(
    "--metric",
    type=click.Choice(["euclidean", "cosine", "correlation", "rmsd"]),
    help="Distance of two items; default: euclidean, and rmsd for trajectories.",
)
@click.option("--linkage", type=click.Choice(["ward", "average", "complete"]), help="Of the sample; default: ward.")
@click.option("--leaders", "n_leaders", type=COUNT, help="Leaders of each cluster; default: 2.")
@click.option(
    "--leader-rule",
    type=click.Choice(["medoid", "random", "k-centre"]),
    help="Which items lead a cluster; default: medoid.",
)
@click.option("--max-dist", type=click.FloatRange(0), help="Leave items farther from every leader unassigned.")
@click.option("--top", "topology", metavar="FILE", help="Topology of trajectories that have none.")
@click.option(
    "--compat",
    type=click.Choice(["mdtraj-notebook"]),
    help="Cluster as the notebook does: Ward on the square matrix, random leaders, stride 5.",
)
@click.option("--block", type=COUNT, help="Items per task; default: as many as fit. Changes no label.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of what is drawn; default: 0.")
@computes
def twopass(setting: Setting, source: tuple[str, ...], fitted: str | None, **options: Any) -> Outcome:
    """Cluster a sample, then put everything to its nearest leader.

    SOURCE is a store, a Parquet file with names in its first column, or one or more trajectories. The leaders are kept
    in FOLDER, and label other data with --leaders-from.
    """
    first_pass = {name: options.pop(name) for name in _FIRST_PASS}
    first_pass = {name: value for name, value in first_pass.items() if value is not None}
    if fitted and first_pass:
        raise click.UsageError(
            f"{_FIRST_PASS[next(iter(first_pass))]} is for a first pass, and --leaders-from skips it."
        )
    if not fitted and "k" not in first_pass:
        raise click.UsageError("Missing option '-k', the number of clusters (or --leaders-from).")
    if "stride" in first_pass and "sample" in first_pass:
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
    return "\n".join(lines)
