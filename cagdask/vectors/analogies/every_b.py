"""The exact search for b, c and d: every b in full, spread over the workers.

Each worker holds all vectors of the candidates.
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

import numpy as np

from cagdask.compute.connect import as_runner
from cagdask.vectors.analogies.pair_index import index_bytes, load_index
from cagdask.vectors.analogies.quadruples import Quadruples, in_full
from cagdask.vectors.analogies.rules import QueryMaker, Rules
from cagdask.vectors.opening import OpenVectors
from cagdask.vectors.ranking import best
from cagdask.vectors.sources import Vectors

EXACT_TASKS = 8
"""Tasks per thread of the search."""


def search_all(opened: OpenVectors, maker: QueryMaker, k: int, at_least: float, n_workers: int | None) -> Quadruples:
    """The ``k`` best quadruples of an a, of those that score ``at_least``: every b in full, over the workers.

    Parameters
    ----------
    opened
        What is searched, and where; with ``n_workers`` workers of their own, if it is in this process.
    maker
        Queries of a.
    k, at_least
        As for :func:`cagdask.vectors.analogies.quadruples.in_full`.
    """
    wanted, a, n = maker.among, int(maker.rows[maker.a]), len(maker.others())
    among = None if wanted is None else base64.b64encode(wanted.tobytes()).decode()
    limit = opened.runner.memory_limit
    alone = opened.runner.in_process and n_workers is not None  # this process was enough for the other questions
    with as_runner(None if alone else opened.runner, n_workers=n_workers, memory_limit=limit) as runner:
        step = max(1, -(-n // (EXACT_TASKS * runner.n_threads)))
        items = [
            (opened.vectors.to_json(), among, a, asdict(maker.rules), begin, min(n, begin + step), k, _finite(at_least))
            for begin in range(0, n, step)
        ]
        runner.check_fits("search every B", index_bytes(len(maker.rows), opened.vectors.n_columns), "all vectors")
        weights = [item[5] - item[4] for item in items]
        parts = runner.map("search every B", search_every_b, items, unit="genes", weights=weights)
    b, c, d = (np.array([row for part in parts for row in part[name]], np.int64) for name in "bcd")
    scores = np.array([value for part in parts for value in part["scores"]], np.float64)
    order = best(scores, k, b, c, d)
    return Quadruples(b[order], c[order], d[order], scores[order], np.ones(len(order), bool))


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
    index = load_index(source, rows, 2**62)
    maker = QueryMaker(index, rows, wanted, int(np.searchsorted(rows, a)), Rules(**rules))
    least = -np.inf if at_least is None else at_least
    found = in_full(index, maker.others()[begin:end], maker.query, k, least)
    lists = {"b": found.b, "c": found.c, "d": found.d, "scores": found.scores}
    return {name: values.tolist() for name, values in lists.items()}
