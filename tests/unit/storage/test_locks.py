"""One run at a time for one target: here, and in processes and machines that are gone."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cagdask import storage
from cagdask.errors import StoreError
from cagdask.storage import locks

HOLD = """
import sys, time
from cagdask.storage import locks
locks.acquire(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "out.zarr")


def held_elsewhere(target: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, target], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_gone(target: str) -> None:
    with held_elsewhere(target) as first:
        with pytest.raises(StoreError, match=f"another run is writing it .process {first.pid} on"):
            storage.begin_work(target, {})
        first.kill()
        first.wait()
    storage.begin_work(target, {})
    storage.end_work(target)
    assert not Path(locks.lock_of(target)).exists()


def test_another_thread_is_refused_and_the_same_may_go_on(target: str) -> None:
    refused = []

    def second() -> None:
        try:
            locks.acquire(target)
        except StoreError as err:
            refused.append(err)

    with storage.claimed(target):
        with storage.claimed(target):
            other = threading.Thread(target=second)
            other.start()
            other.join()
        assert Path(locks.lock_of(target)).exists()
    assert len(refused) == 1
    assert not Path(locks.lock_of(target)).exists()


def interrupted_after(function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Let Ctrl-C arrive at the end of the next call of a function."""
    module, name = place.rsplit(".", 1)

    def called(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(f"{module}.{name}", function)
        function(*arguments, **options)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(f"{module}.{name}", called)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as Python has it, whatever the shell said that started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_just_after_a_lock_was_made_leaves_none(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(os.link, monkeypatch, "os.link")
    with pytest.raises(KeyboardInterrupt):
        locks.acquire(target)
    assert not Path(locks.lock_of(target)).exists()
    with storage.claimed(target):
        assert Path(locks.lock_of(target)).exists()


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("at_the_end", [True, False])
def test_ctrl_c_while_a_lock_is_given_back_leaves_none(
    target: str, monkeypatch: pytest.MonkeyPatch, at_the_end: bool
) -> None:
    """The end of the process makes up for it, or the next lock for the same target."""
    locks.acquire(target)
    interrupted_after(locks._read, monkeypatch, "cagdask.storage.locks._read")
    with pytest.raises(KeyboardInterrupt):
        locks.release(target)
    if at_the_end:
        locks._release_all()
    else:
        locks.acquire(target)
        assert Path(locks.lock_of(target)).exists()
        locks.release(target)
    assert list(Path(target).parent.iterdir()) == []


def test_a_lock_of_another_machine_is_taken_over_once_it_stops_beating(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.6)
    said = {"host": "another-machine", "boot": "x", "pid": 1, "owner": "them", "beat": 3, "begun": "then"}
    lock = Path(locks.lock_of(target))
    lock.write_text(json.dumps(said))
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            said["beat"] = int(str(said["beat"])) + 1
            lock.with_suffix(".new").write_text(json.dumps(said))
            lock.with_suffix(".new").replace(lock)

    beating = threading.Thread(target=beat)
    beating.start()
    with pytest.raises(StoreError, match=r"another run is writing it \(process 1 on another-machine, since then\)"):
        locks.acquire(target)
    stop.set()
    beating.join()
    with storage.claimed(target):
        assert json.loads(lock.read_text())["owner"] != "them"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can make a pid namespace")
def test_who_is_waited_for_is_said_at_once_and_once(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two locks of a process of another pid namespace, as of a container, that was killed."""
    other = str(tmp_path / "other.zarr")
    hold = HOLD.replace("locks.acquire(sys.argv[1])", "locks.acquire(sys.argv[1]); locks.acquire(sys.argv[2])")
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", hold, target, other]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
        monkeypatch.setattr(locks, "_seconds_since_beat", lambda path: 0.0)
        first.kill()
    begun = time.monotonic()
    with storage.claimed(target):
        waited = time.monotonic() - begun
        with storage.claimed(other):
            assert time.monotonic() - begun - waited < 0.5, "known to be gone"
    assert waited >= 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"is locked by process 1 on {platform.node()}, since 20" in warning
    assert "Waiting 1 s" in warning


def test_a_lock_that_was_silent_for_long_is_not_waited_for(target: str) -> None:
    said = {"host": "another-machine", "boot": "x", "pid": 7, "owner": "them", "beat": 3, "begun": "then"}
    lock = Path(locks.lock_of(target))
    lock.write_text(json.dumps(said))
    long_ago = time.time() - 2 * locks.OLD_SECONDS
    os.utime(lock, (long_ago, long_ago))
    begun = time.monotonic()
    with storage.claimed(target):
        assert time.monotonic() - begun < 2
    assert sorted(path.name for path in lock.parent.iterdir()) == []


def test_of_many_that_find_a_dead_lock_one_wins(target: str) -> None:
    said = {"host": "nobody", "boot": "", "pid": 1, "owner": "dead", "beat": 0}
    url = locks.lock_of(target)
    Path(url).write_text(json.dumps(said))
    won = []

    def take(i: int) -> None:
        try:
            locks._take_over(url, json.dumps({"owner": f"{i}"}).encode(), said, None)
        except FileExistsError:
            return
        won.append(i)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert json.loads(Path(url).read_text())["owner"] == str(won[0])


def test_a_file_system_without_hard_links_has_locks(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with storage.claimed(target):
        said = json.loads(Path(locks.lock_of(target)).read_text())
        assert said["pid"] == os.getpid()
        with pytest.raises(FileExistsError):
            locks._write(locks.lock_of(target), b"{}", None, create=True)
    assert list(Path(target).parent.iterdir()) == []


def test_locks_are_refreshed(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    with storage.claimed(target):
        lock = Path(locks.lock_of(target))
        end = threading.Event()
        for _ in range(100):
            end.wait(0.05)
            if json.loads(lock.read_text())["beat"] >= 2:
                break
        assert json.loads(lock.read_text())["beat"] >= 2
