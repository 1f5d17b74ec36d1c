"""The command ``explore``: a result as a local page to walk through."""

from __future__ import annotations

from typing import Any

import click

from cagdask.cli.options import DISTANCE, Outcome, Setting, writes
from cagdask.cli.task_help import TaskCommand

VIEW_NAMES = ("find", "members", "samples", "nearest", "split", "similar", "analogy", "heat-map", "map")
"""What the page shows, said here too so that --help does not load what makes it; a test compares."""


@click.command(cls=TaskCommand)
@click.argument("result", metavar="RESULT|STORE")
@click.option("--port", type=click.IntRange(0, 65535), default=5006, show_default=True, help="0 takes a free one.")
@click.option("--address", default="localhost", show_default=True, help="Address to listen on; others need a password.")
@click.option("--show/--no-show", default=True, show_default=True, help="Open a browser.")
@click.option("--view", type=click.Choice(VIEW_NAMES), help="Serve nothing: write what this part of the page shows.")
@click.option("-o", "--output", metavar="FILE", help="With --view: a .tsv, .parquet, or for a picture .png or .svg.")
@click.option("--cag", type=click.IntRange(min=0), help="With --view: a CAG. Default: 0, the largest.")
@click.option("--gene", "genes", metavar="NAME", multiple=True, help="With --view: a gene; for analogy three times.")
@click.option("--text", metavar="TEXT", help="With --view find: a part of the name.")
@click.option("--max-dist", type=DISTANCE, help="With --view split: where to cut. Default: that of the result.")
@click.option("--by", metavar="COLUMN", help="With --view: a column of the metadata that samples are grouped by.")
@click.option("--rows", type=click.IntRange(2, 500), help="With --view heat-map: CAGs. Default: 40.")
@writes
def explore(
    setting: Setting, result: str, port: int, address: str, show: bool, view: str | None, output: str | None, **how: Any
) -> Outcome:
    """Walk through a result in a browser: genes, CAGs, samples, other thresholds, a map of all.

    RESULT is a cags.zarr, or the folder of a run that holds one; STORE holds genes without CAGs, as an embedding does.
    The page is served to this machine alone, unless --address says otherwise; then it asks for a user name (any) and
    the password that is printed. Ctrl-C ends it. Each part of the page says the command with --view that writes it.

    Example: cagdask explore my-cags
    """
    choice = {name: value for name, value in how.items() if value not in (None, ())}
    if view is not None:
        if output is None:
            raise click.UsageError("--view needs --output FILE.")
        from cagdask.explore.app import write_view

        where = write_view(result, view, output, overwrite=setting.overwrite, **choice)
        return {"output": where}, where
    if choice or output is not None:
        raise click.UsageError("choices and --output are for --view; the page has its own.")
    return _serve(result, port, address, show)


def _serve(result: str, port: int, address: str, show: bool) -> Outcome:
    from cagdask.explore.app import explore as serve

    server = serve(result, port=port, address=address, show=False, block=False)
    where = f"http://{address}:{server.port}/"
    click.echo(f"{result}: {where}" + (f"  password: {server.password}" if server.password else ""), err=True)
    server.start()
    if show:
        server.show("/")
    server.run_until_shutdown()
    return {"url": where}, "ended"
