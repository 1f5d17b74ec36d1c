"""One run at a time for one target: here, and in processes and machines that are gone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

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
