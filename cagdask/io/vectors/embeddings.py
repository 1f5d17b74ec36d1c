"""Formats that hold a vector per gene: each is opened as a stream of batches, as tables are.

    .npz             arrays ``embeddings`` (genes, components) and ``genes``
    .npy             a matrix; the names come from a list of ids
    .json            an object gene -> list of numbers
    .vec .txt .w2v   word2vec text, with its header line or (GloVe) without
    .bin             word2vec binary
    .parquet         a column of lists, or a column per component
    .h5ad            ``varm/NAME`` (genes are variables), ``obsm/NAME`` or ``X`` (genes are observations)
    .tsv .csv …      the tables of :mod:`cagdask.io.tables.formats`

All may be gzipped, except those that are compressed by themselves. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables import formats, h5ad
from cagdask.io.tables.reading import SAMPLES_IN_ROWS, Batches, Reading
from cagdask.io.vectors.batches import Options, Rows, check_length, numbered_batches, rows_at_once
from cagdask.io.vectors.numpy_files import open_npy, open_npz
from cagdask.io.vectors.word2vec import open_binary, open_text

TABLES = (".tsv", ".csv", ".parquet", ".feather")
"""Suffixes that are tables, whose rows may be components."""


def suffix_of(url: str) -> str | None:
    """Which of :data:`FORMATS` a name speaks of; None for others."""
    name = storage.name_of(url).lower().removesuffix(".gz")
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


@contextmanager
def open_vectors(url: str, orient: str, options: Options) -> Iterator[Batches]:
    """Open a file of vectors by its suffix.

    Parameters
    ----------
    url
        The file.
    orient
        ``genes-by-samples``, or for tables whose columns are genes ``samples-by-genes``.
    options
        ``ids``, the file of names of an .npy; ``matrix``, what to take from an .h5ad.

    Raises
    ------
    InputError
        It is damaged, is not of the format that its suffix promises, or lacks an array.
    """
    suffix = suffix_of(url) or ""
    orient = SAMPLES_IN_ROWS if orient == SAMPLES_IN_ROWS else "genes-by-samples"
    with formats.readable(url, suffix) as handle, FORMATS[suffix](url, handle, orient, options) as found:
        found.column = "component"
        yield found


def _table(url: str, handle: Any, orient: str, options: Options) -> AbstractContextManager[Batches]:
    return formats.open_table(url, Reading(orient=orient))


# -- JSON ------------------------------------------------------------------------------------------------------------


@contextmanager
def _json(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    import msgspec

    data = handle.read()
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as err:
        raise InputError(f"{url}: is no JSON object of gene -> list of numbers ({err}). Write it again.") from err
    if not found:
        raise InputError(f"{url}: holds no genes. Check the file.")
    if data.count(b"[") - sum(name.count("[") for name in found) > len(found):
        _refuse_repeated(url, data)
    decoder = msgspec.json.Decoder(list[float | None])

    def vector(name: str) -> list[float | None]:
        try:
            return decoder.decode(found[name])
        except msgspec.MsgspecError as err:
            raise InputError(f"{url}: gene {name!r} holds no list of numbers ({err}). Correct the file.") from err

    names = list(found)
    n_columns = len(vector(names[0]))

    def rows() -> Iterator[Rows]:
        step = rows_at_once(n_columns)
        for begin in range(0, len(names), step):
            some = names[begin : begin + step]
            values = np.empty((len(some), n_columns))
            for i, name in enumerate(some):
                numbers = vector(name)
                check_length(url, name, len(numbers), names[0], n_columns)
                values[i] = [np.nan if x is None else x for x in numbers]
            yield pa.array(some, pa.string()), values

    yield numbered_batches(n_columns, rows())


def _refuse_repeated(url: str, data: bytes) -> None:
    """Name a key that occurs twice: a dict would hold its last value and say nothing."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InputError(f"{url}: gene {name!r} occurs more than once. Keep one of each.")
            seen.add(name)

    json.loads(data, object_pairs_hook=check)


# -- Parquet ---------------------------------------------------------------------------------------------------------


@contextmanager
def _parquet(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    with pq.ParquetFile(handle) as file:
        schema = file.schema_arrow
        lists = [f.name for f in schema if pa.types.is_list(f.type) or pa.types.is_large_list(f.type)
                 or pa.types.is_fixed_size_list(f.type)]  # fmt: skip
        if not lists:
            with formats.open_table(url, Reading(orient=orient)) as table:
                yield table
            return
        named = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        if len(lists) > 1 or not named:
            raise InputError(
                f"{url}: has the columns {', '.join(schema.names)}; needs names (text) and one column of lists."
            )
        first = next((b for b in file.iter_batches(1, columns=lists) if b.num_rows), None)
        if first is None or first.column(0)[0].as_py() is None:
            raise InputError(f"{url}: the first vector of column {lists[0]!r} is missing. Check the file.")
        n_columns = len(first.column(0)[0])

        def rows() -> Iterator[Rows]:
            for batch in file.iter_batches(rows_at_once(n_columns), columns=[named[0], lists[0]], use_threads=False):
                names, vectors = batch.column(named[0]).cast(pa.string()), batch.column(lists[0])
                if names.null_count:
                    raise InputError(f"{url}: a row has no name (column {named[0]!r} is null). Give every row one.")
                lengths = np.array([-1 if v is None else v for v in pa.compute.list_value_length(vectors).to_pylist()])
                wrong = np.flatnonzero(lengths != n_columns)
                if len(wrong):
                    check_length(
                        url, names[int(wrong[0])].as_py(), max(0, int(lengths[wrong[0]])), "the first", n_columns
                    )
                values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, n_columns)
                yield names, values.astype(np.float64) if values.dtype.kind != "f" else values

        yield numbered_batches(n_columns, rows())


# -- AnnData ---------------------------------------------------------------------------------------------------------


@contextmanager
def _h5ad(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    with h5ad.open_matrix(url, handle, options.get("matrix")) as found:

        def rows() -> Iterator[Rows]:
            step = rows_at_once(found.n_columns)
            for begin in range(0, len(found.names), step):
                some = found.names[begin : begin + step]
                values = found.read(begin, begin + len(some))
                yield pa.array(some, pa.string()), values if values.dtype.kind == "f" else values.astype(np.float64)

        yield numbered_batches(found.n_columns, rows())


Opener = Callable[[str, Any, str, Options], AbstractContextManager[Batches]]
FORMATS: dict[str, Opener] = {
    ".npz": open_npz,
    ".npy": open_npy,
    ".json": _json,
    ".vec": open_text,
    ".txt": open_text,
    ".w2v": open_text,
    ".bin": open_binary,
    ".parquet": _parquet,
    ".h5ad": _h5ad,
    **{suffix: _table for suffix in TABLES if suffix != ".parquet"},
}
"""Suffix -> opener; a name may end in ``.gz`` besides."""
