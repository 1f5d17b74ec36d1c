"""Samples that are none: the total, or the mean, of the others, in a row or a column of its own.

    sample_id  g1  g2  g3
    s1          1   0   4
    s2          2   5   0
    Total       3   5   4      refused, unless ``totals='keep'``

What is named as a total is compared with the others as a whole, since spreadsheets round. Whatever has another name has
to be their sum gene by gene. Where samples are the rows, only the first and the last row may have another name: all the
others are gone when the sum is known.

Memory: a few arrays as long as a row.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError

REFUSE, KEEP = "refuse", "keep"
TOTALS = (REFUSE, KEEP)
"""What happens to a sample that is the sum of the others."""
_TOTAL = re.compile(
    r"(?i)((grand|overall|columns?|cols?|rows?|sub)[ _.-]?)?(totals?|sums?)"
    r"([ _.-](reads|counts|abundances?|all|samples|(of[ _.-])?all([ _.-]samples)?))?"
    r"|all([ _.-]?samples)?|overall|combined|pooled|summe|gesamt|somme|total[ei]s?|suma|[Σ∑]"
)
_MEAN = re.compile(r"(?i)((grand|overall|columns?|cols?|rows?)[ _.-]?)?(mean|average|avg)s?")
_TOLERANCE = 1e-3  # of a gene: sums are written with fewer digits than they have
_ROUNDED = 1e-2  # of all genes together, where the name says what it is
_FEWEST_GENES = 10  # that a total of another name must hold: few numbers add up by chance


def _named(name: str) -> str | None:
    plain = name.strip().rstrip(":")
    return "sum" if _TOTAL.fullmatch(plain) else "mean" if _MEAN.fullmatch(plain) else None


def _expected(what: str, sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """What a total or mean of ``n`` samples with these sums would be."""
    return sums / max(1, n) if what == "mean" else sums


def _is_close(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = np.abs(values - others) <= _TOLERANCE * np.maximum(values, others)
    return close


class Totals:
    """Looks for a sample that is the sum or the mean of the others, while batches pass.

    Parameters
    ----------
    url
        The table, for messages.
    columns
        Samples, where they are the columns; None where they are the rows.
    kept
        Samples that are asked for by name.
    """

    def __init__(self, url: str, columns: list[str] | None, kept: tuple[str, ...]) -> None:
        self._url = url
        self._kept = frozenset(kept)
        self._watch: _Columns | _Rows = _Rows(self._kept) if columns is None else _Columns(columns, self._kept)

    def see(self, ids: Any, values: NDArray[Any]) -> None:
        """Look at a batch: names of its rows, and values, shape (rows, columns)."""
        if len(values):
            self._watch.see(ids, values)

    def check(self) -> None:
        """Refuse the table, if there is one.

        Raises
        ------
        InputError
            Names the sample, and how to leave it out or to keep it.
        """
        for name, what, n in self._watch.found():
            raise InputError(
                f"{self._url}: sample {name!r} is the {what} of the {n:,} others, so it is no sample. Leave it out "
                f"with `exclude_samples={'^' + re.escape(name) + '$'!r}`, or keep it with `totals='keep'`."
            )


class _Rows:
    """Samples are the rows: those that may be totals are kept until the sum of all is known."""

    def __init__(self, kept: frozenset[str]) -> None:
        self._kept = kept
        self._of_name: dict[str, NDArray[np.float64]] = {}
        self._ends: dict[str, NDArray[np.float64]] = {}  # the first and the last
        self._first: str | None = None
        self._sums: NDArray[np.float64] | None = None
        self._n = self._n_held = 0

    def see(self, ids: Any, values: NDArray[Any]) -> None:
        names = ids.to_pylist()
        self._sums = values.sum(axis=0, dtype=np.float64) + (0 if self._sums is None else self._sums)
        self._n += len(names)
        self._n_held += int(values.any(axis=1).sum())
        for i in (i for i, name in enumerate(names) if name not in self._kept and _named(name)):
            self._of_name[names[i]] = values[i].astype(np.float64)
        first = names[0] if self._first is None else self._first
        self._ends = {name: held for name, held in self._ends.items() if name == first}
        self._first = first
        for i in {0 if not self._ends else len(names) - 1, len(names) - 1}:
            self._ends[names[i]] = values[i].astype(np.float64)

    def found(self) -> list[tuple[str, str, int]]:
        """Name, ``sum`` or ``mean``, and the number of others, of each."""
        if self._sums is None or self._n < 2:
            return []
        found = []
        plain = self._sums - sum(self._of_name.values(), np.zeros_like(self._sums))
        for name, values in self._of_name.items():
            what = _named(name) or "sum"
            for sums, n in ((plain, self._n - len(self._of_name)), (self._sums - values, self._n - 1)):
                off = np.abs(values - _expected(what, sums, n)).sum()
                if n and 0 < values.sum() and off <= _ROUNDED * values.sum():
                    found.append((name, what, n))
                    break
        if found or self._n_held < 3:
            return found
        ends = [(name, values) for name, values in self._ends.items() if name not in self._kept]
        return [
            (name, "sum", self._n - 1)
            for name, values in ends
            if np.count_nonzero(values) >= _FEWEST_GENES and _is_close(values, self._sums - values).all()
        ]


class _Columns:
    """Samples are the columns: each is compared with the others, gene by gene, until it is none."""

    def __init__(self, names: list[str], kept: frozenset[str]) -> None:
        self._names = names
        self._what = {i: what for i, name in enumerate(names) if name not in kept and (what := _named(name))}
        self._alive = np.array([i for i, name in enumerate(names) if name not in kept], np.int64)
        self._genes = np.zeros(len(names), np.int64)
        self._off = {i: np.zeros(3) for i in self._what}  # from the plain others, from all others, and the sum
        self._held = np.zeros(len(names), bool)

    def see(self, _: Any, values: NDArray[Any]) -> None:
        if not len(self._alive) and not self._what:
            return
        total = values.sum(axis=1, dtype=np.float64)
        self._held |= values.any(axis=0)
        for rows in (slice(0, 16), slice(16, None)):  # after a few genes hardly any is left
            some = values[rows][:, self._alive].astype(np.float64)
            close = _is_close(some, total[rows, np.newaxis] - some)
            self._genes[self._alive] += np.count_nonzero(some, axis=0)
            self._alive = self._alive[close.all(axis=0)]
        n = len(self._names)
        plain = total - values[:, list(self._what)].sum(axis=1, dtype=np.float64)
        for i, what in self._what.items():
            own = values[:, i].astype(np.float64)
            for at, sums, others in ((0, plain, n - len(self._what)), (1, total - own, n - 1)):
                self._off[i][at] += np.abs(own - _expected(what, sums, others)).sum()
            self._off[i][2] += own.sum()

    def found(self) -> list[tuple[str, str, int]]:
        """Name, ``sum`` or ``mean``, and the number of others, of each."""
        n = len(self._names)
        found = []
        for i, what in self._what.items():
            plain, every, own = self._off[i]
            others = n - len(self._what) if plain <= every else n - 1
            if others and 0 < own and min(plain, every) <= _ROUNDED * own:
                found.append((self._names[i], what, others))
        if found or self._held.sum() < 3:
            return found
        return [(self._names[i], "sum", n - 1) for i in self._alive if self._genes[i] >= _FEWEST_GENES]
