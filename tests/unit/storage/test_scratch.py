"""Temporary folders: private, gone at the end, and cleared by a later run where one was killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cagdask.compute.connect import connect
from cagdask.storage import scratch
from cagdask.storage.scratch import scratch_folder

HOLD = """
import os, sys, time
from cagdask.storage.scratch import scratch_folder
with scratch_folder() as folder:
    os.mkdir(os.path.join(folder, "part"))
    open(os.path.join(folder, "part", "values"), "w").write("1")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test, in which no process has looked yet."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "_cleared", set())
    return tmp_path


@pytest.fixture
def holder(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a temporary folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_only_its_user_sees_it_and_it_goes_with_the_block(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert os.path.dirname(folder) == str(temporary)
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        (Path(folder) / "deep" / "er").mkdir(parents=True)
        (Path(folder) / "link").symlink_to(temporary)
    assert list(temporary.iterdir()) == []
    with pytest.raises(RuntimeError), scratch_folder():
        raise RuntimeError
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_and_what_is_in_use_is_not(
    holder: tuple[subprocess.Popen[str], Path], temporary: Path
) -> None:
    process, folder = holder
    assert scratch.clear_abandoned(str(temporary)) == []
    assert (folder / "part" / "values").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "part" / "values").exists(), "nobody could remove it"
    with scratch_folder() as own:
        assert [str(path) for path in temporary.iterdir()] == [own]


def test_folders_of_other_machines_and_other_programs_stay(
    holder: tuple[subprocess.Popen[str], Path], temporary: Path
) -> None:
    process, folder = holder
    process.kill()
    process.wait()
    (folder / "in-use").write_text("another machine")
    unmarked = temporary / "cagdask-unmarked"
    unmarked.mkdir(mode=0o700)
    readable = temporary / "cagdask-readable"
    readable.mkdir(mode=0o755)
    (readable / "in-use").write_text("")
    linked = temporary / "cagdask-linked"
    linked.mkdir(mode=0o700)
    (linked / "in-use").symlink_to(folder / "in-use")
    assert scratch.clear_abandoned(str(temporary)) == []
    assert {path.name for path in temporary.iterdir()} == {folder.name, unmarked.name, readable.name, linked.name}


def test_a_temporary_place_that_can_not_be_read_is_no_reason_to_fail(tmp_path: Path) -> None:
    assert scratch.clear_abandoned(str(tmp_path / "missing")) == []


@pytest.mark.slow
def test_workers_that_lose_their_driver_leave_a_folder_that_the_next_run_clears(temporary: Path) -> None:
    code = "import time\nfrom cagdask.compute.connect import connect\n"
    code += "if __name__ == '__main__':\n    with connect(n_workers=1):\n        print('up', flush=True)\n"
    code += "        time.sleep(60)\n"
    script = temporary / "driver.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate()
    assert list(temporary.glob("cagdask-*"))
    with connect(n_workers=1, memory_limit="1GiB"):
        assert len(list(temporary.glob("cagdask-*"))) == 1
    assert list(temporary.glob("cagdask-*")) == []
