"""Paths and URLs as text: joining, splitting, making absolute. Nothing here opens a file."""

from __future__ import annotations

import os
import posixpath
import re

from cagdask.errors import StoreError

S3 = ("s3", "s3a")
PROTOCOLS = (*S3, "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https", "memory")
"""Schemes of remote URLs that are opened; those but S3 need their fsspec library."""


def scheme_of(url: str) -> str:
    """Scheme of a URL; ``"file"`` for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return found[1].lower() if found else "file"


def is_remote(url: str) -> bool:
    """Whether ``url`` names something other than a local path."""
    return "://" in url and not url.startswith("file://")


def is_s3(url: str) -> bool:
    """Whether ``url`` is an S3 object or prefix."""
    return scheme_of(url) in S3


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


def work_folder(target: str) -> str:
    """Where unfinished work for ``target`` lies."""
    return target.rstrip("/") + ".work"


IN_PLACE = "in-place"
"""Folder, in the work folder of a new store on S3, of the metadata; its chunks lie where they are to stay."""


def in_place(url: str) -> str | None:
    """Where the chunks of a store in the making lie, or one of them, if that is not where ``url`` says.

    Examples
    --------
    >>> in_place("s3://bucket/a.zarr.work/in-place/abundance/c/0/0")
    's3://bucket/a.zarr/abundance/c/0/0'
    >>> in_place("s3://bucket/a.zarr.work/in-place/abundance/zarr.json") is None
    True
    """
    target, found, name = url.partition(f".work/{IN_PLACE}")
    if not found or not is_s3(url) or name.endswith("zarr.json") or name[:1] not in ("", "/"):
        return None
    return target + name.rstrip("/")


def absolute(url: str) -> str:
    """``url`` as any process on this machine can use it: local paths made absolute."""
    return url if is_remote(url) else os.path.abspath(os.path.expanduser(local_path(url)))


def split_s3(url: str) -> tuple[str, str]:
    """Bucket and key of an S3 URL; the key has no slash at its ends.

    Raises
    ------
    StoreError
        There is no bucket, or a part of the key is empty or made of dots.
    """
    bucket, _, key = url.split("://", 1)[1].partition("/")
    key = key.strip("/")
    if not bucket:
        raise StoreError(f"{url}: this S3 URL has no bucket. Write it as s3://bucket/key.")
    if key and {"", ".", ".."} & set(key.split("/")):
        raise StoreError(f"{url}: a part of this S3 key is empty, . or .. Write it as s3://bucket/key/more.")
    return bucket, key
