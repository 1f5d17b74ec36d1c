from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from distributed import LocalCluster

from cagdask import cli, storage
from cagdask.errors import MemoryLimitError
from cagdask.runs import pipeline
from tests.conftest import MakeStore
from tests.result_store import write_result_store

COMMANDS = [
    *("run", "ingest", "cluster", "cut", "assign", "normalize", "similar", "analogy", "nmf", "twopass"),
    *("info", "plan", "report", "simulate"),
]


def cagdask(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def error_line(result: Result) -> str:
    """The one line that a failed command may print."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("cagdask: error")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == lines[0]
    assert "Traceback" not in result.stderr
    return lines[0]


# -- help ------------------------------------------------------------------------------------------------------------


def test_help_lists_all_commands() -> None:
    result = cagdask("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_shared_options(command: str) -> None:
    result = cagdask(command, "--help")
    assert result.exit_code == 0
    expected = {"--json", "--endpoint-url", "-v"}
    if command not in ("info", "plan"):
        expected |= {"--overwrite", "--no-progress"}
    if command in ("run", "ingest", "cluster", "cut", "assign", "normalize", "similar", "analogy", "nmf", "twopass"):
        expected |= {"--scheduler", "--scheduler-file", "--workers", "--memory-limit"}
    assert not {option for option in expected if option not in result.stdout}


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys\nfrom cagdask.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'dask', 'distributed', 'xarray', 'pandas', 'zarr', 'fsspec', 'pyarrow', 'numba', 'rich'}\n"
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    for arguments in (["--help"], ["run", "--help"], ["nmf", "--help"], ["--version"]):
        ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert ended.stderr.strip() == "set()"
        assert ended.stdout


# -- misuse: 2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "x.json"], "--output"),
        (["run", "x.json", "--output", "o", "--max-dist", "1"], "max-dist"),
        (["run", "x.json", "--output", "o", "--max-dist", "-0.1"], "max-dist"),
        (["run", "x.json", "--output", "o", "--min-samples", "0"], "min-samples"),
        (["run", "x.json", "--output", "o", "--workers", "-1"], "workers"),
        (["run", "x.json", "--output", "o", "--memory-limit", "much"], "'much' is not a size"),
        (["run", "x.json", "--output", "o", "--clr-floor", "low"], "'low' is neither auto nor a number"),
        (["run", "x.json", "--output", "o", "--normalization", "log"], "'log' is not one of"),
        (["run", "x.json", "--output", "o", "--metric", "euclidean"], "'euclidean' is not one of"),
        (["run", "x.json", "--output", "o", "--scheduler", "a", "--scheduler-file", "b"], "two clusters"),
        (["run", "x.json", "--output", "o", "--scheduler-file", "nowhere"], "nowhere"),
        (["cluster", "x.zarr", "--output", "o", "--linkage", "complete"], "'complete' is not one of"),
        (["ingest", "x.json"], "--store"),
        (["frobnicate"], "No such command"),
    ],
)
def test_misuse_ends_with_2(arguments: list[str], message: str) -> None:
    result = cagdask(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


# -- failures: 1, one line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "nowhere.json", "--output", "o"],
        ["plan", "nowhere.json"],
        ["info", "nowhere.zarr"],
        ["report", "nowhere.zarr"],
        ["cluster", "nowhere.zarr", "--output", "o"],
    ],
)
def test_a_missing_input_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in error_line(cagdask(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_output_folder_is_found_first(toy_sheet: Path, tmp_path: Path) -> None:
    line = error_line(cagdask("run", toy_sheet, "--output", tmp_path / "no" / "out"))
    assert "does not exist" in line


def test_min_samples_above_the_number_of_samples(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(np.ones((3, 2)))
    assert "--min-samples is 9" in error_line(
        cagdask("cluster", store, "--output", tmp_path / "o", "--min-samples", "9")
    )


def fail_with(monkeypatch: pytest.MonkeyPatch, err: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise err

    monkeypatch.setattr(pipeline, "write_run", fail)


@pytest.mark.parametrize(
    ("err", "words"),
    [
        (
            MemoryLimitError("search: too little.\nUse `memory_limit='8GiB'`."),
            "search: too little. Use --memory-limit 8GiB.",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x"), "disk is full (/data/x). Finished work is kept"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "/data/x: Permission denied"),
        (RuntimeError("odd"), "RuntimeError: odd (-v shows where)"),
    ],
)
def test_any_failure_is_one_line(monkeypatch: pytest.MonkeyPatch, err: BaseException, words: str) -> None:
    fail_with(monkeypatch, err)
    assert words in error_line(cagdask("run", "x", "--output", "o"))


def test_verbose_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, RuntimeError("odd"))
    result = cagdask("run", "x", "--output", "o", "-v")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_ctrl_c_says_that_the_same_command_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    result = cagdask("run", "x", "--output", "o")
    assert result.exit_code == 130
    assert result.stderr == "cagdask: interrupted. The same command goes on where it stopped.\n"


def test_an_endpoint_is_set_for_this_process_and_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    monkeypatch.setattr(storage, "exists", lambda _: bool(seen.append(os.environ.get("AWS_ENDPOINT_URL"))))
    cagdask("info", "nowhere", "--endpoint-url", "http://127.0.0.1:1")
    assert seen[0] == "http://127.0.0.1:1"
    assert os.environ["AWS_ENDPOINT_URL"] == ""


# -- what works ------------------------------------------------------------------------------------------------------


def test_info_shows_a_result_for_people_and_as_json(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 1, -1])
    text = cagdask("info", url)
    assert text.exit_code == 0
    assert (
        "4 genes in 4 samples: 2 CAGs, 1 of them of two genes or more, 1 genes alone, 1 genes filtered out"
        in text.stdout
    )
    assert "gene_cag" in text.stdout
    found = json.loads(cagdask("info", tmp_path, "--json").stdout)
    assert found["kind"] == "cags"
    assert found["sizes"]["gene"] == 4
    assert found["summary"]["largest"][0]["size"] == 2


def test_report_writes_a_page_and_not_twice(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 1])
    assert json.loads(cagdask("report", url, "--json").stdout) == {"output": str(tmp_path / "report.html")}
    assert "already there" in error_line(cagdask("report", url))
    assert cagdask("report", url, "--overwrite").exit_code == 0


def test_plan_prints_the_worst_stage(abundance_store: MakeStore) -> None:
    store = abundance_store(np.ones((30, 4)))
    result = cagdask("plan", store, "--workers", "2")
    assert result.exit_code == 0
    assert "<- needs most" in result.stdout
    found = json.loads(cagdask("plan", store, "--json").stdout)
    assert found["shape"]["n_genes"] == 30
    assert {"stages", "worst_stage", "store_bytes", "work_bytes", "n_tasks"} <= set(found)


def test_simulate_writes_sheet_and_truth(tmp_path: Path) -> None:
    result = cagdask("simulate", "--output", tmp_path / "sim", "--n-genes", "60", "--n-samples", "4", "--json")
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    assert Path(made["sheet"]).exists()
    assert Path(made["truth"]).exists()
    assert "already there" in error_line(cagdask("simulate", "--output", tmp_path / "sim"))


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster of somebody else: no certificates are needed."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def test_ingest_normalize_cluster_cut_run_on_a_given_scheduler(toy_sheet: Path, tmp_path: Path, address: str) -> None:
    scheduler = tmp_path / "scheduler.json"
    scheduler.write_text(json.dumps({"address": address}))
    on = ["--scheduler", address, "--no-progress"]

    made = json.loads(cagdask("ingest", toy_sheet, "--store", tmp_path / "a.zarr", "--json", *on).stdout)
    assert (made["n_genes"], made["n_samples"]) == (10, 6)

    assert cagdask("normalize", tmp_path / "a.zarr", "--output", tmp_path / "n.zarr", *on).exit_code == 0
    total = storage.open_dataset(str(tmp_path / "n.zarr"))["abundance"].sum("gene").values
    np.testing.assert_allclose(total, 1, rtol=1e-6)

    clustered = cagdask("cluster", tmp_path / "a.zarr", "--output", tmp_path / "c", "--max-dist", "0.3", *on)
    assert clustered.exit_code == 0, clustered.stderr
    assert "10 genes in 6 samples: 4 CAGs" in clustered.stdout
    assert "genes.parquet" in clustered.stdout

    sweep = json.loads(cagdask("cut", tmp_path / "c", "--sweep", "--json").stdout)["thresholds"]
    assert sweep[-1]["n_alone"] <= sweep[0]["n_alone"]
    assert cagdask("cut", tmp_path / "c", "--sweep").stdout.startswith("max_dist")
    assert cagdask("cut", tmp_path / "c", "--sweep", "--max-dist", "0.1").exit_code == 2
    cut = cagdask("cut", tmp_path / "c", "--max-dist", "0.1", "--output", tmp_path / "cut.zarr", "--json", *on)
    assert cut.exit_code == 0, cut.stderr
    assert json.loads(cut.stdout)["summary"]["n_cags"] >= 4
    cut = cagdask("cut", tmp_path / "c", "--max-dist", "0.1", "--output", tmp_path / "finer", *on)
    assert cut.exit_code == 0, cut.stderr
    assert "genes.parquet" in cut.stdout
    assert "report.html" in cut.stdout

    ran = cagdask(
        "run", toy_sheet, "--max-dist", "0.2", "--output", tmp_path / "r", "--scheduler-file", scheduler, "--json"
    )
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["summary"]["n_cags"] == 4
    assert "read samples" in ran.stderr


def test_bars_on_a_terminal_leave_stdout_alone(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    code = "from cagdask.cli import main; main()"
    arguments = ["simulate", "--output", str(tmp_path / "sim"), "--n-genes", "50", "--n-samples", "3", "--json"]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert json.loads(ended.stdout)["n_genes"] == 50
    assert "3 samples in" in shown


def test_the_program_itself_fails_with_one_line(tmp_path: Path) -> None:
    code = "from cagdask.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(tmp_path / "none.json"), "--output", str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("cagdask: error: ")
