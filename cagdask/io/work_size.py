"""About how many bytes reading an input takes, from the sizes of its files alone.

It decides only where tasks run: in this process, or on workers that first have to start. So it is quick, and rather too
large than too small.
"""

from __future__ import annotations

from collections.abc import Iterable

from cagdask import storage

_PACKED = (".gz", ".bgz", ".bz2", ".xz", ".zst", ".zip")
_BINARY = (".parquet", ".feather", ".arrow", ".h5", ".h5ad", ".hdf5", ".biom", ".loom", ".npy", ".npz", ".xlsx", ".bin")
_UNPACKS_TO = 12  # counts and JSON records shrink so much in gzip; the length that gzip notes is of the last part only
_BINARY_HOLDS = 8  # a compressed sparse table
_PER_BYTE = 3  # of text: its dense matrix twice, "0\t" being 4 bytes of float32, and the text


def text_bytes(url: str, n_bytes: int) -> int:
    """About how many bytes of text a file of ``n_bytes`` holds."""
    name = url.lower()
    if name.endswith(_PACKED):
        return _UNPACKS_TO * n_bytes
    return _BINARY_HOLDS * n_bytes if name.endswith(_BINARY) else n_bytes


def table_work_bytes(url: str, n_bytes: int | None = None) -> int:
    """About how many bytes reading and holding a table takes; a folder has no size of its own, so it is given."""
    return _PER_BYTE * text_bytes(url, storage.size_of(url) if n_bytes is None else n_bytes)


def sheet_work_bytes(files: Iterable[tuple[str, int]]) -> int:
    """About how many bytes reading and holding the samples of a sheet takes; ``files`` are their URLs and sizes."""
    return _PER_BYTE * sum(text_bytes(url, n_bytes) for url, n_bytes in files)
