"""Running the tasks of a stage, and keeping account.

    Runner.map("search", search_block, [(url, 0), (url, 1), ...])

      results of an earlier try  <--- <done>/search/7.json
      all others                 ---> executor: threads of this process, or Dask workers
      each outcome               ---> <done>/search/7.json, progress, usage

Arrays never pass here: a task gets URLs and numbers, writes files that it alone owns, and returns something small that
JSON can hold. That makes every stage resumable: the result of each finished task is kept in the work folder, and a task
whose result is there does not run again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cagdask import storage
from cagdask.compute import memory
from cagdask.compute.executor import Executor, Item
from cagdask.compute.finished_tasks import Answers
from cagdask.compute.progress import reporter

logger = logging.getLogger(__name__)


@dataclass
class Runner:
    """Runs stages on an executor and keeps account of what they use.

    Attributes
    ----------
    executor
        Where tasks run.
    usage
        One entry per stage, in order.
    """

    executor: Executor
    usage: list[memory.StageUsage] = field(default_factory=list)

    @property
    def n_workers(self) -> int:
        """Worker processes."""
        return self.executor.n_workers

    @property
    def n_threads(self) -> int:
        """Tasks that run at once, over all workers."""
        return self.executor.n_threads

    @property
    def memory_limit(self) -> int:
        """Bytes of the smallest worker."""
        return self.executor.memory_limit

    @property
    def in_process(self) -> bool:
        """Whether tasks run in this process."""
        return self.executor.shares_memory

    @property
    def tasks_at_once(self) -> int:
        """Tasks that share the memory of a worker."""
        return memory.tasks_at_once(self.n_threads, self.n_workers)

    @property
    def task_budget(self) -> int:
        """Bytes that the arrays of one task may take: its share of its worker's limit."""
        return memory.task_budget(self.memory_limit, self.tasks_at_once)

    def check_fits(self, stage: str, task_bytes: int, what: str) -> None:
        """Refuse a stage whose worst task does not fit a worker, before any work.

        Raises
        ------
        MemoryLimitError
            As :func:`cagdask.compute.memory.check_fits` says.
        """
        memory.check_fits(stage, task_bytes, what, self.memory_limit, self.tasks_at_once)

    def map(
        self,
        stage: str,
        function: Callable[..., Any],
        items: Sequence[Item],
        *,
        done: str | None = None,
        unit: str = "tasks",
        weights: Sequence[int] | None = None,
    ) -> list[Any]:
        """Run ``function(*item)`` for every item; results in the order of the items.

        Parameters
        ----------
        stage
            Name for progress, usage and the kept results.
        function
            A function of this package. Must be safe to run twice, and return what JSON can hold.
        items
            Arguments, small and JSON-able.
        done
            Folder for results of finished tasks; a task whose result is there is not run. None keeps none.
        unit, weights
            What the progress bar counts, and how much of it each item is (default 1 each).

        Raises
        ------
        Exception
            What the first failing task raised. The others are cancelled.
        ClusterError
            The workers are gone, or the same task killed several of them.
        """
        weights = weights or [1] * len(items)
        results: list[Any] = [None] * len(items)
        begun = time.perf_counter()
        used = memory.StageUsage(stage)
        folder = storage.join(done, stage.replace(" ", "-")) if done else None
        with self._stage(stage, sum(weights), unit), Answers(folder) as answers:
            kept = answers.found(items)
            for i, result in kept.items():
                results[i] = result
                reporter().advance(weights[i])
            waiting = [i for i in range(len(items)) if i not in kept]
            with closing(self.executor.execute(stage, function, items, waiting)) as outcomes:  # at once, if it fails
                for i, outcome in outcomes:
                    results[i] = outcome.result
                    used.n_tasks += 1
                    used.cpu_seconds += outcome.cpu_seconds
                    used.peak_bytes = max(used.peak_bytes, outcome.peak_bytes)
                    answers.keep(i, items[i], outcome.result, outcome.cpu_seconds)
                    reporter().advance(weights[i])
        used.wall_seconds = time.perf_counter() - begun
        self.usage.append(used)
        logger.info("%s: %d tasks, %.1f s, %.1f CPU-s", stage, used.n_tasks, used.wall_seconds, used.cpu_seconds)
        return results

    def one(self, stage: str, function: Callable[..., Any], *item: Any, done: str | None = None) -> Any:
        """Run a single task as a stage of its own."""
        return self.map(stage, function, [item], done=done)[0]

    def load(self, module: str) -> None:
        """Begin to import a module of this package where tasks will run, and return at once."""
        self.executor.load(module)

    def check_reach(self, reads: Sequence[str], writes: Sequence[str]) -> None:
        """Ask workers that somebody else started whether they reach these places.

        Raises
        ------
        ClusterError
            One does not; names it and the place.
        """
        self.executor.check_reach(reads, writes)

    def dask_scheduler(self) -> AbstractContextManager[Any]:
        """Compute Dask arrays within the block where tasks run."""
        return self.executor.dask_scheduler()

    @contextmanager
    def _stage(self, stage: str, total: int, unit: str) -> Iterator[None]:
        reporter().start(stage, total, unit)
        try:
            yield
        finally:
            reporter().finish()
