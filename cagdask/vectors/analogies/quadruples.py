"""The b, c and d that make a - b most like c - d, or a + b most like c + d, for a given a.

    screen   for each b, the 48 c furthest one way along a - b with the 48 d furthest the other way
    proof    how good a pair outside these corners can be at most, from the same bound as in pairs; a score above that
             of every b is certified
    exact    every b in full, spread over workers; what the screen found is what must be beaten

The screen takes n^2 products, the exact way about n^3 of which the bound spares a part: candidates make it smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cagdask.vectors.analogies.pair_index import PairIndex, Query
from cagdask.vectors.analogies.pairs import search_pairs
from cagdask.vectors.ranking import best, float32_error

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

CORNER = 48
ROWS_AT_ONCE = 256

MakeQuery = Callable[[int], Query | None]
"""The query of a row taken as b; None if it can not be b."""


@dataclass(frozen=True)
class Quadruples:
    """Rows b, c, d and scores, best first, and which of them are proven."""

    b: Int64
    c: Int64
    d: Int64
    scores: Float64
    certified: Bool

    @classmethod
    def none(cls) -> Quadruples:
        """Nothing found yet."""
        no = np.empty(0, np.int64)
        return cls(no, no, no, np.empty(0), np.empty(0, bool))

    def worst(self, k: int) -> float:
        """The score that another one must reach."""
        return float(self.scores[k - 1]) if len(self.scores) >= k else -np.inf

    def with_pairs(self, b: int, c: Int64, d: Int64, scores: Float64, k: int) -> Quadruples:
        """The ``k`` best of these and the pairs of another b."""
        bs, cs, ds = (np.append(x, y) for x, y in ((self.b, np.full(len(c), b, np.int64)), (self.c, c), (self.d, d)))
        together = np.append(self.scores, scores)
        order = best(together, k, bs, cs, ds)
        return Quadruples(bs[order], cs[order], ds[order], together[order], np.zeros(len(order), bool))


def screen(index: PairIndex, rows: Int64, query_of: MakeQuery, k: int) -> Quadruples:
    """The ``k`` best quadruples in the corners of all b, each with whether it is proven.

    Parameters
    ----------
    index
        All vectors.
    rows
        Rows that may be b.
    query_of
        The query of each; cosine.
    k
        At least 1.
    """
    found, ceiling = Quadruples.none(), -np.inf
    error = float32_error(index.rows.shape[1])
    for queries in _queries(rows, query_of):
        sign = queries[0][1].sign
        longest = float(np.sqrt(index.squares(sign).max()))
        nearest = index.nearest(sign)
        unit = np.stack([query.vector / np.linalg.norm(query.vector) for _, query in queries])
        projections = _projections(index, unit.astype(np.float32), sign)
        for (b, query), s in zip(queries, projections, strict=True):
            found, highest = _screen_one(index, b, query, s, nearest, 2 * error * longest, found, k)
            ceiling = max(ceiling, highest)
    return replace(found, certified=found.scores > min(1.0, ceiling))


def _queries(rows: Int64, query_of: MakeQuery) -> Iterator[list[tuple[int, Query]]]:
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        made = [(int(b), query_of(int(b))) for b in rows[begin : begin + ROWS_AT_ONCE]]
        here = [(b, query) for b, query in made if query is not None]
        if here:
            yield here


def _projections(index: PairIndex, unit: NDArray[np.float32], sign: int) -> NDArray[np.float32]:
    out = np.empty((len(unit), len(index.rows)), np.float32)
    for begin in range(0, len(index.rows), 1024):
        some = np.arange(begin, min(begin + 1024, len(index.rows)))
        out[:, some] = unit @ index.shifted(some, sign).T
    return out


def _screen_one(
    index: PairIndex,
    b: int,
    query: Query,
    s: NDArray[np.float32],
    nearest: Float64,
    slack: float,
    found: Quadruples,
    k: int,
) -> tuple[Quadruples, float]:
    """The corner of one b, and a bound of the scores of all pairs outside it."""
    c, d = np.flatnonzero(query.as_c), np.flatnonzero(query.as_d)
    if not len(c) or not len(d):
        return found, -np.inf
    s_c, s_y = s[c].astype(np.float64), query.sign * s[d].astype(np.float64)
    in_c = np.argpartition(-s_c, min(CORNER, len(c)) - 1)[:CORNER]
    in_d = np.argpartition(s_y, min(CORNER, len(d)) - 1)[:CORNER]
    highest = max(
        _ceiling(np.delete(s_c, in_c) - s_y.min() + slack, nearest[np.delete(c, in_c)]),
        _ceiling(s_c.max() - np.delete(s_y, in_d) + slack, nearest[np.delete(d, in_d)]),
    )
    at_c, at_d = _promising(index, query, c[in_c], d[in_d], found.worst(k))
    if not len(at_c):
        return found, highest
    pairs = index.kept(query, at_c, at_d, k)
    return found.with_pairs(b, pairs.c, pairs.d, pairs.scores, k), highest


def _ceiling(gap: Float64, nearest: Float64) -> float:
    if not len(gap):
        return -np.inf
    possible = np.divide(gap, nearest, out=np.full(len(gap), np.inf), where=nearest > 0)
    return float(possible.max())


def _promising(index: PairIndex, query: Query, c: Int64, d: Int64, worst: float) -> tuple[Int64, Int64]:
    """Pairs of a corner that can reach ``worst``, by products in float64."""
    left, right = (index.shifted(rows, query.sign).astype(np.float64) for rows in (c, d))
    n_c, n_d = (left**2).sum(axis=1)[:, None], (right**2).sum(axis=1)
    square = n_c + n_d - 2 * query.sign * (left @ right.T)
    gap = (left @ query.vector)[:, None] - query.sign * (right @ query.vector)
    gap /= np.linalg.norm(query.vector)
    least = np.maximum(square - 1e-6 * np.sqrt(square * (n_c + n_d) + 1e-300) - 1e-11 * (n_c + n_d), 0)
    at_c, at_d = np.nonzero((gap + 1e-6 * np.sqrt(n_c + n_d) >= worst * np.sqrt(least)) if worst > 0 else gap > -np.inf)
    return c[at_c], d[at_d]


def in_full(index: PairIndex, rows: Int64, query_of: MakeQuery, k: int, at_least: float) -> Quadruples:
    """The ``k`` best quadruples of some b, of those that score ``at_least``: all pairs of each."""
    found = Quadruples.none()
    for b in rows:
        query = query_of(int(b))
        if query is None or not query.as_c.any() or not query.as_d.any():
            continue
        pairs = search_pairs(index, query, k, at_least=max(at_least, found.worst(k)))
        found = found.with_pairs(int(b), pairs.c, pairs.d, pairs.scores, k)
    return replace(found, certified=np.ones(len(found.b), bool))
