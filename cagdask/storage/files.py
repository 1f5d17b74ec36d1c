"""Read, write, list and delete files and folders: local, on S3, or at any other URL through fsspec."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from cagdask.errors import StoreError
from cagdask.storage import s3, s3_errors
from cagdask.storage.paths import PROTOCOLS, in_place, is_remote, is_s3, local_path, scheme_of
from cagdask.storage.s3_client import PART_BYTES

_SPOOLED = 64 * 2**20
_RANGE_BYTES = 8 * 2**20
_TAIL_BYTES = 2**20


@contextmanager
def errors_named(url: str) -> Iterator[None]:
    """Turn what the S3 client raises into one line that names ``url``."""
    try:
        yield
    except Exception as err:
        if not s3.is_client_error(err):
            raise
        raise s3_errors.explain(err, url) from err


def check_protocol(url: str) -> None:
    """Refuse a URL of a scheme that is not known, or whose library is not installed.

    Raises
    ------
    StoreError
        It is neither a path nor a URL that can be opened.
    """
    scheme = scheme_of(url)
    if "::" in url or (scheme != "file" and scheme not in PROTOCOLS):
        raise StoreError(f"{url}: URLs of this kind are not opened. Use a path, or {', '.join(PROTOCOLS[:-1])}.")
    if scheme == "file" or is_s3(url):
        return
    import fsspec  # 0.1 s to import, and nothing at a local path or on S3 goes through it

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as err:
        raise StoreError(f"{url}: {scheme}:// needs another package ({err}).") from err


def check_reach(url: str) -> None:
    """Refuse a URL whose server does not answer or does not accept the credentials, before any work.

    Raises
    ------
    StoreError
        Says which, in one line.
    """
    check_protocol(url)
    if is_s3(url):
        s3_errors.probe(url)


def filesystem(url: str) -> tuple[Any, str]:
    """A file system as fsspec has them, for ``url``, and the path in it; of local paths and S3 the parts in use."""
    check_protocol(url)
    if is_s3(url):
        return _S3Files(), url
    if not is_remote(url):
        return _LocalFiles(), local_path(url)
    import fsspec

    fs, path = fsspec.core.url_to_fs(url)
    return fs, path


class _LocalFiles:
    """What :func:`filesystem` gives for a local path."""

    def open(self, path: str, mode: str = "rb") -> Any:
        """A plain file."""
        return open(path, mode)

    def du(self, path: str) -> int:
        """Bytes of a file, or of all below a folder."""
        return sum(list_files(path).values()) if os.path.isdir(path) else os.path.getsize(path)


class _S3Files:
    """The few functions of an fsspec file system that readers of large files use, on our own S3 client."""

    def open(self, url: str, mode: str = "rb") -> Any:
        """A seekable file that fetches ranges of a few MiB."""
        assert mode == "rb", mode
        return io.BufferedReader(_Ranges(url), _RANGE_BYTES)

    def cat_file(self, url: str, start: int | None = None, end: int | None = None) -> bytes:
        """All of an object, or a range of it."""
        return read_bytes(url) if end is None else read_range(url, start or 0, end)

    def du(self, url: str) -> int:
        """Bytes of an object, or of all below a prefix."""
        client, key = s3.bucket(url)
        with errors_named(url):
            found = client.head(key)
            return int(found["size"]) if found else sum(client.listing(key).values())

    def info(self, url: str) -> dict[str, Any]:
        """Size, tag and age of an object."""
        client, key = s3.bucket(url)
        with errors_named(url):
            found = client.head(key)
        if found is None:
            raise FileNotFoundError(url)
        return {"size": found["size"], "type": "file", "ETag": found["e_tag"]}

    def put_file(self, path: str, url: str) -> None:
        """Upload a file."""
        with open(path, "rb") as handle:
            _upload(url, handle)


class _Ranges(io.RawIOBase):
    """An S3 object as a raw file; of one opened by its tail the last MiB is here, and not asked for again."""

    def __init__(self, url: str, *, by_tail: bool = False) -> None:
        self._url = url
        self._tail = b""
        if by_tail:
            client, key = s3.bucket(url)
            with errors_named(url):
                self._tail, self._size = client.get_tail(key, _TAIL_BYTES)
        else:
            self._size = size_of(url)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        tail_at = self._size - len(self._tail)
        here = self._at >= tail_at
        data = self._tail[self._at - tail_at : end - tail_at] if here else read_range(self._url, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_by_tail(url: str) -> Any:
    """A remote file whose index is at its end: one of a MiB takes one request, a larger one another per MiB read."""
    if is_s3(url):
        return io.BufferedReader(_Ranges(url, by_tail=True), _TAIL_BYTES)
    fs, path = filesystem(url)
    return fs.open(path, "rb")


def exists(url: str) -> bool:
    """Whether a file or folder is there."""
    if is_s3(url):
        client, key = s3.bucket(url)
        with errors_named(url):
            return client.head(key) is not None or client.any_below(key)
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
    if is_s3(url):
        client, key = s3.bucket(url)
        assert key, "a whole bucket is never deleted"
        with errors_named(url):
            client.delete([f"{key}/{name}" for name in client.listing(key)] + [key])
        chunks = in_place(url)
        if chunks is not None:
            remove(chunks)
    elif is_remote(url):
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
        return int(fs.info(path)["size"])
    return os.path.getsize(local_path(url))


def list_files(url: str) -> dict[str, int]:
    """Sizes of all files of a folder, by their path in it with ``/``."""
    if is_s3(url):
        client, key = s3.bucket(url)
        with errors_named(url):
            found = client.listing(key)
        chunks = in_place(url)
        if chunks is not None:  # the metadata of an earlier try to publish it, there, is none of what is being made
            found |= {name: size for name, size in list_files(chunks).items() if not name.endswith("zarr.json")}
        return found
    if is_remote(url):
        fs, path = filesystem(url)
        found = fs.find(path, detail=True)
        return {name[len(path.rstrip("/")) + 1 :]: int(info["size"]) for name, info in found.items()}
    root = local_path(url)
    sizes = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            sizes[os.path.relpath(path, root).replace(os.sep, "/")] = os.path.getsize(path)
    return sizes


@contextmanager
def open_output(url: str) -> Iterator[BinaryIO]:
    """Open a binary file for writing. It appears at ``url`` only if the block ends without an error."""
    if is_s3(url):  # kept here until it is whole, so that an upload can be repeated
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED) as spooled:
            yield spooled  # type: ignore[misc]  # a BinaryIO in all but its stubs
            spooled.seek(0)
            _upload(url, spooled)
        return
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


def _upload(url: str, handle: Any) -> None:
    client, key = s3.bucket(url)
    with errors_named(url):
        n_bytes = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        client.put(key, handle.read() if n_bytes <= PART_BYTES else handle)


def write_bytes(url: str, data: bytes | memoryview) -> None:
    """Write a whole file: readers see the old one or the new one, never a part."""
    if is_s3(url):
        client, key = s3.bucket(url)
        with errors_named(url):
            client.put(key, bytes(data))
        return
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
    if is_s3(url):
        client, key = s3.bucket(url)
        with errors_named(url):
            found = client.get(key) if key else None
        if found is None:
            raise FileNotFoundError(url)
        return found[0]
    if is_remote(url):
        fs, path = filesystem(url)
        return bytes(fs.cat_file(path))
    with open(local_path(url), "rb") as handle:
        return handle.read()


def read_range(url: str, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` of a file."""
    if is_s3(url):
        client, key = s3.bucket(url)
        with errors_named(url):
            return client.get_range(key, start, end) if end > start else b""
    if is_remote(url):
        fs, path = filesystem(url)
        return bytes(fs.cat_file(path, start=start, end=end))
    with open(local_path(url), "rb") as handle:
        handle.seek(start)
        return handle.read(end - start)


def read_json(url: str) -> Any:
    """The content of a JSON file, or None where there is no file."""
    try:
        return json.loads(read_bytes(url))
    except FileNotFoundError:
        return None


def write_json(url: str, content: Any) -> None:
    """``content`` as JSON, at once or not at all."""
    write_bytes(url, json.dumps(content, indent=1, sort_keys=True).encode())
