"""Opening a store as a dataset, and saving a dataset as a store.

    URL --checked_group--> published, whole, safe to read --open_dataset--> xarray Dataset, lazy
    Dataset --save_dataset--> work folder --publish--> URL

A store is looked at before it is read: every file of its manifest is there, its metadata has a sensible size, and its
chunks are packed by codecs that run no code of others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import schema
from cagdask.errors import InputError, SchemaError, StoreError
from cagdask.storage import files, manifest
from cagdask.storage.files import exists
from cagdask.storage.groups import arrays_of, open_group, open_store, without_complaints
from cagdask.storage.paths import absolute, is_remote, is_s3, join, local_path, work_folder
from cagdask.storage.publication import publish
from cagdask.storage.targets import begin_work, check_target, end_work, staged_store

if TYPE_CHECKING:  # xarray and zarr take seconds to import, and most tasks need neither
    import xarray as xr
    import zarr
    from zarr.abc.store import Store

MAX_CHUNK_BYTES = 2**31
"""Largest chunk that is opened: what a few bytes of a hostile store may unpack to."""
MAX_METADATA_BYTES = 64 * 2**20
"""Longest zarr.json of a group that is read."""
_CODECS = {"bytes", "blosc", "crc32c", "gzip", "sharding_indexed", "transpose", "vlen-utf8", "zstd"}


def open_dataset(url: str, *, chunks: dict[str, int] | None = None) -> xr.Dataset:
    """Open a store that cagdask wrote.

    Parameters
    ----------
    url
        Local path or URL of an abundance, expression, embedding or result store.
    chunks
        Dask chunk per dim; by default as stored, a block of whole shards.

    Returns
    -------
    Dataset
        Lazy: nothing but metadata is read. Genes and samples are selected by name, ``ds.sel(gene="Otu1")``; their names
        are read then.

    Raises
    ------
    StoreError
        Nothing is there, or only unfinished work.
    SchemaError
        It is not a cagdask store, or of another schema version.
    """
    ds = _opened(url, {})
    if chunks is None:
        chunks = _whole_shards(ds)
    return _named(ds.chunk(chunks) if chunks else ds, url)


def load_dataset(url: str) -> xr.Dataset:
    """Read a store that cagdask wrote into memory, so that it may go away.

    What follows a small job in this process: without Dask, which takes a second to import.

    Parameters
    ----------
    url
        Local path or URL of a store.

    Returns
    -------
    Dataset
        In memory, the indexes of its names too.

    Raises
    ------
    StoreError, SchemaError
        As for :func:`open_dataset`.
    """
    return _named(_opened(url, None).load(), url)


def _opened(url: str, chunks: dict[str, int] | None) -> xr.Dataset:
    """The variables of a store; as Dask arrays in these chunks, or with None read when they are looked at."""
    import xarray as xr

    with checked_group(absolute(url)) as (store, _, _):
        with without_complaints():
            ds: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=chunks)
        schema.validate(ds, where=absolute(url))
    return ds


def _named(ds: xr.Dataset, url: str) -> xr.Dataset:
    from cagdask.storage.names import with_names

    ds = with_names(ds)
    ds.encoding["source"] = absolute(url)
    return ds


@contextmanager
def checked_group(url: str) -> Iterator[tuple[Store, zarr.Group, dict[str, Any]]]:
    """The Zarr store at an absolute URL, its group and arrays, whole and safe to read.

    Errors of the block are taken for some of the store's metadata.

    Raises
    ------
    StoreError, SchemaError
        As for :func:`open_dataset`.
    """
    files.check_protocol(url)
    if not is_remote(url) and os.path.isfile(local_path(url)):
        raise SchemaError(f"{url}: is a file, not a store. Ingest it first: cagdask ingest INPUT --store URL.")
    found = manifest.read(url)
    if found is None:
        _refuse_unpublished(url)
    with _readable(url):
        _check_metadata_size(url, found)
        store = open_store(url, read_only=True)
        group = open_group(url)
        if "schema_version" not in group.attrs:
            raise SchemaError(f"{url}: is a Zarr group that cagdask did not write (it has no schema_version).")
        if found is not None:
            where = url if found.location is None else join(work_folder(url), found.location)
            manifest.refuse(url, manifest.problems(where, found))
        arrays = arrays_of(group)
        _check_arrays(url, arrays)
        yield store, group, arrays


def _refuse_unpublished(url: str) -> None:
    """Refuse a store without a manifest on an object store; a local one needs none."""
    there = exists(url)
    if (is_s3(url) or not there) and exists(join(work_folder(url), "recipe.json")):
        raise StoreError(f"{url}: is unfinished. Run the command that makes it again; it goes on where it stopped.")
    if not there:
        raise StoreError(f"{url}: no such store.")
    if is_s3(url) and exists(join(url, "zarr.json")):
        raise StoreError(f"{url}: was never published (it has no manifest), so it may lack chunks. Make it again.")


def _check_metadata_size(url: str, found: manifest.Manifest | None) -> None:
    where = url if found is None or found.location is None else join(work_folder(url), found.location)
    if files.size_of(join(where, "zarr.json")) > MAX_METADATA_BYTES:
        raise SchemaError(f"{url}: its zarr.json has more than {MAX_METADATA_BYTES:,} bytes. Make the store again.")


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """Say in one line that the metadata of a store can not be used."""
    try:
        yield
    except (SchemaError, StoreError):
        raise
    except FileNotFoundError as err:
        raise SchemaError(
            f"{url}: is not a Zarr v3 group. Ingest the data first: cagdask ingest INPUT --store URL."
        ) from err
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as err:
        raise SchemaError(
            f"{url}: its Zarr metadata can not be used ({_first_line(err)}). Make the store again, or ingest the data "
            "first: cagdask ingest INPUT --store URL."
        ) from err


def _first_line(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:200]


def _check_arrays(url: str, arrays: dict[str, Any]) -> None:
    """Refuse arrays that would run code of other packages, or unpack to more than a chunk may hold."""
    for name, array in arrays.items():
        names = _codec_names(array.metadata.to_dict().get("codecs"))
        odd = sorted(names - _CODECS)
        if odd:
            raise SchemaError(f"{url}: {name} is stored with {odd[0]!r}, which is not read. Write it with zstd.")
        n_bytes = int(np.prod([int(n) for n in array.chunks], dtype=object)) * max(1, array.dtype.itemsize)
        if n_bytes > MAX_CHUNK_BYTES:
            raise SchemaError(
                f"{url}: a chunk of {name} holds {n_bytes:,} bytes, above {MAX_CHUNK_BYTES:,}. Write smaller chunks."
            )


def _codec_names(codecs: Any) -> set[str]:
    names: set[str] = set()
    for codec in codecs or ():
        names.add(str(codec["name"]))
        inner = codec.get("configuration") or {}
        names |= _codec_names(inner.get("codecs")) | _codec_names(inner.get("index_codecs"))
    return names


def _whole_shards(ds: xr.Dataset) -> dict[str, int]:
    name = schema.value_name(ds.attrs.get("kind", "abundance"))
    shards = ds[name].encoding.get("shards") if name in ds.variables else None
    return {"gene": shards[0]} if shards else {}


def save_dataset(ds: xr.Dataset, url: str, *, overwrite: bool = False) -> None:
    """Write a dataset as a store; computes what is lazy.

    Parameters
    ----------
    ds
        Any dataset that :func:`open_dataset` or a function of cagdask gave.
    url
        Local path or URL.
    overwrite
        Replace what is there, once the new store is complete.

    Raises
    ------
    StoreError
        The target is there, or its folder is missing.
    InputError
        Two genes or two samples have one name, or a value of ``abundance`` is too large or too small for float32.
    """
    url = absolute(url)
    check_target(url, overwrite=overwrite)
    folder, _ = begin_work(url, {"command": "save_dataset"}, overwrite=True, is_store=True)
    staged = staged_store(folder)
    attrs = {"schema_version": schema.SCHEMA_VERSION, "kind": "abundance"} | ds.attrs
    from cagdask.storage.names import without_names

    ds = without_names(ds)
    _refuse_duplicates(ds)
    if "abundance" in ds.variables and ds["abundance"].dtype == np.float64:
        ds = ds.assign(abundance=as_float32(ds["abundance"]))
    clean = ds.drop_encoding().assign_attrs(attrs)
    lazy = [v.chunksizes["gene"] for v in clean.variables.values() if "gene" in v.chunksizes]
    if lazy:  # Zarr's chunks are all of one size
        clean = clean.chunk(gene=max(max(sizes) for sizes in lazy))
    for name in clean.variables:
        clean[name].attrs.pop("coordinates", None)
        if clean[name].dtype.kind == "U":  # Zarr v3 has names for text of any length only
            clean[name] = clean[name].astype(object)
    clean.to_zarr(open_store(staged), mode="w", zarr_format=3, consolidated=False, safe_chunks=False)
    publish(staged, url)
    end_work(url)


def _refuse_duplicates(ds: xr.Dataset) -> None:
    for name in ("gene_id", "sample_id"):
        if name not in ds.variables:
            continue
        names = ds[name].values.tolist()
        if len(set(names)) == len(names):
            continue
        first: dict[Any, int] = {}
        row = next(row for row, value in enumerate(names) if first.setdefault(value, row) != row)
        raise InputError(
            f"dataset: {name} {names[row]!r} occurs more than once, at {first[names[row]]:,} and {row:,} (counted from "
            "0). Names must be unique: rename one, or keep one of them."
        )


def as_float32(values: xr.DataArray) -> xr.DataArray:
    """Values in the precision of a store; lazy where they are.

    Raises
    ------
    InputError
        When computed: a value is too large for float32, or so small that it would become 0.
    """
    data = values.data
    if hasattr(data, "map_blocks"):
        return values.copy(data=data.map_blocks(_block_as_float32, dtype=np.float32))
    return values.copy(data=_block_as_float32(data))


def _block_as_float32(block: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore"):
        small = block.astype(np.float32)
    wrong = (np.isinf(small) & np.isfinite(block)) | ((small == 0) & (block != 0))
    if wrong.any():
        raise InputError(
            f"dataset: the value {block[wrong][0]:g} is beyond float32, in which stores hold values (from 1.4e-45 to "
            "3.4e38). Divide or multiply all values by one number first."
        )
    return small
