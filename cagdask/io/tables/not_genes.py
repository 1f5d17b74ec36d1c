"""Rows that are no genes: counters, what was not mapped, and families counted again per species.

    __no_feature, N_unmapped, *     reads of no gene        (htseq-count, STAR, samtools)
    UNMAPPED, UNINTEGRATED, …       what belongs to none    (HUMAnN, MetaPhlAn, CoverM)
    Total                           the sum of all others   (spreadsheets)
    FAMILY|SPECIES beside FAMILY    the same once more      (HUMAnN)

They are kept, and said with their share of the abundance, unless an option leaves them out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables.reading import Reading
from cagdask.io.tables.tools import COUNTERS, UNMAPPED

_SHOWN = 4
_ODD = rf"^(__\w+|N_\w+|\*|(?i:{UNMAPPED.pattern}))(\||:|$)"


def check_pattern(option: str, pattern: str | None) -> None:
    """Refuse an ``exclude_genes`` or ``exclude_samples`` that is no regular expression.

    Raises
    ------
    ValueError
        It is none.
    """
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except re.error as err:
        raise ValueError(f"`{option}={pattern!r}` is no regular expression ({err}). Correct it.") from err


@dataclass
class NotGenes:
    """Chooses the genes to keep, and counts what is none.

    Attributes
    ----------
    reading
        What was asked for.
    n_left_out
        Genes left out by options.
    """

    reading: Reading
    n_left_out: int = 0
    _odd: dict[str, float] = field(default_factory=dict)
    _strata: list[tuple[str, float]] = field(default_factory=list)
    _plain: set[str] = field(default_factory=set)
    _total: float = 0.0

    def kept(self, ids: pa.StringArray) -> NDArray[np.bool_] | None:
        """Which genes stay; None where all do."""
        keep = np.ones(len(ids), bool)
        if self.reading.exclude_genes is not None:
            found = re.compile(self.reading.exclude_genes)
            keep &= np.array([found.search(name) is None for name in ids.to_pylist()], bool)
        if self.reading.exclude_unmapped:
            keep &= np.array([not _is_odd(name) for name in ids.to_pylist()], bool)
        if self.reading.stratified == "drop":
            keep &= ~np.asarray(pc.match_substring(ids, "|"))
        self.n_left_out += int(len(keep) - keep.sum())
        return None if keep.all() else keep

    def see(self, ids: pa.StringArray, sums: NDArray[Any]) -> None:
        """Note those among genes that stay which are none; ``sums`` are their abundances over all samples."""
        self._total += float(sums.sum())
        for i in np.flatnonzero(np.asarray(pc.match_substring_regex(ids, _ODD))).tolist():
            if _is_odd(name := ids[i].as_py()):
                self._odd[name] = float(sums[i])
        barred = np.asarray(pc.match_substring(ids, "|"))
        if barred.any() or self._strata:
            self._strata += [(ids[i].as_py(), float(sums[i])) for i in np.flatnonzero(barred).tolist()]
        self._plain.update(ids.filter(pa.array(~barred)).to_pylist() if self._looks_stratified(barred) else ())

    def _looks_stratified(self, barred: NDArray[np.bool_]) -> bool:
        return bool(self._strata) or bool(barred.any())

    def warnings(self) -> list[str]:
        """What the user should know, one sentence each."""
        found = []
        if self._odd:
            named = ", ".join(list(self._odd)[:_SHOWN]) + (", …" if len(self._odd) > _SHOWN else "")
            found.append(
                f"{len(self._odd)} rows are no genes ({named}): {self._share(sum(self._odd.values()))} of the "
                "abundance. "
                "Leave them out with `exclude_unmapped=True`, or with a pattern for `exclude_genes`."
            )
        strata = [(n, s) for n, s in self._strata if n.partition("|")[0] in self._plain and n not in self._odd]
        if strata:
            found.append(
                f"{len(strata)} rows are parts of other rows ({strata[0][0]}, …): "
                f"{self._share(sum(s for _, s in strata))} "
                "of the abundance is counted twice. Leave them out with `stratified='drop'`."
            )
        return found

    def _share(self, part: float) -> str:
        return f"{100 * part / self._total:.3g} %" if self._total > 0 else "0 %"

    def check_any(self, url: str, n_genes: int) -> None:
        """Refuse options that leave out everything."""
        if not n_genes and self.n_left_out:
            raise InputError(f"{url}: all {self.n_left_out:,} genes are left out. Check `exclude_genes` and the like.")


def _is_odd(name: str) -> bool:
    head = re.split(r"[|:]", name, maxsplit=1)[0]
    return bool(COUNTERS.fullmatch(name) or UNMAPPED.fullmatch(head))
