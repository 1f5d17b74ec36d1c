"""Normalization of expression, against definitions of a few lines on the whole table."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from scipy.stats import gmean, rankdata

from cagdask import storage
from cagdask.errors import InputError
from cagdask.expression import kernels, tasks
from cagdask.expression.lengths import read_lengths
from cagdask.expression.normalizing import normalize_expression
from cagdask.expression.request import parse_method
from cagdask.expression.sort_kernel import sort_rows
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, memory_for

GTF = """\
#!comment
1\tx\tgene\t100\t1000\t.\t+\t.\tgene_id "ENSG00000000001.7"; gene_name "ONE";
1\tx\ttranscript\t100\t1000\t.\t+\t.\tgene_id "ENSG00000000001.7"; transcript_id "T1"; gene_name "ONE";
1\tx\texon\t100\t199\t.\t+\t.\tgene_id "ENSG00000000001.7"; transcript_id "T1"; gene_name "ONE";
1\tx\texon\t901\t1000\t.\t+\t.\tgene_id "ENSG00000000001.7"; transcript_id "T1"; gene_name "ONE";
1\tx\ttranscript\t150\t499\t.\t+\t.\tgene_id "ENSG00000000001.7"; transcript_id "T2"; gene_name "ONE";
1\tx\texon\t150\t499\t.\t+\t.\tgene_id "ENSG00000000001.7"; transcript_id "T2"; gene_name "ONE";
2\tx\ttranscript\t1\t10\t.\t-\t.\tgene_id "G2"; transcript_id "T3";
2\tx\texon\t1\t10\t.\t-\t.\tgene_id "G2"; transcript_id "T3";
"""
GFF = """\
##gff-version 3
1\tx\tgene\t1\t90\t.\t+\t.\tID=gene:G1;Name=ONE
1\tx\tmRNA\t1\t90\t.\t+\t.\tID=transcript:T1;Parent=gene:G1
1\tx\texon\t1\t20\t.\t+\t.\tParent=transcript:T1
1\tx\texon\t81\t90\t.\t+\t.\tParent=transcript:T1
"""


def counts(n_genes: int = 60, n_samples: int = 9, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.gamma(0.6, 60, (n_genes, 1)) * rng.gamma(4, 0.3, n_samples)).astype(np.float32)
    values[:, 1] *= 3
    return values


def normalized(source: str, tmp_path: Path, method: str, memory: int = 2**30, **options: Any) -> Any:
    runner = InlineRunner(memory_limit=memory)
    output = str(tmp_path / "out.zarr")
    return normalize_expression(source, output=output, method=method, client=runner, overwrite=True, **options)


def mean_quantiles(values: Any) -> Any:
    """The definition: target = mean of sorted columns; a value gets the mean of the target over ranks of its ties."""
    target = np.sort(values, axis=0).mean(axis=1)
    return np.stack([pd.Series(target).groupby(np.sort(c)).mean().reindex(c).to_numpy() for c in values.T], axis=1)


@given(np_arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.integers(0, 4).map(float)))
def test_quantiles_are_those_of_the_definition_with_ties_and_zero_samples(values: Any) -> None:
    target = np.sort(values, axis=0).mean(axis=1)
    np.testing.assert_allclose(kernels.quantiles_of(values, target), mean_quantiles(values), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_rows", [1, 7, 60])
def test_a_store_gets_quantiles_whatever_its_chunks_and_groups(
    abundance_store: MakeStore, tmp_path: Path, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = counts()
    values[:, 4] = 0
    monkeypatch.setattr(tasks, "SORTED_BYTES", 8 * 60 * 2)  # two samples at once
    source = abundance_store(values, chunk_rows=chunk_rows)
    ds = normalized(source, tmp_path, "quantile")
    expected = mean_quantiles(np.log2(1 + values.astype(np.float64)))
    np.testing.assert_allclose(ds.abundance.values, expected, rtol=1e-6)
    np.testing.assert_allclose(ds.quantile_target.values, np.sort(np.log2(1 + values.astype(float)), axis=0).mean(1))
    assert ds.attrs["kind"] == "expression"


def test_bytes_do_not_depend_on_chunks_or_memory(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = counts(400, 50)
    found = []
    for chunk_rows, memory in ((400, 2**30), (3, memory_for(400_000))):
        monkey = pytest.MonkeyPatch()
        monkey.setattr(tasks, "SORTED_BYTES", 8 * 400 * 3)
        ds = normalized(abundance_store(values, chunk_rows=chunk_rows), tmp_path, "cpm+log+quantile", memory)
        found.append((ds.abundance.values.tobytes(), ds.quantile_target.values.tobytes()))
        monkey.undo()
    assert found[0] == found[1]


def test_new_samples_get_the_same_target(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = counts()
    old = normalize_expression(
        abundance_store(values), output=str(tmp_path / "old.zarr"), method="quantile", client=InlineRunner()
    )
    new = normalized(abundance_store(values[:, [3, 5]]), tmp_path, "quantile", target=str(tmp_path / "old.zarr"))
    np.testing.assert_array_equal(new.abundance.values, old.abundance.values[:, [3, 5]])
    with pytest.raises(InputError, match=r"has 60 genes, of which 1 are not here"):
        normalized(abundance_store(values[:-1]), tmp_path, "quantile", target=str(tmp_path / "old.zarr"))
    with pytest.raises(InputError, match=r"made by log\+quantile, not by quantile|made by log\+quantile"):
        normalized(abundance_store(values), tmp_path, "cpm+quantile", target=str(tmp_path / "old.zarr"))


@pytest.mark.parametrize("method", ["cpm", "tpm", "rpkm", "tpm+log", "log"])
def test_depth_and_length_are_those_of_the_definition(abundance_store: MakeStore, tmp_path: Path, method: str) -> None:
    values = counts()
    length = np.arange(200, 260)
    table = tmp_path / "length.tsv"
    table.write_text("gene\tlength\n" + "".join(f"gene_{i:06d}\t{n}\n" for i, n in enumerate(length)))
    given_lengths = {"lengths": str(table)} if method[0] in "tr" else {}
    ds = normalized(abundance_store(values, chunk_rows=7), tmp_path, method, **given_lengths)
    v = values.astype(np.float64)
    per_base = v / length[:, None]
    expected = {
        "cpm": v / v.sum(0) * 1e6,
        "tpm": per_base / per_base.sum(0) * 1e6,
        "rpkm": v / (v.sum(0) / 1e6) / (length[:, None] / 1e3),
        "tpm+log": np.log2(1 + per_base / per_base.sum(0) * 1e6),
        "log": np.log2(1 + v),
    }[method]
    np.testing.assert_allclose(ds.abundance.values, expected, rtol=1e-6)
    if given_lengths:
        np.testing.assert_array_equal(ds.gene_length.values, length)


def edger_factors(counts: Any) -> Any:
    """calcNormFactors of edgeR, as its paper and manual say it, with pandas."""
    table = pd.DataFrame(counts)
    table = table[(table > 0).any(axis=1)]
    total = pd.DataFrame(counts).sum()
    quartile = table.quantile(0.75) / total
    ref = (quartile - quartile.mean()).abs().idxmin()
    found = []
    for column in table:
        pair = pd.DataFrame({"o": table[column], "r": table[ref]})
        pair = pair[(pair.o > 0) & (pair.r > 0)]
        m = np.log2((pair.o / total[column]) / (pair.r / total[ref]))
        a = (np.log2(pair.o / total[column]) + np.log2(pair.r / total[ref])) / 2
        w = 1 / ((total[column] - pair.o) / total[column] / pair.o + (total[ref] - pair.r) / total[ref] / pair.r)
        if m.abs().max() < 1e-6:
            found.append(1.0)
            continue
        n = len(m)
        low_m, low_a = int(n * 0.3) + 1, int(n * 0.05) + 1
        rank_m, rank_a = rankdata(m), rankdata(a)
        kept = (rank_m >= low_m) & (rank_m <= n + 1 - low_m) & (rank_a >= low_a) & (rank_a <= n + 1 - low_a)
        found.append(2 ** ((m * w)[kept].sum() / w[kept].sum()))
    return np.array(found) / gmean(found)


def test_tmm_is_that_of_the_definition(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = counts(300, 8)
    values[:40, 2] *= 10  # a sample of another make-up
    ds = normalized(abundance_store(values, chunk_rows=11), tmp_path, "tmm")
    factors = edger_factors(values.astype(np.float64))
    assert np.ptp(factors) > 0.1
    np.testing.assert_allclose(ds.sample_scale.values, 1e6 / (values.sum(0, dtype=float) * factors), rtol=1e-9)
    np.testing.assert_allclose(ds.abundance.values, values * ds.sample_scale.values, rtol=1e-6)


def test_median_of_ratios_is_that_of_the_definition(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = counts(300, 8)
    ds = normalized(abundance_store(values, chunk_rows=11), tmp_path, "median-of-ratios")
    whole = values[(values > 0).all(axis=1)].astype(np.float64)
    factors = np.exp(np.median(np.log(whole / gmean(whole, axis=1)[:, None]), axis=0))  # as DESeq2
    np.testing.assert_allclose(1 / ds.sample_scale.values, factors, rtol=1e-9)


def test_archs4_takes_quantiles_of_logs_and_then_divides_by_length(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = counts()
    source = abundance_store(values)
    table = tmp_path / "length.csv"
    table.write_text("gene,width\n" + "".join(f"gene_{i:06d},{100 + i}\n" for i in range(60)))
    ds = normalized(source, tmp_path, "quantile", compat="archs4", lengths=str(table))
    expected = mean_quantiles(np.log2(1 + values.astype(np.float64))) / np.arange(100, 160)[:, None]
    np.testing.assert_allclose(ds.abundance.values, expected, rtol=1e-6)
    assert ds.attrs["normalization"] == "archs4"


class Killed(InlineRunner):
    """Is killed once so many tasks have ended, of which the last is not known to have."""

    def __init__(self, after: int, memory_limit: int) -> None:
        super().__init__(memory_limit=memory_limit)
        self.left = after

    def ends(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 3, 6, 9, 12])
def test_a_killed_run_goes_on_with_its_own_plan_and_ends_in_the_same_bytes(
    abundance_store: MakeStore, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SORTED_BYTES", 8 * 60 * 2)
    monkeypatch.setattr(tasks, "N_SUMS", 3)
    source = abundance_store(counts(), chunk_rows=7)
    whole = normalized(source, tmp_path, "tmm+quantile", memory_for(9000))
    target = str(tmp_path / "killed.zarr")
    first = Killed(after, memory_for(9000))
    with pytest.raises(KeyboardInterrupt):
        normalize_expression(source, output=target, method="tmm+quantile", client=first)
    second = InlineRunner(memory_limit=2**30)  # would cut the table otherwise
    found = normalize_expression(source, output=target, method="tmm+quantile", client=second)
    for name in ("abundance", "sample_scale", "quantile_target"):
        assert found[name].values.tobytes() == whole[name].values.tobytes()
    assert not set(first.calls[:-1]) & set(second.calls)


# -- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "one", "two"), [("longest-transcript", 350, 10), ("union-exon", 500, 10), ("genomic-span", 900, 9)]
)
def test_lengths_of_a_gtf(tmp_path: Path, rule: str, one: int, two: int) -> None:
    path = tmp_path / "a.gtf.gz"
    path.write_bytes(gzip.compress(GTF.encode()))
    assert read_lengths(str(path), rule) == {"ENSG00000000001": one, "ONE": one, "G2": two}


def test_lengths_of_a_gff3_go_by_parents(tmp_path: Path) -> None:
    (tmp_path / "a.gff3").write_text(GFF)
    assert read_lengths(str(tmp_path / "a.gff3")) == {"G1": 30, "ONE": 30}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.tsv", "gene\tlength\nA\t0\n", r"line 2: gene 'A' has length 0"),
        ("a.tsv", "gene\tx\nA\t0\n", r"0 columns of lengths"),
        ("a.tsv", "gene\tlength\nA\tlong\n", r"line 2 has no length"),
        ("a.gtf", "1\tx\tgene\n", r"line 1 is no line of an annotation"),
        ("a.gtf", "#nothing\n", r"no exons"),
        ("a.bed", "1\n", r"unknown format"),
    ],
)
def test_bad_files_of_lengths_are_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_lengths(str(tmp_path / name))


def test_genes_without_length_are_an_error_left_out_or_given_the_median(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = abundance_store(counts(4, 3), ["A", "B", "C", "D"])
    (tmp_path / "l.tsv").write_text("gene\tlength\nA\t100\nC\t300\nD\t500\n")
    options: dict[str, Any] = {"lengths": str(tmp_path / "l.tsv")}
    with pytest.raises(InputError, match=r"1 of 4 genes have no known length \(B"):
        normalized(source, tmp_path, "tpm", **options)
    with caplog.at_level(logging.WARNING):
        dropped = normalized(source, tmp_path, "tpm", without_length="drop", **options)
    assert list(dropped.gene_id.values) == ["A", "C", "D"]
    np.testing.assert_allclose(dropped.abundance.values.sum(axis=0), 1e6)
    assert "left out" in caplog.text
    kept = normalized(source, tmp_path, "tpm", without_length="median", **options)
    assert list(kept.gene_length.values) == [100, 300, 300, 500]


# -- bad input -------------------------------------------------------------------------------------------------------


def test_fractions_and_values_below_zero_are_refused_with_gene_and_sample(
    abundance_store: MakeStore, tmp_path: Path
) -> None:
    values = counts(5, 3)
    values[2, 1] = 0.5
    with pytest.raises(InputError, match=r"gene gene_000002, sample sample_001: 0.5 is no whole number"):
        normalized(abundance_store(values), tmp_path, "tmm")
    normalized(abundance_store(values), tmp_path, "cpm")
    values[2, 1] = -1
    with pytest.raises(InputError, match=r"gene gene_000002, sample sample_001: -1 is below 0"):
        normalized(abundance_store(values, kind="expression"), tmp_path, "quantile")


def test_empty_and_constant_samples_are_said(
    abundance_store: MakeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = counts(5, 3) + 1
    values[:, 0], values[:, 2] = 0, 7
    with caplog.at_level(logging.WARNING):
        ds = normalized(abundance_store(values), tmp_path, "cpm")
    assert "1 of 3 samples hold nothing: sample_000" in caplog.text
    assert "1 of 3 samples have one value in all genes: sample_002" in caplog.text
    assert not ds.abundance.values[:, 0].any()


def test_a_normalized_store_is_not_normalized_again(abundance_store: MakeStore, tmp_path: Path) -> None:
    once = str(tmp_path / "once.zarr")
    normalize_expression(abundance_store(counts()), output=once, method="cpm", client=InlineRunner())
    with pytest.raises(InputError, match=r"is normalized already, by cpm"):
        normalized(once, tmp_path, "log")


def test_sample_metadata_and_prevalence_stay(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = counts()
    values[0, :3] = 0
    source = abundance_store(values)
    group = storage.open_group(source, writable=True)
    storage.write_array(group, "sample_tissue", np.array(["a", "b", "c"] * 3, object), dims=("sample",), dtype="str")
    storage.finish_group(group)
    ds = normalized(source, tmp_path, "quantile")
    assert list(ds.sample_tissue.values) == ["a", "b", "c"] * 3
    np.testing.assert_allclose(ds.gene_prevalence.values, (values > 0).mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("method", ["log+tpm", "tpm+cpm", "loq", "quantile+log", "", "log+log"])
def test_steps_that_are_unknown_or_out_of_order_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match=r"method '"):
        parse_method(method)


@given(np_arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(0, 30)),
                 elements=st.floats(0, width=64) | st.sampled_from([0.0, -0.0, 1.0, np.inf])))  # fmt: skip
def test_rows_are_sorted_as_numpy_sorts_them(values: Any) -> None:
    ranked = values.copy()
    order = sort_rows(ranked)
    np.testing.assert_array_equal(ranked, np.sort(values, axis=1))
    np.testing.assert_array_equal(order, np.argsort(values, axis=1, kind="stable"))
