"""Zarr stores, groups and their arrays.

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
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cagdask import schema
from cagdask.errors import StoreError
from cagdask.storage import files, manifest, s3
from cagdask.storage.files import remove
from cagdask.storage.paths import in_place, is_remote, is_s3, join, local_path, work_folder
from cagdask.storage.s3_client import DIGEST, PART_BYTES
from cagdask.storage.s3_settings import setting

if TYPE_CHECKING:  # xarray and zarr take seconds to import, and most tasks need neither
    import zarr
    from zarr.abc.store import Store
    from zarr.core.array_spec import ArrayConfigParams

ID_CHUNK = 65_536
"""Names per chunk of an id array."""
_ALL_CHUNKS: ArrayConfigParams = {"write_empty_chunks": True}
_INLINE_DIGEST = 2**20  # bytes that are hashed in the event loop; more of them in a thread


# -- stores ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _store_classes() -> dict[str, Any]:
    """Zarr's stores, with the manifest in mind; made late, since importing Zarr takes a second."""
    from zarr.storage import FsspecStore, LocalStore, ObjectStore

    from cagdask.storage.s3_store import ClientStore

    _without_assertions()

    def checked(base: Any) -> Any:
        class Checked(base):  # type: ignore[misc]  # a base known at run time
            url: str = ""
            files: manifest.Files = {}  # noqa: RUF012  # replaced, never changed

            async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
                with files.errors_named(self.url):
                    found = await super().get(key, prototype, byte_range)
                said = self.files.get(key)
                if said is None:
                    return found
                if found is None:
                    manifest.refuse(self.url, [f"{key} is missing"])
                if byte_range is None:
                    if await _digest(found.as_buffer_like()) != said[1]:
                        manifest.refuse(self.url, [f"{key} is damaged"])
                return found

        Checked.__name__ = Checked.__qualname__ = f"Checked{base.__name__}"
        return Checked

    class CheckedObjectStore(_of_url(checked(ObjectStore))):  # type: ignore[misc]  # likewise
        async def set(self, key: str, value: Any) -> None:
            import obstore

            self._check_writable()
            data = value.as_buffer_like()
            attributes: Any = {DIGEST: await _digest(data)}  # so that nobody has to read it back for the manifest
            with files.errors_named(self.url):
                await obstore.put_async(self.store, key, data, chunk_size=PART_BYTES, attributes=attributes)

    class CheckedClientStore(_of_url(checked(ClientStore))):  # type: ignore[misc]  # likewise
        async def set(self, key: str, value: Any) -> None:
            self._check_writable()
            data = value.as_buffer_like()
            with files.errors_named(self.url):
                await asyncio.to_thread(self.client.put, key, data, digest=await _digest(data))

    on_s3 = {"obstore": CheckedObjectStore, "s3fs": CheckedClientStore}
    on_s3 |= {f"{name} in place": _in_place(base) for name, base in on_s3.items()}
    return on_s3 | {"file": checked(LocalStore), "fsspec": checked(FsspecStore)}


def _of_url(base: Any) -> Any:
    """A store on S3 that is pickled by its URL, since its client holds credentials."""

    class OfUrl(base):  # type: ignore[misc]  # a base known at run time
        def __reduce__(self) -> Any:
            return open_store, (self.url,), {"read_only": self.read_only}

        def __setstate__(self, state: dict[str, Any]) -> None:
            self._read_only = state["read_only"]

        def __repr__(self) -> str:
            return f"{type(self).__name__}({self.url!r})"

    return OfUrl


def _in_place(base: Any) -> Any:
    """The class of a new store on S3 in the making, of that of all others there."""

    class InPlaceStore(base):  # type: ignore[misc]  # a base known at run time
        """Metadata are in the work folder, chunks where they are to stay."""

        chunks: Any = None

        def with_read_only(self, read_only: bool = False) -> Any:
            return open_store(self.url, read_only=read_only)

        def _of(self, key: str) -> Any:
            return super() if key.endswith("zarr.json") else self.chunks

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            return await self._of(key).get(key, prototype, byte_range)

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
            return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

        async def set(self, key: str, value: Any) -> None:
            await self._of(key).set(key, value)

        async def exists(self, key: str) -> Any:
            return await self._of(key).exists(key)

        async def getsize(self, key: str) -> Any:
            return await self._of(key).getsize(key)

        async def delete(self, key: str) -> None:
            await self._of(key).delete(key)

        async def delete_dir(self, prefix: str) -> None:
            await super().delete_dir(prefix)
            await self.chunks.delete_dir(prefix)

    return InPlaceStore


def _without_assertions() -> None:
    """Let Zarr open groups where Python leaves assertions out: it takes an entry out of their metadata in one."""
    if not sys.flags.optimize:
        return
    from zarr.core.group import GroupMetadata

    usual: Any = GroupMetadata.from_dict

    def from_dict(data: dict[str, Any]) -> GroupMetadata:
        made: GroupMetadata = usual({name: value for name, value in data.items() if name != "node_type"})
        return made

    try:
        usual({"zarr_format": 3, "node_type": "group", "attributes": {}})
    except TypeError:
        mended: Any = staticmethod(from_dict)
        GroupMetadata.from_dict = mended  # type: ignore[method-assign]


async def _digest(data: Any) -> str:
    return _sha256(data) if len(data) <= _INLINE_DIGEST else await asyncio.to_thread(_sha256, data)


def _sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def open_store(url: str, *, read_only: bool = False) -> Store:
    """The Zarr store object of a path or URL; to read, where its manifest says that the store is."""
    files.check_protocol(url)
    classes = _store_classes()
    found = manifest.read(url) if read_only else None
    if found is not None and found.location is not None:
        url = join(work_folder(url), found.location)
    chunks = in_place(url)
    if chunks is not None:
        store = _store_on_s3(url, " in place", read_only)
        store.chunks = open_store(chunks)
    elif is_s3(url):
        store = _store_on_s3(url, "", read_only)
    elif is_remote(url):
        store = classes["fsspec"].from_url(url, read_only=read_only)
    else:
        store = classes["file"](local_path(url), read_only=read_only)
    store.url = url
    store.files = found.files if found is not None else {}
    if chunks is not None:
        store.chunks.files = store.files
    opened: Store = store
    return opened


def _store_on_s3(url: str, kind: str, read_only: bool) -> Any:
    client: Any = s3.client_at(url)
    backend = setting().backend
    base = client.store if backend == "obstore" else client
    return _store_classes()[backend + kind](base, read_only=read_only)


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
    import zarr

    store, mode = open_store(url, read_only=not writable), "r+" if writable else "r"
    array: zarr.Array[Any]
    try:
        array = zarr.open_array(store, path=name, mode=mode, zarr_format=3)  # the group is not read for it
    except FileNotFoundError:  # the group tells what is missing
        array = open_group(url, writable=writable)[name]  # type: ignore[assignment]  # it is no group
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
    with without_complaints():
        return dict(group.arrays())


@contextmanager
def without_complaints() -> Iterator[None]:
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
