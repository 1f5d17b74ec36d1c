r"""The pairs (c, d) whose difference c - d, or sum, is most like a given one, exactly, without making all pairs.

Write y = d for differences and y = -d for sums, q for the vector asked for, s for projections on its direction. Then

    cosine      cos(q, c - y) = (s_c - s_y) / |c - y|
    euclidean   |q - (c - y)|^2 = |q|^2 - 2 |q| (s_c - s_y) + |c - y|^2

Both only get worse the further c and y lie apart, and |c - y| is at least the distance from c to the nearest y at all,
which does not depend on the query: ``nearest``, computed once. With the k-th best score so far,

    sorted by s, c falling, y rising     corner of the first 512 x 512: a good k-th best to begin with
    block pair of 1024 x 1024            left out if its largest s_c - s_y is less than the bound asks for
    rows, then columns of the others     likewise, each for itself
    what is left                         one float32 product of augmented vectors: > 0 where a pair may be better
    its candidates                       scored in float64, which alone decides

On real embeddings about 1 % of the pairs reach the product. Pairs of (nearly) identical vectors, |c - y|^2 at most
1e-12 (|c|^2 + |d|^2), point nowhere and are no answer. Memory: the vectors, once, and a few blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask.vectors.ranking import best, float32_error, rounded

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

BLOCK = 1024
CORNER = 512
IDENTICAL = 1e-12
"""Two vectors are one if their squared distance is at most this share of their squared lengths together."""
PLAIN_PAIRS = 2**16
"""So many pairs are scored one by one."""
_ROUNDING = 1e-9  # more than scores are rounded by


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
        Shape (n, n_columns), float32.
    """

    rows: Float32
    _nearest: dict[int, Float64] = field(default_factory=dict)
    _square: dict[int, Float64] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
            blocks = (np.arange(i, min(i + BLOCK, len(self.rows))) for i in range(0, len(self.rows), BLOCK))
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
        blocks = [np.arange(begin, min(begin + BLOCK, n)) for begin in range(0, n, BLOCK)]
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
            least[coarse] = _nearest_in_float64(self.rows, coarse, sign)
        found: Float64 = np.sqrt(np.maximum(least, 0)) * (1 - 1e-6)
        return found

    def search(self, query: Query, k: int, *, prune: bool = True, at_least: float = -np.inf) -> Found:
        """The ``k`` best pairs; equal scores are ordered by c, then d.

        Parameters
        ----------
        query
            What is asked.
        k
            At least 1.
        prune
            Whether to leave out what the bound allows; the answer is the same.
        at_least
            Pairs with lower scores are not needed.
        """
        c, d = np.flatnonzero(query.as_c), np.flatnonzero(query.as_d)
        if len(c) * len(d) <= PLAIN_PAIRS:
            return self._plain(query, c, d, k)
        s = self._projections(query)
        c = c[np.argsort(-s[c], kind="stable")]
        d = d[np.argsort(query.sign * s[d], kind="stable")]
        top = self._corner(query, s, c[:CORNER], d[:CORNER], k)
        worst = max(at_least, top.scores[k - 1] if len(top.scores) >= k else -np.inf)
        if worst == -np.inf or (query.metric == "cosine" and worst <= _ROUNDING):
            return self._plain(query, c, d, k)  # the bound is for scores above 0
        return _Sweep(self, query, s, c, d, k, prune, at_least).run(top)

    def _projections(self, query: Query) -> Float64:
        direction = query.vector / np.linalg.norm(query.vector)
        s = np.empty(len(self.rows))
        for begin in range(0, len(s), 4 * BLOCK):
            s[begin : begin + 4 * BLOCK] = self.rows[begin : begin + 4 * BLOCK].astype(np.float64) @ direction
        return s - self._offset(query.sign) @ direction

    def score(self, query: Query, c: Int64, d: Int64) -> Float64:
        """Scores of pairs, float64, rounded; -inf for those that are no answer."""
        found = np.empty(len(c))
        _score_pairs(self.rows, query.vector, c, d, float(query.sign), query.metric == "cosine", found)
        found[(c == query.excluded[0]) & (d == query.excluded[1])] = -np.inf
        if query.sign < 0:
            found[c >= d] = -np.inf  # c + d is d + c
        return rounded(found)

    def _corner(self, query: Query, s: Float64, c: Int64, d: Int64, k: int) -> Found:
        """The best of a few rows and columns, chosen by float32 and scored in float64."""
        product = query.sign * (self.shifted(c, query.sign) @ self.shifted(d, query.sign).T)
        n_c, n_d = self.squares(query.sign)[c], self.squares(query.sign)[d]
        square = np.maximum(n_c[:, None] + n_d - 2.0 * product, 0)
        gap = s[c][:, None] - query.sign * s[d]
        if query.metric == "cosine":
            about = gap / np.sqrt(square + 1e-6 * (n_c[:, None] + n_d) + 1e-300)
        else:
            about = 2 * float(np.linalg.norm(query.vector)) * gap - square
        if query.sign < 0:
            about[c[:, None] >= d] = -np.inf
        n = min(about.size, 4 * k + 64)
        chosen = np.argpartition(about.ravel(), about.size - n)[about.size - n :]
        return self.kept(query, c[chosen // len(d)], d[chosen % len(d)], k)

    def kept(self, query: Query, c: Int64, d: Int64, k: int) -> Found:
        """The ``k`` best of some pairs."""
        scores = self.score(query, c, d)
        order = best(scores, k, c, d)
        return Found(c[order], d[order], scores[order])

    def _plain(self, query: Query, c: Int64, d: Int64, k: int) -> Found:
        """Every pair in float64."""
        top = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        step = max(1, 2**20 // max(1, len(d)))
        for begin in range(0, len(c), step):
            some = c[begin : begin + step]
            top = self.merged(top, self.kept(query, np.repeat(some, len(d)), np.tile(d, len(some)), k), k)
        return Found(top.c, top.d, top.scores, len(c) * len(d))

    @staticmethod
    def merged(one: Found, other: Found, k: int) -> Found:
        """The ``k`` best of two answers that may overlap."""
        c, d = np.append(one.c, other.c), np.append(one.d, other.d)
        scores = np.append(one.scores, other.scores)
        _, first = np.unique(np.stack([c, d]), axis=1, return_index=True)
        order = first[best(scores[first], k, c[first], d[first])]
        return Found(c[order], d[order], scores[order], one.n_multiplied + other.n_multiplied)


class _Sweep:
    """One pass over the blocks of pairs for one query."""

    def __init__(
        self, index: PairIndex, query: Query, s: Float64, c: Int64, d: Int64, k: int, prune: bool, at_least: float
    ) -> None:
        self.index, self.query, self.k, self.at_least = index, query, k, at_least
        self.c, self.d = c, d
        self.s_c, self.s_y = s[c], query.sign * s[d]
        nearest = index.nearest(query.sign) if prune else np.zeros(len(s))
        self.near_c, self.near_y = nearest[c], nearest[d]
        self.prune = prune
        self.length = float(np.linalg.norm(query.vector))
        self.error = float32_error(index.rows.shape[1] + 2)
        self.n_multiplied = 0

    def run(self, top: Found) -> Found:
        """All pairs that can be among the k best, from a first answer on."""
        blocks_c = [slice(i, i + BLOCK) for i in range(0, len(self.c), BLOCK)]
        blocks_d = [slice(i, i + BLOCK) for i in range(0, len(self.d), BLOCK)]
        order = sorted((i + j, i, j) for i in range(len(blocks_c)) for j in range(len(blocks_d)))
        for _, i, j in order:
            worst = max(self.at_least, top.scores[self.k - 1] if len(top.scores) >= self.k else -np.inf) - _ROUNDING
            rows, columns = self._open(blocks_c[i], blocks_d[j], worst)
            if len(rows) and len(columns):
                top = self._block(rows, columns, worst, top)
        return Found(top.c, top.d, top.scores, self.n_multiplied)

    def _open(self, at_c: slice, at_d: slice, worst: float) -> tuple[Int64, Int64]:
        """Rows and columns of a block that can hold a pair of at least this score."""
        rows, columns = np.arange(len(self.c))[at_c], np.arange(len(self.d))[at_d]
        if not self.prune:
            return rows, columns
        nearest = self.near_y[at_d].min()
        open_c = self._possible(self.s_c[at_c] - self.s_y[at_d.start], np.maximum(self.near_c[at_c], nearest), worst)
        rows = rows[open_c]
        if not len(rows):
            return rows, columns[:0]
        nearest = self.near_c[rows].min()
        open_d = self._possible(self.s_c[rows[0]] - self.s_y[at_d], np.maximum(self.near_y[at_d], nearest), worst)
        return rows, columns[open_d]

    def _possible(self, gap: Float64, nearest: Float64, worst: float) -> Bool:
        """Whether a pair with at most this s_c - s_y and at least this distance can score ``worst``."""
        found: Bool
        if self.query.metric == "cosine":
            found = gap >= worst * nearest * (1 - 1e-9)
        else:
            least = np.maximum(nearest, 0)
            square = np.maximum(least**2, np.minimum(gap, self.length) ** 2)
            found = self.length**2 - 2 * self.length * gap + square <= worst**2 * (1 + 1e-9)
            found |= gap >= self.length  # the block may hold pairs with less
            found &= (gap >= self.length) | (self.length - gap <= -worst * (1 + 1e-9))
        return found

    def _block(self, rows: Int64, columns: Int64, worst: float, top: Found) -> Found:
        c, d = self.c[rows], self.d[columns]
        at_c, at_d = np.divmod(np.flatnonzero(self._product(rows, columns, worst) > 0), len(d))
        self.n_multiplied += len(c) * len(d)
        if self.query.metric == "cosine":
            gap = self.s_c[rows][at_c] - self.s_y[columns][at_d]
            kept = gap >= worst * np.maximum(self.near_c[rows][at_c], self.near_y[columns][at_d]) * (1 - 1e-9)
            kept &= gap > 0
            at_c, at_d = at_c[kept], at_d[kept]
        if not len(at_c):
            return top
        return self.index.merged(top, self.index.kept(self.query, c[at_c], d[at_d], self.k), self.k)

    def _product(self, rows: Int64, columns: Int64, worst: float) -> Float32:
        """Float32 numbers above 0 wherever a pair can score ``worst``: products of augmented vectors.

        For cosine, (s_c - s_y)^2 - worst^2 |c - y|^2, for euclidean worst^2 - |q - (c - y)|^2, both divided by the
        factor of c . y in them; what may be lost to rounding is added.
        """
        n_columns, sign = self.index.rows.shape[1], self.query.sign
        s_c, s_y = self.s_c[rows], self.s_y[columns]
        n_c, n_y = self.index.squares(sign)[self.c[rows]], self.index.squares(sign)[self.d[columns]]
        if self.query.metric == "cosine":
            cross = -1 / worst**2
            of_c, of_y = (-cross * s_c**2 - n_c) / 2, (-cross * s_y**2 - n_y) / 2
        else:
            cross = 0.0
            of_c = (worst**2 - self.length**2 - n_c) / 2 + self.length * s_c
            of_y = -n_y / 2 - self.length * s_y
        of_c += self.error * ((n_c - cross * s_c**2) / 2 + np.abs(of_c))
        of_y += self.error * ((n_y - cross * s_y**2) / 2 + np.abs(of_y))
        left = np.empty((len(rows), n_columns + 3), np.float32)
        right = np.empty((len(columns), n_columns + 3), np.float32)
        self.index.shifted(self.c[rows], sign, out=left[:, :n_columns])
        self.index.shifted(self.d[columns], sign, out=right[:, :n_columns])
        if sign < 0:
            right[:, :n_columns] *= -1  # numpy.negative of NumPy 2.4 fails in place on a single strided column
        left[:, n_columns], left[:, n_columns + 1], left[:, n_columns + 2] = s_c, of_c, 1
        right[:, n_columns], right[:, n_columns + 1], right[:, n_columns + 2] = cross * s_y, 1, of_y
        product: Float32 = left @ right.T
        return product


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


def _nearest_in_float64(rows: Float32, some: Int64, sign: int) -> Float64:
    """Least squared distance of some rows to all that are not identical to them."""
    least = np.full(len(some), np.inf)
    step = BLOCK // 2
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
