"""Kernels of roles against SciPy and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from cagdask.cags import core_abundance, role_model, role_relations


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(8, 40))
def test_non_negative_least_squares_are_those_of_scipy(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.lognormal(0, 1, (n, k)) * (rng.random((n, k)) < 0.6)
    y = columns @ np.maximum(rng.normal(0.2, 1, k), 0) + rng.normal(0, 0.3, n)
    found = role_model.non_negative(columns.T @ columns, columns.T @ y)
    assert (found >= 0).all()
    _, wanted = nnls(columns, y)
    assert np.linalg.norm(columns @ found - y) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_two_weights_in_closed_form_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(0, 1, (2, 20)) * (rng.random((2, 20)) < 0.7)
    x = rng.normal(0.5, 1) * a + rng.normal(0.5, 1) * b + rng.normal(0, 0.2, 20)
    found = role_model.pair_weights(a @ a, a @ b, b @ b, a @ x, b @ x)
    np.testing.assert_allclose(found, nnls(np.stack([a, b], axis=1), x)[0], atol=1e-8)


def test_weighted_products_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    x, profiles, weight = rng.random(30), rng.random((4, 30)), rng.random(30)
    gram, moment = role_model.products(x, profiles, weight)
    np.testing.assert_allclose(gram, (profiles * weight) @ profiles.T)
    np.testing.assert_allclose(moment, (profiles * weight) @ x)


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_a_fit_are_those_of_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(0, 1, (2, 200)) * (rng.random((2, 200)) < 0.5)
    x = rng.poisson(3 * a + b) * 0.25
    expected = 0.7 * a + 0.3 * b
    found = role_model.tally(x, a, b, 0.7, 0.3, 0.25, 3.0)
    solid = x >= 0.5
    near = (x < 3 * expected) & (3 * x > expected) | (np.abs(x - expected) <= 2 * np.sqrt(0.25 * expected))
    sure = expected >= 5 * 0.25
    wrong, zeros = (solid & ~near).sum(), (sure & (x == 0)).sum()
    assert found == (solid.sum(), wrong, sure.sum(), zeros, ((x > 0) & (expected <= 0.05 * 0.25)).sum())
    assert role_model.misfits(x, a, b, (0.7, 0.3), 0.25, 3.0, True, 1000) == wrong + zeros
    assert role_model.misfits(x, a, b, (0.7, 0.3), 0.25, 3.0, False, 1000) == wrong
    assert role_model.misfits(x, a, b, (0.7, 0.3), 0.25, 3.0, False, 2) == min(wrong, 3)


def test_the_ratio_is_a_weighted_median() -> None:
    a = np.array([1.0, 2.0, 0.0, 4.0, 5.0])
    x = np.array([2.0, 4.0, 9.0, 8.0, 0.0])
    assert role_model.ratio(x, a, 1.0) == 2
    assert role_model.ratio(x, np.zeros(5), 1.0) == 0
    heavy = role_model.ratio(np.array([100.0, 1.0, 1.0]), np.array([10.0, 1.0, 1.0]), 10.0)
    assert heavy == 10  # one sample of many reads says more than two of few


@pytest.mark.parametrize(("solid", "wrong"), [(10, 0), (10, 3), (40, 12), (0, 0)])
def test_chance_is_the_tail_of_the_binomial_distribution(solid: int, wrong: int) -> None:
    wanted = scipy.stats.binom.sf(solid - wrong - 1, solid, 0.45) * 70
    assert role_model.by_chance(solid, wrong, 0.45, 70) == pytest.approx(wanted)


@pytest.mark.parametrize("n", [4, 5, 11, 100])
def test_means_and_medians_are_those_of_scipy_and_numpy(n: int) -> None:
    rows = np.random.default_rng(n).lognormal(0, 1, (n, 6))
    np.testing.assert_allclose(role_model.trimmed_mean(rows), scipy.stats.trim_mean(rows, 0.25))
    np.testing.assert_allclose(core_abundance.median(rows), np.median(rows, axis=0))
    np.testing.assert_allclose(role_model.trimmed_mean(rows[:3]), np.median(rows[:3], axis=0))
    np.testing.assert_allclose(role_model.trimmed_mean(rows[:2]), rows[:2].mean(axis=0))


@given(st.lists(st.integers(-1, 7), min_size=8, max_size=8))
def test_roots_end_where_no_parent_is(parent: list[int]) -> None:
    root = role_relations.roots(np.array([-1 if p == i else p for i, p in enumerate(parent)]))
    tops = {int(i) for i in np.flatnonzero(root < 0)}
    assert tops
    assert {int(r) for r in root if r >= 0} <= tops
