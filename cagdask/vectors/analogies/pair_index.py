"""Vectors in memory, and what does not depend on the pair that is asked for: how near the nearest other of each is.

Pairs of (nearly) identical vectors, |c - y|^2 at most 1e-12 (|c|^2 + |d|^2), point nowhere and are no answer. See
:mod:`cagdask.vectors.analogies.pairs` for the search, and for what y and s are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cagdask.compute import memory
from cagdask.compute.kernels import njit
from cagdask.vectors.ranking import best, float32_error, rounded
from cagdask.vectors.sources import Vectors

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

IDENTICAL = 1e-12
"""Two vectors are one if their squared distance is at most this share of their squared lengths together."""

USUAL_EXPONENT = 30
"""Values between 2 to this and 2 to minus this are searched as they are: sums of products of them fit float32."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the steps of a search; answers do not depend on them.

    Attributes
    ----------
    block
        Rows of c and of d that are multiplied at once.
    corner
        The most promising c and d, of which the first answers come.
    plain_pairs
        So many pairs are scored one by one.
    """

    block: int = 1024
    corner: int = 512
    plain_pairs: int = 2**16


@dataclass(frozen=True)
class Query:
    """What pairs are compared with.

    Attributes
    ----------
    vector
        a - b or a + b, shape (n_columns,), float64; not zero.
    metric
        ``cosine`` or ``euclidean``.
    sign
        1 for differences, -1 for sums.
    as_c, as_d
        Rows that may take the place of c, and of d, shape (n,) each. For sums the two are the same.
    excluded
        A pair (c, d) that is no answer.
    """

    vector: Float64
    metric: str
    sign: int
    as_c: Bool
    as_d: Bool
    excluded: tuple[int, int] = (-1, -1)


@dataclass(frozen=True)
class Found:
    """Rows c and d and scores of the best pairs, best first, and how many pairs reached the float32 product."""

    c: Int64
    d: Int64
    scores: Float64
    n_multiplied: int = 0


@dataclass
class PairIndex:
    """Vectors in memory and, per sign, how near the nearest other of each is.

    Attributes
    ----------
    rows
        Shape (n, n_columns), float32. Values whose squares float32 can not hold are divided by :attr:`scale`.
    sizes
        Of the steps of a search.
    scale
        A power of two; 1 for values of usual size.
    """

    rows: Float32
    sizes: Sizes = Sizes()
    _nearest: dict[int, Float64] = field(default_factory=dict)
    _square: dict[int, Float64] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scale = power_of_two(self.rows)
        if self.scale != 1:
            self.rows = np.ldexp(self.rows, -int(np.log2(self.scale)))
        self.center = self.rows.mean(axis=0, dtype=np.float64).astype(np.float32)

    @cached_property
    def n_zero(self) -> int:
        """Vectors that are zero, and so in no answer."""
        return int((~self.rows.any(axis=1)).sum())

    @cached_property
    def n_duplicates(self) -> int:
        """Vectors that are not zero and equal to an earlier one."""
        distinct = {hash((row + np.float32(0)).tobytes()) for row in self.rows if row.any()}  # -0 is 0
        return len(self.rows) - self.n_zero - len(distinct)

    def nearest(self, sign: int) -> Float64:
        """Lower bound of the distance from each c to all y that are not identical to it, shape (n,), float64.

        Computed once: half of all pairs in float32, and again in float64 the rows for which that is too coarse.
        """
        if sign not in self._nearest:
            self._nearest[sign] = self._all_nearest(sign)
        return self._nearest[sign]

    def squares(self, sign: int) -> Float64:
        """Squared lengths of the vectors as :meth:`shifted` gives them, shape (n,)."""
        if sign not in self._square:
            n, step = len(self.rows), self.sizes.block
            blocks = (np.arange(i, min(i + step, n)) for i in range(0, n, step))
            self._square[sign] = np.concatenate(
                [(self.shifted(b, sign).astype(np.float64) ** 2).sum(1) for b in blocks]
            )
        return self._square[sign]

    def shifted(self, rows: Int64, sign: int, out: Float32 | None = None) -> Float32:
        """Some vectors, for differences less the mean of all: those do not notice, and float32 products lose less."""
        return np.subtract(self.rows[rows], self._offset(sign), out=out)

    def _offset(self, sign: int) -> Float32:
        return self.center if sign == 1 else np.zeros_like(self.center)

    def _all_nearest(self, sign: int) -> Float64:
        n, error = len(self.rows), 2 * float32_error(self.rows.shape[1])
        step = self.sizes.block
        blocks = [np.arange(begin, min(begin + step, n)) for begin in range(0, n, step)]
        square = self.squares(sign)
        least = np.full(n, np.inf)  # of half the bound: |c|^2 / 2 + |y|^2 / 2 - c . y
        half = square * (1 - error) / 2
        for i, some in enumerate(blocks):
            left = self.shifted(some, sign)
            for others in blocks[i:]:
                product = sign * (left @ self.shifted(others, sign).T)
                if others is some:
                    np.fill_diagonal(product, -np.inf)
                least[some] = np.minimum(least[some], half[some] - (product - half[others].astype(np.float32)).max(1))
                product -= half[some, None].astype(np.float32)
                least[others] = np.minimum(least[others], half[others] - product.max(0))
        least *= 2
        coarse = np.flatnonzero(least <= 4 * error * square)
        if len(coarse):
            least[coarse] = _nearest_in_float64(self.rows, coarse, sign, self.sizes.block // 2)
        found: Float64 = np.sqrt(np.maximum(least, 0)) * (1 - 1e-6)
        return found

    def projections(self, query: Query) -> Float64:
        """How far each shifted vector reaches in the direction that is asked for, shape (n,), float64."""
        direction = query.vector / np.linalg.norm(query.vector)
        s = np.empty(len(self.rows))
        step = 4 * self.sizes.block
        for begin in range(0, len(s), step):
            s[begin : begin + step] = self.rows[begin : begin + step].astype(np.float64) @ direction
        return s - self._offset(query.sign) @ direction

    def score(self, query: Query, c: Int64, d: Int64) -> Float64:
        """Scores of pairs, float64, rounded; -inf for those that are no answer."""
        found = np.empty(len(c))
        _score_pairs(self.rows, query.vector, c, d, float(query.sign), query.metric == "cosine", found)
        if query.metric == "euclidean":
            found *= self.scale
        found[(c == query.excluded[0]) & (d == query.excluded[1])] = -np.inf
        if query.sign < 0:
            found[c >= d] = -np.inf  # c + d is d + c
        return rounded(found, found if query.metric == "euclidean" else None)

    def unscaled(self, query: Query, score: float) -> float:
        """A score in the size of :attr:`rows`."""
        return score / self.scale if query.metric == "euclidean" else score

    def kept(self, query: Query, c: Int64, d: Int64, k: int) -> Found:
        """The ``k`` best of some pairs."""
        scores = self.score(query, c, d)
        order = best(scores, k, c, d)
        return Found(c[order], d[order], scores[order])

    @staticmethod
    def merged(one: Found, other: Found, k: int) -> Found:
        """The ``k`` best of two answers that may overlap."""
        c, d = np.append(one.c, other.c), np.append(one.d, other.d)
        scores = np.append(one.scores, other.scores)
        _, first = np.unique(np.stack([c, d]), axis=1, return_index=True)
        order = first[best(scores[first], k, c[first], d[first])]
        return Found(c[order], d[order], scores[order], one.n_multiplied + other.n_multiplied)


def power_of_two(rows: Float32) -> float:
    """What vectors are divided by so that float32 holds products of them: 1, or about the size of the largest value."""
    largest = max(abs(float(rows.max(initial=0))), abs(float(rows.min(initial=0))))
    exponent = int(np.frexp(largest)[1])
    return 1.0 if abs(exponent) <= USUAL_EXPONENT else 2.0**exponent


def load_index(vectors: Vectors, rows: Int64, memory_limit: int) -> PairIndex:
    """Read some rows of a store into memory, ascending.

    Raises
    ------
    MemoryLimitError
        They do not fit.
    """
    need = index_bytes(len(rows), vectors.n_columns)
    memory.check_fits("analogy", need, f"{len(rows):,} vectors of {vectors.n_columns:,} values", memory_limit)
    matrix = np.empty((len(rows), vectors.n_columns), np.float32)
    by_chunk = replace(vectors, block_rows=vectors.chunk_rows)  # the matrix is large enough
    for begin, block in by_chunk.blocks():
        first, last = np.searchsorted(rows, [begin, begin + len(block)])
        if first < last:
            matrix[first:last] = block[rows[first:last] - begin]
    return PairIndex(matrix)


def index_bytes(n: int, n_columns: int) -> int:
    """Memory of ``n`` vectors and of a search among them."""
    return n * (4 * n_columns + 100) + 16 * Sizes.block * (n_columns + Sizes.block)


@njit(cache=True, nogil=True)
def _score_pairs(
    rows: Float32, q: Float64, c: Int64, d: Int64, sign: float, cosine: bool, out: Float64
) -> None:  # pragma: no cover
    length = 0.0
    for j in range(rows.shape[1]):
        length += q[j] * q[j]
    length = np.sqrt(length)
    for i in range(len(c)):
        product = 0.0
        square = 0.0
        apart = 0.0
        scale = 0.0
        for j in range(rows.shape[1]):
            x = np.float64(rows[c[i], j])
            y = sign * np.float64(rows[d[i], j])
            v = x - y
            square += v * v
            scale += x * x + y * y
            product += q[j] * v
            apart += (q[j] - v) ** 2
        if square <= IDENTICAL * scale:
            out[i] = -np.inf
        elif cosine:
            out[i] = min(1.0, max(-1.0, product / (length * np.sqrt(square))))
        else:
            out[i] = -np.sqrt(apart)


def _nearest_in_float64(rows: Float32, some: Int64, sign: int, step: int) -> Float64:
    """Least squared distance of some rows to all that are not identical to them."""
    least = np.full(len(some), np.inf)
    for other in range(0, len(rows), step):
        right = sign * rows[other : other + step].astype(np.float64)
        n_right = (right**2).sum(axis=1)
        for begin in range(0, len(some), step):
            at = some[begin : begin + step]
            left = rows[at].astype(np.float64)
            scale = (left**2).sum(axis=1)[:, None] + n_right
            bound = scale * (1 - 1e-13) - 2 * (left @ right.T)
            bound[bound <= 0.5 * IDENTICAL * scale] = np.inf
            bound[at[:, None] == other + np.arange(len(right))] = np.inf
            least[begin : begin + step] = np.minimum(least[begin : begin + step], bound.min(axis=1))
    return least
