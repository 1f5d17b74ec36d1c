from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cagdask.cli import find_cags as find_cags_cli
from cagdask.compute import connect as connecting
from cagdask.compute import settings
from cagdask.runs import pipeline
from tests.conftest import ToyCohort
from tests.inline_runner import InlineRunner

FILES = ["p.cags.feather", "p.cags.json.gz", "p.feather", "p.logs.txt"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Output and temporary folder; tasks run without a cluster."""

    @contextmanager
    def connect(*_: object, **__: object):
        yield InlineRunner()

    monkeypatch.setattr(connecting, "connect", connect)
    for name in ("out", "temp"):
        (tmp_path / name).mkdir()
    return tmp_path / "out", tmp_path / "temp"


def find_cags(sheet: Path, folders: tuple[Path, Path], *more: str, normalization: str = "sum") -> int:
    out, temp = folders
    given = ["--sample-sheet", sheet, "--output-prefix", "p", "--output-folder", out, "--temp-folder", temp]
    return find_cags_cli.main([*map(str, given), "--normalization", normalization, *more])


def read(out: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, list[str]]]:
    with gzip.open(out / "p.cags.json.gz") as handle:
        groups = json.load(handle)
    return pd.read_feather(out / "p.feather"), pd.read_feather(out / "p.cags.feather"), groups


@pytest.mark.parametrize("normalization", ["sum", "median", "clr"])
def test_the_four_files_are_what_find_cags_writes(
    toy_sheet: Path, toy_cohort: ToyCohort, folders: tuple[Path, Path], normalization: str
) -> None:
    out, temp = folders
    assert find_cags(toy_sheet, folders, "--max-dist", "0.1", normalization=normalization) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert list(temp.iterdir()) == []

    table, means, groups = read(out)
    assert list(table.columns) == ["index", *toy_cohort.sample_ids]
    assert list(table["index"]) == list(toy_cohort.gene_ids)
    assert list(means.columns) == ["index", *toy_cohort.sample_ids]
    assert list(means["index"]) == [int(name) for name in groups]
    assert means["index"].dtype == np.int64
    assert set(table.dtypes.iloc[1:]) == {np.dtype("float64")}
    assert [len(genes) for genes in groups.values()] == [4, 3, 2, 1]
    assert sorted(gene for genes in groups.values() for gene in genes) == sorted(toy_cohort.gene_ids)

    table = table.set_index("index")
    expected = {
        "sum": toy_cohort.matrix / toy_cohort.matrix.sum(0),
        "median": toy_cohort.matrix / [np.median(column[column > 0]) for column in toy_cohort.matrix.T],
    }
    if normalization in expected:
        np.testing.assert_allclose(table.to_numpy(), expected[normalization], rtol=1e-6)
    else:
        present = toy_cohort.matrix > 0
        assert (table.to_numpy()[~present] == table.to_numpy().min()).all()
    for i, genes in enumerate(groups.values()):
        np.testing.assert_allclose(means.iloc[i, 1:].astype(float), table.loc[genes].mean(), rtol=1e-5, atol=1e-7)


def test_a_small_job_starts_no_workers_unless_asked_and_its_files_are_the_same_bytes(
    toy_sheet: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    @contextmanager
    def connect(*_: object, n_workers: int, **__: object):
        asked.append(n_workers)
        yield InlineRunner()

    monkeypatch.setattr(connecting, "connect", connect)
    written = []
    for more in ([], ["--threads", "1"], ["--threads", "2"]):
        assert find_cags(toy_sheet, folders, "--max-dist", "0.1", *more) == 0
        written.append([(folders[0] / name).read_bytes() for name in FILES[:3]])
    assert asked == [2]
    assert written[0] == written[1] == written[2]
    monkeypatch.setattr(settings, "IN_PROCESS_BYTES", 10)
    assert find_cags(toy_sheet, folders, "--max-dist", "0.1") == 0
    assert asked == [2, 1], "a large one gets the one worker of the default"
    assert [(folders[0] / name).read_bytes() for name in FILES[:3]] == written[0]


def test_the_log_has_the_originals_format(toy_sheet: Path, folders: tuple[Path, Path]) -> None:
    assert find_cags(toy_sheet, folders, "--max-dist", "0.1") == 0
    lines = (folders[0] / "p.logs.txt").read_text().splitlines()
    assert all(" INFO     [find-cags] " in line for line in lines)
    assert "Returning results" in lines[-1]
    assert any("max_dist: 0.1" in line for line in lines)


def test_the_default_distance_is_the_originals(toy_sheet: Path, folders: tuple[Path, Path]) -> None:
    arguments = ["--sample-sheet", "s", "--output-prefix", "p", "--output-folder", "o", "--normalization", "sum"]
    defaults = vars(find_cags_cli.parser().parse_args(arguments))
    assert defaults["max_dist"] == 0.01
    assert defaults["threads"] == 1
    assert defaults["min_samples"] == 1
    assert defaults["clr_floor"] is None
    assert (defaults["results_key"], defaults["abundance_key"], defaults["gene_id_key"]) == ("results", "depth", "id")


def test_a_test_run_uses_the_first_genes(
    toy_sheet: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_cags_cli, "N_TEST_GENES", 3)
    assert find_cags(toy_sheet, folders, "--test") == 0
    table, _, groups = read(folders[0])
    assert list(table["index"]) == ["gene_a", "gene_b", "gene_c"]
    assert sum(map(len, groups.values())) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-dist", "1.5"], "--max-dist is 1.5"),
        (["--threads", "0"], "--threads is 0"),
        (["--min-samples", "7"], "--min-samples is 7"),
        (["--clr-floor", "abc"], "--clr-floor is 'abc'"),
        (["--output-folder", "nowhere"], "--output-folder nowhere: there is no such folder"),
        (["--temp-folder", "nowhere"], "--temp-folder nowhere: there is no such folder"),
        (["--sample-sheet", "nowhere.json"], "nowhere.json"),
        (["--output-prefix", "a/b"], "--output-prefix 'a/b'"),
        (["--results-key", "nothing"], "nothing"),
    ],
)
def test_bad_arguments_fail_with_one_line_and_leave_nothing(
    toy_sheet: Path,
    folders: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    assert find_cags(toy_sheet, folders, *more, normalization="clr") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "ERROR" in line]
    assert len(errors) == 1
    assert "[find-cags]" in errors[0]
    assert message in errors[0]
    assert [path for folder in folders for path in folder.iterdir()] == []


def test_normalization_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        find_cags_cli.main(["--sample-sheet", "s", "--output-prefix", "p", "--output-folder", "o"])
    assert ended.value.code == 2
    assert "--normalization" in capsys.readouterr().err


def test_a_floor_without_clr_is_mentioned_and_ignored(
    toy_sheet: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_cags(toy_sheet, folders, "--clr-floor", "auto") == 0
    assert "--clr-floor is only for --normalization clr" in capsys.readouterr().err


def test_help_describes_the_program_as_the_original_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        find_cags_cli.main(["-h"])
    assert "Find a set of co-abundant genes" in capsys.readouterr().out


def test_the_partition_is_that_of_a_run_with_the_same_distance(
    toy_sheet: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    assert find_cags(toy_sheet, folders, "--max-dist", "0.2", normalization="clr") == 0
    options = {"normalization": "clr", "max_dist": 0.2}
    pipeline.run(str(toy_sheet), output=str(tmp_path / "run"), client=InlineRunner(), **options)
    groups = pd.read_csv(tmp_path / "run" / "CAGs.csv.gz").groupby("CAG")["gene"].apply(list)
    assert read(folders[0])[2] == {str(cag): genes for cag, genes in groups.items()}
