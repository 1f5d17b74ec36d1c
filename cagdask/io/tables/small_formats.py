"""Formats that are small enough to be read as a whole: BIOM 1.0 and xlsx.

Each refuses, before it is read, a file that would not fit what a task may use, and names the formats that are read in
pieces.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from cagdask.compute import memory
from cagdask.errors import InputError, MemoryLimitError
from cagdask.io.tables.hdf5 import fields_table, named_batches
from cagdask.io.tables.reading import Batches, Reading
from cagdask.io.tables.streams import open_plain

MAX_BYTES = 2**30
"""Largest file of these formats, unpacked."""
JSON_TAKES, WORKBOOK_TAKES = 16, 24
"""How many times its own size a file takes while it is read, unpacked: measured, and rounded up."""


def read_limited(url: str, handle: Any, what: str, budget: int | None, takes: int) -> bytes:
    """The whole content, if reading it fits what a task may use; ``takes`` times the file is planned for it.

    Raises
    ------
    MemoryLimitError
        It does not fit.
    """
    limit = min(MAX_BYTES, MAX_BYTES if budget is None else budget // takes)
    data = bytes(handle.read(limit + 1))
    if len(data) > limit:
        raise MemoryLimitError(
            f"{url}: this {what} is read as a whole, and is larger than the {memory.format_bytes(limit)} that fit a "
            "task. Convert it to BIOM 2.1, h5ad or Parquet, which are read in pieces, or use workers with more memory "
            "(`memory_limit`)."
        )
    return data


def _sparse(url: str, rows: Any, columns: Any, values: Any, shape: tuple[int, int], what: str) -> Any:
    """A checked CSR array."""
    from scipy.sparse import coo_array

    wrong = np.flatnonzero((rows < 0) | (rows >= shape[0]) | (columns < 0) | (columns >= shape[1]))
    if len(wrong):
        at = int(wrong[0])
        raise InputError(
            f"{url}: entry {at + 1:,} of {what} is at row {rows[at]}, column {columns[at]}, outside {shape[0]:,} x "
            f"{shape[1]:,}. Write the file again."
        )
    return coo_array((values, (rows, columns)), shape=shape).tocsr()


@contextmanager
def open_biom_1(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """BIOM 1.0, which is JSON."""
    data = read_limited(url, handle, "BIOM 1.0 file", reading.budget, JSON_TAKES)
    try:
        content = json.loads(data)
        genes, samples = (_ids(content[axis]) for axis in ("rows", "columns"))
        if list(content["shape"]) != [len(genes), len(samples)]:
            raise InputError(
                f"{url}: says it is {content['shape']}, and names {len(genes):,} rows and {len(samples):,} columns."
            )
        if content["matrix_type"] == "dense":
            dense = np.asarray(content["data"], np.float64).reshape(len(genes), len(samples))
            read = lambda a, b: dense[a:b]  # noqa: E731
        else:
            entries = np.asarray(content["data"], np.float64).reshape(-1, 3)
            places = entries[:, :2].astype(np.int64)
            found = _sparse(url, places[:, 0], places[:, 1], entries[:, 2], (len(genes), len(samples)), "data")
            read = lambda a, b: found[a:b].toarray()  # noqa: E731
        fields = [_metadata(content[axis]) for axis in ("rows", "columns")]
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError, OverflowError) as err:
        if isinstance(err, InputError):
            raise
        raise InputError(f"{url}: can not be read as BIOM 1.0 ({type(err).__name__}: {str(err)[:150]}).") from err
    yield Batches(
        "#OTU ID", samples, True, named_batches(genes, len(samples), read),
        lambda: iter([pa.array(genes, pa.string())]), settled=True, row_metadata=fields[0], column_metadata=fields[1],
        notes=["BIOM 1.0"],
    )  # fmt: skip


def _ids(entries: list[dict[str, Any]]) -> list[str]:
    return [str(entry["id"]) for entry in entries]


def _metadata(entries: list[dict[str, Any]]) -> pa.Table | None:
    held = [entry.get("metadata") or {} for entry in entries]
    names = sorted({name for one in held if isinstance(one, dict) for name in one})

    def text(value: Any) -> str:
        return "" if value is None else ";".join(map(str, value)) if isinstance(value, list) else str(value)

    return fields_table(
        {n: np.array([text(one.get(n)) for one in held] + [""], object)[:-1] for n in names}, len(entries)
    )


# -- xlsx ------------------------------------------------------------------------------------------------------------


@contextmanager
def open_lines(url: str, budget: int | None = None) -> Iterator[Any]:
    """A file's plain bytes from the start; of a workbook the text of its first sheet.

    Raises
    ------
    InputError, MemoryLimitError
        It is damaged, or a workbook that can not be read, or not in ``budget`` bytes.
    """
    with open_plain(url) as (kind, handle):
        yield io.BytesIO(xlsx_as_text(url, handle, budget)) if kind == "xlsx" else handle


def xlsx_as_text(url: str, handle: Any, budget: int | None = None) -> bytes:
    """The first sheet of a workbook as tab-separated text.

    Raises
    ------
    InputError
        openpyxl is not installed, or the workbook is damaged or empty.
    """
    try:
        import openpyxl
    except ImportError as err:
        raise InputError(
            f"{url}: is an Excel workbook. Install the reader (pip install 'cagdask[xlsx]'), or save it as text."
        ) from err
    data = read_limited(url, handle, "workbook", budget, WORKBOOK_TAKES)
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        out = io.StringIO()
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        for row in book.worksheets[0].iter_rows(values_only=True):
            writer.writerow(["" if value is None else value for value in row])
    except Exception as err:  # openpyxl raises whatever the damage makes it stumble over
        raise InputError(f"{url}: can not be read as .xlsx ({str(err)[:150]}). Save it again, or as text.") from err
    return out.getvalue().encode()
