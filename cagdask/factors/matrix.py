"""What is factorized: the rows and columns of a store, of a result's CAGs, or of a Parquet table.

    abundance or expression store   abundance      gene x sample
    result store                    cag_abundance  cag x sample     "genes" are CAGs, named by their number
    Parquet table  --convert-->     abundance      gene x sample    a store in the work folder, missing values and all

Everything after this module sees one Zarr array, its genes in rows, and reads it in blocks whose size follows from the
number of samples alone. What a block holds, and so every sum over blocks, is the same for any chunks and workers.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage, stores
from cagdask.errors import InputError, SchemaError
from cagdask.factors.options import NMF
from cagdask.io.inputs import given_name
from cagdask.io.tables.parquet import is_table

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from cagdask.compute.runner import Runner

logger = logging.getLogger(__name__)

Float32 = NDArray[np.float32]

BLOCK_CELLS = 2**22
"""Cells of a block, 16 MiB: four chunks as ingest makes them."""
MAX_BLOCK_ROWS = 2**16
SELDOM = 5
"""Chunks for each that two tasks read: a pass reads a fifth more than there are, at most."""
TASK_BLOCK_SAMPLES = 2**17
"""Blocks of a task times samples, at most, where a chunk has fewer blocks: it keeps sums for each."""


@dataclass(frozen=True)
class Matrix:
    """A Zarr array of genes x samples, and where its names are.

    Attributes
    ----------
    url, name
        Group and array.
    n_genes, n_samples
        Its shape.
    chunk_rows
        Rows of a stored chunk.
    gene_id, sample_id
        Arrays of names in the group; genes without any are named by their number.
    sample_title
        Column of sample names in tables.
    digest
        Of what is known of the content.
    said
        The source, as messages call it.
    """

    url: str
    name: str
    n_genes: int
    n_samples: int
    chunk_rows: int
    gene_id: str | None
    sample_id: str
    sample_title: str
    digest: str
    said: str = ""

    @property
    def rows_are(self) -> str:
        """What its rows are: ``genes`` or ``CAGs``."""
        return "CAGs" if self.name == "cag_abundance" else "genes"

    @property
    def block_rows(self) -> int:
        """Rows of a block; a function of the number of samples."""
        return min(MAX_BLOCK_ROWS, max(1, BLOCK_CELLS // 4 // self.n_samples) * 4)

    @property
    def n_blocks(self) -> int:
        """Blocks of the matrix."""
        return -(-self.n_genes // self.block_rows)

    @property
    def n_chunks(self) -> int:
        """Stored chunks of the matrix."""
        return -(-self.n_genes // self.chunk_rows)

    @property
    def task_blocks(self) -> int:
        """Blocks of one task: as many as it takes to hold a chunk; more, where chunks lie across the border of tasks.

        Such a chunk is read by both, so then there is at most one border for :data:`SELDOM` chunks.
        """
        least = max(1, -(-min(self.chunk_rows, self.n_genes) // self.block_rows))
        if least * self.block_rows % self.chunk_rows == 0 or least >= self.n_blocks:
            return least
        n_tasks = self.n_chunks // SELDOM + 1
        return max(least, min(-(-self.n_blocks // n_tasks), TASK_BLOCK_SAMPLES // self.n_samples))

    @property
    def held_rows(self) -> int:
        """Rows that :meth:`blocks` holds at most: a block, and what is read for it and left from before."""
        chunks = -(-min(self.block_rows, self.n_genes) // self.chunk_rows)
        return min(self.n_genes, 2 * min(chunks * self.chunk_rows, self.n_genes) + self.block_rows)

    def tasks(self) -> list[tuple[int, int]]:
        """First block of each task, and the end of its blocks."""
        step = self.task_blocks
        return [(first, min(first + step, self.n_blocks)) for first in range(0, self.n_blocks, step)]

    def rows(self, first: int, last: int) -> tuple[int, int]:
        """Rows of blocks ``first`` to ``last`` (exclusive)."""
        return first * self.block_rows, min(last * self.block_rows, self.n_genes)

    def chunks_of(self, begin: int, end: int) -> int:
        """Stored chunks that hold rows ``begin`` to ``end``."""
        return (end - 1) // self.chunk_rows - begin // self.chunk_rows + 1

    def read(self, begin: int, end: int) -> Float32:
        """Rows ``begin`` to ``end`` as they are stored."""
        return np.asarray(storage.open_array(self.url, self.name)[begin:end], np.float32)

    def blocks(self, first: int, last: int) -> Iterator[Float32]:
        """Blocks ``first`` to ``last`` (exclusive) as they are stored; every chunk is read once."""
        begin, end = self.rows(first, last)
        held, at = np.empty((0, self.n_samples), np.float32), begin
        for low in range(begin, end, self.block_rows):
            high = min(low + self.block_rows, end)
            parts = [held[low - at : high - at]]
            got = at + len(held)
            if got < high:
                stop = min(end, -(-high // self.chunk_rows) * self.chunk_rows)
                held, at = self.read(got, stop), got
                parts.append(held[: high - got])
            yield parts[-1] if not len(parts[0]) else parts[0] if len(parts) == 1 else np.concatenate(parts)

    def gene_names(self, begin: int, end: int) -> list[str]:
        """Names of genes ``begin`` to ``end``."""
        if self.gene_id is None:
            return [str(row) for row in range(begin, end)]
        return [str(name) for name in np.asarray(storage.open_array(self.url, self.gene_id)[begin:end])]

    def names_of(self, rows: NDArray[np.int64]) -> list[str]:
        """Names of some genes, rows ascending; each chunk of names is read once."""
        found: list[str] = []
        for chunk, members in groupby(rows.tolist(), lambda row: row // storage.ID_CHUNK):
            begin = chunk * storage.ID_CHUNK
            names = self.gene_names(begin, min(begin + storage.ID_CHUNK, self.n_genes))
            found += [names[row - begin] for row in members]
        return found

    def sample_names(self) -> list[str]:
        """Names of all samples."""
        return [str(name) for name in np.asarray(storage.open_array(self.url, self.sample_id)[:])]

    def to_json(self) -> dict[str, Any]:
        """Hand it to a task."""
        return asdict(self)


def reads_itself(url: str) -> bool:
    """Whether a source that is no store is read here: a Parquet table, or the folder of a run with CAGs."""
    return is_table(url) or storage.exists(storage.join(url, "cags.zarr"))


def open_matrix(source: str) -> Matrix:
    """The matrix of a store, or of a folder with a result store; nothing but metadata is read.

    Raises
    ------
    StoreError, SchemaError
        There is no such store, or it holds neither abundances nor CAGs.
    """
    url = stores.result_url(source)
    ds = storage.look(url if stores.is_store(url) else stores.abundance_url(source))  # a run that has no result yet
    url = str(ds.encoding["source"])
    kind = ds.attrs.get("kind", "abundance")
    name = "cag_abundance" if "cag_abundance" in ds.variables else "abundance"
    if kind == "embedding" or name not in ds.variables:
        raise SchemaError(
            f"{url}: holds {kind}, which has no samples to factorize. Name a store of abundances or expression values, "
            "or a cags.zarr."
        )
    schema.validate(ds, name, "sample_id", where=url)
    array = storage.open_array(url, name)
    n_genes, n_samples = array.shape
    if not n_genes or not n_samples:
        raise InputError(f"{url}: {name} is empty ({n_genes} x {n_samples}). Name another store.")
    attrs = {str(key): str(value) for key, value in ds.attrs.items()}
    return Matrix(
        url=url,
        name=name,
        n_genes=n_genes,
        n_samples=n_samples,
        chunk_rows=array.chunks[0],
        gene_id=None if name == "cag_abundance" else "gene_id",
        sample_id="sample_id",
        sample_title=str(ds.attrs.get("sample_title", "sample_id")),
        digest=provenance.digest([attrs, name, [n_genes, n_samples]]),
        said=given_name(source),
    )


# -- Parquet ---------------------------------------------------------------------------------------------------------


def check_table(url: str, id_column: str | None, orient: str) -> str:
    """Refuse a Parquet table that can not be read, from its header; gives the name of its id column.

    Raises
    ------
    InputError
        It is missing or damaged, has no id column, columns that are not numbers, or columns of one name.
    """
    NMF["orient"].check(orient)
    from cagdask.io.tables.parquet import read_layout

    return read_layout(url, id_column).names


def convert_table(url: str, id_column: str, orient: str, runner: Runner, folder: str, done: str) -> Matrix:
    """Write a Parquet table as an expression store in the work folder, and give its matrix."""
    target = storage.join(folder, "table.zarr")
    found = runner.one("read table", write_table, url, id_column, orient, target, done=done)
    if found["n_vanished"]:
        logger.warning(
            "%s: %d values are too small for float32 (below 1.4e-45) and count as 0", url, found["n_vanished"]
        )
    return replace(open_matrix(target), said=url)


def write_table(url: str, id_column: str, orient: str, target: str) -> dict[str, Any]:
    """Task: a Parquet table as a store; missing values stay NaN.

    Holds 32 MiB of the table at a time, and the names.
    """
    from cagdask.io.tables.parquet import open_parquet

    with open_parquet(url) as file:
        columns = [field.name for field in file.schema_arrow if field.name != id_column]
        ids = [str(name) for name in file.read(columns=[id_column]).column(0).to_pylist()]
        empty = [row for row, name in enumerate(ids) if name in ("", "None")]
        if empty:
            raise InputError(f"{url}: row {empty[0] + 1:,} has no name in column {id_column!r}. Give it one.")
        if len(set(ids)) < len(ids):
            twice = next(name for name, n in Counter(ids).items() if n > 1)
            raise InputError(f"{url}: {twice!r} occurs more than once in column {id_column!r}. Keep one of each.")
        by_gene = orient == "genes-by-samples"
        genes, samples = (ids, columns) if by_gene else (columns, ids)
        attrs = {
            "schema_version": schema.SCHEMA_VERSION,
            "kind": "expression",
            "source": provenance.source(),
            "history": provenance.add_history("", f"read {storage.name_of(url)}"),
            "sample_title": "sample_id" if by_gene or id_column.startswith("__index_level_") else id_column,
        }
        group = storage.create_group(target, attrs)
        rows = max(1, BLOCK_CELLS // 4 // len(samples))
        array = storage.create_array(group, "abundance", (len(genes), len(samples)), chunks=(rows, len(samples)))
        storage.write_array(group, "gene_id", np.array(genes, dtype=object))
        storage.write_array(group, "sample_id", np.array(samples, dtype=object))
        begin, n_given, n_stored, content = 0, 0, 0, hashlib.sha256(provenance.digest([genes, samples]).encode())
        for block in _row_batches(file, columns, rows) if by_gene else _column_batches(file, columns, rows):
            _check_size(url, block, genes[begin : begin + len(block)], samples)
            n_given += int(np.count_nonzero(block))
            with np.errstate(under="ignore"):
                block = block.astype(np.float32)
            n_stored += int(np.count_nonzero(block))
            array[begin : begin + len(block)] = block
            content.update(np.ascontiguousarray(block).tobytes())
            begin += len(block)
        group.attrs["input_digest"] = content.hexdigest()
        storage.finish_group(group)
    if n_given and not n_stored:
        raise InputError(
            f"{url}: all {n_given:,} values other than 0 are too small for float32 (below 1.4e-45). Multiply all by "
            "one number first."
        )
    return {"n_genes": len(genes), "n_samples": len(samples), "n_vanished": n_given - n_stored}


def _check_size(url: str, block: NDArray[Any], genes: list[str], samples: list[str]) -> None:
    """Refuse a value that float32 can not hold; one that is missing or infinite is for the survey to judge."""
    largest = float(np.finfo(np.float32).max)
    wrong = np.isfinite(block) & (np.abs(block) > largest)
    if wrong.any():
        row, column = (int(i[0]) for i in np.nonzero(wrong))
        raise InputError(
            f"{url}: gene {genes[row]!r}, sample {samples[column]!r}: the value is {float(block[row, column]):g}, "
            f"above {largest:.3g}, the largest that float32 holds. Scale the values down."
        )


def _values(columns: Any) -> list[Any]:
    return [column.to_numpy(zero_copy_only=False) for column in columns]


def _row_batches(file: pq.ParquetFile, columns: list[str], rows: int) -> Any:
    for batch in file.iter_batches(batch_size=rows, columns=columns):
        yield np.stack(_values(batch.columns), axis=1)


def _column_batches(file: pq.ParquetFile, columns: list[str], rows: int) -> Any:
    for begin in range(0, len(columns), rows):
        table = file.read(columns=columns[begin : begin + rows])
        yield np.stack(_values(column.combine_chunks() for column in table.columns))
