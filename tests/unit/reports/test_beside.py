"""A report made by a process beside the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cagdask
from cagdask.errors import StoreError
from cagdask.reports import beside
from tests.unit.reports.test_page import result  # noqa: F401


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """Processes that were started, in their order."""
    started = []

    class Noted(subprocess.Popen[str]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return started


def test_it_is_the_page_of_report(result: str, tmp_path: Path, processes: list[Any]) -> None:  # noqa: F811
    cagdask.report(result, output=str(tmp_path / "a.html"))
    with beside.report_beside() as write_report:
        write_report(result, output=str(tmp_path / "b.html"), overwrite=False)
    assert processes[0].returncode == 0, "the process beside made it"
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_page_that_was_begun_is_not_asked_for_again(result: str, tmp_path: Path, processes: list[Any]) -> None:  # noqa: F811
    cagdask.report(result, output=str(tmp_path / "a.html"))
    with beside.report_beside() as maker:
        maker.begin(result, output=str(tmp_path / "b.html"), overwrite=False)
        assert processes[0].wait() == 0, "it goes on while this process does something else"
        maker(result, output=str(tmp_path / "b.html"), overwrite=False)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_this_process_makes_the_page_where_the_other_one_is_gone(
    result: str,  # noqa: F811
    tmp_path: Path,
    processes: list[Any],
) -> None:
    with beside.report_beside() as write_report:
        processes[0].kill()
        processes[0].wait()
        write_report(result, output=str(tmp_path / "a.html"), overwrite=False)
    assert (tmp_path / "a.html").exists()


def test_what_is_wrong_is_said_by_this_process(tmp_path: Path) -> None:
    with beside.report_beside() as write_report, pytest.raises(StoreError, match="nowhere"):
        write_report(str(tmp_path / "nowhere.zarr"), output=str(tmp_path / "a.html"), overwrite=False)


def test_it_ends_with_the_run(processes: list[Any]) -> None:
    with pytest.raises(KeyboardInterrupt), beside.report_beside():
        raise KeyboardInterrupt
    assert processes[0].returncode is not None


def test_where_it_was_stopped_this_process_makes_the_page(result: str, tmp_path: Path, processes: list[Any]) -> None:  # noqa: F811
    with beside.report_beside() as write_report:
        write_report.stop()
        assert processes[0].returncode is not None
        write_report(result, output=str(tmp_path / "a.html"), overwrite=False)
    assert (tmp_path / "a.html").exists()


def test_it_is_ready_before_there_is_a_result() -> None:
    """Drawing the example succeeds and loads what a page needs, and neither compiler nor Dask is among it."""
    code = (
        "import sys; from cagdask.reports import example; example.draw(); before = set(sys.modules)\n"
        "print([name for name in ('numba', 'dask', 'xarray', 'sklearn') if name in before])\n"
        "print(sorted({'altair', 'pandas', 'jinja2', 'scipy.cluster.hierarchy'} - before))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:2] == ["[]", "[]"]


def test_it_ends_with_its_input() -> None:
    ended = subprocess.run([sys.executable, "-m", "cagdask.reports.beside"], input="", text=True, timeout=120)
    assert ended.returncode == 0
