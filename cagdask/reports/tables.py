"""From a result store to the files that people open.

    cags.zarr --block by block--> genes.parquet          a row per gene
                                  CAGs.csv.gz            CAG,gene
                                  cags.parquet           a row per CAG
                                  cag_abundance.parquet  a row per CAG, a column per sample: means, normalized
                                  cag_sum.parquet        the same: sums, as ingested
                                  cag_core_abundance.parquet, cag_core_share.parquet   the same, of core genes

Every file is streamed: a block of rows is read, turned into an Arrow batch and written as one row group, so that no
file needs more than a few blocks in memory. The two files that list genes in the order of their CAGs hold, in addition,
16 bytes per gene and the names of :data:`WINDOW` genes. Each file is complete or absent, and has the same bytes on
every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError, SchemaError
from cagdask.reports.columns import CAG_COLUMNS, GENE_COLUMNS, column_names
from cagdask.reports.writers import WRITERS, gzipped
from cagdask.storage.groups import arrays_of

if TYPE_CHECKING:
    import pyarrow as pa
    import zarr

BLOCK = 65_536
"""Genes, or CAGs, per row group."""
BLOCK_BYTES = 32 * 2**20
"""Most bytes of one block of a table with a column per sample."""
WINDOW = 4_000_000
"""Genes whose names are held at once while they are listed in the order of their CAGs."""

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


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array of a result store.

    Raises
    ------
    SchemaError
        It has none of that name.
    """
    import zarr

    found = group.get(name)
    if not isinstance(found, zarr.Array):
        raise SchemaError(f"{group.store_path}: has no {name}; it is not a result store. Cluster the data first.")
    return found


def blocks_of(n: int, rows: int) -> Iterator[slice]:
    """Ranges of at most so many rows."""
    for begin in range(0, n, rows):
        yield slice(begin, min(n, begin + rows))


def rows_at_once(n_columns: int, itemsize: int) -> int:
    """Rows of a wide table that are held at once."""
    return max(1, min(BLOCK, BLOCK_BYTES // max(1, n_columns * itemsize)))


# -- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table that is read block by block."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def _of_columns(arrays: dict[str, Any]) -> Table:
    """A table of arrays of one length, each a column."""
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        n = next(iter(arrays.values())).shape[0]
        for rows in blocks_of(n, BLOCK):
            columns = [
                pa.array(values[rows], type=field.type) for values, field in zip(arrays.values(), schema, strict=True)
            ]
            yield pa.record_batch(columns, schema=schema)

    schema = pa.schema([(name, _type_of(array)) for name, array in arrays.items()])
    return Table(schema, batches())


def _type_of(array: Any) -> pa.DataType:
    import pyarrow as pa

    return pa.string() if array.dtype.kind in "OUT" else pa.from_numpy_dtype(np.dtype(array.dtype))


def _columns(group: zarr.Group, prefix: str, fixed: dict[str, str], left_out: Iterable[str] = ()) -> dict[str, Any]:
    arrays = arrays_of(group)
    shapes = {name: one.shape for name, one in arrays.items()}
    named = column_names(shapes, prefix, fixed, left_out)
    return {column: arrays[name] if name in arrays else array_of(group, name) for column, name in named.items()}


def genes_table(group: zarr.Group) -> Table:
    """gene_id, cag, cag_distance, prevalence, mean_abundance; genes in the order of the store.

    Then what else the result says of genes: status, metadata (length, taxonomy, ...), the second choice.
    """
    return _of_columns(_columns(group, "gene_", GENE_COLUMNS, ["gene_linkage_cag"]))


def cags_table(group: zarr.Group) -> Table:
    """Columns cag, then those of :data:`CAG_COLUMNS`; the largest CAG first.

    Then what else the result says of CAGs: representative gene, most frequent taxonomy and its share, status.
    """
    arrays = _columns(group, "cag_", CAG_COLUMNS)
    return _of_columns({"cag": np.arange(arrays["size"].shape[0])} | arrays)


def cag_abundance_table(group: zarr.Group) -> Table:
    """Column ``cag``, then a float32 column per sample: mean normalized abundance of the CAG's genes."""
    import pyarrow as pa

    schema = matrix_schema("cag", pa.int64(), sample_names(group), pa.float32())
    return Table(schema, abundance_batches(group, "cag_abundance", schema))


def _core_table(name: str, group: zarr.Group) -> Table:
    """Column ``cag``, then a float32 column per sample: median of core genes, or the share of them that is there."""
    import pyarrow as pa

    schema = matrix_schema("cag", pa.int64(), sample_names(group), pa.float32())
    return Table(schema, abundance_batches(group, name, schema))


def cag_sum_table(group: zarr.Group) -> Table:
    """Column ``cag``, then a float64 column per sample: sum of the abundances, as ingested, of the CAG's genes."""
    import pyarrow as pa

    schema = matrix_schema("cag", pa.int64(), sample_names(group), pa.float64())
    return Table(schema, abundance_batches(group, "cag_sum", schema))


def _write(make: Callable[[zarr.Group], Table], result: str, url: str) -> None:
    """Write a table in the format that the end of the file's name says."""
    table = make(storage.open_group(result))
    WRITERS[url.rpartition(".")[2]](url, table.schema, table.batches)


write_genes = partial(_write, genes_table)
write_cags = partial(_write, cags_table)
write_cag_abundance = partial(_write, cag_abundance_table)
write_cag_sum = partial(_write, cag_sum_table)


def abundance_batches(group: zarr.Group, name: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of the number of each CAG, and a table with a row per CAG and a column per sample."""
    values = array_of(group, name)
    blocks = blocks_of(values.shape[0], rows_at_once(values.shape[1], 8))
    return matrix_batches(((np.arange(rows.start, rows.stop), values[rows]) for rows in blocks), schema)


def matrix_batches(blocks: Iterable[tuple[Array, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of a first column and one column per sample, from pairs (first column, matrix)."""
    import pyarrow as pa

    for first, values in blocks:
        by_sample = np.ascontiguousarray(np.asarray(values).T, dtype=schema.field(1).type.to_pandas_dtype())
        yield pa.record_batch([pa.array(first, type=schema.field(0).type), *map(pa.array, by_sample)], schema=schema)


def matrix_schema(first: str, first_type: pa.DataType, samples: Iterable[str], value_type: pa.DataType) -> pa.Schema:
    """Columns of a table with a first column and one per sample."""
    import pyarrow as pa

    return pa.schema([(first, first_type), *((name, value_type) for name in samples)])


def sample_names(group: zarr.Group) -> list[str]:
    """Names of the samples of a store."""
    return [str(name) for name in np.asarray(array_of(group, "sample_id")[:])]


# -- genes in the order of their CAGs --------------------------------------------------------------------------------


def genes_by_cag(group: zarr.Group) -> Iterator[tuple[Array, Array]]:
    """Blocks of (CAG, gene name), sorted by CAG, then gene row; genes filtered out are left out.

    Memory: 16 bytes per gene of the store, and the names of :data:`WINDOW` genes. Reads the names once per window.
    """
    labels = np.asarray(array_of(group, "gene_cag")[:])
    order = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :]
    for window in blocks_of(len(order), WINDOW):
        names = _names_at(array_of(group, "gene_id"), order[window])
        for rows in blocks_of(len(names), BLOCK):
            yield labels[order[window][rows]], names[rows]


def _names_at(names: zarr.Array[Any], rows: Array) -> Array:
    """``names[rows]`` with every stored chunk read at most once."""
    ascending = np.argsort(rows, kind="stable")
    found = np.empty(len(rows), dtype=np.dtypes.StringDType())
    step = max(1, names.chunks[0])
    for block in blocks_of(names.shape[0], step):
        begin, end = np.searchsorted(rows[ascending], [block.start, block.stop])
        if begin < end:
            places = ascending[begin:end]
            found[places] = np.asarray(names[block])[rows[places] - block.start]
    return found


def write_membership(result: str, url: str) -> None:
    """``CAGs.csv.gz``: columns ``CAG,gene``, sorted by CAG, then gene row."""
    import pyarrow as pa
    from pyarrow import csv

    schema = pa.schema([("CAG", pa.int64()), ("gene", pa.string())])
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    with gzipped(url) as out:
        out.write(b"CAG,gene\n")
        for labels, names in genes_by_cag(storage.open_group(result)):
            table = pa.table([pa.array(labels), pa.array(names, type=pa.string())], schema=schema)
            csv.write_csv(table, out, options)


# -- all files of a run ----------------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[str, str], None]] = {
    "genes": write_genes,
    "cags": write_cags,
    "cag_abundance": write_cag_abundance,
    "cag_sum": write_cag_sum,
    **{name: partial(_write, partial(_core_table, name)) for name in ("cag_core_abundance", "cag_core_share")},
}
MEMBERSHIP = "CAGs.csv.gz"
FILES = (
    "genes.parquet",
    MEMBERSHIP,
    "cags.parquet",
    "cag_abundance.parquet",
    "cag_sum.parquet",
    "cag_core_abundance.parquet",
    "cag_core_share.parquet",
)
"""What every run writes, whatever other formats are asked for."""
OTHERS: dict[str, tuple[str, ...]] = {
    "parquet": (),
    "tsv": tuple(f"{name}.tsv" for name in TABLES),
    "csv": tuple(f"{name}.csv" for name in TABLES),
    "h5ad": ("cags.h5ad",),
    "geneshot": ("geneshot.hdf5",),
}
"""Files of each further format."""


def file_names(formats: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the files of a run with these formats beside Parquet."""
    return (*FILES, *(name for one in OTHERS if one in set(formats) for name in OTHERS[one]))


def _writer_of(name: str) -> Callable[[str, str], None]:
    if name == MEMBERSHIP:
        return write_membership
    if name in OTHERS["h5ad"]:
        from cagdask.reports.anndata_file import write_h5ad

        return write_h5ad
    if name in OTHERS["geneshot"]:
        from cagdask.reports.geneshot_file import write_geneshot

        return write_geneshot
    return TABLES[name.partition(".")[0]]


def write_file(name: str, result: str, folder: str) -> dict[str, Any]:
    """Task: one file of :func:`file_names` from a result store.

    Returns
    -------
    dict
        ``file``, its URL, ``n_bytes``, its size, and ``sha256`` of its content.
    """
    url = storage.join(folder, name)
    _writer_of(name)(result, url)
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
