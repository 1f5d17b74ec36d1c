"""Solve a : b :: c : d for the genes that are not given.

a, b            pairs c, d     all vectors in memory, one float32 matrix; see cagdask.vectors.analogies.pairs
a, b, given c   d              one pass over the store; see cagdask.vectors.questions
a               b, c, d        screened, or in full over the workers; see cagdask.vectors.analogies.quadruples
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute import memory
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.vectors.analogies.pairs import BLOCK, PairIndex
from cagdask.vectors.analogies.quadruples import Quadruples, in_full, screen
from cagdask.vectors.analogies.rules import Asked, QueryMaker, Rules, check_rules
from cagdask.vectors.names import Names
from cagdask.vectors.questions import Question, ask
from cagdask.vectors.ranking import best, directions
from cagdask.vectors.sources import Vectors, opened, prepared
from cagdask.vectors.tables import Found, cut_columns, with_descriptions

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client

    from cagdask.normalization.sample_statistics import Floor

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
    asked: list[Asked] = [(a, b, given)]
    options: dict[str, Any] = {"k": k, "method": method, "exact": exact}
    rules, _ = check_rules(asked, metric=metric, operation=operation, shared=shared, max_sim=max_sim, **options)
    where: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    where |= {"normalization": normalization, "clr_floor": clr_floor}
    with open_analogies(source, candidates=candidates, **where) as session:
        return session.find(asked, rules, n_workers=n_workers, **options)[0].to_table()


@contextmanager
def open_analogies(
    source: str | xr.Dataset,
    *,
    candidates: Sequence[str] | None = None,
    descriptions: dict[str, tuple[str, str]] | None = None,
    normalization: str | None = None,
    clr_floor: Floor = None,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> Iterator[Session]:
    """Open vectors for any number of questions; see :func:`cagdask.analogies` for the parameters.

    ``descriptions`` gives symbol and description by id, in place of the store's own.
    """
    where: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    with opened(source, normalize=normalization, clr_floor=clr_floor, **where) as (vectors, runner):
        among = list(candidates) if candidates is not None else None
        yield Session(vectors, Names(vectors, descriptions), runner, among)


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

    def answer(self, a: str, b: str | None, given: str | None, rules: Rules, **options: Any) -> pd.DataFrame:
        """The table of :func:`analogies` for one question; options as for :meth:`find`."""
        return self.find([(a, b, given)], rules, **options)[0].to_table()

    def find(
        self,
        questions: Sequence[Asked],
        rules: Rules,
        *,
        k: int = 10,
        method: str = "add",
        exact: bool = False,
        described: bool = False,
        n_workers: int | None = None,
    ) -> list[Found]:
        """The answer of :func:`analogies` to each question.

        All questions with a third gene take one pass over the store together.

        Parameters
        ----------
        questions
            Genes a, b and c; without c both c and d are searched, without b and c all three.
        rules, k, method, exact, n_workers
            What counts as an answer, and how it is searched.
        described
            Whether answers get ``symbol_c``, ``description_c`` and so on, where the store has them.

        Raises
        ------
        ValueError, InputError
            A question is not allowed, or a gene is not known. Raised before anything is read.
        """
        check_rules(questions, **asdict(rules), k=k, method=method, exact=exact)
        if not questions:
            return []
        rows = self._known(questions)
        self.vectors = prepared(self.vectors, self.runner)
        answers: list[Any] = [None] * len(questions)
        fourth = [i for i, (_, _, given) in enumerate(questions) if given is not None]
        for i, found in zip(fourth, self._fourth([rows[i] for i in fourth], rules, k, method, described), strict=True):
            answers[i] = found
        for i, (_, b, given) in enumerate(questions):
            if given is None:
                a = int(rows[i][0])
                found = (
                    self._free(a, rules, k, exact, n_workers)
                    if b is None
                    else self._pairs(a, int(rows[i][1]), rules, k)
                )
                answers[i] = with_descriptions(found, self.names) if described else found
        return answers

    def _known(self, questions: Sequence[Asked]) -> list[Int64]:
        """Rows of the genes of each question."""
        asked = [[name for name in question if name is not None] for question in questions]
        rows = self.names.rows([*(name for names in asked for name in names), *(self.candidates or ())])
        found = np.split(rows[: sum(map(len, asked))], np.cumsum([len(names) for names in asked])[:-1])
        for names, own in zip(asked, found, strict=True):
            if len(set(own.tolist())) < len(names):
                raise InputError(f"{', '.join(names)}: two of these names are one gene. Name different ones.")
        return found

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

    def _pairs(self, a: int, b: int, rules: Rules, k: int) -> Found:
        rows, index = self.index(a, b)
        maker = QueryMaker(index, rows, self.candidate_rows, int(np.searchsorted(rows, a)), rules)
        query = maker.query(int(np.searchsorted(rows, b)))
        if query is None:
            zero = [self._name(row) for row in maker.zero(a, b)]
            how = "are the same" if rules.sign > 0 else "cancel out"
            what = (
                f"the vector of {' and of '.join(map(repr, zero))} is zero: it"
                if zero
                else f"the vectors of {self._name(a)!r} and {self._name(b)!r} {how}, so their {rules.operation}"
            )
            raise InputError(f"{self.vectors.url}: {what} has no direction. Ask for another pair.")
        found = index.search(query, k)
        b_rows = np.full(len(found.c), b, np.int64)
        scores, certified = found.scores, np.ones(len(found.c), bool)
        return self._table(a, b_rows, rows[found.c], rows[found.d], scores, certified, k, index)

    # -- d alone ---------------------------------------------------------------------------------------------------

    def _fourth(self, questions: Sequence[Int64], rules: Rules, k: int, method: str, described: bool) -> list[Found]:
        """Answers to questions with a third gene, given as rows of a, b and c; one pass over the store."""
        if not questions:
            return []
        among = self.candidate_rows
        asked = self._questions_for_fourth(np.stack(questions), rules, method)
        found = ask(self.vectors, self.runner, asked, k, "cosine", among)
        lengths = [len(answer.rows) for answer in found]
        a, b, c = (np.repeat(column, lengths) for column in np.stack(questions).T)
        d = np.concatenate([answer.rows for answer in found])
        scores = np.concatenate([answer.scores for answer in found])
        columns = self._columns(a, b, c, d, scores, np.ones(len(d), bool))
        if described:
            for place, rows in (("c", c), ("d", d)):
                more = self.names.columns(rows)
                columns |= {f"{name}_{place}": more[name] for name in more if name != "gene"}
        if min(lengths) < k:
            logger.warning("%d answers were asked for, and there are only %d", k, min(lengths))
        if found[0].n_without:
            logger.info("%d zero vectors were left out", found[0].n_without)
        attrs = {"n_zero": found[0].n_without, "n_duplicates": 0}
        return [Found(part, attrs) for part in cut_columns(columns, lengths)]

    def _questions_for_fourth(self, rows: Int64, rules: Rules, method: str) -> list[Question]:
        """What is asked of every row; ``rows`` has shape (n_questions, 3)."""
        distinct, place = np.unique(rows, return_inverse=True)
        unit = directions(self.vectors.read_at(distinct), "cosine")
        zero = np.flatnonzero(~unit.any(axis=1))
        if len(zero):
            name = self._name(int(distinct[zero[0]]))
            raise InputError(f"{self.vectors.url}: the vector of {name!r} is zero. Ask for another.")
        a, b, given = (unit[column] for column in place.reshape(rows.shape).T)
        if method == "mul":
            vectors = np.stack([given, b, a], axis=1)
        else:
            target = directions(given + b - a, "cosine")
            without = np.flatnonzero(~target.any(axis=1))
            if len(without):
                names = ", ".join(self._name(int(row)) for row in rows[without[0]])
                raise InputError(
                    f"{self.vectors.url}: {names} cancel out, so there is no direction to search in. Ask for others."
                )
            vectors = target[:, None]
        if rules.max_sim is not None:
            vectors = np.concatenate([vectors, b[:, None]], axis=1)
        combine = "mul" if method == "mul" else "one"
        excluded = rows[:, 2:] if rules.shared else rows
        return [
            Question(own, combine, tuple(none), rules.max_sim)
            for own, none in zip(vectors, excluded.tolist(), strict=True)
        ]

    # -- b, c and d ------------------------------------------------------------------------------------------------

    def _free(self, a: int, rules: Rules, k: int, exact: bool, n_workers: int | None) -> Found:
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
        alone = self.runner.in_process and n_workers is not None  # this process was enough for the other questions
        with as_runner(None if alone else self.runner, n_workers=n_workers, memory_limit=limit) as runner:
            step = max(1, -(-n // (EXACT_TASKS * runner.n_threads)))
            items = [
                (self.vectors.to_json(), among, a, asdict(rules), begin, min(n, begin + step), k, _finite(at_least))
                for begin in range(0, n, step)
            ]
            runner.check_fits("every b", _index_bytes(len(self.index(a)[0]), self.vectors.n_columns), "all vectors")
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
        index: PairIndex,
    ) -> Found:
        if len(scores) < k:
            logger.warning("%d answers were asked for, and there are only %d", k, len(scores))
        n_zero, n_duplicates = index.n_zero, index.n_duplicates
        if n_zero or n_duplicates:
            logger.info("%d zero vectors were left out; %d vectors are equal to another", n_zero, n_duplicates)
        columns = self._columns(np.full(len(b), a, np.int64), b, c, d, scores, certified)
        attrs = {"n_zero": n_zero, "n_duplicates": n_duplicates}
        return Found(next(cut_columns(columns, [len(b)])), attrs)

    def _columns(
        self, a: Int64, b: Int64, c: Int64, d: Int64, scores: NDArray[np.float64], certified: NDArray[np.bool_]
    ) -> dict[str, Any]:
        ids = self.names.ids
        columns: dict[str, Any] = {
            f"gene_{place}": ids[rows].tolist() for place, rows in zip("abcd", (a, b, c, d), strict=True)
        }
        return columns | {"similarity": scores, "certified": certified}


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
