"""What an ingest is asked for: options, source and target are looked at before any work, and before any cluster.

options --checked--> what the bytes are --> recipe (what makes it another ingest) + what its format has to read
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cagdask import provenance, schema, storage
from cagdask.errors import InputError
from cagdask.io.sheets.cohorts import Cohort, samples_of, stat_folder
from cagdask.io.sheets.sheet import stat
from cagdask.io.tables.choosing import DUPLICATES
from cagdask.io.tables.not_genes import check_pattern
from cagdask.io.tables.reading import ORIENTATIONS, SAMPLES_IN_ROWS, STRATIFIED, Reading, reading_of
from cagdask.io.tables.sample_choice import parse_query, samples_file
from cagdask.io.tables.totals import TOTALS
from cagdask.io.work_size import sheet_work_bytes, table_work_bytes

logger = logging.getLogger(__name__)

ACCEPTED_VECTORS = (
    ".npz, .npy, .json, .vec, .txt, .w2v, .bin, .parquet, .h5ad, .tsv, .csv, .feather (text also with .gz)"
)
"""What :func:`ingest` takes of kind embedding."""
BAD_SAMPLES = ("stop", "finish", "skip")
"""What :func:`ingest` does when a sample can not be used."""


def look_at(source: str, store: str, options: dict[str, Any], *, overwrite: bool) -> tuple[dict[str, Any], Any]:
    """Check everything that can be checked before any work.

    Parameters
    ----------
    source, store
        Absolute URLs.
    options
        Arguments of :func:`cagdask.ingest` but for where it runs.
    overwrite
        Whether a store may be there.

    Returns
    -------
    tuple
        The recipe (``format`` is ``sheet`` or ``table``), and what its format has to read: the item of
        :func:`cagdask.io.stages.ingest_sheet` or :func:`cagdask.io.stages.ingest_table`.

    Raises
    ------
    InputError, StoreError
        The source or the target can not be used.
    ValueError
        An option has no such value, or does not belong to such a source.
    """
    kind, on_bad_sample = options["kind"], options["on_bad_sample"]
    ids, matrix = options["ids"], options["matrix"]
    vectors = {"ids": ids and storage.absolute(ids), "matrix": matrix} if kind == "embedding" else None
    if on_bad_sample not in BAD_SAMPLES:
        raise ValueError(f"`on_bad_sample` is {on_bad_sample!r}; choose one of {', '.join(BAD_SAMPLES)}.")
    if vectors is None and ids:
        raise ValueError(f"`ids` is for `kind='embedding'`, not for {kind}. Leave it out.")
    keys = options["results_key"], options["abundance_key"], options["gene_id_key"]
    listed = options["samples"] and samples_file(options["samples"])
    reader = _reader(source, reading_of(options | {"samples": listed}), kind, keys, vectors)
    storage.check_target(store, overwrite=overwrite)
    recipe, items = reader(source)
    if on_bad_sample != "stop" and recipe["format"] != "sheet":
        raise ValueError("`on_bad_sample` is for sample sheets, not for tables. Leave it out.")
    return recipe | {"command": "ingest", "kind": kind, "shards": options["shards"]}, items


def _reader(
    source: str, reading: Reading, kind: str, keys: tuple[str, str, str], vectors: dict[str, str | None] | None
) -> Callable[[str], tuple[dict[str, Any], Any]]:
    """Check the options, and choose by what the bytes are how to look at the source."""
    for option, value, choices in (
        ("orient", reading.orient, ORIENTATIONS),
        ("kind", kind, schema.KINDS),
        ("stratified", reading.stratified, STRATIFIED),
        ("duplicate_genes", reading.duplicate_genes, DUPLICATES),
        ("totals", reading.totals, TOTALS),
    ):
        if value not in choices:
            raise ValueError(f"`{option}` is {value!r}; choose one of {', '.join(choices)}.")
    check_pattern("exclude_genes", reading.exclude_genes)
    check_pattern("exclude_samples", reading.exclude_samples)
    if reading.sample_query is not None:
        parse_query(reading.sample_query)
    if vectors is not None:
        _check_for_tables(reading, f"{source} holds vectors")
        return _vector_reader(source, reading.orient, vectors)
    from cagdask.io.sheets.samples import check_keys

    check_keys(*keys)

    def look(url: str) -> tuple[dict[str, Any], Any]:
        found = samples_of(url, reading)
        if found is not None:
            _check_for_tables(replace(reading, duplicate_genes=DUPLICATES[0]), f"{url} is a list of files")
            return _sheet_recipe(found, keys, reading)
        return _table_recipe(url, reading)

    return look


def _check_for_tables(reading: Reading, but: str) -> None:
    """Refuse what only tables have: a choice of samples, genes of one name, versions of ids."""
    for option, value in (
        ("samples", reading.samples),
        ("sample_query", reading.sample_query),
        ("duplicate_genes", reading.duplicate_genes != DUPLICATES[0]),
        ("strip_version", reading.strip_version),
        ("exclude_samples", reading.exclude_samples is not None),
        ("totals", reading.totals != TOTALS[0]),
    ):
        if value:
            raise ValueError(f"`{option}` is for tables of genes and samples, and {but}. Leave it out.")


def _vector_reader(
    source: str, orient: str, vectors: dict[str, str | None]
) -> Callable[[str], tuple[dict[str, Any], Any]]:
    from cagdask.io.vectors.embeddings import TABLES, suffix_of

    suffix = suffix_of(source)
    if suffix is None:
        raise InputError(f"{source}: of unknown format. Accepted are {ACCEPTED_VECTORS}. Rename or convert the file.")
    if orient == SAMPLES_IN_ROWS and suffix not in TABLES:
        raise ValueError(f"`orient={orient!r}` is for tables; a {suffix} file has a vector per gene. Leave it out.")
    for option, of in (("ids", ".npy"), ("matrix", ".h5ad")):
        if vectors[option] is not None and suffix != of:
            raise ValueError(f"`{option}` is for {of} files, not for {suffix}. Leave it out.")

    def recipe(url: str) -> tuple[dict[str, Any], Any]:
        found, item = _table_recipe(url, Reading(orient))
        return found | vectors, (*item, vectors)

    return recipe


def read_described(url: str | None, recipe: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Symbol and description of genes from a file, whose digest goes into the recipe; empty without one."""
    if url is None:
        return {}
    from cagdask.io.vectors.descriptions import read_descriptions

    found = read_descriptions(storage.absolute(url))
    recipe["descriptions"] = provenance.digest(sorted(found.items()))
    return found


def add_described(staged: str, described: dict[str, tuple[str, str]]) -> None:
    """Store symbols and descriptions with an unpublished store, and say how many genes have one."""
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


def work_bytes_of(recipe: dict[str, Any], items: Any) -> int:
    """About how many bytes reading the source takes, by the sizes of its files."""
    if recipe["format"] == "sheet":
        return sheet_work_bytes((file.url, file.size) for file in items[0].files)
    return table_work_bytes(items[0], items[1])


def first_sample(recipe: dict[str, Any], items: Any) -> list[str]:
    """URL of a sheet's first sample, which workers must be able to reach; none of a table."""
    return [items[0].files[0].url] if recipe["format"] == "sheet" else []
