"""Machines and environments that lack something: it works without, or one line says what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

import cagdask
from cagdask.compute import kernel_cache
from cagdask.compute.connect import connect
from cagdask.errors import ClusterError
from cagdask.storage import s3
from tests.interrupted import digests

PACKAGE = Path(cagdask.__file__).parent


def test_an_asynchronous_client_is_refused_in_words() -> None:
    async def try_it() -> None:
        async with (
            LocalCluster(n_workers=1, processes=False, dashboard_address=None, asynchronous=True) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            with pytest.raises(ClusterError, match=r"is an asynchronous Client.*await asyncio\.to_thread"):
                n_workers(client)
            assert await asyncio.to_thread(n_workers, client) == 1, "as the message says"
        assert s3.in_driver, "a worker in this process does not make it a worker, which asks a dead server for minutes"

    asyncio.run(try_it())


def n_workers(client: Client) -> int:
    with connect(client) as runner:
        return runner.n_workers


def test_optimized_python_gives_the_same(toy_sheet: Path, tmp_path: Path) -> None:
    """Zarr does needed work in an assertion, which Python leaves out with PYTHONOPTIMIZE."""
    for optimize in ("", "1"):
        command = [sys.executable, "-m", "cagdask", "cluster", str(toy_sheet), "--output", f"{tmp_path}/out{optimize}"]
        environment = os.environ | {"PYTHONOPTIMIZE": optimize}
        ended = subprocess.run(
            [*command, "--max-dist", "0.2", "--no-progress"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    assert digests(tmp_path / "out1") == digests(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can mount read-only")
def test_kernels_compile_where_neither_package_nor_home_can_be_written(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    read_only = [f"mount --bind {path} {path} && mount -o remount,ro,bind {path}" for path in (PACKAGE, home)]
    code = "import cagdask.engine.rows.sums, numba; print(numba.config.CACHE_DIR)"
    command = " && ".join([*read_only, f'exec {sys.executable} -c "{code}"'])
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(temporary)}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    (folder,) = temporary.iterdir()
    assert ended.stdout.strip() == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_of_kernels_that_others_can_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = kernel_cache._private_folder()
    assert kernel_cache._private_folder() == first
    os.chmod(first, 0o777)
    second = kernel_cache._private_folder()
    assert second != first
    assert stat.S_IMODE(os.stat(second).st_mode) == 0o700
