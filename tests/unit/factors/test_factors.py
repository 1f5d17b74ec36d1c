"""Kernels and steps of a factorization, against scikit-learn, SciPy and direct formulas."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import nnls
from zarr.storage import LocalStore

import cagdask
from cagdask import storage
from cagdask.errors import InputError, MemoryLimitError, SchemaError, StoreError
from cagdask.factors.hals import gram_of, products_of, squared_error, sweep
from cagdask.factors.matrix import Matrix, open_matrix
from cagdask.factors.replicates import cluster_programs, local_density, replicate_seeds, silhouette
from cagdask.factors.sketch import first_latent, orthonormal
from cagdask.factors.steps import Factorization
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, memory_for
from tests.result_store import write_result_store

Array = NDArray[Any]


@pytest.fixture
def pictures() -> None:
    """Asked for by tests that want them drawn."""


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else that most of these tests do."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("cagdask.factors.drawing.draw_result", lambda *_: None)


def planted(n_genes: int, n_samples: int, k: int, seed: int = 0, noise: float = 0.05) -> tuple[Array, Array]:
    """A matrix of sparse programs, float32, and their loadings."""
    rng = np.random.default_rng(seed)
    loading = rng.gamma(1, 1, (n_genes, k)) * (rng.random((n_genes, k)) < 0.25)
    values = loading @ rng.gamma(0.6, 1, (n_samples, k)).T
    values += noise * values.std() * rng.standard_normal(values.shape)
    return np.maximum(values, 0).astype(np.float32), loading


def factorize(source: str, output: Path, k: int = 3, **options: Any) -> tuple[Array, Array, dict[str, Any]]:
    """Loadings, latent values and JSON file of a factorization without a cluster."""
    options = {"client": InlineRunner(), "overwrite": True} | options
    ds = cagdask.nmf(source, k=k, output=str(output), **options)
    return ds.gene_loading.values, ds.sample_latent.values, json.loads((output / "nmf.json").read_text())


def residual(values: Array, loading: Array, latent: Array) -> float:
    return float(((values.astype(np.float64) - loading.astype(np.float64) @ latent.astype(np.float64).T) ** 2).sum())


# -- kernels ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 9))
def test_many_sweeps_end_at_non_negative_least_squares(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    fixed = rng.random((20, k)).astype(np.float32)
    target = rng.random((n, 20)).astype(np.float32)
    rows = np.zeros((n, k), np.float32)
    sweep(rows, target @ fixed, gram_of(fixed).astype(np.float32), 2000)
    for row, wanted in zip(rows, target, strict=True):
        best = nnls(fixed.astype(np.float64), wanted.astype(np.float64))[1]
        assert np.linalg.norm(fixed @ row - wanted) <= best + 2e-3


@pytest.mark.parametrize("n_sweeps", [1, 2])
@pytest.mark.parametrize("k", [1, 4, 7])
def test_a_sweep_sets_one_entry_after_the_other(k: int, n_sweeps: int) -> None:
    rng = np.random.default_rng(k)
    fixed, target = rng.random((20, k)), rng.normal(0.3, 1, (70, 20))  # more rows than are swept side by side
    fixed[:, 0] *= k > 1  # a component that nothing is left of
    gram, products = fixed.T @ fixed, target @ fixed
    rows = np.abs(rng.normal(size=(70, k)))
    expected = rows.copy()
    for _ in range(n_sweeps):
        for j in range(k):
            step = (products[:, j] - expected @ gram[:, j]) / gram[j, j] if gram[j, j] else -np.inf
            expected[:, j] = np.maximum(0, expected[:, j] + step)
    found = rows.astype(np.float32)
    sweep(found, products.astype(np.float32), gram.astype(np.float32), n_sweeps)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n_sweeps", [5, 500])  # with the second, some rows are done before others
def test_rows_do_not_see_each_other(n_sweeps: int) -> None:
    rng = np.random.default_rng(0)
    products, gram = rng.random((50, 7), np.float32), gram_of(rng.random((30, 7), np.float32)).astype(np.float32)
    whole, parts = np.zeros((50, 7), np.float32), np.zeros((50, 7), np.float32)
    sweep(whole, products, gram, n_sweeps)
    for rows in (slice(0, 13), slice(13, 50)):
        sweep(parts[rows], products[rows], gram, n_sweeps)
    assert whole.tobytes() == parts.tobytes()


@given(st.integers(0, 10**6))
def test_the_error_from_sums_is_the_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (100 + rng.random((9000, 5))).astype(np.float32)  # two blocks of float32, large offset
    loading, latent = rng.random((9000, 3), np.float32), rng.random((5, 3), np.float32)
    error = squared_error(
        (values.astype(np.float64) ** 2).sum(), products_of(values, loading), gram_of(loading), latent
    )
    assert error == pytest.approx(residual(values, loading, latent), rel=1e-5)


def test_the_descent_begins_at_singular_vectors_with_no_zero_but_for_empty_samples() -> None:
    values, _ = planted(200, 30, 4, noise=0)
    values[:, 7] = 0
    basis = orthonormal((values.T @ (values @ np.random.default_rng(0).random((30, 8), np.float32))).astype(float))
    basis[7] = 0
    latent = first_latent(values @ basis, basis, 4)
    assert (latent[7] == 0).all()
    assert (np.delete(latent, 7, axis=0) > 0).all()
    leading = np.abs(np.linalg.svd(values)[2][0])
    assert latent[:, 0] @ leading / np.linalg.norm(latent[:, 0]) > 0.99


# -- the whole, against scikit-learn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nonneg", ["shift", "negative-part"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_r2_is_that_of_scikit_learn_run_to_convergence(
    abundance_store: MakeStore, tmp_path: Path, nonneg: str, seed: int
) -> None:
    from sklearn.decomposition import NMF

    rng = np.random.default_rng(seed)
    signal = rng.gamma(1, 1, (400, 8)) * rng.choice([-1, 0, 1], (400, 8)) @ rng.gamma(1, 1, (8, 60))
    effects = (signal + 0.3 * signal.std() * rng.standard_normal(signal.shape) - 2).astype(np.float32)
    positive = effects - effects.min() if nonneg == "shift" else np.maximum(-effects, 0)
    model = NMF(8, random_state=0, tol=1e-6, max_iter=1000).fit(positive.T)
    squares = ((positive - positive.mean(axis=1, keepdims=True)) ** 2).sum()
    theirs = 1 - model.reconstruction_err_**2 / squares
    store = abundance_store(effects, kind="expression", chunk_rows=100)
    loading, latent, found = factorize(store, tmp_path / "out", 8, nonneg=nonneg)
    assert found["r2"] >= 0.98 * theirs
    assert found["r2"] == pytest.approx(1 - residual(positive, loading, latent) / squares, abs=1e-4)
    assert found["converged"]


def test_exact_is_no_worse_than_compressed(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((300, 40)).astype(np.float32)  # nothing that a sketch could keep
    store = abundance_store(values)
    compressed, exact = (factorize(store, tmp_path / s, 5, solver=s, max_passes=30)[2] for s in ("compressed", "exact"))
    assert exact["objective"] <= compressed["objective"]
    assert exact["passes"] > compressed["passes"]


def test_components_have_unit_loadings_and_fall_by_total(abundance_store: MakeStore, tmp_path: Path) -> None:
    values, planted_loading = planted(500, 60, 5)
    loading, latent, _ = factorize(abundance_store(values), tmp_path / "out", 5)
    assert np.linalg.norm(loading, axis=0) == pytest.approx(np.ones(5), abs=1e-5)
    assert (np.diff(latent.sum(axis=0)) <= 0).all()
    assert (loading >= 0).all()
    assert (latent >= 0).all()
    cosine = (planted_loading / np.linalg.norm(planted_loading, axis=0)).T @ loading
    assert (cosine.max(axis=1) > 0.95).all()


# -- passes, chunks, workers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chunk_rows", "most"), [(20, 5), (80, 5), (60, 6), (130, 6), (7, 6), (500, 6), (800, 5)])
def test_five_passes_by_the_chunks_that_are_read(
    abundance_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int, most: int
) -> None:
    monkeypatch.setattr("cagdask.factors.matrix.BLOCK_CELLS", 80 * 20)
    values, _ = planted(800, 20, 3)
    store = abundance_store(values, chunk_rows=chunk_rows)
    read = []
    original = LocalStore.get

    async def counted(self: LocalStore, key: str, *arguments: Any, **options: Any) -> Any:
        if key.startswith("abundance/c/"):
            read.append(key)
        return await original(self, key, *arguments, **options)

    monkeypatch.setattr(LocalStore, "get", counted)
    found = factorize(store, tmp_path / "out")[2]
    assert open_matrix(store).n_blocks == 10
    assert len(read) / -(-800 // chunk_rows) == pytest.approx(found["passes"], abs=1e-3)
    assert 5 <= found["passes"] <= most


@pytest.mark.parametrize("solver", ["compressed", "exact"])
@pytest.mark.parametrize("stride", [1, 3])
def test_chunks_change_nothing(
    abundance_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solver: str, stride: int
) -> None:
    monkeypatch.setattr("cagdask.factors.matrix.BLOCK_CELLS", 64 * 20)
    values, _ = planted(300, 20, 3)
    if stride > 1:  # more rows than are solved in memory
        monkeypatch.setattr("cagdask.factors.steps.SAMPLE_BYTES", 300 * 4 * 23 // stride)
    results = []
    for chunk_rows in (7, 64, 300):
        store = abundance_store(values, chunk_rows=chunk_rows)
        folder = tmp_path / str(chunk_rows)
        results.append(factorize(store, folder, solver=solver, max_passes=12)[:2])
        assert (folder / "nmf_latent.parquet").read_bytes() == (tmp_path / "7" / "nmf_latent.parquet").read_bytes()
    for loading, latent in results[1:]:
        assert loading.tobytes() == results[0][0].tobytes()
        assert latent.tobytes() == results[0][1].tobytes()


def test_a_sample_of_the_rows_and_a_pass_over_all_end_where_all_in_memory_does(
    abundance_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, _ = planted(900, 40, 4)
    store = abundance_store(values)
    whole = factorize(store, tmp_path / "whole", 4)[2]
    monkeypatch.setattr("cagdask.factors.steps.SAMPLE_BYTES", 900 * 4 * 28 // 4)
    part = factorize(store, tmp_path / "part", 4)[2]
    assert part["r2"] == pytest.approx(whole["r2"], abs=2e-3)
    assert part["passes"] == 5


@pytest.mark.usefixtures("pictures")
def test_one_and_two_workers_give_the_same_bytes(abundance_store: MakeStore, tmp_path: Path, runner: Any) -> None:
    values, _ = planted(60_000, 100, 3)  # two blocks
    store = abundance_store(values, chunk_rows=10_000)
    assert open_matrix(store).n_blocks == 2
    alone, two = (factorize(store, tmp_path / n, client=c) for n, c in (("one", InlineRunner()), ("two", runner)))
    assert [a.tobytes() for a in alone[:2]] == [a.tobytes() for a in two[:2]]
    for name in ("nmf_latent.parquet", "NMF_weight_matrix_gsea.parquet", "top_genes.tsv", "loadings.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_interrupted_run_goes_on(
    abundance_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = abundance_store(planted(300, 20, 3)[0])
    clean = factorize(store, tmp_path / "clean", solver="exact", max_passes=8)
    runner = InlineRunner()
    original = runner.map

    def stop(stage: str, *arguments: Any, **options: Any) -> Any:
        if stage == "exact 4":
            raise KeyboardInterrupt
        return original(stage, *arguments, **options)

    monkeypatch.setattr(runner, "map", stop)
    with pytest.raises(KeyboardInterrupt):
        factorize(store, tmp_path / "out", solver="exact", max_passes=8, client=runner, overwrite=False)
    assert not (tmp_path / "out").exists()
    again = InlineRunner()
    resumed = factorize(store, tmp_path / "out", solver="exact", max_passes=8, client=again, overwrite=False)
    stages = {stage for stage, _ in again.calls}
    assert "exact 4" in stages
    assert not stages & {"survey", "sketch 1", "solve", "exact 3"}
    assert [a.tobytes() for a in resumed[:2]] == [a.tobytes() for a in clean[:2]]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("out")) == ["out"]


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pictures")
def test_tables_have_the_published_schemas_and_keep_the_order_of_the_input(
    abundance_store: MakeStore, tmp_path: Path
) -> None:
    values, _ = planted(50, 12, 3)
    genes, samples = [f"g{i}" for i in range(50)][::-1], [f"s{j}" for j in range(12)][::-1]
    loading, latent, found = factorize(abundance_store(values, genes, samples), tmp_path / "out")
    weights = pd.read_parquet(tmp_path / "out" / "NMF_weight_matrix_gsea.parquet")
    assert list(weights.columns) == ["genes", "NMF_0", "NMF_1", "NMF_2"]
    assert list(weights["genes"]) == genes
    assert (weights.iloc[:, 1:].to_numpy() == loading).all()
    table = pd.read_parquet(tmp_path / "out" / "nmf_latent.parquet")
    assert list(table.columns) == ["sample_id", "NMF_0", "NMF_1", "NMF_2"]
    assert list(table["sample_id"]) == samples
    assert (table.iloc[:, 1:].to_numpy() == latent).all()
    assert found["trace"][-1] <= found["trace"][0]
    assert found["r2"] == pytest.approx(
        1 - residual(values, loading, latent) / ((values - values.mean(1, keepdims=True)) ** 2).sum(), abs=1e-5
    )
    top = pd.read_csv(tmp_path / "out" / "top_genes.tsv", sep="\t")
    best = top[(top.component == "NMF_1") & (top["rank"] == 1)].gene.item()
    assert best == genes[int(loading[:, 1].argmax())]
    for name in ("objective.png", "loadings.png", "top_genes.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_cags_are_as_good_as_genes(tmp_path: Path) -> None:
    result = write_result_store(str(tmp_path / "cags.zarr"), list(range(30)), n_samples=12)
    factorize(result, tmp_path / "out")
    weights = pd.read_parquet(tmp_path / "out" / "NMF_weight_matrix_gsea.parquet")
    assert list(weights["genes"]) == [str(i) for i in range(30)]
    folder = factorize(str(tmp_path), tmp_path / "of-folder")[2]  # a folder with a cags.zarr
    assert folder["rows_are"] == "CAGs"


def write_parquet(url: Path, values: Array, genes: list[str], samples: list[str], *, by_sample: bool) -> str:
    rows, columns, table = (samples, genes, values.T) if by_sample else (genes, samples, values)
    frame = pd.DataFrame(table, columns=columns)
    frame.insert(0, "ModelID" if by_sample else "genes", rows)
    frame.to_parquet(url)
    return str(url)


def test_a_parquet_table_is_the_same_either_way_around(abundance_store: MakeStore, tmp_path: Path) -> None:
    values, _ = planted(40, 12, 3)
    genes, samples = [f"g{i}" for i in range(40)], [f"s{j}" for j in range(12)]
    stored = factorize(abundance_store(values, genes, samples), tmp_path / "store")
    for by_sample, orient in ((True, "samples-by-genes"), (False, "genes-by-samples")):
        source = write_parquet(tmp_path / f"{orient}.parquet", values, genes, samples, by_sample=by_sample)
        found = factorize(source, tmp_path / orient, orient=orient)
        assert (found[0] == stored[0]).all()
        assert (found[1] == stored[1]).all()
    assert pd.read_parquet(tmp_path / "samples-by-genes" / "nmf_latent.parquet").columns[0] == "ModelID"


def test_feature_shift_takes_off_each_genes_minimum(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = planted(60, 12, 3)[0] - np.linspace(-1, 2, 60, dtype=np.float32)[:, None]
    store = abundance_store(values, kind="expression")
    ds = cagdask.nmf(store, k=3, output=str(tmp_path / "a"), nonneg="feature-shift", client=InlineRunner())
    shift = np.minimum(values.min(axis=1), 0)
    assert (ds.gene_shift.values == shift).all()
    moved = abundance_store(values - shift[:, None])
    assert (factorize(moved, tmp_path / "b")[0] == ds.gene_loading.values).all()


# -- what is missing, negative or empty ------------------------------------------------------------------------------


def test_what_is_all_zero_stays_zero_and_is_listed(abundance_store: MakeStore, tmp_path: Path) -> None:
    values, _ = planted(40, 12, 3)
    values[[4, 9]], values[:, 3] = 0, 0
    loading, latent, found = factorize(abundance_store(values), tmp_path / "out")
    assert (loading[[4, 9]] == 0).all()
    assert (latent[3] == 0).all()
    assert np.isfinite(loading).all()
    assert found["zero_genes"] == {"n": 2, "first": ["gene_000004", "gene_000009"]}
    assert found["zero_samples"] == {"n": 1, "first": ["sample_003"]}


@pytest.mark.parametrize("missing", ["drop-features", "drop-samples"])
def test_what_has_missing_values_is_dropped(tmp_path: Path, missing: str) -> None:
    values, _ = planted(40, 12, 3)
    genes, samples = [f"g{i}" for i in range(40)], [f"s{j}" for j in range(12)]
    holed = values.copy()
    holed[5, 2], holed[17, 2], holed[17, 8] = np.nan, np.inf, np.nan
    source = write_parquet(tmp_path / "t.parquet", holed, genes, samples, by_sample=False)
    loading, latent, found = factorize(source, tmp_path / "out", missing=missing)
    gone = ([5, 17], []) if missing == "drop-features" else ([], [2, 8])
    rest = np.delete(np.delete(values, gone[0], axis=0), gone[1], axis=1)
    assert (len(loading), len(latent)) == rest.shape
    assert found["objective"] == pytest.approx(residual(rest, loading, latent), rel=1e-3)
    assert found["dropped_genes"]["first"] == [genes[i] for i in gone[0]]
    assert found["dropped_samples"]["first"] == [samples[j] for j in gone[1]]
    names = pd.read_parquet(tmp_path / "out" / "NMF_weight_matrix_gsea.parquet")["genes"]
    assert list(names) == [g for i, g in enumerate(genes) if i not in gone[0]]


def test_values_below_zero_are_refused_with_the_choices(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = np.ones((5, 4), np.float32)
    values[3, 2], values[4, 1] = -1, -2
    store = abundance_store(values, kind="expression")
    with pytest.raises(InputError, match=r"2 values are below 0, the first in gene 'gene_000003', sample 'sample_002'"):
        factorize(store, tmp_path / "out", 2)
    with pytest.raises(InputError, match="`nonneg` shift, feature-shift or negative-part"):
        factorize(store, tmp_path / "out", 2)
    assert [p.name for p in tmp_path.iterdir()] == [Path(store).name]


def test_the_first_value_below_zero_is_of_a_sample_that_takes_part(tmp_path: Path) -> None:
    values = np.ones((5, 4), np.float32)
    values[0, 1], values[2, 1], values[3, 2] = -1, np.nan, -2  # the first sample with one is dropped
    source = write_parquet(tmp_path / "t.parquet", values, list("abcde"), list("wxyz"), by_sample=False)
    with pytest.raises(InputError, match=r"1 values are below 0, the first in gene 'd', sample 'y'"):
        factorize(source, tmp_path / "out", 2, missing="drop-samples")


def test_missing_values_are_refused_with_the_first(tmp_path: Path) -> None:
    values = np.ones((5, 4), np.float32)
    values[3, 2], values[1, 3] = np.nan, np.inf
    source = write_parquet(tmp_path / "t.parquet", values, list("abcde"), list("wxyz"), by_sample=False)
    with pytest.raises(
        InputError, match=r"^[^ ]*t\.parquet: 2 values are missing or not finite, the first in gene 'b', sample 'z'"
    ):
        factorize(source, tmp_path / "out", 2)


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        ({"x": [1.0, 2.0], "y": [1.0, 2.0]}, {}, "has no column of names: 'x' holds double"),
        ({"id": ["a", "b"], "y": [1.0, 2.0]}, {"id_column": "ModelID"}, "has no column 'ModelID'"),
        ({"id": ["a", "b"], "y": ["u", "v"], "z": [1, 2]}, {}, "column 'y' holds .*string, not numbers"),
        ({"id": ["a", "a"], "y": [1.0, 2.0], "z": [1, 2]}, {"k": 1}, "'a' occurs more than once in column 'id'"),
        ({"id": ["a", ""], "y": [1.0, 2.0], "z": [1, 2]}, {"k": 1}, "row 2 has no name"),
        ({"id": ["a", "b"]}, {}, "has 2 rows of 0 values"),
        ({"id": pa.array([], pa.string()), "y": pa.array([], pa.float64())}, {}, "has 0 rows of 1 values"),
        ({"id": ["a", "b"], "y": [1.0, 2.0], "z": [0.0, 1]}, {"k": 3}, "`k` is 3, but .* 2 x 2: use at most 2"),
        ({"id": ["a", "b"], "y": [1.0, 2.0]}, {"orient": "sideways"}, "choose one of genes-by-samples"),
    ],
)
def test_a_table_that_can_not_be_used(
    tmp_path: Path, frame: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    pq.write_table(pa.table(frame), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=words):
        factorize(str(tmp_path / "t.parquet"), tmp_path / "out", **({"k": 1} | options))
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.parametrize("index", [None, "ModelID"])
def test_the_index_of_a_pandas_frame_is_the_column_of_names(tmp_path: Path, index: str | None) -> None:
    values, _ = planted(12, 9, 3)
    frame = pd.DataFrame(values, index=pd.Index([f"m{i}" for i in range(12)], name=index))
    frame.columns = [f"g{j}" for j in range(9)]
    frame.to_parquet(tmp_path / "t.parquet")
    factorize(str(tmp_path / "t.parquet"), tmp_path / "out", orient="samples-by-genes")
    latent = pd.read_parquet(tmp_path / "out" / "nmf_latent.parquet")
    assert latent.columns[0] == (index or "sample_id")
    assert latent.iloc[:, 0].tolist() == frame.index.tolist()


@pytest.mark.parametrize("size", [1e-20, 1e20, 1e300])
def test_values_that_float32_can_not_multiply(tmp_path: Path, size: float) -> None:
    values = size * np.random.default_rng(0).random((20, 6))
    source = write_parquet(
        tmp_path / "t.parquet", values, [f"g{i}" for i in range(20)], list("uvwxyz"), by_sample=False
    )
    words = (
        r"the value is .*e\+299, above 3\.4e\+38"
        if size == 1e300
        else r"t\.parquet: its largest value is of the size .*Divide all by about"
    )
    with pytest.raises(InputError, match=words):
        factorize(source, tmp_path / "out", 2)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    columns = [pa.array(["a", "b"]), pa.array([1.0, 2.0]), pa.array([1.0, 2.0])]
    pq.write_table(pa.Table.from_arrays(columns, names=["id", "y", "y"]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="column 'y' occurs 2 times"):
        factorize(str(tmp_path / "t.parquet"), tmp_path / "out", 1)


def test_no_parquet_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("id,x\n")
    with pytest.raises(InputError, match="can not be read as Parquet"):
        factorize(str(tmp_path / "t.parquet"), tmp_path / "out", 1)
    with pytest.raises(InputError, match="no such file"):
        factorize(str(tmp_path / "u.parquet"), tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 5}, "`k` is 5, but .* is 6 x 4: use at most 4"),
        ({"k": 0}, "`k` is 0"),
        ({"nonneg": "abs"}, "choose one of error, shift, feature-shift, negative-part"),
        ({"missing": "zero"}, "choose one of error, drop-features, drop-samples"),
        ({"orient": "samples-by-genes"}, "`orient` and `id_column` are for Parquet tables"),
        ({"id_column": "ModelID"}, "`orient` and `id_column` are for Parquet tables"),
        ({"solver": "mu"}, "choose one of compressed, exact"),
        ({"tol": 0}, "`tol` is 0"),
        ({"max_passes": 0}, "`max_passes` is 0"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_parameters_out_of_range(
    abundance_store: MakeStore, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        factorize(abundance_store(np.ones((6, 4))), tmp_path / "out", **options)


def test_a_matrix_of_zeros(abundance_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no value is above 0"):
        factorize(abundance_store(np.zeros((6, 4))), tmp_path / "out", 2)
    assert not (tmp_path / "out.work").exists()


def test_nothing_is_overwritten(abundance_store: MakeStore, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="already there"):
        factorize(abundance_store(np.ones((6, 4))), tmp_path / "out", 2, overwrite=False)


def test_a_worker_too_small_is_refused_before_any_pass(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(np.ones((2000, 40)))
    runner = InlineRunner(memory_for(100_000))
    with pytest.raises(MemoryLimitError, match=r"sketch: one task needs .* Use `memory_limit='"):
        factorize(store, tmp_path / "out", 2, client=runner)
    assert runner.calls == []
    assert not (tmp_path / "out.work").exists()


def test_too_few_passes_are_a_warning(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cagdask"):
        found = factorize(abundance_store(planted(90, 12, 3)[0]), tmp_path / "out", max_passes=3)[2]
    assert found["converged"] is False
    assert "not converged after 3 passes" in caplog.text


def test_factors_worse_than_the_means_are_a_warning(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refit = Factorization.refit

    def worse(self: Factorization, latent: Array) -> Any:
        fitted, _, gram = refit(self, latent)
        return fitted, 1.5 * self.centered, gram

    monkeypatch.setattr(Factorization, "refit", worse)
    with caplog.at_level(logging.WARNING, "cagdask"):
        found = factorize(abundance_store(planted(90, 12, 3)[0]), tmp_path / "out")[2]
    assert found["r2"] == pytest.approx(-0.5)
    assert found["converged"] is False
    assert "R2 is -0.5: the gene means alone explain more" in caplog.text


# -- replicates ------------------------------------------------------------------------------------------------------


def programs(seed: int = 0) -> tuple[Array, Array]:
    """Unit points around four centers, and their centers' numbers."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), 9)
    points = rng.random((4, 30))[labels] + 0.05 * rng.random((36, 30))
    return points / np.linalg.norm(points, axis=1, keepdims=True), labels


def test_silhouette_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import silhouette_score

    points, labels = programs()
    distance = np.sqrt(np.maximum(0, 2 - 2 * points @ points.T))
    np.fill_diagonal(distance, 0)
    for found in (labels, np.random.default_rng(0).integers(0, 5, 36), np.r_[np.zeros(35, int), 1]):
        assert silhouette(distance, found) == pytest.approx(silhouette_score(points, found), abs=1e-6)


def test_clusters_from_products_alone() -> None:
    from sklearn.metrics import adjusted_rand_score

    points, labels = programs()
    assert adjusted_rand_score(cluster_programs(points @ points.T, 4, 0), labels) == 1


def test_local_density_is_the_mean_distance_to_the_nearest() -> None:
    points, _ = programs()
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    wanted = np.sort(distance, axis=1)[:, 1:4].mean(axis=1)
    assert local_density(distance, 10) == pytest.approx(wanted)


def test_seeds_of_replicates_are_kept_when_there_are_more() -> None:
    assert replicate_seeds(3, 20)[:5] == replicate_seeds(3, 5)
    assert len(set(replicate_seeds(3, 50))) == 50


@pytest.mark.timeout(900)
def test_stability_peaks_at_the_planted_number_and_the_programs_are_found(
    abundance_store: MakeStore, tmp_path: Path
) -> None:
    values, loading = planted(400, 60, 5)
    store = abundance_store(values)
    table = cagdask.nmf_select(
        store, ks=[3, 4, 5, 6, 7], n_replicates=10, output=str(tmp_path / "k"), client=InlineRunner()
    )
    assert abs(int(table.k[table.stability.argmax()]) - 5) <= 1
    assert (np.diff(table.error) < 0).all()
    centered = ((values - values.mean(1, keepdims=True)) ** 2).sum()
    assert table.r2.to_numpy() == pytest.approx(1 - table.error * (values**2).sum() / centered, abs=1e-4)
    found = json.loads((tmp_path / "k" / "nmf.json").read_text())
    assert found["passes"] == 4
    assert found["replicate_seeds"] == replicate_seeds(0, 10)
    assert (tmp_path / "k" / "k_selection.png").exists()
    ds = cagdask.nmf_consensus(store, k=5, n_replicates=10, output=str(tmp_path / "c"), client=InlineRunner())
    cosine = (loading / np.linalg.norm(loading, axis=0)).T @ ds.gene_loading.values
    assert (cosine.max(axis=1) >= 0.95).all()
    assert json.loads((tmp_path / "c" / "nmf.json").read_text())["passes"] == 6
    usage = pd.read_parquet(tmp_path / "c" / "nmf_usage.parquet").iloc[:, 1:].to_numpy()
    assert usage.sum(axis=1) == pytest.approx(np.ones(60))
    standardized = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    wanted = np.linalg.lstsq(usage, standardized.T, rcond=None)[0].T
    assert ds.gene_zscore.values == pytest.approx(wanted, abs=1e-2)
    assert (tmp_path / "c" / "clustergram.png").exists()


def test_replicates_with_too_few_passes_are_a_warning(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = abundance_store(planted(90, 12, 3)[0])
    options: dict[str, Any] = {"n_replicates": 3, "max_passes": 2, "client": InlineRunner()}
    with caplog.at_level(logging.WARNING, "cagdask"):
        table = cagdask.nmf_select(store, ks=[2, 3], output=str(tmp_path / "k"), **options)
        assert table.n_not_converged.tolist() == [3, 3]
        assert "3 of 3 replicates of k = 2 are not converged after 2 passes" in caplog.text
        caplog.clear()
        cagdask.nmf_consensus(store, k=3, density_threshold=2, output=str(tmp_path / "c"), **options)
        assert "3 of 3 replicates of k = 3 are not converged after 2 passes" in caplog.text
    for folder in ("k", "c"):
        assert json.loads((tmp_path / folder / "nmf.json").read_text())["converged"] is False


def test_a_threshold_that_leaves_too_little_says_so(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(np.random.default_rng(0).random((60, 20)))
    with pytest.raises(InputError, match=r"programs of the replicates have a local density below 0\.001.*Raise"):
        cagdask.nmf_consensus(
            store, k=6, n_replicates=4, density_threshold=0.001, output=str(tmp_path / "c"), client=InlineRunner()
        )
    assert [p.name for p in tmp_path.iterdir()] == [Path(store).name]


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        ("nmf_select", {"ks": [1, 2]}, "`ks` is 1; it must be a whole number of at least 2"),
        ("nmf_select", {"ks": [2, 9]}, "`k` is 9"),
        ("nmf_select", {"ks": [2], "n_replicates": 2}, "`n_replicates` is 2"),
        ("nmf_consensus", {"k": 2, "density_threshold": 3}, "`density_threshold` is 3"),
        ("nmf_consensus", {"k": 2, "n_replicates": 1}, "`n_replicates` is 1"),
    ],
)
def test_replicates_out_of_range(
    abundance_store: MakeStore, tmp_path: Path, function: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        getattr(cagdask, function)(
            abundance_store(np.ones((6, 4))), output=str(tmp_path / "o"), client=InlineRunner(), **options
        )


# -- projection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonneg", ["error", "feature-shift", "shift", "negative-part"])
def test_the_samples_of_the_reference_come_back(abundance_store: MakeStore, tmp_path: Path, nonneg: str) -> None:
    values = planted(300, 30, 4)[0]
    values = {"error": values, "negative-part": -values}.get(nonneg, values - 1)
    kind = "abundance" if nonneg == "error" else "expression"
    _, latent, _ = factorize(abundance_store(values, kind=kind), tmp_path / "ref", 4, nonneg=nonneg)
    order = np.random.default_rng(0).permutation(300)[:290]  # other order, some genes absent
    new = abundance_store(values[order, :9], [f"gene_{i:06d}" for i in order], kind=kind)
    ds = cagdask.nmf_project(new, reference=str(tmp_path / "ref"), output=str(tmp_path / "p"), client=InlineRunner())
    assert ds.sample_latent.values == pytest.approx(latent[:9], rel=0.1, abs=0.05 * float(latent.max()))
    found = json.loads((tmp_path / "p" / "nmf.json").read_text())
    assert (found["n_matched"], found["n_reference"], found["passes"]) == (290, 300, 2)
    assert found["r2"] > 0.9


def test_a_projection_is_non_negative_least_squares(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = planted(200, 30, 4)[0]
    store = abundance_store(values)
    loading, _, _ = factorize(store, tmp_path / "ref", 4)
    ds = cagdask.nmf_project(store, reference=str(tmp_path / "ref"), output=str(tmp_path / "p"), client=InlineRunner())
    wanted = np.stack([nnls(loading.astype(float), column.astype(float))[0] for column in values.T])
    assert ds.sample_latent.values == pytest.approx(wanted, abs=1e-3 * float(wanted.max()))


@pytest.mark.parametrize("holes", [[0], [3, 40, 41]])
def test_a_gene_with_missing_values_says_nothing_of_new_samples(
    abundance_store: MakeStore, tmp_path: Path, holes: list[int]
) -> None:
    values, _ = planted(60, 12, 3)
    genes, samples = [f"g{i}" for i in range(60)], [f"s{j}" for j in range(12)]
    factorize(abundance_store(values, genes, samples), tmp_path / "ref", 3)
    holed, rest = values.copy(), [i for i in range(60) if i not in holes]
    holed[holes, 2] = np.nan
    found = []
    for name, table, rows in (("holed", holed, list(range(60))), ("without", values, rest)):
        source = write_parquet(tmp_path / f"{name}.parquet", table[rows], [genes[i] for i in rows], samples,
                               by_sample=False)  # fmt: skip
        ds = cagdask.nmf_project(source, reference=str(tmp_path / "ref"), missing="drop-features",
                                 output=str(tmp_path / name), client=InlineRunner())  # fmt: skip
        found.append(ds.sample_latent.values)
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-5)


def test_cags_are_projected_by_their_numbers(tmp_path: Path) -> None:
    result = write_result_store(str(tmp_path / "cags.zarr"), list(range(30)), n_samples=12)
    _, latent, _ = factorize(result, tmp_path / "ref")
    ds = cagdask.nmf_project(result, reference=str(tmp_path / "ref"), output=str(tmp_path / "p"), client=InlineRunner())
    assert ds.sample_latent.values == pytest.approx(latent, rel=0.05, abs=0.02 * float(latent.max()))


def test_a_projection_needs_genes_in_common_and_factors(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(planted(30, 10, 3)[0])
    factorize(store, tmp_path / "ref", 2)
    other = abundance_store(np.ones((4, 3)), list("abcd"))
    with pytest.raises(InputError, match="none of its genes is among the 30"):
        cagdask.nmf_project(other, reference=str(tmp_path / "ref"), output=str(tmp_path / "p"), client=InlineRunner())
    with pytest.raises(SchemaError, match="holds no factors"):
        cagdask.nmf_project(other, reference=store, output=str(tmp_path / "p"), client=InlineRunner())


# -- the plan of blocks ----------------------------------------------------------------------------------------------


@given(st.integers(1, 10**7), st.integers(1, 20_000), st.integers(1, 10**6))
def test_blocks_cover_all_rows_once_and_do_not_depend_on_chunks(n_genes: int, n_samples: int, chunk_rows: int) -> None:
    matrix = Matrix("", "", n_genes, n_samples, chunk_rows, None, "", "", "")
    rows = [matrix.rows(*blocks) for blocks in matrix.tasks()]
    assert rows[0][0] == 0
    assert rows[-1][1] == n_genes
    assert all(a[1] == b[0] for a, b in pairwise(rows))
    assert matrix.block_rows == Matrix("", "", 1, n_samples, 1, None, "", "", "").block_rows


@given(st.integers(1, 10**7), st.integers(1, 1000), st.integers(1, 10**6))
def test_a_pass_reads_a_fifth_more_than_there_is_at_most(n_genes: int, n_samples: int, chunk_rows: int) -> None:
    matrix = Matrix("", "", n_genes, n_samples, chunk_rows, None, "", "", "")
    rows = [matrix.rows(*blocks) for blocks in matrix.tasks()]
    whole = matrix.task_blocks * n_samples < 2**17 - n_samples  # sums of the blocks of a task are small
    if whole:
        assert sum(matrix.chunks_of(*task) for task in rows) <= 1.2 * matrix.n_chunks


@pytest.mark.parametrize("chunk_rows", [1, 3, 8, 10, 16, 21, 100])
def test_blocks_read_every_chunk_once(
    abundance_store: MakeStore, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr("cagdask.factors.matrix.BLOCK_CELLS", 8 * 5)
    values = np.random.default_rng(0).random((61, 5)).astype(np.float32)
    matrix = open_matrix(abundance_store(values, chunk_rows=chunk_rows))
    read = []
    original = Matrix.read
    monkeypatch.setattr(Matrix, "read", lambda *place: read.append(place[1:]) or original(*place))
    blocks = list(matrix.blocks(1, 8))
    assert [len(block) for block in blocks] == [8] * 6 + [5]
    assert np.concatenate(blocks).tobytes() == values[8:].tobytes()
    chunks = [chunk for begin, end in read for chunk in range(begin // chunk_rows, (end - 1) // chunk_rows + 1)]
    assert chunks == list(range(8 // chunk_rows, 60 // chunk_rows + 1))


def test_stores_as_ingest_cuts_them_are_read_without_overlap() -> None:
    from cagdask.io.layout import plan_chunks

    for n_samples in (3, 102, 500, 1150, 9000):
        plan = plan_chunks(10**7, n_samples, 2**31)
        matrix = Matrix("", "", 10**7, n_samples, plan.chunk_rows, None, "", "", "")
        assert sum(matrix.chunks_of(*matrix.rows(*blocks)) for blocks in matrix.tasks()) == matrix.n_chunks


def test_names_of_some_genes_are_read_chunk_by_chunk(
    abundance_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = open_matrix(abundance_store(np.ones((50, 2)), [f"g{i}" for i in range(50)]))
    monkeypatch.setattr("cagdask.storage.ID_CHUNK", 16)
    read = []
    original = Matrix.gene_names
    monkeypatch.setattr(Matrix, "gene_names", lambda *place: read.append(place[1:]) or original(*place))
    assert matrix.names_of(np.array([3, 7, 33, 49])) == ["g3", "g7", "g33", "g49"]
    assert read == [(0, 16), (32, 48), (48, 50)]


def test_an_embedding_is_no_matrix_of_samples(tmp_path: Path) -> None:
    url = str(tmp_path / "e.zarr")
    group = storage.create_group(url, {"schema_version": 1, "kind": "embedding"})
    storage.write_array(group, "embedding", np.ones((3, 2), np.float32))
    with pytest.raises(SchemaError, match="holds embedding, which has no samples"):
        open_matrix(url)
