"""Row measures against SciPy and NumPy, and against themselves in other blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cagdask.cags.measures import cag_statistics, entropy, prevalence
from tests.strategies import abundance_matrices, chunkings


@given(matrix=abundance_matrices())
def test_entropy_is_that_of_scipy(matrix):
    present = matrix[(matrix > 0).any(axis=1)].astype(np.float64)
    np.testing.assert_allclose(entropy(present), stats.entropy(present, axis=1), rtol=1e-12, atol=1e-12)


def test_entropy_runs_from_one_sample_to_all_alike():
    rows = np.array([[0, 7, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], np.float32)
    assert entropy(rows).tolist() == [0, pytest.approx(np.log(4)), 0]
    assert not np.signbit(entropy(rows)).any()


def test_entropy_of_logarithms_counts_from_the_absent_level():
    rows = np.array([[-3.0, -1.0, 1.0], [-3.0, -3.0, -3.0]])
    assert entropy(rows, absent=-3.0).tolist() == [pytest.approx(stats.entropy([2, 4])), 0]


@given(matrix=abundance_matrices(wide=False))
def test_mean_and_deviation_are_those_of_numpy(matrix):
    got = cag_statistics(matrix)
    np.testing.assert_allclose(got.mean, matrix.astype(np.float64).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(got.std, matrix.astype(np.float64).std(axis=1, ddof=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_samples", [1, 3, 8, 9, 129, 200])
@given(data=st.data())
def test_rows_do_not_depend_on_blocks(data, n_samples):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    matrix = rng.lognormal(0, 3, (17, n_samples)).astype(np.float32) * (rng.random((17, n_samples)) < 0.5)
    edges = np.cumsum(data.draw(chunkings(17)))[:-1]
    parts = [cag_statistics(np.asfortranarray(block)) for block in np.split(matrix, edges)]
    for got, wanted in zip(zip(*parts, strict=True), cag_statistics(matrix), strict=True):
        assert np.concatenate(got).tobytes() == wanted.tobytes()


def test_prevalence_is_the_share_above_the_absent_level():
    rows = np.array([[-3.0, -1.0, 1.0, -3.0], [0.0, 1.0, 1.0, 1.0]])
    assert prevalence(rows, absent=-3.0).tolist() == [0.5, 1.0]
    assert prevalence(rows).tolist() == [0.25, 0.75]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rounded_mean_of_absent_genes_is_absent(dtype):
    absent = -5.9650001
    rows = np.full((1, 5), np.nextafter(dtype(absent), dtype(0)), dtype)
    assert entropy(rows, absent=absent).tolist() == [0]
    assert prevalence(rows, absent=absent).tolist() == [0]
