"""How far a run has come.

The library never prints. It tells the reporter of the current context which stage runs and how many of its items are
done; the command line installs one that draws bars (or writes plain lines when piped).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from cagdask.compute.time_left import Phase


class Reporter:
    """Hears of stages; this one says nothing."""

    def step(self, number: int, total: int, words: str) -> None:
        """Step ``number`` of ``total`` of a command begins; each is one or many stages."""

    def expect(self, phases: Callable[[], Sequence[Phase]]) -> None:
        """What is expected of the phases from here to the end of the command; made only if somebody looks."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """A stage of ``total`` items begins."""

    def advance(self, n: int = 1) -> None:
        """``n`` more items are done."""

    def finish(self, note: str = "") -> None:
        """The stage is over; ``note`` holds its outcome in a few words."""

    def message(self, text: str) -> None:
        """A line worth showing between stages."""


_reporter: ContextVar[Reporter] = ContextVar("reporter", default=Reporter())  # noqa: B039  # this one holds no state


def reporter() -> Reporter:
    """The reporter of the current context."""
    return _reporter.get()


@contextmanager
def reporting(to: Reporter) -> Iterator[Reporter]:
    """Report to ``to`` within the block."""
    token = _reporter.set(to)
    try:
        yield to
    finally:
        _reporter.reset(token)
