"""Sample JSONs: one task reads one sample, checks every record and leaves a sorted Parquet file.

    sample.json.gz --gunzip--> JSON --msgspec--> records --check, sort--> (id, abundance) by id --> Parquet

The parser is made at run time from the user's keys: it fills two fields per record and skips all others without making
anything of them, about 0.6 microseconds a record. Only when a record does not fit is the file parsed again, slowly, to
say which one and why.

Memory of a task: the decompressed JSON, plus about 150 bytes per record while Python objects exist, then 60 bytes per
record; two to six times the JSON, depending on how much else its records hold.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from operator import attrgetter
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute import memory
from cagdask.errors import InputError, MemoryLimitError
from cagdask.io.columns import write_columns
from cagdask.io.sheets.dictionary import equal_neighbors, sort_order
from cagdask.io.sheets.quantified import PACKED, read_quantified
from cagdask.io.sheets.records import (
    CORRECT,
    FLOAT32_MAX,
    find_problem,
    id_problem,
    in_record,
    refuse_repeated,
    value_problem,
)
from cagdask.io.sheets.sheet import gunzip
from cagdask.io.tables.choosing import SUM
from cagdask.io.tables.not_genes import NotGenes
from cagdask.io.tables.reading import Reading

SKETCH = 512
"""Ids per sample that a read task returns, evenly spaced, to choose partitions from."""
_LEAST_COPIES = 2  # a task needs at least this many times the decompressed JSON
_LINES = re.compile(rb"\s*\{[^\n]*\}[ \t\r]*\n\s*\{")
_LINE = re.compile(rb"^[^\n]*[^\s\n][\t, ][^\n]*\n")
_EXPLAIN_COPIES = 12  # the slow parse for a message needs up to this many times


def check_keys(results_key: str, abundance_key: str, gene_id_key: str) -> None:
    """Refuse key paths that no record can satisfy.

    Raises
    ------
    ValueError
        A path is empty or has an empty part, or one of a record's paths is the other one or leads through it.
    """
    for option, key in (
        ("results_key", results_key),
        ("abundance_key", abundance_key),
        ("gene_id_key", gene_id_key),
    ):
        if not all(key.split(".")):
            raise ValueError(f"`{option}={key!r}` is not a key; write it as depth, or stats.depth for a nested one.")
    long, short = sorted((abundance_key.split("."), gene_id_key.split(".")), key=len, reverse=True)
    if long[: len(short)] == short:
        raise ValueError(
            f"`abundance_key={abundance_key!r}` and `gene_id_key={gene_id_key!r}` name the same place of a record. "
            "Name two different keys."
        )


def try_sample(*arguments: Any) -> dict[str, Any]:
    """As :func:`read_sample`, but what is wrong with the sample is the answer, ``refused``, and no error."""
    try:
        return read_sample(*arguments)
    except InputError as err:
        return {"refused": str(err)}


def read_sample(
    sample: str,
    url: str,
    size: int,
    modified: str,
    keys: list[Any],
    signed: bool,
    budget: int,
    target: str,
) -> dict[str, Any]:
    """Read, check, sort and store one sample; runs on a worker.

    Parameters
    ----------
    sample, url
        Name of the sample and its file.
    size, modified
        Of the file, when the run began: a task with others is another task.
    keys
        Results, abundance and gene id key, dotted paths; then, where there are any, options of
        :class:`cagdask.io.tables.reading.Reading`.
    signed
        Whether values may be negative.
    budget
        Bytes that the task may use.
    target
        Where the Parquet file goes: columns ``id`` (str, by UTF-8 bytes) and ``abundance`` (float32, never 0).

    Returns
    -------
    dict
        ``n_genes`` kept, ``id_bytes`` of their ids, ``n_vanished`` (positive, but 0 as float32), ``id_digest`` of the
        ids, ``digest`` of ids and values, ``sketch``.

    Raises
    ------
    InputError
        Something is wrong with the file or a record; names sample, file, record, gene, key and value.
    MemoryLimitError
        The file can not fit the budget.
    """
    add_up = len(keys) > 3 and keys[3].get("duplicate_genes") == SUM
    ids, values, keys, said = _records(sample, url, keys, budget)
    _check_values(sample, url, keys, ids, values, signed)
    order = sort_order(ids)
    ids, values = ids.take(pa.array(order)), values[order]
    if add_up:
        ids, values, order = _added_up(sample, url, ids, values, order)
    _check_ids(sample, url, keys, ids, order)
    with np.errstate(under="ignore"):
        stored = values.astype(np.float32)
    kept = stored != 0
    n_vanished = int(np.count_nonzero(values[~kept]))
    if not kept.all():
        ids, stored = ids.filter(pa.array(kept)), stored[kept]
    write_columns(target, pa.table({"id": ids, "abundance": stored}))
    id_digest, digest = content_digests(ids, stored)
    places = np.unique(np.linspace(0, len(ids) - 1, min(SKETCH, len(ids))).astype(np.int64))
    return {
        "n_genes": len(ids),
        "id_bytes": int(pa.compute.sum(pa.compute.binary_length(ids)).as_py() or 0),
        "n_vanished": n_vanished,
        "id_digest": id_digest,
        "digest": digest,
        "sketch": ids.take(pa.array(places)).to_pylist(),
    } | said


def _records(
    sample: str, url: str, keys: list[Any], budget: int
) -> tuple[pa.StringArray, NDArray[np.float64], list[Any], dict[str, Any]]:
    """Ids and abundances of a sample of any layout, the keys for messages, and what should be said of it."""
    data = _read(sample, url, budget)
    asked = Reading.of(keys[3] if len(keys) > 3 else {})
    notes: list[str] = []
    if is_json(data):
        ids, values = parse_records(
            sample,
            url,
            data,
            cast(tuple[str, str, str], tuple(keys[:3])),
            explain=_EXPLAIN_COPIES * len(data) <= budget,
        )
    else:
        ids, values, keys, notes = read_quantified(sample, url, asked)
    n_left_out = 0
    if (kept_genes := NotGenes(asked).kept(ids)) is not None:
        n_left_out = int(np.count_nonzero(~kept_genes))
        ids, values = ids.filter(pa.array(kept_genes)), values[kept_genes]
    return ids, values, keys, {"notes": notes, "n_left_out": n_left_out}


def is_json(data: bytes) -> bool:
    """Whether a sample's file is JSON; whatever begins like nothing else that is read is taken for damaged JSON."""
    start = data[:64].lstrip()
    return start[:1] in (b"{", b"[") or not (_LINE.search(data[:4096]) or data.startswith(PACKED))


def content_digests(ids: pa.StringArray, values: NDArray[np.float32]) -> tuple[str, str]:
    """Digests of the ids, and of ids and values, in their order, whatever file they came from."""
    ids = pa.concat_arrays([ids])  # drops offsets of a slice
    digest = hashlib.blake2b(digest_size=32)
    digest.update(np.asarray(pa.compute.binary_length(ids), dtype="<i4").tobytes())
    if len(ids):
        digest.update(ids.buffers()[2])
    id_digest = digest.hexdigest()
    digest.update(values.astype("<f4", copy=False).tobytes())
    return id_digest, digest.hexdigest()


def _read(sample: str, url: str, budget: int) -> bytes:
    try:
        _check_fits(sample, url, storage.size_of(url), budget)
        data = storage.read_bytes(url)
    except FileNotFoundError as err:
        raise InputError(f"{url}: the file of sample {sample!r} is gone. Put it back, or leave it out.") from err
    except PermissionError as err:
        raise InputError(f"{url}: the file of sample {sample!r} is not readable. Allow reading it.") from err
    data = gunzip(f"{url}: sample {sample!r}", data, budget // _LEAST_COPIES)
    _check_fits(sample, url, len(data), budget)
    if not data.strip():
        raise InputError(f"{url}: the file of sample {sample!r} is empty. Write it again (without genes: []).")
    return data.removeprefix(b"\xef\xbb\xbf")


def _check_fits(sample: str, url: str, n_bytes: int, budget: int) -> None:
    if _LEAST_COPIES * n_bytes > budget:
        raise MemoryLimitError(
            f"{url}: sample {sample!r} is at least {memory.format_bytes(n_bytes)} of JSON and needs "
            f"{memory.format_bytes(_LEAST_COPIES * n_bytes)} to read, but a task may use "
            f"{memory.format_bytes(budget)}. Use workers with more memory (`memory_limit`)."
        )


# -- the fast way ----------------------------------------------------------------------------------------------------


def parse_records(
    sample: str, url: str, data: bytes, keys: tuple[str, str, str], *, explain: bool = True
) -> tuple[pa.StringArray, NDArray[np.float64]]:
    """Ids and abundances of a sample's JSON, in the order of the file.

    Parameters
    ----------
    sample, url
        For messages.
    data
        The JSON: a list of records, or an object that holds one at the results key.
    keys
        Results, abundance and gene id key, dotted paths.
    explain
        Whether there is memory to find out what is wrong with a file that can not be parsed.

    Raises
    ------
    InputError
        Not JSON, or a record lacks a key or holds a value of the wrong type.
    """
    of_list, of_object, of_record, abundance_of, id_of, results_of = _parsers(keys)
    bare = data.lstrip()[:1] == b"["
    try:
        if not bare and _LINES.match(data):
            records, bare = of_record.decode_lines(data), True
        else:
            records = of_list.decode(data) if bare else results_of(of_object.decode(data))
        if explain or not bare:
            refuse_repeated(sample, url, data, keys, len(records), is_list=bare)
        names = list(map(id_of, records))
        values = np.asarray(pa.array(list(map(abundance_of, records)), pa.float64()))
        return _as_text(names), values
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
        found = find_problem(sample, url, data, keys) if explain else None
        raise found or InputError(f"{url}: sample {sample!r}: {err}. {CORRECT}") from err


def _as_text(names: list[str | int]) -> pa.StringArray:
    try:
        return pa.array(names, pa.string())
    except pa.ArrowTypeError:  # some are whole numbers
        return pa.array([str(name) for name in names], pa.string())


@lru_cache(maxsize=8)
def _parsers(keys: tuple[str, str, str]) -> tuple[Any, Any, Any, Any, Any, Any]:
    results, abundance, gene_id = (tuple(key.split(".")) for key in keys)
    record, (abundance_at, id_at) = _structure([(abundance, float), (gene_id, str | int)])
    whole, (results_at,) = _structure([(results, list[record])])  # type: ignore[valid-type]  # made at run time
    return (
        msgspec.json.Decoder(list[record]),  # type: ignore[valid-type]  # made at run time
        msgspec.json.Decoder(whole),
        msgspec.json.Decoder(record),
        attrgetter(abundance_at),
        attrgetter(id_at),
        attrgetter(results_at),
    )


def _structure(leaves: list[tuple[tuple[str, ...], Any]]) -> tuple[type[msgspec.Struct], list[str]]:
    """A struct type that holds the leaves of a JSON object, and where in it each of them is."""
    heads = list(dict.fromkeys(path[0] for path, _ in leaves))
    where = [""] * len(leaves)
    fields: list[tuple[str, Any]] = []
    for i, head in enumerate(heads):
        under = [n for n, (path, _) in enumerate(leaves) if path[0] == head]
        if len(leaves[under[0]][0]) == 1:
            kind: Any = leaves[under[0]][1]
            inner = [""]
        else:
            kind, inner = _structure([(leaves[n][0][1:], leaves[n][1]) for n in under])
        fields.append((f"k{i}", kind))
        for n, place in zip(under, inner, strict=True):
            where[n] = f"k{i}.{place}" if place else f"k{i}"
    renamed = {f"k{i}": head for i, head in enumerate(heads)}
    return msgspec.defstruct("Part", fields, rename=renamed, gc=False), where


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_values(
    sample: str, url: str, keys: list[str], ids: pa.StringArray, values: NDArray[np.float64], signed: bool
) -> None:
    wrong = ~(np.abs(values) <= FLOAT32_MAX)
    if not signed:
        wrong |= values < 0
    if wrong.any():
        i = int(np.argmax(wrong))
        found = float(values[i])
        raise InputError(in_record(sample, url, i, ids[i].as_py(), value_problem(keys[1], found, signed) or ""))


def _check_ids(sample: str, url: str, keys: list[str], ids: pa.StringArray, order: NDArray[np.int64]) -> None:
    if not len(ids):
        return
    if ids[0].as_py() == "":
        raise InputError(in_record(sample, url, int(order[0]), None, id_problem(keys[2], "") or ""))
    same = equal_neighbors(ids)
    if same.any():
        i = int(np.argmax(same))
        gene = ids[i].as_py()
        first, second = sorted((int(order[i]) + 1, int(order[i + 1]) + 1))
        raise InputError(
            f"{url}: sample {sample!r}: gene {gene!r} occurs twice (records {first} and {second}). Keep one of "
            "them, or add them up: ingest does with `duplicate_genes='sum'`."
        )


def _added_up(
    sample: str, url: str, ids: pa.StringArray, values: NDArray[np.float64], order: NDArray[np.int64]
) -> tuple[pa.StringArray, NDArray[np.float64], NDArray[np.int64]]:
    """Sorted ids, each once, with the sum of its values, and the record of the first of them."""
    same = equal_neighbors(ids)
    if not same.any():
        return ids, values, order
    starts = np.flatnonzero(np.r_[True, ~same])
    total = np.add.reduceat(values, starts)
    if not (np.abs(total) <= FLOAT32_MAX).all():
        gene = ids[int(starts[np.argmax(~(np.abs(total) <= FLOAT32_MAX))])].as_py()
        raise InputError(f"{url}: sample {sample!r}: the values of gene {gene!r} add up to more than float32 can hold.")
    return ids.take(pa.array(starts)), total, order[starts]
