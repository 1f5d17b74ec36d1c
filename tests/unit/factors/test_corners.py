"""Matrices at the ends of what can be factorized: empty programs, numbers that float32 can not hold, exact fits."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask.errors import InputError
from cagdask.factors.hals import error_change, gram_of, products_of, residual, squared_error
from cagdask.factors.replicates import Clustering, _too_few, cluster_programs, silhouette
from cagdask.factors.selection import recommended
from tests.inline_runner import InlineRunner

MakeStore = Callable[..., str]


def summary_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "nmf.json").read_text())
    return found


# -- empty programs ----------------------------------------------------------------------------------------------------


def low_rank(rank: int, seed: int = 0) -> np.ndarray:
    """A matrix of so many programs that share no gene, 60 x 14."""
    rng = np.random.default_rng(seed)
    loading = np.zeros((60, rank))
    for row in range(60):
        loading[row, row % rank] = 1 + rng.random()
    return loading @ (rng.random((rank, 14)) + 0.1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_more_components_than_programs_are_not_stable(abundance_store: MakeStore, tmp_path: Path, rank: int) -> None:
    store = abundance_store(low_rank(rank))
    ks = [k for k in (2, 3, 4, 5) if k >= rank]
    table = cagdask.nmf_select(store, ks=ks, n_replicates=4, output=str(tmp_path / "k"), client=InlineRunner())
    for row in table.itertuples():
        assert (row.stability > 0.8) == (row.k == rank), table.to_string()
    if rank > 1:
        assert summary_of(tmp_path / "k")["recommended_k"] == rank


@pytest.mark.parametrize("values", [np.ones((20, 7)), np.full((20, 7), 3e-9), low_rank(1) * 1e7])
def test_a_matrix_of_one_program_has_no_stable_k(abundance_store: MakeStore, tmp_path: Path, values: Any) -> None:
    table = cagdask.nmf_select(
        abundance_store(values), ks=[2, 3], n_replicates=3, output=str(tmp_path / "k"), client=InlineRunner()
    )
    assert (table.stability < 0.5).all()
    assert "no k reaches a stability" in summary_of(tmp_path / "k")["recommended_because"]


def test_empty_components_are_named_and_have_no_top_genes(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cagdask"):
        ds = cagdask.nmf(abundance_store(low_rank(1)), k=3, output=str(tmp_path / "n"), client=InlineRunner())
    empty = summary_of(tmp_path / "n")["empty_components"]
    length = np.linalg.norm(ds.gene_loading.values, axis=0) * ds.sample_latent.values.sum(axis=0)
    assert empty == [f"NMF_{i}" for i in np.flatnonzero(length == 0)]
    assert empty
    assert f"of 3 components {', '.join(empty)} are empty" in caplog.text
    top = pd.read_csv(tmp_path / "n" / "top_genes.tsv", sep="\t")
    assert not set(top.component) & set(empty)


def test_a_consensus_of_too_few_programs_counts_the_empty_ones() -> None:
    wanted = Clustering(k=5, seed=0, threshold=0.1, stride=1, total=1.0)
    assert _too_few(wanted, 2, np.array([0.01, 0.02, 0.5, 2.0, 2.0]), 2) == (
        "only 2 of 5 programs of the replicates have a local density below 0.1, for k = 5 (the median is 0.500) and 2 "
        "are empty. Raise `density_threshold`, or use a smaller k."
    )


@given(st.integers(2, 5), st.integers(2, 6), st.integers(0, 1000))
def test_copies_of_one_program_are_no_clusters(k: int, n: int, seed: int) -> None:
    points = np.ones((k * n, 4)) / 2 + 1e-5 * np.random.default_rng(seed).random((k * n, 4))
    labels = np.arange(k * n) % k
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    assert silhouette(distance, labels) == 0
    assert not cluster_programs(np.eye(2), 3, 0).any()


# -- which k -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stability", "k", "why"),
    [
        (
            {2: 0.99, 3: 0.91, 4: 0.85, 5: 0.4},
            4,
            "the largest of 4 k .* at least 0.8 .0.850.; the next, k = 5, has 0.400",
        ),
        ({2: 0.5, 3: 0.6}, 3, "no k reaches a stability of 0.8; this is the most stable one .0.600."),
        ({2: 0.6, 3: 0.6}, 2, "no k reaches"),
        ({4: 0.7996, 8: 0.2}, 4, "at least 0.8 .0.800."),
        ({7: 1.0}, 7, "the largest of 1 k"),
        (
            {4: 0.999, 5: 0.997, 6: 0.998, 7: 0.996, 8: 0.883, 9: 0.799},  # seven planted programs
            7,
            "the largest before the stability falls most, and at least 0.8 .0.996.; the next, k = 8, has 0.883",
        ),
        ({2: 0.95, 3: 0.93, 4: 0.9}, 4, "the largest of 3 k"),
    ],
)
def test_the_largest_stable_k_is_recommended(stability: dict[int, float], k: int, why: str) -> None:
    found = recommended([{"k": key, "stability": value} for key, value in stability.items()])
    assert found["recommended_k"] == k
    assert re.search(why, found["recommended_because"])


# -- float32 -----------------------------------------------------------------------------------------------------------


def write_table(path: Path, values: np.ndarray) -> str:
    columns = [f"s{j}" for j in range(values.shape[1])]
    table = pd.DataFrame(values, columns=columns).assign(id=[f"r{i}" for i in range(len(values))])
    table[["id", *columns]].to_parquet(path, index=False)
    return str(path)


@given(st.sampled_from([1e39, 1e100, -1e250, 1e307]), st.integers(0, 19), st.integers(0, 5), st.booleans())
def test_a_value_beyond_float32_is_named_and_not_called_missing(
    tmp_path: Path, value: float, row: int, column: int, by_sample: bool
) -> None:
    values = np.random.default_rng(0).random((20, 6))
    values[row, column] = value
    url = write_table(tmp_path / "t.parquet", values)
    names = (f"s{column}", f"r{row}") if by_sample else (f"r{row}", f"s{column}")
    orient = "samples-by-genes" if by_sample else "genes-by-samples"
    with pytest.raises(InputError) as caught:
        cagdask.nmf(url, k=2, output=str(tmp_path / "n"), orient=orient, client=InlineRunner())
    assert f"gene {names[0]!r}, sample {names[1]!r}: the value is {value:g}, above 3.4e+38" in str(caught.value)
    assert "missing" not in str(caught.value)
    os.remove(url)


@pytest.mark.parametrize("scale", [1e-50, 1e-100, 1e-300])
def test_values_below_float32_are_not_called_absent(tmp_path: Path, scale: float) -> None:
    values = np.random.default_rng(0).random((20, 6))
    url = write_table(tmp_path / "t.parquet", values * scale)
    with pytest.raises(InputError, match="all 120 values other than 0 are too small for float32"):
        cagdask.nmf(url, k=2, output=str(tmp_path / "n"), client=InlineRunner())
    ds = xr.Dataset({"abundance": (("gene", "sample"), values * scale)}, attrs={"kind": "abundance"})
    ds = ds.assign_coords(gene_id=("gene", [f"g{i}" for i in range(20)]), sample_id=("sample", list("abcdef")))
    with pytest.raises(InputError, match="all 120 values other than 0 are too small for float32"):
        cagdask.find_cags(ds, max_dist=0.2, client=InlineRunner())


def test_some_values_below_float32_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.random.default_rng(0).random((20, 6))
    values[3, 2:4] = 1e-60
    with caplog.at_level(logging.WARNING, "cagdask"):
        url = write_table(tmp_path / "t.parquet", values)
        cagdask.nmf(url, k=2, output=str(tmp_path / "n"), client=InlineRunner())
    assert "2 values are too small for float32" in caplog.text


# -- the error ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 1000))
def test_the_residual_is_the_sum_of_squared_differences(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    block, loading, latent = (rng.random(shape, np.float32) for shape in ((n, m), (n, k), (m, k)))
    wanted = float(((block - loading.astype(float) @ latent.astype(float).T) ** 2).sum())
    assert residual(block, loading, latent) == pytest.approx(wanted, rel=1e-12)
    other = latent + rng.random((m, k), np.float32)
    wide = loading.astype(float)
    change = error_change(block.T.astype(float) @ wide, wide.T @ wide, latent, other)
    assert residual(block, loading, other) == pytest.approx(wanted + change, rel=1e-9, abs=1e-9)
    total = float((block.astype(float) ** 2).sum())
    rough = squared_error(total, products_of(block, loading), gram_of(loading), latent)
    assert rough == pytest.approx(wanted, rel=1e-3, abs=1e-4 * total)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_error_that_is_reported_is_that_of_the_files(
    abundance_store: MakeStore, tmp_path: Path, offset: float
) -> None:
    """Far from zero the error is a hundred-millionth of the squares, which differences of sums in float32 lose."""
    values = (offset + low_rank(3)).astype(np.float32)
    ds = cagdask.nmf(abundance_store(values), k=4, output=str(tmp_path / "n"), client=InlineRunner())
    found = summary_of(tmp_path / "n")
    left = values - ds.gene_loading.values.astype(float) @ ds.sample_latent.values.astype(float).T
    about = values - values.mean(axis=1, keepdims=True, dtype=float)
    total = float((values.astype(float) ** 2).sum())
    assert found["objective"] == pytest.approx(float((left**2).sum()), rel=0.05, abs=1e-10 * total)
    assert found["r2"] == pytest.approx(1 - float((left**2).sum()) / float((about**2).sum()), abs=0.02)


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_input_of_a_table_in_memory_is_no_temporary_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((20, 6))
    table = pd.DataFrame(values, index=[f"g{i}" for i in range(20)], columns=list("abcdef"))
    cagdask.nmf(table, k=2, output=str(tmp_path / "n"), client=InlineRunner())
    cagdask.nmf_select(table, ks=[2], n_replicates=3, output=str(tmp_path / "k"), client=InlineRunner())
    cagdask.nmf_project(table, reference=str(tmp_path / "n"), output=str(tmp_path / "p"), client=InlineRunner())
    for folder in ("n", "k", "p"):
        assert summary_of(tmp_path / folder)["input"] == "the DataFrame given"
    with pytest.raises(ValueError, match="`k` is 9, but the DataFrame given is 20 x 6") as caught:
        cagdask.nmf(table, k=9, output=str(tmp_path / "e"), client=InlineRunner())
    assert str(tmp_path) not in str(caught.value)
