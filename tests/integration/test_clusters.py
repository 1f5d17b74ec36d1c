"""Clusters that others start: TLS, versions, reach, and workers that go away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from click.testing import CliRunner

import cagdask
from cagdask import storage
from cagdask.compute import checks, launchers
from cagdask.compute.connect import check_address, connect
from cagdask.compute.executor import Outcome
from cagdask.compute.on_dask import OnDask
from cagdask.compute.worker_plugins import S3Environment
from cagdask.errors import ClusterError, TaskError
from tests.dask_processes import Certificate, DaskProcesses, kill, make_certificate
from tests.integration.test_s3 import contents, run_cagdask, upload
from tests.s3_server import S3Server

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_cluster(
    tmp_path_factory: pytest.TempPathFactory, s3_process: S3Server, certificate: Certificate
) -> Iterator[DaskProcesses]:
    processes = DaskProcesses(tmp_path_factory.mktemp("dask"), s3_process.environment, certificate)
    try:
        processes.start()
        yield processes
    finally:  # also of a start that failed half-way
        processes.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskProcesses]:
    processes = DaskProcesses(tmp_path / "dask")
    try:
        processes.start(n_workers=1)
        yield processes
    finally:
        processes.stop()


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_a_run_over_tls_on_s3_gives_the_bytes_of_a_local_one(
    s3: S3Server, s3_url: str, tls_cluster: DaskProcesses, certificate: Certificate, toy_sheet: Path, tmp_path: Path
) -> None:
    upload(toy_sheet.parent, f"{s3_url}/in")
    where = ["--scheduler", tls_cluster.address, *certificate.flags]
    ended = run_cagdask(
        "run", f"{s3_url}/in/sample_sheet.json", "--output", f"{s3_url}/out", "--max-dist", "0.2", *where
    )
    assert ended.returncode == 0, ended.stderr
    assert tls_cluster.address.startswith("tls://")
    cagdask.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "out"), n_workers=1)
    assert contents(f"{s3_url}/out") == contents(str(tmp_path / "out"))


def test_others_are_refused_in_one_line(
    tls_cluster: DaskProcesses,
    certificate: Certificate,
    toy_sheet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DASK_CAGDASK__CONNECT_TIMEOUT", "3s")
    plain = tls_cluster.address.replace("tls://", "tcp://")
    foreign = make_certificate(tmp_path / "foreign").flags
    command = ["ingest", str(toy_sheet), "--store"]
    cases = [
        ("--scheduler", plain),
        ("--scheduler", tls_cluster.address, *foreign),
        ("--scheduler", tls_cluster.address),
    ]
    running = [
        subprocess.Popen([sys.executable, "-m", "cagdask", *command, str(tmp_path / f"{i}.zarr"), *case], stderr=-1)
        for i, case in enumerate(cases)
    ]
    for process in running:
        _, stderr = process.communicate()
        assert process.returncode == 1
        assert stderr.count(b"\n") == 1, stderr.decode()
        assert b"no Dask scheduler answers at" in stderr
    command.append(str(tmp_path / "x.zarr"))
    refused = run_cagdask(*command, "--scheduler", plain, *certificate.flags)  # certificates mean: nothing unencrypted
    assert refused.returncode == 1
    assert "no Dask scheduler answers at" in refused.stderr
    misused = run_cagdask(*command, *certificate.flags)
    assert misused.returncode == 2
    assert "need --scheduler" in misused.stderr


# -- preflight -------------------------------------------------------------------------------------------------------


def test_versions_are_compared(cluster: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    here = checks.facts()
    monkeypatch.setattr(checks.provenance, "versions", lambda: here | {"dask": "1.0"})
    with (
        pytest.raises(ClusterError, match=r"versions differ: .* has dask .*, this process 1\.0"),
        connect(cluster.address),
    ):
        pass


def test_what_workers_do_not_reach_is_found_before_any_work(
    cluster: DaskProcesses, toy_sheet: Path, tmp_path: Path
) -> None:
    with connect(cluster.address) as runner:
        runner.check_reach([str(toy_sheet)], [str(tmp_path / "x.zarr")])
        with pytest.raises(ClusterError, match=r"worker tcp.* finds no .*Use a folder that all machines share"):
            runner.check_reach([str(tmp_path / "not-mounted")], [])
        with pytest.raises(ClusterError, match="can not write to"):
            runner.check_reach([], [str(tmp_path / "nowhere" / "x.zarr")])


def test_the_server_is_told_to_workers_and_no_secret(cluster: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    with connect(cluster.address) as runner:
        (there,) = runner.executor.client.run(lambda: dict(os.environ)).values()
    assert there["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert there.get("AWS_SECRET_ACCESS_KEY") != "a-secret"
    assert b"a-secret" not in __import__("pickle").dumps(S3Environment())


def test_memory_is_that_of_the_worker_with_the_least_per_thread(
    cluster: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(cluster.address) as runner:
        real = runner.executor.client.scheduler_info

        def mixed(n_workers: int) -> dict[str, object]:
            workers = {"a": {"nthreads": 2, "memory_limit": 2**30}, "b": {"nthreads": 2, "memory_limit": 2**33}}
            return {**real(n_workers), "workers": workers}

        monkeypatch.setattr(runner.executor.client, "scheduler_info", mixed)
        with connect(runner.executor.client) as other:
            assert (other.n_workers, other.n_threads) == (2, 4)
            assert other.memory_limit == 2**30


# -- going away ------------------------------------------------------------------------------------------------------


def slow(path: str) -> str:
    Path(path).touch()
    time.sleep(60)
    return path


def broken(sample: str) -> None:
    raise ZeroDivisionError("not foreseen")


def test_a_run_without_workers_ends_after_the_stated_time(cluster: DaskProcesses, tmp_path: Path) -> None:
    begun = str(tmp_path / "begun")
    with dask.config.set({"cagdask.no-workers-timeout": "3s"}), connect(cluster.address) as runner:

        def end_worker() -> None:
            while not os.path.exists(begun):
                time.sleep(0.05)
            kill(cluster.workers[0])

        threading.Thread(target=end_worker).start()
        before = time.monotonic()
        with pytest.raises(ClusterError, match=r"no workers for 3 s\. Finished work is kept"):
            runner.map("slow", slow, [(begun,)])
        assert time.monotonic() - before < 30


@pytest.mark.parametrize("another_comes", [False, True])
def test_an_answer_that_goes_with_its_worker_is_waited_for_only_so_long(
    cluster: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, another_comes: bool
) -> None:
    """The task has ended, and its worker dies before what it answers is fetched."""
    result = OnDask._outcome
    monkeypatch.setattr("cagdask.compute.on_dask._FETCH_SECONDS", 1)

    def after_the_worker(self: OnDask, stage: str, future: Any, item: tuple[Any, ...]) -> Outcome:
        if not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            kill(cluster.workers[0])
            if another_comes:
                cluster.start_worker()
        return result(self, stage, future, item)

    monkeypatch.setattr(OnDask, "_outcome", after_the_worker)
    with dask.config.set({"cagdask.no-workers-timeout": "3s"}), connect(cluster.address) as runner:
        if another_comes:
            assert runner.one("quick", abs, -7) == 7
            return
        cancelled: list[str] = []
        monkeypatch.setattr(runner.executor.client, "cancel", lambda futures: cancelled.extend(f.key for f in futures))
        with pytest.raises(ClusterError, match=r"no workers for 3 s\. Finished work is kept"):
            runner.one("quick", abs, -7)
        assert [key.startswith("quick-0-") for key in cancelled] == [True]  # workers that come later do not run it


def test_a_lost_scheduler_is_said_at_once(cluster: DaskProcesses, tmp_path: Path) -> None:
    begun = str(tmp_path / "begun")
    with connect(cluster.address) as runner:

        def end_scheduler() -> None:
            while not os.path.exists(begun):
                time.sleep(0.05)
            assert cluster.scheduler is not None
            kill(cluster.scheduler)

        threading.Thread(target=end_scheduler).start()
        with pytest.raises(ClusterError, match="connection to the Dask scheduler is lost"):
            runner.map("slow", slow, [(begun,)])


def test_a_scheduler_lost_between_two_stages_is_said(cluster: DaskProcesses) -> None:
    def run() -> None:
        with connect(cluster.address) as runner:
            assert cluster.scheduler is not None
            kill(cluster.scheduler)
            runner.map("slow", slow, [("not reached",)])

    with pytest.raises(ClusterError, match="connection to the Dask scheduler is lost"):
        run()


def test_a_scheduler_that_does_not_answer_is_not_waited_for(
    cluster: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cagdask.compute.on_dask._ANSWER_SECONDS", 1)
    begun = str(tmp_path / "begun")
    assert cluster.scheduler is not None
    scheduler = cluster.scheduler.pid

    def stop_scheduler() -> None:
        while not os.path.exists(begun):
            time.sleep(0.05)
        os.kill(scheduler, signal.SIGSTOP)

    threading.Thread(target=stop_scheduler).start()
    with dask.config.set({"cagdask.no-workers-timeout": "3s"}), connect(cluster.address) as runner:
        with pytest.raises(ClusterError, match=r"no workers for 3 s"):
            runner.map("slow", slow, [(begun,)])
        os.kill(scheduler, signal.SIGCONT)


def test_a_task_that_fails_names_stage_and_subject(cluster: DaskProcesses) -> None:
    with (
        connect(cluster.address) as runner,
        pytest.raises(TaskError, match=r"read: the task for sample_7 .*ZeroDivision"),
    ):
        runner.map("read", broken, [("sample_7",)])


# -- launchers -------------------------------------------------------------------------------------------------------


def test_a_slurm_job_is_what_dask_jobqueue_makes_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    made = []

    class Recorded(jobqueue.SLURMCluster):
        def scale(self, n: int) -> None:
            made.append((n, self.job_script()))

    monkeypatch.setattr(jobqueue, "SLURMCluster", Recorded)
    monkeypatch.setattr(launchers.shutil, "which", lambda command: f"/usr/bin/{command}")
    chosen = {"queue": "long", "walltime": "02:00:00", "account": "lab"}
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in chosen.items()}):
        with launchers.launched("slurm", 3, "4GiB"):
            pass
        own = {"scheduler_options": {"dashboard_address": "127.0.0.1:0"}}
        with jobqueue.SLURMCluster(cores=1, processes=1, memory="4096MiB", **own) as direct:
            wanted = direct.job_script()
    n, script = made[0]  # it is scaled to none when it is closed
    assert n == 3
    for line in ("#SBATCH -p long", "#SBATCH -t 02:00:00", "#SBATCH -A lab", "#SBATCH --mem=4G"):
        assert line in script
    strip = [line for line in script.splitlines() if "tcp://" not in line]
    assert strip == [line for line in wanted.splitlines() if "tcp://" not in line]
    assert "--memory-limit 4.00GiB" in script


@pytest.mark.slow  # it waits more than a minute for launchers to give up
def test_a_launcher_that_can_not_work_here_says_so_in_one_line(toy_sheet: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    pytest.importorskip("dask_kubernetes")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n")
    (bin_ / "sbatch").chmod(0o755)
    with_sbatch = {"PATH": f"{bin_}:{os.environ['PATH']}"}
    cases: list[tuple[str, dict[str, str], str]] = [
        ("pbs", {"PATH": "/nowhere"}, "--cluster pbs: this machine has no command qsub"),
        ("slurm", with_sbatch, "--cluster slurm can not start workers: .*sbatch: error: invalid account"),
        ("kubernetes", {"KUBECONFIG": str(tmp_path / "none")}, "no Kubernetes cluster can be reached from here"),
    ]

    def ingest(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        where = ["--cluster", name, "--workers", "1"]
        return run_cagdask("ingest", toy_sheet, "--store", tmp_path / f"{name}.zarr", *where, **environment)

    with ThreadPoolExecutor() as pool:  # they mostly wait
        runs = list(pool.map(ingest, *zip(*((name, environment) for name, environment, _ in cases), strict=True)))
    for ended, (*_, words) in zip(runs, cases, strict=True):
        assert ended.returncode == 1, ended.stderr
        assert re.search(words, ended.stderr), ended.stderr
        assert ended.stderr.count("\n") == 1, ended.stderr
    misused = run_cagdask("ingest", toy_sheet, "--store", tmp_path / "x.zarr", "--cluster", "slurm")
    assert misused.returncode == 2
    assert "add --workers N" in misused.stderr


@pytest.mark.parametrize("address", ["nonsense", "tcp://host", "tls://host:port", "foo://host:8786"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with (
        pytest.raises(ClusterError, match=r"is no address of a Dask scheduler\. Write it as tcp://host:8786"),
        connect(address),
    ):
        pass


def test_other_transports_of_dask_are_left_to_it() -> None:
    for address in ("tcp://10.0.0.1:8786", "tls://[::1]:8786", "inproc://10.0.0.1/9/1"):
        check_address(address)


# dask-jobqueue leaves it to the garbage collector to close what it started; beside other clusters of this process its
# client was once seen to wait for ever, hence slow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_run_on_the_local_cluster_of_dask_jobqueue(
    toy_sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")
    local = launchers.Launcher(
        "dask_jobqueue.local", "LocalCluster", "jobqueue", launchers.LAUNCHERS["slurm"].arguments
    )
    monkeypatch.setitem(launchers.LAUNCHERS, "local", local)
    ds = cagdask.ingest(
        str(toy_sheet), store=str(tmp_path / "a.zarr"), client="local", n_workers=1, memory_limit="2GiB"
    )
    assert ds.sizes == {"gene": 10, "sample": 6}
    assert storage.find_damage(str(tmp_path / "a.zarr")) == []


def test_launchers_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="needs the number of workers"), launchers.launched("slurm", None, "4GiB"):
        pass
    absent = launchers.Launcher("dask_of_nobody", "Cluster", "gateway", lambda name, memory: {})
    monkeypatch.setitem(launchers.LAUNCHERS, "gateway", absent)
    with (
        pytest.raises(ClusterError, match=r"pip install 'cagdask\[gateway\]'"),
        launchers.launched("gateway", 1, "4GiB"),
    ):
        pass


def test_cagdask_is_a_command_of_dask() -> None:
    from importlib.metadata import entry_points

    (plug_in,) = (point for point in entry_points(group="dask_cli") if point.name == "cagdask")
    result = CliRunner().invoke(plug_in.load(), ["--version"])
    assert result.output.startswith("cagdask ")
    ended = subprocess.run(
        [sys.executable, "-m", "dask", "cagdask", "--help"], capture_output=True, text=True, check=True
    )
    assert "cagdask run sample_sheet.json" in ended.stdout


def test_a_worker_whose_memory_stays_high_goes_on() -> None:
    """Dask would pause it at 80 % of its limit, and a worker that has nothing to do frees nothing."""

    def fill(share: float) -> None:
        import builtins
        import time

        import psutil

        wanted = int(share * 700 * 2**20) - psutil.Process().memory_info().rss
        builtins.held = b"x" * wanted  # type: ignore[attr-defined]  # for as long as the worker lives
        time.sleep(1)  # until its memory has been looked at

    with connect(n_workers=1, memory_limit="700MiB") as runner:
        runner.executor.client.submit(fill, 0.88).result(timeout=60)
        assert runner.executor.client.submit(lambda: 7, pure=False).result(timeout=30) == 7
