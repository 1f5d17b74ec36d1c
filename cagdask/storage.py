"""Where things lie: a local path or any fsspec URL (``s3://…``), the same everywhere.

A target is complete or absent. Whatever takes time is written beside it, under ``TARGET.work``, and moved into place at
the very end:

    cohort.zarr.work/recipe.json    what is being made: a resumed run must ask for the same
                     done/…         one small JSON per finished task
                     …              files that tasks hand to each other
                     store/         the Zarr group, complete before it is moved
    cohort.zarr                     appears last; what it replaces is there until then

A move is one rename on a local disk. Object stores have none: there the members are copied first and the group's own
``zarr.json``, without which nothing opens, last.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import fsspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cagdask import schema
from cagdask.errors import ResumeError, SchemaError, StoreError

if TYPE_CHECKING:  # xarray and zarr take seconds to import, and most tasks need neither
    import xarray as xr
    import zarr
    from zarr.storage import FsspecStore, LocalStore

logger = logging.getLogger(__name__)

ID_CHUNK = 65_536
"""Names per chunk of an id array."""


def is_remote(url: str) -> bool:
    """Whether ``url`` names something other than a local path."""
    return "://" in url and not url.startswith("file://")


def local_path(url: str) -> str:
    """The plain path of a local ``url``."""
    return url.removeprefix("file://")


def join(url: str, *parts: str) -> str:
    """``parts`` below ``url``."""
    return posixpath.join(url.rstrip("/") or "/", *parts)


def name_of(url: str) -> str:
    """Last part of a path or URL."""
    return posixpath.basename(url.rstrip("/"))


def parent_of(url: str) -> str:
    """The folder that holds ``url``; ``"."`` for a bare name."""
    return posixpath.dirname(url.rstrip("/")) or "."


def absolute(url: str) -> str:
    """``url`` as any process on this machine can use it: local paths made absolute."""
    return url if is_remote(url) else os.path.abspath(os.path.expanduser(local_path(url)))


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of ``url`` and the path in it."""
    fs, path = fsspec.core.url_to_fs(url)
    return fs, path


def exists(url: str) -> bool:
    """Whether a file or folder is there."""
    if is_remote(url):
        fs, path = filesystem(url)
        return bool(fs.exists(path))
    return os.path.exists(local_path(url))


def make_folder(url: str) -> None:
    """Make a folder and its parents; object stores need none."""
    if not is_remote(url):
        os.makedirs(local_path(url), exist_ok=True)


def remove(url: str) -> None:
    """Delete a file or a whole folder; what is not there is no error."""
    if is_remote(url):
        fs, path = filesystem(url)
        if fs.exists(path):
            fs.rm(path, recursive=True)
    elif os.path.isdir(local_path(url)):
        shutil.rmtree(local_path(url))
    elif os.path.exists(local_path(url)):
        os.remove(local_path(url))


def size_of(url: str) -> int:
    """Bytes of a file."""
    if is_remote(url):
        fs, path = filesystem(url)
        return int(fs.size(path))
    return os.path.getsize(local_path(url))


@contextmanager
def open_output(url: str) -> Iterator[BinaryIO]:
    """A binary file to write that appears at ``url`` when the block ends well, and not at all when it does not."""
    if is_remote(url):
        fs, path = filesystem(url)
        with fs.open(path, "wb") as handle:
            try:
                yield handle
            except BaseException:
                handle.discard()
                raise
        return
    path = local_path(url)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as handle:
            yield handle
        os.replace(partial, path)
    except BaseException:
        remove(partial)
        raise


def write_bytes(url: str, data: bytes | memoryview) -> None:
    """Write a whole file: readers see the old one or the new one, never a part."""
    if is_remote(url):
        fs, path = filesystem(url)
        fs.pipe_file(path, bytes(data))
        return
    with open_output(url) as handle:
        handle.write(data)


def read_bytes(url: str) -> bytes:
    """The whole file.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    if is_remote(url):
        fs, path = filesystem(url)
        return bytes(fs.cat_file(path))
    with open(local_path(url), "rb") as handle:
        return handle.read()


def read_json(url: str) -> Any:
    """The content of a JSON file, or None where there is no file."""
    try:
        return json.loads(read_bytes(url))
    except FileNotFoundError:
        return None


def write_json(url: str, content: Any) -> None:
    """``content`` as JSON, at once or not at all."""
    write_bytes(url, json.dumps(content, indent=1, sort_keys=True).encode())


# -- targets ---------------------------------------------------------------------------------------------------------


def check_target(url: str, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a target that can not be written or must not be replaced.

    Raises
    ------
    StoreError
        Its folder is missing or not writable, or it is there and ``overwrite`` is false.
    """
    if not is_remote(url):
        parent = parent_of(absolute(url))
        if not os.path.isdir(parent):
            raise StoreError(f"{url}: the folder {parent} does not exist. Make it first, or name another target.")
        if not os.access(parent, os.W_OK):
            raise StoreError(f"{url}: the folder {parent} is not writable. Name another target.")
    if exists(url) and not overwrite:
        raise StoreError(f"{url}: is already there. Add --overwrite to replace it, or name another target.")


def work_folder(target: str) -> str:
    """Where unfinished work for ``target`` lies."""
    return target.rstrip("/") + ".work"


def begin_work(target: str, recipe: dict[str, Any], *, overwrite: bool = False) -> tuple[str, dict[str, Any]]:
    """Start or resume work for a target.

    Parameters
    ----------
    target
        What is to be made.
    recipe
        What determines it, as JSON. The entry ``plan``, if any, may differ from one try to the next: the plan of the
        first try is kept, since its finished tasks belong to it.
    overwrite
        Throw away unfinished work of another recipe.

    Returns
    -------
    folder, plan
        The work folder, and the plan to follow.

    Raises
    ------
    ResumeError
        Work of another recipe is there.
    """
    folder = work_folder(target)
    plan = recipe.get("plan", {})
    found = read_json(join(folder, "recipe.json")) if exists(folder) else None
    wanted = json.loads(json.dumps({key: value for key, value in recipe.items() if key != "plan"}))
    if found is not None:
        kept = found.pop("plan", {})
        if found == wanted:
            logger.info("%s: going on with the work found in %s", target, folder)
            return folder, kept
        if not overwrite:
            differs = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise ResumeError(
                f"{folder}: holds unfinished work that differs in {', '.join(differs)}. Run the earlier command again "
                "to finish it, or add --overwrite to throw it away."
            )
    remove(folder)
    make_folder(folder)
    write_json(join(folder, "recipe.json"), wanted | {"plan": plan})
    return folder, plan


def publish(staged: str, target: str) -> None:
    """Move a finished file or folder into place; what it replaces is there until then."""
    if is_remote(target):
        _publish_remote(staged, target)
        return
    staged, target = local_path(staged), local_path(target)
    if os.path.isfile(staged) and not os.path.isdir(target):
        os.replace(staged, target)
        return
    replaced = f"{staged}.replaced"
    remove(replaced)
    if os.path.exists(target):
        os.rename(target, replaced)
    try:
        os.rename(staged, target)
    except OSError:
        if os.path.exists(replaced):
            os.rename(replaced, target)
        raise
    remove(replaced)


def _publish_remote(staged: str, target: str) -> None:
    fs, source = filesystem(staged)
    _, goal = filesystem(target)
    if not fs.isdir(source):
        fs.mv(source, goal)
        return
    remove(target)
    members = sorted(fs.find(source), key=lambda path: path == f"{source}/zarr.json")
    for path in members:
        fs.copy(path, goal + path[len(source) :])
    fs.rm(source, recursive=True)


def end_work(target: str) -> None:
    """Throw away what the work for a finished target left; first what would let a later try rely on it."""
    remove(join(work_folder(target), "recipe.json"))
    remove(work_folder(target))


# -- Zarr ------------------------------------------------------------------------------------------------------------


def open_store(url: str, *, read_only: bool = False) -> LocalStore | FsspecStore:
    """The Zarr store object of a path or URL."""
    from zarr.storage import FsspecStore, LocalStore

    if is_remote(url):
        return FsspecStore.from_url(url, read_only=read_only)
    return LocalStore(local_path(url), read_only=read_only)


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
    return array


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

    zstd without shuffle: on sparse profiles it is half the size and twice the speed of Blosc with shuffle.
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
        compressors=ZstdCodec(level=1),
        dimension_names=dims or (row.dims if row else None),
        attributes=attrs if attrs is not None else schema.attributes(name) if row else {},
        overwrite=True,
    )


def write_array(group: zarr.Group, name: str, values: NDArray[Any], **options: Any) -> None:
    """A whole small array, in one go; text goes in blocks of :data:`ID_CHUNK` names."""
    is_text = values.dtype.kind in "OUT"
    rows = ID_CHUNK if values.ndim == 1 else max(1, 2**22 // max(1, int(np.prod(values.shape[1:])) * values.itemsize))
    chunks = options.pop("chunks", (rows, *values.shape[1:]))
    stored = {"dtype": str if is_text else values.dtype} if name not in schema.VARIABLES else {}
    array = create_array(group, name, values.shape, chunks=chunks, **(stored | options))
    array[...] = values.astype(np.dtypes.StringDType()) if is_text else values


def finish_group(group: zarr.Group) -> None:
    """Tell xarray which variables are coordinates. Call once all arrays are there."""
    found: dict[str, Any] = dict(group.arrays())
    names = sorted(found)
    coordinates = [n for n in names if n in schema.VARIABLES and schema.VARIABLES[n].coordinate]
    coordinates += [n for n in names if n.startswith("sample_") and n not in coordinates]
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
    if not exists(url):
        if exists(work_folder(url)):
            raise StoreError(f"{url}: is unfinished. Run the command that makes it again; it goes on where it stopped.")
        raise StoreError(f"{url}: no such store.")
    try:
        group = open_group(url)
    except (FileNotFoundError, ValueError, KeyError) as err:
        raise SchemaError(
            f"{url}: is not a Zarr v3 group. Ingest the data first: cagdask ingest INPUT --store URL."
        ) from err
    if "schema_version" not in group.attrs:
        raise SchemaError(f"{url}: is a Zarr group that cagdask did not write (it has no schema_version).")
    ds: xr.Dataset = xr.open_zarr(open_store(url, read_only=True), consolidated=False, chunks={})
    schema.validate(ds, where=url)
    if chunks is None:
        chunks = _whole_shards(ds)
    ds = ds.chunk(chunks) if chunks else ds
    ds.encoding["source"] = url
    return ds


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
    """
    url = absolute(url)
    check_target(url, overwrite=overwrite)
    folder, _ = begin_work(url, {"command": "save_dataset"}, overwrite=True)
    staged = join(folder, "store")
    attrs = {"schema_version": schema.SCHEMA_VERSION, "kind": "abundance"} | ds.attrs
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
