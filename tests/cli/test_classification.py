"""The commands classify and predict, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cagdask.cli import main
from cagdask.cli.plot import MODEL_NAMES
from cagdask.labels.classification.options import AUGMENT, CLASSIFY, FEATURES, MODELS, AugmentOptions, ClassifyOptions
from cagdask.plot.classification import MODEL_PLOTS
from tests.conftest import write_abundance_store


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=(20, 48))
    values[:4, ::2] *= 8
    write_abundance_store(str(tmp_path / "s.zarr"), values, kind="expression")
    rows = [f"sample_{j:03d}\t{'ab'[j % 2]}\tstudy{j % 5}\n" for j in range(48)]
    (tmp_path / "labels.tsv").write_text("sample\tstate\tstudy\n" + "".join(rows))
    return tmp_path


def typed(*words: str, code: int = 0) -> str:
    ended = CliRunner().invoke(main, list(words))
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 else ended.output


def test_a_model_is_made_and_asked(cohort: Path) -> None:
    options = ["--labels", f"{cohort}/labels.tsv", "--groups", "study", "--n-trees", "20", "--workers", "0"]
    text = typed("classify", f"{cohort}/s.zarr", *options, "-o", f"{cohort}/m")
    assert "random split: macro F1" in text
    assert "grouped split: macro F1" in text
    assert "label  samples  precision  recall" in text
    found = json.loads(typed("classify", f"{cohort}/s.zarr", *options, "-o", f"{cohort}/m", "--json", "--overwrite"))
    assert found["main_split"] == "grouped"
    assert found["n_features"] == 20
    typed("plot", "roc", f"{cohort}/m", "-o", f"{cohort}/roc.svg", "--split", "random")
    assert "false positive rate (random split)" in (cohort / "roc.svg").read_text()
    assert "--split is for" in typed("plot", "sizes", f"{cohort}/m", "-o", "a.svg", "--split", "random", code=2)
    assert "split is 'x'; " in typed("plot", "roc", f"{cohort}/m", "-o", f"{cohort}/a.svg", "--split", "x", code=1)
    asked = json.loads(typed("predict", f"{cohort}/m", f"{cohort}/s.zarr", "-o", f"{cohort}/p.tsv", "--json"))
    assert asked["n_samples"] == 48
    assert sum(asked["calls"].values()) == 48


def test_synthetic_samples_are_measured(cohort: Path) -> None:
    words = ["augment", f"{cohort}/s.zarr", "--labels", f"{cohort}/labels.tsv", "-o", f"{cohort}/a", "--n-splits", "2"]
    text = typed(*words, "--model", "logistic", "--rare-below", "30")
    assert "rare labels are a, b; recommended: none" in text
    assert (cohort / "a" / "synthetic.png").exists()
    assert "no label is rare, all have 24 samples or more" in typed(*words, "--overwrite", code=1)


def test_what_is_wrong_is_one_line(cohort: Path) -> None:
    text = typed("classify", f"{cohort}/s.zarr", "--labels", f"{cohort}/none.tsv", "-o", f"{cohort}/m", code=1)
    assert "none.tsv: is no folder, no file and no column of the samples" in text
    assert "is not one of" in typed("classify", "x", "--labels", "y", "-o", "z", "--model", "tree", code=2)


def test_the_command_knows_every_picture() -> None:
    assert tuple(MODEL_PLOTS) == MODEL_NAMES


def test_options_are_those_that_are_declared() -> None:
    assert set(ClassifyOptions.__annotations__) == set(CLASSIFY)
    assert set(AugmentOptions.__annotations__) == set(AUGMENT)
    assert CLASSIFY["model"].choices == MODELS
    assert CLASSIFY["features"].choices == FEATURES
