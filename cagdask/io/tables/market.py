"""Matrix Market: a 10x folder of one matrix and its names, whose lines may come in any order.

    matrix.mtx --pieces of lines--> runs, each sorted by gene, in a file --genes begin:end of every run--> dense batch

The matrix is read once. What was read is laid down in runs of a million entries at most, so memory does not grow with
the file; the file of the runs has no name, so nothing of it stays behind, whatever happens to the process. Where the
rows of each batch end in a run lies behind the run, and is read for some batches at once.

Memory: 48 bytes an entry of one run, a piece of 4 MiB of lines, a batch of rows, 8 MiB of ends of batches, and the
names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables.hdf5 import fields_table, named_batches, rows_at_once
from cagdask.io.tables.reading import Batches, Reading
from cagdask.io.tables.small_formats import read_limited
from cagdask.io.tables.streams import damage_named, open_plain

NAMES_TAKE = 8
"""How many times its own size a list of names takes while it is read."""
MAX_RUN = 2**20
"""Entries of a run, at most."""
_ENTRY_BYTES = 48  # its place and value, the order of the run, and the sorted copy
_RUN_SHARE = 8  # a run takes this share of the task's budget
_PIECE_BYTES = 2**22
_ENDS = 2**20  # of batches in runs, that are in memory at once
_TYPES = {"row": pa.int32(), "column": pa.int32(), "value": pa.float64()}


@contextmanager
def open_10x_folder(url: str, _: Any, reading: Reading) -> Iterator[Batches]:
    """A folder of ``matrix.mtx``, ``features.tsv`` (or ``genes.tsv``) and ``barcodes.tsv``, each also gzipped."""
    genes = _lines(url, reading.budget, "features.tsv", "genes.tsv")
    samples = [row[0] for row in _lines(url, reading.budget, "barcodes.tsv")]
    held = {name: [row[i] for row in genes] for i, name in ((1, "symbol"), (2, "feature_type")) if len(genes[0]) > i}
    ids = [row[0] for row in genes]
    matrix = _file_in(url, "matrix.mtx")
    with damage_named(matrix, "Matrix Market"), open_plain(matrix) as (_, handle):
        n_values = _promised(matrix, handle, (len(ids), len(samples)))
        yield Batches(
            "gene", samples, True, _batches(matrix, handle, n_values, ids, len(samples), reading),
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


def _promised(url: str, handle: Any, shape: tuple[int, int]) -> int:
    """The number of values that the first lines promise, if they are those of a matrix of this shape."""
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
    return sizes[2]


def _batches(
    url: str, handle: Any, n_values: int, genes: list[str], n_samples: int, reading: Reading
) -> Iterator[tuple[pa.StringArray, NDArray[Any]]]:
    """Batches of genes; the matrix is read when the first one is asked for."""
    longest = MAX_RUN if reading.budget is None else reading.budget // (_RUN_SHARE * _ENTRY_BYTES)
    with tempfile.TemporaryFile(dir=reading.scratch) as file:
        runs = Runs(file, len(genes), n_samples, rows_at_once(n_samples))
        for entries in _pieces(url, handle, n_values, max(1, min(MAX_RUN, longest)), (len(genes), n_samples)):
            runs.add(*entries)
        yield from named_batches(genes, n_samples, runs.dense)


Entries = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]


def _pieces(url: str, handle: Any, n: int, longest: int, shape: tuple[int, int]) -> Iterator[Entries]:
    """Rows and columns, from 0, and values, ``longest`` entries at a time; checked.

    Raises
    ------
    InputError
        An entry lies outside the matrix, or there are not ``n``.
    """
    at = 0
    lines = pa_csv.open_csv(
        pa.PythonFile(handle, "r"),
        pa_csv.ReadOptions(
            column_names=list(_TYPES), use_threads=False, block_size=max(2**12, min(_PIECE_BYTES, 8 * longest))
        ),
        pa_csv.ParseOptions(delimiter=" "), pa_csv.ConvertOptions(column_types=_TYPES),
    ) if n else ()  # fmt: skip
    waiting: list[pa.RecordBatch] = []
    n_waiting = 0
    for batch in lines:
        while len(batch):
            taken = batch.slice(0, longest - n_waiting)
            waiting.append(taken)
            n_waiting += len(taken)
            batch = batch.slice(len(taken))
            if n_waiting == longest:
                yield _checked(url, waiting, at, shape)
                at, waiting, n_waiting = at + n_waiting, [], 0
    if waiting:
        yield _checked(url, waiting, at, shape)
    if at + n_waiting != n:
        raise InputError(
            f"{url}: promises {n:,} values and holds {at + n_waiting:,}. It is cut off, or its first lines are wrong."
        )


def _checked(url: str, batches: list[pa.RecordBatch], at: int, shape: tuple[int, int]) -> Entries:
    """Entries of some lines, of which ``at`` were before."""
    rows, columns, values = (
        np.concatenate([batch.column(i).to_numpy(zero_copy_only=False) for batch in batches]) for i in range(3)
    )
    rows, columns = rows - 1, columns - 1
    wrong = np.flatnonzero(~((rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])))
    if len(wrong):
        i = int(wrong[0])
        raise InputError(
            f"{url}: entry {at + i + 1:,} of the matrix is at row {rows[i] + 1:.0f}, column {columns[i] + 1:.0f}, "
            f"outside {shape[0]:,} x {shape[1]:,}. Write the file again."
        )
    return rows.astype(np.int32, copy=False), columns.astype(np.int32, copy=False), values


class Runs:
    """Entries of a matrix in any order, laid down in runs that are sorted by row.

    Parameters
    ----------
    file
        To write to and read from; a file of the system.
    n_rows, n_columns
        Shape of the matrix.
    step
        Rows that are asked for at once, from a multiple of it on.
    """

    _WIDTHS = (np.dtype(np.int32), np.dtype(np.int32), np.dtype(np.float64))

    def __init__(self, file: IO[bytes], n_rows: int, n_columns: int, step: int) -> None:
        self.file, self.n_columns, self.step = file, n_columns, step
        self._starts = np.arange(0, n_rows + step, step)
        self._runs: list[tuple[int, int]] = []  # where each begins, and its number of entries
        self._held = (0, np.zeros((0, 0), np.int64))  # the first batch whose ends are in memory, and those, per run

    def add(self, rows: NDArray[np.int32], columns: NDArray[np.int32], values: NDArray[np.float64]) -> None:
        """Lay down a run."""
        order = np.argsort(rows, kind="stable")  # entries of one place stay in the order of the file, and add up in it
        self._runs.append((self.file.tell(), len(rows)))
        sorted_rows = rows[order]
        ends = np.searchsorted(sorted_rows, self._starts)
        parts: tuple[NDArray[Any], ...] = (sorted_rows, columns[order], values[order], ends)
        for part in parts:
            self.file.write(part.data.cast("B"))

    def dense(self, begin: int, end: int) -> NDArray[np.float64]:
        """Rows ``begin`` to ``end``, shape (end - begin, n_columns), float64."""
        self.file.flush()
        found = np.zeros((end - begin, self.n_columns))
        for (start, n), (first, last) in zip(self._runs, self._ends(begin // self.step), strict=True):
            if first == last:
                continue
            parts: list[NDArray[Any]] = []
            at = start
            for width in self._WIDTHS:
                size = width.itemsize
                parts.append(self._read(at + first * size, last - first, width))
                at += n * size
            np.add.at(found, (parts[0] - begin, parts[1]), parts[2])
        return found

    def _ends(self, i: int) -> list[list[int]]:
        """Where batch ``i`` begins and ends in each run."""
        first, ends = self._held
        if not first <= i < first + ends.shape[1] - 1 or len(ends) != len(self._runs):
            n = min(len(self._starts) - 1 - i, max(1, _ENDS // max(1, len(self._runs))))
            behind = sum(width.itemsize for width in self._WIDTHS)
            ends = np.array(
                [self._read(start + size * behind + 8 * i, n + 1, np.dtype(np.int64)) for start, size in self._runs]
            ).reshape(-1, n + 1)
            first, self._held = i, (i, ends)
        found: list[list[int]] = ends[:, i - first : i - first + 2].tolist()
        return found

    def _read(self, at: int, n: int, width: np.dtype[Any]) -> NDArray[Any]:
        return np.frombuffer(os.pread(self.file.fileno(), n * width.itemsize, at), width)
