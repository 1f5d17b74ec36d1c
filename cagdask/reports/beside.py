"""The report of a small run, made by a process that gets ready while the run goes on.

To import the libraries that draw the report takes longer than to cluster a small table. A second process imports them
meanwhile, and draws an example: much of a library is loaded when it is first used. The page has the same bytes as that
of :func:`cagdask.report`; if the second process fails in any way, this process makes the page.

The program of the second process is this module. It reads one line of JSON from its standard input: the arguments of
:func:`cagdask.report`, and the S3 secrets, which it does not inherit. It ends with code 0 when the page is written. It
also ends at the end of its input, so it never outlives the run.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cagdask.compute.quick_start import import_less
from cagdask.storage import s3_settings


class PageMaker:
    """Writes the page of a result: called with the arguments of :func:`cagdask.report`.

    Parameters
    ----------
    process
        The one that gets ready to do it; without one, this process does it.
    """

    def __init__(self, process: subprocess.Popen[str] | None = None) -> None:
        self._process, self._is_asked = process, False

    def begin(self, result: str, **where: Any) -> None:
        """Have the process beside begin the page, if there is one; the call with the same arguments waits for it."""
        if self._process is not None and not self._is_asked:
            _ask(self._process, {"result": result, **where})
            self._is_asked = True

    def __call__(self, result: str, **where: Any) -> None:
        """Write the page; the process beside does it, or this one."""
        self.begin(result, **where)
        if self._process is None or self._process.wait() != 0:
            from cagdask.reports.page import report

            report(result, **where)  # it says what is wrong, or does better

    def stop(self) -> None:
        """End the process beside; at the latest when the run ends."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def report_beside() -> Iterator[PageMaker]:
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
    maker = PageMaker(process)
    try:
        yield maker
    finally:
        maker.stop()


def _ask(process: subprocess.Popen[str], arguments: dict[str, Any]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps({"arguments": arguments, "secrets": s3_settings.secrets()}) + "\n")
        process.stdin.flush()


def main() -> None:
    """Get ready, wait for a line, write the page."""
    gc.disable()  # a page takes a second, and nothing that is imported is ever garbage
    atexit.register(gc.freeze)  # nor at the end, when Python would look through all of it once more
    import_less()
    import zarr  # noqa: F401  # results are read with it, and the example is in memory
    from altair.utils import schemapi

    from cagdask.reports import example, page

    schemapi.disable_debug_mode()  # tests check what altair would check again in each part of a chart
    with suppress(Exception):  # what is wrong is said when the page is made
        example.draw()
    line = sys.stdin.readline()
    if line:
        asked = json.loads(line)
        os.environ.update(asked["secrets"])
        page.report(**asked["arguments"])


if __name__ == "__main__":
    main()
