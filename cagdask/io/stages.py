"""The stages of an ingest: samples to a united table, or a table to its parts, and both to rows of the store.

    sheet   read a sample (each)  --> unite the ids (each part) --> write rows (each block)
    table   read the table (one)                                --> write rows (each block)

Every file of the work folder and every answer that is kept carries in its name or its task's arguments what it was made
from, so what belongs to other data, or to another cut of them, is never taken.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from cagdask import provenance, storage
from cagdask.compute import memory
from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.io.layout import (
    READ_SAMPLES,
    READ_TABLE,
    UNITE_GENES,
    WRITE_STORE,
    ChunkPlan,
    create_store,
    plan_chunks,
)
from cagdask.io.sheets.cohorts import Cohort
from cagdask.io.sheets.sheet import SampleFile

logger = logging.getLogger(__name__)

_NAMED = 5  # samples that a warning names

# -- samples ---------------------------------------------------------------------------------------------------------


def ingest_sheet(
    runner: Runner,
    work: str,
    source: tuple[Cohort, list[str], dict[str, Any]],
    kind: str,
    shards: bool,
    attrs: dict[str, Any],
    on_bad_sample: str,
) -> dict[str, Any]:
    """Read samples, unite their genes and write the staged store.

    Parameters
    ----------
    runner
        Where tasks run.
    work
        The work folder; the store is filled in ``store`` below it.
    source
        The cohort, the keys of its JSONs, and options of reading.
    kind
        ``abundance`` or ``expression``.
    shards
        Whether many chunks go into one file.
    attrs
        Attributes of the store; ``input_digest`` and ``skipped_samples`` are added.
    on_bad_sample
        ``stop``, ``finish`` or ``skip``.

    Returns
    -------
    dict
        ``sample_table`` (what a manifest says of samples, or None), ``n_left_out``, ``notes``.

    Raises
    ------
    InputError
        A sample can not be used and ``on_bad_sample`` does not skip it, or none holds a gene.
    """
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
            f"none of the {len(files)} samples holds a gene with an abundance. Check `results_key` and the files."
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


class OthersKeptError(InputError):
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
        raise OthersKeptError(f"{said} The others are read; the same command goes on once these are corrected.")
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


def ingest_table(
    runner: Runner, work: str, source: tuple[Any, ...], kind: str, shards: bool, attrs: dict[str, Any]
) -> dict[str, Any]:
    """Read a table and write the staged store.

    Parameters
    ----------
    runner, work, kind, shards, attrs
        As for :func:`ingest_sheet`.
    source
        URL, size, age, options of reading; for an embedding also those of vectors.

    Returns
    -------
    dict
        What :func:`cagdask.io.tables.parts.read_table` says of it.

    Raises
    ------
    InputError
        Something is wrong with the table.
    """
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
    staged, done = storage.staged_store(work), storage.join(work, "done", "write")
    layout = storage.join(work, "layout.json")
    wanted = provenance.digest([vars(plan), samples, kind, attrs])
    if storage.read_json(layout) != wanted or not storage.exists(staged):
        storage.remove(layout)
        storage.remove(done)
        create_store(staged, plan, samples, kind, attrs)
        storage.write_json(layout, wanted)
    logger.debug("%s: %s, %s per write task", staged, plan, memory.format_bytes(plan.task_bytes))
    return staged, done
