"""Which genes a CAG holds, as two numbers that are equal for equal sets of genes.

    gene ids of a CAG --two 64-bit hashes each, summed--> content

The number of a CAG is its rank by size, and says nothing about its genes: CAG 3 of one result and CAG 3 of another are
different groups as a rule. Two CAGs are the same if their contents are. A sum does not depend on the order of genes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.io.gene_matching import hashes_of
from cagdask.storage.arrays import Files, array

UInt64 = NDArray[np.uint64]


class ContentFiles(Files):
    """Contents of the CAGs of a result. Written by :func:`content_task`; read for the store of factors."""

    content: UInt64 = array(np.uint64, "cag, 2", "sums of two hashes of the gene ids")


def contents_of(result: str) -> list[UInt64]:
    """Contents of all CAGs of a result store, two arrays of shape (n_cags,); about 80 bytes per gene."""
    cag = np.asarray(storage.open_array(result, "gene_cag")[:])
    n_cags = int(storage.open_array(result, "cag_abundance").shape[0])
    member = cag >= 0
    found = []
    for hashes in hashes_of(result):
        content = np.zeros(n_cags, np.uint64)
        np.add.at(content, cag[member], hashes[member])  # wraps around, as meant
        found.append(content)
    return found


def content_task(result: str, folder: str) -> int:
    """Task: write a :class:`ContentFiles`; gives the number of CAGs."""
    content = np.stack(contents_of(result), axis=1)
    ContentFiles(content=content).write(folder)
    return len(content)
