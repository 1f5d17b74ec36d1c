"""Tasks on the workers of a Dask cluster.

      driver                           worker
      submits one task per item  --->  sets thread counts, runs the function,
      a window at a time               writes its arrays to the work folder
                          <----------  returns a few numbers

A worker that dies gives its tasks back to the scheduler, which runs them elsewhere. What can not be mended so, such as
a lost scheduler or no workers at all, ends the stage with an error that says what to do.
"""

from __future__ import annotations

import importlib
import itertools
import queue
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, suppress
from typing import Any

import dask
from dask.sizeof import sizeof
from distributed import Client, fire_and_forget
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError
from threadpoolctl import threadpool_limits

from cagdask.compute import checks, memory, settings
from cagdask.compute.executor import Item, Outcome, explained
from cagdask.errors import CagdaskError, ClusterError

_POLL_SECONDS = 1.0
_FETCH_SECONDS = 5  # for a few numbers of a task that ended, before a look at whether there are workers
_ANSWER_SECONDS = 10  # that a scheduler may take to say how many workers it has


@sizeof.register_lazy("faiss")  # type: ignore[untyped-decorator]  # Dask has no types here
def _register_faiss() -> None:
    """Let Dask know how large an index is, wherever one should come before it: it would take it for 56 bytes."""
    import faiss

    @sizeof.register(faiss.Index)  # type: ignore[untyped-decorator]  # nor here
    def index_bytes(index: Any) -> int:
        inner = getattr(index, "index", None)  # of one that only maps what another one holds
        if isinstance(inner, faiss.Index):
            return int(sizeof(inner))
        try:
            per_row = index.sa_code_size()
        except RuntimeError:  # no code of its own
            per_row = 4 * index.d
        links = 4 * index.hnsw.neighbors.size() if hasattr(index, "hnsw") else 0
        return int(index.ntotal * per_row + links)


class OnDask:
    """A Dask client as an executor.

    Parameters
    ----------
    client
        Connected, with at least one worker.
    is_given
        Whether somebody else started the workers, maybe on other machines.

    Raises
    ------
    ClusterError
        The workers have gone.
    """

    shares_memory = False

    def __init__(self, client: Client, *, is_given: bool) -> None:
        self.client = client
        self.is_given = is_given
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        self.n_workers = len(workers)
        self.n_threads = sum(w["nthreads"] for w in workers)
        if not self.n_threads:  # they came, and are gone
            raise ClusterError("the Dask cluster has lost its workers. Start workers and run the command again.")
        default = memory.parse_bytes(settings.DEFAULT_MEMORY)
        per_thread = min((w["memory_limit"] or default) / w["nthreads"] for w in workers)
        # of workers that differ, the least
        self.memory_limit = int(per_thread * memory.tasks_at_once(self.n_threads, self.n_workers))
        self.threads_per_task = 1 if is_given else max(1, settings.n_cores() // self.n_threads)

    def load(self, module: str) -> None:
        """Let workers of our own import a module now, while this process imports its part."""
        if not self.is_given:
            for address in self.client.scheduler_info(n_workers=-1)["workers"]:
                fire_and_forget(self.client.submit(_load, module, workers=[address], pure=False))

    def check_reach(self, reads: Sequence[str], writes: Sequence[str]) -> None:
        """Ask workers that somebody else started whether they reach these places.

        Raises
        ------
        ClusterError
            One does not; names it and the place.
        """
        if self.is_given:
            checks.check_reach(self.client, list(reads), list(writes))

    def dask_scheduler(self) -> AbstractContextManager[Any]:
        """Compute Dask arrays on the workers."""
        scheduler: AbstractContextManager[Any] = self.client.as_current()
        return scheduler

    def execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[Item], waiting: Sequence[int]
    ) -> Generator[tuple[int, Outcome], None, None]:
        """Submit tasks a window at a time; outcomes as they end.

        Raises
        ------
        ClusterError
            The workers are gone, or the same task ended several of them.
        """
        futures: dict[int, Any] = {}
        arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        todo = iter(waiting)

        def submit(n: int) -> None:
            for i in itertools.islice(todo, n):
                key = f"{stage}-{i}-{time.time_ns()}"
                task = (measured, function, items[i], self.threads_per_task)
                futures[i] = self.client.submit(*task, pure=False, key=key)
                futures[i].add_done_callback(lambda _, i=i: arrived.put(i))

        try:
            submit(max(2, settings.WINDOW_PER_THREAD * self.n_threads))
            while futures:
                i = self._next(stage, arrived)
                outcome = self._outcome(stage, futures[i], items[i])
                del futures[i]  # not before: until it is fetched, it may have to run again, and to be cancelled
                submit(1)
                yield i, outcome
        finally:
            if futures:
                with suppress(Exception):  # a cluster that is gone must not hide why
                    self.client.cancel(list(futures.values()))

    def _next(self, stage: str, arrived: queue.SimpleQueue[int]) -> int:
        """The next task that ended."""
        look = self._watch(stage)
        while True:
            try:
                return arrived.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                look()

    def _watch(self, stage: str) -> Callable[[], None]:
        """A look at the cluster, to be repeated: an error once there has been no worker for too long."""
        patience = seconds("cagdask.no-workers-timeout")
        alone_since: float | None = None

        def look() -> None:
            nonlocal alone_since
            if self.client.status in ("closing", "closed"):
                raise lost(stage)
            if _count_workers(self.client):
                alone_since = None
                return
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since >= patience:
                raise ClusterError(
                    f"{stage}: the cluster has had no workers for {patience:g} s. Finished work is kept: start workers "
                    "and run the same command again."
                )

        return look

    def _fetched(self, stage: str, future: Any) -> Outcome | Exception:
        """What a task that ended gave. Its worker may be gone with it: then it is waited for again."""
        look = self._watch(stage)
        while True:
            try:
                outcome: Outcome | Exception = future.result(timeout=_FETCH_SECONDS)
                return outcome
            except TimeoutError:  # not the task's own, which is an outcome; what came meanwhile comes at once next time
                look()

    def _outcome(self, stage: str, future: Any, item: Item) -> Outcome:
        try:
            outcome = self._fetched(stage, future)
        except ClusterError:
            raise
        except KilledWorker as err:
            raise ClusterError(
                f"{stage}: the task {item!r} ended several workers, most likely for memory. Give workers more with "
                f"`memory_limit` (they have {memory.format_bytes(self.memory_limit)})."
            ) from err
        except (NoValidWorkerError, NoWorkerError) as err:
            raise ClusterError(
                f"{stage}: the cluster has no workers left. Start workers and run the command again."
            ) from err
        except CancelledError as err:
            raise lost(stage) from err
        except Exception as err:  # whatever a task may raise
            if self.client.status != "running":  # what it says is of the connection, not of the task
                raise lost(stage) from err
            raise explained(stage, item, err) from err
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def lost(stage: str) -> ClusterError:
    """The error of a scheduler that can not be reached any more."""
    return ClusterError(
        f"{stage}: the connection to the Dask scheduler is lost. Finished work is kept: start scheduler and workers, "
        "and run the same command again."
    )


def seconds(name: str) -> float:
    """How long to wait, by a name of :data:`cagdask.compute.settings.PATIENCE`, as Dask's configuration says."""
    return float(dask.utils.parse_timedelta(dask.config.get(name, settings.PATIENCE[name])))


def _count_workers(client: Client) -> int:
    """Workers that the scheduler has; a scheduler that does not answer has none."""
    try:
        scheduler: Any = client.scheduler
        return int(client.sync(scheduler.identity, n_workers=0, callback_timeout=_ANSWER_SECONDS)["n_workers"])
    except (OSError, RuntimeError, AttributeError):  # it is gone, or the client is just noticing
        return 0


# -- on the worker ---------------------------------------------------------------------------------------------------


def _load(module: str) -> None:
    """Import."""
    importlib.import_module(module)


def measured(function: Callable[..., Any], item: Item, n_threads: int) -> Outcome | Exception:
    """Run one task with explicit thread counts, and measure it.

    The counts are set here, in the thread that runs the task: OpenMP, which FAISS uses, keeps them per thread. An error
    that was foreseen is returned, not raised: Dask would log a traceback to stderr.
    """
    memory.set_task_threads(n_threads)
    memory.reset_peak()
    begun = time.process_time()
    try:
        with threadpool_limits(n_threads):
            result = function(*item)
    except (CagdaskError, OSError) as err:
        err.__traceback__ = err.__cause__ = err.__context__ = None  # they hold the task's arrays and open files
        return err
    return Outcome(result, time.process_time() - begun, memory.peak_bytes())
