"""What runs the tasks of a stage: an executor, and what it tells of each task.

    Runner --stage, function, items--> Executor --one Outcome per task, as they end--> Runner

There are two: :class:`cagdask.compute.in_process.InProcess` has threads in this process, and
:class:`cagdask.compute.on_dask.OnDask` has workers of a Dask cluster. Either limits the threads of libraries in a task,
and measures time and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from cagdask import storage
from cagdask.errors import CagdaskError, TaskError

_SHOWN = 120  # characters of a task's arguments in a message

Item = tuple[Any, ...]
"""Arguments of a task: small, and as JSON can hold them."""


@dataclass(frozen=True)
class Outcome:
    """What a task returned, and what it used.

    Attributes
    ----------
    result
        What the function returned.
    cpu_seconds
        Processor time.
    peak_bytes
        Largest resident memory of the process while the task ran.
    """

    result: Any
    cpu_seconds: float
    peak_bytes: int


class Executor(Protocol):
    """Runs tasks, somewhere.

    Attributes
    ----------
    n_workers, n_threads
        Processes, and tasks that run at once over all of them.
    memory_limit
        Bytes of the process with the least.
    shares_memory
        Whether tasks run in the process that calls, so that the two can not be measured apart.
    """

    n_workers: int
    n_threads: int
    memory_limit: int
    shares_memory: bool

    def execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[Item], waiting: Sequence[int]
    ) -> Generator[tuple[int, Outcome], None, None]:
        """Run ``function(*items[i])`` for every ``i`` of ``waiting``; place and outcome, as they end.

        The first task that fails ends it: the others are cancelled, and its error is raised.
        """

    def load(self, module: str) -> None:
        """Begin to import a module of this package where tasks will run, and return at once."""

    def check_reach(self, reads: Sequence[str], writes: Sequence[str]) -> None:
        """Check that tasks can read and write these places, where that is not known."""

    def dask_scheduler(self) -> AbstractContextManager[Any]:
        """Compute Dask arrays within the block where tasks of this executor run."""


def explained(stage: str, item: Item, err: Exception) -> Exception:
    """The error to raise for a task that failed: itself if it was foreseen, else one with stage and subject.

    Parameters
    ----------
    stage
        Name of the stage.
    item
        The arguments of the task.
    err
        What the task raised. If a store that it read is damaged, that is the error.
    """
    if isinstance(err, CagdaskError | OSError):
        return err
    damage = _damage(item)
    if damage is not None:
        return damage
    first = (str(err).strip().splitlines() or ["no message"])[0]
    return TaskError(
        f"{stage}: the task for {_shown(item)} failed with {type(err).__name__}: {first} (-v shows where). "
        "Finished work is kept."
    )


def _damage(item: Item) -> Exception | None:
    """An error that names the damaged files, if a store among a task's arguments has some."""
    for url in {part for part in item if isinstance(part, str) and "/" in part}:
        with suppress(Exception):  # it is about to be said that the task failed
            wrong = storage.find_damage(url)
            if wrong:
                return storage.damaged(url, wrong)
    return None


def _shown(item: Item) -> str:
    """The beginning of a task's arguments, where what it is about stands."""
    text = ", ".join(map(str, item))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
