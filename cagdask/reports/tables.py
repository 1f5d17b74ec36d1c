"""From a result store to the files that people open: Parquet, CSV, and the files of find-cags.

    cags.zarr --block by block--> genes.parquet          a row per gene
                                  CAGs.csv.gz            CAG,gene
                                  cags.parquet           a row per CAG
                                  cag_abundance.parquet  a row per CAG, a column per sample

Every file is streamed: a block of rows is read, turned into an Arrow batch and written as one row group, so that no
file needs more than a few blocks in memory. The two files that list genes in the order of their CAGs hold, in addition,
16 bytes per gene and the names of :data:`WINDOW` genes. Each file is complete or absent, and has the same bytes on
every run.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError, SchemaError

if TYPE_CHECKING:
    import pyarrow as pa
    import zarr

BLOCK = 65_536
"""Genes, or CAGs, per row group."""
BLOCK_BYTES = 32 * 2**20
"""Most bytes of one block of a table with a column per sample."""
WINDOW = 4_000_000
"""Genes whose names are held at once while they are listed in the order of their CAGs."""

GENE_COLUMNS = {
    "gene_id": "gene_id",
    "cag": "gene_cag",
    "cag_distance": "gene_cag_distance",
    "prevalence": "gene_prevalence",
    "mean_abundance": "gene_mean_abundance",
}
STATUS_COLUMNS = {"support": "gene_support", "status": "gene_status"}
"""Of genes, where an error rate was estimated."""
CAG_COLUMNS = {
    "size": "cag_size",
    "prevalence": "cag_prevalence",
    "mean_abundance": "cag_mean_abundance",
    "std_abundance": "cag_std_abundance",
    "entropy": "cag_entropy",
    "cohesion": "cag_cohesion",
}

Array = NDArray[Any]


def check_sample_names(names: Iterable[str], *reserved: str) -> None:
    """Refuse sample names that would make two columns of one name.

    Raises
    ------
    InputError
        A sample is called like a column of the tables.
    """
    for name in names:
        if name in reserved:
            raise InputError(
                f"a sample is named {name!r}, which is a column of the output tables. Rename it in the sample sheet."
            )


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    import zarr

    found = group.get(name)
    if not isinstance(found, zarr.Array):
        raise SchemaError(f"{group.store_path}: has no {name}; it is not a result store. Cluster the data first.")
    return found


def _blocks(n: int, rows: int) -> Iterator[slice]:
    for begin in range(0, n, rows):
        yield slice(begin, min(n, begin + rows))


def _table_rows(n_columns: int, itemsize: int) -> int:
    return max(1, min(BLOCK, BLOCK_BYTES // max(1, n_columns * itemsize)))


# -- tables ----------------------------------------------------------------------------------------------------------


def _write_parquet(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with storage.open_output(url) as handle, pq.ParquetWriter(handle, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch], schema))


def _write_feather(url: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with storage.open_output(url) as handle, pa.ipc.new_file(handle, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _column_batches(arrays: dict[str, Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    n = next(iter(arrays.values())).shape[0]
    for rows in _blocks(n, BLOCK):
        columns = [
            pa.array(values[rows], type=field.type) for values, field in zip(arrays.values(), schema, strict=True)
        ]
        yield pa.record_batch(columns, schema=schema)


def write_genes(result: str, url: str) -> None:
    """``genes.parquet``: gene_id, cag, cag_distance, prevalence, mean_abundance; genes in the order of the store.

    Where an error rate was estimated, also support and status.
    """
    import pyarrow as pa

    group = storage.open_group(result)
    arrays = {column: _array(group, name) for column, name in GENE_COLUMNS.items()}
    types = [pa.string(), pa.int64(), pa.float32(), pa.float32(), pa.float32()]
    if "gene_status" in group:
        arrays |= {column: _array(group, name) for column, name in STATUS_COLUMNS.items()}
        types += [pa.float32(), pa.string()]
    schema = pa.schema(list(zip(arrays, types, strict=True)))
    _write_parquet(url, schema, _column_batches(arrays, schema))


def write_cags(result: str, url: str) -> None:
    """``cags.parquet``: cag, then the columns of :data:`CAG_COLUMNS`; the largest CAG first."""
    import pyarrow as pa

    group = storage.open_group(result)
    arrays: dict[str, Any] = {column: _array(group, name) for column, name in CAG_COLUMNS.items()}
    arrays = {"cag": np.arange(arrays["size"].shape[0])} | arrays
    schema = pa.schema([(name, pa.int64() if name in ("cag", "size") else pa.float32()) for name in arrays])
    _write_parquet(url, schema, _column_batches(arrays, schema))


def _abundance_batches(group: zarr.Group, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    values = _array(group, "cag_abundance")
    blocks = _blocks(values.shape[0], _table_rows(values.shape[1], 8))
    return _matrix_batches(((np.arange(rows.start, rows.stop), values[rows]) for rows in blocks), schema)


def _matrix_batches(blocks: Iterable[tuple[Array, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of a first column and one column per sample, from pairs (first column, matrix)."""
    import pyarrow as pa

    for first, values in blocks:
        by_sample = np.ascontiguousarray(np.asarray(values).T, dtype=schema.field(1).type.to_pandas_dtype())
        yield pa.record_batch([pa.array(first, type=schema.field(0).type), *map(pa.array, by_sample)], schema=schema)


def _matrix_schema(first: str, first_type: pa.DataType, samples: Iterable[str], value_type: pa.DataType) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(first, first_type), *((name, value_type) for name in samples)])


def sample_names(group: zarr.Group) -> list[str]:
    """Names of the samples of a store."""
    return [str(name) for name in np.asarray(_array(group, "sample_id")[:])]


def write_cag_abundance(result: str, url: str) -> None:
    """``cag_abundance.parquet``: column ``cag``, then a float32 column per sample."""
    import pyarrow as pa

    group = storage.open_group(result)
    schema = _matrix_schema("cag", pa.int64(), sample_names(group), pa.float32())
    _write_parquet(url, schema, _abundance_batches(group, schema))


# -- genes in the order of their CAGs --------------------------------------------------------------------------------


def genes_by_cag(group: zarr.Group) -> Iterator[tuple[Array, Array]]:
    """Blocks of (CAG, gene name), sorted by CAG, then gene row; genes filtered out are left out.

    Memory: 16 bytes per gene of the store, and the names of :data:`WINDOW` genes. Reads the names once per window.
    """
    labels = np.asarray(_array(group, "gene_cag")[:])
    order = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :]
    for window in _blocks(len(order), WINDOW):
        names = _names_at(_array(group, "gene_id"), order[window])
        for rows in _blocks(len(names), BLOCK):
            yield labels[order[window][rows]], names[rows]


def _names_at(names: zarr.Array[Any], rows: Array) -> Array:
    """``names[rows]`` with every stored chunk read at most once."""
    ascending = np.argsort(rows, kind="stable")
    found = np.empty(len(rows), dtype=np.dtypes.StringDType())
    step = max(1, names.chunks[0])
    for block in _blocks(names.shape[0], step):
        begin, end = np.searchsorted(rows[ascending], [block.start, block.stop])
        if begin < end:
            places = ascending[begin:end]
            found[places] = np.asarray(names[block])[rows[places] - block.start]
    return found


@contextmanager
def _gzip(url: str) -> Iterator[BinaryIO]:
    with (
        storage.open_output(url) as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as out,
    ):
        yield out  # type: ignore[misc]  # a GzipFile is a BinaryIO in all but its stubs


def write_membership(result: str, url: str) -> None:
    """``CAGs.csv.gz``: columns ``CAG,gene``, sorted by CAG, then gene row."""
    import pyarrow as pa
    from pyarrow import csv

    schema = pa.schema([("CAG", pa.int64()), ("gene", pa.string())])
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    with _gzip(url) as out:
        out.write(b"CAG,gene\n")
        for labels, names in genes_by_cag(storage.open_group(result)):
            table = pa.table([pa.array(labels), pa.array(names, type=pa.string())], schema=schema)
            csv.write_csv(table, out, options)


# -- find-cags' files ------------------------------------------------------------------------------------------------


def write_membership_json(result: str, url: str) -> None:
    """``PREFIX.cags.json.gz``: ``{"0": [gene, …], …}``, the largest CAG first."""
    with _gzip(url) as out:
        out.write(b"{")
        current = -1
        for labels, names in genes_by_cag(storage.open_group(result)):
            starts = np.flatnonzero(np.diff(labels, prepend=current))
            if len(starts) == 0 or starts[0] > 0:  # the last CAG of the block before goes on
                out.write(b", " + _json_items(names[: starts[0] if len(starts) else None]))
            for begin, end in pairwise([*starts, len(labels)]):
                before = b"" if current < 0 else b"], "
                current = int(labels[begin])
                out.write(before + f'"{current}": ['.encode() + _json_items(names[begin:end]))
        out.write(b"}" if current < 0 else b"]}")


def _json_items(names: Array) -> bytes:
    return json.dumps([str(name) for name in names])[1:-1].encode()


def write_cag_feather(result: str, url: str) -> None:
    """``PREFIX.cags.feather``: column ``index`` with the CAG's number, then a float64 column per sample."""
    import pyarrow as pa

    group = storage.open_group(result)
    schema = _matrix_schema("index", pa.int64(), sample_names(group), pa.float64())
    _write_feather(url, schema, _abundance_batches(group, schema))


def write_gene_feather(store: str, url: str, block: Callable[[Array], Array]) -> None:
    """``PREFIX.feather``: column ``index`` with the gene's name, then a float64 column per sample.

    Parameters
    ----------
    store
        Abundance store.
    url
        File to write.
    block
        Normalizes rows of the store, shape (n, n_samples) float32, without a floor.
    """
    import pyarrow as pa

    group = storage.open_group(store)
    values, names = _array(group, "abundance"), _array(group, "gene_id")
    schema = _matrix_schema("index", pa.string(), sample_names(group), pa.float64())
    rows = _table_rows(values.shape[1], 8)
    blocks = ((np.asarray(names[at]), block(np.asarray(values[at]))) for at in _blocks(values.shape[0], rows))
    _write_feather(url, schema, _matrix_batches(blocks, schema))


# -- all files of a run ----------------------------------------------------------------------------------------------

FILES: dict[str, Callable[[str, str], None]] = {
    "genes.parquet": write_genes,
    "CAGs.csv.gz": write_membership,
    "cags.parquet": write_cags,
    "cag_abundance.parquet": write_cag_abundance,
}


def write_file(name: str, result: str, folder: str) -> dict[str, Any]:
    """Task: one file of :data:`FILES` from a result store.

    Returns
    -------
    dict
        ``file``, its URL, ``n_bytes``, its size, and ``sha256`` of its content.
    """
    url = storage.join(folder, name)
    FILES[name](result, url)
    return {"file": url, "n_bytes": storage.size_of(url), "sha256": _sha256(url)}


def _sha256(url: str) -> str:
    digest = hashlib.sha256()
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as handle:
        while data := handle.read(2**22):
            digest.update(data)
    return digest.hexdigest()


def tree_size(url: str) -> int:
    """Bytes of a file, or of all files of a folder."""
    fs, path = storage.filesystem(url)
    return int(fs.du(path))
