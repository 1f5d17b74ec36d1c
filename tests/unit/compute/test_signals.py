"""Signals that arrive at odd instants."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, time
from cagdask.compute import signals

class Deleted:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.2)

try:
    with signals.raised():
        Deleted()
        time.sleep(30)
except KeyboardInterrupt as err:
    print(type(err).__name__, signals.line_and_code(err)[1])
"""


@pytest.mark.parametrize(
    ("name", "said"), [("SIGINT", "KeyboardInterrupt 130"), ("SIGTERM", "Ended 143"), ("SIGHUP", "Ended 129")]
)
def test_a_signal_while_python_deletes_an_object_is_not_lost(name: str, said: str) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + PROGRAM.format(name=name)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False)
    assert (ended.stdout.strip(), ended.stderr) == (said, "")
