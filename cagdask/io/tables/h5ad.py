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
import pyarrow as pa
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables.hdf5 import (
    Compressed,
    as_text,
    dense_rows,
    fields_table,
    named_batches,
    names_of,
    open_hdf5,
    whole,
)
from cagdask.io.tables.reading import GENES_IN_ROWS, Batches, Reading

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
        It is no such file, or there is no such matrix.
    """
    with open_hdf5(url, handle) as file:
        key = _chosen(url, file, wanted)
        names = _names(url, file, "var" if key.startswith("varm/") else "obs")
        yield _matrix(url, key, _part(file, key), names)


def _chosen(url: str, file: h5py.File, wanted: str | None) -> str:
    held = [f"{part}/{name}" for part in ("varm", "obsm") for name in _columns(file.get(part))]
    held += ["X"] if _is_there(file, "X") else []
    listed = ", ".join(held[:_SHOWN]) + (f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else "")
    if wanted is not None:
        if wanted not in held:
            raise InputError(f"{url}: has no {wanted!r}; `matrix` can be {listed or 'nothing'}.")
        return wanted
    for part in ("varm/", "obsm/", "X"):
        some = [name for name in held if name.startswith(part)]
        if len(some) > 1:
            raise InputError(f"{url}: has several matrices ({listed}). Name one with `matrix`.")
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
    return names_of(url, found, f"the index of {axis}")


def _is_group(part: Any) -> bool:
    return not isinstance(part, tuple) and not hasattr(part, "dtype")


def _matrix(url: str, key: str, part: Any, names: list[str]) -> Matrix:
    if _is_group(part):
        shape, dtype, read = _sparse(url, key, part, len(names))
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


def _sparse(url: str, key: str, group: h5py.Group, n_rows: int) -> tuple[tuple[int, ...], np.dtype[Any], Read]:
    kind, (height, width) = _sparse_kind(url, key, group)
    if kind != "csr":
        raise InputError(
            f"{url}: {key} is stored as {kind}_matrix, whose rows can not be read. Write it dense, or as CSR."
        )
    found = Compressed(url, key, group, height, width)
    return (height, width), group["data"].dtype, found.dense


def _sparse_kind(url: str, key: str, group: h5py.Group) -> tuple[str, tuple[int, int]]:
    """``csr`` or ``csc``, and the shape that the file claims."""
    kind = as_text(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "a group"))).removesuffix(
        "_matrix"
    )
    shape = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    if kind not in ("csr", "csc") or shape is None or np.shape(shape) != (2,):
        raise InputError(f"{url}: {key} is stored as {kind}, which is no matrix. Write it dense, as CSR or as CSC.")
    return kind, (int(shape[0]), int(shape[1]))


def _is_there(file: h5py.File, name: str) -> bool:
    """Whether a matrix is there and is one: AnnData writes an empty X, or one marked null, for none."""
    found = file.get(name)
    if found is None or (not _is_group(found) and found.shape in (None, ())):
        return False
    return as_text(found.attrs.get("encoding-type", "")) != "null"


# -- a cohort: observations by variables -----------------------------------------------------------------------------


def open_cohort(url: str, file: h5py.File, reading: Reading) -> Batches:
    """A matrix of an .h5ad as a table: genes are the variables, unless ``orient='genes-by-samples'`` says observations.

    Raises
    ------
    InputError
        There is no such matrix, or it does not fit its names.
    """
    key = _cohort_key(url, file, reading.matrix)
    raw = key in ("raw/X", "raw.X")
    part = file[key]
    obs, var = _names(url, file, "obs"), _names(url, file, _raw_var(file) if raw else "var")
    if _is_group(part):
        kind, shape = _sparse_kind(url, key, part)
        by_obs = kind == "csr"
        matrix = Compressed(url, key, part, *(shape if by_obs else shape[::-1]))
        read = matrix.dense
    else:
        shape, by_obs, dtype = part.shape, True, part.dtype
        if len(shape) != 2 or dtype.kind not in "iufb":
            raise InputError(f"{url}: {key} has the shape {shape} and dtype {dtype}; needs numbers in two dimensions.")

        def read(begin: int, end: int) -> NDArray[Any]:
            return dense_rows(part, begin, end)

    if tuple(shape) != (len(obs), len(var)):
        raise InputError(
            f"{url}: {key} has the shape {tuple(shape)}, and there are {len(obs):,} observations and {len(var):,} "
            "variables. Write the file again."
        )
    fields = [_fields(file, axis, n) for axis, n in (("obs", len(obs)), (_raw_var(file) if raw else "var", len(var)))]
    rows, columns = (obs, var) if by_obs else (var, obs)
    of_rows, of_columns = fields if by_obs else fields[::-1]
    genes_in_rows = (reading.orient == GENES_IN_ROWS) == by_obs
    return Batches(
        "obs" if by_obs else "var", columns, genes_in_rows, named_batches(rows, len(columns), read),
        lambda: iter([pa.array(rows, pa.string())]),
        settled=True, column_metadata=of_columns, row_metadata=of_rows, notes=[f"h5ad's {key}"],
    )  # fmt: skip


def _raw_var(file: h5py.File) -> str:
    return next((name for name in ("raw/var", "raw.var") if name in file), "var")


def _cohort_key(url: str, file: h5py.File, asked: str | None) -> str:
    held = [name for name in ("X", "raw/X", "raw.X") if _is_there(file, name)]
    layers = file.get("layers")
    held += [f"layers/{name}" for name in (layers if layers is not None and _is_group(layers) else ())]
    wanted = "raw.X" if asked in ("raw", "raw/X") and "raw.X" in held else "raw/X" if asked == "raw" else asked
    if wanted is None and held:
        return held[0]
    if wanted not in held:
        listed = ", ".join(held[:_SHOWN]) or "nothing"
        raise InputError(f"{url}: has no {asked or 'X'!r}; `matrix` can be {listed}.")
    return str(wanted)


def _fields(file: h5py.File, axis: str, n: int) -> Any:
    """What is known of observations or variables: numbers, text, categories, values that may be missing."""
    part = file.get(axis)
    found: dict[str, Any] = {}
    for name in _columns(part):
        if name in ("_index", "index", "__categories") or name == as_text(part.attrs.get("_index", "")):
            continue
        values = part[name]
        if hasattr(part, "dtype"):
            categories = file.get(f"uns/{name}_categories")
            found[name] = values if categories is None else _categories(whole(categories), values)
        elif _is_group(values):
            if "categories" in values and "codes" in values:
                found[name] = _categories(whole(values["categories"]), whole(values["codes"]))
            elif "values" in values and "mask" in values:
                found[name] = np.where(whole(values["mask"]), np.nan, whole(values["values"]).astype(float))
        elif values.attrs.get("categories") is not None:
            found[name] = _categories(whole(file[values.attrs["categories"]]), whole(values))
        else:
            found[name] = whole(values)
    return fields_table(found, n)


def _categories(words: NDArray[Any], codes: NDArray[Any]) -> NDArray[Any]:
    """Category of each code; empty where the code is none."""
    names = np.array([*(as_text(word) for word in words.tolist()), ""], object)
    codes = np.asarray(codes).astype(np.int64)
    return names[np.where((codes >= 0) & (codes < len(words)), codes, len(words))]
