"""Matrices of AnnData's .h5ad files, and the names of their rows.

    varm/NAME        a row per variable, named by var
    obsm/NAME, X     a row per observation, named by obs

Groups of arrays, as AnnData writes them; before version 0.7 it wrote compound arrays, whose fields are the matrices and
the names. Rows are read where they lie, of sparse matrices (CSR) too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError

if TYPE_CHECKING:
    import h5py

Read = Callable[[int, int], NDArray[Any]]

_SHOWN = 10
"""So many names of matrices are listed in a message."""


@dataclass(frozen=True)
class Matrix:
    """A matrix whose rows have names.

    Attributes
    ----------
    names
        Of the rows, in order.
    n_columns
        Numbers in each.
    read
        Rows ``begin`` to ``end``, shape (end - begin, n_columns).
    """

    names: list[str]
    n_columns: int
    read: Read


@contextmanager
def open_matrix(url: str, handle: Any, wanted: str | None) -> Iterator[Matrix]:
    """Open a matrix of an .h5ad file.

    Parameters
    ----------
    url, handle
        The file, for messages and to read from.
    wanted
        ``varm/NAME``, ``obsm/NAME`` or ``X``; None takes the only one of ``varm``, else of ``obsm``, else ``X``.

    Raises
    ------
    InputError
        It is no such file, h5py is not installed, or there is no such matrix.
    """
    try:
        import h5py
    except ImportError as err:
        raise InputError(f"{url}: reading .h5ad needs h5py. Install it: pip install 'cagdask[hdf5]'.") from err
    try:
        file = h5py.File(handle, "r")
    except OSError as err:
        raise InputError(f"{url}: can not be read as .h5ad ({err}). Write the file again.") from err
    with file:
        key = _chosen(url, file, wanted)
        names = _names(url, file, "var" if key.startswith("varm/") else "obs")
        yield _matrix(url, key, _part(file, key), names)


def _chosen(url: str, file: h5py.File, wanted: str | None) -> str:
    held = [f"{part}/{name}" for part in ("varm", "obsm") for name in _columns(file.get(part))]
    held += ["X"] if "X" in file else []
    listed = ", ".join(held[:_SHOWN]) + (f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else "")
    if wanted is not None:
        if wanted not in held:
            raise InputError(f"{url}: has no {wanted!r}; --matrix can be {listed or 'nothing'}.")
        return wanted
    for part in ("varm/", "obsm/", "X"):
        some = [name for name in held if name.startswith(part)]
        if len(some) > 1:
            raise InputError(f"{url}: has several matrices ({listed}). Name one with --matrix.")
        if some:
            return some[0]
    raise InputError(f"{url}: has no varm, obsm or X. Check the file.")


def _columns(part: Any) -> tuple[str, ...]:
    """What a group holds, or the fields of a compound array."""
    if part is None:
        return ()
    return tuple(part.dtype.names or ()) if hasattr(part, "dtype") else tuple(part)


def _part(file: h5py.File, key: str) -> Any:
    """An array, the group of a sparse matrix, or a compound array and the field in it."""
    folder, _, name = key.partition("/")
    found = file[folder]
    if not name:
        return found
    return (found, name) if hasattr(found, "dtype") else found[name]


def _names(url: str, file: h5py.File, axis: str) -> list[str]:
    part = file.get(axis)
    marked = None if part is None else part.attrs.get("_index")
    index = marked.decode() if isinstance(marked, bytes) else marked
    name = next((n for n in (index, "_index", "index") if n in _columns(part)), None)
    if name is None:
        raise InputError(f"{url}: {axis} has no index, so the rows have no names. Write the file again with AnnData.")
    found = part[name] if hasattr(part, "dtype") else part[name].get("values") if _is_group(part[name]) else part[name]
    if found is None:
        raise InputError(f"{url}: the index of {axis} is no list of names. Write the file again with names as text.")
    return [value.decode() if isinstance(value, bytes) else str(value) for value in found[:]]


def _is_group(part: Any) -> bool:
    return not isinstance(part, tuple) and not hasattr(part, "dtype")


def _matrix(url: str, key: str, part: Any, names: list[str]) -> Matrix:
    if _is_group(part):
        shape, dtype, read = _sparse(url, key, part)
    elif isinstance(part, tuple):
        array, field = part
        kind = array.dtype[field]
        shape, dtype, read = (*array.shape, *kind.shape), kind.base, _reader(array.fields(field))
    else:
        shape, dtype, read = part.shape, part.dtype, _reader(part)
    if len(shape) != 2 or shape[0] != len(names) or dtype.kind not in "fiu":
        raise InputError(
            f"{url}: {key} has the shape {shape} and dtype {dtype}; needs numbers, one row for each of the "
            f"{len(names):,} names."
        )
    return Matrix(names, int(shape[1]), read)


def _reader(rows: Any) -> Read:
    def read(begin: int, end: int) -> NDArray[Any]:
        return np.asarray(rows[begin:end])

    return read


def _sparse(url: str, key: str, group: h5py.Group) -> tuple[tuple[int, ...], np.dtype[Any], Read]:
    kind = group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "a group"))
    if kind not in ("csr_matrix", "csr"):
        raise InputError(f"{url}: {key} is stored as {kind}, whose rows can not be read. Write it dense, or as CSR.")
    stored = group.attrs["shape"] if "shape" in group.attrs else group.attrs["h5sparse_shape"]
    n_rows, n_columns = (int(n) for n in stored)
    ends = group["indptr"][:]

    def read(begin: int, end: int) -> NDArray[Any]:
        from scipy.sparse import csr_array

        first, last = int(ends[begin]), int(ends[end])
        held = (group["data"][first:last], group["indices"][first:last], ends[begin : end + 1] - first)
        found: NDArray[Any] = csr_array(held, shape=(end - begin, n_columns)).toarray()
        return found

    return (n_rows, n_columns), group["data"].dtype, read
