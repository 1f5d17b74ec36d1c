"""Vectors in NumPy's files: ``.npz`` with the arrays ``embeddings`` and ``genes``, ``.npy`` beside a list of names.

Arrays are read as streams, row by row, and nothing is unpickled.
"""

from __future__ import annotations

import json
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables import formats
from cagdask.io.tables.reading import Batches
from cagdask.io.vectors.batches import Options, Rows, numbered_batches, rows_at_once

ARRAYS = ("embeddings", "genes")
"""Arrays of an .npz file."""


@contextmanager
def open_npz(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    """Open an ``.npz`` of vectors and their names.

    Raises
    ------
    InputError
        An array is missing, holds no numbers or no text, or they do not fit each other.
    """
    with zipfile.ZipFile(handle) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        missing = [name for name in ARRAYS if name not in held]
        if missing:
            raise InputError(
                f"{url}: has no array {missing[0]!r}; needs 'embeddings' (genes x components) and 'genes' (names), and "
                f"holds {', '.join(map(repr, held)) or 'nothing'}. Save it with numpy.savez(..., embeddings=, genes=)."
            )
        with archive.open("genes.npy") as member:
            names = _names(url, _whole(url, member, "genes"))
        with archive.open("embeddings.npy") as member:
            yield _numpy_batches(url, member, names, "genes")


@contextmanager
def open_npy(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    """Open an ``.npy`` of vectors; the option ``ids`` names the file of their names.

    Raises
    ------
    InputError
        There are no names, or not one for each vector, or it holds no numbers.
    """
    ids = options.get("ids")
    if ids is None:
        raise InputError(f"{url}: a .npy file has no names. Give a list of them, one per row, with `ids`.")
    yield _numpy_batches(url, handle, read_names(ids), ids)


def _numpy_batches(url: str, stream: Any, names: list[str], named_by: str) -> Batches:
    shape, fortran, dtype = _header(url, stream)
    if len(shape) != 2 or dtype.kind not in "fiu":
        raise InputError(
            f"{url}: the embeddings have the shape {shape} and dtype {dtype}; needs numbers, one row per gene."
        )
    if shape[0] != len(names):
        raise InputError(f"{url}: has {shape[0]:,} vectors, but {named_by} has {len(names):,} names. Give one each.")

    def rows() -> Iterator[Rows]:
        if fortran:
            yield pa.array(names, pa.string()), _take(url, stream, shape[::-1], dtype).T
            return
        step = rows_at_once(shape[1])
        for begin in range(0, len(names), step):
            some = pa.array(names[begin : begin + step], pa.string())
            yield some, _take(url, stream, (len(some), shape[1]), dtype)

    return numbered_batches(shape[1], rows())


def _header(url: str, stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, tokenize.TokenError) as err:
        raise InputError(f"{url}: can not be read as a NumPy array ({err}). Write the file again.") from err
    if dtype.hasobject:
        raise InputError(
            f"{url}: holds Python objects, which would have to be unpickled. Save text as numpy.array(names, str)."
        )
    return shape, fortran, dtype


def _take(url: str, stream: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    parts = []
    while n_bytes:
        part = stream.read(n_bytes)
        if not part:
            raise InputError(f"{url}: ends before its array does. Write the file again.")
        parts.append(part)
        n_bytes -= len(part)
    found = np.frombuffer(b"".join(parts), dtype).reshape(shape)
    return found if found.dtype.kind == "f" else found.astype(np.float64 if dtype.kind in "iu" else dtype)


def _whole(url: str, stream: Any, name: str) -> NDArray[Any]:
    shape, _, dtype = _header(url, stream)
    if len(shape) != 1:
        raise InputError(f"{url}: {name} has the shape {shape}; needs one name per row.")
    data = stream.read()
    if len(data) != shape[0] * dtype.itemsize:
        raise InputError(f"{url}: ends before its array does. Write the file again.")
    return np.frombuffer(data, dtype)


def _names(url: str, values: NDArray[Any]) -> list[str]:
    if values.dtype.kind == "S":
        return [value.decode() for value in values.tolist()]
    if values.dtype.kind not in "Uiu":
        raise InputError(f"{url}: the names are of dtype {values.dtype}, not text. Save them as text.")
    return [str(value) for value in values.tolist()]


def read_names(url: str) -> list[str]:
    """Names from a file: one per line, a JSON list, or an .npy of text.

    Raises
    ------
    InputError
        It is missing or none of these.
    """
    if not storage.exists(url):
        raise InputError(f"{url}: no such list of ids. Check the path.")
    with formats.readable(url, "a list of names") as handle:
        if url.lower().endswith(".npy"):
            return _names(url, _whole(url, handle, "the list of ids"))
        text = handle.read().decode("utf-8-sig")
    if url.lower().removesuffix(".gz").endswith(".json"):
        try:
            content = json.loads(text)
        except ValueError as err:
            raise InputError(f"{url}: is no JSON ({err}). Write a list of names.") from err
        if not isinstance(content, list):
            raise InputError(f"{url}: holds {type(content).__name__}, needs a list of names.")
        return [str(name) for name in content]
    return [line.strip() for line in text.splitlines() if line.strip()]
