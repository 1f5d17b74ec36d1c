"""a is to b as c is to d: the pairs (c, d) most like a pair, the fourth of three, or all but the first.

a, b            pairs c, d     all vectors in memory, one float32 matrix; see cagdask.vectors.analogies.pairs
a, b, given c   d              one pass over the store; see cagdask.vectors.questions
a               b, c, d        screened, or in full over the workers; see cagdask.vectors.analogies.quadruples
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute import memory
from cagdask.compute.runner import Runner, as_runner
from cagdask.errors import InputError
from cagdask.vectors.analogies.pairs import BLOCK, PairIndex
from cagdask.vectors.analogies.quadruples import Quadruples, in_full, screen
from cagdask.vectors.analogies.rules import QueryMaker, Rules, check_rules
from cagdask.vectors.names import Names
from cagdask.vectors.questions import Question, ask
from cagdask.vectors.ranking import best, directions, score
from cagdask.vectors.sources import Vectors, opened, prepared

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

Int64 = NDArray[np.int64]

EXACT_TASKS = 8
"""Tasks per thread of the exact search with b free."""


def analogies(
    source: str | xr.Dataset,
    a: str,
    b: str | None = None,
    *,
    given: str | None = None,
    k: int = 10,
    metric: str = "cosine",
    operation: str = "difference",
    method: str = "add",
    shared: bool = False,
    max_sim: float | None = None,
    candidates: Sequence[str] | None = None,
    exact: bool = False,
    normalization: str | None = None,
    clr_floor: float | str | None = None,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> pd.DataFrame:
    """Find the pairs of genes that are to each other as a is to b.

    Parameters
    ----------
    source
        As for :func:`cagdask.similar`.
    a, b
        Genes, by id or symbol. Without ``b`` the best b, c and d are searched.
    given
        The third gene: only d is searched.
    k
        Answers to find. All, if there are fewer.
    metric
        ``cosine`` of c - d and a - b, or the ``euclidean`` distance between them.
    operation
        ``difference``, or ``sum`` for c + d and a + b (whose pairs have no order: c is the earlier row).
    method
        With ``given``: ``add`` is 3CosAdd, ``mul`` is 3CosMul.
    shared
        Whether a or b may be c or d. The pair (a, b) itself is never an answer, nor is d the given gene.
    max_sim
        Leave out c more like a than this cosine, and d more like b: near-duplicates. For sums, either of either.
    candidates
        Genes that b, c and d are taken from. Default all.
    exact
        Without ``b``: search every b in full, on the workers, instead of screening.
    normalization, clr_floor, client, n_workers, memory_limit
        As for :func:`cagdask.similar`.

    Returns
    -------
    DataFrame
        ``gene_a``, ``gene_b``, ``gene_c``, ``gene_d``, ``similarity`` (float64, best first; minus the distance for
        ``euclidean``) and ``certified``: whether no better answer can have been missed. ``attrs["n_zero"]`` counts zero
        vectors, which are in no answer, ``attrs["n_duplicates"]`` vectors equal to an earlier one: two equal ones are
        no pair.

    Raises
    ------
    InputError
        A gene is not known, a is b, or their vectors give no direction.
    SchemaError, StoreError, MemoryLimitError
        The store has no vectors, can not be opened, or does not fit memory.
    ValueError
        A parameter is not known or out of range.

    Notes
    -----
    Pairs are searched in this process: all vectors as float32, about 10 n^2 products of vectors to begin with, and a
    hundredth of that for each pair. With ``given`` one pass over the store. See the page on vectors of the
    documentation for what each takes.

    References
    ----------
    .. [1] Mikolov, Yih and Zweig (2013). Linguistic regularities in continuous space word representations.
    .. [2] Levy and Goldberg (2014). Linguistic regularities in sparse and explicit word representations.
    """
    rules = Rules(metric, operation, shared, max_sim)
    check_rules(rules, k, method, [(a, b, given)], exact=exact)
    options = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    with opened(source, normalize=normalization, clr_floor=clr_floor, **options) as (vectors, runner):  # type: ignore[arg-type]  # a dict of mixed values
        names, among = Names(vectors), list(candidates) if candidates is not None else None
        names.rows([name for name in (a, b, given, *(among or ())) if name is not None])  # known, before any is read
        session = Session(prepared(vectors, runner), names, runner, among)
        return session.answer(a, b, given, rules, k=k, method=method, exact=exact, n_workers=n_workers)


@dataclass
class Session:
    """Vectors opened for any number of questions; what is computed for one is there for the next.

    Attributes
    ----------
    vectors, names, runner
        What is searched.
    candidates
        Genes that answers are taken from; None for all.
    """

    vectors: Vectors
    names: Names
    runner: Runner
    candidates: list[str] | None = None
    _index: dict[tuple[int, ...], tuple[Int64, PairIndex]] = field(default_factory=dict)

    @cached_property
    def candidate_rows(self) -> Int64 | None:
        """Rows of the candidates, in the order of the store."""
        if self.candidates is None:
            return None
        if not self.candidates:
            raise InputError("there are no candidates. Name genes that answers are taken from.")
        return np.unique(self.names.rows(self.candidates))

    def answer(
        self,
        a: str,
        b: str | None,
        given: str | None,
        rules: Rules,
        *,
        k: int,
        method: str = "add",
        exact: bool = False,
        n_workers: int | None = None,
    ) -> pd.DataFrame:
        """The table of :func:`analogies` for one question."""
        asked = [name for name in (a, b, given) if name is not None]
        rows = self.names.rows(asked)
        if len(set(rows.tolist())) < len(rows):
            raise InputError(f"{', '.join(asked)}: two of these names are one gene. Name different ones.")
        if given is not None:
            return self._fourth(rows, rules, k, method)
        if b is not None:
            return self._pairs(int(rows[0]), int(rows[1]), rules, k)
        return self._free(int(rows[0]), rules, k, exact, n_workers)

    # -- c and d ---------------------------------------------------------------------------------------------------

    def index(self, *rows: int) -> tuple[Int64, PairIndex]:
        """The store's rows that are in memory, ascending, and their index: the candidates and ``rows``, or all."""
        wanted = self.candidate_rows
        if wanted is None:
            key: tuple[int, ...] = ()
            wanted = np.arange(self.vectors.n)
        else:
            key = tuple(sorted(set(rows) - set(wanted.tolist())))
            wanted = np.union1d(wanted, np.array(rows, np.int64))
        if key not in self._index:
            self._index.clear()
            self._index[key] = wanted, load(self.vectors, wanted, self.runner.memory_limit)
        return self._index[key]

    def _pairs(self, a: int, b: int, rules: Rules, k: int) -> pd.DataFrame:
        rows, index = self.index(a, b)
        maker = QueryMaker(index, rows, self.candidate_rows, int(np.searchsorted(rows, a)), rules)
        query = maker.query(int(np.searchsorted(rows, b)))
        if query is None:
            raise InputError(
                f"{self.vectors.url}: the vectors of {self._name(a)!r} and {self._name(b)!r} "
                f"{'are the same' if rules.sign > 0 else 'cancel out'}{maker.why(a, b)}, so their {rules.operation} "
                "has no direction. Ask for another pair."
            )
        found = index.search(query, k)
        b_rows = np.full(len(found.c), b, np.int64)
        scores, certified = found.scores, np.ones(len(found.c), bool)
        return self._table(a, b_rows, rows[found.c], rows[found.d], scores, certified, k, index)

    # -- d alone ---------------------------------------------------------------------------------------------------

    def _fourth(self, rows: Int64, rules: Rules, k: int, method: str) -> pd.DataFrame:
        unit = directions(self.vectors.read_at(rows), "cosine")
        for row, vector in zip(rows, unit, strict=True):
            if not vector.any():
                raise InputError(
                    f"{self.vectors.url}: the vector of {self._name(int(row))!r} is zero. Ask for another."
                )
        a, b, given = unit
        excluded = tuple(rows[2:].tolist() if rules.shared else rows.tolist())
        if method == "mul":
            question = Question(np.stack([given, b, a]), "mul", excluded)
        else:
            target = directions((given + b - a)[None], "cosine")
            if not target.any():
                raise InputError(
                    f"{self.vectors.url}: {', '.join(self._name(int(row)) for row in rows)} cancel out, so there is no "
                    "direction to search in. Ask for others."
                )
            question = Question(target, "one", excluded)
        allowed = self._allowed_fourth(rows, rules)
        n = k if allowed is None else self.vectors.n  # few are allowed: rank all, then choose
        found = ask(self.vectors, self.runner, [question], n, "cosine")[0]
        keep = np.ones(len(found.rows), bool) if allowed is None else allowed[found.rows]
        d, scores = found.rows[keep][:k], found.scores[keep][:k]
        b_rows, c_rows = (np.full(len(d), row, np.int64) for row in rows[1:])
        return self._table(int(rows[0]), b_rows, c_rows, d, scores, np.ones(len(d), bool), k, found.n_without)

    def _allowed_fourth(self, rows: Int64, rules: Rules) -> NDArray[np.bool_] | None:
        if self.candidate_rows is None and rules.max_sim is None:
            return None
        allowed = np.ones(self.vectors.n, bool)
        if self.candidate_rows is not None:
            allowed[:] = False
            allowed[self.candidate_rows] = True
        if rules.max_sim is not None:
            b = directions(self.vectors.read_at(rows[1:2]), "cosine")
            for begin, block in self.vectors.blocks():
                allowed[begin : begin + len(block)] &= score(block, b, "cosine")[:, 0] <= rules.max_sim
        return allowed

    # -- b, c and d ------------------------------------------------------------------------------------------------

    def _free(self, a: int, rules: Rules, k: int, exact: bool, n_workers: int | None) -> pd.DataFrame:
        rows, index = self.index(a)
        maker = QueryMaker(index, rows, self.candidate_rows, int(np.searchsorted(rows, a)), rules)
        if not index.rows[maker.a].any():
            raise InputError(f"{self.vectors.url}: the vector of {self._name(a)!r} is zero. Ask for another.")
        others = maker.others()
        found = screen(index, others, maker.query, k)
        if (exact and not found.certified.all()) or (exact and len(found.b) < k):
            found = self._in_full(a, rules, k, found.worst(k), len(others), n_workers)
        return self._table(a, rows[found.b], rows[found.c], rows[found.d], found.scores, found.certified, k, index)

    def _in_full(self, a: int, rules: Rules, k: int, at_least: float, n: int, n_workers: int | None) -> Quadruples:
        wanted = self.candidate_rows
        among = None if wanted is None else base64.b64encode(wanted.tobytes()).decode()
        limit = self.runner.memory_limit
        with as_runner(self.runner if self.runner.client else None, n_workers=n_workers, memory_limit=limit) as runner:
            step = max(1, -(-n // (EXACT_TASKS * runner.n_threads)))
            items = [
                (self.vectors.to_json(), among, a, asdict(rules), begin, min(n, begin + step), k, _finite(at_least))
                for begin in range(0, n, step)
            ]
            need, at_once = _index_bytes(len(self.index(a)[0]), self.vectors.n_columns), runner.n_threads
            memory.check_fits("every b", need, "all vectors", runner.memory_limit, at_once // runner.n_workers)
            weights = [item[5] - item[4] for item in items]
            parts = runner.map("every b", search_every_b, items, unit="genes", weights=weights)
        b, c, d = (np.array([row for part in parts for row in part[name]], np.int64) for name in "bcd")
        scores = np.array([value for part in parts for value in part["scores"]], np.float64)
        order = best(scores, k, b, c, d)
        return Quadruples(b[order], c[order], d[order], scores[order], np.ones(len(order), bool))

    # -- the table -------------------------------------------------------------------------------------------------

    def _name(self, row: int) -> str:
        return str(self.names.ids[row])

    def _table(
        self,
        a: int,
        b: Int64,
        c: Int64,
        d: Int64,
        scores: NDArray[np.float64],
        certified: NDArray[np.bool_],
        k: int,
        counted: PairIndex | int,
    ) -> pd.DataFrame:
        import pandas as pd

        if len(scores) < k:
            logger.warning("%d answers were asked for, and there are only %d", k, len(scores))
        if isinstance(counted, int):
            n_zero, n_duplicates = counted, 0
        else:
            n_zero, n_duplicates = counted.n_zero, counted.n_duplicates
        if n_zero or n_duplicates:
            logger.info("%d zero vectors were left out; %d vectors are equal to another", n_zero, n_duplicates)
        ids = self.names.ids
        columns: dict[str, Any] = {"gene_a": [str(ids[a])] * len(b)}
        for name, rows in (("gene_b", b), ("gene_c", c), ("gene_d", d)):
            columns[name] = [str(ids[row]) for row in rows]
        table = pd.DataFrame(columns | {"similarity": scores, "certified": certified})
        table.attrs = {"n_zero": n_zero, "n_duplicates": n_duplicates}
        return table


def load(vectors: Vectors, rows: Int64, memory_limit: int) -> PairIndex:
    """Read some rows of a store into memory, ascending.

    Raises
    ------
    MemoryLimitError
        They do not fit.
    """
    need = _index_bytes(len(rows), vectors.n_columns)
    memory.check_fits("analogy", need, f"{len(rows):,} vectors of {vectors.n_columns:,} values", memory_limit)
    matrix = np.empty((len(rows), vectors.n_columns), np.float32)
    by_chunk = replace(vectors, block_rows=vectors.chunk_rows)  # the matrix is large enough
    for begin, block in by_chunk.blocks():
        first, last = np.searchsorted(rows, [begin, begin + len(block)])
        if first < last:
            matrix[first:last] = block[rows[first:last] - begin]
    return PairIndex(matrix)


def _index_bytes(n: int, n_columns: int) -> int:
    return n * (4 * n_columns + 100) + 16 * BLOCK * (n_columns + BLOCK)


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None


def search_every_b(
    vectors: dict[str, Any],
    among: str | None,
    a: int,
    rules: dict[str, Any],
    begin: int,
    end: int,
    k: int,
    at_least: float | None,
) -> dict[str, Any]:
    """Task: the ``k`` best quadruples of some of the rows that may be b.

    ``among`` holds the rows of candidates, int64, in base64. Returns places in the index and scores. Memory: all
    vectors of the candidates.
    """
    source = Vectors.from_json(vectors)
    wanted = None if among is None else np.frombuffer(base64.b64decode(among), np.int64)
    rows = np.arange(source.n) if wanted is None else np.union1d(wanted, [a])
    index = load(source, rows, 2**62)
    maker = QueryMaker(index, rows, wanted, int(np.searchsorted(rows, a)), Rules(**rules))
    least = -np.inf if at_least is None else at_least
    found = in_full(index, maker.others()[begin:end], maker.query, k, least)
    lists = {"b": found.b, "c": found.c, "d": found.d, "scores": found.scores}
    return {name: values.tolist() for name, values in lists.items()}
