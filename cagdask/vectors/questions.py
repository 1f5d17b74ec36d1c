"""The k vectors that answer a question, out of any number, in one pass over the store.

    question: one or a few directions, and how a row's scores with them become one
    task:     blocks of a range of rows --> scores --> the k best of the range      (a few numbers per question)
    driver:   the k best of all ranges

Few questions are scored row by row in float64. Many at once go through FAISS in float32 first, which multiplies blocks
instead of rows; the candidates are scored in float64, and where float32 can not tell what is among the k best, the
whole block is. Memory: a block, a scaled copy of it, and 32 MiB of scores.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute import memory
from cagdask.compute.runner import Runner
from cagdask.vectors.ranking import NO_SCORE, best, float32_error, rounded, score
from cagdask.vectors.sources import Vectors

Float64 = NDArray[np.float64]

ARGUMENT_BYTES = 2**19
"""Bytes of directions that one task is given; more questions take another pass."""
SCORES_AT_ONCE = 2**22
SCREENED_FROM = 8
"""Questions of one direction from which FAISS pays."""
SPARE = 16
"""Candidates that FAISS gives beyond those that are wanted."""
MUL_EPSILON = 1e-6  # gensim's


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
    """

    directions: Float64
    combine: str
    excluded: tuple[int, ...]


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


def ask(vectors: Vectors, runner: Runner, questions: Sequence[Question], k: int, metric: str) -> list[Answer]:
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
    """
    answers: list[Answer] = []
    ranges = vectors.ranges(1 if runner.n_threads == 1 else 4 * runner.n_threads)
    weights = [end - begin for begin, end in ranges]
    for group in _grouped(questions):
        directions = base64.b64encode(np.concatenate([q.directions for q in group]).tobytes()).decode()
        asked = [[len(q.directions), q.combine, list(q.excluded)] for q in group]
        items = [(vectors.to_json(), *rows, directions, asked, k, metric) for rows in ranges]
        parts = runner.map("search", search_range, items, unit=f"{vectors.thing}s", weights=weights)
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
        order = best(scores, k, rows)
        yield Answer(rows[order], scores[order], n_without)


def search_range(
    vectors: dict[str, Any], begin: int, end: int, directions: str, asked: list[Any], k: int, metric: str
) -> dict[str, Any]:
    """Task: the ``k`` best of rows ``begin:end`` for each question.

    ``asked`` holds ``[number of directions, combine, excluded rows]`` of each; ``directions`` all of them, float64, in
    base64. Returns ``found``, rows and scores of each question, and ``n_without``, rows without direction.
    """
    source = Vectors.from_json(vectors)
    flat = np.frombuffer(base64.b64decode(directions)).reshape(-1, source.n_columns)
    ends = np.cumsum([0] + [n for n, _, _ in asked])
    questions = [
        Question(flat[first:last], combine, tuple(excluded))
        for first, last, (_, combine, excluded) in zip(ends, ends[1:], asked, strict=False)
    ]
    found: list[tuple[list[Any], list[Any]]] = [([], []) for _ in questions]
    n_without = 0
    for start, rows in source.blocks(begin, end):
        n_without += 0 if metric == "euclidean" else _count_without(rows, metric)
        for i, (places, scores) in enumerate(_search_block(rows, start, questions, k, metric)):
            found[i][0].append(places)
            found[i][1].append(scores)
    merged = []
    for parts in found:
        at, scores = np.concatenate(parts[0]), np.concatenate(parts[1])
        order = best(scores, k, at)
        merged.append([at[order].tolist(), scores[order].tolist()])
    return {"found": merged, "n_without": n_without}


def _count_without(rows: NDArray[np.float32], metric: str) -> int:
    if metric == "cosine":
        return int((~rows.any(axis=1)).sum())
    return int((score(rows, np.zeros((1, rows.shape[1])), metric)[:, 0] == NO_SCORE).sum())


def _search_block(
    rows: NDArray[np.float32], start: int, questions: list[Question], k: int, metric: str
) -> Iterator[tuple[NDArray[np.int64], Float64]]:
    """Rows and scores that may be among the k best of a block, for each question."""
    single = [i for i, q in enumerate(questions) if q.combine == "one"]
    screened: dict[int, NDArray[np.int64]] = {}
    if len(single) >= SCREENED_FROM:
        screened = _screen(rows, single, questions, k, metric)
    for i, question in enumerate(questions):
        places = screened.get(i)
        among = rows if places is None else rows[places]
        scores = _combined(among, question, metric)
        at = start + (np.arange(len(rows)) if places is None else places)
        scores[np.isin(at, question.excluded)] = NO_SCORE
        order = best(scores, k, at)
        yield at[order], scores[order]


def _combined(rows: NDArray[np.float32], question: Question, metric: str) -> Float64:
    step = max(1, SCORES_AT_ONCE // len(question.directions))
    parts = []
    for begin in range(0, len(rows), step):
        scores = score(rows[begin : begin + step], question.directions, metric)
        without = scores[:, 0] == NO_SCORE
        scores[without] = 0
        combined = rounded(COMBINE[question.combine](scores))
        combined[without] = NO_SCORE
        parts.append(combined)
    return np.concatenate(parts) if parts else np.empty(0)


def _screen(
    rows: NDArray[np.float32], single: list[int], questions: list[Question], k: int, metric: str
) -> dict[int, NDArray[np.int64]]:
    """Places among which the k best of a block are for certain, for the questions where float32 can tell."""
    import faiss

    faiss.omp_set_num_threads(memory.task_threads())
    n_more = max(len(questions[i].excluded) for i in single)
    n_listed = k + n_more + SPARE
    if n_listed >= len(rows):
        return {}
    queries = np.concatenate([questions[i].directions for i in single]).astype(np.float32)
    error = 2 * float32_error(rows.shape[1])
    if metric == "euclidean":
        square = np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max() + (queries.astype(np.float64) ** 2).sum(1)
        near, at = faiss.knn(queries, rows, n_listed, faiss.METRIC_L2)
        unlisted = -np.sqrt(np.maximum(0, near[:, -1] - 2 * error * square))
    else:
        unit = rows - rows.mean(axis=1, dtype=np.float64, keepdims=True) if metric == "correlation" else rows
        length = np.linalg.norm(unit.astype(np.float64), axis=1, keepdims=True)
        unit = np.divide(unit, length, out=np.zeros(unit.shape), where=length > 0).astype(np.float32)
        near, at = faiss.knn(queries, unit, n_listed, faiss.METRIC_INNER_PRODUCT)
        unlisted = near[:, -1].astype(np.float64) + error
    found = {}
    for place, i in enumerate(single):
        candidates = np.sort(at[place])
        scores = np.sort(_combined(rows[candidates], questions[i], metric))[::-1]
        if scores[k + n_more - 1] > unlisted[place] + 1e-9:  # of what is rounded, too
            found[i] = candidates
    return found
