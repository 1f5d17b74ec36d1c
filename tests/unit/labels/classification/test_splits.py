"""Repeated splits that keep whole studies apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cagdask
from cagdask.labels.classification import splits
from tests.conftest import write_abundance_store
from tests.inline_runner import InlineRunner


def studies_of(n_samples: int, n_studies: int) -> Any:
    """Studies of uneven size, whose samples are mixed."""
    rng = np.random.default_rng(4)
    weight = rng.uniform(0.5, 2, n_studies)
    return np.array([f"GSE{s}" for s in rng.choice(n_studies, n_samples, p=weight / weight.sum())], object)


@pytest.mark.parametrize(("share", "n_folds"), [(0.33, 3), (0.5, 2), (0.2, 5), (0.7, 2)])
def test_a_study_is_in_training_or_in_test(share: float, n_folds: int) -> None:
    strata, studies = np.arange(600) % 3, studies_of(600, 40)
    tests = splits.study_shares(strata, studies, share, 7, seed=1)
    assert len(tests) == 7
    for test in tests:
        assert not set(studies[test]) & set(studies[~test])
        assert test.mean() == pytest.approx(1 / n_folds, abs=0.06)
        assert np.bincount(strata[test]) / test.sum() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert (np.sum(tests[:n_folds], axis=0) == 1).all(), "each sample is tested once before studies are dealt anew"


def test_studies_are_dealt_anew_and_the_seed_says_how() -> None:
    strata, studies = np.arange(300) % 2, studies_of(300, 30)
    tests = splits.study_shares(strata, studies, 0.33, 6, seed=1)
    assert len({test.tobytes() for test in tests}) == 6
    again = splits.study_shares(strata, studies, 0.33, 6, seed=1)
    np.testing.assert_array_equal(tests, again)
    assert any((one != other).any() for one, other in zip(tests, splits.study_shares(strata, studies, 0.33, 6, seed=2),
                                                          strict=True))  # fmt: skip


def test_two_studies_are_tested_in_turn() -> None:
    studies = np.repeat(np.array(["a", "b"], object), [5, 20])
    tests = splits.study_shares(np.arange(25) % 2, studies, 0.1, 4, seed=0)
    assert sorted({int(test.sum()) for test in tests}) == [5, 20]


def test_augment_keeps_studies_apart(tmp_path: Path) -> None:
    """Samples are like others of their study alone: a split by samples reads high, one by studies does not."""
    rng = np.random.default_rng(0)
    study = np.arange(96) % 16
    own = np.array([0, 0, 0, 1] * 4)[study]  # the label of a study says nothing of its values
    values = rng.normal(size=(40, 16))[:, study] + rng.normal(0, 0.2, (40, 96))
    write_abundance_store(str(tmp_path / "s.zarr"), values, kind="expression")
    table = pd.DataFrame({"x": np.array(["often", "seldom"])[own], "study": [f"s{s}" for s in study]},
                         index=[f"sample_{j:03d}" for j in range(96)])  # fmt: skip
    table.to_csv(tmp_path / "l.tsv", sep="\t", index_label="sample")
    found = {}
    for groups in (None, "study"):
        report = cagdask.augment(
            str(tmp_path / "s.zarr"), labels=str(tmp_path / "l.tsv"), output=str(tmp_path / f"{groups}"),
            client=InlineRunner(), n_splits=4, n_trees=20, rare_below=30, groups=groups,
        )  # fmt: skip
        assert report["split_by"] == groups
        found[groups] = report["methods"]["none"]["rare_f1"]
    assert found[None] > 0.8
    assert found["study"] < 0.4
