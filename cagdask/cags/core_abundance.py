"""Abundance of a CAG from its core genes: their median, and 0 where too few of them are seen.

    marker genes that are core --normalize--> median over genes   cag_core_abundance
                               --count-->     share that is there cag_core_share

The mean over all members is drawn by genes that other genomes have, too, and by those that are missing; the median of
core genes is not. A few reads of a few genes are no CAG: below :data:`LEAST_SHARE` of its core genes it is absent.

References
----------
.. [1] Pons et al. (2023). Meteor2 and its signature genes: a species is taken as absent in a sample where less than a
   tenth of them is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.cags.role_choice import ACCESSORY, CORE
from cagdask.cags.role_tasks import RoleFiles, markers_of
from cagdask.compute.kernels import njit
from cagdask.normalization import methods
from cagdask.normalization.sample_statistics import SampleStatistics

Int64 = NDArray[np.int64]

LEAST_SHARE = 0.1
"""Share of core genes below which a CAG is taken as absent from a sample."""


def write_core_abundance(
    result: str,
    gathered: list[str],
    roles: list[str],
    block_rows: int,
    recipe: dict[str, Any],
    begin: int,
    end: int,
    most: int,
) -> int:
    """Task: core abundance and share of the CAGs ``begin:end`` of a result store, which this task alone writes.

    A CAG of one gene has that of its gene. ``gathered`` and ``roles`` are folders by block of ``block_rows`` genes;
    without ``roles``, all genes are core genes.
    ``most`` marker genes are held at a time, four times.
    """
    statistics = SampleStatistics.from_bytes(storage.read_bytes(recipe["statistics"]))
    method = recipe["normalization"]
    absent = statistics.absent(method)
    abundance = np.asarray(storage.open_array(result, "cag_abundance")[begin:end], np.float64)
    share = (np.asarray(storage.open_array(result, "cag_sum")[begin:end]) != 0).astype(np.float64)
    role_of = [np.asarray(RoleFiles.open(url).role) for url in roles]
    for cag, gene, part, values in markers_of(gathered, begin, end, most):
        normalized = methods.normalize_block(values, method, statistics, floored=False)
        role = np.zeros(len(gene), np.int8)
        for p in np.unique(part) if roles else ():
            role[part == p] = role_of[p][gene[part == p] - p * block_rows]
        found, first = np.unique(cag, return_index=True)
        edge = np.append(first, len(cag))
        for at, a, b in zip(found - begin, edge[:-1], edge[1:], strict=True):
            rows = a + core_of(role[a:b])
            abundance[at] = median(normalized[rows])
            share[at] = np.count_nonzero(values[rows], axis=0) / len(rows)
    abundance[share < LEAST_SHARE] = absent
    for name, made in (("cag_core_abundance", abundance), ("cag_core_share", share)):
        storage.open_array(result, name, writable=True)[begin:end] = made.astype(np.float32)
    return end - begin


def core_of(role: NDArray[np.int8]) -> Int64:
    """Which genes stand for a CAG: core genes; those of an accessory module if it has no others; else all."""
    for wanted in (CORE, ACCESSORY):
        if (role == wanted).any():
            return np.flatnonzero(role == wanted)
    return np.arange(len(role))


@njit(cache=True, nogil=True)
def median(rows: Any) -> Any:
    """Median of each column, the mean of the middle two if rows are even; shape (n_columns,), float64."""
    n = len(rows)
    found = np.zeros(rows.shape[1])
    for j in range(rows.shape[1]):
        column = np.sort(rows[:, j])
        found[j] = (column[(n - 1) // 2] + column[n // 2]) / 2
    return found
