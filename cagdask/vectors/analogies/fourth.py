"""Solve a : b :: c : d for d: 3CosAdd or 3CosMul, all questions in one pass over the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.vectors.analogies.rules import Rules
from cagdask.vectors.names import Names
from cagdask.vectors.opening import OpenVectors
from cagdask.vectors.questions import Question, ask
from cagdask.vectors.ranking import directions
from cagdask.vectors.tables import Found, cut_columns

logger = logging.getLogger(__name__)

Int64 = NDArray[np.int64]


def solve_fourth(
    opened: OpenVectors,
    rows: Sequence[Int64],
    rules: Rules,
    *,
    k: int,
    method: str,
    among: Int64 | None,
    described: bool,
) -> list[Found]:
    """Solve a : b :: c : d for d, for any number of questions, in one pass over the store.

    Parameters
    ----------
    opened
        What is searched.
    rows
        Rows of a, b and c of each question, shape (3,) each.
    rules, k, method, described
        As for :meth:`cagdask.vectors.analogies.session.Session.find`.
    among
        Rows that answers are taken from; None for all.

    Raises
    ------
    InputError
        A vector is zero, or the three cancel out.
    """
    if not rows:
        return []
    asked = _questions(opened, np.stack(rows), rules, method)
    found = ask(opened.vectors, opened.runner, asked, k, "cosine", among)
    lengths = [len(answer.rows) for answer in found]
    a, b, c = (np.repeat(column, lengths) for column in np.stack(rows).T)
    d = np.concatenate([answer.rows for answer in found])
    scores = np.concatenate([answer.scores for answer in found])
    columns = pair_columns(opened.names, a, b, c, d, scores, np.ones(len(d), bool))
    if described:
        for place, at in (("c", c), ("d", d)):
            more = opened.names.columns(at)
            columns |= {f"{name}_{place}": more[name] for name in more if name != "gene"}
    if min(lengths) < k:
        logger.warning("%d answers were asked for, and there are only %d", k, min(lengths))
    if found[0].n_without:
        logger.info("%d zero vectors were left out", found[0].n_without)
    attrs = {"n_zero": found[0].n_without, "n_duplicates": 0}
    return [Found(part, attrs) for part in cut_columns(columns, lengths)]


def _questions(opened: OpenVectors, rows: Int64, rules: Rules, method: str) -> list[Question]:
    """What is asked of every row; ``rows`` has shape (n_questions, 3)."""
    distinct, place = np.unique(rows, return_inverse=True)
    unit = directions(opened.vectors.read_at(distinct), "cosine")
    zero = np.flatnonzero(~unit.any(axis=1))
    if len(zero):
        name = opened.names.ids[distinct[zero[0]]]
        raise InputError(f"{opened.vectors.url}: the vector of {str(name)!r} is zero. Ask for another.")
    a, b, given = (unit[column] for column in place.reshape(rows.shape).T)
    if method == "mul":
        vectors = np.stack([given, b, a], axis=1)
    else:
        target = directions(given + b - a, "cosine")
        without = np.flatnonzero(~target.any(axis=1))
        if len(without):
            names = ", ".join(str(opened.names.ids[row]) for row in rows[without[0]])
            raise InputError(
                f"{opened.vectors.url}: {names} cancel out, so there is no direction to search in. Ask for others."
            )
        vectors = target[:, None]
    if rules.max_sim is not None:
        vectors = np.concatenate([vectors, b[:, None]], axis=1)
    combine = "mul" if method == "mul" else "one"
    excluded = rows[:, 2:] if rules.shared else rows
    return [
        Question(own, combine, tuple(none), rules.max_sim) for own, none in zip(vectors, excluded.tolist(), strict=True)
    ]


def pair_columns(
    names: Names, a: Int64, b: Int64, c: Int64, d: Int64, scores: NDArray[np.float64], certified: NDArray[np.bool_]
) -> dict[str, Any]:
    """Columns of the table of :func:`cagdask.analogies`, of rows of the store."""
    columns: dict[str, Any] = {
        f"gene_{place}": names.ids[rows].tolist() for place, rows in zip("abcd", (a, b, c, d), strict=True)
    }
    return columns | {"similarity": scores, "certified": certified}
