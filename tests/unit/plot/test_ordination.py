from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from cagdask.plot import ordination
from cagdask.plot.ordination import ordinate, similar_together


def test_two_axes_hold_the_distances_of_samples_that_lie_in_a_plane() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 1], [3, 1]], float)  # log-ratios: their plane is the whole space
    made = ordinate(rows.T, is_log_ratio=True)
    np.testing.assert_allclose(pdist(made.coordinates), pdist(rows), atol=1e-9)
    assert sum(made.explained) == pytest.approx(1)


def test_bray_curtis_puts_samples_of_the_same_make_together() -> None:
    rng = np.random.default_rng(0)
    site = np.repeat([0, 1], 8)
    profiles = rng.random((10, 16)) * np.where((np.arange(10)[:, None] < 5) == (site == 0), 1, 0.05)
    first = ordinate(profiles, is_log_ratio=False).coordinates[:, 0]
    assert (first[site == 0].max() < first[site == 1].min()) or (first[site == 0].min() > first[site == 1].max())


def test_many_samples_are_laid_out_without_all_their_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordination, "MAX_PCOA", 5)
    made = ordinate(np.random.default_rng(0).random((4, 9)), is_log_ratio=False)
    assert made.method.startswith("Hellinger")
    assert made.coordinates.shape == (9, 2)


@given(st.integers(0, 5), st.integers(1, 6))
def test_any_number_of_samples_and_cags_can_be_laid_out(n_cags: int, n_samples: int) -> None:
    made = ordinate(np.ones((n_cags, n_samples)), is_log_ratio=False)
    assert np.isfinite(made.coordinates).all()
    assert made.coordinates.shape == (n_samples, 2)


def test_an_order_is_a_permutation_with_copies_side_by_side() -> None:
    rng = np.random.default_rng(3)
    kinds = rng.random((3, 6))
    rows = kinds[[0, 1, 2, 0, 1, 2]]
    order = similar_together(rows)
    assert sorted(order) == list(range(6))
    assert [int(i) % 3 for i in order][::2] == [int(i) % 3 for i in order][1::2]
