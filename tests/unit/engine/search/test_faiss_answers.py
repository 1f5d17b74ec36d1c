"""Answers of FAISS are those of NumPy, and what can not be right is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask.engine.search import faiss_answers, pivots
from cagdask.errors import CagdaskError

PACKAGE = Path(faiss_answers.__file__).parents[2]


def unit(rng: np.random.Generator, n: int, n_columns: int) -> np.ndarray:
    rows = rng.normal(size=(n, n_columns)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(
    seed=st.integers(0, 99),
    n=st.integers(1, 60),
    n_queries=st.integers(1, 30),
    n_lists=st.integers(1, 9),
    n_asked=st.integers(1, 9),
    k=st.integers(1, 12),
)
def test_lists_are_searched_as_by_definition(
    seed: int, n: int, n_queries: int, n_lists: int, n_asked: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    stored, queries = unit(rng, n, 5), unit(rng, n_queries, 5)
    in_list = rng.integers(0, n_lists, n)
    asked = np.argsort(rng.random((n_queries, n_lists)), axis=1)[:, : min(n_asked, n_lists)]
    asked = np.where(rng.random(asked.shape) < 0.2, -1, asked)
    found, n_products = faiss_answers.search_lists(stored, in_list, queries, asked, k)
    product = queries.astype(np.float64) @ stored.T
    n_inside = 0
    for query in range(n_queries):
        inside = np.flatnonzero(np.isin(in_list, asked[query][asked[query] >= 0]))
        n_inside += len(inside)
        best = np.sort(product[query, inside])[::-1][:k]
        there = found[query][found[query] >= 0]
        assert set(there.tolist()) <= set(inside.tolist())
        np.testing.assert_allclose(product[query, there], best, atol=1e-6)
    assert n_products == n_inside


@given(seed=st.integers(0, 99), n=st.integers(1, 40), n_queries=st.integers(1, 40), k=st.integers(1, 9))
def test_nearest_centers_are_those_of_numpy(seed: int, n: int, n_queries: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    centers, rows = unit(rng, n, 4), unit(rng, n_queries, 4)
    cosine, nearest = pivots._nearest(centers, rows, k)
    expected = -np.sort(-(rows.astype(np.float64) @ centers.T), axis=1)[:, :k]
    np.testing.assert_allclose(cosine, expected, atol=1e-6)
    np.testing.assert_allclose(np.einsum("ij,ikj->ik", rows, centers[nearest]), expected, atol=1e-6)


LARGEST = np.finfo(np.float32).max


@given(seed=st.integers(0, 99), n=st.integers(2, 30), n_queries=st.integers(1, 30), where=st.integers(0, 29))
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("none found", "found [0-9,]+ rows where there are"),
        ("one not found", "found [0-9,]+ rows where there are"),
        ("one too many", "found [0-9,]+ rows where there are"),
        ("beyond the rows", "found [0-9,]+ rows where there are"),
        ("one row k times", "found a row twice"),
        ("not a number", "gave similarities that are no numbers"),
        ("another row", "gave similarities that are not those of the rows"),
        ("the largest number", "gave similarities that are not those of the rows"),
    ],
)
def test_what_can_not_be_right_is_refused(fault: str, said: str, seed: int, n: int, n_queries: int, where: int) -> None:
    """Each fault in one query, any of them, as versions of FAISS have made them."""
    rng = np.random.default_rng(seed)
    stored, queries = unit(rng, n, 6), unit(rng, n_queries, 6)
    product = queries @ stored.T
    number = np.argsort(-product, axis=1)
    similarity = np.take_along_axis(product, number, axis=1)
    expected = np.full(n_queries, n)
    assert faiss_answers.checked(queries, stored, similarity, number, expected) is number
    query = where % n_queries
    if fault == "none found":
        number[query], similarity[query] = -1, -LARGEST
    elif fault == "one not found":
        number[query, -1] = -1
    elif fault == "one too many":
        expected[query] -= 1
    elif fault == "beyond the rows":
        number[query, 0] = n
    elif fault == "one row k times":
        number[query] = number[query, 0]
    elif fault == "not a number":
        similarity[query, -1] = np.nan
    elif fault == "another row":
        similarity[query, 0] += 0.1
    else:
        similarity[query, 0] = LARGEST
    with pytest.raises(CagdaskError, match=rf"^FAISS [0-9.]+ {said}.*another version of faiss-cpu"):
        faiss_answers.checked(queries, stored, similarity, number, expected)


def test_every_search_of_faiss_is_checked() -> None:
    """Searches are made in two places, both of which hand what they find to :func:`checked`."""
    asking = {
        path.relative_to(PACKAGE).as_posix(): path.read_text()
        for path in PACKAGE.rglob("*.py")
        if "import faiss" in path.read_text() and (".search(" in path.read_text() or "search_pre" in path.read_text())
    }
    assert set(asking) == {"engine/search/faiss_answers.py", "engine/search/pivots.py"}
    assert all(text.count("checked(") >= 1 for text in asking.values())
    assert sum(text.count("index.search(") for text in asking.values()) == 1
