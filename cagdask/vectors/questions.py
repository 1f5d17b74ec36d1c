"""The k vectors that answer a question, out of any number, in one pass over the store.

    question: one or a few directions, and how a row's scores with them become one
    task:     blocks of a range of rows --> scores --> the k best of the range      (a few numbers per question)
    driver:   the k best of all ranges

Few questions are scored row by row in float64. Many at once are screened first: one matrix product per block of
questions bounds every score from below and above, and only rows whose upper bound reaches the k-th best lower bound are
scored in float64. The screen therefore never decides what is an answer. Memory: a block, a scaled copy of it, and about
64 MiB of scores and bounds.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.runner import Runner
from cagdask.vectors.ranking import NO_SCORE, best, rounded, score
from cagdask.vectors.screening import MUL_EPSILON, screen
from cagdask.vectors.sources import Vectors

Float64 = NDArray[np.float64]

ARGUMENT_BYTES = 2**19
"""Bytes of directions that one task is given; more questions take another pass."""
SCORES_AT_ONCE = 2**21
"""Scores of a block of rows with a block of questions that are in memory at once."""
SCREENED_FROM = 8
"""Questions from which bounding all scores first pays."""


@dataclass(frozen=True)
class Question:
    """What is asked of every row.

    Attributes
    ----------
    directions
        Shape (n, n_columns), float64, as :func:`cagdask.vectors.ranking.directions` gives them.
    combine
        One of :data:`COMBINE`.
    excluded
        Rows that are no answer.
    max_sim
        If given, the last of ``directions`` does not count for the score: rows whose score with it is above this are no
        answer.
    """

    directions: Float64
    combine: str
    excluded: tuple[int, ...]
    max_sim: float | None = None


@dataclass(frozen=True)
class Answer:
    """Rows and their scores, best first; ``n_without`` vectors have no direction and were left out."""

    rows: NDArray[np.int64]
    scores: Float64
    n_without: int


def _one(scores: Float64) -> Float64:
    return scores[:, 0]


def _joint(scores: Float64) -> Float64:
    found: Float64 = (scores**2).sum(axis=1)
    return found


def _contrast(scores: Float64) -> Float64:
    found: Float64 = scores[:, 0] - scores[:, 1:].mean(axis=1)
    return found


def _mul(scores: Float64) -> Float64:
    near = (1 + scores) / 2
    return near[:, 0] * near[:, 1] / (near[:, 2] + MUL_EPSILON)


COMBINE: dict[str, Callable[[Float64], Float64]] = {
    "one": _one,
    "joint": _joint,
    "contrast": _contrast,
    "mul": _mul,
}
"""How scores with several directions, shape (n, n_directions), become one: itself; the sum of squares; the first less
the mean of the others; 3CosMul of two that count and one that counts against."""


def ask(
    vectors: Vectors,
    runner: Runner,
    questions: Sequence[Question],
    k: int,
    metric: str,
    among: NDArray[np.int64] | None = None,
) -> list[Answer]:
    """The ``k`` best rows for each question; fewer if there are fewer.

    Parameters
    ----------
    vectors, runner
        What is searched, and where.
    questions
        Any number.
    k
        At least 1.
    metric
        One of :data:`cagdask.vectors.ranking.METRICS`.
    among
        Rows that answers are taken from; None for all.
    """
    encoded = None if among is None else base64.b64encode(np.sort(among).astype(np.int64).tobytes()).decode()
    answers: list[Answer] = []
    ranges = vectors.ranges(1 if runner.n_threads == 1 else 4 * runner.n_threads)
    weights = [end - begin for begin, end in ranges]
    for group in _grouped(questions):
        directions = base64.b64encode(np.concatenate([q.directions for q in group]).tobytes()).decode()
        asked = [[len(q.directions), q.combine, list(q.excluded), q.max_sim] for q in group]
        items = [(vectors.to_json(), *rows, directions, asked, k, metric, encoded) for rows in ranges]
        parts = runner.map("search neighbors", search_range, items, unit=f"{vectors.thing}s", weights=weights)
        answers += _merged([part["found"] for part in parts], sum(part["n_without"] for part in parts), k)
    return answers


def _grouped(questions: Sequence[Question]) -> Iterator[list[Question]]:
    group: list[Question] = []
    n_bytes = 0
    for question in questions:
        if group and n_bytes + question.directions.nbytes > ARGUMENT_BYTES:
            yield group
            group, n_bytes = [], 0
        group.append(question)
        n_bytes += question.directions.nbytes
    if group:
        yield group


def _merged(parts: list[list[Any]], n_without: int, k: int) -> Iterator[Answer]:
    for of_question in zip(*parts, strict=True):
        rows = np.concatenate([np.array(rows, np.int64) for rows, _ in of_question])
        scores = np.concatenate([np.array(scores, np.float64) for _, scores in of_question])
        if len(of_question) > 1:
            order = best(scores, k, rows)
            rows, scores = rows[order], scores[order]
        yield Answer(rows, scores, n_without)


def search_range(
    vectors: dict[str, Any],
    begin: int,
    end: int,
    directions: str,
    asked: list[Any],
    k: int,
    metric: str,
    among: str | None,
) -> dict[str, Any]:
    """Task: the ``k`` best of rows ``begin:end`` for each question.

    ``asked`` holds ``[number of directions, combine, excluded rows, max_sim]`` of each; ``directions`` all of them,
    float64, in base64; ``among`` the rows that answers are taken from, int64, ascending, in base64. Returns ``found``,
    rows and scores of each question, and ``n_without``, rows without direction.
    """
    source = Vectors.from_json(vectors)
    flat = np.frombuffer(base64.b64decode(directions)).reshape(-1, source.n_columns)
    ends = np.cumsum([0] + [n for n, *_ in asked])
    questions = [
        Question(flat[first:last], combine, tuple(excluded), max_sim)
        for first, last, (_, combine, excluded, max_sim) in zip(ends, ends[1:], asked, strict=False)
    ]
    wanted = None if among is None else np.frombuffer(base64.b64decode(among), np.int64)
    found: list[tuple[list[Any], list[Any]]] = [([], []) for _ in questions]
    n_without = 0
    for start, rows in source.blocks(begin, end):
        without = _without_direction(rows, metric)
        n_without += int(without.sum())
        allowed = ~without if wanted is None else ~without & np.isin(start + np.arange(len(rows)), wanted)
        for i, (places, scores) in enumerate(_search_block(rows, start, questions, k, metric, allowed)):
            found[i][0].append(places)
            found[i][1].append(scores)
    merged = []
    for parts in found:
        at, scores = parts[0][0], parts[1][0]
        if len(parts[0]) > 1:
            at, scores = np.concatenate(parts[0]), np.concatenate(parts[1])
            order = best(scores, k, at)
            at, scores = at[order], scores[order]
        merged.append([at.tolist(), scores.tolist()])
    return {"found": merged, "n_without": n_without}


def _without_direction(rows: NDArray[np.float32], metric: str) -> NDArray[np.bool_]:
    if metric == "euclidean":
        return np.zeros(len(rows), bool)
    if metric == "cosine":
        return np.asarray(~np.any(rows, axis=1))
    return np.asarray(score(rows, np.zeros((1, rows.shape[1])), metric)[:, 0] == NO_SCORE)


def _search_block(
    rows: NDArray[np.float32],
    start: int,
    questions: list[Question],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.int64], Float64]]:
    """Rows and scores that may be among the k best of a block, for each question."""
    screened: dict[int, NDArray[np.int64]] = {}
    if len(questions) >= SCREENED_FROM:
        screened = screen(rows, start, questions, k, metric, allowed, SCORES_AT_ONCE)
    everything = np.flatnonzero(allowed)
    for i, question in enumerate(questions):
        places = screened.get(i, everything)
        scores = _combined(rows if len(places) == len(rows) else rows[places], question, metric)
        at = start + places
        for row in question.excluded:
            scores[at == row] = NO_SCORE
        order = best(scores, k, at)
        yield at[order], scores[order]


def _combined(rows: NDArray[np.float32], question: Question, metric: str) -> Float64:
    """Scores of rows, as they are compared; -inf for rows that ``max_sim`` forbids."""
    step = max(1, SCORES_AT_ONCE // len(question.directions))
    parts = []
    for begin in range(0, len(rows), step):
        scores = score(rows[begin : begin + step], question.directions, metric)
        forbidden = np.zeros(len(scores), bool)
        if question.max_sim is not None:
            scores, last = scores[:, :-1], scores[:, -1]
            forbidden = last > question.max_sim
        sizes = np.abs(scores).max(axis=1) if metric == "euclidean" else None
        combined = rounded(COMBINE[question.combine](scores), sizes)
        combined[forbidden] = NO_SCORE
        parts.append(combined)
    return np.concatenate(parts) if parts else np.empty(0)
