"""Files read before they are asked for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cagdask import storage
from cagdask.storage import manifest


@pytest.mark.parametrize("n", [0, 1, 3, 50])
@pytest.mark.parametrize("n_items", [0, 1, 2, 20])
def test_what_is_read_ahead_comes_in_order_and_no_more_than_asked(n: int, n_items: int) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def load(item: int) -> int:
        with lock:
            begun.append(item)
        time.sleep(0.001 * (item % 3))
        return item * item

    for i, found in enumerate(storage.ahead(load, range(n_items), n)):
        assert found == i * i
        assert len(begun) <= i + 1 + n
    assert sorted(begun) == list(range(n_items))


@pytest.mark.parametrize("n", [1, 3])
def test_as_many_as_asked_are_read_while_one_is_worked_on(n: int) -> None:
    begun = [threading.Event() for _ in range(8)]

    def load(item: int) -> int:
        begun[item].set()
        return item

    for i in storage.ahead(load, range(8), n):
        assert all(event.wait(10) for event in begun[i : i + n + 1])


def test_who_stops_reading_leaves_no_thread() -> None:
    before = threading.active_count()
    reading = storage.ahead(lambda item: item, range(100), 4)
    assert next(reading) == 0
    reading.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("n", [0, 2])
def test_what_can_not_be_read_is_said_when_its_turn_comes(n: int) -> None:
    def load(item: int) -> int:
        if item == 3:
            raise OSError("item 3")
        return item

    reading = storage.ahead(load, range(6), n)
    assert [next(reading) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="item 3"):
        next(reading)


def test_a_store_is_published_once_its_root_is_there(tmp_path: Path) -> None:
    """A copy has its manifest before its root, which comes last: a killed run must not take it as done."""
    staged, target = f"memory://{tmp_path.name}/staged.zarr", f"memory://{tmp_path.name}/there.zarr"
    group = storage.create_group(staged, {})
    group.create_array("a", data=np.arange(3))
    storage.write_bytes(f"{staged}/{manifest.NAME}", manifest.make(staged).to_bytes())
    names = storage.list_files(staged)
    assert manifest.published(staged)
    for name in names:
        if name != "zarr.json":
            storage.write_bytes(f"{target}/{name}", storage.read_bytes(f"{staged}/{name}"))
            assert manifest.published(target) is None, f"after {name}"
    storage.write_bytes(f"{target}/zarr.json", storage.read_bytes(f"{staged}/zarr.json"))
    assert manifest.published(target) == manifest.published(staged)
