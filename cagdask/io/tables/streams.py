"""What the bytes of a file are, whatever it is called: unpacked, recoded, and named by its content.

    file --gzip, bzip2, xz, zstd, a zip of one file--> plain bytes --first of them--> "text", "parquet", "hdf5", …

Text in UTF-16 comes out as UTF-8. Binary files that were compressed are unpacked to a file without a name first, since
their readers jump.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import errno
import glob
import io
import lzma
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa

from cagdask import storage
from cagdask.errors import InputError

HEAD_BYTES = 2**16
MAX_LAYERS = 3
MAX_UNPACKED = 2**36
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
)
_BINARY = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "feather"),
    (b"FEA1", "feather 1"),
    (b"\xff\xff\xff\xff", "arrow stream"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "npy"),
    (b"%%MatrixMarket", "matrix market"),
)
_REFUSED = (
    (b"\xd0\xcf\x11\xe0", "an Excel file of before 2007. Save it as .xlsx or as text"),
    (b"%PDF", "a PDF. Name a table"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive. Unpack it, and name the table"),
    (b"Rar!", "a RAR archive. Unpack it, and name the table"),
    (b"version https://git-lfs", "a pointer of Git LFS to a file. Fetch the file itself with git lfs pull"),
    (b"<!DOCTYPE", "a web page. Download the file itself"),
    (b"<!doctype", "a web page. Download the file itself"),
    (b"<html", "a web page. Download the file itself"),
    (b"RDX", "R data. Write the table with write.table or arrow::write_feather"),
)
_RECODED = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@contextmanager
def damage_named(url: str, what: str) -> Iterator[None]:
    """What shows that a file is damaged is an InputError.

    Raises
    ------
    InputError
        While the block runs: the file is damaged, or not ``what`` it should be.
    """
    from isal import isal_zlib

    try:
        yield
    except isal_zlib.error as err:  # type: ignore[misc]  # isal has no types
        raise InputError(f"{url}: the gzip data are damaged or cut off ({err}). Write the file again.") from err
    except (
        pa.ArrowException, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeError, csv.Error,
        NotImplementedError,
    ) as err:  # fmt: skip
        raise InputError(f"{url}: can not be read as {what} ({_first_line(err)}). Write the file again.") from err
    except MemoryError as err:
        raise InputError(
            f"{url}: asks for more memory than there is, as a damaged file does. Write the file again, or use workers "
            "with more memory (`memory_limit`)."
        ) from err
    except OSError as err:  # Arrow, gzip and HDF5 say damaged files so, too; and an archive may point before its start
        if err.errno not in (None, errno.EINVAL):
            raise
        raise InputError(f"{url}: can not be read as {what} ({_first_line(err)}). Write the file again.") from err


def _first_line(err: BaseException) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0][:200] or type(err).__name__


@contextmanager
def open_plain(url: str) -> Iterator[tuple[str, Any]]:
    """A file's plain bytes from the start, and what they are: ``text``, ``json`` or the name of a format.

    Raises
    ------
    InputError
        It is damaged, an archive of several files, or of a kind that is never read.
    """
    fs, path = storage.filesystem(url)
    with ExitStack() as stack:
        raw = stack.enter_context(fs.open(path, "rb"))
        plain, packed, is_sheet = _unpacked(url, raw, stack)
        if is_sheet:
            yield is_sheet, plain
            return
        start = _peek(plain, HEAD_BYTES)
        kind = _kind(url, start)
        if kind in ("text", "json", "matrix market"):
            yield kind, _recoded(plain, start, lone_returns=kind == "text" and b"\r" in start and b"\n" not in start)
            return
        yield kind, stack.enter_context(_spooled(url, plain)) if packed else plain


def _unpacked(url: str, raw: Any, stack: ExitStack) -> tuple[Any, bool, str]:
    """The stream below all compression, whether there was any, and ``xlsx`` or ``npz`` for zips that stay zipped."""
    from isal import igzip

    plain, packed = raw, False
    for _ in range(MAX_LAYERS + 1):
        layer = next((name for magic, name in _MAGIC if _peek(plain, 8).startswith(magic)), None)
        if layer is None:
            return plain, packed, ""
        packed = True
        if layer == "gzip":
            plain = stack.enter_context(igzip.open(plain, "rb"))  # type: ignore[no-untyped-call]  # isal has no types
        elif layer == "bzip2":
            plain = stack.enter_context(bz2.open(plain, "rb"))
        elif layer == "xz":
            plain = stack.enter_context(lzma.open(plain, "rb"))
        elif layer == "zstd":
            unpacking = pa.CompressedInputStream(pa.PythonFile(plain, "r"), "zstd")
            plain = stack.enter_context(_spooled(url, unpacking))
        else:
            if not plain.seekable():
                plain = stack.enter_context(_spooled(url, plain))
            archive = stack.enter_context(zipfile.ZipFile(plain))
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if "xl/workbook.xml" in names or all(name.endswith(".npy") for name in names):
                plain.seek(0)
                return plain, packed, "xlsx" if "xl/workbook.xml" in names else "npz"
            if len(names) != 1:
                listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
                raise InputError(
                    f"{url}: is a zip of {len(names)} files ({listed}). Unpack it, and name the table among them."
                )
            if archive.getinfo(names[0]).flag_bits & 1:
                raise InputError(f"{url}: is a zip that needs a password. Unpack it, and name the table.")
            plain = stack.enter_context(archive.open(names[0]))
    raise InputError(f"{url}: is compressed more than {MAX_LAYERS} times. Unpack it once or twice.")


def _peek(stream: Any, n: int) -> bytes:
    data = b""
    while len(data) < n:
        more = stream.read(n - len(data))
        if not more:
            break
        data += more
    stream.seek(0)
    return data


@contextmanager
def _spooled(url: str, stream: Any) -> Iterator[Any]:
    """A stream copied to a file without a name, for readers that jump."""
    with tempfile.TemporaryFile() as file:
        while block := stream.read(2**22):
            file.write(block)
            if file.tell() > MAX_UNPACKED:
                raise InputError(f"{url}: unpacks to more than {MAX_UNPACKED:,} bytes. Check the file.")
        file.seek(0)
        yield file


def _kind(url: str, start: bytes) -> str:
    for magic, what in _REFUSED:
        if start.startswith(magic):
            raise InputError(f"{url}: is {what}.")
    found = next((name for magic, name in _BINARY if start.startswith(magic)), None)
    if found:
        return found
    if any(start.startswith(bom) for bom, _ in _RECODED) or _utf16_without_mark(start):
        return "json" if _text_of(start).lstrip()[:1] in ("{", "[") else "text"
    if b"\0" in start[:4096]:
        return "binary"
    return "json" if start.lstrip()[:1] in (b"{", b"[") else "text"


ACCEPTED = (
    "Read are text tables, Parquet, Feather, BIOM, h5ad, 10x, loom, geneshot HDF5, GCT, xlsx, Zarr, and sheets of "
    "samples (each also compressed)."
)


def _encoding(start: bytes) -> tuple[str, int]:
    """Encoding of text, and the bytes of its mark."""
    for bom, name in _RECODED:
        if start.startswith(bom):
            return name, len(bom)
    return (_utf16_without_mark(start) or "utf-8"), 0


def _utf16_without_mark(start: bytes) -> str | None:
    some = start[:200]
    if len(some) < 4 or b"\0" not in some:
        return None
    even, odd = some[::2], some[1::2]
    if odd.count(0) > 0.7 * len(odd) and not even.count(0):
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > 0.7 * len(even) and not odd.count(0) else None


def _text_of(start: bytes) -> str:
    name, skip = _encoding(start)
    return start[skip:].decode(name, "ignore")


class _Utf8(io.RawIOBase):
    """Text of another encoding, or with carriage returns alone between its lines, read as UTF-8 with line feeds."""

    def __init__(self, stream: Any, encoding: str, *, lone_returns: bool = False) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder(encoding)()
        self._end = "\r" if lone_returns else "\n"
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            block = self._stream.read(2**18)
            self._held = self._decoder.decode(block, not block).replace(self._end, "\n").encode()
            if not block:
                break
        n = min(len(buffer), len(self._held))
        buffer[:n] = self._held[:n]
        self._held = self._held[n:]
        return n


def _recoded(stream: Any, start: bytes, *, lone_returns: bool) -> Any:
    name, skip = _encoding(start)
    stream.read(skip)
    if name == "utf-8" and not lone_returns:
        return stream if hasattr(stream, "readline") else io.BufferedReader(stream)
    return io.BufferedReader(_Utf8(stream, name, lone_returns=lone_returns))


# -- folders ---------------------------------------------------------------------------------------------------------

ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")


def folder_kind(url: str) -> str | None:
    """What a folder is: ``zarr``, ``10x``, ``parquet folder``, or ``samples``; None where there is none."""
    if storage.is_remote(url):
        marked = any(storage.exists(storage.join(url, name)) for name in ZARR_FILES)
        return "zarr" if marked else None
    path = storage.local_path(url)
    if glob.has_magic(path) and not os.path.exists(path):
        return "samples"
    if not os.path.isdir(path):
        return None
    names = os.listdir(path)
    if any(name in names for name in ZARR_FILES):
        return "zarr"
    if any(name.startswith("matrix.mtx") for name in names):
        return "10x"
    if parquet_parts(path):
        return "parquet folder"
    return "samples"


def parquet_parts(path: str) -> list[str]:
    """Parquet files below a folder, as Dask, Spark and pandas number and partition them."""
    found = []
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith((".", "_")))
        found += [os.path.join(folder, n) for n in names if n.endswith((".parquet", ".pq")) and n[0] not in "._"]
    return sorted(found, key=_natural)


def _natural(path: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path)]
