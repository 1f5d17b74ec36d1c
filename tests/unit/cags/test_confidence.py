"""The interval of the cohesion against the jackknife by definition, and the words for CAGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cagdask import open_dataset, schema
from cagdask.cags import confidence
from cagdask.cags.clustering import find_cags
from cagdask.cags.parameters import Parameters
from cagdask.reports import tables
from cagdask.simulation.writing import simulate_abundance
from tests.conftest import write_abundance_store
from tests.inline_runner import InlineRunner


def test_the_interval_is_that_of_the_jackknife(tmp_path: Path) -> None:
    """Cohesion computed anew without each gene, for every CAG of a cohort."""
    matrix = simulate_abundance(300, 40, coverage=1.0, seed=3)[0].astype(np.float64)
    store, result = str(tmp_path / "a.zarr"), str(tmp_path / "r.zarr")
    write_abundance_store(store, matrix.astype(np.float32))
    find_cags(store, max_dist=0.2, output=result, client=InlineRunner())
    ds = open_dataset(result).load()
    shares = matrix / np.maximum(matrix.sum(axis=0), 1e-300)
    unit = shares / np.maximum(np.linalg.norm(shares, axis=1, keepdims=True), 1e-300)
    large = np.flatnonzero(ds.cag_size.values >= 3)
    assert len(large) >= 5
    for cag in large:
        similarity = unit[ds.gene_cag.values == cag] @ unit[ds.gene_cag.values == cag].T
        n = len(similarity)
        mean = (similarity.sum() - n) / (n * (n - 1))
        assert ds.cag_cohesion.values[cag] == pytest.approx(mean, abs=1e-5)
        without = []
        for i in range(n):
            rest = np.delete(np.delete(similarity, i, 0), i, 1)
            without.append((rest.sum() - (n - 1)) / ((n - 1) * (n - 2)))
        half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
        assert ds.cag_cohesion_low.values[cag] == pytest.approx(max(mean - half, -1), abs=2e-5)
        assert ds.cag_cohesion_high.values[cag] == pytest.approx(min(mean + half, 1), abs=2e-5)
    small = ds.cag_size.values < 3
    assert np.isnan(ds.cag_cohesion_low.values[small]).all()

    assert set(ds.cag_status.values) <= set(schema.CAG_STATUSES)
    assert (ds.cag_status.values[ds.cag_size.values == 1] == "alone").all()
    assert "loose: cohesion below 0.7" in ds.cag_status.attrs["meanings"]
    tables.write_cags(result, str(tmp_path / "cags.parquet"))
    cags = pd.read_parquet(tmp_path / "cags.parquet")
    assert list(cags)[-4:] == ["status", "cohesion_low", "cohesion_high", "parent"]
    assert cags["status"].tolist() == ds.cag_status.values.tolist()


@pytest.mark.parametrize(
    ("size", "n_present", "cohesion", "nearer", "unsupported", "wanted"),
    [
        (8, 5, 0.9, 0, 0, "solid"),
        (8, 5, 0.29, 0, 0, "loose"),
        (8, 5, 0.9, 2, 4, "solid"),
        (8, 5, 0.2, 3, 0, "suspicious"),
        (8, 5, 0.9, 0, 5, "suspicious"),
        (8, 1, 0.2, 8, 8, "single-sample"),
        (20_000, 5, 0.2, 0, 0, "giant"),
        (1, 1, 1.0, 1, 0, "alone"),
        (0, 0, 1.0, 0, 0, "empty"),
    ],
)
def test_cags_are_called_what_they_are(
    size: int, n_present: int, cohesion: float, nearer: int, unsupported: int, wanted: str
) -> None:
    numbers = ([value] for value in (size, n_present, cohesion, nearer, unsupported))
    assert confidence.cag_status(*map(np.array, numbers), 0.3).tolist() == [wanted]


def test_a_cag_of_half_of_all_grouped_genes_is_giant() -> None:
    size, zero = np.array([60, 30, 20, 1]), np.zeros(4, np.int64)
    words = confidence.cag_status(size, zero + 5, np.ones(4, np.float32), zero, zero, 0.3)
    assert words.tolist() == ["giant", "solid", "solid", "alone"]


@pytest.mark.parametrize(
    ("options", "least"), [({"max_dist": 0.2}, 0.7), ({"max_dist": 0.5}, 0.4), ({"max_dist": "auto"}, 0.3)]
)
def test_what_is_loose_depends_on_how_groups_were_joined(options: dict[str, float | str], least: float) -> None:
    parameters = Parameters(**options).checked()  # type: ignore[arg-type]
    assert confidence.least_cohesion(parameters) == pytest.approx(least)
