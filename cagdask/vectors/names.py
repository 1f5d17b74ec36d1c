"""Names of genes: from what a person types to the row of a store, and what to say when there is none.

A name is an id of the store or, where the store has them, a symbol. Only ids are looked through until a name is not
among them.
"""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.vectors.sources import Vectors

ENSEMBL = re.compile(r"^ENS[A-Z]{0,6}[GTP]\d{6,}(\.\d+)?$")
MISSING = "–"
"""Printed in place of a description that is not known."""
_AT_ONCE = 2**16
_COMPARED = 2000  # names that difflib compares in full; it takes 30 microseconds for each


@dataclass(frozen=True)
class Names:
    """Names of the rows of some vectors.

    Attributes
    ----------
    vectors
        Whose.
    given
        Symbol and description by id, from a file; they take the place of the store's own.
    """

    vectors: Vectors
    given: dict[str, tuple[str, str]] | None = None

    @cached_property
    def ids(self) -> NDArray[Any]:
        """Ids, shape (n,), StringDType."""
        found = self.vectors.text(f"{self.vectors.thing}_id")
        assert found is not None
        return found

    @cached_property
    def symbols(self) -> NDArray[Any] | None:
        """Symbols, shape (n,), empty where unknown; None if there are none."""
        return self._described("gene_symbol", 0)

    @cached_property
    def descriptions(self) -> NDArray[Any] | None:
        """Descriptions, shape (n,), empty where unknown; None if there are none."""
        return self._described("gene_description", 1)

    def _described(self, variable: str, part: int) -> NDArray[Any] | None:
        if self.given is None:
            return self.vectors.text(variable)
        found = np.array([self.given.get(name, ("", ""))[part] for name in self.ids.tolist()], np.dtypes.StringDType())
        return found if (found != "").any() else None

    def rows(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Rows of names, in their order, shape (len(names),).

        Raises
        ------
        InputError
            A name is not known, or is the symbol of several genes.
        """
        wanted = set(names)
        found: dict[str, int] = {}
        for begin in range(0, self.vectors.n, _AT_ONCE):  # a million names as Python text take 70 MB
            block = self.ids[begin : begin + _AT_ONCE].tolist()
            found |= {name: begin + i for i, name in enumerate(block) if name in wanted}
        for name in names:
            if name not in found:
                found[name] = self._row_of_symbol(name)
        return np.array([found[name] for name in names], np.int64)

    def _row_of_symbol(self, name: str) -> int:
        rows = np.flatnonzero(self.symbols == name) if self.symbols is not None else np.zeros(0, np.int64)
        if len(rows) > 1:
            some = ", ".join(self.ids[rows[:5]].tolist())
            raise InputError(
                f"{self.vectors.url}: the symbol {name!r} is that of {len(rows)} genes ({some}). Use an id."
            )
        if not len(rows):
            raise InputError(self._unknown(name))
        return int(rows[0])

    def _unknown(self, name: str) -> str:
        near = self.nearest(name)
        meant = f" Did you mean {', '.join(near)}?" if near else ""
        return f"{self.vectors.url}: has no {self.vectors.thing} named {name!r}.{meant} {self._hint()}"

    def _hint(self) -> str:
        first = self.ids[:200].tolist()
        kind = "Ensembl ids" if sum(bool(ENSEMBL.match(n)) for n in first) * 2 > len(first) else "names"
        if self.vectors.thing == "cag":
            return f"The store holds CAGs 0 to {self.vectors.n - 1:,}; name one by its number."
        if self.symbols is not None:
            return f"The store knows genes by {kind} such as {first[0]!r} and by symbol."
        other = "gene symbols" if kind == "Ensembl ids" else "Ensembl ids"
        return f"The store holds {kind} such as {first[0]!r}, no {other}."

    def nearest(self, name: str, n: int = 3) -> list[str]:
        """The ``n`` known names that are most like an unknown one."""
        known = self.ids.tolist() + [s for s in (self.symbols.tolist() if self.symbols is not None else []) if s]
        if len(known) > _COMPARED:
            known = heapq.nlargest(_COMPARED, known, key=lambda other: _shared_ends(name.lower(), other.lower()))
        folded: dict[str, str] = {}
        for other in known:
            folded.setdefault(other.lower(), other)
        return [folded[near] for near in difflib.get_close_matches(name.lower(), list(folded), n, cutoff=0.0)]

    def label(self, row: int) -> str:
        """What a person calls a row: its symbol, else its id."""
        return (str(self.symbols[row]) if self.symbols is not None else "") or str(self.ids[row])

    def columns(self, rows: NDArray[np.int64]) -> dict[str, list[str]]:
        """Columns ``gene``, and ``symbol`` and ``description`` where the store has any, of some rows."""
        found = {"gene": self.ids[rows].tolist()}
        if self.symbols is not None:
            found["symbol"] = self.symbols[rows].tolist()
        if self.descriptions is not None:
            found["description"] = self.descriptions[rows].tolist()
        return found


def _shared_ends(name: str, other: str) -> int:
    """Letters that two names share at their beginning and end, less what one is longer."""
    return _shared(name, other) + _shared(name[::-1], other[::-1]) - abs(len(name) - len(other))


def _shared(name: str, other: str) -> int:
    """Letters that two names share at their beginning."""
    n = min(len(name), len(other))
    return next((i for i in range(n) if name[i] != other[i]), n)
