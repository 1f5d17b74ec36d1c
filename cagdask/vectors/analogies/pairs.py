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

import numpy as np

from cagdask.vectors.analogies.pair_index import Bool, Float32, Float64, Found, Int64, PairIndex, Query
from cagdask.vectors.ranking import float32_error

_ROUNDING = 1e-9  # more than scores are rounded by


def search_pairs(index: PairIndex, query: Query, k: int, *, prune: bool = True, at_least: float = -np.inf) -> Found:
    """The ``k`` best pairs; equal scores are ordered by c, then d.

    Parameters
    ----------
    index
        All vectors.
    query
        What is asked.
    k
        At least 1.
    prune
        Whether to leave out what the bound allows; the answer is the same.
    at_least
        Pairs with lower scores are not needed.
    """
    sizes = index.sizes
    c, d = np.flatnonzero(query.as_c), np.flatnonzero(query.as_d)
    if len(c) * len(d) <= sizes.plain_pairs:
        return _plain(index, query, c, d, k)
    s = index.projections(query)
    c = c[np.argsort(-s[c], kind="stable")]
    d = d[np.argsort(query.sign * s[d], kind="stable")]
    top = first_answer(index, query, s, c[: sizes.corner], d[: sizes.corner], k)
    worst = max(at_least, top.scores[k - 1] if len(top.scores) >= k else -np.inf)
    if worst == -np.inf or (query.metric == "cosine" and worst <= _ROUNDING):
        return _plain(index, query, c, d, k)  # the bound is for scores above 0
    return _Sweep(index, query, s, (c, d), k, prune, at_least).run(top)


def first_answer(index: PairIndex, query: Query, s: Float64, c: Int64, d: Int64, k: int) -> Found:
    """The best of a few rows and columns, chosen by float32 and scored in float64."""
    product = query.sign * (index.shifted(c, query.sign) @ index.shifted(d, query.sign).T)
    n_c, n_d = index.squares(query.sign)[c], index.squares(query.sign)[d]
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
    return index.kept(query, c[chosen // len(d)], d[chosen % len(d)], k)


def _plain(index: PairIndex, query: Query, c: Int64, d: Int64, k: int) -> Found:
    """Every pair in float64."""
    top = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    step = max(1, 2**20 // max(1, len(d)))
    for begin in range(0, len(c), step):
        some = c[begin : begin + step]
        top = index.merged(top, index.kept(query, np.repeat(some, len(d)), np.tile(d, len(some)), k), k)
    return Found(top.c, top.d, top.scores, len(c) * len(d))


class _Sweep:
    """One pass over the blocks of pairs for one query."""

    def __init__(
        self,
        index: PairIndex,
        query: Query,
        s: Float64,
        sorted_rows: tuple[Int64, Int64],
        k: int,
        prune: bool,
        at_least: float,
    ) -> None:
        self.index, self.query, self.k, self.at_least = index, query, k, at_least
        self.c, self.d = c, d = sorted_rows
        self.s_c, self.s_y = s[c], query.sign * s[d]
        nearest = index.nearest(query.sign) if prune else np.zeros(len(s))
        self.near_c, self.near_y = nearest[c], nearest[d]
        self.prune = prune
        self.length = float(np.linalg.norm(query.vector))
        self.error = float32_error(index.rows.shape[1] + 2)
        self.n_multiplied = 0

    def run(self, top: Found) -> Found:
        """All pairs that can be among the k best, from a first answer on."""
        block = self.index.sizes.block
        blocks_c = [slice(i, i + block) for i in range(0, len(self.c), block)]
        blocks_d = [slice(i, i + block) for i in range(0, len(self.d), block)]
        order = sorted((i + j, i, j) for i in range(len(blocks_c)) for j in range(len(blocks_d)))
        for _, i, j in order:
            worst = max(self.at_least, top.scores[self.k - 1] if len(top.scores) >= self.k else -np.inf)
            worst = self.index.unscaled(self.query, worst)
            worst -= _ROUNDING * (1 if self.query.metric == "cosine" else self.length - worst)
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
