"""Genes of one store found in another by their names, of which there may be more than a process could hold.

    names of both --two 64-bit hashes each--> sorted, searched --> row in the known store, or -1

60 bytes per gene; names are read 65,536 at a time.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage

Int64 = NDArray[np.int64]

_VERSION = re.compile(r"(ENS[A-Z]*\d{6,})\.\d+(_PAR_Y)?")
FIRST_KEY = "cagdask gene id "
_KEYS = (FIRST_KEY, "gene id, again. ")


def without_version(name: str) -> str:
    """An Ensembl id without its version: ``ENSG00000223972.5`` is ``ENSG00000223972``; other names stay.

    >>> without_version("ENSG00000223972.5"), without_version("AC012.5")
    ('ENSG00000223972', 'AC012.5')
    """
    return _VERSION.sub(r"\1\2", name) if _VERSION.fullmatch(name) else name


def rows_by_name(known: str, asked: str) -> Int64:
    """Row in the store ``known`` of every gene of the store ``asked``, -1 where it has none of that name."""
    return rows_by_hash(hashes_of(known), hashes_of(asked))


def rows_by_hash(known: list[NDArray[np.uint64]], asked: list[NDArray[np.uint64]]) -> Int64:
    """The same from what :func:`hashes_of` gives."""
    order = np.argsort(known[0], kind="stable")
    first, second = known[0][order], known[1][order]
    if not len(first):
        return np.full(len(asked[0]), -1, np.int64)
    at = np.minimum(np.searchsorted(first, asked[0]), len(first) - 1)
    found = (first[at] == asked[0]) & (second[at] == asked[1])
    return np.where(found, order[at], -1).astype(np.int64)


def hashes_of(url: str, name: str | None = "gene_id", n: int = 0) -> list[NDArray[np.uint64]]:
    """Two hashes of every name in an array of a store; without an array, of the numbers from 0 to ``n``."""
    array = storage.open_array(url, name) if name else None
    found: list[list[Any]] = [[], []]
    for begin in range(0, array.shape[0] if array is not None else n, storage.ID_CHUNK):
        end = min(begin + storage.ID_CHUNK, n)
        block = (
            np.array([str(row) for row in range(begin, end)], object)
            if array is None
            else np.asarray(array[begin : begin + storage.ID_CHUNK]).astype(object)
        )
        for parts, hashed in zip(found, hashes_of_names(block), strict=True):
            parts.append(hashed)
    return [np.concatenate(parts) if parts else np.zeros(0, np.uint64) for parts in found]


def hashes_of_names(names: NDArray[Any]) -> list[NDArray[np.uint64]]:
    """Two hashes of every name of a list in memory, as :func:`hashes_of` gives them for a store."""
    import pandas as pd

    block = names.astype(object)
    return [pd.util.hash_array(block, hash_key=key, categorize=False) for key in _KEYS]
