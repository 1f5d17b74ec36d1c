"""CAGs that may explain a profile: those of which it has the largest cosine.

    profiles --product in float32 with a block of references--> what may be among the best
                                                                  |
                                      again in float64, in a fixed order of additions, kept

The product in float32 only rules out, so that the answer depends neither on how genes and CAGs are split nor on
threads; equal ones go to the smaller place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.compute.memory import one_thread
from cagdask.engine.plan.task_memory import REFERENCE_BYTES, REFERENCES_AT_ONCE
from cagdask.engine.rows.files import lengths, product, rounded
from cagdask.engine.search.kernels import PRODUCT_MARGIN
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ROWS_AT_ONCE = 512
"""Rows of one product."""
_LEAST_SQUARE = np.float32(1e-30)
LEAST_GENES = 3
"""A CAG of fewer genes explains no others."""
PRESENT_SHARE, TRACE_SHARE, SURE_SHARE = 0.25, 0.05, 0.5
"""Share of a CAG's genes that a sample has if the CAG is there, if it is not quite absent, if it is there surely."""


def at_once(most: int, bytes_per_row: int, held_bytes: int) -> int:
    """How many rows are held at once in ``held_bytes``, of rows of this many bytes; at most ``most``.

    Examples
    --------
    >>> at_once(512, 2000, 2**27), at_once(512, 2**20, 2**27)
    (512, 128)
    """
    return max(1, min(most, held_bytes // bytes_per_row))


class ReferenceFiles(Files):
    """What the genes of some CAGs have in common. Written by :func:`cagdask.cags.role_tasks.profile_cags`."""

    number: Int64 = array(np.int64, "cag", "number of the CAG in the result, ascending")
    size: Int64 = array(np.int64, "cag", "genes in it")
    profile: Float32 = array(np.float32, "cag, sample", "trimmed mean of its genes, as ingested")
    share: Float32 = array(np.float32, "cag, sample", "share of its genes that are there")


class References:
    """The CAGs of :data:`LEAST_GENES` or more, known by their places, 0 for the first; blocks are read when needed.

    Parameters
    ----------
    folders
        Of the :class:`ReferenceFiles`, in the order of their numbers.
    held_bytes
        What the references of one step may take, and in a second such part the rows that are compared with them.
    """

    def __init__(self, folders: Sequence[str], held_bytes: int) -> None:
        self._folders = list(folders)
        self.held_bytes = held_bytes
        files = list(ReferenceFiles.open_all(folders))
        self._rows = [np.flatnonzero(one.size >= LEAST_GENES) for one in files]
        self._begin = np.append(0, np.cumsum([len(rows) for rows in self._rows])).astype(np.int64)
        empty = [np.zeros(0, np.int64)]
        pairs = list(zip(files, self._rows, strict=True))
        self.number: Int64 = np.concatenate([*(one.number[rows] for one, rows in pairs), *empty])
        self.size: Int64 = np.concatenate([*(one.size[rows] for one, rows in pairs), *empty])
        self.n_samples = ReferenceFiles.open(folders[0], 0, 0).profile.shape[1] if files else 1

    def __len__(self) -> int:
        return int(self._begin[-1])

    def blocks(self) -> Iterator[tuple[Int64, Float64]]:
        """Places and profiles, shape (n, n_samples), some at a time."""
        for folder, rows, begin in zip(self._folders, self._rows, self._begin, strict=False):
            step = at_once(REFERENCES_AT_ONCE, REFERENCE_BYTES * self.n_samples, self.held_bytes)
            for first in range(0, len(rows), step):
                some = rows[first : first + step]
                files = ReferenceFiles.open(folder, some[0], some[-1] + 1)
                yield begin + first + np.arange(len(some)), files.profile[some - some[0]].astype(np.float64)

    def profiles(self, places: Int64) -> Float64:
        """Profiles at these places, ascending, shape (n, n_samples); of remote files one range each is read."""
        return self._taken(lambda files: files.profile, places)

    def shares(self, places: Int64) -> Float64:
        """The same of the shares of genes that are there."""
        return self._taken(lambda files: files.share, places)

    def _taken(self, of: Callable[[ReferenceFiles], Float32], places: Int64) -> Float64:
        found = np.zeros((len(places), self.n_samples))
        for folder, rows, begin in zip(self._folders, self._rows, self._begin, strict=False):
            first, last = np.searchsorted(places, [begin, begin + len(rows)])
            if first < last:
                some = rows[places[first:last] - begin]
                files = ReferenceFiles.open(folder, some[0], some[-1] + 1)
                found[first:last] = of(files)[some - some[0]]
        return found

    def places_of(self, number: Int64) -> Int64:
        """Places of CAGs by their numbers; -1 for those that are none of these."""
        at = np.searchsorted(self.number, number)
        at = np.minimum(at, max(0, len(self) - 1))
        return np.where(self.number[at] == number, at, -1) if len(self) else np.full(len(number), -1, np.int64)


class Nearest(NamedTuple):
    """The references of the largest cosine, in place: (n, k) places, -1 for none, and cosines, descending."""

    place: Int64
    cosine: Float64


def nearest(
    rows: Float64, references: References, k: int, allowed: Any = None, *, where_there: bool = False
) -> Nearest:
    """The ``k`` references of the largest cosine to each row.

    Parameters
    ----------
    rows
        Shape (n, n_samples), float64, >= 0; a row of zeros has none.
    references
        Where to look.
    k
        How many.
    allowed
        A function of row numbers and places that says which pairs are, shape (n, n_places); None: all.
    where_there
        Take the cosine over those samples alone in which the row is not 0. What is missing in some samples of another
        may be missing where that is most abundant, and then the cosine over all samples is low.
    """
    found = Nearest(np.full((len(rows), k), -1, np.int64), np.zeros((len(rows), k)))
    rows = rows / np.maximum(lengths(rows), 1e-300)[:, None]
    rows32 = rows.astype(np.float32)
    there32 = (rows > 0).astype(np.float32) if where_there else rows32[:0]
    for places, profiles in references.blocks():
        directions = profiles / np.maximum(lengths(profiles), 1e-300)[:, None]
        directions32 = directions.astype(np.float32)
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(begin, min(len(rows), begin + ROWS_AT_ONCE))
            with one_thread():
                rough = rows32[part] @ directions32.T
                if where_there:
                    rough /= np.sqrt(np.maximum(there32[part] @ (directions32 * directions32).T, _LEAST_SQUARE))
            if allowed is not None:
                rough[~allowed(np.arange(part.start, part.stop), places)] = -1
            _keep(rough, rows[part], directions, places, where_there, found.place[part], found.cosine[part])
    return found


@njit(cache=True, nogil=True)
def _square_where(row: Any, direction: Any) -> float:
    """Squared length of a direction over the samples in which a row is not 0; above 0 if they have any in common."""
    total = 0.0
    for s in range(len(row)):
        if row[s] > 0:
            total += direction[s] * direction[s]
    return max(total, 1e-300)


@njit(cache=True, nogil=True)
def _keep(rough: Any, rows: Any, directions: Any, places: Any, where_there: bool, place: Any, cosine: Any) -> None:
    """Compute again what may be among the best of each row, and keep it if it is."""
    last = place.shape[1] - 1
    for i in range(len(rows)):
        for j in range(len(places)):
            if rough[i, j] < np.float32(cosine[i, last]) - PRODUCT_MARGIN or rough[i, j] <= 0:
                continue
            exact = product(rows[i], directions[j])
            if where_there:
                exact /= np.sqrt(_square_where(rows[i], directions[j]))
            exact = rounded(exact)
            if exact <= cosine[i, last]:  # places come in ascending order: an equal one is a later one
                continue
            at = last
            while at > 0 and exact > cosine[i, at - 1]:
                cosine[i, at], place[i, at] = cosine[i, at - 1], place[i, at - 1]
                at -= 1
            cosine[i, at], place[i, at] = exact, places[j]
