"""Tables as files: record batches in, one file out, streamed; complete or absent, the same bytes on every run.

batches --> Parquet   zstd, a row group per batch
        --> Feather   lz4
        --> TSV, CSV  UTF-8, a header, text in quotes, missing numbers empty
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from cagdask import storage

if TYPE_CHECKING:
    import pyarrow as pa


def write_parquet(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """A table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with storage.open_output(url) as handle, pq.ParquetWriter(handle, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch], schema))


def write_feather(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """A table as Feather."""
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with storage.open_output(url) as handle, pa.ipc.new_file(handle, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_text(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], delimiter: str) -> None:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style="needed", delimiter=delimiter)
    with storage.open_output(url) as handle:
        handle.write(delimiter.join(_quoted(name, delimiter) for name in schema.names).encode() + b"\n")
        for batch in batches:
            csv.write_csv(pa.Table.from_batches([batch], schema), handle, options)


def _quoted(name: str, delimiter: str) -> str:
    if not any(mark in name for mark in (delimiter, '"', "\n", "\r")):
        return name
    return '"' + name.replace('"', '""') + '"'


def write_tsv(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """A table as text, separated by tabs."""
    _write_text(url, schema, batches, "\t")


def write_csv(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """A table as text, separated by commas."""
    _write_text(url, schema, batches, ",")


@contextmanager
def gzipped(url: str) -> Iterator[BinaryIO]:
    """A file to write to, compressed; without a time, so that the same content has the same bytes."""
    with (
        storage.open_output(url) as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as out,
    ):
        yield out  # type: ignore[misc]  # a GzipFile is a BinaryIO in all but its stubs


WRITERS: dict[str, Callable[[str, pa.Schema, Iterable[pa.RecordBatch]], None]] = {
    "parquet": write_parquet,
    "tsv": write_tsv,
    "csv": write_csv,
}
"""By the ending of a file's name."""
