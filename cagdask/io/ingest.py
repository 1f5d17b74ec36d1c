"""From sample JSONs or a table to an abundance store, out of core and resumable.

    sheet   read a sample (each)  --> unite the ids (each part) --> write rows (each block) --> publish
    table   read the table (one)                                --> write rows (each block) --> publish

Three stages of tasks that hand files to each other in ``STORE.work``. The store appears in its place at the end.
A run that was interrupted goes on from the tasks that are done; a sample file that changed since is read again.

Every file of the work folder and every answer that is kept carries in its name or its task's arguments what it was made
from, so what belongs to other data, or to another cut of them, is never taken.
"""

from __future__ import annotations

import errno
import inspect
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from cagdask import provenance, schema, storage
from cagdask.compute import memory
from cagdask.compute.connect import as_runner
from cagdask.compute.progress import reporter
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, MemoryLimitError, StoreError
from cagdask.io.fields import add_metadata, given_metadata, understood
from cagdask.io.layout import (
    READ_SAMPLES,
    READ_TABLE,
    UNITE_GENES,
    WRITE_STORE,
    ChunkPlan,
    create_store,
    plan_chunks,
)
from cagdask.io.sheets.cohorts import Cohort, samples_of, stat_folder
from cagdask.io.sheets.sheet import SampleFile, stat
from cagdask.io.tables.not_genes import check_pattern
from cagdask.io.tables.reading import ORIENTATIONS, SAMPLES_IN_ROWS, STRATIFIED, Reading, reading_of
from cagdask.io.work_size import sheet_work_bytes, table_work_bytes

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

__all__ = ["ChunkPlan", "ingest", "plan_chunks"]

logger = logging.getLogger(__name__)

ACCEPTED_VECTORS = (
    ".npz, .npy, .json, .vec, .txt, .w2v, .bin, .parquet, .h5ad, .tsv, .csv, .feather (text also with .gz)"
)
"""What :func:`ingest` takes of kind embedding."""
BAD_SAMPLES = ("stop", "finish", "skip")
"""What :func:`ingest` does when a sample can not be used."""
_NAMED = 5  # samples that a warning names


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
    recipe, items = _looked_at(source, store, options, overwrite=overwrite)
    described = _read_descriptions(options["descriptions"], recipe)
    given = given_metadata(options["metadata"], options["gene_metadata"], recipe)
    resumed = storage.exists(storage.work_folder(store))
    with (
        _disk_full(store),
        storage.claimed(store),
        as_runner(**where, work_bytes=_work_bytes(recipe, items)) as runner,
    ):
        runner.check_reach([source, *_first_sample(recipe, items)], [store])
        work, _ = storage.begin_work(store, recipe, overwrite=overwrite)
        attrs = {"history": provenance.add_history("", f"ingest {storage.name_of(source)}")}
        kind, shards = options["kind"], options["shards"]
        try:
            if recipe["format"] == "sheet":
                said = _ingest_sheet(runner, work, items, kind, shards, attrs, options["on_bad_sample"])
            else:
                said = _ingest_table(runner, work, items, kind, shards, attrs)
            said |= add_metadata(storage.join(work, "store"), said, given)
        except (InputError, MemoryLimitError) as err:
            if not resumed and not isinstance(err, _OthersKeptError):
                storage.end_work(store)
            raise
        if described:
            _add_descriptions(storage.join(work, "store"), described)
        storage.publish(storage.join(work, "store"), store)
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


# -- what is asked for -----------------------------------------------------------------------------------------------


def _looked_at(source: str, store: str, options: dict[str, Any], *, overwrite: bool) -> tuple[dict[str, Any], Any]:
    """Check everything that can be checked before any work; gives the recipe and what its format has to read."""
    kind, on_bad_sample = options["kind"], options["on_bad_sample"]
    ids, matrix = options["ids"], options["matrix"]
    vectors = {"ids": ids and storage.absolute(ids), "matrix": matrix} if kind == "embedding" else None
    if on_bad_sample not in BAD_SAMPLES:
        raise ValueError(f"--on-bad-sample {on_bad_sample!r} is not known; use {', '.join(BAD_SAMPLES)}.")
    if vectors is None and ids:
        raise ValueError(f"--ids is for --kind embedding, not for {kind}. Leave it out.")
    keys = options["results_key"], options["abundance_key"], options["gene_id_key"]
    reader = _reader(source, reading_of(options), kind, keys, vectors)
    storage.check_target(store, overwrite=overwrite)
    recipe, items = reader(source)
    if on_bad_sample != "stop" and recipe["format"] != "sheet":
        raise ValueError("--on-bad-sample is for sample sheets, not for tables. Leave it out.")
    return recipe | {"command": "ingest", "kind": kind, "shards": options["shards"]}, items


def _reader(
    source: str, reading: Reading, kind: str, keys: tuple[str, str, str], vectors: dict[str, str | None] | None
) -> Callable[[str], tuple[dict[str, Any], Any]]:
    """Check the options, and choose by what the bytes are how to look at the source."""
    for option, value, choices in (
        ("--orient", reading.orient, ORIENTATIONS),
        ("--kind", kind, schema.KINDS),
        ("--stratified", reading.stratified, STRATIFIED),
    ):
        if value not in choices:
            raise ValueError(f"{option} {value!r} is not known; use {', '.join(choices)}.")
    check_pattern(reading.exclude_genes)
    if vectors is not None:
        return _vector_reader(source, reading.orient, vectors)
    from cagdask.io.sheets.samples import check_keys

    check_keys(*keys)

    def look(url: str) -> tuple[dict[str, Any], Any]:
        found = samples_of(url, reading)
        if found is not None:
            return _sheet_recipe(found, keys, reading)
        return _table_recipe(url, reading)

    return look


def _vector_reader(
    source: str, orient: str, vectors: dict[str, str | None]
) -> Callable[[str], tuple[dict[str, Any], Any]]:
    from cagdask.io.vectors.embeddings import TABLES, suffix_of

    suffix = suffix_of(source)
    if suffix is None:
        raise InputError(f"{source}: of unknown format. Accepted are {ACCEPTED_VECTORS}. Rename or convert the file.")
    if orient == SAMPLES_IN_ROWS and suffix not in TABLES:
        raise ValueError(f"--orient {orient} is for tables; a {suffix} file has a vector per gene. Leave it out.")
    for option, of in (("ids", ".npy"), ("matrix", ".h5ad")):
        if vectors[option] is not None and suffix != of:
            raise ValueError(f"--{option} is for {of} files, not for {suffix}. Leave it out.")

    def recipe(url: str) -> tuple[dict[str, Any], Any]:
        found, item = _table_recipe(url, Reading(orient))
        return found | vectors, (*item, vectors)

    return recipe


def _read_descriptions(url: str | None, recipe: dict[str, Any]) -> dict[str, tuple[str, str]]:
    if url is None:
        return {}
    from cagdask.io.vectors.descriptions import read_descriptions

    found = read_descriptions(storage.absolute(url))
    recipe["descriptions"] = provenance.digest(sorted(found.items()))
    return found


def _add_descriptions(staged: str, described: dict[str, tuple[str, str]]) -> None:
    from cagdask.io.vectors.descriptions import write_descriptions

    n = write_descriptions(staged, described)
    logger.log(logging.INFO if n else logging.WARNING, "%d genes have a symbol or description", n)


def _sheet_recipe(
    cohort: Cohort, keys: tuple[str, str, str], reading: Reading
) -> tuple[dict[str, Any], tuple[Cohort, list[str], dict[str, Any]]]:
    digest = provenance.digest([[file.sample, file.url] for file in cohort.files])
    asked = reading.to_json()
    recipe = {"format": "sheet", "input": digest, "keys": list(keys)} | ({"reading": asked} if asked else {})
    return recipe, (cohort, list(keys), asked)


def _table_recipe(url: str, reading: Reading) -> tuple[dict[str, Any], tuple[Any, ...]]:
    found = stat(url) or stat_folder(url)
    if not found:
        raise InputError(f"{url}: no such table. Check the path.")
    if not found[0]:
        raise InputError(f"{url}: the table is empty. Check the file.")
    asked = reading.to_json()
    return {"format": "table", "input": url, "reading": asked}, (url, *found, asked)


def _work_bytes(recipe: dict[str, Any], items: Any) -> int:
    if recipe["format"] == "sheet":
        return sheet_work_bytes((file.url, file.size) for file in items[0].files)
    return table_work_bytes(items[0], items[1])


def _first_sample(recipe: dict[str, Any], items: Any) -> list[str]:
    return [items[0].files[0].url] if recipe["format"] == "sheet" else []


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


# -- sample JSONs ----------------------------------------------------------------------------------------------------


def _ingest_sheet(
    runner: Runner,
    work: str,
    source: tuple[Cohort, list[str], dict[str, Any]],
    kind: str,
    shards: bool,
    attrs: dict[str, Any],
    on_bad_sample: str,
) -> dict[str, Any]:
    cohort, keys, reading = source
    files = cohort.files
    asked = [*keys, reading] if reading else keys
    targets, found = _read_samples(runner, work, files, asked, signed=kind != "abundance", on_bad_sample=on_bad_sample)
    refused = [[file.sample, one["refused"]] for file, one in zip(files, found, strict=True) if "refused" in one]
    if refused:
        _tell_refused(refused, len(files), on_bad_sample)
        attrs |= {"skipped_samples": json.dumps(refused)}
        good = [i for i, one in enumerate(found) if "refused" not in one]
        files, targets, found = [files[i] for i in good], [targets[i] for i in good], [found[i] for i in good]
    samples = [file.sample for file in files]
    _warn(files, found)
    digest = provenance.digest(["samples", [[s, answer["digest"]] for s, answer in zip(samples, found, strict=True)]])
    parts = _merge_parts(runner, work, targets, found, digest)
    n_genes = sum(part[1] for part in parts)
    if not n_genes:
        raise InputError(
            f"none of the {len(files)} samples holds a gene with an abundance. Check --results-key and files."
        )
    plan = plan_chunks(n_genes, len(samples), runner.task_budget, shards)
    staged, done = _prepare_store(work, plan, samples, kind, attrs | {"input_digest": digest})
    from cagdask.io.sheets.dictionary import write_genes

    items = [(staged, digest, _overlapping(parts, *rows), *rows, len(samples)) for rows in plan.blocks()]
    runner.map(WRITE_STORE, write_genes, items, done=done, unit="genes", weights=[b - a for a, b in plan.blocks()])
    notes = sorted({note for one in found for note in one.get("notes", [])})
    return {
        "sample_table": cohort.metadata,
        "n_left_out": sum(one.get("n_left_out", 0) for one in found),
        "notes": notes,
    }


class _OthersKeptError(InputError):
    """Samples are bad, and the others were read and wait for them to be corrected."""


def _tell_refused(refused: list[list[str]], n_samples: int, on_bad_sample: str) -> None:
    """Warn of samples that are left out, or raise where they must not be."""
    first = refused[0][1]
    if len(refused) == n_samples or on_bad_sample == "stop":
        raise InputError(first)
    named = ", ".join(repr(sample) for sample, _ in refused[:_NAMED])
    more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    said = f"{len(refused)} of {n_samples} samples can not be used: {named}{more}. The first: {first}"
    if on_bad_sample == "finish":
        raise _OthersKeptError(f"{said} The others are read; the same command goes on once these are corrected.")
    logger.warning("%s They are left out.", said)


def _read_samples(
    runner: Runner,
    work: str,
    files: list[SampleFile],
    keys: list[Any],
    *,
    signed: bool,
    on_bad_sample: str,
) -> tuple[list[str], list[dict[str, Any]]]:
    from cagdask.io.sheets.samples import read_sample, try_sample

    items, targets = [], []
    for i, file in enumerate(files):
        mark = provenance.digest([file.url, file.size, file.modified])[:16]
        targets.append(storage.join(work, "samples", f"{i}-{mark}.parquet"))
        items.append((file.sample, file.url, file.size, file.modified, keys, signed, runner.task_budget, targets[-1]))
    read = read_sample if on_bad_sample == "stop" else try_sample
    found = runner.map(READ_SAMPLES, read, items, done=storage.join(work, "done"), unit="samples")
    return targets, found


def _warn(files: list[SampleFile], found: list[dict[str, Any]]) -> None:
    empty = [file.sample for file, answer in zip(files, found, strict=True) if not answer["n_genes"]]
    if empty:
        more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        named = ", ".join(map(repr, empty[:_NAMED])) + more
        logger.warning("%d of %d samples have no gene with an abundance: %s", len(empty), len(files), named)
    _warn_vanished(sum(answer["n_vanished"] for answer in found))


def _warn_vanished(n: int) -> None:
    if n:
        logger.warning("%d abundances are too small for float32 (below 1.4e-45) and count as absent", n)


def _merge_parts(
    runner: Runner, work: str, targets: list[str], found: list[dict[str, Any]], digest: str
) -> list[list[Any]]:
    """Unite the ids, part by part; ``[first row, rows, files]`` of each part."""
    from cagdask.io.sheets.dictionary import choose_splitters, count_parts, merge_genes

    n_genes = [answer["n_genes"] for answer in found]
    id_bytes = sum(answer["id_bytes"] for answer in found)
    n_parts = count_parts(sum(n_genes), id_bytes, runner.task_budget, runner.n_threads)
    splitters = choose_splitters([answer["sketch"] for answer in found], n_genes, n_parts)
    mark = provenance.digest([digest, splitters])[:16]
    listing = storage.join(work, f"genes-{mark}", "samples.json")
    storage.write_json(listing, [[url, one["id_digest"]] for url, one in zip(targets, found, strict=True)])
    bounds = [None, *splitters, None]
    items = [
        (listing, digest, bounds[i], bounds[i + 1], runner.task_budget, storage.join(work, f"genes-{mark}", str(i)))
        for i in range(len(bounds) - 1)
    ]
    answers = runner.map(UNITE_GENES, merge_genes, items, done=storage.join(work, "done", mark), unit="parts")
    parts, first = [], 0
    for item, answer in zip(items, answers, strict=True):
        parts.append([first, answer["n_genes"], item[-1]])
        first += answer["n_genes"]
    return parts


def _overlapping(parts: list[list[Any]], start: int, stop: int) -> list[list[Any]]:
    return [part for part in parts if part[0] < stop and part[0] + part[1] > start]


# -- tables ----------------------------------------------------------------------------------------------------------


def _ingest_table(
    runner: Runner, work: str, source: tuple[Any, ...], kind: str, shards: bool, attrs: dict[str, Any]
) -> dict[str, Any]:
    from cagdask.io.tables.parts import read_table, write_table_rows

    mark = provenance.digest([*source, runner.task_budget])[:16]
    table, vectors = source[:4], source[4] if kind == "embedding" else None
    item = (*table, kind != "abundance", runner.task_budget, storage.join(work, f"table-{mark}"), vectors)
    found = runner.one(READ_TABLE, read_table, *item, done=storage.join(work, "done"))
    _warn_vanished(found["n_vanished"])
    for line in found["warnings"]:
        logger.warning("%s: %s", source[0], line)
    samples, digest = found["samples"], found["digest"]
    plan = plan_chunks(found["n_genes"], len(samples), runner.task_budget, shards)
    staged, done = _prepare_store(work, plan, samples, kind, attrs | {"input_digest": digest})
    items = [
        (staged, digest, found["ids"], _overlapping(found["values"], *rows), *rows, len(samples))
        for rows in plan.blocks()
    ]
    runner.map(WRITE_STORE, write_table_rows, items, done=done, unit="genes", weights=[b - a for a, b in plan.blocks()])
    return dict(found)


# -- both ------------------------------------------------------------------------------------------------------------


def _prepare_store(work: str, plan: ChunkPlan, samples: list[str], kind: str, attrs: dict[str, Any]) -> tuple[str, str]:
    """The group to fill and the folder for answers; what an earlier try wrote stays only if it had the same layout."""
    staged, done = storage.join(work, "store"), storage.join(work, "done", "write")
    layout = storage.join(work, "layout.json")
    wanted = provenance.digest([vars(plan), samples, kind, attrs])
    if storage.read_json(layout) != wanted or not storage.exists(staged):
        storage.remove(layout)
        storage.remove(done)
        create_store(staged, plan, samples, kind, attrs)
        storage.write_json(layout, wanted)
    logger.debug("%s: %s, %s per write task", staged, plan, memory.format_bytes(plan.task_bytes))
    return staged, done
