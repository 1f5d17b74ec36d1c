"""The formats of tables: each is opened as a stream of batches (row names, values).

A format is a function in :data:`FORMATS`, by suffix: it yields the names of the columns and batches of a few MiB. Text
is parsed as numbers from the start; only when a cell is none is its column read again as text, to say which one.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.sheets.sheet import GZIP_MAGIC

BATCH_BYTES = 8 * 2**20
MAX_LINE_BYTES = 64 * 2**20
"""Longest line of a text table: a million samples, or a few bytes of gzip that unpack to nothing but one line."""
GENE_COLUMNS = ("gene", "gene_id", "geneid", "gene id", "genes", "gene_name", "index", "id", "#otu id", "")
SAMPLE_COLUMNS = ("sample", "sample_id", "sampleid", "sample id", "samples", "sample_name", "index", "id", "")
_PANDAS_INDEX = "__index_level_0__"


@dataclass
class Batches:
    """An opened table.

    Attributes
    ----------
    id_name
        Header of the column of row names.
    columns
        Names of the value columns.
    genes_in_rows
        Whether rows are genes.
    batches
        Row names, shape (rows,), and values, shape (rows, columns), float; NaN where a cell holds no number.
    row_names
        Reads the row names alone, from the start.
    column
        What a column is, for messages: ``sample``, or ``component`` of vectors.
    """

    id_name: str
    columns: list[str]
    genes_in_rows: bool
    batches: Iterator[tuple[pa.StringArray, NDArray[Any]]]
    row_names: Callable[[], Iterator[pa.StringArray]]
    column: str = "sample"


@contextmanager
def open_table(url: str, orient: str) -> Iterator[Batches]:
    """Open a table by its suffix.

    Raises
    ------
    InputError
        It is damaged, is not of the format that its suffix promises, or holds values that are not numbers.
    """
    suffix = suffix_of(url) or ""
    with readable(url, suffix) as handle, FORMATS[suffix](url, handle, orient == "genes-by-samples") as table:
        yield table


@contextmanager
def readable(url: str, what: str) -> Iterator[Any]:
    """A file to read from, decompressed where it is gzipped; what shows that it is damaged is an InputError.

    Raises
    ------
    InputError
        While it is read within the block: it is damaged, or not ``what`` it should be.
    """
    try:
        with _handle(url) as handle:
            yield handle
    except (pa.ArrowException, EOFError, zlib.error, zipfile.BadZipFile, UnicodeError, csv.Error) as err:
        raise InputError(f"{url}: can not be read as {what} ({_first_line(err)}). Write the file again.") from err
    except OSError as err:  # Arrow and gzip say damaged files so, too
        if err.errno is not None:
            raise
        raise InputError(f"{url}: can not be read as {what} ({_first_line(err)}). Write the file again.") from err


def suffix_of(url: str) -> str | None:
    """Which of :data:`FORMATS` a name speaks of; None for others."""
    name = storage.name_of(url).lower().removesuffix(".gz")
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def _first_line(err: BaseException) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0][:200]


@contextmanager
def _handle(url: str) -> Iterator[Any]:
    """A file to read from, decompressed where it is gzipped."""
    from isal import igzip, isal_zlib

    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as raw:
        gzipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not gzipped:
            yield raw
            return
        try:
            with igzip.open(raw, "rb") as plain:  # type: ignore[no-untyped-call]  # isal has no types
                yield plain
        except isal_zlib.error as err:  # type: ignore[misc]  # isal has no types
            raise InputError(f"{url}: the gzip data are damaged or cut off ({err}). Write the file again.") from err


# -- text ------------------------------------------------------------------------------------------------------------


@contextmanager
def _delimited(url: str, handle: Any, genes_in_rows: bool, delimiter: str) -> Iterator[Batches]:
    names, longest = _header(url, handle, delimiter)
    id_column = _id_column(names, genes_in_rows)
    columns = names[:id_column] + names[id_column + 1 :]
    _check_unique(url, names)

    def batches() -> Iterator[tuple[pa.StringArray, NDArray[Any]]]:
        try:
            reader = _csv_reader(handle, names, delimiter, longest, {n: pa.float64() for n in columns})
            for batch in reader:
                ids = batch.column(names[id_column])
                values = batch.drop_columns([names[id_column]])
                yield ids, _matrix(values)
        except pa.ArrowInvalid as err:
            if "conversion error" in str(err):
                _name_the_cell(url, names, id_column, delimiter, longest, genes_in_rows, str(err))
            raise

    def row_names() -> Iterator[pa.StringArray]:
        with _handle(url) as again:
            again.readline()
            for batch in _csv_reader(again, names, delimiter, longest, {}, only=[names[id_column]]):
                yield batch.column(0)

    yield Batches(names[id_column], columns, genes_in_rows, batches(), row_names)


def _header(url: str, handle: Any, delimiter: str) -> tuple[list[str], int]:
    """Column names, and bytes of the longer of the first two lines; leaves the handle at the first row."""
    first = handle.readline(MAX_LINE_BYTES)
    second = handle.readline(MAX_LINE_BYTES)
    if MAX_LINE_BYTES in (len(first), len(second)):
        raise InputError(f"{url}: a line has {MAX_LINE_BYTES:,} bytes or more. Check that it is a table of lines.")
    names, fields = (
        next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], delimiter=delimiter), []) for line in (first, second)
    )
    if not names:
        raise InputError(f"{url}: the table is empty. Check the file.")
    if len(fields) == len(names) + 1:  # R writes no name for the row names
        names = ["", *names]
    if len(names) < 2:
        raise InputError(
            f"{url}: has a single column, {names[0][:60]!r}. A table has names in the first column and values in the "
            "others, separated by tabs (.tsv) or commas (.csv); lines of comment come out first."
        )
    if not second.strip():
        raise InputError(f"{url}: the table has no rows below its header. Check the file.")
    handle.seek(0)
    handle.readline()
    return names, max(len(first), len(second))


def _csv_reader(
    handle: Any,
    names: list[str],
    delimiter: str,
    longest: int,
    types: dict[str, pa.DataType],
    only: list[str] | None = None,
) -> pa_csv.CSVStreamingReader:
    text = {name: pa.string() for name in names if name not in types}
    return pa_csv.open_csv(
        pa.PythonFile(handle, "r"),
        read_options=pa_csv.ReadOptions(
            column_names=names, block_size=min(max(BATCH_BYTES, 8 * longest), 2**31 - 1), use_threads=False
        ),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter),
        convert_options=pa_csv.ConvertOptions(
            column_types=types | text, include_columns=only or [], strings_can_be_null=False
        ),
    )


def _name_the_cell(
    url: str, names: list[str], id_column: int, delimiter: str, longest: int, genes_in_rows: bool, why: str
) -> None:
    """Find the first cell of the column that Arrow complained of which is not a number, and raise."""
    column = next((int(word[1:].rstrip(":")) for word in why.split() if word[:1] == "#" and word[1:-1].isdigit()), None)
    if column is None:
        return
    with _handle(url) as handle:
        handle.readline()
        wanted = [names[id_column], names[column]]
        for batch in _csv_reader(handle, names, delimiter, longest, {}, only=wanted):
            for row, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                if not _is_number(value):
                    _raise_not_number(url, row, names[column], value, genes_in_rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("", "NA", "N/A", "null", "NULL", "n/a", "#N/A", "#NA", "<NA>")
    return "_" not in text


def _raise_not_number(url: str, row: Any, column: str, value: Any, genes_in_rows: bool) -> None:
    gene, sample = (row, column) if genes_in_rows else (column, row)
    raise InputError(
        f"{url}: gene {gene!r}, sample {sample!r}: the value is {value!r}, not a number. Correct it, or take the "
        f"column {column!r} out if it does not hold values."
    )


# -- binary ----------------------------------------------------------------------------------------------------------


@contextmanager
def _parquet(url: str, handle: Any, genes_in_rows: bool) -> Iterator[Batches]:
    with pq.ParquetFile(handle) as file:
        rows = max(1, BATCH_BYTES // (8 * max(1, len(file.schema_arrow))))

        def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
            return iter(file.iter_batches(rows, columns=columns, use_threads=False))

        yield _arrow(url, file.schema_arrow, genes_in_rows, batches)


@contextmanager
def _feather(url: str, handle: Any, genes_in_rows: bool) -> Iterator[Batches]:
    if handle.read(4) == b"FEA1":
        raise InputError(f"{url}: is Feather version 1. Write it as version 2 (pandas does by default).")
    handle.seek(0)
    with pa.ipc.open_file(handle) as file:
        rows = max(1, BATCH_BYTES // (8 * max(1, len(file.schema))))

        def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
            for i in range(file.num_record_batches):
                batch = file.get_batch(i).select(columns or file.schema.names)
                batch.validate(full=True)  # Arrow takes offsets as they are, and reads wherever damaged ones lead
                yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))

        yield _arrow(url, file.schema, genes_in_rows, batches)


def _arrow(
    url: str, schema: pa.Schema, genes_in_rows: bool, batches: Callable[..., Iterator[pa.RecordBatch]]
) -> Batches:
    names = list(schema.names)
    if len(names) < 2:
        raise InputError(f"{url}: has {len(names)} columns. A table has one of names and at least one of values.")
    _check_unique(url, names)
    at = _id_column(names, genes_in_rows)
    kind = schema.types[at]
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    text = text or (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type))
    if not text and not pa.types.is_integer(kind):
        what = "gene ids" if genes_in_rows else "sample names"
        raise InputError(
            f"{url}: the first column {names[at]!r} holds {kind}, not {what}. Put the {what} into the first "
            "column, as text."
        )
    columns = names[:at] + names[at + 1 :]

    def converted() -> Iterator[tuple[pa.StringArray, NDArray[Any]]]:
        for batch in batches():
            if not batch.num_rows:
                continue
            ids = batch.column(at).cast(pa.string())
            if ids.null_count:
                raise InputError(f"{url}: a row has no name (column {names[at]!r} is null). Give every row one.")
            values = pa.RecordBatch.from_arrays([c for i, c in enumerate(batch.columns) if i != at], names=columns)
            _check_numeric(url, ids, values, genes_in_rows)
            yield ids, _matrix(values)

    def row_names() -> Iterator[pa.StringArray]:
        return (batch.column(0).cast(pa.string()) for batch in batches([names[at]]))

    return Batches("" if names[at] == _PANDAS_INDEX else names[at], columns, genes_in_rows, converted(), row_names)


def _check_numeric(url: str, ids: pa.StringArray, values: pa.RecordBatch, genes_in_rows: bool) -> None:
    for name, column in zip(values.schema.names, values.columns, strict=True):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type):
            continue
        row = pc.index(column.is_valid(), True).as_py()
        _raise_not_number(url, ids[max(row, 0)].as_py(), name, column[max(row, 0)].as_py(), genes_in_rows)


# -- both ------------------------------------------------------------------------------------------------------------


def _matrix(values: pa.RecordBatch) -> NDArray[Any]:
    if any(pa.types.is_null(column.type) for column in values.columns):
        return np.column_stack([np.asarray(column.cast(pa.float64())) for column in values.columns])
    found: NDArray[Any] = values.to_tensor(null_to_nan=True, row_major=True).to_numpy()
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _check_unique(url: str, names: list[str]) -> None:
    first = next((name for name, n in Counter(names).items() if n > 1), None)
    if first is None:
        return
    raise InputError(f"{url}: column {first!r} occurs more than once. Give each column its own name.")


def _id_column(names: list[str], genes_in_rows: bool) -> int:
    """Place of the row names: where pandas puts its index, else a column called so, else the first."""
    if _PANDAS_INDEX in names:
        return names.index(_PANDAS_INDEX)
    known = GENE_COLUMNS if genes_in_rows else SAMPLE_COLUMNS
    lowered = [name.strip().lower() for name in names]
    if lowered[0] in known:
        return 0
    return next((lowered.index(name) for name in known if name and name in lowered), 0)


def _tsv(url: str, handle: Any, genes_in_rows: bool) -> AbstractContextManager[Batches]:
    return _delimited(url, handle, genes_in_rows, "\t")


def _csv(url: str, handle: Any, genes_in_rows: bool) -> AbstractContextManager[Batches]:
    return _delimited(url, handle, genes_in_rows, ",")


Opener = Callable[[str, Any, bool], AbstractContextManager[Batches]]
FORMATS: dict[str, Opener] = {
    ".tsv": _tsv,
    ".csv": _csv,
    ".parquet": _parquet,
    ".feather": _feather,
}
"""Suffix -> opener; text may end in ``.gz`` besides."""
