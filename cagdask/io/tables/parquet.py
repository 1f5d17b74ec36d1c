"""Parquet tables whose rows are read where they lie: a column of names, and columns of numbers.

    names   the column asked for, else the index that pandas kept, else the first column; text or whole numbers
    others  numbers, missing values and all

Ingest reads such tables from end to end (:mod:`cagdask.io.tables.formats`); here their layout is checked from the
header, and whoever needs rows or columns reads just these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cagdask import storage
from cagdask.errors import InputError

SUFFIXES = (".parquet", ".parquet.gz", ".pq")
"""Endings of their names; the second is a name some give to files that are not gzipped."""
_SHOWN = 5  # columns named in a message


@dataclass(frozen=True)
class Layout:
    """What the header of a table says.

    Attributes
    ----------
    names
        Column of the rows' names.
    columns
        The other columns, numbers all of them.
    n_rows, n_groups
        Rows, and the row groups that they are stored in.
    """

    names: str
    columns: list[str]
    n_rows: int
    n_groups: int


def is_table(source: str) -> bool:
    """Whether a source is a Parquet table rather than a store."""
    return source.lower().endswith(SUFFIXES)


@contextmanager
def open_parquet(url: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file, local or on S3, to be read from.

    Raises
    ------
    InputError
        It is missing, none, or damaged.
    """
    if not storage.exists(url):
        raise InputError(f"{url}: there is no such file. Check the path.")
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as handle:
        try:
            file = pq.ParquetFile(handle)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as err:
            line = " ".join(str(err).split())[:200]
            raise InputError(f"{url}: can not be read as Parquet ({line}). Write the file again.") from err
        with file:
            yield file


def read_layout(url: str, id_column: str | None = None) -> Layout:
    """Look at a table's header.

    Parameters
    ----------
    url
        Path or URL.
    id_column
        Column of the rows' names, if it is said.

    Raises
    ------
    InputError
        It can not be read, has no such column, columns that are not numbers, columns of one name, or no values.
    """
    with open_parquet(url) as file:
        schema, n_rows, n_groups = file.schema_arrow, file.metadata.num_rows, max(1, file.num_row_groups)
    found = list(schema.names)
    twice = next((name for name in found if found.count(name) > 1), None) if len(set(found)) < len(found) else None
    if twice is not None:
        raise InputError(f"{url}: column {twice!r} occurs {found.count(twice)} times. Keep one of each.")
    names = _names_column(url, schema, id_column)
    for name, kind in zip(found, schema.types, strict=True):
        if name != names and not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(
                f"{url}: column {name!r} holds {kind}, not numbers. Take it out of the table, or convert it."
            )
    columns = [name for name in found if name != names]
    if not n_rows or not columns:
        raise InputError(f"{url}: has {n_rows:,} rows of {len(columns):,} values, none at all. Check the file.")
    return Layout(names, columns, n_rows, n_groups)


def _names_column(url: str, schema: pa.Schema, asked: str | None) -> str:
    known = ", ".join(map(repr, schema.names[:_SHOWN])) + (", …" if len(schema) > _SHOWN else "")
    if asked is not None and asked not in schema.names:
        raise InputError(f"{url}: has no column {asked!r} (it has {known}). Name the column of the rows' names.")
    name = asked or next(iter(_pandas_index(schema)), None) or next(iter(schema.names), None)
    if name is None:
        raise InputError(f"{url}: has no columns. Check the file.")
    kind = schema.field(name).type
    if not (_is_text(kind) or pa.types.is_integer(kind)):
        raise InputError(
            f"{url}: has no column of names: {name!r} holds {kind} (its columns are {known}). Put a name for each row "
            "into the first column, as text."
        )
    return name


def _pandas_index(schema: pa.Schema) -> list[str]:
    """Columns that were the index of a pandas frame."""
    kept = (schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in kept if isinstance(name, str) and name in schema.names]


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
