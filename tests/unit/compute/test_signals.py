"""Signals that arrive at odd instants."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from cagdask.compute import signals

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


NOT_RUN = """
import os, signal
from cagdask.compute import signals

async def work():
    pass

def begin():
    coming = work()
    os.kill(os.getpid(), signal.{name})
    return coming

try:
    with signals.raised():
        begin()
except KeyboardInterrupt as err:
    print(signals.line_and_code(err)[1])
"""


@pytest.mark.parametrize(("name", "said"), [("SIGINT", "130"), ("SIGTERM", "143")])
def test_a_signal_between_a_coroutine_and_its_run_is_no_warning(name: str, said: str) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + NOT_RUN.format(name=name)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False)
    assert (ended.stdout.strip(), ended.stderr) == (said, "")


class Named:
    """An attribute during whose making a signal arrives: Python turns what is raised there into a RuntimeError."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __set_name__(self, *_: object) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_a_class_is_made_is_that_signal(number: signal.Signals, code: int) -> None:
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # which nohup changes, and a shell for what runs behind
    try:
        with pytest.raises(KeyboardInterrupt) as raised, signals.raised():
            type("Made", (), {"attribute": Named(number)})
    finally:
        signal.signal(number, before)
    assert signals.line_and_code(raised.value)[1] == code


def test_an_error_while_a_signal_is_handled_is_that_signal_and_others_stay() -> None:
    def tidied_up_badly() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise OSError("while tidying up")

    with pytest.raises(signals.Ended, match="SIGTERM"), signals.raised():
        tidied_up_badly()
    with pytest.raises(OSError, match="of its own"), signals.raised():
        raise OSError("of its own")
