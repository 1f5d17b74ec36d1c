"""Runs that a signal ends: one line, the exit code of the signal, nothing left, and the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import interrupted

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> interrupted.Bench:
    return interrupted.Bench(tmp_path_factory.mktemp("signals") / "here", ("--workers", "0"))


@pytest.mark.parametrize(
    ("number", "at"), [(signal.SIGTERM, 0), (signal.SIGINT, 2), (signal.SIGHUP, 8), (signal.SIGINT, 40)]
)
def test_a_signal_around_a_publication_is_gone_on_from(
    bench: interrupted.Bench, tmp_path: Path, number: signal.Signals, at: int
) -> None:
    output = bench.folder / f"out-{number}-{at}"
    end = bench.at_event(number, at, output)
    assert end.code == 128 + number, end.said
    assert bench.check(end, number, output) == []
    word = "interrupted." if number == signal.SIGINT else f"ended by {number.name}."
    assert end.said == f"cagdask: {word} The same command goes on where it stopped.\n"


def test_a_command_that_was_ended_just_after_it_published_says_that_all_is_there(
    bench: interrupted.Bench, tmp_path: Path
) -> None:
    arguments = ["ingest", bench.sheet, "--store", str(tmp_path / "abundance.zarr"), "--workers", "0", "--no-progress"]
    program = [sys.executable, "-c", interrupted.AT_EVENT, str(int(signal.SIGTERM)), "1", str(tmp_path)]
    ended = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 143, ended.stderr
    assert (tmp_path / "abundance.zarr.work").exists()
    again = subprocess.run([sys.executable, "-m", "cagdask", *arguments], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "is complete. The run that was interrupted had just published it" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["abundance.zarr"]


@pytest.mark.parametrize("at", [0, 1])
def test_a_run_that_was_killed_around_a_publication_does_not_make_the_store_again(
    bench: interrupted.Bench, tmp_path: Path, at: int
) -> None:
    """Just before the rename its finished tasks are there, just after it the store is."""
    output = tmp_path / "out"
    end = bench.at_event(signal.SIGKILL, at, output)
    assert end.code == -signal.SIGKILL
    assert (output / "abundance.zarr").exists() == (at > 0)
    again = [sys.executable, "-m", "cagdask", *bench.arguments(output), "-v"]
    ended = subprocess.run(again, env=bench.environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    if at:
        assert "going on with an interrupted run; done: ingest" in ended.stderr
    else:
        assert "going on with the work found in" in ended.stderr
    assert interrupted.digests(output) == bench.right
    assert tasks_of_ingest(output) == tasks_of_ingest(bench.folder / "right")


def tasks_of_ingest(output: Path) -> int:
    """Tasks that a run needed for its ingest, over all tries."""
    stages = json.loads((output / "run.json").read_text())["stages"]
    return sum(stage["n_tasks"] for stage in stages if stage["stage"] == "ingest")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_a_signal_at_any_instant_is_gone_on_from(bench: interrupted.Bench, seed: int) -> None:
    told, wrong = interrupted.by_seed(bench, seed, bench.n_events())
    assert wrong == [], told


@pytest.mark.parametrize("seconds", [1.5, 3.0])
def test_ctrl_c_while_workers_start_is_one_line(bench: interrupted.Bench, seconds: float) -> None:
    with_workers = interrupted.Bench.__new__(interrupted.Bench)
    with_workers.__dict__.update(bench.__dict__ | {"options": ("--workers", "2")})
    output = bench.folder / f"workers-{seconds}"
    end = with_workers.after(signal.SIGINT, seconds, output, whole_group=True)
    assert end.code == 130, end.said
    assert end.said == "cagdask: interrupted. The same command goes on where it stopped.\n"
    assert end.wrong == []
    assert list((bench.folder / "tmp").iterdir()) == []
    assert with_workers.check(end, signal.SIGINT, output) == []


def test_a_closed_terminal_does_not_end_what_nohup_started(bench: interrupted.Bench, tmp_path: Path) -> None:
    command = ["nohup", sys.executable, "-m", "cagdask", *bench.arguments(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    time.sleep(1)
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert interrupted.digests(tmp_path / "out") == bench.right


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can make a process number 1")
def test_process_1_of_a_container_ends_when_it_is_asked_to(bench: interrupted.Bench, tmp_path: Path) -> None:
    """Without a handler, the kernel drops a signal for process 1."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "cagdask"]
    process = subprocess.Popen(
        [*command, *bench.arguments(tmp_path / "out")], stderr=subprocess.PIPE, text=True, env=bench.environment
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (tmp_path / "out" / "abundance.zarr.work").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert said == "cagdask: ended by SIGTERM. The same command goes on where it stopped.\n"
    assert process.returncode == 143
