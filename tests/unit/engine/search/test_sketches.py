from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cagdask.engine.search import sketches
from cagdask.engine.search.kernels import PRODUCT_MARGIN


@pytest.mark.parametrize("n_groups", [1, 3, 8, 50])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_products_of_sketches_are_upper_bounds(n_groups: int, signed: bool, scale: float) -> None:
    """Also of rows that are nearly the same, where the bound is nearly reached."""
    rng = np.random.default_rng(0)
    rows = rng.lognormal(0, 2, (200, 50)) * (rng.random((200, 50)) < 0.4)
    if signed:
        rows -= rows.mean(axis=1, keepdims=True)
    others = rows + scale * rng.normal(size=rows.shape)
    rows, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, others))
    group = sketches.deal_samples((rows**2).sum(axis=0), n_groups)
    short, other = (sketches.sketches(x, group) for x in (rows, others))
    assert (short @ other.T >= rows @ others.T - PRODUCT_MARGIN).all()
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, rtol=1e-6)


def test_samples_are_dealt_into_groups_of_like_energy() -> None:
    energy = np.random.default_rng(0).lognormal(0, 1, 100)
    group = sketches.deal_samples(energy, 7)
    assert np.bincount(group).tolist() == [15, 15, 14, 14, 14, 14, 14]
    shares = np.bincount(group, energy) / energy.sum()
    assert shares.max() < 0.3


@pytest.mark.parametrize("n_samples", [1, 3, 9, 70, 300])
def test_sizes_are_at_most_the_samples(n_samples: int) -> None:
    rows = np.random.default_rng(0).random((500, n_samples))
    coarse, fine, _ = sketches.choose_sizes(rows / np.linalg.norm(rows, axis=1, keepdims=True), 0.8)
    assert 1 <= coarse <= fine <= n_samples


def test_rows_that_are_told_apart_by_little_get_small_sketches_and_others_large_ones() -> None:
    rng = np.random.default_rng(0)
    apart = rng.lognormal(0, 3, (3000, 300)) * (rng.random((3000, 300)) < 0.05) + 1e-9
    alike = rng.random((3000, 300)) + 0.2
    few, many = (
        sketches.choose_sizes(x / np.linalg.norm(x, axis=1, keepdims=True), threshold)[0]
        for x, threshold in ((apart, 0.8), (alike, 0.95))
    )
    assert few < many


@given(seed=st.integers(0, 10**6), n_samples=st.integers(2, 70), n_groups=st.integers(1, 70), mean=st.floats(-1, 1))
@settings(deadline=None)
def test_sketches_of_rows_with_signs_bound_their_products_and_angles(
    seed: int, n_samples: int, n_groups: int, mean: float
) -> None:
    """Whether rows are centered or not, are alike or not, and in few samples or in many."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((12, n_samples)) < 0.4, rng.gamma(0.5, size=(12, n_samples)), 0) + rng.normal(size=(12, 1))
    x = np.concatenate([x - x.mean(axis=1, keepdims=True), mean + rng.normal(size=(6, n_samples)), -np.abs(x[:3])])
    x *= rng.choice([1.0, 0.3], (len(x), 1)) / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    group = np.arange(n_samples) % min(n_groups, n_samples)
    coarse = sketches.coarse_sketches(x, group, signed=True)
    sign = np.where(np.arange(coarse.shape[1]) == coarse.shape[1] - 1, -1, 1)
    assert (coarse @ (coarse * sign).astype(np.float32).T >= x @ x.T - 1e-6).all()
    fine = sketches.fine_sketches(x, group, signed=True)
    assert (fine @ fine.T >= x @ x.T - 2e-6).all()
    np.testing.assert_allclose(np.linalg.norm(fine, axis=1), np.linalg.norm(x, axis=1), atol=1e-5)


def test_lifting_tells_centered_rows_apart_that_lengths_of_parts_do_not() -> None:
    """Two genes in different samples: their parts have lengths everywhere, since the mean was taken off."""
    x = np.zeros((2, 40))
    x[0, :20], x[1, 20:] = 1, 1
    x -= x.mean(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    group = np.arange(40) // 4
    by_length = sketches.sketches(x, group)
    lifted = sketches.coarse_sketches(x, group, signed=True)
    lifted_too = lifted * np.where(np.arange(12) == 11, -1, 1)
    assert by_length[0] @ by_length[1] > 0.99
    assert lifted[0] @ lifted_too[1] == pytest.approx(-1, abs=1e-4)
