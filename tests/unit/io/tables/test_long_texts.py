"""HDF5 files whose texts say that they are far longer than they are."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cagdask.compute import memory
from cagdask.errors import InputError
from cagdask.io.tables.hdf5 import names_of, open_hdf5, whole

STORED: list[dict[str, Any]] = [
    {}, {"chunks": (3,)}, {"chunks": (3,), "compression": "gzip", "shuffle": True},
    {"maxshape": (None,), "chunks": (8,), "compression": "lzf"},
]  # fmt: skip


def write(path: Path, stored: dict[str, Any], names: list[str]) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("names", data=np.array(names, object), dtype=h5py.string_dtype(), **stored)
    return path


@pytest.mark.parametrize("stored", STORED)
def test_texts_are_read_however_they_are_stored(tmp_path: Path, stored: dict[str, Any]) -> None:
    names = ["", "a", "é" * 300, "b\nc", "last"]
    path = write(tmp_path / "t.h5", stored, names)
    with path.open("rb") as handle, open_hdf5(str(path), handle) as file:
        assert names_of(str(path), file["names"], "names") == names


@pytest.mark.parametrize("stored", STORED[:3:2])
def test_a_text_that_says_it_is_longer_than_its_file_is_refused_before_memory_is_taken(
    tmp_path: Path, stored: dict[str, Any]
) -> None:
    path = write(tmp_path / "t.h5", stored, ["aaa", "bbbb", "c"])
    lie = struct.pack("<I", 2**32 - 8)
    with h5py.File(path, "r+") as file:
        held = file["names"].id
        place = None if stored else held.get_offset()
        if place is None:  # the entries without their filters
            _, data = held.read_direct_chunk((0,))
            entries = zlib.decompress(data)  # shuffling does nothing to texts
            held.write_direct_chunk((0,), zlib.compress(entries[:16] + lie + entries[20:]), 0)
    if place is not None:
        with path.open("r+b") as handle:
            handle.seek(place + 16)
            handle.write(lie)
    memory.reset_peak()
    before = memory.peak_bytes()
    with (
        pytest.raises(InputError, match=r"names promises a text of 4,294,967,288 bytes, in a file of"),
        path.open("rb") as handle,
        open_hdf5(str(path), handle) as file,
    ):
        whole(file["names"])
    assert memory.peak_bytes() - before < 2**26
