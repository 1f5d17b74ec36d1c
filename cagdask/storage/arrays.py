"""Array files that tasks hand to each other: one ``.npy`` per array, written once by the task that owns it.

Local files are memory-mapped, so that a task touches only the rows it needs and its worker's memory is given back when
the array is dropped; remote ones are fetched whole. Raw ``.npy`` rather than Zarr, since these files live for one run,
are read row by row, and decompressing would cost more than it saves.
"""

from __future__ import annotations

import io
import mmap
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage

Array = NDArray[Any]
HEADER_BYTES = 256


def save(folder: str, **arrays: Array) -> None:
    """Write arrays as ``folder/NAME.npy``; a second write of the same content is harmless."""
    for name, values in arrays.items():
        if values.dtype.hasobject:
            raise ValueError(f"{name}: objects would need pickle, which nothing here stores or loads.")
        values = np.ascontiguousarray(values)
        with storage.open_output(storage.join(folder, f"{name}.npy")) as handle:
            np.lib.format.write_array_header_1_0(handle, np.lib.format.header_data_from_array_1_0(values))
            if values.size:  # not by tofile, which does not say that a disk is full
                handle.write(values.data.cast("B"))


def load(folder: str, name: str, begin: int | None = None, end: int | None = None) -> Array:
    """``folder/NAME.npy``, or its rows ``begin:end``, read-only; a view of the file where it is local."""
    url = storage.join(folder, f"{name}.npy")
    if storage.is_remote(url):
        return read_only(np.lib.format.read_array(io.BytesIO(storage.read_bytes(url)), allow_pickle=False)[begin:end])
    with open(storage.local_path(url), "rb") as handle:
        dtype, shape, offset = _header(handle.read(HEADER_BYTES))
        if 0 in shape:
            return read_only(np.empty(shape, dtype)[begin:end])
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    return np.ndarray(shape, dtype, mapped, offset)[begin:end]


def read_only(values: Array) -> Array:
    """``values``, not to be written: kernels are compiled for arrays that may be written and for others apart."""
    values.setflags(write=False)
    return values


def _header(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Dtype, shape and length of the header that :func:`save` wrote.

    NumPy's own parser takes longer than the reading.
    """
    found = re.match(
        rb"\x93NUMPY\x01\x00(..)\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([^)]*)\)", data, re.S
    )
    assert found, "not an array file of ours"
    shape = tuple(int(n) for n in found[3].split(b",") if n.strip())
    return np.dtype(found[2].decode()), shape, 10 + int.from_bytes(found[1], "little")


def load_all(folder: str, *names: str) -> list[Array]:
    """Several arrays of one folder."""
    return [load(folder, name) for name in names]


def concatenate(folders: list[str], name: str) -> Array:
    """One array out of the parts that several tasks wrote, in the order given."""
    return np.concatenate([load(folder, name) for folder in folders])
