"""Normalization against ten lines of NumPy, and against itself under other chunks."""

from __future__ import annotations

import math
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cagdask import storage
from cagdask.errors import InputError, SchemaError
from cagdask.normalization import exact_sums
from cagdask.normalization.methods import METHODS, check_options, normalize, normalize_block, sample_statistics
from cagdask.normalization.sample_statistics import STATISTIC, SampleStatistics, _finish, _task_ranges
from tests.strategies import abundance_matrices, chunkings

CLR_FLOORS = [None, "auto", -0.5]
OPTIONS = [(method, None) for method in METHODS if method != "clr"] + [("clr", floor) for floor in CLR_FLOORS]


def naive(matrix, method, clr_floor=None, floored=True):
    """The definitions, column by column, with absent as NaN."""
    v = np.where(matrix > 0, matrix, np.nan).astype(np.float64)
    columns = []
    for column in v.T:
        present = column[~np.isnan(column)]
        if method == "sum":
            column = column / math.fsum(present)
        elif method == "median":
            column = column / (np.median(present) if len(present) else 1)
        elif method == "hellinger":
            column = np.sqrt(column / math.fsum(present))
        elif method == "clr":
            column = np.log10(column) - (np.log10(present).mean() if len(present) else 0)
        columns.append(column)
    table = np.stack(columns, axis=1)
    if method != "clr":
        return np.nan_to_num(table)
    minima = [np.nanmin(c) for c in table.T if not np.isnan(c).all()] or [0.0]
    if not floored:
        return np.nan_to_num(table, nan=min(minima))
    floor = {None: min(minima), "auto": max(minima)}.get(clr_floor, clr_floor)
    return np.nan_to_num(np.maximum(table, floor) - floor)


def blockwise(matrix, method, sizes):
    """Statistics of a matrix cut into blocks of ``sizes`` rows, merged last block first."""
    state = None
    for step in exact_sums.steps(STATISTIC[method], matrix.shape[1]):
        total = exact_sums.empty(step, matrix.shape[1])
        end = len(matrix)
        for size in reversed(sizes):
            part = exact_sums.empty(step, matrix.shape[1])
            exact_sums.add_block(step, part, matrix[end - size : end], state)
            exact_sums.merge(step, total, part)
            end -= size
        state = exact_sums.advance(step, total, state)
    return _finish(method, state)


def whole(matrix, method):
    return blockwise(matrix, method, [len(matrix)]) if method in STATISTIC else SampleStatistics()


def dataset(matrix, chunks=None):
    array = np.asarray(matrix, np.float32)
    data = da.from_array(array, chunks=chunks) if chunks else array
    return xr.Dataset({"abundance": (("gene", "sample"), data)}, attrs={"kind": "abundance", "schema_version": 1})


# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "clr_floor"), OPTIONS)
@pytest.mark.parametrize("floored", [True, False])
@given(matrix=abundance_matrices())
def test_blocks_equal_the_definition(matrix, method, clr_floor, floored):
    got = normalize_block(matrix, method, whole(matrix, method), clr_floor=clr_floor, floored=floored)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, naive(matrix, method, clr_floor, floored), rtol=1e-11, atol=2e-11)


@given(matrix=abundance_matrices(min_genes=1))
def test_sums_are_the_nearest_float_to_the_true_sum(matrix):
    stats = whole(matrix, "sum")
    assert stats.total.tolist() == [math.fsum(column) for column in matrix.T.astype(np.float64)]
    assert stats.n_present.tolist() == (matrix > 0).sum(axis=0).tolist()


@given(matrix=abundance_matrices())
def test_medians_are_those_of_numpy(matrix):
    wanted = [np.median(c[c > 0].astype(np.float64)) if (c > 0).any() else 0.0 for c in matrix.T]
    assert whole(matrix, "median").median.tolist() == wanted


@pytest.mark.parametrize("n_samples", [2, 2049])  # above 2,048 samples the digits are shorter
def test_medians_of_many_values(n_samples):
    rng = np.random.default_rng(5)
    matrix = rng.lognormal(0, 3, (301, n_samples)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.3] = 0
    wanted = [np.median(c[c > 0].astype(np.float64)) for c in matrix.T]
    assert whole(matrix, "median").median.tolist() == wanted


def test_a_sum_beyond_float32_is_kept():
    matrix = np.full((10, 1), 3e38, np.float32)
    assert whole(matrix, "sum").total[0] == math.fsum(matrix[:, 0].astype(np.float64))


def test_small_values_are_not_lost_beside_a_large_one():
    matrix = np.array([[2.0**60]] + [[2.0**-20]] * 4096, np.float32)
    assert whole(matrix, "sum").total[0] == 2.0**60  # the true sum is 2**60 + 2**-8
    matrix[0] = 2.0**30
    assert whole(matrix, "sum").total[0] == 2.0**30 + 2.0**-8


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_with_nothing_in_it_stays_empty(method):
    matrix = np.array([[1, 0, 2], [3, 0, 0]], np.float32)
    profiles = normalize_block(matrix, method, whole(matrix, method), clr_floor=None)
    assert profiles[:, 1].tolist() == [0, 0]
    assert np.isfinite(profiles).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_table_with_nothing_in_it_stays_empty(method):
    matrix = np.zeros((3, 2), np.float32)
    for floored in (True, False):
        assert not normalize_block(matrix, method, whole(matrix, method), floored=floored).any()


def test_clr_floors_differ_as_documented():
    # log-ratios: sample 0 has -1, 0, 1; sample 1 has -0.5, 0.5 and an absent gene
    matrix = 10.0 ** np.array([[-1, -0.5], [0, 0.5], [1, -np.inf]])
    matrix = matrix.astype(np.float32)
    stats = whole(matrix, "clr")
    assert stats.floor("auto") == pytest.approx(-0.5, abs=1e-6)
    assert stats.floor(None) == pytest.approx(-1, abs=1e-6)
    assert stats.absent("clr") == stats.floor(None)
    auto = normalize_block(matrix, "clr", stats, clr_floor="auto")
    np.testing.assert_allclose(auto, [[0, 0], [0.5, 1], [1.5, 0]], atol=1e-6)
    assert auto[0, 1] == 0  # the value that sets the floor lies on it exactly
    np.testing.assert_allclose(normalize_block(matrix, "clr", stats), [[0, 0.5], [1, 1.5], [2, 0]], atol=1e-6)
    unfloored = normalize_block(matrix, "clr", stats, floored=False)
    np.testing.assert_allclose(unfloored, [[-1, -0.5], [0, 0.5], [1, -1]], atol=1e-6)


# -- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(STATISTIC))
@given(data=st.data(), matrix=abundance_matrices())
def test_statistics_do_not_depend_on_blocks(data, matrix, method):
    sizes = data.draw(chunkings(len(matrix)))
    assert blockwise(matrix, method, sizes).to_bytes() == whole(matrix, method).to_bytes()


@pytest.mark.parametrize(("method", "clr_floor"), OPTIONS)
@given(data=st.data(), matrix=abundance_matrices())
def test_profiles_do_not_depend_on_blocks(data, matrix, method, clr_floor):
    stats = whole(matrix, method)
    for floored in (True, False):
        at_once = normalize_block(matrix, method, stats, clr_floor=clr_floor, floored=floored)
        edges = np.cumsum(data.draw(chunkings(len(matrix))))[:-1]
        parts = [
            normalize_block(np.asfortranarray(block), method, stats, clr_floor=clr_floor, floored=floored)
            for block in np.split(matrix, edges)
        ]
        assert np.concatenate(parts).tobytes() == at_once.tobytes()


@pytest.mark.parametrize(("method", "clr_floor"), OPTIONS)
def test_tasks_and_the_lazy_way_give_the_same_bits(runner, abundance_store, tmp_path, method, clr_floor):
    rng = np.random.default_rng(3)
    matrix = rng.lognormal(0, 2, (157, 7)).astype(np.float32) * (rng.random((157, 7)) < 0.4)
    seen = set()
    for i, chunk_rows in enumerate([157, 20, 3]):
        url = abundance_store(matrix, chunk_rows=chunk_rows)
        stats = sample_statistics(url, runner, method, str(tmp_path / f"work-{i}"))
        by_task = normalize_block(matrix, method, stats, clr_floor=clr_floor).astype(np.float32)
        lazy = normalize(storage.open_dataset(url), method=method, clr_floor=clr_floor).abundance.values
        assert lazy.dtype == np.float32
        seen |= {by_task.tobytes(), lazy.tobytes()}
    assert len(seen) == 1


@given(data=st.data(), matrix=abundance_matrices(wide=False))
def test_the_lazy_way_does_not_depend_on_chunks(data, matrix):
    method, clr_floor = data.draw(st.sampled_from(OPTIONS))
    chunks = (data.draw(chunkings(len(matrix))), data.draw(chunkings(matrix.shape[1])))
    got = normalize(dataset(matrix, chunks), method=method, clr_floor=clr_floor).abundance.values
    wanted = normalize_block(matrix, method, whole(matrix, method), clr_floor=clr_floor).astype(np.float32)
    assert got.tobytes() == wanted.tobytes()


# -- the tasks -------------------------------------------------------------------------------------------------------


def test_a_finished_statistics_task_does_not_run_again(runner, abundance_store, tmp_path):
    url = abundance_store(np.arange(40).reshape(10, 4), chunk_rows=2)
    work, done = str(tmp_path / "work"), str(tmp_path / "done")
    first = sample_statistics(url, runner, "median", work, done=done)
    ran = len(runner.usage)
    again = sample_statistics(url, runner, "median", work, done=done)
    assert [stage.n_tasks for stage in runner.usage[ran:]] == [0, 0, 0]
    assert again.to_bytes() == first.to_bytes()


def test_no_statistics_are_read_for_none(runner, tmp_path):
    stats = sample_statistics(str(tmp_path / "missing.zarr"), runner, "none", str(tmp_path))
    assert stats.total is None


@given(
    st.integers(1, 10**7), st.integers(1, 5000), st.integers(1, 10**5), st.integers(1, 64), st.integers(10**6, 10**10)
)
def test_task_ranges_cover_every_gene_once_in_whole_chunks(n_genes, n_samples, chunk_rows, n_threads, budget):
    ranges, rows = _task_ranges(n_genes, n_samples, chunk_rows, n_threads, budget)
    assert [b for b, _ in ranges] == [0, *(e for _, e in ranges[:-1])]
    assert ranges[-1][1] == n_genes
    assert all(b < e and b % chunk_rows == 0 for b, e in ranges)
    assert rows % chunk_rows == 0
    assert rows == chunk_rows or rows * n_samples * 8 <= budget / 4


def test_statistics_travel_as_bytes():
    stats = whole(np.array([[1, 0], [2, 0]], np.float32), "clr")
    back = SampleStatistics.from_bytes(stats.to_bytes())
    assert back.total is None
    assert back.log_mean.tolist() == stats.log_mean.tolist()
    assert back.to_bytes() == stats.to_bytes()


# -- the lazy way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_read_until_asked(abundance_store, method):
    ds = storage.open_dataset(abundance_store(np.eye(6), chunk_rows=2))
    calls = []

    def counting(graph, keys, **options):
        calls.append(keys)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=counting):
        normalized = normalize(ds, method=method)
        assert calls == []
        normalized.abundance.values  # noqa: B018
        assert len(calls) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.isel(gene=slice(2, 15)),
        lambda ds: ds.isel(gene=[1, 5, 7, 19]),
        lambda ds: ds.chunk(gene=7, sample=2),
        lambda ds: xr.concat([ds.isel(gene=slice(0, 5)), ds.isel(gene=slice(7, 20))], "gene"),
        lambda ds: ds.sortby("gene_id", ascending=False),
        lambda ds: ds.persist(scheduler="synchronous"),
        lambda ds: ds.load(),
    ],
    ids=["slice", "rows", "rechunked", "joined", "sorted", "persisted", "loaded"],
)
def test_a_changed_dataset_is_normalized(abundance_store, change):
    matrix = np.random.default_rng(1).lognormal(0, 1, (20, 3))
    ds = change(storage.open_dataset(abundance_store(matrix, chunk_rows=3)))
    got = normalize(ds, method="median").abundance
    np.testing.assert_allclose(got.values, naive(ds.abundance.values, "median"), rtol=1e-6)


def test_a_dataset_persisted_on_a_cluster_is_normalized(runner, abundance_store):
    matrix = np.random.default_rng(1).lognormal(0, 1, (20, 3))
    with runner.dask_scheduler():
        ds = storage.open_dataset(abundance_store(matrix, chunk_rows=3)).persist()
        got = normalize(ds, method="median").abundance.values
    np.testing.assert_allclose(got, naive(matrix.astype(np.float32), "median"), rtol=1e-6)


def test_blocks_are_not_kept_from_one_pass_to_the_next():
    live, most, reads = set(), [0], [0]

    def read(number):
        block = np.full((1, 3), number + 1, np.float32)
        reads[0] += 1
        live.add(reads[0])
        weakref.finalize(block, live.discard, reads[0])
        most[0] = max(most[0], len(live))
        return block

    blocks = [da.from_delayed(dask.delayed(read)(i), (1, 3), np.float32) for i in range(40)]
    ds = dataset(np.zeros((40, 3))).assign(abundance=(("gene", "sample"), da.concatenate(blocks)))
    largest = normalize(ds, method="median").abundance.max().compute(scheduler="synchronous")
    assert largest == pytest.approx(40 / 20.5)
    assert reads[0] == 4 * 40  # three digits, and the values
    assert most[0] <= 3


def test_the_input_is_untouched_and_the_result_says_what_was_done():
    ds = dataset(np.array([[1, 2], [3, 4]]))
    got = normalize(ds, method="clr", clr_floor="auto")
    assert "normalization" not in ds.attrs
    assert ds.abundance.values.tolist() == [[1, 2], [3, 4]]
    assert got.attrs["normalization"] == "clr"
    assert got.attrs["clr_floor"] == "auto"
    assert "normalize method=clr, clr_floor=auto" in got.attrs["history"]


def test_a_saved_normalized_dataset_opens_as_it_was(abundance_store, tmp_path):
    ds = normalize(storage.open_dataset(abundance_store(np.eye(6) + 1, chunk_rows=2)), method="hellinger")
    storage.save_dataset(ds, str(tmp_path / "saved.zarr"))
    back = storage.open_dataset(str(tmp_path / "saved.zarr"))
    assert back.attrs["normalization"] == "hellinger"
    assert back.abundance.values.tobytes() == ds.abundance.values.tobytes()


def test_what_float32_can_not_hold_becomes_its_largest_number():
    ds = dataset(np.array([[1e-30], [1e-30], [3e38]]))
    assert normalize(ds, method="median").abundance.values[2, 0] == np.finfo(np.float32).max


# -- bad arguments ---------------------------------------------------------------------------------------------------


def test_an_unknown_method_names_the_choices():
    with pytest.raises(ValueError, match="`normalization` is 'tss'; choose one of sum, median, hellinger, clr, none"):
        normalize(dataset(np.eye(2)), method="tss")


@pytest.mark.parametrize("clr_floor", ["low", math.nan, math.inf, True, [1]])
def test_a_bad_floor_is_refused(clr_floor):
    with pytest.raises(ValueError, match=r"`clr_floor` is .*; give auto, a number"):
        check_options("clr", clr_floor)


def test_a_number_as_floor_is_only_for_clr():
    with pytest.raises(ValueError, match="only for `normalization='clr'`, not for sum"):
        check_options("sum", -3.0)
    check_options("sum", "auto")


def test_normalizing_twice_is_refused():
    once = normalize(dataset(np.eye(2)), method="sum")
    with pytest.raises(ValueError, match="normalized already, by sum"):
        normalize(once, method="clr")
    normalize(normalize(dataset(np.eye(2)), method="none"), method="sum")


def test_only_abundances_are_normalized():
    ds = dataset(np.eye(2)).assign_attrs(kind="expression")
    with pytest.raises(SchemaError, match="this dataset holds expression"):
        normalize(ds, method="sum")
    normalize(ds, method="none")


def test_a_dataset_without_abundance_is_refused():
    with pytest.raises(InputError, match="several variables of two dims, or none"):
        normalize(xr.Dataset(), method="sum")
