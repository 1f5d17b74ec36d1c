"""The command ``explore``: a result as a local page to walk through."""

from __future__ import annotations

import click

from cagdask.cli.options import Outcome, Setting, reads
from cagdask.cli.task_help import TaskCommand


@click.command(cls=TaskCommand)
@click.argument("result", metavar="RESULT")
@click.option("--port", type=click.IntRange(0, 65535), default=5006, show_default=True, help="0 takes a free one.")
@click.option("--address", default="localhost", show_default=True, help="Address to listen on; others need a password.")
@click.option("--show/--no-show", default=True, show_default=True, help="Open a browser.")
@reads
def explore(setting: Setting, result: str, port: int, address: str, show: bool) -> Outcome:
    """Walk through a result in a browser: genes, CAGs, samples, other thresholds.

    RESULT is a cags.zarr, or the folder of a run that holds one. The page is served to this machine alone, unless
    --address says otherwise; then it asks for a user name (any) and the password that is printed. Ctrl-C ends it.

    Example: cagdask explore my-cags
    """
    from cagdask.explore.app import explore as serve

    server = serve(result, port=port, address=address, show=False, block=False)
    where = f"http://{address}:{server.port}/"
    click.echo(f"{result}: {where}" + (f"  password: {server.password}" if server.password else ""), err=True)
    server.start()
    if show:
        server.show("/")
    server.run_until_shutdown()
    return {"url": where}, "ended"
