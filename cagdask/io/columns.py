"""Sorted id columns in Parquet, the files that the tasks of an ingest hand to each other.

Row groups carry the smallest and largest id, so a range of ids, or of rows, is read without the rest.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cagdask import storage

ROW_GROUP = 32_768
"""Rows of a row group, the least that is read."""


def write_columns(url: str, table: pa.Table) -> None:
    """A table sorted by ``id`` as Parquet with statistics, at once or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP, compression="lz4", use_dictionary=False)
    storage.write_bytes(url, sink.getvalue().to_pybytes())


@contextmanager
def _parquet(url: str) -> Iterator[pq.ParquetFile]:
    if storage.is_remote(url):
        with storage.open_by_tail(url) as handle, pq.ParquetFile(handle, pre_buffer=True) as file:
            yield file
    else:
        with pq.ParquetFile(storage.local_path(url), memory_map=True) as file:
            yield file


def read_id_range(url: str, low: str | None, high: str | None) -> tuple[pa.Table, int]:
    """Rows with ``low <= id < high`` of a file of :func:`write_columns`, and which row of it the first of them is.

    Reads only row groups that may hold some.
    """
    with _parquet(url) as file:
        groups = [g for g in range(file.num_row_groups) if _may_hold(file.metadata.row_group(g), low, high)]
        before = sum(file.metadata.row_group(g).num_rows for g in range(groups[0])) if groups else 0
        table = file.read_row_groups(groups, use_threads=False).combine_chunks()
    ids = table.column("id")

    def place(name: str | None, otherwise: int) -> int:
        return otherwise if name is None else bisect.bisect_left(range(len(ids)), name, key=lambda i: ids[i].as_py())

    start, stop = place(low, 0), place(high, len(ids))
    return table.slice(start, stop - start), before + start


def _may_hold(group: Any, low: str | None, high: str | None) -> bool:
    found = group.column(0).statistics
    if found is None or not found.has_min_max:
        return True
    return (high is None or found.min < high) and (low is None or found.max >= low)


def read_row_range(url: str, start: int, stop: int, column: str = "id") -> pa.Array:
    """Ids, or another column, of rows ``start`` to ``stop`` of a file of :func:`write_columns`."""
    with _parquet(url) as file:
        ends = np.cumsum([0] + [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)])
        first = int(np.searchsorted(ends, start, side="right")) - 1
        last = int(np.searchsorted(ends, stop, side="left"))
        found = file.read_row_groups(list(range(first, last)), columns=[column], use_threads=False).column(column)
    return pa.concat_arrays(found.slice(start - int(ends[first]), stop - start).chunks)
