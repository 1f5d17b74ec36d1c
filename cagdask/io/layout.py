"""How a store is cut into chunks and shards, and the writing of one block of it.

    gene rows   |  block 0  |  block 1  |  ...      one write task each
                | c c c c c | c c c c c |           chunks, the least that is read
    sharded:    |   shard   |   shard   |           one file per block; else one file per chunk

A block's rows are whole shards (or whole chunks), of the id array too, so no two tasks ever write into one file. The
plan is arithmetic on integers; values never depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.compute import memory
from cagdask.errors import MemoryLimitError

if TYPE_CHECKING:
    import zarr

READ_SAMPLES, READ_TABLE, UNITE_GENES, WRITE_STORE = "read samples", "read table", "merge gene names", "write store"
"""Stages of an ingest, as its progress, ``run.json`` and ``cagdask plan`` name them."""

CHUNK_BYTES = 4 * 2**20
"""Uncompressed size that a chunk aims at."""
SHARD_BYTES = 64 * 2**20
"""Uncompressed size that a shard aims at."""
MAX_CHUNK_ROWS = 2**16
MAX_BLOCK_ROWS = 2**18
"""Rows of a block at most, however few the samples: its ids are text in memory."""
_ID_BYTES = 256  # of one gene id and its Python object while a block is written
_COPIES = 3  # of a block while it is written: dense, in chunks, compressed


@dataclass(frozen=True)
class ChunkPlan:
    """Cut of a (genes x samples) float32 array.

    Attributes
    ----------
    n_genes, n_samples
        Shape of the array.
    chunk_rows
        Rows of a chunk; samples are never cut.
    block_rows
        Rows that one task writes: a multiple of ``chunk_rows``, and the shard where there are shards.
    sharded
        Whether a block is one file.
    """

    n_genes: int
    n_samples: int
    chunk_rows: int
    block_rows: int
    sharded: bool

    @property
    def block_bytes(self) -> int:
        """Bytes of a block's values."""
        return self.block_rows * self.n_samples * 4

    @property
    def task_bytes(self) -> int:
        """Bytes that writing one block takes."""
        return self.block_rows * _row_bytes(self.n_samples)

    def blocks(self) -> list[tuple[int, int]]:
        """First row and end of each block."""
        return [(i, min(i + self.block_rows, self.n_genes)) for i in range(0, self.n_genes, self.block_rows)]


def _row_bytes(n_samples: int) -> int:
    return 4 * n_samples * _COPIES + _ID_BYTES


def plan_chunks(n_genes: int, n_samples: int, task_budget: int, sharded: bool = True) -> ChunkPlan:
    """Choose chunks of about 4 MiB and blocks of about 64 MiB that a task can hold.

    Parameters
    ----------
    n_genes, n_samples
        Shape of the array, both at least 1.
    task_budget
        Bytes that a task may use; writing a block takes half of it at most.
    sharded
        Whether a block becomes one file.

    Raises
    ------
    MemoryLimitError
        Not even one row fits.
    """
    fitting = task_budget // 2 // _row_bytes(n_samples)
    if fitting < 1:
        raise MemoryLimitError(
            f"a gene of {n_samples:,} samples needs {memory.format_bytes(2 * _row_bytes(n_samples))} to write, but "
            f"a task may use {memory.format_bytes(task_budget)}. Use workers with more memory (`memory_limit`)."
        )
    row = 4 * n_samples
    chunk_rows = min(max(1, CHUNK_BYTES // row), MAX_CHUNK_ROWS, fitting, n_genes)
    wanted = min(max(1, SHARD_BYTES // row), MAX_BLOCK_ROWS, fitting)
    n_chunks = min(max(1, wanted // chunk_rows), -(-n_genes // chunk_rows))
    return ChunkPlan(n_genes, n_samples, chunk_rows, chunk_rows * n_chunks, sharded)


def create_store(staged: str, plan: ChunkPlan, samples: list[str], kind: str, attrs: dict[str, Any]) -> None:
    """Make the group with all its arrays, the genes' still empty.

    Parameters
    ----------
    staged
        Where to.
    plan
        Its cut.
    samples
        Names of the columns; an embedding's components have none.
    kind
        ``abundance``, ``expression`` or ``embedding``.
    attrs
        ``history`` and ``input_digest``; the others are added.
    """
    fixed = {"schema_version": schema.SCHEMA_VERSION, "kind": kind, "source": provenance.source()}
    group = storage.create_group(staged, fixed | attrs)
    shape, rows = (plan.n_genes, plan.n_samples), (plan.block_rows,)
    storage.create_array(
        group,
        schema.value_name(kind),
        shape,
        chunks=(plan.chunk_rows, plan.n_samples),
        shards=(plan.block_rows, plan.n_samples) if plan.sharded else None,
    )
    storage.create_array(group, "gene_id", shape[:1], chunks=rows)
    if kind != "embedding":
        storage.create_array(group, "gene_prevalence", shape[:1], chunks=rows)
        storage.write_array(group, "sample_id", np.array(samples, np.dtypes.StringDType()))
    storage.finish_group(group)


def write_rows(staged: str, start: int, ids: pa.StringArray, block: NDArray[np.float32]) -> None:
    """Write a whole block of genes: ids, values and prevalence.

    Parameters
    ----------
    staged
        The group that :func:`create_store` made.
    start
        First row, the first of a block.
    ids
        Shape (rows,).
    block
        Shape (rows, samples), float32.
    """
    group = storage.open_group(staged, writable=True)
    found = {"gene_id": np.array(ids.to_pylist(), np.dtypes.StringDType())}
    found[schema.value_name(str(group.attrs["kind"]))] = block
    if "gene_prevalence" in group:
        n_present = np.count_nonzero(block > 0, axis=1)
        found["gene_prevalence"] = (n_present / block.shape[1]).astype(np.float32)
    for name, values in found.items():
        array = storage.with_all_chunks(cast("zarr.Array[Any]", group[name]))
        array[start : start + len(block)] = values
