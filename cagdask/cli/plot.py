"""The command ``plot``: any picture of a result as a file."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import Outcome, Setting, writes
from cagdask.cli.task_help import TaskCommand

NAMES = (
    "sizes", "coverage", "threshold-curve", "cohesion", "prevalence", "heat-map", "composition", "dendrogram",
    "error-rate", "roles", "stability",
)  # fmt: skip
"""The pictures of a result, said here too so that --help does not load what draws them; a test compares."""
STORE_NAMES = ("density",)
"""The pictures of a store."""
OTHER_NAMES = ("volcano", "loadings", "signal", "synthetic")
"""The pictures of a test, of factors, of measures of genes, and of synthetic samples."""
MODEL_NAMES = ("label-counts", "label-f1", "confusion", "roc", "calibration")
"""The pictures of a classifier."""
_BY = {"composition": "color_by", "heat-map": "group_by"}


@click.command(cls=TaskCommand)
@click.argument("name", metavar="NAME", type=click.Choice([*NAMES, *OTHER_NAMES, *STORE_NAMES, *MODEL_NAMES]))
@click.argument("result", metavar="RESULT")
@click.option("-o", "--output", metavar="FILE", required=True, help="File to write: .svg, .png or .html.")
@click.option("--by", metavar="COLUMN", help="Color (composition) or group (heat-map) samples by this metadata column.")
@click.option("--cag", metavar="NUMBER", type=click.IntRange(min=0), help="For dendrogram: the CAG; default: 0.")
@click.option("--before", metavar="STORE", help="For density: the store before normalization, drawn beside it.")
@click.option("--split", metavar="NAME", help="For a classifier: random, grouped or study; default: grouped if there.")
@writes
def plot(setting: Setting, name: str, result: str, output: str, **options: Any) -> Outcome:
    """Draw one picture of a result, of a store, or of a classifier.

    NAME is one of: sizes (CAGs by number of genes), coverage (share of genes and abundance in CAGs of at least some
    size), threshold-curve (what smaller thresholds give), cohesion and prevalence (a point per CAG), heat-map (the
    largest CAGs over samples), composition (samples in a plane), dendrogram (the merge tree within one CAG),
    error-rate (share of genes grouped by chance), roles (core, accessory and shared genes), stability (CAGs found
    again in both halves of the samples). RESULT is a cags.zarr or the folder of a run. For volcano (effects and p
    values) it is the table of cagdask test, for signal (signal and mean of each gene) that of cagdask metrics; for
    loadings (the strongest genes of each factor) the folder of cagdask nmf, for synthetic (real and synthetic samples
    in a plane) that of cagdask augment. For density (distribution of the values of each sample) it is a store of
    counts, abundances or expression; for label-counts, label-f1, confusion, roc and calibration it is the output of
    cagdask classify.

    Example: cagdask plot composition my-cags -o samples.svg --by diagnosis
    """
    places = {"by": tuple(_BY), "cag": ("dendrogram",), "before": STORE_NAMES, "split": MODEL_NAMES[1:]}
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if name not in places[option]:
            raise click.UsageError(f"--{option} is for {' and '.join(places[option])}, not for {name}.")
    if name in MODEL_NAMES:
        from cagdask.plot.classification import MODEL_PLOTS

        chart = MODEL_PLOTS[name](result, **given)
        if chart is None:
            raise click.UsageError(f"{result}: its samples have several labels, of which there is no {name} matrix.")
    else:
        from cagdask.plot import OTHER_PLOTS, PLOTS, STORE_PLOTS

        chosen = {_BY[name] if option == "by" else option: value for option, value in given.items()}
        chart = (PLOTS | OTHER_PLOTS | STORE_PLOTS)[name](result, **chosen)
    from cagdask.plot import save

    where = save(chart, output, overwrite=setting.overwrite)
    return {"output": where}, where
