"""Formats that hold a vector per gene: each is opened as a stream of batches, as tables are.

    .npz             arrays ``embeddings`` (genes, components) and ``genes``
    .npy             a matrix; the names come from a list of ids
    .json            an object gene -> list of numbers
    .vec .txt .w2v   word2vec text, with its header line or (GloVe) without
    .bin             word2vec binary
    .parquet         a column of lists, or a column per component
    .h5ad            ``varm/NAME`` (genes are variables), ``obsm/NAME`` or ``X`` (genes are observations)
    .tsv .csv …      the tables of :mod:`cagdask.io.tables.formats`

All may be gzipped, except those that are compressed by themselves. Nothing is unpickled.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables import formats, h5ad
from cagdask.io.tables import reading as limits
from cagdask.io.tables.reading import SAMPLES_IN_ROWS, Batches, Reading

Rows = tuple[pa.StringArray, NDArray[Any]]
Options = dict[str, str | None]

ARRAYS = ("embeddings", "genes")
"""Arrays of an .npz file."""
TABLES = (".tsv", ".csv", ".parquet", ".feather")
"""Suffixes that are tables, whose rows may be components."""


def suffix_of(url: str) -> str | None:
    """Which of :data:`FORMATS` a name speaks of; None for others."""
    name = storage.name_of(url).lower().removesuffix(".gz")
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


@contextmanager
def open_vectors(url: str, orient: str, options: Options) -> Iterator[Batches]:
    """Open a file of vectors by its suffix.

    Parameters
    ----------
    url
        The file.
    orient
        ``genes-by-samples``, or for tables whose columns are genes ``samples-by-genes``.
    options
        ``ids``, the file of names of an .npy; ``matrix``, what to take from an .h5ad.

    Raises
    ------
    InputError
        It is damaged, is not of the format that its suffix promises, or lacks an array.
    """
    suffix = suffix_of(url) or ""
    orient = SAMPLES_IN_ROWS if orient == SAMPLES_IN_ROWS else "genes-by-samples"
    with formats.readable(url, suffix) as handle, FORMATS[suffix](url, handle, orient, options) as found:
        found.column = "component"
        yield found


def _table(url: str, handle: Any, orient: str, options: Options) -> AbstractContextManager[Batches]:
    return formats.open_table(url, Reading(orient=orient))


def _batches(n_columns: int, rows: Iterator[Rows]) -> Batches:
    columns = [str(i) for i in range(n_columns)]
    return Batches("gene_id", columns, True, rows, lambda: iter(()))


def _rows_at_once(n_columns: int) -> int:
    return max(1, limits.BATCH_BYTES // (8 * max(1, n_columns)))


# -- NumPy -----------------------------------------------------------------------------------------------------------


@contextmanager
def _npz(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
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
def _npy(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    ids = options.get("ids")
    if ids is None:
        raise InputError(f"{url}: a .npy file has no names. Give a list of them, one per row, with --ids FILE.")
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
        step = _rows_at_once(shape[1])
        for begin in range(0, len(names), step):
            some = pa.array(names[begin : begin + step], pa.string())
            yield some, _take(url, stream, (len(some), shape[1]), dtype)

    return _batches(shape[1], rows())


def _header(url: str, stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as err:
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


# -- JSON ------------------------------------------------------------------------------------------------------------


@contextmanager
def _json(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    import msgspec

    data = handle.read()
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as err:
        raise InputError(f"{url}: is no JSON object of gene -> list of numbers ({err}). Write it again.") from err
    if not found:
        raise InputError(f"{url}: holds no genes. Check the file.")
    if data.count(b"[") - sum(name.count("[") for name in found) > len(found):
        _refuse_repeated(url, data)
    decoder = msgspec.json.Decoder(list[float | None])

    def vector(name: str) -> list[float | None]:
        try:
            return decoder.decode(found[name])
        except msgspec.MsgspecError as err:
            raise InputError(f"{url}: gene {name!r} holds no list of numbers ({err}). Correct the file.") from err

    names = list(found)
    n_columns = len(vector(names[0]))

    def rows() -> Iterator[Rows]:
        step = _rows_at_once(n_columns)
        for begin in range(0, len(names), step):
            some = names[begin : begin + step]
            values = np.empty((len(some), n_columns))
            for i, name in enumerate(some):
                numbers = vector(name)
                _check_length(url, name, len(numbers), names[0], n_columns)
                values[i] = [np.nan if x is None else x for x in numbers]
            yield pa.array(some, pa.string()), values

    yield _batches(n_columns, rows())


def _refuse_repeated(url: str, data: bytes) -> None:
    """Name a key that occurs twice: a dict would hold its last value and say nothing."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InputError(f"{url}: gene {name!r} occurs more than once. Keep one of each.")
            seen.add(name)

    json.loads(data, object_pairs_hook=check)


def _check_length(url: str, name: str, n: int, first: str, n_columns: int) -> None:
    if n != n_columns:
        raise InputError(
            f"{url}: gene {name!r} has {n:,} numbers and {first!r} has {n_columns:,}. All vectors are of one length."
        )


# -- word2vec --------------------------------------------------------------------------------------------------------


@contextmanager
def _word2vec_text(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    first = handle.readline()
    told = _told(first)
    line = handle.readline() if told else first
    if not line.strip():
        raise InputError(f"{url}: holds no vectors. Check the file.")
    n_columns = told[1] if told else len(line.split()) - 1

    def rows() -> Iterator[Rows]:
        names: list[str] = []
        values: list[NDArray[np.float64]] = []
        step, n, current = _rows_at_once(n_columns), 0, line
        while current:
            if current.strip():
                name, rest = _first_word(current)
                values.append(_numbers(url, name.decode(), rest, n_columns))
                names.append(name.decode())
                n += 1
            if len(names) == step:
                yield pa.array(names, pa.string()), np.stack(values)
                names, values = [], []
            current = handle.readline()
        if names:
            yield pa.array(names, pa.string()), np.stack(values)
        _check_count(url, told, n)

    yield _batches(n_columns, rows())


def _first_word(line: bytes) -> tuple[bytes, bytes]:
    """A line's name, up to the first blank or tab, and its numbers."""
    ends = [at for at in (line.find(b" "), line.find(b"\t")) if at >= 0]
    at = min(ends, default=len(line))
    return line[:at].rstrip(), line[at:].strip()


def _told(line: bytes) -> tuple[int, int] | None:
    """Vectors and components that a header line promises; None if it is no header."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _numbers(url: str, name: str, text: bytes, n_columns: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = np.fromstring(text, np.float64, sep=" ")
        except (DeprecationWarning, ValueError) as err:
            wrong = next((x for x in text.decode(errors="replace").split() if not _is_number(x)), "")
            raise InputError(f"{url}: gene {name!r}: the value is {wrong!r}, not a number. Correct the file.") from err
    if len(found) != n_columns:
        raise InputError(
            f"{url}: gene {name!r} has {len(found):,} numbers, not {n_columns:,} as the others. A name holds no blank."
        )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_count(url: str, told: tuple[int, int] | None, n: int) -> None:
    if told and told[0] != n:
        raise InputError(f"{url}: promises {told[0]:,} vectors and holds {n:,}. It is cut off, or its header is wrong.")


@contextmanager
def _word2vec_binary(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    told = _told(handle.readline(100))
    if told is None:
        raise InputError(f"{url}: does not begin with the numbers of vectors and components, as word2vec's .bin does.")
    n, n_columns = told
    if not n or not n_columns:
        raise InputError(f"{url}: promises {n:,} vectors of {n_columns:,} numbers. Check the file.")
    size = 4 * n_columns

    def rows() -> Iterator[Rows]:
        held = b""
        step = _rows_at_once(n_columns)
        for begin in range(0, n, step):
            names, values = [], []
            place = 0
            for row in range(begin, min(n, begin + step)):
                end = held.find(b" ", place)
                while end < 0 or len(held) < end + 1 + size:
                    more = handle.read(max(2**20, 2 * size))
                    if not more:
                        raise InputError(
                            f"{url}: promises {n:,} vectors and ends in number {row + 1:,}. It is cut off."
                        )
                    held, place = held[place:] + more, 0
                    end = held.find(b" ")
                names.append(_word(url, held[place:end].lstrip(b"\n"), row))
                values.append(np.frombuffer(held, np.dtype("<f4"), n_columns, end + 1))
                place = end + 1 + size
            yield pa.array(names, pa.string()), np.stack(values)
            held = held[place:]

    yield _batches(n_columns, rows())


def _word(url: str, data: bytes, row: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        raise InputError(f"{url}: the name of vector {row + 1:,} is no text. Is it a word2vec .bin file?") from err


# -- Parquet ---------------------------------------------------------------------------------------------------------


@contextmanager
def _parquet(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    with pq.ParquetFile(handle) as file:
        schema = file.schema_arrow
        lists = [f.name for f in schema if pa.types.is_list(f.type) or pa.types.is_large_list(f.type)
                 or pa.types.is_fixed_size_list(f.type)]  # fmt: skip
        if not lists:
            with formats.open_table(url, Reading(orient=orient)) as table:
                yield table
            return
        named = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        if len(lists) > 1 or not named:
            raise InputError(
                f"{url}: has the columns {', '.join(schema.names)}; needs names (text) and one column of lists."
            )
        first = next((b for b in file.iter_batches(1, columns=lists) if b.num_rows), None)
        if first is None or first.column(0)[0].as_py() is None:
            raise InputError(f"{url}: the first vector of column {lists[0]!r} is missing. Check the file.")
        n_columns = len(first.column(0)[0])

        def rows() -> Iterator[Rows]:
            for batch in file.iter_batches(_rows_at_once(n_columns), columns=[named[0], lists[0]], use_threads=False):
                names, vectors = batch.column(named[0]).cast(pa.string()), batch.column(lists[0])
                if names.null_count:
                    raise InputError(f"{url}: a row has no name (column {named[0]!r} is null). Give every row one.")
                lengths = np.array([-1 if v is None else v for v in pa.compute.list_value_length(vectors).to_pylist()])
                wrong = np.flatnonzero(lengths != n_columns)
                if len(wrong):
                    _check_length(
                        url, names[int(wrong[0])].as_py(), max(0, int(lengths[wrong[0]])), "the first", n_columns
                    )
                values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, n_columns)
                yield names, values.astype(np.float64) if values.dtype.kind != "f" else values

        yield _batches(n_columns, rows())


# -- AnnData ---------------------------------------------------------------------------------------------------------


@contextmanager
def _h5ad(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    with h5ad.open_matrix(url, handle, options.get("matrix")) as found:

        def rows() -> Iterator[Rows]:
            step = _rows_at_once(found.n_columns)
            for begin in range(0, len(found.names), step):
                some = found.names[begin : begin + step]
                values = found.read(begin, begin + len(some))
                yield pa.array(some, pa.string()), values if values.dtype.kind == "f" else values.astype(np.float64)

        yield _batches(found.n_columns, rows())


Opener = Callable[[str, Any, str, Options], AbstractContextManager[Batches]]
FORMATS: dict[str, Opener] = {
    ".npz": _npz,
    ".npy": _npy,
    ".json": _json,
    ".vec": _word2vec_text,
    ".txt": _word2vec_text,
    ".w2v": _word2vec_text,
    ".bin": _word2vec_binary,
    ".parquet": _parquet,
    ".h5ad": _h5ad,
    **{suffix: _table for suffix in TABLES if suffix != ".parquet"},
}
"""Suffix -> opener; a name may end in ``.gz`` besides."""
