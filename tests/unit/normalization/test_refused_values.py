"""Values that no abundance can have are refused with gene and sample; the logarithms do not see a sample's depth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cagdask import find_cags, normalize, storage
from cagdask.compute.in_process import InProcess
from cagdask.compute.runner import Runner
from cagdask.errors import InputError
from cagdask.normalization import exact_sums
from cagdask.normalization.methods import METHODS, normalize_block, sample_statistics
from tests.unit.normalization.test_methods import whole


def dataset(matrix, kind="abundance"):
    n, m = matrix.shape
    return xr.Dataset(
        {"abundance": (("gene", "sample"), np.asarray(matrix, np.float32))},
        coords={
            "gene_id": ("gene", np.array([f"g{i}" for i in range(n)], object)),
            "sample_id": ("sample", np.array([f"s{j}" for j in range(m)], object)),
        },
        attrs={"kind": kind},
    )


@pytest.fixture
def here():
    return Runner(InProcess("1GiB", n_threads=1))


@given(
    row=st.integers(0, 8),
    column=st.integers(0, 3),
    value=st.one_of(
        st.sampled_from([np.nan, -np.nan, np.inf, -np.inf]), st.floats(-(2.0**100), -(2.0**-130), width=32)
    ),
)
def test_the_first_value_that_can_not_be_is_found(row, column, value):
    matrix = np.ones((9, 4), np.float32)
    matrix[0, 0] = -0.0  # this one can be
    assert exact_sums.first_refused(matrix) is None
    matrix[row, column] = value
    assert exact_sums.first_refused(matrix) == (row, column)
    assert exact_sums.first_refused(matrix, signed=True) == (None if np.isfinite(value) else (row, column))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -5])
def test_clustering_names_gene_and_sample_of_a_value_that_can_not_be(method, value, here):
    matrix = np.ones((7, 4))
    matrix[6, 2] = value
    with pytest.raises(InputError, match=r"gene 'g6'.* sample 's2'") as err:
        find_cags(dataset(matrix), client=here, normalization=method, max_dist=0.2)
    assert "/tmp/" not in str(err.value)


def test_expression_may_be_below_zero_but_not_missing(here):
    matrix = np.random.default_rng(0).normal(size=(6, 5))
    find_cags(dataset(matrix, "expression"), client=here, normalization="none", max_dist=0.2)
    matrix[1, 3] = np.nan
    with pytest.raises(InputError, match=r"gene 'g1'.* sample 's3'.* missing"):
        find_cags(dataset(matrix, "expression"), client=here, normalization="none", max_dist=0.2)


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_value_stays_alone(method):
    matrix = np.array([[1, 2], [3, 4], [5, 0]], np.float32)
    without = matrix.copy()
    without[1, 1] = 0
    matrix[1, 1] = np.nan
    got = normalize(dataset(matrix), method=method).abundance.values
    wanted = normalize(dataset(without), method=method).abundance.values
    wanted[1, 1] = np.nan
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("method", ["sum", "median", "hellinger", "clr"])
def test_a_negative_value_is_refused_when_it_is_computed(method):
    lazy = normalize(dataset(np.array([[1, 2], [3, -4]])).chunk(gene=1), method=method)
    with pytest.raises(InputError, match="gene 'g1' in sample 's1' is -4"):
        lazy.compute()


@given(data=st.data())
def test_clr_does_not_see_the_depth_of_a_sample(data):
    profile = data.draw(st.lists(st.integers(0, 2**12), min_size=1, max_size=20))
    depth = data.draw(st.lists(st.integers(1, 2**12), min_size=2, max_size=6))
    matrix = np.outer(profile, depth).astype(np.float32)  # exact: products below 2**24
    stats = whole(matrix, "clr")
    for floor in (None, "auto", -0.5, 0.0):
        got = normalize_block(matrix, "clr", stats, clr_floor=floor)
        assert (got == got[:, :1]).all()
    unfloored = normalize_block(matrix, "clr", stats, floored=False)
    assert (unfloored == unfloored[:, :1]).all()


@given(share=st.floats(2.0**-100, 2.0**100, width=32), n=st.integers(1, 50))
def test_a_sample_of_one_value_has_no_profile(share, n):
    matrix = np.full((n, 2), share, np.float32)
    matrix[:, 1] = 1
    assert not normalize_block(matrix, "clr", whole(matrix, "clr")).any()


def test_a_store_with_a_missing_value_is_refused_in_the_pass_for_the_statistics(tmp_path, here):
    matrix = np.ones((5, 3))
    matrix[4, 1] = np.nan
    url = str(tmp_path / "x.zarr")
    storage.save_dataset(dataset(matrix), url)
    with pytest.raises(InputError, match=r"x\.zarr: the value of gene 'g4' in sample 's1' is missing"):
        sample_statistics(url, here, "sum", str(tmp_path / "work"))
