"""The command ``plot``: any picture of a result as a file."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import Outcome, Setting, writes
from cagdask.cli.task_help import TaskCommand

NAMES = ("sizes", "coverage", "threshold-curve", "cohesion", "prevalence", "heat-map", "composition")
"""The pictures of a result, said here too so that --help does not load what draws them; a test compares."""
STORE_NAMES = ("density",)
"""The pictures of a store."""
_BY = {"composition": "color_by", "heat-map": "group_by"}


@click.command(cls=TaskCommand)
@click.argument("name", metavar="NAME", type=click.Choice([*NAMES, *STORE_NAMES]))
@click.argument("result", metavar="RESULT")
@click.option("-o", "--output", metavar="FILE", required=True, help="File to write: .svg, .png or .html.")
@click.option("--by", metavar="COLUMN", help="Color (composition) or group (heat-map) samples by this metadata column.")
@click.option("--before", metavar="STORE", help="For density: the store before normalization, drawn beside it.")
@writes
def plot(setting: Setting, name: str, result: str, output: str, by: str | None, before: str | None) -> Outcome:
    """Draw one picture of a result, or of a store.

    NAME is one of: sizes (CAGs by number of genes), coverage (share of genes and abundance in CAGs of at least some
    size), threshold-curve (what smaller thresholds give), cohesion and prevalence (a point per CAG), heat-map (the
    largest CAGs over samples), composition (samples in a plane). RESULT is a cags.zarr or the folder of a run. For
    density (distribution of the values of each sample) it is a store of counts, abundances or expression.

    Example: cagdask plot composition my-cags -o samples.svg --by diagnosis
    """
    if by and name not in _BY:
        raise click.UsageError(f"--by is for {' and '.join(_BY)}, not for {name}.")
    if before and name not in STORE_NAMES:
        raise click.UsageError(f"--before is for {' and '.join(STORE_NAMES)}, not for {name}.")
    from cagdask.plot import PLOTS, STORE_PLOTS, save

    options: dict[str, Any] = {_BY[name]: by} if by else {"before": before} if before else {}
    where = save((PLOTS | STORE_PLOTS)[name](result, **options), output, overwrite=setting.overwrite)
    return {"output": where}, where
