"""Showing how far a run has come, on stderr: bars on a terminal, plain lines when piped, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from cagdask.compute.memory import format_bytes
from cagdask.compute.progress import Reporter, reporting
from cagdask.compute.time_left import Phase, TimeLeft

LINE_SECONDS = 10.0
"""Least time between two lines about the same stage."""
STAGE_WIDTH = 40
"""Columns for the name of a stage, before its bar."""
SHORT_SECONDS = 1.0
"""A stage shorter than this is worth one line."""


@contextmanager
def shown(*, no_progress: bool = False) -> Iterator[None]:
    """Show progress within the block, as suits stderr."""
    if no_progress:
        yield
    elif sys.stderr.isatty():
        bars = Bars()
        with reporting(bars):
            try:
                yield
            finally:
                bars.close()
    else:
        with reporting(Lines()):
            yield


def amount(n: float, unit: str) -> str:
    """``n`` of a unit in words: ``"1,200 genes"``, ``"1 gene"``, ``"1.5 GiB"``."""
    if unit == "bytes":
        return format_bytes(n)
    return f"{n:,.0f} {unit.removesuffix('s') if n == 1 else unit}"


def share_of(done: float, total: float, unit: str) -> str:
    """``done`` of ``total`` in words: ``"1,200 of 5,000 genes"``."""
    return f"{format_bytes(done) if unit == 'bytes' else f'{done:,.0f}'} of {amount(total, unit)}"


def is_single(total: float, unit: str) -> bool:
    """Whether a stage is one task, which says nothing to people."""
    return total == 1 and unit == "tasks"


def duration(seconds: float) -> str:
    """Seconds in words: ``"8 s"``, ``"3 min 05 s"``, ``"2 h 10 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def about(seconds: float) -> str:
    """Seconds in words that promise no more than is known: ``"about 20 s"``, ``"about 5 min"``, ``"about 2 h 10 min"``.

    >>> about(3), about(84), about(7_900)
    ('about 10 s', 'about 80 s', 'about 2 h 10 min')
    """
    step = 10 if seconds < 95 else 60 if seconds < 3600 else 600
    whole = max(step, step * round(seconds / step))
    if whole < 3600:
        return f"about {whole} s" if step == 10 else f"about {whole // 60} min"
    rest = f" {whole % 3600 // 60} min" if whole % 3600 else ""
    return f"about {whole // 3600} h{rest}"


class _Counting(Reporter):
    """What both ways of showing have in common: what is done of a stage, its rate, and what is left of the command."""

    def __init__(self) -> None:
        self.stage, self.unit = "", ""
        self.total = self.done = 0
        self.begun = 0.0
        self.time_left: TimeLeft | None = None

    def step(self, number: int, total: int, words: str) -> None:
        """Begin a step of the command."""
        if self.time_left is not None:
            self.time_left.begin(words, time.monotonic())

    def expect(self, phases: Callable[[], Sequence[Phase]]) -> None:
        """Hear what is expected of the rest of the command."""
        expected = phases()
        self.time_left = TimeLeft(expected, time.monotonic()) if expected else None

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a stage."""
        self.stage, self.total, self.unit, self.done = stage, total, unit, 0
        self.begun = time.monotonic()
        if self.time_left is not None:
            self.time_left.begin(stage, self.begun)

    def whole_rest(self) -> str:
        """``"about 5 min left"`` of the whole command; empty where nothing is known."""
        share = self.done / self.total if self.total else 0.0
        left = None if self.time_left is None else self.time_left.seconds(share, time.monotonic())
        return "" if left is None else f"{about(left)} left"

    def advance(self, n: int = 1) -> None:
        """Count what is done."""
        self.done += n

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began."""
        return max(time.monotonic() - self.begun, 1e-9)

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.done / self.elapsed

    def rate_and_rest(self) -> str:
        """``"12 genes/s, 30 s left"``, once there is something to tell from."""
        if not self.done:
            return ""
        per_second = amount(self.rate, self.unit) if self.rate >= 1 else f"{self.rate:.2g} {self.unit}"
        return f"{per_second}/s, {duration((self.total - self.done) / self.rate)} left"


class Lines(_Counting):
    """A line at the start and the end of each stage, and one every ten seconds between.

    The end of a stage that took less than a second is not told: the next line says as much.
    """

    def step(self, number: int, total: int, words: str) -> None:
        """Say which step of the command begins."""
        super().step(number, total, words)
        self._print(f"Step {number} of {total}: {words}")

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a stage."""
        super().start(stage, total, unit)
        self.shown = time.monotonic()
        self._print(stage if is_single(total, unit) else f"{stage}: {amount(total, unit)}")

    def advance(self, n: int = 1) -> None:
        """Count what is done."""
        super().advance(n)
        if time.monotonic() - self.shown >= LINE_SECONDS and self.done < self.total:
            self.shown = time.monotonic()
            share = 100 * self.done / max(1, self.total)
            done = f"{share_of(self.done, self.total, self.unit)} ({share:.0f} %)"
            whole = self.whole_rest()
            self._print(f"{self.stage}: {done}, {self.rate_and_rest()}{f'; whole run: {whole}' if whole else ''}")

    def finish(self, note: str = "") -> None:
        """End the stage."""
        after = f"{duration(self.elapsed)}{f', {note}' if note else ''}"
        if self.done < self.total:
            at = "" if is_single(self.total, self.unit) else f" at {share_of(self.done, self.total, self.unit)}"
            self._print(f"{self.stage}: stopped{at} after {after}")
        elif self.elapsed >= SHORT_SECONDS or note:
            self._print(f"{self.stage}: done in {after}")

    def message(self, text: str) -> None:
        """Show a line."""
        self._print(text)

    @staticmethod
    def _print(text: str) -> None:
        click.echo(text, err=True)


def _rest_column() -> Any:
    """What stands after a bar: words, or what makes them each time the bar is drawn."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rest(ProgressColumn):
        def render(self, task: Task) -> Text:
            rest = task.fields["rest"]
            return Text(rest() if callable(rest) else rest)

    return Rest()


class Bars(_Counting):
    """A bar for the steps of the command and one for the stage that runs; a finished stage leaves a line above them."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        super().__init__()
        self.progress = Progress(
            TextColumn(f"{{task.description:<{STAGE_WIDTH}}}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            _rest_column(),
            console=console or Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            refresh_per_second=4,
        )
        self.task: Any = None
        self.whole: Any = None
        self.begun_at = time.monotonic()

    def step(self, number: int, total: int, words: str) -> None:
        """Show which step of the command begins, how long the command has taken, and how long it will take yet."""
        super().step(number, total, words)
        self.progress.start()
        name = f"Step {number} of {total}: {words}"
        if self.whole is None:
            self.whole = self.progress.add_task(name, total=total, rest=self._whole)
        self.progress.update(self.whole, description=name, completed=number - 1, total=total)

    def _whole(self) -> str:
        left = self.whole_rest()
        return f"{duration(time.monotonic() - self.begun_at)} so far{f', {left}' if left else ''}"

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a stage."""
        super().start(stage, total, unit)
        self.progress.start()
        self.task = self.progress.add_task(
            stage, total=max(total, 1), rest="" if is_single(total, unit) else amount(total, unit)
        )

    def advance(self, n: int = 1) -> None:
        """Count what is done."""
        super().advance(n)
        self.progress.update(self.task, completed=self.done, rest=self.rate_and_rest())

    def finish(self, note: str = "") -> None:
        """End the stage."""
        if self.task is None:
            return
        whole = self.done >= self.total
        how = amount(self.total, self.unit) if whole else f"stopped at {share_of(self.done, self.total, self.unit)}"
        how = f"{how} in " if not is_single(self.total, self.unit) else ""
        line = f"{self.stage:<{STAGE_WIDTH}} {how}{duration(self.elapsed)}"
        self.progress.remove_task(self.task)
        self.task = None
        self._print(f"{line}{f', {note}' if note else ''}")

    def message(self, text: str) -> None:
        """Show a line."""
        self._print(text)

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()

    def _print(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
