"""Profiles of all genes in memory, a byte per value: similar genes and analogies without a pass over the store.

    store --normalized, unit length--> value / largest of its row --> int8      once, in the background
    question --> score of every row by integers --> the best few --> their profiles from the store --> float64

Scores of the first kind are off by less than 0.01, and choose who is looked at; what is shown is computed from the
stored values. Memory: genes × samples bytes, at most :data:`MOST_BYTES`.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.vectors.ranking import best, directions, rounded, score, unit_rows
from cagdask.vectors.sources import Vectors, look, opened, prepared

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

MOST_BYTES = 256 * 2**20
"""Genes × samples that are kept; more is a question for ``cagdask similar``."""
MORE = 15
"""Rows beyond those asked for whose score is computed from stored values."""
_QUERY = 1_000
"""Largest integer of a question: sums of 16,000 products fit 32 bits."""


class NotReadyError(Exception):
    """Profiles are still being read."""


@dataclass
class GeneVectors:
    """Profiles, or embedding vectors, of the genes of a store.

    Attributes
    ----------
    url
        The store.
    normalization, clr_floor
        How abundances are made comparable; as for :func:`cagdask.similar`.
    metric
        ``cosine`` or ``correlation``.
    share_read
        How much of the store is in memory, in [0, 1].
    """

    url: str
    normalization: str | None = None
    clr_floor: Any = None
    metric: str = "cosine"
    share_read: float = 0.0
    _done: threading.Event = field(default_factory=threading.Event, repr=False)
    _failed: Exception | None = None

    @property
    def is_ready(self) -> bool:
        """Whether questions can be asked."""
        return self._done.is_set()

    def load(self) -> None:
        """Read all profiles once; what goes wrong is said by the first question."""
        try:
            self._load()
        except Exception as err:  # a thread has nobody to raise it to
            self._failed = err
        _give_back()
        self._done.set()

    def _load(self) -> None:
        found = look(storage.absolute(self.url), self.normalization, self.clr_floor)
        if found.n * found.n_columns > MOST_BYTES:
            raise ValueError(
                f"{found.n:,} genes of {found.n_columns:,} values are more than the page keeps in memory. Ask the "
                f"command: cagdask similar {shlex.quote(self.url)} GENE."
            )
        with opened(self.url, normalize=self.normalization, clr_floor=self.clr_floor) as (vectors, runner):
            self.vectors: Vectors = prepared(vectors, runner)
            self.codes = np.zeros((vectors.n, vectors.n_columns), np.int8)
            self.scale = np.zeros(vectors.n, np.float32)
            for begin, rows in self.vectors.blocks():
                here = slice(begin, begin + len(rows))
                _encode(unit_rows(rows, self.metric), self.codes[here], self.scale[here])
                self.share_read = (begin + len(rows)) / vectors.n

    def check(self) -> None:
        """Raise unless questions can be asked.

        Raises
        ------
        NotReadyError
            Profiles are still being read.
        ValueError, CagdaskError
            They can not be read, or are too many.
        """
        if not self.is_ready:
            raise NotReadyError(f"profiles of the genes are being read: {self.share_read:.0%}. Ask again in a moment.")
        if self._failed is not None:
            raise self._failed

    def similar(self, row: int, k: int = 10) -> tuple[Int64, Float64]:
        """Rows of the ``k`` genes most similar to one, and their similarities, best first; equal ones by row.

        Raises
        ------
        NotReadyError, ValueError, CagdaskError
            As for :meth:`check`; or the gene is absent (or constant) everywhere.
        """
        self.check()
        own = directions(self.vectors.read_at(np.array([row])), self.metric)[0]
        if not own.any():
            raise ValueError(f"{self.vectors.name(row)} has the same value in every sample, so nothing is like it.")
        return self._nearest(own, [row], k)

    def fourth(self, a: int, b: int, c: int, k: int = 10) -> tuple[Int64, Float64]:
        """Rows d for which a : b is as c : d, by the cosine to c + b - a; as ``cagdask analogy A B C``.

        Raises
        ------
        NotReadyError, ValueError, CagdaskError
            As for :meth:`check`; or the three are not different, or cancel out.
        """
        self.check()
        if len({a, b, c}) < 3:
            raise ValueError("an analogy needs three different genes.")
        unit = directions(self.vectors.read_at(np.array([a, b, c])), self.metric)
        target = directions((unit[2] + unit[1] - unit[0])[None], "cosine")[0]
        if not unit.any(axis=1).all() or not target.any():
            raise ValueError("these three have no direction to search in: a profile is zero, or they cancel out.")
        return self._nearest(target, [a, b, c], k)

    def _nearest(self, query: Float64, excluded: Sequence[int], k: int) -> tuple[Int64, Float64]:
        largest = float(np.abs(query).max())
        coarse = _screen(self.codes, self.scale, np.rint(query * (_QUERY / largest)).astype(np.int16))
        coarse[list(excluded)] = -np.inf
        n = min(k + MORE, int(np.isfinite(coarse).sum()))
        rows = np.sort(np.argpartition(-coarse, n - 1)[:n]) if n else np.zeros(0, np.int64)
        exact = rounded(score(self.vectors.read_at(rows), query[None], self.metric)[:, 0])
        kept = best(exact, k, rows)
        return rows[kept], exact[kept]


def _give_back() -> None:
    """Hand freed memory back to the system, where the C library can: the map that is laid out next needs some."""
    import ctypes

    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@njit(cache=True, nogil=True)
def _encode(unit: Any, codes: Any, scale: Any) -> None:  # pragma: no cover
    for i in range(unit.shape[0]):
        largest = np.float32(0.0)
        for j in range(unit.shape[1]):
            largest = max(largest, abs(unit[i, j]))
        scale[i] = largest / 127
        if largest > 0:
            for j in range(unit.shape[1]):
                codes[i, j] = np.int8(np.rint(unit[i, j] / scale[i]))


@njit(cache=True, nogil=True)
def _screen(codes: Any, scale: Any, query: Any) -> Any:  # pragma: no cover
    """Score of every row up to a common factor, by integers: the same for any number of threads."""
    out = np.empty(len(codes), np.float32)
    for i in range(codes.shape[0]):
        total = np.int32(0)
        for j in range(codes.shape[1]):
            total += np.int32(codes[i, j]) * np.int32(query[j])
        out[i] = total * scale[i] if scale[i] > 0 else -np.inf
    return out
