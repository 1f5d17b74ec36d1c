"""``cagdask twopass`` and ``cagdask assign`` as commands."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from cagdask import cli, storage
from cagdask.cags import assignment, clustering
from cagdask.simulation.writing import simulate_abundance
from cagdask.twopass import two_pass
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner


def cagdask(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run their tasks here, without workers."""

    @contextmanager
    def as_runner(*_: Any, **__: Any) -> Any:
        yield InlineRunner()

    for module in (assignment, two_pass):
        monkeypatch.setattr(module, "as_runner", as_runner)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(3) * 9, [30, 20, 10], axis=0) + rng.normal(size=(60, 3))
    frame = pd.DataFrame(rows, columns=list("xyz"))
    frame.insert(0, "id", [f"p{i}" for i in range(60)])
    frame.to_parquet(tmp_path / "points.parquet", index=False)
    return tmp_path / "points.parquet"


@pytest.mark.usefixtures("inline")
def test_twopass_and_its_leaders(points: Path) -> None:
    folder = points.parent / "out"
    result = cagdask("twopass", points, "-k", 3, "--stride", 2, "--output", folder, "--no-progress")
    assert result.exit_code == 0, result.output
    assert "60 rows in 3 clusters, 0 unassigned. 100.0% of the 30 drawn kept their first label." in result.stdout
    assert [line.split() for line in result.stdout.splitlines()[3:6]] == [
        ["1", "30", "15"],
        ["2", "20", "10"],
        ["3", "10", "5"],
    ]
    again = cagdask(
        "twopass", points, "--leaders-from", folder, "--max-dist", 1, "--output", points.parent / "more", "--json"
    )
    assert again.exit_code == 0, again.output
    report = json.loads(again.stdout)
    assert report["n_unassigned"] + sum(report["sizes"]) == 60
    assert report["n_unassigned"] > 0
    kept = cagdask("twopass", points, "-k", 3, "--output", folder)
    assert kept.exit_code == 1
    assert "already there. Add --overwrite" in kept.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '-k'"),
        (["-k", "0"], "-k"),
        (["-k", "3", "--leaders-from", "x"], "-k is for a first pass"),
        (["--metric", "cosine", "--leaders-from", "x"], "--metric is for a first pass"),
        (["--seed", "4", "--leaders-from", "x"], "--seed is for a first pass"),
        (["-k", "3", "--stride", "2", "--sample", "5"], "two ways to draw"),
        (["-k", "3", "--metric", "manhattan"], "'manhattan' is not one of"),
        (["-k", "3", "--max-dist", "-1"], "max-dist"),
    ],
)
def test_misuse_of_twopass(points: Path, arguments: list[str], message: str) -> None:
    result = cagdask("twopass", points, "--output", points.parent / "out", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.usefixtures("inline")
def test_failures_of_twopass_are_one_line(points: Path) -> None:
    for arguments, message in (
        (["-k", 61], "k is 61, but the sample has 60 rows (60 of 60)"),
        (["-k", 2, "--metric", "rmsd"], "rmsd is for trajectories"),
        (["-k", 2, "--of", "genes"], "of genes is for stores"),
    ):
        result = cagdask("twopass", points, "--output", points.parent / "out", *arguments)
        assert result.exit_code == 1
        assert message in result.stderr.splitlines()[-1]
        assert result.stdout == ""


@pytest.mark.usefixtures("inline")
def test_assign_says_what_was_assigned(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(simulate_abundance(400, 60, seed=3)[0], name="abundance.zarr")
    clustering.find_cags(store, max_dist=0.2, refine="none", output=str(tmp_path / "cags.zarr"), client=InlineRunner())
    output = tmp_path / "more.zarr"
    result = cagdask(
        "assign", store, "--to", tmp_path, "--max-dist", 0.4, "--output", output, "--json", "--no-progress"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    put = np.asarray(storage.open_array(str(output), "gene_assigned")[:])
    assert found["assignment"]["n_assigned"] == put.sum() > 0
    assert found["summary"]["n_genes"] == 400
    sizes = np.asarray(storage.open_array(str(output), "cag_size")[:])
    assert found["summary"]["n_cags"] == (sizes > 0).sum() < len(sizes)
    text = cagdask("assign", store, "--to", tmp_path, "--output", output, "--overwrite", "--no-progress")
    assert "genes assigned within 0.2:" in text.stdout
    assert cagdask("assign", store, "--to", tmp_path, "--output", output, "--min-size", 1).exit_code == 2
    assert cagdask("assign", store, "--to", tmp_path, "--output", output).exit_code == 1
