"""The ``cagdask`` command: words on the command line turned into one library call each.

Only click is imported here and in the modules of this package; what computes is imported inside the commands, so that
``--help`` answers at once.
"""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.association import test
from cagdask.cli.classification import augment, classify, predict
from cagdask.cli.clustering import assign, cluster, cut, run
from cagdask.cli.data import ingest, simulate
from cagdask.cli.explore import explore
from cagdask.cli.factors import nmf
from cagdask.cli.failures import explain, is_verbose, worded
from cagdask.cli.looking import compare, info, plan, report
from cagdask.cli.metrics import metrics
from cagdask.cli.normalize import normalize
from cagdask.cli.plot import plot
from cagdask.cli.twopass import twopass
from cagdask.cli.vectors import analogy, similar
from cagdask.compute import signals


class _Commands(click.Group):
    """Commands that end with 1 and one line on stderr when they fail."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals.raised():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as err:
            if is_verbose(ctx):
                import traceback

                click.echo("".join(traceback.format_exception(err)), err=True, nl=False)
            line, code = explain(err)
            click.echo(f"cagdask: {worded(ctx, line)}", err=True)
            ctx.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order in which they are used."""
        return list(self.commands)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from cagdask.provenance import cagdask_version

        click.echo(f"cagdask {cagdask_version()}")
        ctx.exit()


@click.group(name="cagdask", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def main() -> None:
    """Co-abundant gene groups (CAGs): exact average linkage, out of core, on Dask.

    To begin: cagdask run sample_sheet.json --output results
    """


_COMMANDS = (
    run, ingest, cluster, cut, assign, normalize, metrics, test, classify, predict, augment, similar, analogy, nmf,
    twopass, info, plan, report, compare, plot, explore, simulate,
)  # fmt: skip
for _command in _COMMANDS:
    main.add_command(_command)
