"""Arrow's formats: Parquet (a file, or a folder of parts), Feather 1 and 2, Arrow streams.

Columns have types here, so numbers are told from text by these; ids may be text of any of Arrow's kinds, dictionaries
of it, or whole numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables import reading as limits
from cagdask.io.tables.labels import PANDAS_INDEX, label_columns
from cagdask.io.tables.reading import Batch, Batches, Reading
from cagdask.io.tables.streams import damage_named, parquet_parts
from cagdask.io.tables.text import matrix, raise_not_number

RecordBatches = Callable[..., Iterator[pa.RecordBatch]]


def _step(schema: pa.Schema) -> int:
    return max(1, limits.BATCH_BYTES // (8 * max(1, len(schema))))


@contextmanager
def open_parquet_table(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """A Parquet file."""
    with pq.ParquetFile(handle) as file:

        def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
            return iter(file.iter_batches(_step(file.schema_arrow), columns=columns, use_threads=False))

        yield _labelled(url, file.schema_arrow, batches, reading)


@contextmanager
def open_parquet_folder(url: str, _: Any, reading: Reading) -> Iterator[Batches]:
    """A folder of Parquet parts, in the order of their numbers; ``name=value`` folders become a column."""
    paths = parquet_parts(storage.local_path(url))
    with ExitStack() as stack:
        schema: pa.Schema | None = None
        for path in paths:
            with damage_named(path, "Parquet"), pq.ParquetFile(path) as file:
                found = file.schema_arrow.remove_metadata()
                if schema is None:
                    schema, kept = found, file.schema_arrow.metadata
                elif found.names != schema.names:
                    raise InputError(
                        f"{path}: has other columns than {paths[0]}. All parts of a table have the same columns."
                    )
        if schema is None:
            raise InputError(f"{url}: holds no Parquet file. Check the folder.")
        hives = sorted({part.partition("=")[0] for part in _hive(url, paths[0])})
        whole = schema if not hives else pa.schema([*schema, *(pa.field(name, pa.string()) for name in hives)])
        whole = whole.with_metadata(kept)

        def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
            for path in paths:
                values = dict(part.split("=", 1) for part in _hive(url, path))
                with damage_named(path, "Parquet"), pq.ParquetFile(path) as file:
                    inside = [name for name in (columns or whole.names) if name not in values]
                    for batch in file.iter_batches(_step(whole), columns=inside, use_threads=False):
                        for name in values:
                            batch = batch.append_column(name, pa.array([values[name]] * batch.num_rows, pa.string()))
                        yield batch.select(columns or whole.names)

        stack.callback(lambda: None)
        yield _labelled(url, whole, batches, reading, extra=tuple(hives))


def _hive(url: str, path: str) -> list[str]:
    inside = os.path.relpath(path, storage.local_path(url)).split(os.sep)[:-1]
    return [part for part in inside if "=" in part]


@contextmanager
def open_feather(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """Feather 2, which is an Arrow file."""
    with pa.ipc.open_file(handle) as file:

        def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
            return _sliced((file.get_batch(i) for i in range(file.num_record_batches)), file.schema, columns)

        yield _labelled(url, file.schema, batches, reading)


@contextmanager
def open_arrow_stream(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """An Arrow stream."""
    with pa.ipc.open_stream(handle) as first:
        schema = first.schema

    def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        handle.seek(0)
        with pa.ipc.open_stream(handle) as stream:
            yield from _sliced(iter(stream), schema, columns)

    yield _labelled(url, schema, batches, reading)


@contextmanager
def open_feather_1(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """Feather 1, which is read as a whole: nobody writes large ones any more."""
    import pyarrow.feather as feather

    table = feather.read_table(pa.PythonFile(handle, "r"), use_threads=False)
    table.validate(full=True)

    def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        return iter(table.select(columns or table.schema.names).to_batches(_step(table.schema)))

    yield _labelled(url, table.schema, batches, reading)


def _sliced(found: Iterator[pa.RecordBatch], schema: pa.Schema, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    rows = _step(schema)
    for batch in found:
        batch.validate(full=True)  # Arrow takes offsets as they are, and reads wherever damaged ones lead
        some = batch.select(columns or schema.names)
        yield from (some.slice(start, rows) for start in range(0, some.num_rows, rows))


def _kind(schema_type: Any) -> str:
    kind = schema_type.value_type if pa.types.is_dictionary(schema_type) else schema_type
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return "number"
    return "text"


def is_text(schema_type: Any) -> bool:
    """Whether a column is text, or a dictionary of text, of any width."""
    kind = schema_type.value_type if pa.types.is_dictionary(schema_type) else schema_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _labelled(
    url: str, schema: pa.Schema, batches: RecordBatches, reading: Reading, extra: tuple[str, ...] = ()
) -> Batches:
    names = list(schema.names)
    if len(names) < 2:
        raise InputError(f"{url}: has {len(names)} columns. A table has one of names and at least one of values.")
    given = (
        Reading.of(reading.to_json() | {"metadata_columns": (*reading.metadata_columns, *extra)}) if extra else reading
    )
    kinds = [_kind(kind) for kind in schema.types]
    kept = (schema.pandas_metadata or {}).get("index_columns", [])
    index = next((name for name in kept if isinstance(name, str) and not name.startswith("__index_level")), None)
    numbered = _numbered(names, kinds, batches)
    labels = label_columns(
        url, names, kinds, given, genes_in_rows=reading.genes_in_rows, numbered=numbered, index=index,
        repeated=_repeated(names, schema.types, batches),
    )  # fmt: skip
    id_name = names[labels.ids]
    kind = schema.types[labels.ids]
    if not is_text(kind) and not pa.types.is_integer(kind):
        what = "gene ids" if reading.genes_in_rows else "sample names"
        raise InputError(
            f"{url}: the first column {id_name!r} holds {kind}, not {what}. Name the column of the {what} with "
            "`gene_column`, or put them into the first, as text."
        )
    columns, fields = [names[i] for i in labels.values], [names[i] for i in labels.fields]

    def converted() -> Iterator[Batch]:
        for batch in batches():
            if not batch.num_rows:
                continue
            ids = _as_text(batch.column(labels.ids)).fill_null("")
            values = batch.select(columns)
            _check_numeric(url, ids, values, reading.genes_in_rows)
            yield ids, matrix(values), batch.select(fields) if fields else None

    def row_names() -> Iterator[pa.StringArray]:
        return (_as_text(batch.column(0)) for batch in batches([id_name]))

    shown = "" if id_name == PANDAS_INDEX else id_name
    return Batches(shown, columns, reading.genes_in_rows, converted(), row_names)


def _as_text(column: pa.Array) -> pa.StringArray:
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return plain.cast(pa.string())


def _numbered(names: list[str], kinds: list[str], batches: RecordBatches) -> frozenset[int]:
    """Unnamed columns that count the rows."""
    if "" not in names or kinds[names.index("")] != "integer":
        return frozenset()
    first = next(iter(batches([""])), None)
    held = [] if first is None else first.column(0).to_pylist()
    counts = bool(held) and held[0] in (0, 1) and held == list(range(held[0], held[0] + len(held)))
    return frozenset([names.index("")]) if counts else frozenset()


def _repeated(names: list[str], types: list[Any], batches: RecordBatches) -> frozenset[int]:
    """Columns of text with a value that occurs twice among the first rows."""
    texts = [i for i, kind in enumerate(types) if is_text(kind)]
    if len(texts) < 1 or len(set(names)) < len(names):
        return frozenset()
    first = next(iter(batches([names[i] for i in texts])), None)
    if first is None:
        return frozenset()
    some = first.slice(0, 1000)
    return frozenset(i for i, column in zip(texts, some.columns, strict=True) if _repeats(column))


def _repeats(column: pa.Array) -> bool:
    return len(_as_text(column).unique()) < len(column)


def _check_numeric(url: str, ids: pa.StringArray, values: pa.RecordBatch, genes_in_rows: bool) -> None:
    for name, column in zip(values.schema.names, values.columns, strict=True):
        if _kind(column.type) != "text" and not pa.types.is_dictionary(column.type):
            continue
        row = max(pc.index(column.is_valid(), True).as_py(), 0)
        raise_not_number(url, ids[row].as_py(), name, column[row].as_py(), genes_in_rows)


def typed(column: pa.Array | pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Metadata as whole numbers, numbers or text: the narrowest that holds all that is there."""
    if isinstance(column, pa.ChunkedArray):
        column = (
            pa.concat_arrays([_undictionary(c) for c in column.chunks])
            if column.num_chunks
            else pa.array([], pa.string())
        )
    column = _undictionary(column)
    if pa.types.is_boolean(column.type):
        return np.array([None if v is None else str(v) for v in column.to_pylist()], object)
    if is_text(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        missing = pc.is_in(text, pa.array(["", "NA", "NaN", "nan", "N/A", "null", "NULL"]))
        for kind in (pa.int64(), pa.float64()):
            try:
                column = pc.if_else(missing, pa.scalar(None, pa.string()), text).cast(kind)
                break
            except pa.ArrowInvalid:
                continue
        else:
            return np.array(["" if v is None else v for v in text.to_pylist()], object)
        if column.null_count == len(column):
            return np.array(["" if v is None else v for v in text.to_pylist()], object)
    if pa.types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False)).astype(np.int64)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return np.array(["" if v is None else str(v) for v in column.to_pylist()], object)


def _undictionary(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
