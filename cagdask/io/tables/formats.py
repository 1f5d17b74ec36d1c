"""The formats of tables: each is opened as a stream of batches (row names, values), chosen by what the bytes are.

A format is a function in :data:`READERS`, by the name that :mod:`cagdask.io.tables.streams` gives its content.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from cagdask.errors import InputError
from cagdask.io.tables.labels import GENE_NAMES
from cagdask.io.tables.reading import Batches, Opener, Reading
from cagdask.io.tables.streams import ACCEPTED, damage_named, folder_kind, open_plain

__all__ = ["GENE_COLUMNS", "READERS", "Batches", "kind_of", "open_table", "readable"]

GENE_COLUMNS = GENE_NAMES
READERS = {
    "text": "text.open_text",
    "parquet": "arrow.open_parquet_table",
    "parquet folder": "arrow.open_parquet_folder",
    "feather": "arrow.open_feather",
    "feather 1": "arrow.open_feather_1",
    "arrow stream": "arrow.open_arrow_stream",
    "hdf5": "hdf5_tables.open_hdf5_table",
    "biom 1": "small_formats.open_biom_1",
    "10x": "market.open_10x_folder",
    "matrix market": "market.open_market",
    "zarr": "foreign_zarr.open_zarr_table",
}
"""What a file is -> its reader, a function in a module of this package; only that of the table at hand is imported."""
FOLDERS = ("parquet folder", "10x", "zarr")
_NAMES = {"text": "text", "parquet": "Parquet", "hdf5": "HDF5", "feather": "Feather", "biom 1": "BIOM 1.0"}


def _reader(kind: str) -> Opener:
    module, _, name = READERS[kind].partition(".")
    found: Opener = getattr(import_module(f"cagdask.io.tables.{module}"), name)
    return found


def kind_of(url: str) -> str:
    """What lies there: a key of :data:`READERS`, ``json`` (a sheet, or a sample), ``samples`` (a folder), or others.

    Raises
    ------
    InputError
        It is damaged, or of a kind that is never read.
    """
    folder = folder_kind(url)
    if folder:
        return folder
    with damage_named(url, "a table"), open_plain(url) as (kind, handle):
        if kind == "json" and _is_biom(handle.read(2**16)):
            return "biom 1"
    return "text" if kind == "xlsx" else kind


def _is_biom(start: bytes) -> bool:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(b"{") and (b"Biological Observation Matrix" in text or b'"matrix_type"' in text)


@contextmanager
def open_table(url: str, reading: Reading) -> Iterator[Batches]:
    """Open a table, whatever it is.

    Raises
    ------
    InputError
        It is damaged, of no format that is read, or holds values that are not numbers.
    """
    folder = folder_kind(url)
    if folder in FOLDERS:
        with damage_named(url, f"a {folder}"), _reader(folder)(url, None, reading) as table:
            yield table
        return
    kind = kind_of(url)
    if kind not in READERS:
        raise InputError(f"{url}: is {kind}, and no table. {ACCEPTED}")
    with damage_named(url, _NAMES.get(kind, kind)), open_plain(url) as (found, handle):
        if found == "xlsx":
            from cagdask.io.tables import small_formats

            handle = io.BytesIO(small_formats.xlsx_as_text(url, handle, reading.budget))
        with _reader(kind)(url, handle, reading) as table:
            yield table


@contextmanager
def readable(url: str, what: str) -> Iterator[Any]:
    """A file to read from, unpacked; what shows that it is damaged is an InputError.

    Raises
    ------
    InputError
        While it is read within the block: it is damaged, or not ``what`` it should be.
    """
    from cagdask.io.tables import small_formats

    with damage_named(url, what), small_formats.open_lines(url) as handle:
        yield handle
