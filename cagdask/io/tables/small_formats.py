"""Formats that are small enough to be read as a whole: BIOM 1.0, Matrix Market (a 10x folder too), xlsx.

Each refuses, before it is read, a file that would not fit what a task may use, and names the formats that are read in
pieces.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute import memory
from cagdask.errors import InputError, MemoryLimitError
from cagdask.io.tables.hdf5 import fields_table, named_batches
from cagdask.io.tables.reading import Batches, Reading
from cagdask.io.tables.streams import damage_named, open_plain

MAX_BYTES = 2**30
"""Largest file of these formats, unpacked."""
JSON_TAKES, WORKBOOK_TAKES, NAMES_TAKE = 16, 24, 8
"""How many times its own size a file takes while it is read, unpacked: measured, and rounded up."""
ENTRY_BYTES = 48
"""What an entry of a Matrix Market file takes: its place and value, as read and once more by rows."""


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


# -- Matrix Market ---------------------------------------------------------------------------------------------------


@contextmanager
def open_10x_folder(url: str, _: Any, reading: Reading) -> Iterator[Batches]:
    """A folder of ``matrix.mtx``, ``features.tsv`` (or ``genes.tsv``) and ``barcodes.tsv``, each also gzipped."""
    genes = _lines(url, reading.budget, "features.tsv", "genes.tsv")
    samples = [row[0] for row in _lines(url, reading.budget, "barcodes.tsv")]
    matrix = _file_in(url, "matrix.mtx")
    with damage_named(matrix, "Matrix Market"), open_plain(matrix) as (_, handle):
        found = _market(matrix, handle, (len(genes), len(samples)), reading.budget)
    held = {name: [row[i] for row in genes] for i, name in ((1, "symbol"), (2, "feature_type")) if len(genes[0]) > i}
    ids = [row[0] for row in genes]
    yield Batches(
        "gene", samples, True, named_batches(ids, len(samples), lambda a, b: found[a:b].toarray()),
        lambda: iter([pa.array(ids, pa.string())]), settled=True, notes=["10x folder"],
        row_metadata=fields_table({name: np.array(values, object) for name, values in held.items()}, len(ids)),
    )  # fmt: skip


@contextmanager
def open_market(url: str, handle: Any, reading: Reading) -> Iterator[Batches]:
    """A ``matrix.mtx`` that is named by itself: its folder holds the names."""
    with open_10x_folder(storage.parent_of(url), None, reading) as found:
        yield found


def _file_in(url: str, *names: str) -> str:
    tried = [storage.join(url, name + end) for name in names for end in ("", ".gz")]
    found = next((path for path in tried if os.path.exists(storage.local_path(path))), None)
    if found is None:
        raise InputError(f"{url}: a 10x folder holds matrix.mtx, features.tsv and barcodes.tsv; {names[0]} is missing.")
    return found


def _lines(url: str, budget: int | None, *names: str) -> list[list[str]]:
    path = _file_in(url, *names)
    with damage_named(path, "text"), open_plain(path) as (_, handle):
        text = read_limited(path, handle, "list of names", budget, NAMES_TAKE).decode()
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    if not rows or len({len(row) for row in rows}) > 1:
        raise InputError(f"{path}: has no names, or not the same number of columns in each line. Check the file.")
    return rows


def _market(url: str, handle: Any, shape: tuple[int, int], budget: int | None) -> Any:
    head = handle.readline(1000).decode().split()
    words = [word.lower() for word in head[1:]]
    if words[:2] != ["matrix", "coordinate"] or words[2:3] not in (["real"], ["integer"]) or words[3:] != ["general"]:
        raise InputError(
            f"{url}: is no general coordinate matrix of numbers ({' '.join(head)[:80]}). Write it as one, with "
            "scipy.io.mmwrite(..., symmetry='general') or Matrix::writeMM."
        )
    line = handle.readline(10000)
    while line.startswith(b"%") or not line.strip():
        line = handle.readline(10000)
        if not line:
            raise InputError(f"{url}: ends before its size. Write the file again.")
    sizes = [int(word) for word in line.split()] if all(word.isdigit() for word in line.split()) else []
    if len(sizes) != 3 or tuple(sizes[:2]) != shape:
        raise InputError(
            f"{url}: says {line.decode().strip()[:60]}, and the folder names {shape[0]:,} genes in {shape[1]:,} cells."
        )
    if budget is not None and sizes[2] * ENTRY_BYTES > budget:
        raise MemoryLimitError(
            f"{url}: its {sizes[2]:,} values take {memory.format_bytes(sizes[2] * ENTRY_BYTES)} to read, but a task "
            f"may use {memory.format_bytes(budget)}. Use workers with more memory (`memory_limit`), or convert it to "
            "10x .h5 or h5ad, which are read in pieces."
        )
    return _sparse(url, *_entries(url, handle, sizes[2]), shape, "the matrix")


def _entries(url: str, handle: Any, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Rows and columns, from 0, and values of the lines of a Matrix Market file, read piece by piece."""
    names = ["row", "column", "value"]
    types = dict(zip(names, (pa.int32(), pa.int32(), pa.float64()), strict=True))
    found = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float64)
    at = 0
    lines = pa_csv.open_csv(
        pa.PythonFile(handle, "r"), pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=2**22),
        pa_csv.ParseOptions(delimiter=" "), pa_csv.ConvertOptions(column_types=types),
    ) if n else ()  # fmt: skip
    for batch in lines:
        if at + batch.num_rows <= n:
            targets: tuple[NDArray[Any], ...] = found
            for target, column in zip(targets, batch.columns, strict=True):
                target[at : at + batch.num_rows] = column.to_numpy(zero_copy_only=False)
        at += batch.num_rows
    if at != n:
        raise InputError(f"{url}: promises {n:,} values and holds {at:,}. It is cut off, or its first lines are wrong.")
    rows, columns, values = found
    return rows - 1, columns - 1, values


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
