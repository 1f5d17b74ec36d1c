"""How many cores and how much memory this process is allowed to use, which may be less than the machine has.

    machine            /sys/devices/system/cpu/online, /proc/meminfo
    affinity           taskset, a cpuset                 --> cores
    cgroup v2 and v1   containers, systemd, batch jobs   --> cores and memory, of the group and of all groups above it
    job variables      SLURM, PBS, LSF, SGE              --> cores and memory

The least of them counts. All are read below a root folder, so that tests can hand in a made-up tree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cagdask.compute.memory import format_bytes

USED_SHARE = 0.9
"""Share of the allowed memory that workers may be given: the rest is for the process that starts them."""
LEAST_WORKER = 2**30
"""Bytes below which a further worker is of no use: libraries alone take a third of it."""
_MIB = 2**20
_CORE_VARIABLES = ("SLURM_CPUS_PER_TASK", "PBS_NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS")
"""Cores of a job, by the batch system that says them; SLURM also has one per node."""


@dataclass(frozen=True)
class Limit:
    """A number, and who says it: ``"cgroup"``, ``"affinity"``, the name of a variable, ``"machine"``."""

    n: int
    by: str


@dataclass(frozen=True)
class Allowed:
    """What this process may use.

    Attributes
    ----------
    cores, memory
        Cores, 1 or more; bytes.
    n_machine
        Cores of the machine.
    """

    cores: Limit
    memory: Limit
    n_machine: int

    @property
    def line(self) -> str:
        """``"1 of 16 cores allowed (cgroup), 2.0 GiB of memory (cgroup)"``; empty where nothing is limited."""
        said = []
        if self.cores.n < self.n_machine:
            said.append(f"{self.cores.n} of {self.n_machine} cores allowed ({self.cores.by})")
        if self.memory.by != "machine":
            said.append(f"{format_bytes(self.memory.n)} of memory{'' if said else ' allowed'} ({self.memory.by})")
        return ", ".join(said)

    def n_workers(self, most: int) -> int:
        """Worker processes to start: one per core, and none with less than :data:`LEAST_WORKER`."""
        return max(1, min(most, self.cores.n, int(self.memory.n * USED_SHARE) // LEAST_WORKER))

    def worker_memory(self, wanted: int, n_workers: int) -> int:
        """Bytes for each of ``n_workers``: as wanted, or an equal share of what is allowed."""
        return min(wanted, max(1, int(self.memory.n * USED_SHARE) // n_workers))


def allowed(root: str | Path = "/", environment: Mapping[str, str] | None = None) -> Allowed:
    """Read what is allowed.

    Parameters
    ----------
    root
        Folder that holds ``proc`` and ``sys``.
    environment
        Variables of the job; by default those of this process.

    Returns
    -------
    Allowed
        The least of all limits that are found. A limit that can not be read is none.
    """
    root = Path(root)
    variables = os.environ if environment is None else environment
    machine = _machine_cores(root)
    cores = [Limit(machine, "machine")]
    affinity = _affinity(root)
    cores += [Limit(affinity, "affinity")] if affinity else []
    cores += [Limit(max(1, int(quota)), "cgroup") for quota in _quotas(root)]
    cores += _job_cores(variables)
    memory = [Limit(_machine_memory(root), "machine")]
    memory += [Limit(n, "cgroup") for n in _group_memory(root)]
    memory += _job_memory(variables, min(cores, key=lambda limit: limit.n).n)
    return Allowed(
        cores=min(cores, key=lambda limit: limit.n),
        memory=min(memory, key=lambda limit: limit.n),
        n_machine=machine,
    )


# -- the machine -----------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _count(ranges: str) -> int:
    """Numbers in ``"0-3,8,10-11"``."""
    found = re.findall(r"(\d+)(?:-(\d+))?", ranges)
    return sum(int(last or first) - int(first) + 1 for first, last in found)


def _machine_cores(root: Path) -> int:
    return _count(_text(root / "sys/devices/system/cpu/online")) or os.cpu_count() or 1


def _machine_memory(root: Path) -> int:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _affinity(root: Path) -> int:
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)", _text(root / "proc/self/status"), re.MULTILINE)
    if found:
        return _count(found[1])
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return 0


# -- cgroups ---------------------------------------------------------------------------------------------------------


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """Controllers and path of each group of this process; no controllers: version 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[1], parts[2]


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups of this process that may limit it, in both versions, from the inner one to the root.

    In a container the path is often that of the host, and only the root of the mount is there.
    """
    mount = root / "sys/fs/cgroup"
    for controllers, path in _groups(root):
        named = controllers.split(",")
        if controllers and controller not in named:
            continue
        tops = [mount / controllers, mount / controller] if controllers else [mount, mount / "unified"]
        for top in tops:
            inner = Path(path.strip("/"))
            yield from (top / part for part in (inner, *inner.parents) if (top / part).is_dir())


def _quotas(root: Path) -> Iterator[float]:
    """Cores that the groups of this process may use, as quota over period."""
    for folder in _folders(root, "cpu"):
        words = _text(folder / "cpu.max").split()
        if not words:
            words = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
        with suppress(ValueError, ZeroDivisionError, IndexError):  # "max": no quota
            cores = int(words[0]) / int(words[1])
            if cores > 0:  # -1: no quota
                yield cores


def _group_memory(root: Path) -> Iterator[int]:
    """Bytes that the groups of this process may use."""
    for folder in _folders(root, "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            with suppress(ValueError):  # "max": no limit; version 1 has a number of 8 EiB for it
                yield int(_text(folder / name))


# -- jobs ------------------------------------------------------------------------------------------------------------


def _number(text: str | None) -> int:
    """A number of a variable; 0 where it says none."""
    found = re.fullmatch(r"\s*(\d+)\s*(\(x\d+\))?\s*", text or "")
    return int(found[1]) if found else 0


def _job_cores(variables: Mapping[str, str]) -> list[Limit]:
    names = list(_CORE_VARIABLES)
    if not _number(variables.get("SLURM_CPUS_PER_TASK")):
        names.append("SLURM_CPUS_ON_NODE")
    found = [(name, _number(variables.get(name))) for name in names]
    return [Limit(n, name) for name, n in found if n]


def _job_memory(variables: Mapping[str, str], n_cores: int) -> list[Limit]:
    """Memory of a SLURM job, which counts MiB; 0 means all of the node."""
    per_node, per_core = (_number(variables.get(name)) for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"))
    found = [Limit(per_node * _MIB, "SLURM_MEM_PER_NODE")] if per_node else []
    return found + ([Limit(per_core * n_cores * _MIB, "SLURM_MEM_PER_CPU")] if per_core else [])
