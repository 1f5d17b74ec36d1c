"""The sample sheet: a JSON object that names the file of each sample.

    {"SAMPLE_1": "sample_1.json.gz",  "SAMPLE_2": "s3://bucket/sample_2.json"}

A relative path is looked up beside the sheet, then in the working directory. A sheet that lies on a server may name
what is on that server, in that bucket: whoever can write it must not thereby choose files of this machine, or servers
that this machine alone can reach. Everything that can be wrong with a sheet is found here, in the driver, before any
sample is opened: files are asked for their size and age, not read.
"""

from __future__ import annotations

import errno
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cagdask import storage
from cagdask.errors import InputError, StoreError

GZIP_MAGIC = b"\x1f\x8b"
_NAMED = 3  # missing files that a message names; the others are counted
_STAT_THREADS = 16
_GUNZIP_BYTES = 4 * 2**20
MAX_SHEET_BYTES = 256 * 2**20
"""Largest sheet that is read, decompressed: a line for each of two million samples."""
ALLOW_ELSEWHERE = "CAGDASK_ALLOW_ELSEWHERE"
"""Environment variable that lets a sheet on a server name files elsewhere."""


@dataclass(frozen=True)
class SampleFile:
    """One row of a sheet.

    Attributes
    ----------
    sample
        Name of the sample.
    url
        Absolute path or URL of its file.
    size
        Bytes of the file, compressed as it lies there.
    modified
        When it was last changed, in whatever words its file system has; a resumed ingest reads a changed file again.
    """

    sample: str
    url: str
    size: int
    modified: str


def read_sheet(url: str) -> list[SampleFile]:
    """Read and check a sample sheet.

    Parameters
    ----------
    url
        Path or URL of the sheet, gzipped or not.

    Returns
    -------
    list of SampleFile
        In the order of the sheet. Every file is there.

    Raises
    ------
    InputError
        The sheet is missing, not JSON, cut off, not an object or empty; a sample occurs twice or has no name; a path is
        not text; a sample's file is missing.

    Notes
    -----
    One request per sample for its size, several at a time.
    """
    url = storage.absolute(url)
    return locate_all(url, _parse(url, read_plain(url, "sample sheet", MAX_SHEET_BYTES)))


def locate_all(url: str, rows: list[tuple[str, str]]) -> list[SampleFile]:
    """Check names and paths of samples, and find their files.

    Parameters
    ----------
    url
        The sheet, or the folder, that lists them.
    rows
        Sample and path of each.

    Raises
    ------
    InputError
        A name is empty or occurs twice, a path leads where a sheet must not lead, a file is missing.
    """
    _check_samples(url, rows)
    for sample, path in rows:
        _check_place(url, sample, path)
    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        found = list(pool.map(lambda row: _locate(url, *row), rows))
    missing = [row for row, file in zip(rows, found, strict=True) if file is None]
    if missing:
        named = ", ".join(f"{sample[:200]} ({path[:200]})" for sample, path in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise InputError(
            f"{url}: {len(missing)} of {len(rows)} sample files are missing: {named}{more}. Relative paths are looked "
            f"up in {_looked_up(url)}. Correct the paths, or put the files there."
        )
    return [file for file in found if file]


def _looked_up(sheet: str) -> str:
    beside = storage.parent_of(sheet)
    return beside if storage.is_remote(sheet) else f"{beside}, then in {os.getcwd()}"


def read_plain(url: str, what: str, limit: int | None = None) -> bytes:
    """Content of a file, decompressed if it begins like a gzip file, whatever its name.

    Raises
    ------
    InputError
        It is missing, not readable, empty, its gzip data are damaged, or it is longer than ``limit`` bytes.
    """
    try:
        too_long = limit is not None and storage.size_of(url) > limit
        data = b"" if too_long else storage.read_bytes(url)
    except FileNotFoundError as err:
        raise InputError(f"{url}: no such {what}. Check the path.") from err
    except (IsADirectoryError, PermissionError) as err:
        raise InputError(f"{url}: can not be read as a {what} ({err.strerror}). Name a readable file.") from err
    data = gunzip(url, data, limit)
    if too_long or (limit is not None and len(data) > limit):
        raise InputError(f"{url}: this {what} has more than {limit:,} bytes. Check that it is one.")
    if not data.strip():
        raise InputError(f"{url}: this {what} is empty. Write the file again.")
    return data.removeprefix(b"\xef\xbb\xbf")


def gunzip(url: str, data: bytes, limit: int | None = None) -> bytes:
    """Gzip data (of one or more members) decompressed; anything else as it is.

    Stops soon after ``limit`` bytes: what comes back is longer than that, and not complete.

    Raises
    ------
    InputError
        The gzip data are damaged or cut off.
    """
    if not data.startswith(GZIP_MAGIC):
        return data
    from isal import igzip, isal_zlib

    blocks, n_bytes = [], 0
    try:
        with igzip.open(io.BytesIO(data), "rb") as plain:  # type: ignore[no-untyped-call]  # isal has no types
            while block := plain.read(_GUNZIP_BYTES):
                blocks.append(block)
                n_bytes += len(block)
                if limit is not None and n_bytes > limit:
                    break
    except (isal_zlib.error, EOFError, OSError) as err:  # type: ignore[misc]  # isal has no types
        raise InputError(f"{url}: the gzip data are damaged or cut off ({err}). Copy or write the file again.") from err
    return b"".join(blocks)


def json_problem(url: str, data: bytes) -> InputError:
    """Say why ``data`` are not JSON: cut off, not UTF-8, or wrong at which line and column."""
    try:
        json.loads(data)
    except UnicodeDecodeError as err:
        return InputError(f"{url}: is not UTF-8 text (byte {err.start:,}). Write the file again as UTF-8.")
    except json.JSONDecodeError as err:
        if err.pos >= len(err.doc.rstrip()) or err.msg.startswith("Unterminated string"):
            return InputError(f"{url}: the JSON is cut off after {len(data):,} bytes. Copy or write the file again.")
        return InputError(f"{url}: is not JSON ({err.msg}, line {err.lineno}, column {err.colno}). Correct the file.")
    except RecursionError:
        pass
    return InputError(f"{url}: is JSON that can not be used here. Correct the file.")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys in order, repeated ones included."""


def _parse(url: str, data: bytes) -> list[tuple[str, str]]:
    if data.lstrip().startswith(b"["):
        raise InputError(f"{url}: holds a JSON list, so it is a sample's own file, or no sheet. {_sheet_for(url)}")
    try:
        content = json.loads(data, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as err:
        raise json_problem(url, data) from err
    if not isinstance(content, _Pairs):
        raise InputError(f"{url}: a sample sheet is a JSON object, this is {describe(content)}. {_sheet_for(url)}")
    if not content:
        raise InputError(f'{url}: the sample sheet names no samples. Write it as {{"SAMPLE": "file.json.gz", …}}.')
    for sample, path in content:
        if isinstance(path, list) and not isinstance(path, _Pairs):
            raise InputError(
                f"{url}: {sample!r} is a list, so this is a sample's own file, not a sheet. {_sheet_for(url)}"
            )
    return list(content)


def _check_samples(url: str, rows: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for sample, path in rows:
        if not sample.strip():
            raise InputError(f"{url}: a sample (file {path!r}) has an empty name. Give it one.")
        if not _is_text(sample) or (isinstance(path, str) and not _is_text(path)):
            raise InputError(
                f"{url}: sample {sample!r}, file {path!r}: contains an unpaired surrogate, half of a character. "
                "Correct the sheet."
            )
        if sample in seen:
            raise InputError(f"{url}: sample {sample!r} occurs twice. Give each sample its own name.")
        if not isinstance(path, str) or not path.strip():
            raise InputError(f"{url}: sample {sample!r}: the path is {describe(path)}, it must be text. Name its file.")
        seen.add(sample)


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8: JSON can hold halves of surrogate pairs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sheet_for(url: str) -> str:
    return f'Write a sheet such as {{"SAMPLE": "{storage.name_of(url)}"}} into another file and name that one.'


def describe(value: Any) -> str:
    """A JSON value and its type in a few words, for messages."""
    if isinstance(value, _Pairs | dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, str):
        return f"the text {value[:60]!r}" if value else "empty text"
    return f"the number {value!r}"


def _check_place(sheet: str, sample: str, path: str) -> None:
    """Refuse a path that leads where a sheet must not lead.

    Raises
    ------
    InputError
        Names the sample, the path, and what is allowed.
    """
    if "\0" in path or "\n" in path:
        raise InputError(f"{sheet}: sample {sample!r}: the path {path[:200]!r} is none. Correct the sheet.")
    try:
        storage.check_protocol(path)
    except StoreError as err:
        raise InputError(f"{sheet}: sample {sample!r}: {err}") from err
    if not storage.is_remote(sheet) or os.environ.get(ALLOW_ELSEWHERE) == "1":
        return
    root = "/".join(sheet.split("/", 3)[:3])
    whole = path if "://" in path else storage.join(storage.parent_of(sheet), path)
    is_path = storage.scheme_of(path) == "file"
    inside = whole.startswith(f"{root}/") and not (is_path and (path.startswith(("/", "~", "file:"))))
    if not inside or ".." in whole.split("/"):
        raise InputError(
            f"{sheet}: sample {sample!r}: {path[:200]!r} is not in {root}, where this sheet lies. Name files there, "
            f"copy the sheet to this machine, or set {ALLOW_ELSEWHERE}=1 if you trust it."
        )


def _locate(sheet: str, sample: str, path: str) -> SampleFile | None:
    if storage.is_remote(path) or os.path.isabs(os.path.expanduser(storage.local_path(path))):
        candidates = [storage.absolute(path)]
    elif storage.is_remote(sheet):
        candidates = [storage.join(storage.parent_of(sheet), path)]
    else:
        candidates = [storage.join(storage.parent_of(sheet), path), storage.absolute(path)]
    for url in candidates:
        found = stat(url)
        if found:
            return SampleFile(sample, url, *found)
    return None


def stat(url: str) -> tuple[int, str] | None:
    """Size in bytes and a word for the age of a file; None where there is no such file."""
    if not storage.is_remote(url):
        try:
            entry = os.stat(storage.local_path(url))
        except OSError as err:
            if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
                return None
            raise
        return None if os.path.isdir(storage.local_path(url)) else (entry.st_size, str(entry.st_mtime_ns))
    fs, path = storage.filesystem(url)
    try:
        info = fs.info(path)
    except FileNotFoundError:
        return None
    if info.get("type") == "directory":
        return None
    changed = next((info[key] for key in ("ETag", "LastModified", "mtime", "created") if info.get(key)), "")
    return int(info["size"] or 0), str(changed)
