"""What is looked at before the HDF5 library, or NumPy, gets hold of a foreign file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cagdask
from cagdask.errors import InputError
from cagdask.io.tables import hdf5, heaps
from tests.inline_runner import InlineRunner


def biom(path: Path, change: Callable[[Any], None] = lambda file: None) -> str:
    with h5py.File(path, "w") as file:
        group = file.create_group("observation/matrix")
        group["data"], group["indices"] = np.ones(4, "f4"), np.array([0, 1, 0, 1], "i4")
        group["indptr"] = np.array([0, 1, 2, 4])
        file["observation/ids"], file["sample/ids"] = ["a", "b", "c"], ["s", "t"]
        change(file)
    return str(path)


def ingested(path: str) -> Any:
    return cagdask.ingest(path, store=f"{path}.zarr", client=InlineRunner())


def test_heaps_of_a_good_file_are_taken_wherever_blocks_cut_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = biom(tmp_path / "t.biom")
    places = []
    monkeypatch.setattr(heaps, "_check_heap", lambda url, handle, place, size: places.append(place))
    whole = Path(url).read_bytes()
    for block in (7, 64, 2**22):
        monkeypatch.setattr(heaps, "_BLOCK", block)
        places.clear()
        with open(url, "rb") as handle:
            heaps.check_heaps(url, handle)
            assert handle.tell() == 0
        assert [whole[place : place + 4] for place in places] == [b"GCOL"] * whole.count(b"GCOL")
    assert places


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [0, 2**40])
def test_a_heap_in_which_the_library_would_go_in_circles_is_refused(tmp_path: Path, size: int) -> None:
    url = biom(tmp_path / "t.biom")
    assert ingested(url).sizes["gene"] == 3
    data = bytearray(Path(url).read_bytes())
    at = data.index(b"GCOL") + 16
    while int.from_bytes(data[at : at + 2], "little"):  # to the entry of what is free
        at += 16 + (int.from_bytes(data[at + 8 : at + 16], "little") + 7) // 8 * 8
    data[at + 8 : at + 16] = size.to_bytes(8, "little")
    (tmp_path / "bad.biom").write_bytes(data)
    with pytest.raises(InputError, match=r"bad\.biom: the heap of texts at byte \d,\d+ is damaged"):
        ingested(str(tmp_path / "bad.biom"))


def promise(file: Any) -> None:
    del file["observation/ids"]
    file.create_dataset("observation/ids", (2**40,), "S9", chunks=True)


def test_names_that_a_small_file_can_not_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/observation/ids promises 1,099,511,627,776 entries"):
        ingested(biom(tmp_path / "t.biom", promise))
    assert hdf5.MAX_WHOLE < 9 * 2**40


def crowd(file: Any) -> None:
    del file["observation/matrix/indptr"]
    file["observation/matrix/indptr"] = np.array([0, 4, 4, 4])


def test_a_row_of_more_values_than_its_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="indptr gives a row 4 values, and its width is 2"):
        ingested(biom(tmp_path / "t.biom", crowd))
