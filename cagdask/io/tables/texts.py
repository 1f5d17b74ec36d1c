"""Texts of any length in an HDF5 file, whose lengths are checked before the library believes them.

    entry of the array:  length (4 bytes) | where its heap is | number in the heap

The HDF5 library takes as much memory as an entry says, up to 4 GiB, before it looks whether the heap has so much. So
the entries are read here as bytes: no text is longer than its file, and all together are not too much to be read.

Arrays that lie in their header (*compact*, at most 64 KiB) and attributes can not be read that way, and are not
checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_HANDLES: dict[int, Any] = {}


@contextmanager
def readable_entries(file: Any, handle: Any) -> Iterator[None]:
    """Let :func:`check_texts` read bytes of an HDF5 file from its handle, for the time of a block."""
    import h5py

    number = h5py.h5o.get_info(file.id).fileno
    _HANDLES[number] = handle
    try:
        yield
    finally:
        _HANDLES.pop(number, None)


def check_texts(array: Any, most: int) -> None:
    """Refuse an array whose texts promise to be longer than their file, or more than ``most`` bytes together.

    Raises
    ------
    ValueError
        One does; names the array.
    """
    import h5py

    if h5py.check_vlen_dtype(array.dtype) is None and not _is_text(array):
        return
    limit, total = array.file.id.get_filesize(), 0
    for entries in _entries(array, most):
        lengths = entries["length"].astype(np.int64)
        longest, total = int(lengths.max(initial=0)), total + int(lengths.sum())
        if longest > limit or total > most:
            raise ValueError(f"{array.name} promises a text of {longest:,} bytes, in a file of {limit:,}")


def _is_text(array: Any) -> bool:
    import h5py

    kind = h5py.check_string_dtype(array.dtype)
    return kind is not None and kind.length is None


def _entries(array: Any, most: int) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """The entries of an array as they lie in the file."""
    import h5py

    handle = _HANDLES.get(h5py.h5o.get_info(array.file.id).fileno)
    address, _ = array.file.id.get_create_plist().get_sizes()
    entry = np.dtype([("length", "<u4"), ("place", f"V{address + 4}")])
    if array.chunks is not None:
        if math.prod(array.chunks) * entry.itemsize > most:
            raise ValueError(f"{array.name} promises chunks of {math.prod(array.chunks):,} texts")
        yield from _chunks(array, entry)
    elif handle is not None and (offset := array.id.get_offset()) is not None:
        step = 2**16
        for begin in range(0, array.size, step):
            handle.seek(offset + begin * entry.itemsize)
            data = handle.read(min(step, array.size - begin) * entry.itemsize)
            yield np.frombuffer(data[: len(data) // entry.itemsize * entry.itemsize], entry)


def _chunks(array: Any, entry: np.dtype[Any]) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """Chunk by chunk, unpacked by the library in a file in memory that holds entries as plain bytes."""
    import h5py

    n_bytes, width = math.prod(array.chunks) * entry.itemsize, entry.itemsize
    with h5py.File("entries", "w", driver="core", backing_store=False) as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        given = array.id.get_create_plist()
        for i in range(given.get_nfilters()):
            code, flags, values, _ = given.get_filter(i)
            plan.set_filter(code, flags, values)
            if code == h5py.h5z.FILTER_SHUFFLE:  # by the width that is written with it; without one it does nothing
                width = values[0] if values and values[0] and n_bytes % values[0] == 0 else 1
        plan.set_chunk((n_bytes // width,))
        kind, space = h5py.h5t.py_create(np.dtype(f"V{width}")), h5py.h5s.create_simple((n_bytes // width,))
        made = h5py.Dataset(h5py.h5d.create(file.id, b"entries", kind, space, plan))
        for i in range(array.id.get_num_chunks()):
            mask, data = array.id.read_direct_chunk(array.id.get_chunk_info(i).chunk_offset)
            made.id.write_direct_chunk((0,), data, mask)
            yield made[...].view(entry)
