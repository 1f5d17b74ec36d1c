"""What every HDF5 reader needs: the file opened, names as text, and sparse matrices checked before they are used.

    indptr   n + 1 numbers from 0, never falling, the last of them the number of values     read in pieces, checked
    indices  each below the width, none twice in a row                                      checked batch by batch
    data     numbers

A foreign file that breaks one of these would make SciPy write outside its arrays; it is refused, by the array's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables import reading as limits
from cagdask.io.tables.heaps import check_heaps
from cagdask.io.tables.texts import check_texts, readable_entries

if TYPE_CHECKING:
    import h5py

MAX_WHOLE = 2**31
"""Bytes of an array that is read as a whole: names, and what is known of genes and samples."""
_PIECE = 2**20


@contextmanager
def open_hdf5(url: str, handle: Any) -> Iterator[h5py.File]:
    """An HDF5 file; whatever is wrong inside is an InputError.

    Raises
    ------
    InputError
        It is damaged, or lacks what the reader looks for.
    """
    import h5py

    check_heaps(url, handle)
    try:
        with h5py.File(handle, "r") as file, readable_entries(file, handle):
            yield file
    except InputError:
        raise
    except (
        KeyError, OSError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError, MemoryError,
        AssertionError, NotImplementedError, SyntaxError,
    ) as err:  # fmt: skip
        if isinstance(err, OSError) and err.errno is not None and not str(err).startswith("Unable"):
            raise
        line = " ".join(str(err).split())[:200]
        raise InputError(f"{url}: can not be read as HDF5 ({line}). Write the file again.") from err


def whole(array: Any) -> Any:
    """All of an array, if it is not too large: a file of a few bytes can promise any size.

    Raises
    ------
    ValueError
        It has more than :data:`MAX_WHOLE` bytes, or a text longer than its file; :func:`open_hdf5` says of which file.
    """
    if array.size * array.dtype.itemsize > MAX_WHOLE:
        raise ValueError(f"{array.name} promises {array.size:,} entries, more than {MAX_WHOLE:,} bytes")
    check_texts(array, MAX_WHOLE)
    return array[:]


def names_of(url: str, array: Any, what: str) -> list[str]:
    """A list of names as text.

    Raises
    ------
    InputError
        The array is none of names.
    """
    if not hasattr(array, "dtype") or len(array.shape) != 1 or array.dtype.names:
        raise InputError(f"{url}: {what} is no list of names. Write the file again with names as text.")
    return [as_text(value) for value in whole(array).tolist()]


def as_text(value: Any) -> str:
    """A value of an HDF5 array as text."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


class Compressed:
    """A sparse matrix, CSR by its rows or CSC by its columns, read where it lies.

    Parameters
    ----------
    url, name
        The file and the matrix, for messages.
    group
        Holds ``data``, ``indices`` and ``indptr``.
    n_major, n_minor
        Numbers of compressed rows, and width of each.

    Raises
    ------
    InputError
        The arrays do not fit each other.
    """

    def __init__(self, url: str, name: str, group: Any, n_major: int, n_minor: int) -> None:
        self.url, self.name, self.n_major, self.n_minor = url, name, n_major, n_minor
        for part in ("data", "indices", "indptr"):
            found = group.get(part)
            if found is None or not hasattr(found, "dtype") or len(found.shape) != 1:
                raise InputError(f"{url}: {name} has no array {part!r}, as a sparse matrix must. Write it again.")
            if found.dtype.kind not in ("iu" if part != "data" else "iufb"):
                raise InputError(f"{url}: {name}/{part} is of dtype {found.dtype}, not numbers. Write it again.")
        self.data, self.indices, self._ends = group["data"], group["indices"], group["indptr"]
        n = self.data.shape[0]
        if self.indices.shape[0] != n:
            raise InputError(
                f"{url}: {name} has {n:,} values and {self.indices.shape[0]:,} indices. Write the file again."
            )
        if self._ends.shape[0] != n_major + 1:
            raise InputError(
                f"{url}: {name}/indptr has {self._ends.shape[0]:,} entries, not {n_major + 1:,} for {n_major:,} rows. "
                "Write the file again."
            )
        self.ends = self._checked_ends(n)

    def _checked_ends(self, n: int) -> NDArray[np.int64]:
        ends = np.empty(self.n_major + 1, np.int64)
        for begin in range(0, len(ends), _PIECE):
            piece = self._ends[begin : begin + _PIECE]
            if piece.dtype.kind == "u" and piece.size and int(piece.max()) > n:
                piece = np.minimum(piece, np.iinfo(np.int64).max).astype(np.int64)
            ends[begin : begin + _PIECE] = piece
        falls = np.flatnonzero(np.diff(ends) < 0)
        if ends[0] != 0 or ends[-1] != n or len(falls):
            what = (
                f"falls after entry {int(falls[0]) + 1:,}" if len(falls) else f"goes from {ends[0]:,} to {ends[-1]:,}"
            )
            raise InputError(
                f"{self.url}: {self.name}/indptr {what}; it must rise from 0 to {n:,}, the number of values. "
                "The file is damaged, or was written with numbers too small. Write it again."
            )
        longest = int(np.diff(ends).max(initial=0))
        if longest > self.n_minor:
            raise InputError(
                f"{self.url}: {self.name}/indptr gives a row {longest:,} values, and its width is {self.n_minor:,}. "
                "Write the file again."
            )
        return ends

    def dense(self, begin: int, end: int) -> NDArray[Any]:
        """Compressed rows ``begin`` to ``end``, shape (end - begin, n_minor)."""
        first, last = int(self.ends[begin]), int(self.ends[end])
        where = np.asarray(self.indices[first:last])
        wrong = np.flatnonzero((where < 0) | (where >= self.n_minor))
        if len(wrong):
            raise InputError(
                f"{self.url}: {self.name}/indices holds {int(where[wrong[0]])} at entry {first + int(wrong[0]) + 1:,}, "
                f"outside the width of {self.n_minor:,}. Write the file again."
            )
        found = np.zeros((end - begin, self.n_minor), np.float64)
        rows = np.repeat(np.arange(end - begin), np.diff(self.ends[begin : end + 1]))
        np.add.at(found, (rows, where), np.asarray(self.data[first:last], np.float64))  # as SciPy adds repeated ones
        return found


def dense_rows(array: Any, begin: int, end: int, *, turned: bool = False) -> NDArray[Any]:
    """Rows of a dense array, or columns of one that lies turned."""
    found = np.asarray(array[:, begin:end]).T if turned else np.asarray(array[begin:end])
    return found if found.dtype.kind == "f" and found.dtype != np.float16 else found.astype(np.float64)


def rows_at_once(n_columns: int) -> int:
    """Rows of a batch."""
    return max(1, limits.BATCH_BYTES // (8 * max(1, n_columns)))


def named_batches(names: list[str], n_columns: int, read: Any) -> Iterator[tuple[pa.StringArray, NDArray[Any]]]:
    """Batches of rows that ``read(begin, end)`` gives."""
    step = rows_at_once(n_columns)
    for begin in range(0, len(names), step):
        some = names[begin : begin + step]
        yield pa.array(some, pa.string()), read(begin, begin + len(some))


def fields_table(columns: dict[str, Any], n: int) -> pa.Table | None:
    """Metadata of one axis, those columns that have a value for each of its ``n`` names."""
    kept = {}
    for name, values in columns.items():
        if str(name).encode("utf-8", "replace").decode() != name:  # said here, not by Arrow later
            raise ValueError(f"the name of a column is no text: {name!r}")
        values = np.asarray(values)
        if values.shape != (n,) or values.dtype.names:
            continue
        if values.dtype.kind in "iufb":
            kept[name] = pa.array(values.astype(np.float64) if values.dtype == np.float16 else values)
        else:
            kept[name] = pa.array([as_text(value) for value in values.tolist()], pa.string())
    return pa.table(kept) if kept else None
