"""The best pairs are those of brute force: every pair in float64, sorted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cagdask.vectors.analogies.pair_index import IDENTICAL, PairIndex, Query, Sizes
from cagdask.vectors.analogies.pairs import first_answer, search_pairs
from tests.vector_store import vector_matrices

SIZES = Sizes()


def brute_force(rows, query, k):
    """Score of every pair that counts, shape (n, n), -inf for the others, and the k best scores."""
    x = rows.astype(np.float64)
    y = query.sign * x
    apart = x[:, None] - y[None]
    square = (apart**2).sum(2)
    scale = (x**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        if query.metric == "cosine":
            score = np.clip((apart @ query.vector) / np.linalg.norm(query.vector) / np.sqrt(square), -1, 1)
        else:
            score = -np.sqrt(((query.vector - apart) ** 2).sum(2))
    score[square <= IDENTICAL * (scale[:, None] + scale)] = -np.inf
    score[~query.as_c] = -np.inf
    score[:, ~query.as_d] = -np.inf
    score[query.excluded] = -np.inf
    if query.sign < 0:
        score[np.tril_indices(len(x))] = -np.inf
    flat = np.sort(score.ravel())[::-1]
    return score, flat[flat > -np.inf][:k]


def agree(rows, query, k, sizes=SIZES):
    found = search_pairs(PairIndex(rows, sizes), query, k)
    score, best = brute_force(rows, query, k)
    np.testing.assert_allclose(found.scores, best, atol=1e-8)
    np.testing.assert_allclose(score[found.c, found.d], found.scores, atol=1e-8)
    assert len({*zip(found.c.tolist(), found.d.tolist(), strict=True)}) == len(found.c)
    falling = np.diff(found.scores)
    assert (falling <= 0).all()
    tied = np.flatnonzero(falling == 0)
    assert all((found.c[i], found.d[i]) < (found.c[i + 1], found.d[i + 1]) for i in tied)
    return found


def draw_query(rows, rng, metric, sign, open_share):
    """A query with the vector of two rows, or of one if that is zero."""
    a, b = rng.choice(len(rows), 2, replace=False)
    vector = rows[a].astype(np.float64) - sign * rows[b]
    if (vector**2).sum() <= 1e-12 * ((rows[[a, b]].astype(float)) ** 2).sum():
        vector = np.arange(1.0, rows.shape[1] + 1)
    as_c, as_d = rng.random((2, len(rows))) < open_share
    as_c &= rows.any(axis=1)
    as_d &= rows.any(axis=1)
    if sign < 0:
        as_d = as_c
    excluded = (int(a), int(b)) if sign > 0 else (int(min(a, b)), int(max(a, b)))
    return Query(vector, metric, sign, as_c, as_d, excluded)


@settings(max_examples=150)
@given(
    rows=vector_matrices(),
    seed=st.integers(0, 2**16),
    k=st.sampled_from([1, 3, 10, 10_000]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    sign=st.sampled_from([1, -1]),
    share=st.sampled_from([1.0, 0.7, 0.2]),
    small=st.booleans(),
)
@example(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), 0, 10, "cosine", 1, 1.0, True)
def test_pairs_and_scores_are_those_of_brute_force(rows, seed, k, metric, sign, share, small):
    query = draw_query(rows.astype(np.float32), np.random.default_rng(seed), metric, sign, share)
    # blocks and corner so small that the bound decides
    agree(rows.astype(np.float32), query, k, Sizes(block=5, corner=4, plain_pairs=0) if small else SIZES)


@pytest.mark.parametrize("kind", ["low rank", "clusters", "isotropic", "scales", "far from the origin"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("sign", [1, -1])
def test_pruning_leaves_out_most_pairs_and_no_answer(kind, metric, sign):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(600, 12))
    if kind == "low rank":
        rows = rng.normal(size=(600, 6)) @ rng.normal(size=(6, 12)) + 0.3 * rows + 2
    elif kind == "clusters":
        rows = rng.normal(size=(60, 12))[rng.integers(0, 60, 600)] + 0.05 * rows
    elif kind == "scales":
        rows *= rng.lognormal(0, 1, (600, 1))
    elif kind == "far from the origin":
        rows += 100
    rows = rows.astype(np.float32)
    rows[100:110] = rows[0]
    rows[5] = 0
    sizes = Sizes(block=60, corner=48)
    for seed in range(2):
        query = draw_query(rows, np.random.default_rng(seed), metric, sign, 0.99)
        found = agree(rows, query, 10, sizes)
        if metric == "cosine" and (sign == 1 or kind != "far from the origin"):
            assert found.n_multiplied < 0.8 * 600**2
        plain = search_pairs(PairIndex(rows, sizes), query, 10, prune=False)
        assert found.c.tolist() == plain.c.tolist()
        assert found.d.tolist() == plain.d.tolist()
        assert found.scores.tolist() == plain.scores.tolist()


@given(rows=vector_matrices(), sign=st.sampled_from([1, -1]))
def test_nearest_is_a_bound_and_not_a_loose_one(rows, sign):
    x = rows.astype(np.float64)
    square = ((x[:, None] - sign * x[None]) ** 2).sum(2)
    scale = (x**2).sum(1)
    square[square <= IDENTICAL * (scale[:, None] + scale)] = np.inf
    np.fill_diagonal(square, np.inf)
    exact = np.sqrt(square.min(1))
    bound = PairIndex(rows).nearest(sign)
    assert (bound <= exact * (1 + 1e-7)).all()
    close = np.isfinite(exact) & (exact > 1e-4 * np.sqrt(scale.max()))
    assert (bound[close] >= 0.8 * exact[close]).all()


def test_the_corner_begins_near_the_end():
    """A good first answer is what lets the bound leave out pairs from the first block on."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(600, 6)) @ rng.normal(size=(6, 12)) + 0.3 * rng.normal(size=(600, 12)) + 2
    index = PairIndex(rows.astype(np.float32))
    for seed in range(4):
        query = draw_query(index.rows, np.random.default_rng(seed), "cosine", 1, 0.99)
        s = index.projections(query)
        by_s = np.argsort(-s, kind="stable")
        c, d = by_s[query.as_c[by_s]][:48], by_s[::-1][query.as_d[by_s[::-1]]][:48]
        first = first_answer(index, query, s, c, d, 10)
        assert first.scores[9] >= 0.95 * search_pairs(index, query, 10).scores[9]
