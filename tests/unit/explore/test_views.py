"""Files of ``cagdask explore --view``, and that they are those that the page gives."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import cagdask
from cagdask.cli import main
from cagdask.cli.explore import VIEW_NAMES
from cagdask.explore.session import Session
from cagdask.explore.views import VIEWS, Choice, command_of, content_of, flags_of
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("views")
    simulate_store(str(made / "abundance.zarr"), n_genes=300, n_samples=20, seed=3)
    cagdask.find_cags(str(made / "abundance.zarr"), max_dist=0.4, output=str(made / "cags.zarr"), client=InlineRunner())
    return made


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    made = Session(str(folder))
    made.read_ahead().join(60)
    return made


CHOICES = {
    "find": Choice(text="gene_01"),
    "members": Choice(cag=1),
    "samples": Choice(cag=1),
    "nearest": Choice(cag=1),
    "split": Choice(cag=0, max_dist=0.1),
    "similar": Choice(genes=("gene_010",)),
    "analogy": Choice(genes=("gene_010", "gene_100", "gene_200")),
    "heat-map": Choice(rows=7),
    "map": Choice(),
}


def test_the_command_knows_every_view() -> None:
    assert tuple(VIEWS) == VIEW_NAMES == tuple(CHOICES)


@pytest.mark.parametrize("name", CHOICES)
def test_the_command_that_is_shown_writes_the_file_that_is_downloaded(
    session: Session, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    choice = CHOICES[name]
    words = shlex.split(command_of(session, name, choice))
    assert words[0] == "cagdask"
    ended = CliRunner().invoke(main, [*words[1:], "--no-progress"])
    assert ended.exit_code == 0, ended.output
    (written,) = tmp_path.iterdir()
    assert written.read_bytes() == content_of(session, name, choice, "tsv")
    assert len(pd.read_csv(written, sep="\t")) == len(VIEWS[name].table(session, choice)) > 0


@pytest.mark.parametrize("suffix", ["tsv", "svg"])
def test_a_cag_that_is_not_there_is_refused(session: Session, suffix: str) -> None:
    with pytest.raises(ValueError, match="there is no CAG 99999"):
        content_of(session, "split", Choice(cag=99_999), suffix)


@pytest.mark.parametrize("name", [name for name, view in VIEWS.items() if view.is_picture])
def test_pictures_are_the_same_each_time(session: Session, name: str) -> None:
    first, second = (content_of(session, name, CHOICES[name], "svg") for _ in range(2))
    assert first == second
    assert first.startswith(b"<?xml")


def test_a_heat_map_holds_the_largest_cags_as_shares(session: Session) -> None:
    table = VIEWS["heat-map"].table(session, Choice(rows=7)).set_index("cag")
    assert sorted(table.index) == list(range(7))
    values = session.ds["cag_abundance"].values[:7]
    samples = session.ds["sample_id"].values
    expected = pd.DataFrame(np.sqrt(values / values.max(axis=1, keepdims=True)), columns=samples)
    np.testing.assert_allclose(table.loc[range(7), list(samples)], expected, atol=1e-3)


def test_names_that_a_shell_would_read_are_quoted(session: Session) -> None:
    words = command_of(session, "similar", Choice(genes=("a b;$(rm -r x)",)))
    assert shlex.split(words)[5:7] == ["--gene", "a b;$(rm -r x)"]
    assert flags_of("samples", Choice(cag=3, genes=("g",), by="diet")) == ["--gene", "g", "--by", "diet"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--view", "members"], "--view needs --output"),
        (["--output", "x.tsv"], "are for --view"),
        (["--view", "members", "--output", "x.txt"], "ends in none of .tsv"),
        (["--view", "members", "--output", "x.png"], "members is a table, and no picture"),
        (["--view", "members", "--cag", "100000", "--output", "x.tsv"], "there is no CAG 100000"),
        (["--view", "members", "--by", "diet", "--output", "x.tsv"], "is not for the view members"),
        (["--view", "samples", "--by", "diet", "--output", "x.tsv"], "there is no column 'diet'"),
        (["--view", "similar", "--output", "x.tsv"], "needs 1 gene; 0 given"),
        (["--view", "similar", "--gene", "nobody", "--output", "x.tsv"], "there is no gene 'nobody'"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    arguments = [str(tmp_path / word) if word.startswith("x.") else word for word in arguments]
    ended = CliRunner().invoke(main, ["explore", str(folder), *arguments, "--no-progress"])
    assert ended.exit_code in (1, 2)
    assert said in ended.output
    assert not list(tmp_path.iterdir())


def test_a_store_without_cags_has_genes_alone(folder: Path, tmp_path: Path) -> None:
    store = str(folder / "abundance.zarr")
    output = tmp_path / "near.tsv"
    arguments = ["explore", store, "--no-progress", "--output", str(output)]
    ended = CliRunner().invoke(main, [*arguments, "--view", "similar", "--gene", "gene_010"])
    assert ended.exit_code == 0, ended.output
    assert list(pd.read_csv(output, sep="\t").gene) == list(
        cagdask.similar(store, "gene_010", client=InlineRunner()).gene
    )
    ended = CliRunner().invoke(main, [*arguments, "--overwrite", "--view", "map"])
    assert ended.exit_code == 1
    assert "holds no CAGs, so there is no map" in ended.output
