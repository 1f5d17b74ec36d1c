"""Distributions of values before and after normalization, drawn and as numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
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


def test_signal_and_synthetic_samples_are_drawn_from_their_tables(tmp_path: Path) -> None:
    n = 2 * expression.MAX_GENES
    table = pd.DataFrame({"gene": [f"g{i}" for i in range(n)], "mean": np.linspace(0, 5, n)})
    table = table.assign(signal=1 + np.arange(n) / n, mean_cosine=0.5)
    table.to_csv(tmp_path / "m.tsv", sep="\t", index=False)
    shown = plot.signal(str(tmp_path / "m.tsv")).data
    assert len(shown) <= expression.MAX_GENES
    assert set(shown.gene) >= {f"g{i}" for i in range(n - expression.MAX_GENES // 2, n)}, "all of the largest signals"
    assert shown["mean"].min() > 0
    places = pd.DataFrame({"kind": ["real", "smote"], "label": ["x", "x"], "component_1": [0.0, 1], "component_2": 2.0})
    places.to_csv(tmp_path / "synthetic.tsv", sep="\t", index=False)
    for name, source in (("signal", tmp_path / "m.tsv"), ("synthetic", tmp_path)):
        made = CliRunner().invoke(main, ["plot", name, str(source), "-o", str(tmp_path / f"{name}.svg")])
        assert made.exit_code == 0, made.output
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    with pytest.raises(InputError, match=r"has no column gene. Name the output of `cagdask metrics`"):
        plot.signal(str(tmp_path / "synthetic.tsv"))
    with pytest.raises(InputError, match=r"holds no synthetic\.tsv"):
        plot.synthetic(str(tmp_path / "none"))
