"""Zarr groups, their arrays, and opening and saving them as datasets.

    URL --open_store--> Zarr store --open_group--> group --open_array--> rows, read and written by tasks
                             |
                             +-- knows the manifest: a file that is missing, or read whole and not what it was, is an
                                 error with its name, where Zarr alone would give zeros

Chunks are compressed with a checksum, and shards carry one for their index, so a part of a file that is damaged can not
be read either; :func:`find_damage` says which files are.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cagdask import schema
from cagdask.errors import InputError, SchemaError, StoreError
from cagdask.storage import files, manifest, s3
from cagdask.storage.files import exists, remove
from cagdask.storage.paths import absolute, is_remote, is_s3, join, local_path
from cagdask.storage.targets import begin_work, check_target, end_work, publish, work_folder

if TYPE_CHECKING:  # xarray and zarr take seconds to import, and most tasks need neither
    import xarray as xr
    import zarr
    from zarr.abc.store import Store
    from zarr.core.array_spec import ArrayConfigParams

ID_CHUNK = 65_536
"""Names per chunk of an id array."""
MAX_CHUNK_BYTES = 2**31
"""Largest chunk that is opened: what a few bytes of a hostile store may unpack to."""
MAX_METADATA_BYTES = 64 * 2**20
"""Longest zarr.json of a group that is read."""
_CODECS = {"bytes", "blosc", "crc32c", "gzip", "sharding_indexed", "transpose", "vlen-utf8", "zstd"}
_ALL_CHUNKS: ArrayConfigParams = {"write_empty_chunks": True}
_INLINE_DIGEST = 2**20  # bytes that are hashed in the event loop; more of them in a thread


# -- stores ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _store_classes() -> dict[str, Any]:
    """Zarr's stores, with the manifest in mind; made late, since importing Zarr takes a second."""
    from zarr.storage import FsspecStore, LocalStore, ObjectStore

    def checked(base: Any) -> Any:
        class Checked(base):  # type: ignore[misc]  # a base known at run time
            url: str = ""
            files: manifest.Files = {}  # noqa: RUF012  # replaced, never changed

            async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
                with files.said_of(self.url):
                    found = await super().get(key, prototype, byte_range)
                said = self.files.get(key)
                if said is None:
                    return found
                if found is None:
                    manifest.refuse(self.url, [f"{key} is missing"])
                if byte_range is None:
                    data = found.as_buffer_like()
                    short = len(data) <= _INLINE_DIGEST
                    digest = _sha256(data) if short else await asyncio.to_thread(_sha256, data)
                    if digest != said[1]:
                        manifest.refuse(self.url, [f"{key} is damaged"])
                return found

        Checked.__name__ = Checked.__qualname__ = f"Checked{base.__name__}"
        return Checked

    class CheckedObjectStore(checked(ObjectStore)):  # type: ignore[misc]  # likewise
        """On S3; pickled by its URL, since the client holds credentials."""

        async def set(self, key: str, value: Any) -> None:
            import obstore

            self._check_writable()
            with files.said_of(self.url):
                await obstore.put_async(self.store, key, value.as_buffer_like(), chunk_size=s3.PART_BYTES)

        def __reduce__(self) -> Any:
            return open_store, (self.url,), {"read_only": self.read_only}

        def __setstate__(self, state: dict[str, Any]) -> None:
            self._read_only = state["read_only"]

        def __repr__(self) -> str:
            return f"CheckedObjectStore({self.url!r})"

    return {"s3": CheckedObjectStore, "file": checked(LocalStore), "fsspec": checked(FsspecStore)}


def _sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def open_store(url: str, *, read_only: bool = False) -> Store:
    """The Zarr store object of a path or URL; to read, where its manifest says that the store is."""
    files.check_protocol(url)
    classes = _store_classes()
    found = manifest.read(url) if read_only else None
    if found is not None and found.location is not None:
        url = join(work_folder(url), found.location)
    if is_s3(url):
        store = classes["s3"](s3.client_at(url), read_only=read_only)
    elif is_remote(url):
        store = classes["fsspec"].from_url(url, read_only=read_only)
    else:
        store = classes["file"](local_path(url), read_only=read_only)
    store.url = url
    store.files = found.files if found is not None else {}
    opened: Store = store
    return opened


def find_damage(url: str) -> list[str]:
    """List damaged and missing files of a store, with the reason. Compares digests, so it reads everything.

    Raises
    ------
    StoreError
        The store has no manifest to compare with.
    """
    found = manifest.read(url)
    if found is None:
        raise StoreError(f"{url}: has no manifest, so nothing says what it should hold. Make the store again.")
    where = url if found.location is None else join(work_folder(url), found.location)
    return manifest.problems(where, found, digests=True)


# -- groups and arrays -----------------------------------------------------------------------------------------------


def create_group(url: str, attrs: dict[str, Any]) -> zarr.Group:
    """A new Zarr v3 group with these attributes, in place of what may be there."""
    import zarr

    remove(url)
    return zarr.create_group(open_store(url), zarr_format=3, attributes=attrs)


def open_group(url: str, *, writable: bool = False) -> zarr.Group:
    """An existing Zarr v3 group, to read unless ``writable``."""
    import zarr

    return zarr.open_group(open_store(url, read_only=not writable), mode="r+" if writable else "r", zarr_format=3)


def open_array(url: str, name: str, *, writable: bool = False) -> zarr.Array[Any]:
    """One array of an existing Zarr group."""
    array: zarr.Array[Any] = open_group(url, writable=writable)[name]  # type: ignore[assignment]  # it is no group
    return with_all_chunks(array) if writable else array


def with_all_chunks(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The array, to be written with its chunks of zeros: looking for them takes Zarr longer than compressing them."""
    return array.with_config(_ALL_CHUNKS)


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    *,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None = None,
    dims: tuple[str, ...] | None = None,
    dtype: DTypeLike | None = None,
    attrs: dict[str, Any] | None = None,
) -> zarr.Array[Any]:
    """An array of the data model (or, with ``dims`` and ``dtype``, any other), compressed, not yet filled.

    zstd without shuffle: on sparse profiles it is half the size and twice the speed of Blosc with shuffle. With its
    checksum, so that a damaged chunk can not be read as other values.
    """
    from zarr.codecs import ZstdCodec

    row = schema.VARIABLES.get(name)
    stored = dtype if dtype is not None else row.dtype if row else "float32"
    is_text = stored == "str" or stored is str
    chunks = tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=str if is_text else np.dtype(stored),
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=dims or (row.dims if row else None),
        attributes=attrs if attrs is not None else schema.attributes(name) if row else {},
        config=_ALL_CHUNKS,
        overwrite=True,
    )


def write_array(group: zarr.Group, name: str, values: NDArray[Any], **options: Any) -> None:
    """Write a whole small array at once; text in blocks of :data:`ID_CHUNK` names."""
    is_text = values.dtype.kind in "OUT"
    rows = ID_CHUNK if values.ndim == 1 else max(1, 2**22 // max(1, int(np.prod(values.shape[1:])) * values.itemsize))
    chunks = options.pop("chunks", (rows, *values.shape[1:]))
    stored = {"dtype": str if is_text else values.dtype} if name not in schema.VARIABLES else {}
    array = create_array(group, name, values.shape, chunks=chunks, **(stored | options))
    array[...] = values.astype(np.dtypes.StringDType()) if is_text else values


def arrays_of(group: zarr.Group) -> dict[str, Any]:
    """Arrays of a group by name."""
    with _no_complaints():
        return dict(group.arrays())


@contextmanager
def _no_complaints() -> Iterator[None]:
    """Ignore Zarr's warning of what is neither array nor group: some servers list folders that are empty by now."""
    from zarr.errors import ZarrUserWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        yield


def finish_group(group: zarr.Group) -> None:
    """Mark the coordinates for xarray. Call once all arrays are written."""
    found = arrays_of(group)
    names = sorted(found)
    coordinates = [n for n in names if n in schema.VARIABLES and schema.VARIABLES[n].coordinate]
    coordinates += [n for n in names if n.startswith("sample_") and n not in schema.VARIABLES]
    for name in names:
        if name in coordinates:
            continue
        array = found[name]
        dims = set(array.metadata.dimension_names or ())
        own = [c for c in coordinates if set(found[c].metadata.dimension_names or ()) <= dims]
        if own:
            array.update_attributes({"coordinates": " ".join(own)})


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
        Lazy: nothing but metadata is read.

    Raises
    ------
    StoreError
        Nothing is there, or only unfinished work.
    SchemaError
        It is not a cagdask store, or of another schema version.
    """
    import xarray as xr

    url = absolute(url)
    with checked_group(url) as (store, _):
        with _no_complaints():
            ds: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks={})
        schema.validate(ds, where=url)
    if chunks is None:
        chunks = _whole_shards(ds)
    ds = ds.chunk(chunks) if chunks else ds
    ds.encoding["source"] = url
    return ds


@contextmanager
def checked_group(url: str) -> Iterator[tuple[Store, zarr.Group]]:
    """The Zarr store and group at an absolute URL, whole and safe to read; errors of the block are of its metadata.

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
        _check_arrays(url, group)
        yield store, group


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


def _check_arrays(url: str, group: zarr.Group) -> None:
    """Refuse arrays that would run code of other packages, or unpack to more than a chunk may hold."""
    for name, array in arrays_of(group).items():
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
    folder, _ = begin_work(url, {"command": "save_dataset"}, overwrite=True)
    staged = join(folder, "store")
    attrs = {"schema_version": schema.SCHEMA_VERSION, "kind": "abundance"} | ds.attrs
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
