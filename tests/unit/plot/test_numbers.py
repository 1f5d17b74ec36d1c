from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask import storage
from cagdask.cli import main
from cagdask.plot import numbers
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner
from tests.result_store import write_result_store


def test_size_classes_hold_every_cag_and_every_gene() -> None:
    table = numbers.size_classes(np.array([1, 1, 2, 3, 4, 5, 8, 9, 16, 17]))
    assert list(table.genes) == ["1", "2", "3–4", "5–8", "9–16", "17–32"]
    assert list(table.n_cags) == [2, 1, 2, 2, 2, 1]
    assert list(table.n_genes) == [2, 2, 7, 13, 25, 17]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_coverage_is_the_share_of_genes_in_cags_of_at_least_that_size(sizes: list[int]) -> None:
    ordered = np.array(sorted(sizes, reverse=True))
    table = numbers.coverage_by_size(ordered, np.ones(len(ordered)))
    genes = table[table.what == "genes"]
    assert set(genes["size"]) == set(sizes)
    for size, share in zip(genes["size"], genes["share"], strict=True):
        assert share == pytest.approx(ordered[ordered >= size].sum() / ordered.sum())


def test_log_ratios_have_no_share_of_abundance() -> None:
    assert set(numbers.coverage_by_size(np.array([2, 1]), np.array([0.5, -0.5])).what) == {"genes"}


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sweep")
    simulate_store(str(folder / "cohort.zarr"), n_genes=300, n_samples=20, seed=1)
    runner = InlineRunner()
    cagdask.find_cags(
        str(folder / "cohort.zarr"), max_dist=0.4, refine="none", output=str(folder / "cags.zarr"), client=runner
    )
    return str(folder)


@pytest.mark.parametrize("at", [0.0, 0.1, 0.25, 0.4])
def test_the_threshold_curve_is_what_cut_gives(clustered: str, at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "N_THRESHOLDS", 9)  # 0, .05, .1, …
    ds = cagdask.open_dataset(f"{clustered}/cags.zarr")
    table = numbers.threshold_table(ds)
    row = table[np.isclose(table.max_dist, at)].iloc[0]
    sizes = cagdask.cut(ds.encoding["source"], max_dist=at, store=f"{clustered}/cohort.zarr", client=InlineRunner())[
        "cag_size"
    ].values
    assert row.n_groups == (sizes >= 2).sum()
    assert row.n_alone == (sizes == 1).sum()
    assert row.largest == pytest.approx(sizes.max() / sizes.sum())


def test_a_sweep_shows_what_chance_would_group_where_it_was_counted(clustered: str, tmp_path: Path) -> None:
    ds = cagdask.open_dataset(f"{clustered}/cags.zarr").load()
    assert "fdr" not in numbers.threshold_table(ds)
    n_shuffled = 300
    counts = {"max_dist": 0.4, "n_grouped": [0] * 40 + [3] * 40}
    found = {"by_height": counts, "n_shuffled": n_shuffled, "n_with_profile": 300, "shuffled_every": 1}
    ds.attrs["error_rate"] = json.dumps(found)
    table = numbers.threshold_table(ds)
    n_grouped = 300 - int((ds.gene_cag.values < 0).sum()) - table.n_alone
    expected = (1 + np.where(table.max_dist < 0.2, 0, 3)) / n_grouped.clip(lower=1)
    assert table.fdr.to_numpy() == pytest.approx(expected.clip(upper=1).to_numpy())
    assert "share of grouped genes that chance would group" in cagdask.plot.threshold_curve(ds).to_json()
    storage.save_dataset(ds, str(tmp_path / "cags.zarr"))
    shown = CliRunner().invoke(main, ["cut", str(tmp_path / "cags.zarr"), "--sweep"])
    assert shown.exit_code == 0, shown.output
    head, *_ = shown.stdout.splitlines()
    assert head.split()[-3:] == ["by", "chance", "plateau"]
    assert f"{table.fdr.iloc[-1]:.2%}" in shown.stdout


def test_the_status_is_that_of_the_result(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 0, 1, 1, 2, 2, 3], n_samples=10)
    ds = cagdask.open_dataset(url).load()
    assert set(numbers.cag_status(ds.drop_vars("cag_status"))) == {"not known"}
    words = ["loose", "single-sample", "solid", "alone"]
    assert numbers.cag_status(ds.assign(cag_status=("cag", words))).tolist() == words
