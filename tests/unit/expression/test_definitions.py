"""Quantiles, depth and size factors against definitions of a few lines, and quantiles against qnorm where it is there.

Factors, targets and quantiles are float64 and agree to 1e-9; tables are stored as float32 and agree to 1e-4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from cagdask.expression import kernels, tasks
from cagdask.expression.normalizing import normalize_expression
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, memory_for

METHODS = ["cpm", "tpm", "rpkm", "tmm", "median-of-ratios"]
VALUES = np_arrays(
    np.float64, st.tuples(st.integers(1, 15), st.integers(1, 6)), elements=st.integers(0, 5).map(float)
)  # few numbers: many ties, and samples that hold nothing


def counts() -> Any:
    """Counts with ties, a sample of zeros, one of a single gene, and one of another make-up."""
    rng = np.random.default_rng(3)
    values = rng.poisson(rng.gamma(0.5, 40, (90, 1)) * rng.gamma(4, 0.3, 12)).astype(np.float32)
    values[:, 4] = 0
    values[:, 7], values[11, 7] = 0, 9
    values[:20, 2] *= 10
    return values


def by_definition(values: Any) -> Any:
    """Every sample gets the mean of the sorted samples; equal values the mean over their ranks."""
    target = np.sort(values, axis=0).mean(axis=1)
    found = np.empty_like(values)
    for column, sample in enumerate(values.T):
        for value in np.unique(sample):
            ranks = np.flatnonzero(np.sort(sample) == value)
            found[sample == value, column] = target[ranks].mean()
    return found


def normalized(
    source: str, tmp_path: Path, method: str, memory: int = 2**30, **options: Any
) -> Any:  # a name for each output: the arrays are read later
    output = str(tmp_path / f"{method}-{len(list(tmp_path.iterdir()))}.zarr")
    return normalize_expression(
        source, output=output, method=method, client=InlineRunner(memory_limit=memory), **options
    )


@given(VALUES)
def test_quantiles_are_those_of_the_definition(values: Any) -> None:
    target = np.sort(values, axis=0).mean(axis=1)
    np.testing.assert_allclose(kernels.quantiles_of(values, target), by_definition(values), rtol=0, atol=1e-12)


@given(VALUES)
def test_quantiles_are_those_of_qnorm(values: Any) -> None:
    qnorm = pytest.importorskip("qnorm")
    target = np.sort(values, axis=0).mean(axis=1)
    expected = qnorm.quantile_normalize(values, axis=1)
    np.testing.assert_allclose(kernels.quantiles_of(values, target), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("chunk_rows", [1, 8, 90])
@pytest.mark.parametrize("memory", [memory_for(60_000), 2**30])
@pytest.mark.parametrize("n_sorted", [1, 5, 12])
def test_a_store_gets_the_quantiles_of_the_definition_however_it_is_cut(
    abundance_store: MakeStore, tmp_path: Path, chunk_rows: int, memory: int, n_sorted: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tasks, "SORTED_BYTES", 8 * 90 * n_sorted)
    values = counts()
    ds = normalized(abundance_store(values, chunk_rows=chunk_rows), tmp_path, "quantile", memory)
    logs = np.log2(1 + values.astype(np.float64))
    np.testing.assert_allclose(ds.quantile_target.values, np.sort(logs, axis=0).mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(ds.abundance.values, by_definition(logs), rtol=1e-4)


def test_a_store_gets_the_quantiles_of_qnorm(abundance_store: MakeStore, tmp_path: Path) -> None:
    qnorm = pytest.importorskip("qnorm")
    values = counts()
    ds = normalized(abundance_store(values, chunk_rows=8), tmp_path, "quantile")
    expected = qnorm.quantile_normalize(np.log2(1 + values.astype(np.float64)), axis=1)
    np.testing.assert_allclose(ds.abundance.values, expected, rtol=1e-4)


def scale_by_definition(method: str, values: Any, length: Any) -> Any:
    """What each sample is multiplied with."""
    total = values.sum(axis=0)
    if method == "tpm":
        return 1e6 / (values / length[:, None]).sum(axis=0)
    if method in ("cpm", "rpkm"):
        return {"cpm": 1e6, "rpkm": 1e9}[method] / total
    if method == "median-of-ratios":
        used = values[(values > 0).all(axis=1)]
        return 1 / np.exp(np.median(np.log(used) - np.log(used).mean(axis=1)[:, None], axis=0))  # as in DESeq2
    quartile = np.quantile(values[(values > 0).any(axis=1)], 0.75, axis=0) / total
    reference = np.argmin(abs(quartile - quartile.mean()))
    factors = np.array([one_tmm(values[:, i], values[:, reference]) for i in range(len(total))])
    return 1e6 / (total * factors / np.exp(np.log(factors).mean()))


def one_tmm(sample: Any, reference: Any) -> float:
    """Robinson and Oshlack: the mean log-ratio of genes, trimmed by ratio and by mean, weighted by its precision."""
    n, n_reference = sample.sum(), reference.sum()
    used = (sample > 0) & (reference > 0)
    y, r = sample[used], reference[used]
    ratio, mean = np.log2(y / n) - np.log2(r / n_reference), (np.log2(y / n) + np.log2(r / n_reference)) / 2
    if abs(ratio).max() < 1e-6:
        return 1.0
    weight = 1 / ((n - y) / (n * y) + (n_reference - r) / (n_reference * r))
    place = {name: values.argsort().argsort() for name, values in (("ratio", ratio), ("mean", mean))}
    m = len(y)
    kept = (place["ratio"] >= int(0.3 * m)) & (place["ratio"] < m - int(0.3 * m))
    kept &= (place["mean"] >= int(0.05 * m)) & (place["mean"] < m - int(0.05 * m))
    return float(2 ** np.average(ratio[kept], weights=weight[kept]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk_rows", [1, 13, 300])
def test_depths_and_size_factors_are_those_of_the_definitions(
    abundance_store: MakeStore, tmp_path: Path, method: str, chunk_rows: int
) -> None:
    rng = np.random.default_rng(1)
    values = (rng.gamma(2, 400, (300, 1)) * rng.gamma(9, 0.1, (300, 8))).round().astype(np.float32)  # hardly any ties
    values[:60, 3] *= 8
    length = np.arange(500, 800)
    (tmp_path / "l.tsv").write_text("gene\tlength\n" + "".join(f"gene_{i:06d}\t{n}\n" for i, n in enumerate(length)))
    options = {"lengths": str(tmp_path / "l.tsv")} if method in ("tpm", "rpkm") else {}
    ds = normalized(abundance_store(values, chunk_rows=chunk_rows), tmp_path, method, **options)
    exact = values.astype(np.float64)
    scale = scale_by_definition(method, exact, length)
    np.testing.assert_allclose(ds.sample_scale.values, scale, rtol=1e-9)
    expected = (exact / length[:, None] if options else exact) * scale
    np.testing.assert_allclose(ds.abundance.values, expected, rtol=1e-4)


def test_new_samples_get_the_same_target(abundance_store: MakeStore, tmp_path: Path) -> None:
    """Normalized alone, with the target of a cohort, a sample has the values that it has within the cohort."""
    values = counts()
    cohort = normalized(abundance_store(values), tmp_path, "cpm+log+quantile")
    new = values[:, [2, 4, 7]]
    alone = normalized(
        abundance_store(new), tmp_path, "cpm+log+quantile", target=str(cohort.encoding["source"])
    )  # of another make-up, of zeros, of one gene
    np.testing.assert_array_equal(alone.quantile_target.values, cohort.quantile_target.values)
    np.testing.assert_array_equal(alone.abundance.values, cohort.abundance.values[:, [2, 4, 7]])
    by_itself = normalized(abundance_store(new), tmp_path, "cpm+log+quantile")
    assert not np.allclose(by_itself.abundance.values, alone.abundance.values)
