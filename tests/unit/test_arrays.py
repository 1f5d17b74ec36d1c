from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cagdask.engine import arrays


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
