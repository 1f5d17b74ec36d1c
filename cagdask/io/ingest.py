"""From sample JSONs or a table to an abundance store, out of core and resumable.

    request  what is asked for, checked     --> recipe
    stages   read, unite the ids, write     --> STORE.work/store
    here     claim the target, publish      --> STORE

Stages of tasks hand files to each other in ``STORE.work``. The store appears in its place at the end.
A run that was interrupted goes on from the tasks that are done; a sample file that changed since is read again.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from cagdask import provenance, schema, storage
from cagdask.compute.connect import as_runner
from cagdask.compute.progress import reporter
from cagdask.errors import InputError, MemoryLimitError, StoreError
from cagdask.io.fields import add_metadata, given_metadata, understood
from cagdask.io.layout import ChunkPlan, plan_chunks
from cagdask.io.request import add_described, first_sample, look_at, read_described, work_bytes_of
from cagdask.io.stages import OthersKeptError, ingest_sheet, ingest_table

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

    from cagdask.compute.runner import Runner

__all__ = ["ChunkPlan", "ingest", "plan_chunks"]


def ingest(
    source: str | Any,
    *,
    store: str,
    results_key: str = "results",
    abundance_key: str = "depth",
    gene_id_key: str = "id",
    orient: Literal["auto", "genes-by-samples", "samples-by-genes"] = "auto",
    kind: Literal["abundance", "expression", "embedding"] = "abundance",
    gene_column: str | None = None,
    no_header: bool = False,
    value_column: str | None = None,
    metadata: str | None = None,
    metadata_columns: Sequence[str] | str | None = None,
    keep_columns: Sequence[str] | str | None = None,
    gene_metadata: str | None = None,
    exclude_genes: str | None = None,
    exclude_unmapped: bool = False,
    stratified: Literal["keep", "drop"] = "keep",
    variable: str | None = None,
    ids: str | None = None,
    matrix: str | None = None,
    descriptions: str | None = None,
    duplicate_genes: Literal["refuse", "sum"] = "refuse",
    strip_version: bool = False,
    samples: str | None = None,
    sample_query: str | None = None,
    exclude_samples: str | None = None,
    totals: Literal["refuse", "keep"] = "refuse",
    shards: bool = True,
    on_bad_sample: Literal["stop", "finish", "skip"] = "stop",
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """Turn a cohort into an abundance store.

    Parameters
    ----------
    source
        A table of any format of :mod:`cagdask.io.tables`, or samples: a sheet (JSON object sample -> file, or a TSV or
        CSV with a column of paths), a folder, or a pattern such as ``"quants/*/quant.sf"``. Path or URL; what the bytes
        are decides, not the suffix. Or a table in memory, as :func:`cagdask.as_dataset` takes it.
    store
        Path or URL of the store to make.
    results_key, abundance_key, gene_id_key
        Where a sample's JSON holds the list of genes and where a gene of it holds its abundance and id; dots lead into
        nested objects. A file that is a bare list needs no results key; all other keys are skipped.
    orient
        What a table has in rows and in columns. ``auto``: as the format says (BIOM, h5ad, 10x, loom), else genes in
        rows.
    kind
        ``abundance`` is 0 or more; ``expression`` may be negative; ``embedding``: a vector per gene, from any format of
        :mod:`cagdask.io.vectors.embeddings`.
    gene_column
        Column that names the rows, where the rule of :mod:`cagdask.io.tables.labels` would take another.
    no_header
        The first line of a text table is data.
    value_column
        Where a file holds one sample: the column of its abundances.
    metadata, gene_metadata
        Tables about the samples, and about the genes, joined by their first column; stored as ``sample_*``, ``gene_*``.
    metadata_columns, keep_columns
        Columns of the table itself that describe its rows; columns that are values although their names say otherwise.
    exclude_genes, exclude_unmapped, stratified
        Leave out genes that a regular expression finds; counters and what was not mapped; rows ``FAMILY|SPECIES``
        (``drop``).
    variable
        Which array of a Zarr store of others, or of a geneshot file.
    ids
        Of an ``.npy`` of vectors: the file of their names, one per line, as JSON list or ``.npy``.
    matrix
        Of an ``.h5ad``: ``X``, ``raw`` or ``layers/NAME``; of vectors, such as ``varm/PCs``.
    descriptions
        A table of ``id``, ``symbol``, ``description``, or a JSON object gene -> description, to store with the genes.
    duplicate_genes
        Rows of a table, or records of a sample, with the same gene: ``refuse``, or ``sum`` of them, in a table where
        the last of them is.
    strip_version
        Take versions off Ensembl ids, before genes are compared.
    samples, sample_query
        Read only samples that a text file lists, one a line; that fulfil conditions on what the table itself says of
        them, such as ``"tissue=liver and age>=40"`` (=, !=, ~ for a regular expression, <, <=, >, >=). Of HDF5
        compendia (ARCHS4) the others are not read.
    exclude_samples
        Leave out samples of a table whose name this regular expression finds.
    totals
        A sample of a table that is the sum or the mean of the others: ``refuse``, or ``keep``.
    shards
        Keep many chunks in one file. The values are the same either way.
    on_bad_sample
        What happens when a sample of a sheet can not be used. ``stop``: the ingest ends, and nothing is left.
        ``finish``: the others are read first and kept, and all that are bad are named; the same call goes on once they
        are corrected. ``skip``: they are left out, with a warning, and ``attrs["skipped_samples"]`` says why.
    overwrite
        Replace a store that is there, once the new one is complete.
    client
        Where to compute: a runner, a Dask client or a scheduler's address. None starts a LocalCluster.
    n_workers, memory_limit
        Of the LocalCluster.

    Returns
    -------
    Dataset
        The store, lazy: ``abundance`` (gene, sample) float32 without NaN, 0 = absent; ``gene_id``, ``sample_id``,
        ``gene_prevalence``. Genes of a sheet are sorted by id, those of a table and all samples keep their order.
        ``attrs["input_digest"]`` is the same for the same content, whatever the files are called or compressed with.

    Raises
    ------
    InputError
        The sheet, a sample or the table can not be used; names file, sample, gene and value. Nothing is left, unless
        ``on_bad_sample`` says so.
    StoreError
        The store is there, its folder is missing, or the disk is full.
    ResumeError
        Unfinished work of another ingest is at the store.
    MemoryLimitError
        A sample or a row is too large for a worker.
    ValueError
        An option has no such value.

    Notes
    -----
    About 1.5 CPU microseconds per record of a sample. A task reads one sample: two to six times its decompressed JSON.
    The later stages are cut to fit the workers' memory.
    """
    options = dict(locals())
    source, store = options.pop("source"), options.pop("store")
    where = {name: options.pop(name) for name in ("overwrite", "client", "n_workers", "memory_limit")}
    if not isinstance(source, str):
        _refuse_options_of_files(options)
        return _ingest_object(source, store, "genes-by-samples" if orient == "auto" else orient, kind, overwrite)
    written, line = _write(source, store, options, where)
    ds = storage.open_dataset(written)
    ds.encoding["understood"] = line
    return ds


def write_store(source: str, store: str, options: dict[str, Any], where: dict[str, Any]) -> str:
    """Do what :func:`ingest` does, and give the URL of the store: it is not opened, so xarray is not imported.

    Parameters
    ----------
    source, store
        As for :func:`ingest`.
    options
        Its other arguments, all of them, but for those of ``where``.
    where
        Its arguments ``overwrite``, ``client``, ``n_workers`` and ``memory_limit``.
    """
    return _write(source, store, options, where)[0]


def _write(source: str, store: str, options: dict[str, Any], where: dict[str, Any]) -> tuple[str, str]:
    """Write the store; gives its URL, and what was understood in one line."""
    where = dict(where)
    overwrite = where.pop("overwrite")
    source, store = storage.absolute(source), storage.absolute(store)
    recipe, items = look_at(source, store, options, overwrite=overwrite)
    described = read_described(options["descriptions"], recipe)
    given = given_metadata(options["metadata"], options["gene_metadata"], recipe)
    resumed = storage.exists(storage.work_folder(store))
    with (
        _disk_full(store),
        storage.claimed(store),
        as_runner(**where, work_bytes=work_bytes_of(recipe, items)) as runner,
    ):
        runner.check_reach([source, *first_sample(recipe, items)], [store])
        work, _ = storage.begin_work(store, recipe, overwrite=overwrite, is_store=True)
        attrs = {"history": provenance.add_history("", f"ingest {storage.name_of(source)}")}
        kind, shards = options["kind"], options["shards"]
        try:
            if recipe["format"] == "sheet":
                said = ingest_sheet(runner, work, items, kind, shards, attrs, options["on_bad_sample"])
            else:
                said = ingest_table(runner, work, items, kind, shards, attrs)
            said |= add_metadata(storage.staged_store(work), said, given)
        except (InputError, MemoryLimitError) as err:
            if not resumed and not isinstance(err, OthersKeptError):
                storage.end_work(store)
            raise
        if described:
            add_described(storage.staged_store(work), described)
        storage.publish(storage.staged_store(work), store)
        storage.end_work(store)
    n_genes, n_others = storage.open_array(store, schema.value_name(options["kind"])).shape
    line = understood(options["kind"], n_genes, n_others, said)
    reporter().message(f"{storage.name_of(source)}: {line}")
    return store, line


def _refuse_options_of_files(options: dict[str, Any]) -> None:
    """Refuse what says how to read a file, for a table that is in memory and has been read.

    Raises
    ------
    ValueError
        One was given; names all of them.
    """
    usual = {name: parameter.default for name, parameter in inspect.signature(ingest).parameters.items()}
    taken = ("orient", "kind")
    given = [name for name, value in options.items() if name not in taken and value != usual[name]]
    if given:
        raise ValueError(
            f"{', '.join(given)}: for files, and this is a table in memory. Leave them out; change the table itself "
            "(drop rows, add coordinates) before you hand it over."
        )


def _ingest_object(source: Any, store: str, orient: str, kind: str, overwrite: bool) -> xr.Dataset:
    """Write a table that is in memory as a store."""
    from cagdask.storage.objects import as_dataset, write_dataset

    ds = as_dataset(source, orient=orient, kind=kind)
    history = provenance.add_history(str(ds.attrs.get("history", "")), f"ingest {type(source).__name__}")
    store = storage.absolute(store)
    storage.check_target(store, overwrite=overwrite)
    with _disk_full(store):
        write_dataset(ds.assign_attrs(history=history), store, overwrite=overwrite)
    return storage.open_dataset(store)


@contextmanager
def _disk_full(store: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"{store}: the disk is full. Free some space and run the same command again; it goes on from the work in "
            f"{storage.work_folder(store)}."
        ) from err
