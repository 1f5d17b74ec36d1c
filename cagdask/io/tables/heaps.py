"""Heaps of text in an HDF5 file, checked before the library reads them: a damaged one can keep it busy for ever.

    GCOL | version, size | number, size, bytes of a text | ... | 0, size of what is free

Texts of any length lie in such collections. One that says its free room has size 0 makes the HDF5 library go in
circles, where no signal reaches it; one whose texts reach beyond its end makes it read there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

from cagdask.errors import InputError

MAX_SCANNED = 2**32
"""Larger files are not looked through: it would take as long as reading them."""
_MAGIC = b"GCOL\x01\0\0\0"
_BLOCK = 2**22
_HEAD = struct.Struct("<HHIQ")


def check_heaps(url: str, handle: Any) -> None:
    """Refuse an HDF5 file with a damaged heap of texts.

    Raises
    ------
    InputError
        There is one; names its place in the file.
    """
    size = handle.seek(0, os.SEEK_END)
    if size <= MAX_SCANNED:
        for place in _places(handle):
            _check_heap(url, handle, place, size)
    handle.seek(0)


def _places(handle: Any) -> Iterator[int]:
    """Where heaps begin."""
    begin, held = 0, b""
    handle.seek(0)
    while block := handle.read(_BLOCK):
        data, after = held + block, handle.tell()
        at = data.find(_MAGIC)
        while at >= 0:
            yield begin - len(held) + at
            at = data.find(_MAGIC, at + 1)
        begin, held = begin + len(block), data[-(len(_MAGIC) - 1) :]
        handle.seek(after)


def _check_heap(url: str, handle: Any, place: int, file_size: int) -> None:
    handle.seek(place + 8)
    size = int.from_bytes(handle.read(8), "little")
    data = handle.read(max(0, size - 16)) if 16 <= size <= file_size - place else b""
    at, sound = 0, len(data) == size - 16
    while sound and at + _HEAD.size <= len(data):
        number, _, _, n_bytes = _HEAD.unpack_from(data, at)
        taken = _HEAD.size + (n_bytes + 7) // 8 * 8 if number else n_bytes
        sound = 0 < taken <= len(data) - at
        at += taken
    if not sound:
        raise InputError(f"{url}: the heap of texts at byte {place:,} is damaged. Write the file again.")
