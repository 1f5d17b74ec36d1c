from __future__ import annotations

import errno
import resource
from pathlib import Path

import numpy as np
import pytest

from cagdask.storage import arrays


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("values", [np.arange(12.0).reshape(4, 3), np.empty((0, 3)), np.array([1, 2**63], np.uint64)])
def test_what_is_saved_is_loaded(tmp_path: Path, where: str, values: np.ndarray) -> None:
    folder = str(tmp_path / "a" / "b") if where == "local" else f"memory://{tmp_path.name}"
    for _ in range(2):  # a task may run twice
        arrays.save(folder, values=values, flipped=values[::-1])
    for name, wanted in (("values", values), ("flipped", values[::-1])):
        found = arrays.load(folder, name)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(arrays.load(folder, "values", 1, 3), values[1:3])
    np.testing.assert_array_equal(arrays.concatenate([folder, folder], "values"), np.concatenate([values, values]))


def test_objects_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        arrays.save(str(tmp_path), values=np.array([{}], object))
    assert not list(tmp_path.iterdir())


def test_what_stops_writing_is_told(tmp_path: Path) -> None:
    """A full disk, here a limit of the process; NumPy's own writing counts items, and does not say why."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            arrays.save(str(tmp_path), values=np.arange(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())
