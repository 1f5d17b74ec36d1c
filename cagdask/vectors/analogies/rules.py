"""What may be asked of analogies, and what counts as an answer.

rules, a  -->  QueryMaker  -->  for any b: the vector to compare with, and which rows may be c and which d
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.vectors.analogies.pair_index import IDENTICAL, PairIndex, Query
from cagdask.vectors.options import ANALOGY
from cagdask.vectors.ranking import directions, score

Int64 = NDArray[np.int64]

Asked = tuple[str, str | None, str | None]
"""A question: the genes a, b and c; without c, c and d are searched, without b and c all three."""


@dataclass(frozen=True)
class Rules:
    """What counts as an answer.

    Attributes
    ----------
    metric
        ``cosine`` or ``euclidean``.
    operation
        ``difference`` or ``sum``.
    shared
        Whether a or b may be c or d.
    max_sim
        c may not be more like a than this cosine, nor d like b; None allows it.
    """

    metric: str = "cosine"
    operation: str = "difference"
    shared: bool = False
    max_sim: float | None = None

    @property
    def sign(self) -> int:
        """1 for differences, -1 for sums."""
        return 1 if self.operation == "difference" else -1


def check_rules(queries: Sequence[Asked], **options: Any) -> tuple[Rules, dict[str, Any]]:
    """Refuse what can not be asked, before anything is opened; gives the rules, and ``k``, ``method``, ``exact``.

    Raises
    ------
    ValueError, InputError
        Naming the parameter or the gene.
    """
    chosen = ANALOGY.check(**ANALOGY.defaults | options)
    rules = Rules(*(chosen.pop(name) for name in ("metric", "operation", "shared", "max_sim")))
    method, exact = chosen["method"], chosen["exact"]
    for a, b, given in queries:
        if a == b:
            raise InputError(f"`a` and `b` are both {a!r}, and a gene has no difference to itself. Name two genes.")
        if b is None and given is not None:
            raise ValueError("`given` needs `b`: a is to b as the given gene is to the one that is searched.")
        if given is not None and given in (a, b):
            raise InputError(f"the given gene {given!r} is `a` or `b`. Name a third one.")
        if given is not None and (rules.metric != "cosine" or rules.operation != "difference"):
            raise ValueError("`given` is searched by cosines of differences. Leave `metric` and `operation` out.")
        if given is None and method != "add":
            raise ValueError(
                f"`method={method!r}` is for a third gene that is `given`. Name it, or leave `method` out."
            )
        if b is None and rules.metric != "cosine":
            raise ValueError("without `b` only `metric='cosine'` can be searched. Name `b`, or leave `metric` out.")
        if exact and b is not None:
            raise ValueError("`exact` is for `a` alone; with `b` every answer is exact.")
    return rules, chosen


@dataclass
class QueryMaker:
    """Queries of one a with any b, by place in an index.

    Attributes
    ----------
    index, rows
        Vectors in memory, and which rows of the store they are.
    among
        Rows of the store that answers are taken from; None for all.
    a
        Place of a.
    rules
        What counts as an answer.
    """

    index: PairIndex
    rows: Int64
    among: Int64 | None
    a: int
    rules: Rules

    def __post_init__(self) -> None:
        self.allowed: NDArray[np.bool_] = np.asarray(self.index.rows.any(axis=1))
        if self.among is not None:
            self.allowed &= np.isin(self.rows, self.among)
        if self.rules.max_sim is not None:
            self.like_a = self._cosines(self.a) > self.rules.max_sim

    def _cosines(self, place: int) -> NDArray[np.float64]:
        return score(self.index.rows, directions(self.index.rows[place : place + 1], "cosine"), "cosine")[:, 0]

    def others(self) -> Int64:
        """Places that may be b."""
        found = np.flatnonzero(self.allowed)
        others: Int64 = found[found != self.a]
        return others

    def query(self, b: int) -> Query | None:
        """The query for a and the one at place ``b``; None if their difference or sum is zero."""
        x, y = (self.index.rows[place].astype(np.float64) for place in (self.a, b))
        vector = x - self.rules.sign * y
        if (vector**2).sum() <= IDENTICAL * ((x**2).sum() + (y**2).sum()) or not x.any() or not y.any():
            return None
        as_c, as_d = self.allowed.copy(), self.allowed.copy()
        if not self.rules.shared:
            as_c[[self.a, b]] = as_d[[self.a, b]] = False
        if self.rules.max_sim is not None:
            like_b = self._cosines(b) > self.rules.max_sim
            as_c &= ~self.like_a
            as_d &= ~like_b
            if self.rules.sign < 0:
                as_c &= ~like_b
                as_d &= ~self.like_a
        excluded = (self.a, b) if self.rules.sign > 0 else (min(self.a, b), max(self.a, b))
        return Query(vector, self.rules.metric, self.rules.sign, as_c, as_d, excluded)

    def zero(self, a: int, b: int) -> list[int]:
        """Which of two rows have a vector of zeros."""
        return [row for row in (a, b) if not self.index.rows[np.searchsorted(self.rows, row)].any()]
