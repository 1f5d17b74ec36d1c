"""Synthetic samples are recommended where they help with real ones, and only there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import cagdask
from cagdask.labels.classification.augmentation import methods
from tests.conftest import write_abundance_store
from tests.inline_runner import InlineRunner


def measured(folder: Path, signal: float, **options: Any) -> dict[str, Any]:
    """One label of 12 samples beside two of 60; three features tell each."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [60, 60, 12])
    values = rng.normal(size=(132, 60))
    for one in range(3):
        values[label == one, 3 * one : 3 * one + 3] += signal
    write_abundance_store(str(folder / "s.zarr"), values.T, kind="expression")
    table = pd.DataFrame({"x": np.array(["a", "b", "seldom"])[label]}, index=[f"sample_{j:03d}" for j in range(132)])
    table.to_csv(folder / "l.tsv", sep="\t", index_label="sample")
    return cagdask.augment(
        str(folder / "s.zarr"), labels=str(folder / "l.tsv"), output=str(folder / "a"), client=InlineRunner(),
        n_splits=6, n_trees=25, **options,
    )  # fmt: skip


def test_a_rare_label_that_a_forest_overlooks_is_helped(tmp_path: Path) -> None:
    report = measured(tmp_path, 1.6)
    assert report == json.loads((tmp_path / "a" / "augment.json").read_text())
    assert report["rare_labels"] == ["seldom"]
    assert report["recommended"] in ("smote", "gaussian", "gan")
    found = report["methods"][report["recommended"]]
    assert found["rise"] > 2 * found["standard_error"] > 0
    assert found["rare_f1"] > report["methods"]["none"]["rare_f1"] + 0.2
    scores = pd.read_csv(tmp_path / "a" / "scores.tsv", sep="\t")
    assert len(scores) == 3 * len(methods())
    assert report["not_tried"] == ([] if "gan" in methods() else ["gan"])
    plane = pd.read_csv(tmp_path / "a" / "synthetic.tsv", sep="\t")
    assert plane.kind.value_counts().to_dict() == {"real": 132, report["recommended"]: 48}
    assert set(plane.label[plane.kind != "real"]) == {"seldom"}


def test_where_nothing_can_be_learned_nothing_is_recommended(tmp_path: Path) -> None:
    report = measured(tmp_path, 0.0, model="logistic", strength=1e-4)
    assert report["methods"]["none"]["rare_f1"] < 0.4
    assert report["recommended"] == "none"
    assert not any(one["helps"] for one in report["methods"].values())
