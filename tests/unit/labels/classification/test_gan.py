"""A generative network draws what is like the samples of a label, or says that it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cagdask
from cagdask.labels.classification import gan
from cagdask.labels.classification.augmentation import methods
from cagdask.labels.classification.balance import augmented
from tests.conftest import write_abundance_store
from tests.inline_runner import InlineRunner

needs_torch = pytest.mark.skipif(not gan.is_installed(), reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def places() -> tuple[Any, Any]:
    """Two labels of 80 samples and one of 12, each around its own middle, longer in one direction."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [80, 80, 12])
    middle = np.array([[0.0, 0, 0, 0], [6, 0, 0, 0], [0, 6, 0, 0]])
    return middle[label] + rng.normal(size=(172, 4)) * [1, 1, 2, 0.5], label


@pytest.fixture(scope="module")
def trained(places: tuple[Any, Any]) -> gan.Trained:
    return gan.train(*places, 3, seed=0)


@needs_torch
def test_draws_are_like_the_samples_of_their_label(places: tuple[Any, Any], trained: gan.Trained) -> None:
    place, label = places
    rng = np.random.default_rng(1)
    for one in range(3):
        drawn, own = trained.draw(one, 400, rng), place[label == one]
        assert np.linalg.norm(drawn.mean(axis=0) - own.mean(axis=0)) < 1.5
        assert gan.why_not(trained, place, label, one, rng) == ""
        others = min(gan.energy_distance(drawn, place[label == other]) for other in range(3) if other != one)
        assert gan.energy_distance(drawn, own) < others / 4
    assert 0 < trained.steps <= gan.MOST_STEPS


@needs_torch
def test_the_same_seed_draws_the_same(places: tuple[Any, Any], trained: gan.Trained) -> None:
    again = gan.train(*places, 3, seed=0)
    assert again.steps == trained.steps
    draws = [one.draw(2, 5, np.random.default_rng(3)) for one in (trained, again)]
    np.testing.assert_array_equal(*draws)


@needs_torch
def test_a_collapsed_generator_and_one_of_other_labels_are_found(places: tuple[Any, Any], trained: gan.Trained) -> None:
    import torch
    from torch import nn

    place, label = places
    flat = nn.Linear(gan.NOISE + 3, 4)
    with torch.no_grad():
        flat.weight.zero_()
    same = gan.Trained(flat, trained.center, trained.scale, 3, 1)
    rng = np.random.default_rng(0)
    assert gan.why_not(same, place, label, 2, rng) == "collapsed"
    turned = np.array([1, 2, 0])[label]
    assert gan.why_not(trained, place, turned, 2, rng) == "misplaced"


@needs_torch
def test_a_rare_label_gets_samples_of_all_features(places: tuple[Any, Any]) -> None:
    place, label = places
    values = (place @ np.random.default_rng(2).normal(size=(4, 30))).astype(np.float32)
    made = augmented(values, np.eye(3, dtype=bool)[label], "gan", 20, 0)
    assert made.member.sum(axis=0).tolist() == [80, 80, 80]
    np.testing.assert_array_equal(made.values[:172], values)
    assert made.refused == {}
    new, own = made.values[172:], values[label == 2]
    assert np.linalg.norm(new.mean(axis=0) - own.mean(axis=0)) < np.linalg.norm(own.std(axis=0))


def test_without_pytorch_others_are_tried_and_a_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gan, "is_installed", lambda: False)
    assert methods() == ("none", "smote", "gaussian")
    write_abundance_store(str(tmp_path / "s.zarr"), np.ones((5, 24)), kind="expression")
    table = pd.DataFrame({"x": ["a", "b"] * 12}, index=[f"sample_{j:03d}" for j in range(24)])
    table.to_csv(tmp_path / "l.tsv", sep="\t", index_label="sample")
    with pytest.raises(ValueError, match=r"`augment='gan'` needs PyTorch.*pip install \"cagdask\[gan\]\""):
        cagdask.classify(str(tmp_path / "s.zarr"), labels=str(tmp_path / "l.tsv"), output=str(tmp_path / "m"),
                         client=InlineRunner(), augment="gan")  # fmt: skip
