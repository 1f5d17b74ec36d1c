"""Workers that cagdask starts on this machine: only their owner can reach them, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed.comm import core as comm_core

from cagdask import storage
from cagdask.compute.connect import connect
from cagdask.compute.local_cluster import certificate
from cagdask.compute.progress import Reporter, reporting
from cagdask.compute.runner import Runner
from cagdask.errors import ClusterError
from cagdask.reports.beside import report_beside
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

TRY = """
import sys
from distributed import Client
try:
    client = Client(sys.argv[1], timeout="5s")
except (OSError, TimeoutError) as err:
    print("refused", type(err).__name__)
else:
    print("connected", client.run_on_scheduler(lambda: __import__("os").environ.get("HOME")))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        with connect(n_workers=1, memory_limit="1GiB") as runner:
            yield runner
        assert list(Path(tempfile.gettempdir()).iterdir()) == [], "all of it is gone at the end"


def own_processes() -> list[psutil.Process]:
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def test_every_port_is_on_loopback_only_and_encrypted(cluster: Runner) -> None:
    info = cluster.executor.client.scheduler_info(n_workers=-1)
    addresses = [info["address"], *info["workers"], *(one["nanny"] for one in info["workers"].values())]
    assert all(address.startswith("tls://127.0.0.1:") for address in addresses), addresses
    listening = {
        one.laddr.ip
        for process in own_processes()
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("protocol", ["tcp", "tls"])
def test_whoever_has_no_certificate_of_the_run_is_refused(cluster: Runner, protocol: str) -> None:
    """By the scheduler, the workers and those that watch them; with the certificate all of them answer."""
    info = cluster.executor.client.scheduler_info(n_workers=-1)
    foreign = certificate().get_connection_args("client") if protocol == "tls" else {}
    own = cluster.executor.client.security.get_connection_args("client")
    for address in (info["address"], *info["workers"], *(one["nanny"] for one in info["workers"].values())):
        asyncio.run(greet(address, own))
        with pytest.raises(OSError, match=r"Timed out|in <|TLS certificate does not match"):
            asyncio.run(greet(address.replace("tls://", f"{protocol}://"), foreign))


async def greet(address: str, arguments: dict[str, Any]) -> None:
    """Connect as Dask does, with its handshake."""
    comm = await comm_core.connect(address, timeout=2, **arguments)
    comm.abort()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
def test_another_user_can_not_connect_and_sees_no_folder(cluster: Runner) -> None:
    """With a Python that this user can run, where there is one."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    address = cluster.executor.client.scheduler_info(n_workers=-1)["address"].replace("tls://", "")
    host, port = address.split(":")
    talk = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 5 head -c 100 <&3 | wc -c"
    hello = f"exec 3<>/dev/tcp/{host}/{port} && {talk}"
    ended = subprocess.run([*other, "bash", "-c", hello], capture_output=True, text=True, check=False)
    assert int(ended.stdout or 0) < 20, "no more than an alert of TLS"
    (folder,) = Path(tempfile.gettempdir()).iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert subprocess.run([*other, "ls", str(folder)], capture_output=True, check=False).returncode != 0
    for process in own_processes():
        read = subprocess.run([*other, "cat", f"/proc/{process.pid}/environ"], capture_output=True, check=False)
        assert read.stdout == b""
    tried = subprocess.run(
        [*other, sys.executable, "-c", TRY, f"tcp://{address}"],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": "/nonexistent", "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "connected" not in tried.stdout
    if tried.returncode == 0:  # this user can run the same Python
        assert tried.stdout.startswith("refused")


def test_no_key_is_in_a_file_or_on_a_command_line(cluster: Runner) -> None:
    secret = cluster.executor.client.security.tls_client_key
    assert "PRIVATE KEY" in secret
    line = secret.splitlines()[1]
    for process in own_processes():
        assert line not in " ".join(process.cmdline())
        assert line not in str(process.environ())
    for path in Path(tempfile.gettempdir()).rglob("*"):
        assert not path.is_file() or line.encode() not in path.read_bytes()


def served(address: str, path: str) -> bool:
    with suppress(urllib.error.HTTPError):
        return bool(urllib.request.urlopen(f"http://{address}/{path}", timeout=10).status == 200)
    return False


@pytest.mark.parametrize("asked", [False, True])
def test_the_dashboard_is_off_unless_it_is_asked_for(asked: bool) -> None:
    """It speaks plain HTTP, and every user of the machine could look at it. What stays says that a process is there."""
    said: list[str] = []

    class Heard(Reporter):
        def message(self, text: str) -> None:
            said.append(text)

    with (
        dask.config.set({"cagdask.dashboard": True} if asked else {}),
        reporting(Heard()),
        connect(n_workers=1, memory_limit="1GiB") as runner,
    ):
        address = runner.executor.client.dashboard_link.split("/")[2]
        assert address.startswith("127.0.0.1:")
        assert served(address, "health")
        pages = ("status", "info/main/workers.html", "json/counts.json", "metrics", "api/v1/get_workers")
        assert any(served(address, page) for page in pages) == asked
    assert any(line.startswith("Dask dashboard") for line in said) == asked


def test_no_process_is_started_with_a_secret_and_workers_have_it(s3: S3Server, s3_url: str) -> None:
    """Also the worker that comes in place of one that died, and the process that makes a report."""
    storage.write_bytes(f"{s3_url}/a", b"found")
    looked: list[str] = []
    of_other_tests = set(psutil.Process().children(recursive=True))

    def look() -> None:
        for process in set(psutil.Process().children(recursive=True)) - of_other_tests:
            with suppress(psutil.NoSuchProcess):
                looked.append(" ".join(process.cmdline()))
                told = Path(f"/proc/{process.pid}/environ").read_text()
                assert SECRET_KEY not in looked[-1] + told, looked[-1]
                assert ACCESS_KEY not in looked[-1] + told, looked[-1]

    with report_beside(), connect(n_workers=1, memory_limit="1GiB") as runner:
        client = runner.executor.client
        for _ in range(2):
            assert client.submit(storage.read_bytes, f"{s3_url}/a", pure=False).result(timeout=60) == b"found"
            look()
            (worker,) = client.run(os.getpid).values()
            os.kill(worker, signal.SIGKILL)
        assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET_KEY, "this process keeps what it was given"
    assert sum("multiprocessing.spawn" in line for line in looked) >= 2
    assert any("cagdask.reports.beside" in line for line in looked)


def test_a_configuration_that_requires_encryption_is_met() -> None:
    with (
        dask.config.set({"distributed.comm.require-encryption": True}),
        connect(n_workers=1, memory_limit="1GiB") as runner,
    ):
        assert runner.executor.client.submit(lambda: 7).result(timeout=60) == 7


def test_workers_that_can_not_be_started_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        dask.config.set({"distributed.worker.preload": ["no_such_module_of_anybody"]}),
        pytest.raises(ClusterError, match=r"worker processes can not be started on this machine .*`n_workers=0`"),
        connect(n_workers=1, memory_limit="1GiB"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can take /dev/shm away")
def test_a_machine_without_shared_memory_is_told_what_to_do(toy_sheet: Path, tmp_path: Path) -> None:
    hide = "mount -t tmpfs -o ro tmpfs /dev/shm"
    command = f"{sys.executable} -m cagdask ingest {toy_sheet} --store {tmp_path}/a.zarr --no-progress --workers"
    for workers, code in (("1", 1), ("0", 0)):
        run = ["unshare", "--mount", "sh", "-c", f"{hide} && exec {command} {workers}"]
        ended = subprocess.run(run, capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stderr
        if code:
            assert ended.stderr.count("\n") == 1
            assert "/dev/shm" in ended.stderr
            assert "--workers 0" in ended.stderr
