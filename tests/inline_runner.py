"""A runner without a cluster: tasks run here, one after the other, with arguments as JSON would bring them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from distributed import Client

from cagdask.compute.memory import HIGHEST_SHARE, WORKER_BASE
from cagdask.compute.runner import Runner, _measured


def memory_for(task_bytes: int) -> int:
    """The memory limit of a worker that leaves a task about this many bytes, however few."""
    return math.ceil((task_bytes + WORKER_BASE) / HIGHEST_SHARE) + 1


class InlineRunner(Runner):
    """Same stages, same kept answers as the real one; quick, and open to monkeypatching."""

    def __init__(self, memory_limit: int = 2**30, n_threads: int = 1) -> None:
        super().__init__(client=cast(Client, None), n_workers=n_threads, n_threads=n_threads, memory_limit=memory_limit)
        self.calls: list[tuple[str, int]] = []
        self.loaded: list[str] = []

    def load(self, module: str) -> None:
        """There is nobody else to import it; kept is that it was asked for."""
        self.loaded.append(module)

    def _execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], waiting: list[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in waiting:
            self.calls.append((stage, i))
            answer = _measured(function, tuple(json.loads(json.dumps(items[i]))), 1)
            if "error" in answer:
                raise answer["error"]
            yield i, json.loads(json.dumps(answer))
