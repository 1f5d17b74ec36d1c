"""The report of a small run, made by a process that gets ready while the run goes on.

To import the libraries that draw the report takes longer than to cluster a small table. A second process imports them
meanwhile. The page has the same bytes as that of :func:`cagdask.report`; if the second process fails in any way, this
process makes the page.

The program of the second process is this module. It reads one line of JSON from its standard input: the arguments of
:func:`cagdask.report`, and the S3 secrets, which it does not inherit. It ends with code 0 when the page is written. It
also ends at the end of its input, so it never outlives the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from cagdask.storage import s3_settings

Report = Callable[..., Any]
"""Writes the page of a result; arguments of :func:`cagdask.report`."""


@contextmanager
def report_beside() -> Iterator[Report]:
    """Start the process that will make a report; at the end of the block it is gone."""
    with s3_settings.hidden():
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run, which then ends this process
            text=True,
        )
    try:
        yield lambda result, **where: _ask(process, {"result": result, **where})
    finally:
        process.kill()
        process.communicate()


def _ask(process: subprocess.Popen[str], arguments: dict[str, Any]) -> None:
    try:
        process.communicate(json.dumps({"arguments": arguments, "secrets": s3_settings.secrets()}))
    except BrokenPipeError:
        pass
    if process.wait() != 0:
        from cagdask.reports.page import report

        report(**arguments)  # it says what is wrong, or does better


def main() -> None:
    """Get ready, wait for a line, write the page."""
    for name in ("altair", "jinja2", "pandas", "scipy.cluster.hierarchy", "xarray", "zarr"):
        import_module(name)
    from cagdask.reports import charts, page

    charts.program()
    line = sys.stdin.readline()
    if line:
        asked = json.loads(line)
        os.environ.update(asked["secrets"])
        page.report(**asked["arguments"])


if __name__ == "__main__":
    main()
