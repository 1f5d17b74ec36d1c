"""The command ``normalize``: abundances and expression made comparable over samples."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cagdask.cli.data import store_outcome, store_text
from cagdask.cli.failures import worded
from cagdask.cli.next_steps import then
from cagdask.cli.options import Outcome, Setting, clr_floor, computes
from cagdask.cli.task_help import TaskCommand

_ABUNDANCE = ("sum", "median", "hellinger", "clr", "none")


@click.command(cls=TaskCommand)
@click.argument("source", metavar="STORE")
@click.option("--output", required=True, metavar="URL", help="Store to make.")
@click.option(
    "--method",
    "--normalization",
    "method",
    default="sum",
    show_default=True,
    metavar="METHOD",
    help="sum, median, hellinger, clr or none for abundances; for expression cpm, tpm, rpkm, tmm, median-of-ratios, "
    "log, quantile, or several of them as in tpm+log+quantile.",
)
@clr_floor
@click.option("--lengths", metavar="FILE", help="Gene lengths for tpm and rpkm: GTF, GFF or a table.")
@click.option(
    "--length-rule",
    type=click.Choice(["longest-transcript", "union-exon", "genomic-span"]),
    default="longest-transcript",
    show_default=True,
    help="What the length of a gene is in a GTF or GFF.",
)
@click.option("--length-column", metavar="NAME", help="Column of a table of lengths; default: length or width.")
@click.option(
    "--without-length",
    type=click.Choice(["error", "drop", "median"]),
    default="error",
    show_default=True,
    help="Genes whose length is not known: stop, leave them out, or use the median of the others.",
)
@click.option("--target", metavar="STORE", help="Earlier output whose quantiles new samples get.")
@click.option(
    "--compat", type=click.Choice(["archs4"]), help="log, quantile, then over gene length: the scripts of ARCHS4."
)
@computes
def normalize(setting: Setting, source: str, output: str, method: str, clr_floor: Any, **options: Any) -> Outcome:
    """Write the normalized table of a store as another store.

    Clustering normalizes abundances by itself: this is for other programs, and for expression.
    """
    if method in _ABUNDANCE and not options["compat"]:
        given = [name for name in ("lengths", "length_column", "target") if options[name]]
        if given:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is not for --method {method}.")
        ds = _normalize_abundance(setting, source, output, method, clr_floor)
    else:
        from cagdask.expression.normalizing import normalize_expression
        from cagdask.expression.request import parse_method

        if clr_floor is not None:
            raise click.UsageError("--clr-floor is only for --method clr.")
        if options["compat"]:
            method = "quantile"
        try:
            parse_method(method)
        except ValueError as err:
            raise click.BadParameter(worded(click.get_current_context(), str(err)), param_hint="--method") from err
        where = {"overwrite": setting.overwrite, **setting.where}
        ds = normalize_expression(source, output=output, method=method, **options, **where)
    outcome = store_outcome(output, ds)
    made = shlex.quote(output)
    steps = then(
        (f"cagdask metrics {made} -o metrics.tsv", "how strong, common and specific each gene is"),
        (f"cagdask plot density {made} --before {shlex.quote(source)} -o density.svg", "values before and after"),
    )
    return outcome, f"{store_text(outcome)}\n\n{steps}"


def _normalize_abundance(setting: Setting, source: str, output: str, method: str, clr_floor: Any) -> Any:
    from cagdask import storage
    from cagdask.compute.connect import as_runner
    from cagdask.io.inputs import as_store
    from cagdask.normalization import methods

    storage.check_target(storage.absolute(output), overwrite=setting.overwrite)
    with as_store(source, beside=output, **setting.where) as store:
        ds = methods.normalize(storage.open_dataset(store), method=method, clr_floor=clr_floor)
        with as_runner(**setting.where, work_bytes=3 * ds["abundance"].nbytes) as runner, runner.dask_scheduler():
            storage.save_dataset(ds, output, overwrite=setting.overwrite)
    return ds
