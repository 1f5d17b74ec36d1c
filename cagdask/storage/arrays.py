"""Arrays that one task writes and others read: declared once, kept in one file per folder.

    class GroupFiles(Files):                                     one declaration per hand-over, beside its owner
        gene: Int64 = array(np.int64, "group", "first gene row of the group")
        size: Int64 = array(np.int64, "group", "genes in it")

    GroupFiles(gene=gene, size=size).write(folder)               checks dtype and dims, then one file, whole or absent
    GroupFiles.open(folder).gene                                 read-only; only the pages that are looked at are read
    GroupFiles.open(folder, 10, 20).gene                         its rows 10 to 19

The file, ``folder/arrays.bin``, is plain bytes; nothing in it is executed when it is read:

    8 bytes   MAGIC
    8 bytes   length of the header, little-endian
    header    JSON: name -> [dtype, shape, first byte]
    arrays    each in C order, from a multiple of 64 bytes on

Local files are mapped, so that a worker's memory is given back when the arrays are dropped. Of remote ones the header
is fetched, then the range of each array that is asked for. Not Zarr, since these files live for one run and are read
row by row: decompressing would cost more than it saves. One file rather than one per array, since creating a file
takes up to a millisecond and a linkage writes hundreds of arrays. A task that alone reads what it writes may keep its
files in memory: see :func:`in_memory`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, dataclass_transform

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cagdask import storage
from cagdask.errors import StoreError

Array = NDArray[Any]
Header = dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]
"""Dtype, shape and first byte of each array of a file."""

FILE = "arrays.bin"
MAGIC = b"CAGARR01"
ALIGNMENT = 64
"""Bytes at whose multiples arrays begin: kernels are compiled for aligned arrays and for others apart."""
HEAD_BYTES = 2**16
"""Bytes that are fetched first of a remote file: the header, and all of a small file."""


class Declared(NamedTuple):
    """What is promised of an array: its dtype, names of its dims (or their sizes), and what it holds, with the unit."""

    dtype: np.dtype[Any]
    dims: tuple[str, ...]
    about: str


def array(dtype: DTypeLike, dims: str, about: str) -> Any:
    """Declare an array of a :class:`Files`: dims as ``"gene, sample"``; one that is a number is a size."""
    return dataclasses.field(metadata={"declared": Declared(np.dtype(dtype), tuple(dims.split(", ")), about)})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(array,))
class Files:
    """The arrays of one kind of folder. A subclass declares them; one of a subclass may be opened as its base."""

    declared: ClassVar[dict[str, Declared]] = {}

    def __init_subclass__(cls) -> None:
        """Make the subclass a frozen dataclass of its arrays."""
        made: Any = dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)
        cls.declared = {field.name: field.metadata["declared"] for field in dataclasses.fields(made)}

    def write(self, folder: str) -> None:
        """Write all arrays; a second write of the same content is harmless.

        Raises
        ------
        TypeError
            An array is not what was declared, or sizes of one dim differ.
        """
        held = {name: np.ascontiguousarray(getattr(self, name)) for name in self.declared}
        self._check(held)
        _write(storage.join(folder, FILE), held)

    def _check(self, held: dict[str, Array]) -> None:
        sizes: dict[str, int] = {}
        for name, (dtype, dims, _) in self.declared.items():
            values = held[name]
            wanted = tuple(int(dim) if dim.isdigit() else sizes.setdefault(dim, size)
                           for dim, size in zip(dims, values.shape, strict=False))  # fmt: skip
            if values.dtype != dtype or len(values.shape) != len(dims) or values.shape != wanted:
                raise TypeError(
                    f"{type(self).__name__}.{name} is {values.dtype} {values.shape}; declared is {dtype} "
                    f"({', '.join(dims)}), here {wanted}."
                )

    @classmethod
    def open(cls, folder: str, begin: int | None = None, end: int | None = None) -> Self:
        """The arrays of a folder, or rows ``begin:end`` of each that is asked for; read-only.

        Raises
        ------
        FileNotFoundError
            Nothing was written there.
        StoreError
            The file is damaged.
        """
        opened = object.__new__(cls)
        opened.__dict__["_file"] = _open(storage.join(folder, FILE))
        opened.__dict__["_rows"] = slice(begin, end)
        return opened

    @classmethod
    def open_all(cls, folders: Sequence[str]) -> Iterator[Self]:
        """The arrays of each of some folders, one after the other."""
        return (cls.open(folder) for folder in folders)

    def by_name(self) -> dict[str, Array]:
        """All arrays by their names."""
        return {name: getattr(self, name) for name in self.declared}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(values.nbytes for values in self.by_name().values())

    if not TYPE_CHECKING:  # a type checker knows the arrays by their declarations

        def __getattr__(self, name: str) -> Array:
            """An array that was not asked for before; Python looks here only for what the instance does not have."""
            if name not in self.declared:
                raise AttributeError(f"{type(self).__name__} declares no array {name!r}.")
            self.__dict__[name] = self._file.read(name, self._rows)
            return self.__dict__[name]


def read_only(values: Array) -> Array:
    """``values``, not to be written: kernels are compiled for arrays that may be written and for others apart."""
    values.setflags(write=False)
    return values


def locked(values: Array) -> Array:
    """The same values, not to be written: kernels are compiled, and loaded, once for all of them."""
    return read_only(values.view())


# -- the file --------------------------------------------------------------------------------------------------------


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _write(url: str, held: dict[str, Array]) -> None:
    """Write a file; offsets are counted from the end of the header, whose length depends on how they are written."""
    offset, described = 0, {}
    for name, values in held.items():
        if values.dtype.hasobject:
            raise TypeError(f"{name}: objects would need pickle, which nothing here stores or loads.")
        described[name] = [values.dtype.str, values.shape, offset]
        offset = _aligned(offset + values.nbytes)
    if any(url.startswith(folder) for folder in tuple(_folders_in_memory)):
        _held[url] = {name: read_only(values.copy()) for name, values in held.items()}
        return
    header = json.dumps(described, separators=(",", ":")).encode()
    with storage.open_output(url) as handle:
        handle.write(MAGIC + len(header).to_bytes(8, "little") + header)
        written = 16 + len(header)
        for values in held.values():
            handle.write(bytes(_aligned(written) - written))
            written = _aligned(written) + values.nbytes
            if values.size:  # not by tofile, which does not say that a disk is full
                handle.write(values.data.cast("B"))


def read_header(url: str, head: bytes) -> Header:
    """Dtype, shape and first byte of every array, from the first bytes of a file.

    Raises
    ------
    StoreError
        It is no such file, or is cut off in its header.
    """
    end = 16 + int.from_bytes(head[8:16], "little")
    if head[:8] != MAGIC or end > len(head):
        raise _damaged(url, "does not begin as files of arrays do")
    begin = _aligned(end)
    try:
        return {
            name: (np.dtype(dtype), tuple(shape), begin + offset)
            for name, (dtype, shape, offset) in json.loads(head[16:end]).items()
        }
    except (ValueError, TypeError) as err:
        raise _damaged(url, "has a damaged header") from err


def _damaged(url: str, what: str) -> StoreError:
    return StoreError(f"{url}: {what}. Delete the work folder that it is in, and run the same command again.")


def _open(url: str) -> _Local | _Remote | _InMemory:
    if url in _held:
        return _InMemory(_held[url])
    return _Remote(url) if storage.is_remote(url) else _Local(url)


def _end_of(dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> int:
    return offset + dtype.itemsize * math.prod(shape)


class _Local:
    """A file that is mapped: one mapping for all its arrays, which lives as long as any of them."""

    def __init__(self, url: str) -> None:
        with open(storage.local_path(url), "rb") as handle:
            size = handle.seek(0, 2)
            if size < 16:
                raise _damaged(url, f"holds {size} bytes, no arrays")
            self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self._header = read_header(url, self._map[: 16 + int.from_bytes(self._map[8:16], "little")])
        needed = max((_end_of(*of) for of in self._header.values() if 0 not in of[1]), default=0)
        if size < needed:  # before any look at it: a page that is not there ends the process
            raise _damaged(url, f"is cut off, {size:,} bytes of {needed:,}")

    def read(self, name: str, rows: slice) -> Array:
        dtype, shape, offset = self._header[name]
        if 0 in shape:
            return read_only(np.empty(shape, dtype)[rows])
        return np.ndarray(shape, dtype, self._map, offset)[rows]


class _Remote:
    """A file of which ranges are fetched."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._head = storage.read_range(url, 0, HEAD_BYTES)
        n_header = 16 + int.from_bytes(self._head[8:16], "little")
        whole = self._head if n_header <= HEAD_BYTES else storage.read_range(url, 0, n_header)
        self._header = read_header(url, whole)

    def read(self, name: str, rows: slice) -> Array:
        dtype, shape, offset = self._header[name]
        begin, end, _ = rows.indices(shape[0])
        taken = (max(0, end - begin), *shape[1:])
        if 0 in taken:
            return read_only(np.empty(taken, dtype))
        start = offset + begin * _end_of(dtype, shape[1:], 0)
        stop = _end_of(dtype, taken, start)
        data = self._head[start:stop] if stop <= len(self._head) else storage.read_range(self._url, start, stop)
        if len(data) < stop - start:
            raise _damaged(self._url, f"is cut off, no bytes {start + len(data):,} to {stop:,}")
        return np.frombuffer(data, dtype).reshape(taken)


# -- files in memory -------------------------------------------------------------------------------------------------

_folders_in_memory: set[str] = set()
_held: dict[str, dict[str, Array]] = {}
"""Arrays of the files that are kept in memory, by the URL of the file."""


class _InMemory:
    """A file that was never written."""

    def __init__(self, held: dict[str, Array]) -> None:
        self._arrays = held

    def read(self, name: str, rows: slice) -> Array:
        return self._arrays[name][rows]


@contextmanager
def in_memory(folder: str, *, wanted: bool = True) -> Iterator[Callable[[Iterable[str]], list[str]]]:
    """Keep what this process writes below a folder in its memory, until the block ends.

    Parameters
    ----------
    folder
        No other process may read below it during the block.
    wanted
        False writes files as ever.

    Yields
    ------
    callable
        Called once, writes the arrays of some folders to files, and says in which folders they are; all others are
        gone after the block.
    """
    below = f"{folder.rstrip('/')}/"

    def write(folders: Iterable[str]) -> list[str]:
        _folders_in_memory.discard(below)
        places: list[str] = []
        for one in folders:
            held = _held.get(storage.join(one, FILE))
            places.append(one if held is None else storage.join(folder, "kept", str(len(places))))  # few new folders
            if held is not None:
                _write(storage.join(places[-1], FILE), held)
        return places

    if wanted:
        _folders_in_memory.add(below)
    try:
        yield write
    finally:
        _folders_in_memory.discard(below)
        _drop(below)


def remove(folder: str) -> None:
    """Delete a folder of arrays, wherever they are."""
    _drop(f"{folder.rstrip('/')}/")
    storage.remove(folder)


def _drop(below: str) -> None:
    for url in [url for url in list(_held) if url.startswith(below)]:
        del _held[url]
