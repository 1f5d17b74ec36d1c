"""Many questions at once: the answers of a definition in NumPy, and the same as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask.vectors import questions
from cagdask.vectors.analogies.rules import Rules
from cagdask.vectors.analogies.session import open_analogies
from cagdask.vectors.screening import kth_largest
from cagdask.vectors.similarity import open_similarity
from tests.vector_store import vector_matrices, write_vectors


def unit(rows):
    x = rows.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def fourth_by_definition(rows, asked, method):
    """Scores of every row for a : b :: c : d, one matrix product, a, b and c left out."""
    x = unit(rows)
    a, b, c = np.array(asked).T
    if method == "add":
        scores = unit(x[c] + x[b] - x[a]) @ x.T
    else:
        near = (1 + x @ x.T) / 2
        scores = near[c] * near[b] / (near[a] + 1e-6)
    for row, question in zip(scores, asked, strict=True):
        row[list(question)] = -np.inf
    return scores


@pytest.mark.parametrize("method", ["add", "mul"])
@pytest.mark.parametrize("chunk_rows", [3000, 700])
def test_a_batch_of_analogies_has_the_answers_of_one_product(tmp_path, method, chunk_rows):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(40, 12))[rng.integers(0, 40, 3000)] + 0.5 * rng.normal(size=(3000, 12))).astype(np.float32)
    asked = [tuple(rng.choice(3000, 3, replace=False).tolist()) for _ in range(60)]
    store = write_vectors(str(tmp_path / "v.zarr"), rows, chunk_rows=chunk_rows)
    scores = fourth_by_definition(rows, asked, method)
    with open_analogies(store) as session:
        found = session.find([tuple(f"g{i}" for i in q) for q in asked], Rules(), k=7, method=method)
    for answer, expected in zip(found, scores, strict=True):
        d = [int(name[1:]) for name in answer.columns["gene_d"]]
        np.testing.assert_allclose(answer.columns["similarity"], expected[d], atol=1e-9)
        np.testing.assert_allclose(expected[d], np.sort(expected)[::-1][:7], atol=1e-9)


@given(
    rows=vector_matrices(),
    method=st.sampled_from(["add", "mul"]),
    shared=st.booleans(),
    max_sim=st.sampled_from([None, 0.8, 0.0]),
    few=st.booleans(),
    seed=st.integers(0, 100),
    at_once=st.sampled_from([1, 50, 2**21]),
)
def test_a_batch_has_the_answers_of_each_question_alone(tmp_path, rows, method, shared, max_sim, few, seed, at_once):
    store = write_vectors(str(tmp_path / "v.zarr"), rows, chunk_rows=16)
    rng = np.random.default_rng(seed)
    known = [i for i in range(len(rows)) if rows[i].any()]
    if len(known) < 3:
        return
    asked = [tuple(f"g{known[i]}" for i in rng.choice(len(known), 3, replace=False)) for _ in range(12)]
    among = [f"g{i}" for i in rng.integers(0, len(rows), 9)] if few else None
    rules = Rules(shared=shared, max_sim=max_sim)
    with pytest.MonkeyPatch.context() as patch, open_analogies(store, candidates=among) as session:
        patch.setattr(questions, "SCORES_AT_ONCE", at_once)
        alone = []
        for question in asked:
            try:
                alone += session.find([question], rules, k=4, method=method)
            except cagdask.errors.InputError:  # these three cancel out
                alone.append(None)
        possible = [question for question, answer in zip(asked, alone, strict=True) if answer is not None]
        assert session.find(possible, rules, k=4, method=method) == [answer for answer in alone if answer is not None]


@given(
    rows=vector_matrices(),
    metric=st.sampled_from(["cosine", "correlation", "euclidean"]),
    combine=st.sampled_from(["joint", "contrast"]),
    seed=st.integers(0, 100),
)
def test_a_batch_about_several_genes_has_the_answers_of_each_alone(tmp_path, rows, metric, combine, seed):
    combine = "contrast" if metric == "euclidean" else combine
    store = write_vectors(str(tmp_path / "v.zarr"), rows, chunk_rows=16)
    rng = np.random.default_rng(seed)
    with open_similarity(store) as session:
        asked = []
        for _ in range(15):
            genes = [f"g{i}" for i in rng.choice(len(rows), int(rng.integers(2, 4)), replace=False)]
            try:
                session.find([genes], k=1, metric=metric, combine=combine)
                asked.append(genes)
            except cagdask.errors.InputError:  # one has no direction
                continue
        alone = [session.find([genes], k=3, metric=metric, combine=combine)[0] for genes in asked]
        assert session.find(asked, k=3, metric=metric, combine=combine) == alone


def test_a_batch_with_one_dominant_length_loses_no_near_neighbor(tmp_path):
    """Bounds of distances come from the longest vector of a block; near ones must still be found."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(400, 6)).astype(np.float32)
    rows[399] *= 1e18
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    with open_similarity(store) as session:
        found = session.find([[f"g{i}"] for i in range(20)], k=5, metric="euclidean")
    x = rows.astype(np.float64)
    for i, answer in enumerate(found):
        distance = np.linalg.norm(x - x[i], axis=1)
        distance[i] = np.inf
        assert answer.columns["gene"] == [f"g{j}" for j in np.argsort(distance)[:5]]


def test_questions_of_all_kinds_may_stand_in_one_batch(tmp_path):
    rows = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    asked = [("g1", "g2", None), ("g3", "g4", "g5"), ("g6", None, None), ("g7", "g8", "g9")]
    with open_analogies(store) as session:
        found = session.find(asked, Rules(), k=3)
    for (a, b, c), answer in zip(asked, found, strict=True):
        alone = cagdask.analogies(store, a, b, given=c, k=3)
        assert answer.to_table().equals(alone)
        assert answer.attrs == alone.attrs


@given(st.integers(1, 300), st.integers(1, 12), st.integers(0, 1000))
def test_at_least_k_numbers_reach_the_kth_largest(n, k, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(-5, 50, (4, n)).astype(np.float32)
    values[rng.random((4, n)) < 0.2] = -np.inf
    values[rng.random((4, n)) < 0.05] = np.inf
    found = kth_largest(values, k)
    finite = np.where(np.isfinite(values), values, -np.inf)
    reaching = (finite >= found[:, None]).sum(axis=1)
    assert (reaching >= np.minimum(k, n)).all()
    enough = np.isfinite(finite).sum(axis=1) >= k
    if n > k:
        exact = np.sort(finite, axis=1)[:, ::-1][:, k - 1]
        assert (found <= exact)[enough].all()
