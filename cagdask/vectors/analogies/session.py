"""Solve a : b :: c : d for the genes that are not given.

a, b            pairs c, d     all vectors in memory, one float32 matrix; see cagdask.vectors.analogies.pairs
a, b, given c   d              one pass over the store; see cagdask.vectors.questions
a               b, c, d        screened, or in full over the workers; see cagdask.vectors.analogies.quadruples
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.vectors.analogies.every_b import search_all
from cagdask.vectors.analogies.fourth import pair_columns, solve_fourth
from cagdask.vectors.analogies.pair_index import PairIndex, load_index
from cagdask.vectors.analogies.pairs import search_pairs
from cagdask.vectors.analogies.quadruples import screen
from cagdask.vectors.analogies.rules import Asked, QueryMaker, Rules, check_rules
from cagdask.vectors.opening import OpenVectors, open_vectors
from cagdask.vectors.tables import Found, cut_columns, with_descriptions

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

Int64 = NDArray[np.int64]


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
    rules, options = check_rules(asked, metric=metric, operation=operation, shared=shared, max_sim=max_sim, **options)
    where: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    where |= {"normalization": normalization, "clr_floor": clr_floor}
    with open_analogies(source, candidates=candidates, **where) as session:
        return session.find(asked, rules, n_workers=n_workers, **options)[0].to_table()


@contextmanager
def open_analogies(
    source: str | xr.Dataset, *, candidates: Sequence[str] | None = None, **options: Any
) -> Iterator[Session]:
    """Open vectors for any number of questions; see :func:`cagdask.analogies` for the parameters.

    Options are those of :func:`cagdask.vectors.opening.open_vectors`.
    """
    with open_vectors(source, **options) as found:
        among = list(candidates) if candidates is not None else None
        yield Session(found.vectors, found.names, found.runner, among)


@dataclass
class Session(OpenVectors):
    """Vectors opened for any number of questions; what is computed for one is there for the next.

    Attributes
    ----------
    candidates
        Genes that answers are taken from; None for all.
    """

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
        _, chosen = check_rules(questions, **asdict(rules), k=k, method=method, exact=exact)
        k, method, exact = chosen["k"], chosen["method"], chosen["exact"]
        if not questions:
            return []
        rows = self._known(questions)
        self.make_ready()
        answers: list[Any] = [None] * len(questions)
        fourth = [i for i, (_, _, given) in enumerate(questions) if given is not None]
        solved = solve_fourth(
            self, [rows[i] for i in fourth], rules, k=k, method=method, among=self.candidate_rows, described=described
        )
        for i, found in zip(fourth, solved, strict=True):
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
            self._index[key] = wanted, load_index(self.vectors, wanted, self.runner.memory_limit)
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
        found = search_pairs(index, query, k)
        b_rows = np.full(len(found.c), b, np.int64)
        scores, certified = found.scores, np.ones(len(found.c), bool)
        return self._table(a, b_rows, rows[found.c], rows[found.d], scores, certified, k, index)

    # -- b, c and d ------------------------------------------------------------------------------------------------

    def _free(self, a: int, rules: Rules, k: int, exact: bool, n_workers: int | None) -> Found:
        rows, index = self.index(a)
        maker = QueryMaker(index, rows, self.candidate_rows, int(np.searchsorted(rows, a)), rules)
        if not index.rows[maker.a].any():
            raise InputError(f"{self.vectors.url}: the vector of {self._name(a)!r} is zero. Ask for another.")
        found = screen(index, maker.others(), maker.query, k)
        if (exact and not found.certified.all()) or (exact and len(found.b) < k):
            found = search_all(self, maker, k, found.worst(k), n_workers)
        return self._table(a, rows[found.b], rows[found.c], rows[found.d], found.scores, found.certified, k, index)

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
        columns = pair_columns(self.names, np.full(len(b), a, np.int64), b, c, d, scores, certified)
        attrs = {"n_zero": n_zero, "n_duplicates": n_duplicates}
        return Found(next(cut_columns(columns, [len(b)])), attrs)
