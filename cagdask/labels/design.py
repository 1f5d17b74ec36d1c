"""What a test of labelled samples asks: the groups that are compared, the model, and what is refused before any work.

labels, covariates of samples --read--> groups, pairs, cohorts, model matrix --checked--> Question, DesignFiles
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.labels.reading import LABEL
from cagdask.storage.arrays import Files, array

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

TESTS = ("rank-sum", "paired", "kruskal", "linear", "logistic")
LEAST = 3
"""Samples that each group must have."""
Float64 = NDArray[np.float64]


class DesignFiles(Files):
    """What tasks know of the samples that are tested."""

    column: NDArray[np.int64] = array(np.int64, "sample", "column in the store")
    group: NDArray[np.int64] = array(np.int64, "sample", "group, 0 = the first")
    cohort: NDArray[np.int64] = array(np.int64, "sample", "cohort, 0 without any")
    design: Float64 = array(np.float64, "sample, term", "model matrix; empty for tests of ranks")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes
    ----------
    test
        One of :data:`TESTS`.
    levels
        Groups, the first of which others are compared with.
    column
        Term of the design whose effect is asked for, with ``linear``.
    zero_aware
        Whether presence and amount are tested apart, with ``rank-sum``.
    """

    test: str
    levels: list[str]
    column: int = 0
    zero_aware: bool = False


def check_options(
    test: str, pairs: str | None, formula: str | None, cohort: str | None, prevalence: float, zero_aware: bool
) -> None:
    """Refuse a test that is not known, and options that do not go together."""
    if test not in TESTS:
        raise ValueError(f"`test` is {test!r}; choose one of {', '.join(TESTS)}.")
    if (test == "paired") != (pairs is not None):
        raise ValueError("`test='paired'` needs a column of `pairs`, and only that test takes one.")
    if formula is not None and test not in ("linear", "logistic"):
        raise ValueError(f"`formula` is for linear and logistic, not for {test}. Leave it out.")
    if cohort is not None and test in ("paired", "kruskal"):
        raise ValueError(f"`cohort` is not for `test={test!r}`. Leave it out.")
    if zero_aware and (test != "rank-sum" or cohort is not None):
        raise ValueError("`zero_aware` is for rank-sum without cohorts. Leave it out.")
    if not 0 <= prevalence <= 1:
        raise ValueError(f"`min_prevalence` is {prevalence}; it is a share from 0 to 1.")


def _column(table: pd.DataFrame, name: str, what: str) -> pd.Series:
    if name not in table:
        raise InputError(f"no column {name!r} for {what}; there are {', '.join(map(str, table.columns))}.")
    return table[name]


def design_of(
    table: pd.DataFrame,
    test: str,
    groups: tuple[str, ...] | None,
    pairs: str | None,
    formula: str | None,
    cohort: str | None,
) -> tuple[Question, DesignFiles]:
    """Groups, cohorts and model matrix of the samples that can be tested; arguments are those of ``associate``."""
    found = sorted(table[LABEL].dropna().unique())
    levels = list(groups) if groups else found
    unknown = sorted(set(levels) - set(found))
    if unknown:
        raise InputError(f"no sample has the label {unknown[0]!r}; labels are {', '.join(found)}.")
    if len(levels) < 2:
        raise InputError(f"all samples have the label {', '.join(levels) or '-'}: there is nothing to compare.")
    if len(levels) > 2 and test != "kruskal":
        raise InputError(f"{test} compares two groups, and {_too_many(levels)}")
    table = table.assign(_place=np.arange(len(table)), _group=table[LABEL].map({x: i for i, x in enumerate(levels)}))
    table = table[table["_group"].notna()]
    if cohort is not None:
        table = table[_column(table, cohort, "cohorts").notna()]
    if pairs is not None:
        table = _paired_rows(table, pairs)
    matrix, column = np.zeros((len(table), 0)), 0
    if test in ("linear", "logistic"):
        table, matrix, column = _model(table, test, formula)
    codes = np.unique(table[cohort].astype(str), return_inverse=True)[1] if cohort else np.zeros(len(table))
    group, codes = table["_group"].to_numpy(np.int64), codes.astype(np.int64)
    _check_groups(levels, group, codes, cohort)
    made = DesignFiles(column=table["_place"].to_numpy(np.int64), group=group, cohort=codes, design=matrix)
    return Question(test, levels, column), made


def _too_many(levels: list[str]) -> str:
    """Say which labels there are, and what to do when a test takes two of them."""
    shown = ", ".join(levels[:6]) + (", …" if len(levels) > 6 else "")
    pair = ",".join(levels[:2])
    if all(map(_is_number, levels)):
        return (
            f"the labels are {len(levels)} numbers ({shown}). Write a table of samples and groups, such as low and "
            "high, and name it with `labels`."
        )
    return f"there are {len(levels)} labels: {shown}. Name two, such as `groups={pair!r}`, or use `test='kruskal'`."


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _check_groups(levels: list[str], group: NDArray[np.int64], codes: NDArray[np.int64], cohort: str | None) -> None:
    for code in np.unique(codes):
        for number, level in enumerate(levels):
            n = int(((group == number) & (codes == code)).sum())
            if n < LEAST:
                where = f" in a cohort of column {cohort!r}" if cohort else ""
                raise InputError(
                    f"group {level!r} has {n} samples{where}; a test needs {LEAST} or more in each group. Name "
                    "others with `groups`."
                )


def _paired_rows(table: pd.DataFrame, pairs: str) -> pd.DataFrame:
    """Samples of whole pairs: those of the first group, then those of the second in the same order."""
    table = table[_column(table, pairs, "pairs").notna()]
    counted = table.groupby([pairs, "_group"]).size()
    if (counted > 1).any():
        raise InputError(f"pair {counted.index[counted > 1][0][0]!r} has more than one sample of a group. Keep one.")
    whole = table.groupby(pairs).size()
    left = int((whole < 2).sum())
    if left:
        logger.warning("%d samples have no partner and are left out", left)
    table = table[table[pairs].isin(whole.index[whole == 2])]
    return table.sort_values(["_group", pairs], kind="stable")


def _model(table: pd.DataFrame, test: str, formula: str | None) -> tuple[pd.DataFrame, Float64, int]:
    """Rows without missing covariates, their model matrix, and the column of the label in it (``linear``)."""
    import patsy

    terms = f"1 + {formula}" if formula else "1"
    try:
        covariates = patsy.dmatrix(terms, table, return_type="dataframe", NA_action="drop")
    except patsy.PatsyError as err:
        raise InputError(f"formula {formula!r}: {str(err).splitlines()[0]}. Check names of columns.") from err
    if len(covariates) < len(table):
        logger.warning("%d samples lack a covariate and are left out", len(table) - len(covariates))
    table = table.loc[covariates.index]
    both = np.column_stack([covariates.to_numpy(float), table["_group"].to_numpy(float)])
    if np.linalg.matrix_rank(both) < both.shape[1]:
        raise InputError(f"the label follows from the covariates ({formula or 'none'}): effects can not be told apart.")
    if len(both) <= both.shape[1]:
        raise InputError(f"{len(both)} samples are too few for {both.shape[1]} terms of the model.")
    return table, both if test == "linear" else both[:, :-1], both.shape[1] - 1
