"""A runner without a cluster: tasks run in one thread of this process, with arguments as JSON would bring them."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

from cagdask.compute.executor import Item, Outcome
from cagdask.compute.in_process import InProcess
from cagdask.compute.memory import HIGHEST_SHARE, WORKER_BASE
from cagdask.compute.runner import Runner


def memory_for(task_bytes: int) -> int:
    """The memory limit of a worker that leaves a task about this many bytes, however few."""
    return math.ceil((task_bytes + WORKER_BASE) / HIGHEST_SHARE) + 1


def with_memory(runner: Runner, memory_limit: int) -> Runner:
    """The same workers, planned for as if they had so much memory."""
    executor = copy.copy(runner.executor)
    executor.memory_limit = memory_limit
    return Runner(executor)


class InlineRunner(Runner):
    """Same stages, same kept results as the real one, and open to monkeypatching.

    Attributes
    ----------
    calls
        Stage and place of each task that was begun, in order.
    loaded
        Modules that were asked for ahead.
    """

    def __init__(self, memory_limit: int = 2**30, n_threads: int = 1) -> None:
        super().__init__(_OneThread(self, memory_limit, n_threads))
        self.calls: list[tuple[str, int]] = []
        self.loaded: list[str] = []

    def load(self, module: str) -> None:
        self.loaded.append(module)

    def begins(self, stage: str, i: int) -> None:
        """A task is about to run."""
        self.calls.append((stage, i))

    def ends(self) -> None:
        """A task has run, and nobody knows yet; tests that stop a run raise here."""


class _OneThread(InProcess):
    """Plans for as many workers as asked, and runs one task after the other, so that tests know the order."""

    def __init__(self, runner: InlineRunner, memory_limit: int, n_planned: int) -> None:
        super().__init__(memory_limit, n_threads=1)
        self.runner = runner
        self.n_workers = self.n_threads = n_planned

    def execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[Item], waiting: Sequence[int]
    ) -> Generator[tuple[int, Outcome], None, None]:
        as_json = [tuple(json.loads(json.dumps(item))) for item in items]
        for i in waiting:
            self.runner.begins(stage, i)
            for _, outcome in super().execute(stage, function, as_json, [i]):
                self.runner.ends()
                yield i, replace(outcome, result=json.loads(json.dumps(outcome.result)))
