"""Cores and memory that are allowed: made-up trees of /proc and /sys, and the real things where they can be made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cagdask.compute.allowed import Limit, allowed

GIB = 2**30
HOST = {
    "sys/devices/system/cpu/online": "0-15\n",
    "proc/meminfo": f"MemTotal:       {64 * 2**20} kB\nMemFree: 1 kB\n",
    "proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-15\n",
    "proc/self/cgroup": "0::/\n",
}
V1_UNLIMITED = {
    "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:cpuset:/\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
}


def tree(folder: Path, *parts: dict[str, str]) -> Path:
    for name, text in {k: v for part in (HOST, *parts) for k, v in part.items()}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "variables", "cores", "memory", "line"),
    [
        ({}, {}, Limit(16, "machine"), Limit(64 * GIB, "machine"), ""),
        (
            {"proc/self/status": "Cpus_allowed_list:\t0,4-5\n"},
            {},
            Limit(3, "affinity"),
            Limit(64 * GIB, "machine"),
            "3 of 16 cores allowed (affinity)",
        ),
        (  # a container that sees its own group as the root
            {"sys/fs/cgroup/cpu.max": "100000 100000\n", "sys/fs/cgroup/memory.max": f"{2 * GIB}\n"},
            {},
            Limit(1, "cgroup"),
            Limit(2 * GIB, "cgroup"),
            "1 of 16 cores allowed (cgroup), 2.0 GiB of memory (cgroup)",
        ),
        (  # a group inside of one that allows less; less than a core is one
            {
                "proc/self/cgroup": "0::/slice/job\n",
                "sys/fs/cgroup/slice/job/cpu.max": "max 100000\n",
                "sys/fs/cgroup/slice/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/slice/job/memory.max": "max\n",
                "sys/fs/cgroup/slice/job/memory.high": f"{3 * GIB}\n",
                "sys/fs/cgroup/slice/memory.max": f"{5 * GIB}\n",
            },
            {},
            Limit(1, "cgroup"),
            Limit(3 * GIB, "cgroup"),
            "1 of 16 cores allowed (cgroup), 3.0 GiB of memory (cgroup)",
        ),
        (V1_UNLIMITED, {}, Limit(16, "machine"), Limit(64 * GIB, "machine"), ""),
        (  # version 1, with the path of the host, which is not there
            V1_UNLIMITED
            | {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            },
            {},
            Limit(2, "cgroup"),
            Limit(2 * GIB, "cgroup"),
            "2 of 16 cores allowed (cgroup), 2.0 GiB of memory (cgroup)",
        ),
        (
            V1_UNLIMITED | {"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{GIB}\n"},
            {},
            Limit(16, "machine"),
            Limit(GIB, "cgroup"),
            "1.0 GiB of memory allowed (cgroup)",
        ),
        (
            {},
            {"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "8192"},
            Limit(4, "SLURM_CPUS_PER_TASK"),
            Limit(8 * GIB, "SLURM_MEM_PER_NODE"),
            "4 of 16 cores allowed (SLURM_CPUS_PER_TASK), 8.0 GiB of memory (SLURM_MEM_PER_NODE)",
        ),
        (  # of a job: all memory of the node
            {},
            {"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "0"},
            Limit(8, "SLURM_CPUS_ON_NODE"),
            Limit(64 * GIB, "machine"),
            "8 of 16 cores allowed (SLURM_CPUS_ON_NODE)",
        ),
        (
            {},
            {"SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_CPU": "1024"},
            Limit(2, "SLURM_CPUS_PER_TASK"),
            Limit(2 * GIB, "SLURM_MEM_PER_CPU"),
            "2 of 16 cores allowed (SLURM_CPUS_PER_TASK), 2.0 GiB of memory (SLURM_MEM_PER_CPU)",
        ),
        ({}, {"LSB_DJOB_NUMPROC": "6"}, Limit(6, "LSB_DJOB_NUMPROC"), Limit(64 * GIB, "machine"), None),
        ({}, {"SLURM_CPUS_PER_TASK": "many"}, Limit(16, "machine"), Limit(64 * GIB, "machine"), ""),
        (  # a job that was given more than the machine has left
            {"sys/fs/cgroup/cpu.max": "300000 100000\n"},
            {"SLURM_CPUS_PER_TASK": "64"},
            Limit(3, "cgroup"),
            Limit(64 * GIB, "machine"),
            None,
        ),
        (
            {"sys/fs/cgroup/cpu.max": "nonsense\n", "sys/fs/cgroup/memory.max": "x\n"},
            {},
            Limit(16, "machine"),
            None,
            "",
        ),
    ],
)
def test_the_least_limit_counts_and_is_named(
    tmp_path: Path,
    files: dict[str, str],
    variables: dict[str, str],
    cores: Limit,
    memory: Limit | None,
    line: str | None,
) -> None:
    found = allowed(tree(tmp_path, files), variables)
    assert found.cores == cores
    assert memory is None or found.memory == memory
    assert line is None or found.line == line


def test_workers_fit_what_is_allowed(tmp_path: Path) -> None:
    limits = {"sys/fs/cgroup/memory.max": f"{8 * GIB}\n"}
    found = allowed(tree(tmp_path, limits), {})
    assert found.n_workers(16) == 7
    assert found.worker_memory(4 * GIB, 7) * 7 <= 0.9 * 8 * GIB
    assert found.worker_memory(GIB, 7) == GIB
    tiny = allowed(tree(tmp_path, {"sys/fs/cgroup/memory.max": f"{GIB // 2}\n"}), {})
    assert tiny.n_workers(16) == 1


# -- real limits -----------------------------------------------------------------------------------------------------

WORKERS = """
from cagdask.compute.connect import connect
from cagdask.compute.progress import Reporter, reporting
class Said(Reporter):
    def message(self, text):
        print(text)
if __name__ == "__main__":
    with reporting(Said()), connect() as runner:
        print(runner.n_workers, runner.n_threads, runner.memory_limit)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process may use one core only")
def test_a_run_on_one_core_uses_one(toy_sheet: Path, tmp_path: Path) -> None:
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, "-m", "cagdask", "run", str(toy_sheet), "--output"]
    ended = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Computing in this process, 1 thread (" in ended.stderr
    assert f"1 of {os.cpu_count()} cores allowed (affinity)" in ended.stderr


def test_workers_of_a_limited_process_are_as_many_and_as_large_as_allowed(group: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    enter = "".join(f"echo $$ > {folder}/cgroup.procs; " for folder in [group / "cpu", group / "memory"])
    command = ["sh", "-c", f"{enter}exec {sys.executable} {script}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said, *_, numbers = ended.stdout.splitlines()
    n_cores = os.cpu_count()
    assert said == f"1 worker of 1.8 GiB: 1 of {n_cores} cores allowed (cgroup), 2.0 GiB of memory (cgroup)"
    n_workers, n_threads, memory_limit = map(int, numbers.split())
    assert (n_workers, n_threads) == (1, 1)
    assert memory_limit <= 0.9 * 2 * GIB


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Path]:
    """Folder with ``cpu`` and ``memory``: groups of one core and 2 GiB of this machine."""
    made: list[Path] = []
    mount = Path("/sys/fs/cgroup")
    try:
        for kind, name, value in (
            ("cpu", "cpu.cfs_quota_us", "100000"),
            ("memory", "memory.limit_in_bytes", str(2 * GIB)),
        ):
            folder = mount / kind / f"cagdask-test-{os.getpid()}"
            folder.mkdir()
            made.append(folder)
            (folder / name).write_text(value)
            (tmp_path / kind).symlink_to(folder)
    except OSError as err:
        for folder in made:
            folder.rmdir()
        pytest.skip(f"no group can be made here ({err})")
    yield tmp_path
    until = time.monotonic() + 30  # helpers of Python end a moment after the process that started them
    for folder in made:
        while (folder / "cgroup.procs").read_text() and time.monotonic() < until:
            time.sleep(0.1)
        folder.rmdir()
