"""Tables of any format, streamed: genes in rows, or samples in rows.

    table --batches--> check, float32 --> parts in the work folder --> blocks of the store

One task streams through the file and leaves parts, each a gene-major array of a range of genes (or of a range of
samples, where these are the rows), plain, or compressed by rows where most of it is 0; then one task per block puts
together what it needs of them. The table keeps its order of genes.

Memory of the reading task: a part and its transpose, a batch of the file, and the text of the gene ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cagdask import provenance, storage
from cagdask.compute import memory
from cagdask.errors import InputError, MemoryLimitError
from cagdask.io.columns import read_row_range, write_columns
from cagdask.io.fields import write_fields
from cagdask.io.layout import write_rows
from cagdask.io.tables.choosing import adapted
from cagdask.io.tables.formats import Batches, open_table
from cagdask.io.tables.not_genes import NotGenes
from cagdask.io.tables.orientation import check_orientation
from cagdask.io.tables.reading import Reading
from cagdask.io.tables.sparse_parts import fill, pack
from cagdask.io.tables.totals import KEEP, Totals
from cagdask.io.vectors.embeddings import open_vectors

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_PART_SHARE = 8  # a part takes this share of the task's budget, it is there twice or three times
_MAX_PART = 64 * 2**20


def read_table(
    url: str,
    size: int,
    modified: str,
    reading: dict[str, Any],
    signed: bool,
    budget: int,
    folder: str,
    vectors: dict[str, str | None] | None = None,
) -> dict[str, Any]:
    """Stream through a table, check it, and leave its parts in a folder; runs on a worker.

    Parameters
    ----------
    url
        The table; its bytes tell the format.
    size, modified
        Of the file, when the run began: a task with others is another task.
    reading
        Options, as :class:`cagdask.io.tables.reading.Reading`.
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
        samples, file, values that are not 0 or -1]`` of each part, ``ids``: the file of gene ids, ``gene_fields`` and
        ``sample_fields``: files of what else is known, or None; ``id_name`` or, where samples are the rows,
        ``sample_id_name``; ``n_left_out``, ``warnings``, ``notes``.

    Raises
    ------
    InputError
        Something is wrong with the table; names the gene, the sample and the value.
    MemoryLimitError
        One row is too long for the budget.
    """
    storage.make_folder(folder)
    scratch = None if storage.is_remote(folder) else storage.local_path(folder)
    asked = replace(Reading.of(reading), budget=budget, scratch=scratch)
    opened = open_table(url, asked) if vectors is None else open_vectors(url, asked.orient, vectors)
    with opened as held:
        table = adapted(url, held, asked) if vectors is None else held
        rows = _Rows(url, table, asked, signed)
        _check_names(url, rows.columns, "column", of_genes=not table.genes_in_rows)
        if not rows.columns:
            rows.not_genes.check_any(url, 0)
            raise InputError(f"{url}: holds names, and no {table.column} with values. Check the file.")
        parts = _Parts(url, rows.columns, table.genes_in_rows, folder, budget)
        try:
            for ids, values, n_vanished in rows:
                parts.add(ids, values, n_vanished)
        except InputError:  # of a table read the wrong way around that is what to say
            _check_orientation(url, table, pa.chunked_array(table.row_names(), pa.string()))
            raise
        parts.flush()
        names = pa.chunked_array(parts.names, pa.string())
        rows.not_genes.check_any(url, len(names) if table.genes_in_rows else len(rows.columns))
        if not len(names):
            raise InputError(f"{url}: the table has no rows below its header. Check the file.")
        _check_names(url, names, "row", of_genes=table.genes_in_rows and vectors is None)
        _check_orientation(url, table, names)
        found = parts.summary(names)
    return found | rows.summary(folder)


class _Rows:
    """Rows of a table, checked, without genes that are left out; notes what else is known of rows and columns."""

    def __init__(self, url: str, table: Batches, reading: Reading, signed: bool) -> None:
        self.url, self.table, self.signed = url, table, signed
        self.not_genes = NotGenes(reading)
        self.columns = table.columns
        self.fields: list[pa.RecordBatch | pa.Table] = []
        self.of_columns = table.column_metadata
        self._kept_columns: NDArray[np.bool_] | None = None
        if not table.genes_in_rows:
            self._kept_columns = self.not_genes.kept(pa.array(table.columns, pa.string()))
        if self._kept_columns is not None:
            self.columns = [name for name, kept in zip(table.columns, self._kept_columns, strict=True) if kept]
            self.of_columns = self.of_columns and self.of_columns.filter(pa.array(self._kept_columns))
        self._sums = np.zeros(0 if table.genes_in_rows else len(self.columns))
        of_samples = table.column == "sample" and not signed and reading.totals != KEEP
        self._totals = (
            Totals(url, self.columns if table.genes_in_rows else None, reading.keep_columns) if of_samples else None
        )

    def __iter__(self) -> Any:
        n = 0
        for ids, values, *rest in self.table.batches:
            whole = self.table.row_metadata
            fields = whole.slice(n, len(ids)) if whole is not None else rest[0] if rest else None
            n += len(ids)
            if self._kept_columns is not None:
                values = values[:, self._kept_columns]
            kept = self.not_genes.kept(ids) if self.table.genes_in_rows else None
            if kept is not None:
                ids, values = ids.filter(pa.array(kept)), values[kept]
                fields = fields and fields.filter(pa.array(kept))
            stored, n_vanished = _checked(self.url, self.table, self.columns, ids, values, self.signed)
            if self.table.genes_in_rows and self.table.column == "sample":
                self.not_genes.see(ids, values.sum(axis=1, dtype=np.float64))
            elif self.table.column == "sample":
                self._sums += values.sum(axis=0, dtype=np.float64)
            if self._totals is not None:
                self._totals.see(ids, values)
            if fields is not None:
                self.fields.append(fields)
            yield ids, stored, n_vanished

    def summary(self, folder: str) -> dict[str, Any]:
        """Write what else is known of genes and samples, and say what should be said.

        Raises
        ------
        InputError
            A sample is the sum of the others.
        """
        if self._totals is not None:
            self._totals.check()
        if len(self._sums):
            self.not_genes.see(pa.array(self.columns, pa.string()), self._sums)
        of_rows = pa.concat_tables([pa.table(some) for some in self.fields]) if self.fields else None
        genes, samples = (of_rows, self.of_columns) if self.table.genes_in_rows else (self.of_columns, of_rows)
        return {
            "gene_fields": write_fields(storage.join(folder, "gene-fields.parquet"), genes),
            "sample_fields": write_fields(storage.join(folder, "sample-fields.parquet"), samples),
            "id_name" if self.table.genes_in_rows else "sample_id_name": self.table.id_name,
            "n_left_out": self.not_genes.n_left_out + self.table.n_left_out,
            "warnings": self.not_genes.warnings(),
            "notes": self.table.notes,
        }


def _check_orientation(url: str, table: Batches, names: pa.ChunkedArray) -> None:
    if len(names) and table.column == "sample" and not table.settled:
        orient = "genes-by-samples" if table.genes_in_rows else "samples-by-genes"
        check_orientation(url, table.id_name, names.slice(0, 1000).to_pylist(), len(names), table.columns, orient)


def _check_names(url: str, names: list[str] | pa.ChunkedArray, what: str, *, of_genes: bool) -> None:
    text = names if isinstance(names, pa.ChunkedArray) else pa.chunked_array([pa.array(names, pa.string())])
    empty = pc.index(text, "").as_py()
    if empty >= 0:
        after = f", after {text[empty - 1].as_py()!r}," if empty else ""
        leave = " Leave it out with `exclude_genes='^$'`, or write its name into the table." if of_genes else ""
        raise InputError(f"{url}: {what} {empty + 1:,} of the values{after} has no name.{leave or ' Give it one.'}")
    if len(text) == len(text.unique()):
        return
    counted = text.value_counts()
    repeated = counted.filter(pc.greater(counted.field("counts"), 1))
    named = ", ".join(f"{row['values']!r} ({row['counts']} times)" for row in repeated.slice(0, 3).to_pylist())
    more = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
    do = "Keep one of each, or add them up" + (" with `duplicate_genes='sum'`." if of_genes else ".")
    raise InputError(f"{url}: {what} names occur more than once: {named}{more}. {do}")


def _checked(
    url: str, table: Batches, columns: list[str], ids: pa.StringArray, values: NDArray[Any], signed: bool
) -> tuple[NDArray[np.float32], int]:
    """Values as float32, and how many positive ones became 0 by that."""
    if values.dtype == np.float16:  # the largest float32 is infinite in half precision, so infinity would pass
        values = values.astype(np.float32)
    wrong = ~(np.abs(values) <= _FLOAT32_MAX)
    if not signed:
        wrong |= values < 0
    if wrong.any():
        row, column = (int(i[0]) for i in np.nonzero(wrong))
        named = (ids[row].as_py(), columns[column])
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
        return f"the value is {value:g}; abundances are 0 or more. Correct the table, or use `kind='expression'`."
    return f"the value is {value:g}, above {_FLOAT32_MAX:.3g}, the largest that float32 holds. Scale the values down."


@dataclass
class _Parts:
    """Rows as they come, cut into parts of the planned size, and the digest of each sample's values."""

    url: str
    columns: list[str]
    genes_in_rows: bool
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
                "(`memory_limit`), or the table the other way around."
            )
        self.part_rows = room // row
        self.hashes = [hashlib.blake2b(digest_size=32) for _ in self.columns] if self.genes_in_rows else []

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
        data, n_values = pack(genes)
        storage.write_bytes(target, data)
        self.values.append([*place, target, n_values])
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
        ``[first gene, genes, first sample, samples, file, values]`` of each part that reaches into the range.
    start, stop
        Rows to fill.
    n
        Samples of the store.
    """
    block = np.zeros((stop - start, n), np.float32)
    for first, n_genes, first_sample, n_samples, url, n_values in parts:
        low, high = max(start, first), min(stop, first + n_genes)
        target = block[low - start : high - start, first_sample : first_sample + n_samples]
        fill(target, url, low - first, high - first, n_genes, n_values)
    write_rows(staged, start, read_row_range(ids, start, stop), block)
