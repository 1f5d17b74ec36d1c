"""Distributions of values before and after normalization, drawn and as numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cagdask import plot, storage
from cagdask.cli import main
from cagdask.cli.plot import STORE_NAMES
from cagdask.errors import InputError
from cagdask.expression.normalizing import normalize_expression
from cagdask.plot import expression
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner


def stores(abundance_store: MakeStore, tmp_path: Path, n_samples: int = 6) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    values = (rng.permutation(2000)[:, None] + rng.permuted(np.tile(np.arange(n_samples), (2000, 1)), axis=1) / 10) + 1
    values = np.round(values * np.arange(1, n_samples + 1)).astype(np.float32)  # samples of different depth
    source = abundance_store(values, chunk_rows=300)
    normalize_expression(source, output=str(tmp_path / "n.zarr"), method="quantile", client=InlineRunner())
    return source, str(tmp_path / "n.zarr")


def test_shares_are_those_of_a_histogram_and_alike_after_quantiles(abundance_store: MakeStore, tmp_path: Path) -> None:
    source, normalized = stores(abundance_store, tmp_path)
    before, after = (expression.densities(storage.open_dataset(one)) for one in (source, normalized))
    logs = np.log2(1 + storage.open_dataset(source).abundance.values.astype(np.float64))
    counts = np.histogram(logs[:, 2], np.linspace(0, logs.max(), expression.N_BINS + 1))[0]
    mine = before[before["sample"] == "sample_002"]["share"]
    np.testing.assert_allclose(mine, counts / counts.sum(), atol=1e-6)
    spread = {name: one.groupby("value")["share"].std().max() for name, one in (("b", before), ("a", after))}
    assert spread["a"] < 1e-3 < 0.01 < spread["b"]


def test_a_large_store_is_read_in_part(
    abundance_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = stores(abundance_store, tmp_path, 100)
    monkeypatch.setattr(expression, "READ_BYTES", 4 * 100 * 256 * 3)
    ds = storage.open_dataset(source)
    assert len(expression._some_genes(ds, np.arange(2))) == 256 * 2 + 2000 % 256
    assert expression.densities(ds)["sample"].nunique() == expression.N_SAMPLES
    plot.save(plot.density(source, before=source), str(tmp_path / "both.svg"))  # not too many rows for a chart


def test_the_command_draws_both_beside_each_other(abundance_store: MakeStore, tmp_path: Path) -> None:
    source, normalized = stores(abundance_store, tmp_path)
    assert tuple(plot.STORE_PLOTS) == STORE_NAMES
    words = ["plot", "density", normalized, "--before", source, "-o", str(tmp_path / "d.svg")]
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, answer.output
    text = (tmp_path / "d.svg").read_text()
    assert all(f">{word}<" in text for word in ("before", "after", "log2(1 + v)"))
    plot.save(plot.density(source), str(tmp_path / "one.png"))
    assert (tmp_path / "one.png").stat().st_size > 1000
    refused = CliRunner().invoke(main, ["plot", "sizes", normalized, "--before", source, "-o", "x.svg"])
    assert refused.exit_code == 2
    assert "--before is for density" in refused.output


def test_an_empty_store_is_refused(abundance_store: MakeStore) -> None:
    ds = storage.open_dataset(abundance_store(np.ones((3, 2), np.float32)))
    with pytest.raises(InputError, match="is empty"):
        plot.density(ds.isel(gene=slice(0, 0)))
