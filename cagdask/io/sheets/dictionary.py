"""The gene dictionary: which row of the store a gene id is, without ever holding all ids in one process.

    sample 1   a  c  d | k  m | t          each sample's ids, sorted, in its own Parquet file
    sample 2   b  c    | k  l | t  z
               --------+------+------      splitters, chosen from the samples' sketches
    part       0         1      2          one task each: union of its id range, sorted

    row of a gene = genes in the parts before its own + its rank in its part

Samples of one gene catalogue may have the very same ids: their digests say so, and the ids are read and united once.
The parts depend on memory and workers, the rows do not: they are the rank of the id among all ids, by UTF-8 bytes. A
part's task leaves two files: the sorted ids, and for each sample (rows within the part, abundances), so that text is
compared once and never again.

Memory of a part's task: about twice the text of its ids plus 60 bytes, per entry of any sample in its range.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import MemoryLimitError
from cagdask.io.columns import read_id_range, read_row_range, write_columns
from cagdask.io.layout import write_rows

_ENTRY_BYTES = 60  # per entry of a part, besides twice its text
SMALL_PART = 250_000
"""Entries below which a part is not worth a task of its own."""
_WORD = 8
PARTS_PER_THREAD = 2
"""Each part opens every sample, so more would share out the work better and read more."""
READ_AHEAD = 4
"""Remote samples that are read at once, and while others are worked on: a request is mostly waiting."""
_AHEAD_BYTES = 32 * 2**20  # of a task's budget for each: the end of a file, two row groups, and their ids as text


# -- kernels ---------------------------------------------------------------------------------------------------------


def sort_order(ids: pa.StringArray) -> NDArray[np.int64]:
    """Positions that sort ids by their UTF-8 bytes.

    Parameters
    ----------
    ids
        Shape (n,), str, no nulls. Equal ids come out beside each other, in any order.

    Returns
    -------
    ndarray
        Shape (n,), int64.

    Notes
    -----
    Sorts the eight bytes after the common prefix as integers, then only what these leave tied by the next few, and so
    on: 0.1 to 0.4 microseconds per id, where comparing the text takes 0.6.
    """
    ids = pa.concat_arrays([ids])  # drops offsets of a slice
    if not len(ids):
        return np.zeros(0, np.int64)
    offsets = np.frombuffer(ids.buffers()[1], np.int32)[: len(ids) + 1].astype(np.int64)
    text = np.frombuffer(ids.buffers()[2] or b"", np.uint8)
    data = np.concatenate([text, np.zeros(_WORD, np.uint8)])
    starts, lengths = offsets[:-1], np.diff(offsets)
    at = _common_prefix(ids)
    longest = int(lengths.max())
    order = np.arange(len(ids))
    tied, run = (
        np.arange(len(ids)),
        np.zeros(len(ids), np.uint64),
    )  # places not settled yet, and which of them are equal so far
    while len(tied):
        members = order[tied]
        n_bytes = min(_WORD, (64 - int(run[-1]).bit_length()) // 8)  # the run in front, as many bytes as fit behind it
        if at < longest:
            keys = _words(data, starts[members], lengths[members], at, n_bytes)
        else:  # only the length can tell them apart now: zero bytes at the end look like nothing
            keys, n_bytes = lengths[members].astype(np.uint64), 4
        if n_bytes < _WORD:
            keys |= run << np.uint64(8 * n_bytes)
        by_key = np.argsort(keys)
        keys = keys[by_key]
        order[tied] = members[by_key]
        same = keys[1:] == keys[:-1]
        left = _in_run(same)
        run = np.cumsum(np.concatenate([[False], ~same]), dtype=np.uint64)[left]
        tied = tied[left]
        if at >= longest:
            break
        at += n_bytes
    return order


def _common_prefix(ids: pa.StringArray) -> int:
    ends = pc.min_max(ids)
    low, high = (ends[name].as_py().encode() for name in ("min", "max"))
    return next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def _words(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], at: int, n_bytes: int
) -> NDArray[np.uint64]:
    """``n_bytes`` of each text from position ``at`` as an integer that sorts alike; past its end they count as 0."""
    every = np.ndarray((len(data) - _WORD + 1,), ">u8", data, strides=(1,))  # an overlapping view of every position
    words = every[np.minimum(starts + at, len(every) - 1)].astype(np.uint64)
    n_kept = np.clip(lengths - at, 0, n_bytes)
    masks = np.array([(1 << 64) - (1 << (64 - 8 * n)) for n in range(_WORD + 1)], np.uint64)
    return (words & masks[n_kept]) >> np.uint64(64 - 8 * n_bytes)


def _in_run(same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each item equals the one before or after it, from ``same`` between neighbors."""
    padded = np.concatenate([[False], same, [False]])
    return np.asarray(padded[1:] | padded[:-1])


def equal_neighbors(ids: pa.StringArray) -> NDArray[np.bool_]:
    """Whether each id equals the next, shape (n - 1,)."""
    if len(ids) < 2:
        return np.zeros(0, np.bool_)
    return np.asarray(pc.equal(ids[:-1], ids[1:]))


def union(slices: list[pa.StringArray]) -> tuple[pa.StringArray, list[NDArray[np.int32]]]:
    """Sorted union of sorted ids, and where in it those of each slice are.

    Parameters
    ----------
    slices
        Each of shape (n_i,), sorted by UTF-8 bytes, without repeats.

    Returns
    -------
    genes
        Shape (n_genes,), sorted, without repeats.
    rows
        Per slice, shape (n_i,), int32, ascending.
    """
    chunks = [c for c in pa.chunked_array(slices, pa.string()).dictionary_encode().chunks if len(c)]
    if not chunks:
        return pa.array([], pa.string()), [np.zeros(0, np.int32) for _ in slices]
    found = max((chunk.dictionary for chunk in chunks), key=len)  # chunks share one, which grows from first to last
    order = sort_order(found)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    rows = rank[np.concatenate([np.asarray(chunk.indices) for chunk in chunks])]
    ends = np.cumsum([len(ids) for ids in slices])  # the chunks are not the slices: empty ones are dropped
    return found.take(pa.array(order)), np.split(rows, ends[:-1])


# -- choosing the parts ----------------------------------------------------------------------------------------------


def count_parts(n_entries: int, id_bytes: int, budget: int, n_threads: int) -> int:
    """Parts to cut the ids into, so that each fits half the budget and all threads have work.

    Parameters
    ----------
    n_entries, id_bytes
        Over all samples: non-zero entries, and the text of their ids.
    budget
        Bytes that a task may use; the other half is for parts that come out larger than the sketches promise.
    n_threads
        Tasks that run at once.
    """
    need = 2 * id_bytes + _ENTRY_BYTES * n_entries
    fitting = -(-2 * need // max(1, budget))
    return max(1, fitting, min(PARTS_PER_THREAD * n_threads, n_entries // SMALL_PART))


def choose_splitters(sketches: list[list[str]], n_genes: list[int], n_parts: int) -> list[str]:
    """Ids at which to cut, so that each part holds about as many entries; up to ``n_parts - 1``, ascending.

    Parameters
    ----------
    sketches
        Per sample, evenly spaced ids of it.
    n_genes
        Per sample, how many ids its sketch stands for.
    n_parts
        Parts wanted; fewer come out where the sketches are too coarse.
    """
    ids = pa.array([name for sketch in sketches for name in sketch], pa.string())
    if n_parts < 2 or not len(ids):
        return []
    weight = np.concatenate([np.full(len(s), n / max(1, len(s))) for s, n in zip(sketches, n_genes, strict=True)])
    order = sort_order(ids)
    before = np.cumsum(weight[order])
    wanted = before[-1] * np.arange(1, n_parts) / n_parts
    at = np.unique(np.searchsorted(before, wanted))
    names = ids.take(pa.array(order[at])).to_pylist()
    return list(dict.fromkeys(names))


# -- tasks -----------------------------------------------------------------------------------------------------------


def merge_genes(
    listing: str, digest: str, low: str | None, high: str | None, budget: int, target: str
) -> dict[str, Any]:
    """Unite one id range over all samples; runs on a worker.

    Parameters
    ----------
    listing
        JSON list of the samples' Parquet files, each with the digest of its ids.
    digest
        Of all samples' contents: a task for others is another task.
    low, high
        Ids with ``low <= id < high``; None for no bound.
    budget
        Bytes that the task may use.
    target
        ``target.genes.parquet`` gets the ids, ``target.entries.arrow`` one record batch per sample: ``row`` (int32,
        ascending, within the part) and ``abundance`` (float32).

    Returns
    -------
    dict
        ``n_genes`` of the part.

    Raises
    ------
    MemoryLimitError
        The range holds far more than the sketches promised.
    """
    listed = [tuple(entry) for entry in storage.read_json(listing)]
    first = {id_digest: url for url, id_digest in reversed(listed)}  # one sample of each catalog brings the ids of all
    ids: list[pa.StringArray] = []
    values: dict[str, NDArray[np.float32]] = {}
    known: dict[str, tuple[int, int, int]] = {}  # by digest of ids: where in ``ids``, rows, and the first of them
    n_bytes = 0
    n_ahead = min(READ_AHEAD, budget // _AHEAD_BYTES) if storage.is_remote(listing) else 0
    catalogs = storage.ahead(lambda url: read_id_range(url, low, high), list(first.values()), n_ahead)
    for (id_digest, url), (table, start) in zip(first.items(), catalogs, strict=True):
        known[id_digest] = len(ids), len(table), start
        ids.append(pa.concat_arrays([pa.array([], pa.string()), *table.column("id").chunks]))
        values[url] = np.concatenate([_NO_VALUES, *map(np.asarray, table.column("abundance").chunks)])
        n_bytes = _within(n_bytes + ids[-1].nbytes + values[url].nbytes, budget, low, high)

    def load(entry: tuple[str, str]) -> NDArray[np.float32]:
        _, n_rows, start = known[entry[1]]
        return np.asarray(read_row_range(entry[0], start, start + n_rows, "abundance")) if n_rows else _NO_VALUES

    others = [entry for entry in listed if entry[0] not in values]
    for (url, _), found in zip(others, storage.ahead(load, others, n_ahead), strict=True):
        values[url] = found
        n_bytes = _within(n_bytes + found.nbytes, budget, low, high)
    genes, rows = union(ids)
    del ids
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _ENTRIES) as out:
        for url, id_digest in listed:
            out.write_batch(pa.record_batch([rows[known[id_digest][0]], values[url]], schema=_ENTRIES))
    write_columns(f"{target}.genes.parquet", pa.table({"id": genes}))
    storage.write_bytes(f"{target}.entries.arrow", sink.getvalue().to_pybytes())
    return {"n_genes": len(genes)}


def _within(n_bytes: int, budget: int, low: str | None, high: str | None) -> int:
    """``n_bytes``, if a task may use as many."""
    if n_bytes > budget:
        raise MemoryLimitError(
            f"genes from {low!r} to {high!r} take more than the {budget:,} bytes that a task may use. Use workers "
            "with more memory (`memory_limit`)."
        )
    return n_bytes


_NO_VALUES = np.zeros(0, np.float32)
_ENTRIES = pa.schema([("row", pa.int32()), ("abundance", pa.float32())])


def write_genes(staged: str, digest: str, parts: list[list[Any]], start: int, stop: int, n_samples: int) -> None:
    """Fill rows ``start`` to ``stop`` of the store, whole shards that no other task writes; runs on a worker.

    Parameters
    ----------
    staged
        The Zarr group.
    digest
        Of all samples' contents: a task for others is another task.
    parts
        ``[first row, rows, target of merge_genes]`` of each part that reaches into the range.
    start, stop
        Rows to fill.
    n_samples
        Columns.
    """
    block = np.zeros((stop - start, n_samples), np.float32)
    ids = []
    for first, n_rows, source in parts:
        low, high = max(start, first) - first, min(stop, first + n_rows) - first
        ids.append(read_row_range(f"{source}.genes.parquet", low, high))
        shift = first - start
        for sample, (row, value) in enumerate(_entries(f"{source}.entries.arrow")):
            a, b = np.searchsorted(row, (low, high))
            block[row[a:b] + shift, sample] = value[a:b]
    write_rows(staged, start, pa.concat_arrays(ids), block)


def _entries(url: str) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    remote = storage.is_remote(url)
    source = pa.BufferReader(storage.read_bytes(url)) if remote else pa.memory_map(storage.local_path(url))
    with source, pa.ipc.open_file(source) as file:
        for i in range(file.num_record_batches):
            batch = file.get_batch(i)
            yield np.asarray(batch.column(0)), np.asarray(batch.column(1))
