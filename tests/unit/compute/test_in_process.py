"""Tasks in threads of this process: the results, errors and resuming of workers, without starting any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

import cagdask
from cagdask.compute import connect as connecting
from cagdask.compute import memory
from cagdask.compute.connect import as_runner, connect
from cagdask.compute.in_process import InProcess
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, TaskError
from tests.conftest import MakeStore

# -- tasks -----------------------------------------------------------------------------------------------------------


def threads_seen(seconds: float) -> list[int]:
    time.sleep(seconds)
    faiss.omp_set_num_threads(memory.task_threads())
    blas = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
    return [memory.task_threads(), faiss.omp_get_max_threads(), *blas, threading.get_ident()]


def change(numbers: list[int]) -> int:
    numbers.append(1)
    return len(numbers)


def fail_at(path: str, i: int, kind: str) -> int:
    if i == 3:
        raise InputError("row 3 is bad") if kind == "foreseen" else ZeroDivisionError("not foreseen")
    time.sleep(0.05)
    Path(path, str(i)).touch()
    return i


# -- threads ---------------------------------------------------------------------------------------------------------


def test_tasks_run_side_by_side_with_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cagdask.compute.settings.n_cores", lambda: 4)
    runner = Runner(InProcess(n_threads=4))
    many = runner.map("many", threads_seen, [(0.2,)] * 4)
    assert len({one[-1] for one in many}) == 4
    assert all(set(one[:-1]) == {1} for one in many)
    lone = runner.one("lone", threads_seen, 0)
    assert set(lone[:-1]) == {1}
    assert lone[-1] != threading.get_ident()


def test_a_task_owns_its_arguments() -> None:
    numbers = [1, 2]
    assert Runner(InProcess()).map("change", change, [(numbers,), (numbers,)]) == [3, 3]
    assert numbers == [1, 2]


@pytest.mark.parametrize("kind", ["foreseen", "not"])
def test_the_first_error_ends_the_stage_and_finished_tasks_are_kept(tmp_path: Path, kind: str) -> None:
    (tmp_path / "made").mkdir()
    items = [(str(tmp_path / "made"), i, kind) for i in range(100)]
    runner = Runner(InProcess(n_threads=2))
    error, text = (
        (InputError, "row 3 is bad") if kind == "foreseen" else (TaskError, "stage: the task for .*not foreseen")
    )
    with pytest.raises(error, match=text) as caught:
        runner.map("stage", fail_at, items, done=str(tmp_path / "done"))
    assert kind == "foreseen" or isinstance(caught.value.__cause__, ZeroDivisionError)
    made = {int(path.name) for path in (tmp_path / "made").iterdir()}
    assert {0, 1, 2} <= made
    assert len(made) < 10, "tasks that had not begun do not begin"
    time.sleep(0.2)
    assert {int(path.name) for path in (tmp_path / "made").iterdir()} == made, "nobody goes on in the background"
    kept = {int(path.stem) for path in (tmp_path / "done" / "stage").iterdir()}
    assert kept == made


def test_stages_of_two_threads_take_turns() -> None:
    """BLAS has one number of threads for the process: a stage of another number waits."""
    found: list[Any] = []

    def lone() -> None:
        found.append(Runner(InProcess(n_threads=2)).one("lone", threads_seen, 0.2)[:-1])

    def several() -> None:
        found.extend(one[:-1] for one in Runner(InProcess(n_threads=2)).map("two", threads_seen, [(0.2,)] * 6))

    both = [threading.Thread(target=lone), threading.Thread(target=several)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(found) == 7
    assert all(len(set(one)) == 1 for one in found), found


# -- where it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "here"),
    [
        ({"work_bytes": 2**20}, True),
        ({"work_bytes": 2**40}, False),
        ({"work_bytes": None}, False),
        ({"work_bytes": 2**20, "n_workers": 2}, False),
        ({"work_bytes": 2**20, "client": "tcp://127.0.0.1:1"}, False),
        ({"work_bytes": 2**40, "n_workers": 0}, True),
    ],
)
def test_small_work_runs_here_unless_something_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], here: bool
) -> None:
    class ClusterAskedFor(Exception):  # noqa: N818  # no error
        pass

    def on_dask(*_: object) -> None:
        raise ClusterAskedFor

    monkeypatch.setattr(connecting, "_on_dask", on_dask)
    if here:
        with as_runner(**options) as runner:
            assert runner.in_process
    else:
        with pytest.raises(ClusterAskedFor), as_runner(**options):
            pass


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_workers": -1}, "`n_workers` is -1"), ({"client": "tcp://h:1", "n_workers": 0}, "a cluster is given")],
)
def test_numbers_of_workers_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message), connect(**options):
        pass


NOT_IMPORTED = (
    "dask", "distributed", "xarray", "matplotlib", "pandas", "altair", "jinja2", "scipy.cluster", "sklearn",
)  # fmt: skip
"""Libraries that a small run does without: each would take it a tenth of a second or more."""


def test_a_small_run_imports_no_dask_and_says_where_it_runs(toy_sheet: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from cagdask import cli
try:
    cli.main()
finally:
    print([name for name in {NOT_IMPORTED} if name in sys.modules])
"""
    for command in (["run", str(toy_sheet), "--output", str(tmp_path / "out")], ["info", str(tmp_path / "out")]):
        ended = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
        assert ended.stdout.splitlines()[-1] == "[]"
        if command[0] == "run":
            assert ended.stderr.count("Computing in this process") == 1


def test_a_refused_table_waits_for_no_compiler(tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    table.write_text("gene\ts1\ts2\na\t1\t-3\nb\t2\t4\n")
    code = f"""
import sys
from cagdask import cli
try:
    cli.main()
finally:
    print([name for name in {(*NOT_IMPORTED, "numba", "faiss", "zarr", "h5py", "fsspec")} if name in sys.modules])
"""
    command = ["run", str(table), "--output", str(tmp_path / "out")]
    ended = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "the value is -3" in ended.stderr
    assert ended.stdout.splitlines() == ["[]"]


# -- the same bytes --------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


@pytest.fixture(scope="module")
def one_worker() -> Any:
    with connect(n_workers=1, memory_limit="1GiB") as runner:
        yield runner


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    n_genes=st.integers(1, 400),
    n_samples=st.integers(1, 24),
    options=st.fixed_dictionaries(
        {
            "normalization": st.sampled_from(["sum", "clr"]),
            "metric": st.sampled_from(["cosine", "spearman"]),
        }
    ),
    how=st.sampled_from(
        [{}, {"max_dist": 0.2, "linkage": "average"}, {"max_dist": 0.2, "linkage": "single"}]  # {}: no threshold
    ),
)
def test_no_worker_one_and_two_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    runner: Runner,
    one_worker: Runner,
    seed: int,
    n_genes: int,
    n_samples: int,
    options: dict[str, Any],
    how: dict[str, Any],
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    rng = np.random.default_rng(seed)
    groups = rng.lognormal(0, 2, (max(1, n_genes // 6), n_samples)) * (
        rng.random((max(1, n_genes // 6), n_samples)) < 0.7
    )
    rows = groups[rng.integers(0, len(groups), n_genes)] * rng.lognormal(0, 0.1, (n_genes, n_samples))
    lines = ["gene\t" + "\t".join(f"s{j}" for j in range(n_samples))]
    lines += [f"g{i}\t" + "\t".join(map(repr, row.tolist())) for i, row in enumerate(rows + 1e-3)]
    (folder / "table.tsv").write_text("\n".join(lines) + "\n")
    made = []
    for name, where in (("0", {"n_workers": 0}), ("1", {"client": one_worker}), ("2", {"client": runner})):
        cagdask.run(str(folder / "table.tsv"), output=str(folder / name), **where, **options, **how)
        made.append(files_of(folder / name))
    assert made[0] == made[1] == made[2]


def test_factors_and_two_passes_are_the_same_here_and_on_workers(
    abundance_store: MakeStore, tmp_path: Path, runner: Runner
) -> None:
    store = abundance_store(np.random.default_rng(0).gamma(0.5, 1, (300, 20)))
    for name, where in (("here", {"n_workers": 0}), ("workers", {"client": runner})):
        (tmp_path / name).mkdir()
        cagdask.nmf(store, k=3, output=str(tmp_path / name / "nmf"), **where)
        cagdask.two_pass(store, k=3, output=str(tmp_path / name / "two"), **where)
    here, there = (files_of(tmp_path / name) for name in ("here", "workers"))
    for files in (here, there):
        for name in ("nmf/nmf.json", "two/twopass.json"):
            said = json.loads(files[name])
            files[name] = json.dumps({key: value for key, value in said.items() if key != "stages"}).encode()
    assert here == there


# -- interrupted -----------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_it_in_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    cagdask.simulate(str(tmp_path / "in"), n_genes=3000, n_samples=30, seed=1)
    sheet = str(tmp_path / "in" / "sample_sheet.json")
    command = [sys.executable, "-m", "cagdask", "run", sheet, "--output", str(tmp_path / "out"), "--workers", "0"]
    command += ["--max-dist", "0.2"]
    going = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    assert going.stderr is not None
    seen = []
    for line in going.stderr:
        seen.append(line)
        if line.startswith("normalize genes"):
            break
    going.send_signal(signal.SIGINT)
    _, rest = going.communicate(timeout=60)
    assert going.returncode == 130, rest
    assert "interrupted. The same command goes on" in rest
    assert "Traceback" not in rest
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "read samples" not in again.stderr, "the ingest was done"
    cagdask.run(sheet, max_dist=0.2, output=str(tmp_path / "clean"), n_workers=0)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "clean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "in", "out"]
