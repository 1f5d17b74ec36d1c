"""Items to cluster, each a row of numbers: read block by block from a store, Parquet or trajectories.

========== ===================================== ==================== ================
items      from                                  a row is             features are
========== ===================================== ==================== ================
genes      a store                               its abundances       samples
samples    a store, turned round on disk first   its abundances       genes
cags       a result store                        its mean abundances  samples
rows       a Parquet file                        its other columns    columns
frames     trajectories                          x, y, z of its atoms coordinates
========== ===================================== ==================== ================

:class:`Items` says where they are, in words that JSON holds, so that tasks open them by themselves. Values are taken as
they are stored. A task holds the rows that it asked for, in float64, and one chunk or batch of the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import schema, storage, stores
from cagdask.errors import InputError, SchemaError
from cagdask.io.tables.parquet import is_table, open_parquet, read_layout
from cagdask.twopass import trajectories
from cagdask.twopass.options import TWO_PASS

if TYPE_CHECKING:
    from cagdask.compute.runner import Runner

Float64 = NDArray[np.float64]
Names = NDArray[Any]

LARGEST = 1e150
"""Values beyond have no squares in float64."""
NAMES_AT_ONCE = 2**16
"""Names that are read at a time."""


@dataclass(frozen=True)
class Items:
    """Location and shape of the items.

    Attributes
    ----------
    kind
        ``genes``, ``samples``, ``cags``, ``rows`` or ``frames``.
    urls
        The store, the Parquet file, or the trajectories one after the other. Of samples that were turned round, the
        matrix first.
    n_items, n_features
        Size of the matrix.
    chunk
        Items that are stored together: reading fewer reads as many.
    array
        For a store: the matrix. For Parquet: the column of names.
    topology
        For trajectories without one of their own.
    """

    kind: str
    urls: tuple[str, ...]
    n_items: int
    n_features: int
    chunk: int
    array: str = ""
    topology: str | None = None

    @property
    def name(self) -> str:
        """The source, for messages."""
        return self.urls[-1] if self.kind == "samples" else ", ".join(self.urls)

    def to_json(self) -> dict[str, Any]:
        """As arguments of a task."""
        return asdict(self) | {"urls": list(self.urls)}


def items_of(content: dict[str, Any]) -> Items:
    """Undo :meth:`Items.to_json`."""
    return Items(**content | {"urls": tuple(content["urls"])})


# -- finding out -----------------------------------------------------------------------------------------------------


def reads_itself(url: str) -> bool:
    """Whether a source that is no store is read here: trajectories, Parquet, the folder of a run with CAGs."""
    if trajectories.suffix_of(url) or is_table(url):
        return True
    return storage.exists(storage.join(url, "cags.zarr"))


def describe(source: str | Sequence[str], *, of: str | None = None, topology: str | None = None) -> Items:
    """Describe the items of a source from its metadata, without reading values.

    Parameters
    ----------
    source
        A store, a Parquet file, or one or more trajectories: paths or URLs.
    of
        For a store: ``genes``, ``samples`` or ``cags``; by default what a result store has of CAGs, else genes.
    topology
        File with the topology of trajectories.

    Raises
    ------
    StoreError, SchemaError, InputError, ValueError
        It can not be used.
    """
    urls = tuple(storage.absolute(url) for url in ([source] if isinstance(source, str) else source))
    if not urls:
        raise ValueError("no source is given; name a store, a Parquet file or trajectories.")
    TWO_PASS["of"].check(of)
    suffix = trajectories.suffix_of(urls[0])
    table = is_table(urls[0])
    if of is not None and (suffix or table):
        raise ValueError(f"{urls[0]}: of {of} is for stores; leave it out for other sources.")
    if topology is not None and not suffix:
        raise ValueError(f"{urls[0]}: a topology is for trajectories; leave it out.")
    if len(urls) > 1 and not suffix:
        raise ValueError(f"{urls[1]}: more than one source is for trajectories only. Name one.")
    for url in urls:
        if (suffix or table) and not storage.exists(url):
            raise InputError(f"{url}: there is no such file. Check the path.")
    if suffix:
        return _describe_frames(urls, topology)
    return _describe_parquet(urls[0]) if table else _describe_store(urls[0], of)


def _describe_store(url: str, of: str | None) -> Items:
    found = stores.result_url(url)
    if of in ("genes", "samples") or found == storage.absolute(url):
        found = stores.abundance_url(url)
    ds = storage.look(found)
    kind = ds.attrs.get("kind", "abundance")
    of = of or ("cags" if kind == schema.RESULT_KIND else "genes")
    if of == "cags":
        if kind != schema.RESULT_KIND:
            raise SchemaError(f"{url}: holds {kind}, no CAGs. Cluster it first: cagdask cluster STORE --output URL.")
        name = "cag_abundance"
    elif kind not in schema.KINDS:
        raise SchemaError(f"{url}: holds {kind}, not {of}. Name the store that was clustered, or leave `of` out.")
    elif of == "samples" and kind == "embedding":
        raise SchemaError(f"{url}: holds an embedding, which has components, no samples. Leave `of` out.")
    else:
        name = schema.value_name(kind)
    schema.validate(ds, name, where=url)
    shape = ds[name].shape
    chunk = (ds[name].encoding.get("chunks") or shape)[0]
    n_items, n_features = shape[::-1] if of == "samples" else shape
    if not n_items or not n_features:
        raise InputError(f"{url}: has {n_items:,} {of} of {n_features:,} values; there is nothing to cluster.")
    return Items(of, (storage.absolute(found),), n_items, n_features, max(1, chunk), name)


def _describe_parquet(url: str) -> Items:
    found = read_layout(url)
    return Items("rows", (url,), found.n_rows, len(found.columns), -(-found.n_rows // found.n_groups), found.names)


def _describe_frames(urls: tuple[str, ...], topology: str | None) -> Items:
    topology = storage.absolute(topology) if topology else None
    n_frames, atoms = trajectories.measure(urls, topology)
    return Items("frames", urls, n_frames, 3 * len(atoms), trajectories.FRAMES_AT_ONCE, topology=topology)


def features(items: Items) -> Names:
    """Names of the features, in their order, as text."""
    if items.kind == "frames":
        atoms = trajectories.measure(items.urls[:1], items.topology)[1]
        return np.array([f"{atom}.{axis}" for atom in atoms for axis in "xyz"], object)
    if items.kind == "rows":
        return np.array(read_layout(items.urls[0], items.array).columns, object)
    if items.kind == "samples":
        name = "gene_id"
    else:
        name = "sample_id" if items.array != "embedding" else ""
    if not name:
        return np.array([f"component {i}" for i in range(items.n_features)], object)
    return np.asarray(storage.open_array(items.urls[-1], name)[:]).astype(object)


def check_rows(items: dict[str, Any]) -> None:
    """Task: check that each item of a Parquet table has a name of its own. 16 bytes per item and one batch.

    Raises
    ------
    InputError
        Naming the first.
    """
    import pandas as pd

    source = items_of(items)
    hashes = [pd.util.hash_array(read_names(source, b, e)) for b, e in _ranges(source.n_items, NAMES_AT_ONCE)]
    found = pd.Series(np.concatenate(hashes))
    for row in np.flatnonzero(found.duplicated().to_numpy())[:1].tolist():
        name = read_names(source, row, row + 1)[0]
        raise InputError(f"{source.name}: {name!r} names more than one row. Give each row its own name.")


def _ranges(n: int, step: int) -> Iterator[tuple[int, int]]:
    return ((begin, min(begin + step, n)) for begin in range(0, n, step))


# -- reading ---------------------------------------------------------------------------------------------------------


def read_rows(items: Items, begin: int, end: int) -> Float64:
    """The items ``begin:end``, shape (end - begin, n_features), float64."""
    if items.kind == "frames":
        return trajectories.read_frames(items.urls, items.topology, begin, end)
    if items.kind == "rows":
        return _read_parquet(items, begin, end)
    return np.asarray(storage.open_array(items.urls[0], items.array)[begin:end]).astype(np.float64)


def are_numbers(rows: Float64) -> NDArray[np.bool_]:
    """Which values are usable (their squares are finite), shape of ``rows``."""
    fine: NDArray[np.bool_] = np.abs(rows) <= LARGEST  # false for NaN, too
    return fine


def read_names(items: Items, begin: int, end: int) -> Names:
    """Names of the items ``begin:end``, as text."""
    if items.kind == "rows":
        return _parquet_column(items, begin, end)
    name = {"genes": "gene_id", "samples": "sample_id"}.get(items.kind)
    if name is None:
        return np.array([str(i) for i in range(begin, end)], object)
    return np.asarray(storage.open_array(items.urls[-1], name)[begin:end]).astype(object)


def _batches(items: Items, begin: int, end: int, columns: list[str]) -> Iterator[Any]:
    """Slices of record batches that together are the rows ``begin:end``."""
    with open_parquet(items.urls[0]) as file:
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        groups = [g for g, size in enumerate(sizes) if starts[g] < end and starts[g] + size > begin]
        at = int(starts[groups[0]]) if groups else 0
        for batch in file.iter_batches(4096, row_groups=groups, columns=columns, use_threads=False):
            low, high = max(begin - at, 0), min(end - at, batch.num_rows)
            if low < high:
                yield batch.slice(low, high - low)
            at += batch.num_rows


def _read_parquet(items: Items, begin: int, end: int) -> Float64:
    rows = np.empty((end - begin, items.n_features))
    columns = [name for name in features(items)]
    at = 0
    for batch in _batches(items, begin, end, columns):
        for j, name in enumerate(columns):
            rows[at : at + batch.num_rows, j] = batch.column(name).to_numpy(zero_copy_only=False)
        at += batch.num_rows
    return rows


def _parquet_column(items: Items, begin: int, end: int) -> Names:
    import pyarrow as pa

    parts = [batch.column(0).cast(pa.string()) for batch in _batches(items, begin, end, [items.array])]
    if any(part.null_count for part in parts):
        raise InputError(f"{items.name}: a row has no name (column {items.array!r} is null). Give every row one.")
    return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts] or [np.empty(0, object)])


def names_of(items: Items, rows: list[int], at_once: int = NAMES_AT_ONCE) -> list[str]:
    """Names of some items, rows in any order; each block of ``at_once`` names is read once."""
    found: dict[int, str] = {}
    for chunk, members in groupby(sorted(set(rows)), lambda row: row // at_once):
        begin = chunk * at_once
        names = read_names(items, begin, min(begin + at_once, items.n_items))
        found |= {row: names[row - begin] for row in members}
    return [found[row] for row in rows]


# -- samples ---------------------------------------------------------------------------------------------------------


def turned_round(items: Items, runner: Runner, folder: str, done: str) -> Items:
    """Transposed copy of a store on disk, a row per sample: a store keeps all samples of a gene together."""
    if items.kind != "samples":
        return items
    n_genes, n_samples = items.n_features, items.n_items
    genes = max(1, min(n_genes, runner.task_budget // (16 * n_samples)))
    rows = max(1, min(n_samples, 2**20 // genes))
    url = storage.join(folder, "samples.zarr")
    if not storage.exists(storage.join(url, "zarr.json")):
        group = storage.create_group(url, {})
        storage.create_array(
            group, "rows", (n_samples, n_genes), chunks=(rows, genes), dims=("item", "feature"), dtype="float32"
        )
    work = [(items.urls[0], items.array, b, e, url) for b, e in _ranges(n_genes, genes)]
    runner.map(
        "transpose the table", turn_round, work, done=done, unit="genes", weights=[e - b for _, _, b, e, _ in work]
    )
    return replace(items, urls=(url, *items.urls), array="rows", chunk=rows)


def turn_round(store: str, name: str, begin: int, end: int, url: str) -> int:
    """Task: write the genes ``begin:end`` of a store as columns of the transposed copy; no other task writes them."""
    block = np.asarray(storage.open_array(store, name)[begin:end], np.float32)
    storage.open_array(url, "rows", writable=True)[:, begin:end] = np.ascontiguousarray(block.T)
    return end - begin
