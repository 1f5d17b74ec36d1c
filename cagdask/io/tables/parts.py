"""Tables: TSV and CSV (gzipped or not), Parquet, Feather; genes in rows, or samples in rows.

    table --batches--> check, float32 --> parts in the work folder --> blocks of the store

One task streams through the file and leaves parts, each a plain gene-major array of a range of genes (or of a range of
samples, where these are the rows); then one task per block puts together what it needs of them. The table keeps its
order of genes.

Memory of the reading task: a part and its transpose, a batch of the file, and the text of the gene ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cagdask import provenance, storage
from cagdask.compute import memory
from cagdask.errors import InputError, MemoryLimitError
from cagdask.io.columns import read_row_range, write_columns
from cagdask.io.layout import write_rows
from cagdask.io.tables.formats import Batches, open_table
from cagdask.io.tables.orientation import check_orientation
from cagdask.io.vectors.embeddings import open_vectors

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_PART_SHARE = 8  # a part takes this share of the task's budget, it is there twice or three times
_MAX_PART = 64 * 2**20


def read_table(
    url: str,
    size: int,
    modified: str,
    orient: str,
    signed: bool,
    budget: int,
    folder: str,
    vectors: dict[str, str | None] | None = None,
) -> dict[str, Any]:
    """Stream through a table, check it, and leave its parts in a folder; runs on a worker.

    Parameters
    ----------
    url
        The table; its suffix tells the format.
    size, modified
        Of the file, when the run began: a task with others is another task.
    orient
        ``genes-by-samples`` or ``samples-by-genes``.
    signed
        Whether values may be negative.
    budget
        Bytes that the task may use.
    folder
        Where the parts go.
    vectors
        Options of :func:`cagdask.io.vectors.embeddings.open_vectors`, for a file of vectors; None for a table of
        samples.

    Returns
    -------
    dict
        ``n_genes``, ``samples`` (names), ``digest``, ``n_vanished``, ``values``: ``[first gene, genes, first sample,
        samples, file]`` and ``ids``: ``[first gene, genes, file]`` of each part.

    Raises
    ------
    InputError
        Something is wrong with the table; names the gene, the sample and the value.
    MemoryLimitError
        One row is too long for the budget.
    """
    storage.make_folder(folder)
    opened = open_table(url, orient) if vectors is None else open_vectors(url, orient, vectors)
    with opened as table:
        _check_names(url, table.columns, "column")
        parts = _Parts(url, table.columns, orient, folder, budget)
        try:
            for ids, values in table.batches:
                stored, n_vanished = _checked(url, table, ids, values, signed)
                parts.add(ids, stored, n_vanished)
        except InputError:  # of a table read the wrong way around that is what to say
            _check_orientation(url, table, pa.chunked_array(table.row_names(), pa.string()), orient)
            raise
        parts.flush()
        names = pa.chunked_array(parts.names, pa.string())
        if not len(names):
            raise InputError(f"{url}: the table has no rows below its header. Check the file.")
        _check_names(url, names, "row")
        _check_orientation(url, table, names, orient)
    return parts.summary(names)


def _check_orientation(url: str, table: Batches, names: pa.ChunkedArray, orient: str) -> None:
    if len(names) and table.column == "sample":
        check_orientation(url, table.id_name, names.slice(0, 1000).to_pylist(), len(names), table.columns, orient)


def _check_names(url: str, names: list[str] | pa.ChunkedArray, what: str) -> None:
    text = names if isinstance(names, pa.ChunkedArray) else pa.chunked_array([pa.array(names, pa.string())])
    empty = pc.index(text, "").as_py()
    if empty >= 0:
        raise InputError(f"{url}: {what} {empty + 1:,} of the values has no name. Give it one.")
    if len(text) == len(text.unique()):
        return
    counted = text.value_counts()
    repeated = counted.filter(pc.greater(counted.field("counts"), 1))
    named = ", ".join(f"{row['values']!r} ({row['counts']} times)" for row in repeated.slice(0, 3).to_pylist())
    more = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
    raise InputError(f"{url}: {what} names occur more than once: {named}{more}. Keep one of each, or add them up.")


def _checked(
    url: str, table: Batches, ids: pa.StringArray, values: NDArray[Any], signed: bool
) -> tuple[NDArray[np.float32], int]:
    """Values as float32, and how many positive ones became 0 by that."""
    wrong = ~(np.abs(values) <= _FLOAT32_MAX)
    if not signed:
        wrong |= values < 0
    if wrong.any():
        row, column = (int(i[0]) for i in np.nonzero(wrong))
        named = (ids[row].as_py(), table.columns[column])
        gene, sample = named if table.genes_in_rows else named[::-1]
        problem = _problem(float(values[row, column]), signed, table.column)
        raise InputError(f"{url}: gene {gene!r}, {table.column} {sample!r}: {problem}")
    with np.errstate(under="ignore"):
        stored = values.astype(np.float32)
    return stored, int(np.count_nonzero(values) - np.count_nonzero(stored))


def _problem(value: float, signed: bool, column: str) -> str:
    if np.isnan(value):
        do = "Leave the gene out" if column == "component" else "Write 0 where the gene was not found"
        return f"the cell is empty, NA or NaN, not a number. {do}."
    if np.isinf(value):
        return f"the value is infinite ({value}). Correct the table."
    if value < 0 and not signed:
        return f"the value is {value:g}; abundances are 0 or more. Correct the table, or use --kind expression."
    return f"the value is {value:g}, above {_FLOAT32_MAX:.3g}, the largest that float32 holds. Scale the values down."


@dataclass
class _Parts:
    """Rows as they come, cut into parts of the planned size, and the digest of each sample's values."""

    url: str
    columns: list[str]
    orient: str
    folder: str
    budget: int
    names: list[pa.StringArray] = field(default_factory=list)
    values: list[list[Any]] = field(default_factory=list)
    ids: list[list[Any]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    n_vanished: int = 0
    waiting: list[NDArray[np.float32]] = field(default_factory=list)
    n_waiting: int = 0
    n_done: int = 0

    def __post_init__(self) -> None:
        row = 4 * len(self.columns)
        room = min(_MAX_PART, self.budget // _PART_SHARE)
        if row > room:
            raise MemoryLimitError(
                f"{self.url}: a row of {len(self.columns):,} values needs {memory.format_bytes(row * _PART_SHARE)} "
                f"to read, but a task may use {memory.format_bytes(self.budget)}. Use workers with more memory "
                "(--memory-limit), or the table the other way around."
            )
        self.part_rows = room // row
        self.hashes = [hashlib.blake2b(digest_size=32) for _ in self.columns] if self.genes_in_rows else []

    @property
    def genes_in_rows(self) -> bool:
        return self.orient == "genes-by-samples"

    def add(self, ids: pa.StringArray, rows: NDArray[np.float32], n_vanished: int) -> None:
        self.n_vanished += n_vanished
        self.names.append(ids)
        while len(rows):
            taken = rows[: self.part_rows - self.n_waiting]
            self.waiting.append(taken)
            self.n_waiting += len(taken)
            rows = rows[len(taken) :]
            if self.n_waiting == self.part_rows:
                self.flush()

    def flush(self) -> None:
        """Write the waiting rows as a part."""
        if not self.n_waiting:
            return
        rows = np.concatenate(self.waiting)
        other = np.ascontiguousarray(rows.T)
        samples, genes = (other, rows) if self.genes_in_rows else (rows, other)
        if self.genes_in_rows:
            for digest, of_sample in zip(self.hashes, samples, strict=True):
                digest.update(of_sample.tobytes())
            place = [self.n_done, len(rows), 0, len(self.columns)]
        else:
            self.digests += [hashlib.blake2b(of_sample.tobytes(), digest_size=32).hexdigest() for of_sample in samples]
            place = [0, len(self.columns), self.n_done, len(rows)]
        target = storage.join(self.folder, f"{len(self.values)}.values")
        storage.write_bytes(target, genes.tobytes())
        self.values.append([*place, target])
        self.n_done += len(rows)
        self.waiting, self.n_waiting = [], 0

    def summary(self, names: pa.ChunkedArray) -> dict[str, Any]:
        """Write the gene ids and say what there is."""
        genes = names.combine_chunks() if self.genes_in_rows else pa.array(self.columns, pa.string())
        genes = pa.concat_arrays(genes.chunks) if isinstance(genes, pa.ChunkedArray) else genes
        samples = self.columns if self.genes_in_rows else names.to_pylist()
        target = storage.join(self.folder, "genes.parquet")
        write_columns(target, pa.table({"id": genes}))
        digests = [digest.hexdigest() for digest in self.hashes] or self.digests
        text = hashlib.blake2b(np.asarray(pc.binary_length(genes), dtype="<i4").tobytes(), digest_size=32)
        text.update(genes.buffers()[2])
        return {
            "n_genes": len(genes),
            "samples": samples,
            "n_vanished": self.n_vanished,
            "digest": provenance.digest(["table", text.hexdigest(), list(zip(samples, digests, strict=True))]),
            "values": self.values,
            "ids": target,
        }


def write_table_rows(staged: str, digest: str, ids: str, parts: list[list[Any]], start: int, stop: int, n: int) -> None:
    """Fill rows ``start`` to ``stop`` of the store, whole shards that no other task writes; runs on a worker.

    Parameters
    ----------
    staged
        The Zarr group.
    digest
        Of the table's content: a task for another is another task.
    ids
        The file of gene ids.
    parts
        ``[first gene, genes, first sample, samples, file]`` of each part that reaches into the range.
    start, stop
        Rows to fill.
    n
        Samples of the store.
    """
    block = np.zeros((stop - start, n), np.float32)
    for first, n_genes, first_sample, n_samples, url in parts:
        low, high = max(start, first), min(stop, first + n_genes)
        found = _read_range(url, (low - first) * n_samples * 4, (high - first) * n_samples * 4)
        columns = slice(first_sample, first_sample + n_samples)
        block[low - start : high - start, columns] = np.frombuffer(found, np.float32).reshape(-1, n_samples)
    write_rows(staged, start, read_row_range(ids, start, stop), block)


def _read_range(url: str, start: int, stop: int) -> bytes:
    if storage.is_remote(url):
        fs, path = storage.filesystem(url)
        return bytes(fs.cat_file(path, start=start, end=stop))
    with open(storage.local_path(url), "rb") as handle:
        handle.seek(start)
        return handle.read(stop - start)
