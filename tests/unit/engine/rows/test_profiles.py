from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cagdask import storage
from cagdask.engine.rows import profiles
from cagdask.engine.rows.files import FoldFiles
from cagdask.engine.rows.profiles import FILTERED, ZERO
from cagdask.normalization.sample_statistics import SampleStatistics
from tests import reference
from tests.conftest import MakeStore


@pytest.mark.parametrize("metric", profiles.METRICS)
def test_profiles_are_unit_rows_of_the_metric(metric: str) -> None:
    values = np.random.default_rng(0).lognormal(0, 3, (50, 7))
    values[3] = 0
    values[4] = 5 / 3
    values[5, 1:] = 0
    found = profiles.unit_profiles(values.copy(), metric)
    np.testing.assert_allclose(found, reference.unit_profiles(values, metric), atol=1e-12)
    assert not found[3].any()
    assert found[4].any() == (metric == "cosine")


def keys_of(rows: np.ndarray) -> list[tuple[int, int]]:
    keys = np.zeros((len(rows), 2), np.uint64)
    multipliers = np.random.default_rng(0).integers(1, 2**63, (2, rows.shape[1]), dtype=np.uint64) | np.uint64(1)
    profiles.row_keys(rows, multipliers, keys)
    return [(int(a), int(b)) for a, b in keys]


def test_keys_are_equal_for_proportional_rows_only() -> None:
    rng = np.random.default_rng(1)
    one = rng.lognormal(0, 1, (200, 9)) * (rng.random((200, 9)) < 0.4) + np.eye(9)[rng.integers(0, 9, 200)]
    keys = keys_of(profiles.unit_profiles(one.copy(), "cosine"))
    assert keys == keys_of(profiles.unit_profiles(one * 4.0, "cosine"))
    nearly = one * (1 + 1e-9 * rng.random(one.shape))
    assert not set(keys_of(profiles.unit_profiles(nearly, "cosine"))) & {
        k for k, r in zip(keys, one, strict=True) if (r > 0).sum() > 1
    }


def test_keys_tell_every_binary_row_apart() -> None:
    rows = ((np.arange(1, 2**12)[:, None] >> np.arange(12)) & 1).astype(np.float64)
    assert len(set(keys_of(profiles.unit_profiles(rows, "cosine")))) == len(rows)


def test_genes_are_marked_folded_and_weighted(abundance_store: MakeStore, tmp_path: Path) -> None:
    matrix = [[0, 0, 0], [1, 2, 0], [0, 0, 3], [2, 4, 0], [5, 5, 5], [3, 6, 0], [0, 1, 1]]
    store, statistics = abundance_store(matrix), str(tmp_path / "statistics.npz")
    storage.write_bytes(statistics, SampleStatistics().to_bytes())
    recipe = {
        "normalization": "none",
        "clr_floor": None,
        "metric": "correlation",
        "min_samples": 2,
        "statistics": statistics,
    }
    folders = [str(tmp_path / name) for name in "ab"]
    counts = [
        profiles.write_profiles(store, b, e, recipe, url) for (b, e), url in zip([(0, 3), (3, 7)], folders, strict=True)
    ]
    assert counts == [{"n": 1, "n_filtered": 2, "n_zero": 0}, {"n": 3, "n_filtered": 0, "n_zero": 1}]
    assert profiles.fold_identical(folders, 7, str(tmp_path / "fold")) == {"n": 2}
    fold = FoldFiles.open(str(tmp_path / "fold"))
    first, weight = fold.first, fold.weight
    assert first.tolist() == [FILTERED, 1, FILTERED, 1, ZERO, 1, 6]
    assert weight.tolist() == [0, 3, 0, 0, 0, 0, 1]
    assert [profiles.count_members(url, str(tmp_path / "fold")) for url in folders] == [1, 1]
