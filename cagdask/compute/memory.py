"""Bytes, memory budgets, threads, and what a stage used.

A worker's memory limit is shared out before a run: :data:`WORKER_BASE` is for the interpreter and the libraries, and
the arrays of a task may plan at most :data:`TASK_SHARE` of the whole. Nothing here does I/O on data or knows Dask.
"""

from __future__ import annotations

import math
import re
import sys
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

from cagdask.errors import MemoryLimitError

TASK_SHARE = 0.4
"""Share of a worker's memory limit that the arrays of its running tasks may take together."""

WORKER_BASE = 365 * 2**20
"""Bytes that a worker takes with all libraries and compiled kernels loaded and no data (measured: 330 to 360 MiB)."""

HIGHEST_SHARE = 0.85
"""Share of the limit that base and arrays together may reach; Dask restarts a worker at 0.95."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str | int) -> int:
    """Bytes of ``"4GiB"``, ``"512 MB"`` or a plain number.

    Raises
    ------
    ValueError
        It is none of these, or not positive.
    """
    if isinstance(text, int):
        n = text
    else:
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?\s*", text.lower())
        if not match or match[2] not in _UNITS:
            raise ValueError(f"{text!r} is not a size; write it as 4GiB or 500MB.")
        n = int(float(match[1]) * _UNITS[match[2]])
    if n <= 0:
        raise ValueError(f"{text!r} is not a size; it must be above 0.")
    return n


def format_bytes(n: float) -> str:
    """``n`` bytes for people: ``"1.5 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def tasks_at_once(n_threads: int, n_workers: int) -> int:
    """Tasks that share the memory of a worker, of ``n_threads`` tasks over ``n_workers`` workers."""
    return max(1, n_threads // max(1, n_workers))


def task_budget(memory_limit: int, tasks_at_once: int = 1) -> int:
    """Bytes that the arrays of one task may take on a worker.

    Parameters
    ----------
    memory_limit
        Bytes of the worker.
    tasks_at_once
        Tasks that share it.
    """
    spare = min(memory_limit * TASK_SHARE, memory_limit * HIGHEST_SHARE - WORKER_BASE)
    return max(1, int(spare / tasks_at_once))


def check_fits(stage: str, task_bytes: int, what: str, memory_limit: int, tasks_at_once: int = 1) -> None:
    """Refuse a stage whose worst task does not fit a worker, before any work.

    Raises
    ------
    MemoryLimitError
        Naming the stage, ``what`` it works on, what it needs, and the memory limit that suffices.
    """
    budget = task_budget(memory_limit, tasks_at_once)
    if task_bytes <= budget:
        return
    together = task_bytes * tasks_at_once
    enough = max(together / TASK_SHARE, (together + WORKER_BASE) / HIGHEST_SHARE)
    raise MemoryLimitError(
        f"{stage}: one task needs {format_bytes(task_bytes)} for {what}, but a worker of {format_bytes(memory_limit)} "
        f"gives its tasks {format_bytes(budget)}. Use `memory_limit='{math.ceil(enough / 2**20)}MiB'` or more."
    )


_of_thread = threading.local()


def set_task_threads(n: int) -> None:
    """Say how many threads libraries may use inside the tasks that the calling thread runs."""
    _of_thread.n = n


def task_threads() -> int:
    """Threads that FAISS may use in the running task; it keeps its own number per calling thread."""
    return int(getattr(_of_thread, "n", 1))


def one_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS uses one thread: small products take longer on two, which wait for each other."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


def limited_threads(n: int) -> AbstractContextManager[Any]:
    """A context in which the libraries of this process that have threads use ``n`` of them."""
    limited: AbstractContextManager[Any] = _libraries_among(len(sys.modules)).limit(limits=n)
    return limited


def _libraries() -> ThreadpoolController:
    """The libraries of this process that have threads."""
    import scipy.linalg.cython_blas  # noqa: F401  # that of compiled kernels, which must be there to be found

    return _libraries_among(len(sys.modules))


@lru_cache(maxsize=1)
def _libraries_among(n_modules: int) -> ThreadpoolController:
    """Find them: it takes 4 ms, which each small stage would pay. Only an import can bring another one."""
    return ThreadpoolController()


@dataclass
class StageUsage:
    """What one stage of a run used.

    Attributes
    ----------
    stage
        Its name.
    n_tasks
        Tasks that ran now; those found finished by a resumed run are not counted.
    wall_seconds
        From submission to the last result.
    cpu_seconds
        Processor time of its tasks, over all workers.
    peak_bytes
        Largest resident memory of a worker process while it ran one of its tasks.
    """

    stage: str
    n_tasks: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def reset_peak() -> None:
    """Start a new measurement of this process's peak memory, where the system can (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as handle:
            handle.write("5")
    except OSError:
        pass


def peak_bytes() -> int:
    """Peak resident memory of this process, since :func:`reset_peak` where the system can tell."""
    try:
        with open("/proc/self/status") as handle:
            for line in handle:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
