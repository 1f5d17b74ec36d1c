"""The manifest of a store: its files, their sizes and digests.

    cohort.zarr/zarr.json
                abundance/c/0/0 ...
                manifest/zarr.json      written last: {"files": {"abundance/c/0/0": [size, sha256], ...}}

Zarr reads a missing chunk as zeros, and zero is a valid abundance. The manifest makes a lost chunk an error: a file
that is missing or has another size is named, and a file that is read whole is compared with its digest. On an object
store, a store without a manifest was never published. The manifest is written as an empty Zarr group, so that other
programs can read the store.

On an object store it is also the switch of a publication: see :mod:`cagdask.storage.publication`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cagdask.errors import StoreError
from cagdask.storage import files, s3
from cagdask.storage.paths import is_s3, join

NAME = "manifest/zarr.json"
_THREADS = 8
_NAMED = 3  # damaged files that a message names; the others are counted
_BLOCK = 8 * 2**20

Files = dict[str, tuple[int, str]]
"""Size and SHA-256 of each file, by its path in the store."""


@dataclass(frozen=True)
class Manifest:
    """What a store consists of.

    Attributes
    ----------
    files
        Size and digest of each.
    location
        Where they are, relative to the work folder of the store, while a publication is under way; None: in the store.
    tag
        Of the object that was read, for a conditional put; None for a file.
    """

    files: Files
    location: str | None = None
    tag: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which is one of all that the store holds."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The JSON to write; the same for the same store."""
        said: dict[str, Any] = {"files": {name: list(self.files[name]) for name in sorted(self.files)}}
        if self.location is not None:
            said["location"] = self.location
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"cagdask_manifest": said}}
        return json.dumps(group, sort_keys=True, separators=(",", ":")).encode()


def read(store: str) -> Manifest | None:
    """The manifest of a store, or None.

    Raises
    ------
    StoreError
        There is one that can not be understood.
    """
    url, tag = join(store, NAME), None
    if is_s3(store):
        client, key = s3.bucket(url)
        with files.errors_named(store):
            found = client.get(key)
        if found is None:
            return None
        data, tag = found
    else:
        try:
            data = files.read_bytes(url)
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        said = json.loads(data)["attributes"]["cagdask_manifest"]
        listed = {str(name): (int(size), str(digest)) for name, (size, digest) in said["files"].items()}
        location = said.get("location")
        if location is not None and (not isinstance(location, str) or ".." in location.split("/")):
            raise ValueError(location)
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise StoreError(f"{store}: its manifest is damaged ({NAME}). Make the store again.") from err
    return Manifest(listed, location, tag)


def published(store: str) -> str | None:
    """Digest of a store that is published, from its manifest; None while it is not, or where it has none."""
    try:
        found = read(store)
    except StoreError:
        return None
    if found is None or found.location is not None or not files.exists(join(store, "zarr.json")):
        return None  # a copy in the making has its manifest before its root, which is copied last
    return found.digest


def make(store: str) -> Manifest:
    """The manifest of a store that is complete; every file is read once, unless its writer noted the digest."""
    names = [name for name in files.list_files(store) if name != NAME]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _sent(join(store, name)) or _look(join(store, name)), names)
        return Manifest(dict(zip(names, found, strict=True)))


def _sent(url: str) -> tuple[int, str] | None:
    """Size and digest of an object on S3 as its writer noted them, if it did."""
    if not is_s3(url):
        return None
    client, key = s3.bucket(url)
    with files.errors_named(url):
        return client.digest_sent(key)


def _look(url: str) -> tuple[int, str]:
    """Size and digest of a file."""
    if is_s3(url):
        data = files.read_bytes(url)
        return len(data), hashlib.sha256(data).hexdigest()
    digest, n_bytes = hashlib.sha256(), 0
    fs, path = files.filesystem(url)
    with fs.open(path, "rb") as handle:
        while data := handle.read(_BLOCK):
            digest.update(data)
            n_bytes += len(data)
    return n_bytes, digest.hexdigest()


def problems(store: str, manifest: Manifest, *, digests: bool = False) -> list[str]:
    """Files of a store that are missing, of another length or, with ``digests``, of other content."""
    there = files.list_files(store)
    wrong = [f"{name} is missing" for name in sorted(manifest.files) if name not in there]
    same = [name for name in sorted(manifest.files) if there.get(name) == manifest.files[name][0]]
    sizes = sorted(set(manifest.files) - set(same) & set(there))
    wrong += [
        f"{name} has {there[name]:,} bytes instead of {manifest.files[name][0]:,}" for name in sizes if name in there
    ]
    if digests:
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(lambda name: _look(join(store, name)), same)
            wrong += [
                f"{name} is damaged" for name, one in zip(same, found, strict=True) if one != manifest.files[name]
            ]
    return wrong


def refuse(store: str, wrong: Iterable[str]) -> None:
    """Raise if anything is wrong with a store."""
    said = list(wrong)
    if said:
        raise damaged(store, said)


def damaged(store: str, said: list[str]) -> StoreError:
    """The error for what :func:`problems` found."""
    more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return StoreError(
        f"{store}: {', '.join(said[:_NAMED])}{more}. The store is damaged: copy it again from where it is whole, or "
        "run the command that made it again with `overwrite=True`."
    )
