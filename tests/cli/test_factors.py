from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import cagdask.compute.connect
from cagdask import cli
from cagdask.compute.runner import Runner
from tests.conftest import MakeStore


def nmf(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["nmf", *map(str, arguments)])


def test_help_has_the_options_of_the_default_and_the_other_commands() -> None:
    text = nmf("--help").stdout
    for word in ("-k ", "--nonneg", "--solver", "--workers", "--json", "\n  select ", "\n  consensus ", "\n  project "):
        assert word in text
    assert "--replicates" in nmf("select", "--help").stdout
    assert "--density-threshold" in nmf("consensus", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.zarr", "--output", "o"], "'-k'"),
        (["x.zarr", "-k", "3"], "--output"),
        (["x.zarr", "-k", "0", "--output", "o"], "-k"),
        (["x.zarr", "-k", "3", "--output", "o", "--nonneg", "abs"], "'abs' is not one of"),
        (["select", "x.zarr", "-K", "9:3", "--output", "o"], "'9:3' is no range"),
        (["select", "x.zarr", "-K", "few", "--output", "o"], "write 5:30, 5:30:5 or 4,8,12"),
        (["consensus", "x.zarr", "-k", "3", "--density-threshold", "0", "--output", "o"], "density-threshold"),
        (["project", "x.zarr", "--output", "o"], "--to"),
    ],
)
def test_misuse_ends_with_2(arguments: list[str], message: str) -> None:
    result = nmf(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_store_is_one_line(tmp_path: Path) -> None:
    result = nmf(tmp_path / "nowhere.zarr", "-k", 3, "--output", tmp_path / "o")
    assert result.exit_code == 1
    assert result.stderr.count("cagdask: error") == 1
    assert "nowhere.zarr: no such store" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(900)
def test_factorize_select_agree_and_project(
    abundance_store: MakeStore, tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cagdask.compute.connect, "connect", lambda *_, **__: runner_context(runner))
    rng = np.random.default_rng(0)
    store = abundance_store(rng.gamma(1, 1, (80, 3)) @ rng.gamma(0.5, 1, (3, 20)))
    found = nmf(store, "-k", 3, "--output", tmp_path / "a", "--json", "--no-progress")
    assert found.exit_code == 0, found.stderr
    content = json.loads(found.stdout)
    assert content["k"] == 3
    assert content["r2"] > 0.95
    text = nmf("fit", store, "-k", 3, "--output", tmp_path / "b", "--no-progress").stdout
    assert "80 genes x 20 samples, k = 3" in text
    assert "5 passes over the data" in text
    found = nmf("select", store, "-K", "2:3", "--replicates", 4, "--output", tmp_path / "k", "--no-progress")
    assert "recommended: k = 3: the largest of 2 k whose stability is at least 0.8" in found.stdout
    found = nmf("consensus", store, "-k", 3, "--replicates", 4, "--density-threshold", 1.5, "--output", tmp_path / "c",
                "--no-progress")  # fmt: skip
    assert "of 12 programs kept" in found.stdout
    found = nmf("project", store, "--to", tmp_path / "c", "--output", tmp_path / "p", "--no-progress")
    assert "80 of the reference's 80 genes found" in found.stdout
    assert "already there" in nmf(store, "-k", 3, "--output", tmp_path / "a").stderr


def runner_context(runner: Runner):  # a context manager
    from contextlib import nullcontext

    return nullcontext(runner)
