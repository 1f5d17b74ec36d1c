"""Tasks in threads of this process: for work that is done before workers would have started.

    caller    puts all tasks into a queue ---> waits for the next outcome <---------------+
    threads   take a task, run it with its share of the cores, put its outcome -----------+

Compiled kernels, FAISS, BLAS, compression and files release Python's lock, so threads share the cores well. Results
are the same bytes as on workers: a task reads and writes files and knows nothing of its neighbors, and what libraries
share by process is set for the whole stage before its first task.
"""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cagdask.compute import memory, settings, signals
from cagdask.compute.executor import Item, Outcome, explained
from cagdask.compute.progress import reporter

_ONE_STAGE = threading.Lock()
"""BLAS has one number of threads for the whole process: two stages with numbers of their own would disturb it."""
_GRACE_SECONDS = 10.0
"""Where a stage is given up, running tasks may end for so long; then they are left behind."""


def default_threads() -> int:
    """Tasks that run at once in this process, unless another number is asked for."""
    return min(settings.MAX_WORKERS, settings.n_cores())


class InProcess:
    """Threads of this process as an executor.

    Parameters
    ----------
    memory_limit
        Bytes that the process is meant to use, as an integer or text such as ``"4GiB"``.
    n_threads
        Tasks that run at once; by default one per core, 16 at most.
    """

    shares_memory = True

    def __init__(self, memory_limit: str | int = settings.DEFAULT_MEMORY, n_threads: int | None = None) -> None:
        self.n_workers = 1
        self.n_threads = n_threads or default_threads()
        self.memory_limit = memory.parse_bytes(memory_limit)

    def load(self, module: str) -> None:
        """Nothing to do ahead: tasks import it here."""

    def check_reach(self, reads: Sequence[str], writes: Sequence[str]) -> None:
        """Nothing to ask: this process has looked already."""

    @contextmanager
    def dask_scheduler(self) -> Iterator[None]:
        """Compute Dask arrays in threads of this process."""
        import dask

        with dask.config.set(scheduler="threads", num_workers=self.n_threads):
            yield

    def execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[Item], waiting: Sequence[int]
    ) -> Generator[tuple[int, Outcome], None, None]:
        """Run tasks in as many threads as there are tasks, cores at most; outcomes as they end.

        Each task has one thread of FAISS and BLAS, a lone one too: their products are small, and two threads wait for
        each other for longer than they save (measured: twice the processor time, no less wall time).
        """
        n_threads = max(1, min(self.n_threads, len(waiting)))
        with _ONE_STAGE, memory.limited_threads(1):
            memory.reset_peak()
            threads = _Threads(function, items, waiting, n_threads)
            try:
                yield from _outcomes(stage, items, threads)
            finally:
                threads.stop()
                threads.join()


def _outcomes(stage: str, items: Sequence[Item], threads: _Threads) -> Iterator[tuple[int, Outcome]]:
    """Outcomes as they come. After a failure or Ctrl-C those of the tasks that run still come, and are kept."""
    begun = time.process_time()
    failed: BaseException | None = None
    n_running, until = threads.n, None
    while n_running:
        try:
            i, result, err = threads.ended.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        except KeyboardInterrupt as interrupt:
            if failed is not None:
                raise
            if isinstance(interrupt, signals.Ended):
                until = time.monotonic() + signals.GRACE_SECONDS
            else:
                reporter().message("stopping once the tasks that run have ended; Ctrl-C again to stop now")
            failed = interrupt
            threads.stop()
            continue
        if i is None:
            n_running -= 1
        elif err is not None:
            failed = failed or _raised(stage, items[i], err)
            threads.stop()
        else:
            now = time.process_time()
            yield i, Outcome(result, now - begun, memory.peak_bytes())
            begun = now
    if failed is not None:
        raise failed


def _raised(stage: str, item: Item, err: BaseException) -> BaseException:
    if not isinstance(err, Exception):
        return err
    said = explained(stage, item, err)
    if said is not err:
        said.__cause__ = err
    return said


class _Threads:
    """Threads that take the tasks of a stage in order; each says at its end that it is gone.

    They are daemons: a second Ctrl-C ends the program without waiting for a kernel that runs for minutes.
    """

    def __init__(self, function: Callable[..., Any], items: Sequence[Item], waiting: Sequence[int], n: int) -> None:
        self.n = n
        self.ended: queue.SimpleQueue[tuple[int | None, Any, BaseException | None]] = queue.SimpleQueue()
        self._todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stopped = threading.Event()
        for i in waiting:
            self._todo.put(i)
        self._threads = [threading.Thread(target=self._run, args=(function, items), daemon=True) for _ in range(n)]
        for thread in self._threads:
            thread.start()

    def _run(self, function: Callable[..., Any], items: Sequence[Item]) -> None:
        memory.set_task_threads(1)
        while not self._stopped.is_set():
            try:
                i = self._todo.get_nowait()
            except queue.Empty:
                break
            try:
                # a task owns its arguments, as on a worker: one that changes a list does not change the caller's
                self.ended.put((i, function(*pickle.loads(pickle.dumps(items[i]))), None))
            except BaseException as err:
                self.ended.put((i, None, err))
        self.ended.put((None, None, None))

    def stop(self) -> None:
        """Begin no other task."""
        self._stopped.set()

    def join(self) -> None:
        """Wait for those that run, a while."""
        until = time.monotonic() + _GRACE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
