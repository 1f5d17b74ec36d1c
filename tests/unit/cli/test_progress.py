from __future__ import annotations

import io
import sys

import pytest

from cagdask.cli import progress
from cagdask.compute.progress import reporter
from cagdask.compute.time_left import Phase


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", made)
    return made


def test_lines_tell_start_end_and_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.Lines()
    lines.message("Dask dashboard: http://x")
    lines.start("ingest", 100, "samples")
    for _ in range(100):
        clock.now += 0.25
        lines.advance()
    lines.finish("all there")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "Dask dashboard: http://x",
        "ingest: 100 samples",
        "ingest: 40 of 100 samples (40 %), 4 samples/s, 15 s left",
        "ingest: 80 of 100 samples (80 %), 4 samples/s, 5 s left",
        "ingest: done in 25 s, all there",
    ]


def test_a_stage_that_fails_says_how_far_it_came(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.Lines()
    lines.start("search", 10, "blocks")
    clock.now += 3
    lines.advance(4)
    lines.finish()
    assert capsys.readouterr().err.splitlines()[-1] == "search: stopped at 4 of 10 blocks after 3 s"


def test_a_short_stage_is_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.Lines()
    lines.start("find identical genes", 1, "tasks")
    lines.advance()
    lines.finish()
    assert capsys.readouterr().err.splitlines() == ["find identical genes"]


def test_bars_show_stage_rate_and_rest(clock: Clock) -> None:
    from rich.console import Console

    out = io.StringIO()
    bars = progress.Bars(Console(file=out, force_terminal=True, width=120))
    bars.start("search [x]", 10, "blocks")
    clock.now += 2
    bars.advance(5)
    bars.progress.refresh()
    bars.finish()
    bars.message("Dask dashboard: http://x")
    bars.close()
    shown = out.getvalue()
    assert "2 blocks/s, 2 s left" in shown
    assert "search [x]" in shown
    assert "stopped at 5 of 10 blocks in 2 s" in shown


def test_steps_of_a_command_are_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    progress.Lines().step(2, 4, "group genes")
    assert capsys.readouterr().err == "Step 2 of 4: group genes\n"
    out = io.StringIO()
    bars = progress.Bars(Console(file=out, force_terminal=True, width=120))
    bars.step(1, 4, "read the input")
    bars.start("ingest", 10, "samples")
    clock.now += 70
    bars.advance(10)
    bars.step(2, 4, "group genes")
    bars.progress.refresh()
    bars.close()
    assert "Step 1 of 4: read the input" in out.getvalue()
    assert "Step 2 of 4: group genes" in out.getvalue()
    assert "25 %" in out.getvalue()
    assert "1 min 10 s so far" in out.getvalue()


@pytest.mark.parametrize(
    ("no_progress", "terminal", "kind"), [(True, True, "Reporter"), (False, True, "Bars"), (False, False, "Lines")]
)
def test_what_is_shown_suits_stderr(
    monkeypatch: pytest.MonkeyPatch, no_progress: bool, terminal: bool, kind: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with progress.shown(no_progress=no_progress):
        assert type(reporter()).__name__ == kind
    assert type(reporter()).__name__ == "Reporter"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3599, "59 min 59 s"), (7800, "2 h 10 min")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def _phases() -> list[Phase]:
    return [Phase(("search",), 60), Phase(("write",), 60)]


def test_lines_and_bars_say_how_long_the_whole_run_will_take(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    out = io.StringIO()
    bars = progress.Bars(Console(file=out, force_terminal=True, width=160))
    lines = progress.Lines()
    for one in (lines, bars):
        one.step(2, 3, "group genes")
        one.expect(_phases)
        one.start("search", 100, "blocks")
    for _ in range(50):
        clock.now += 0.6
        lines.advance()
        bars.advance()
    bars.progress.refresh()
    bars.close()
    assert capsys.readouterr().err.splitlines()[-1] == (
        "search: 34 of 100 blocks (34 %), 2 blocks/s, 40 s left; whole run: about 2 min left"
    )
    assert "30 s so far, about 90 s left" in out.getvalue()


def test_nothing_is_said_of_the_whole_run_where_nothing_is_known(clock: Clock) -> None:
    lines = progress.Lines()
    lines.step(1, 2, "read the input")
    lines.start("read samples", 10, "samples")
    clock.now += 60
    assert lines.whole_rest() == ""
    lines.expect(list)
    assert lines.whole_rest() == ""
