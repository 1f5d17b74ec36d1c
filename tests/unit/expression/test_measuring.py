"""Measures of genes, against the formulas on the whole table in memory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from cagdask import storage
from cagdask.errors import InputError, MemoryLimitError
from cagdask.expression import measure_tasks, measures
from cagdask.expression.measuring import expression_metrics
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, memory_for


def logs(n_genes: int = 40, n_samples: int = 60, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    values = np.log2(1 + rng.poisson(rng.gamma(0.4, 30, (n_genes, 1)) * rng.gamma(2, 0.5, (n_genes, n_samples))))
    values[3] = 0
    values[4] = 0
    values[4, 7] = 2
    values[5] = 1.5
    return values.astype(np.float32)


def measured(source: str, memory: int = 2**30, **options: Any) -> pd.DataFrame:
    return expression_metrics(source, client=InlineRunner(memory_limit=memory), **options)


def cosines(values: Any, gene: int, percentile: float = 95, n: int = 100) -> Any:
    """Cosines of all pairs, a sample with itself too, of the samples around the percentile of a gene."""
    center = int(percentile / 100 * (values.shape[1] + 1))
    chosen = np.argsort(values[gene], kind="stable")[max(0, center - n // 2) : center - n // 2 + n]
    columns = values[:, chosen].astype(np.float64)
    length = np.sqrt((columns**2).sum(axis=0))
    unit = np.divide(columns, length, out=np.zeros_like(columns), where=length > 0)
    return unit.T @ unit, int((length > 0).sum())


@pytest.mark.parametrize("chunk_rows", [1, 7, 40])
@pytest.mark.parametrize(("percentile", "n_around"), [(95, 100), (80, 9), (50, 2)])
def test_measures_are_those_of_the_formulas(
    abundance_store: MakeStore, chunk_rows: int, percentile: float, n_around: int
) -> None:
    values = logs()
    frame = measured(abundance_store(values, chunk_rows=chunk_rows), percentile=percentile, n_around=n_around)
    v = values.astype(np.float64)
    p = np.percentile(v, percentile, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = v / v.sum(axis=1, keepdims=True)
        expected = {
            "mean": v.mean(axis=1),
            "percentile": p,
            "signal": np.percentile((1 + v) / (1 + v).mean(axis=1, keepdims=True), percentile, axis=1),
            "prevalence": (v > 0).mean(axis=1),
            "entropy": -np.nansum(share * np.log(share), axis=1),
            "tau": (1 - v / v.max(axis=1, keepdims=True)).sum(axis=1) / (v.shape[1] - 1),
        }
    for name, wanted in expected.items():
        np.testing.assert_allclose(frame[name], wanted, rtol=1e-9, atol=1e-12, err_msg=name)
    for gene in range(len(v)):
        pairs, n = cosines(values, gene, percentile, n_around)
        above = pairs[np.triu_indices(len(pairs), 1)].sum() / (n * (n - 1) / 2)
        np.testing.assert_allclose(frame["mean_cosine"][gene], above if v[gene].any() else np.nan, rtol=1e-9)


def test_compat_columns_are_those_of_the_scripts(abundance_store: MakeStore) -> None:
    values = logs(30, 1300)  # enough samples for a hundred above and below the rank
    frame = measured(abundance_store(values), compat="archs4")
    for gene, row in enumerate(values.astype(np.float64)):
        pairs, _ = cosines(values, gene)
        assert len(pairs) == 100
        found = np.count_nonzero(row)
        wanted = np.nan if found == 0 else 0.0 if found == 1 else pairs.sum() / (100 * 99 / 2)
        np.testing.assert_allclose(frame["mean_cosine_archs4"][gene], wanted, rtol=1e-9)
        mean = frame["mean_cosine"][gene]
        if found > 1:
            np.testing.assert_allclose(wanted, 2 * mean + 2 / 99, rtol=1e-9)
        signal = np.percentile((1 + row) / np.mean(1 + row), 95)
        np.testing.assert_allclose(frame["signal_archs4"][gene], signal, rtol=1e-9)


def test_bits_do_not_depend_on_chunks_memory_or_a_killed_run(
    abundance_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_tasks, "PART_BYTES", 4 * 40 * 10)  # ten genes: 20 parts
    values = logs(200, 40)
    first = measured(abundance_store(values, chunk_rows=200))
    second = measured(abundance_store(values, chunk_rows=3), memory_for(120_000))
    pd.testing.assert_frame_equal(first, second, check_exact=True)

    class Killed(InlineRunner):
        def ends(self) -> None:
            if len(self.calls) == 30:
                raise KeyboardInterrupt

    source, output = abundance_store(values), str(tmp_path / "m.parquet")
    runner = Killed()
    with pytest.raises(KeyboardInterrupt):
        expression_metrics(source, output=output, client=runner)
    again = InlineRunner()
    expression_metrics(source, output=output, client=again)
    assert len(again.calls) == 2 * 20 - 29
    pd.testing.assert_frame_equal(pd.read_parquet(output), first, check_exact=True)
    assert (tmp_path / "m.signal.png").stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.glob("m.*")) == ["m.parquet", "m.signal.png"]


def test_specificity_over_groups_is_that_of_their_means(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = logs(20, 30)
    source = abundance_store(values)
    tissue = np.array((["b", "a", "", "c", "a"] * 6), object)
    group = storage.open_group(source, writable=True)
    storage.write_array(group, "sample_tissue", tissue, dims=("sample",), dtype="str")
    storage.finish_group(group)
    with caplog.at_level(logging.WARNING):
        frame = measured(source, groups="tissue")
    assert "6 of 30 samples have no label" in caplog.text
    means = pd.DataFrame(values.T.astype(np.float64)).groupby(tissue).mean().drop(index="").T
    most = means.max(axis=1)
    with np.errstate(invalid="ignore"):
        tau = (1 - means.div(most, axis=0)).sum(axis=1) / 2
    np.testing.assert_allclose(frame["tau_tissue"], np.where(most > 0, tau, np.nan), rtol=1e-9)
    top = [means.columns[row.argmax()] if row.max() else "" for row in means.to_numpy()]
    assert list(frame["top_tissue"]) == top
    with pytest.raises(InputError, match=r"organ: is no folder, no file and no column of .* \(it has tissue\)"):
        measured(source, groups="organ")
    names = [f"sample_{j:03d}" for j in range(30)]
    pd.DataFrame({"study": 1, "organ": tissue}, index=names).to_csv(tmp_path / "t.csv", index_label="sample")
    of_table = measured(source, groups=str(tmp_path / "t.csv"), label_column="organ")
    pd.testing.assert_frame_equal(of_table.rename(columns=lambda name: name.replace("organ", "tissue")), frame)
    (tmp_path / "lists").mkdir()
    for name in "abc":
        text = "\n".join(one for one, of in zip(names, tissue, strict=True) if of == name)
        (tmp_path / "lists" / f"{name}.txt").write_text(text + ("\nsample_000" if name == "a" else ""))  # in b, too
    lists = measured(source, groups=str(tmp_path / "lists"))
    a = np.isin(np.arange(30), [0, *np.flatnonzero(tissue == "a")])
    assert lists["top_lists"][6] == max("abc", key=lambda x: values[6, a if x == "a" else tissue == x].mean())
    by_group = np.array([values[6, a if x == "a" else tissue == x].astype(np.float64).mean() for x in "abc"])
    np.testing.assert_allclose(lists.tau_lists[6], (1 - by_group / by_group.max()).sum() / 2, rtol=1e-9)


@given(
    np_arrays(np.float32, st.integers(2, 30), elements=st.integers(0, 3).map(float)),
    st.floats(1, 99),
    st.integers(2, 12),
)
def test_samples_around_a_rank_are_those_of_a_stable_sort(row: Any, percentile: float, n: int) -> None:
    ranks = measures.window(len(row), percentile, n)
    known = measures.ordered(row[None], percentile, ranks)
    expected = np.sort(np.argsort(row, kind="stable")[ranks[0] : ranks[1]])
    np.testing.assert_array_equal(measures.members(row, known[0], ranks), expected)
    np.testing.assert_allclose(measures.percentiles(known, percentile), np.percentile(row, percentile), atol=1e-6)


def test_empty_samples_have_no_direction_and_do_not_count(abundance_store: MakeStore) -> None:
    values = logs(20, 30)
    values[:, :28] = 0  # all but two samples
    frame = measured(abundance_store(values), n_around=10, percentile=50)
    assert set(frame["n_around"]) <= {0, 1, 2}
    assert frame["mean_cosine"][frame["n_around"] < 2].isna().all()


def test_values_below_0_and_too_little_memory_are_refused(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = logs()
    with pytest.raises(MemoryLimitError, match=r"metrics: one task needs .* for a gene of 60 samples"):
        measured(abundance_store(values), memory_for(2_000))
    values[2, 1] = -1
    output = tmp_path / "m.tsv"
    with pytest.raises(InputError, match=r"gene gene_000002, sample sample_001: -1 is below 0"):
        measured(abundance_store(values, kind="expression"), output=str(output))
    assert not list(tmp_path.glob("m.tsv*"))


@pytest.mark.parametrize(
    "options", [{"percentile": 100}, {"n_around": 1}, {"compat": "x"}, {"output": "m.csv"}, {"percentile": "many"}]
)
def test_parameters_out_of_range_are_refused(abundance_store: MakeStore, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        measured(abundance_store(logs()), **options)
