"""Getting Dask workers, and running the tasks of a stage on them.

    Runner.map("search", search_block, [(url, 0), (url, 1), ...])

      driver                           worker
      submits one task per item  --->  sets thread counts, runs the function,
      a window at a time               writes its arrays to the work folder
      keeps <done>/search/7.json <---  returns a few numbers

Arrays never go through the scheduler: a task gets URLs and numbers, writes files that it alone owns, and returns
something small that JSON can hold. That makes every stage resumable: the answer of each finished task is kept in the
work folder, and a task whose answer is there does not run again.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import dask
from distributed import Client, LocalCluster, WorkerPlugin, as_completed
from distributed.scheduler import KilledWorker, NoValidWorkerError
from threadpoolctl import threadpool_limits

from cagdask import provenance, resources, storage
from cagdask.errors import CagdaskError, ClusterError
from cagdask.progress import reporter

logger = logging.getLogger(__name__)

DASK_CONFIG = {
    "distributed.scheduler.no-workers-timeout": "60s",  # else a cluster that lost its workers hangs for ever
    "distributed.scheduler.worker-ttl": "30 minutes",  # a compiled kernel holds its thread longer than the default
    "distributed.scheduler.allowed-failures": 5,
    "distributed.comm.retry.count": 3,
    "distributed.worker.memory.spill": False,  # tasks return a few numbers: there is nothing worth spilling
    "distributed.worker.memory.target": False,
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
WINDOW_PER_THREAD = 4
"""Tasks submitted ahead per worker thread: keeps workers busy and the scheduler small."""


@dataclass
class Runner:
    """Runs stages on a Dask client and keeps account of what they use.

    Attributes
    ----------
    client
        Any connected Dask client.
    n_workers, n_threads
        Worker processes, and tasks that run at once over all of them.
    memory_limit
        Bytes of the smallest worker.
    threads_per_task
        Threads that FAISS, BLAS and numba may use inside one task.
    usage
        One entry per stage, in order.
    account
        What the last clustering counted: rounds, pairs evaluated, bytes read.
    """

    client: Client
    n_workers: int
    n_threads: int
    memory_limit: int
    threads_per_task: int = 1
    usage: list[resources.StageUsage] = field(default_factory=list)
    account: dict[str, Any] = field(default_factory=dict)

    @property
    def task_budget(self) -> int:
        """Bytes that the arrays of one task may take: its share of its worker's limit."""
        return resources.task_budget(self.memory_limit, max(1, self.n_threads // max(1, self.n_workers)))

    def map(
        self,
        stage: str,
        function: Callable[..., Any],
        items: Sequence[tuple[Any, ...]],
        *,
        done: str | None = None,
        unit: str = "tasks",
        weights: Sequence[int] | None = None,
    ) -> list[Any]:
        """Run ``function(*item)`` for every item; results in the order of the items.

        Parameters
        ----------
        stage
            Name for progress, usage and the kept answers.
        function
            A function of this package. Must be safe to run twice, and return what JSON can hold.
        items
            Arguments, small and JSON-able.
        done
            Folder for answers of finished tasks; a task whose answer is there is not run. None keeps none.
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
        used = resources.StageUsage(stage)
        folder = storage.join(done, stage.replace(" ", "-")) if done else None
        with self._stage(stage, sum(weights), unit):
            waiting = list(self._not_done(folder, items, results, weights))
            for i, answer in self._execute(stage, function, items, waiting):
                results[i] = answer["result"]
                used.n_tasks += 1
                used.cpu_seconds += answer["cpu_seconds"]
                used.peak_bytes = max(used.peak_bytes, answer["peak_bytes"])
                if folder:
                    kept = {"item": _fingerprint(items[i]), "result": results[i]}
                    storage.write_bytes(storage.join(folder, f"{i}.json"), json.dumps(kept).encode())
                reporter().advance(weights[i])
        used.wall_seconds = time.perf_counter() - begun
        self.usage.append(used)
        logger.info("%s: %d tasks, %.1f s, %.1f CPU-s", stage, used.n_tasks, used.wall_seconds, used.cpu_seconds)
        return results

    def one(self, stage: str, function: Callable[..., Any], *item: Any, done: str | None = None) -> Any:
        """Run a single task as a stage of its own."""
        return self.map(stage, function, [item], done=done)[0]

    @contextmanager
    def _stage(self, stage: str, total: int, unit: str) -> Iterator[None]:
        reporter().start(stage, total, unit)
        try:
            yield
        finally:
            reporter().finish()

    def _not_done(
        self, folder: str | None, items: Sequence[tuple[Any, ...]], results: list[Any], weights: Sequence[int]
    ) -> Iterator[int]:
        for i, item in enumerate(items):
            kept = storage.read_json(storage.join(folder, f"{i}.json")) if folder else None
            if kept is not None and kept["item"] == _fingerprint(item):
                results[i] = kept["result"]
                reporter().advance(weights[i])
            else:
                yield i

    def _execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], waiting: list[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        index_of: dict[str, int] = {}
        todo = iter(waiting)

        def submit(n: int) -> list[Any]:
            futures = []
            for i in todo:
                future = self.client.submit(
                    _measured,
                    function,
                    items[i],
                    self.threads_per_task,
                    pure=False,
                    key=f"{stage}-{i}-{time.time_ns()}",
                )
                index_of[str(future.key)] = i
                futures.append(future)
                if len(futures) == n:
                    break
            return futures

        arriving = as_completed(submit(max(2, WINDOW_PER_THREAD * self.n_threads)), loop=self.client.loop)
        try:
            for future in arriving:
                answer = self._result(stage, future, items[index_of[str(future.key)]])
                arriving.update(submit(1))
                yield index_of.pop(str(future.key)), answer
        finally:
            for future in list(arriving.futures):  # the loop's thread takes out what ends meanwhile
                future.cancel()

    def _result(self, stage: str, future: Any, item: tuple[Any, ...]) -> dict[str, Any]:
        try:
            answer = dict(future.result())
        except KilledWorker as err:
            raise ClusterError(
                f"{stage}: the task {item!r} ended several workers, most likely for memory. Give workers more with "
                f"--memory-limit (they have {resources.format_bytes(self.memory_limit)})."
            ) from err
        except NoValidWorkerError as err:
            raise ClusterError(
                f"{stage}: the cluster has no workers left. Start workers and run the command again."
            ) from err
        if "error" in answer:
            raise answer["error"]
        return answer


def _fingerprint(item: tuple[Any, ...]) -> str:
    return provenance.digest(list(item))


def _measured(function: Callable[..., Any], item: tuple[Any, ...], n_threads: int) -> dict[str, Any]:
    """On the worker: run one task with explicit thread counts, and measure it.

    The counts are set here, in the thread that runs the task: OpenMP, which FAISS uses, keeps them per thread.
    """
    resources.set_task_threads(n_threads)
    resources.reset_peak()
    begun = time.process_time()
    try:
        with threadpool_limits(n_threads):
            result = function(*item)
    except (CagdaskError, OSError) as err:  # as an answer: if it is raised here, Dask logs a traceback to stderr
        return {"error": err}
    return {
        "result": result,
        "cpu_seconds": time.process_time() - begun,
        "peak_bytes": resources.peak_bytes(),
    }


# -- getting a client ------------------------------------------------------------------------------------------------


class _QuietWorker(WorkerPlugin):
    """A worker of our own cluster leaves it to the driver what happens on Ctrl-C, and what is said about failures.

    Ctrl-C reaches every process of a terminal, and a worker that is being closed logs that its scheduler has gone; what
    fails in a task reaches the driver as an exception.
    """

    def setup(self, worker: Any) -> None:
        """In the worker's main thread, where its event loop runs."""
        for name in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def connect(
    client: Client | str | None = None,
    *,
    scheduler_file: str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> Iterator[Runner]:
    """A runner on a given cluster, or on one of this machine's own that ends with the block.

    Parameters
    ----------
    client
        A connected client, or a scheduler's address. None starts a LocalCluster.
    scheduler_file
        A scheduler file, instead of an address.
    n_workers
        Worker processes of the LocalCluster, of one thread each; by default one per core, 16 at most.
    memory_limit
        Memory of each LocalCluster worker.

    Raises
    ------
    ClusterError
        The scheduler does not answer, or no worker comes.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK_CONFIG))
        if isinstance(client, Client):
            connected = client
        elif client or scheduler_file:
            try:
                connected = stack.enter_context(Client(address=client, scheduler_file=scheduler_file, timeout="20s"))
            except (OSError, TimeoutError, ValueError) as err:
                raise ClusterError(
                    f"no Dask scheduler answers at {client or scheduler_file} ({err}). Check the address, and that "
                    "this machine may connect to it."
                ) from err
        else:
            n_workers = n_workers or min(16, os.cpu_count() or 1)
            limit = resources.parse_bytes(memory_limit)
            threads = str(max(1, (os.cpu_count() or 1) // n_workers))
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    memory_limit=limit,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                    env=dict.fromkeys(THREAD_VARIABLES, threads),
                )
            )
            connected = stack.enter_context(Client(cluster, set_as_default=False))
            connected.register_plugin(_QuietWorker())
        runner = _runner(connected, own_machine=not (client or scheduler_file))
        reporter().message(f"Dask dashboard: {connected.dashboard_link}")
        yield runner


def _runner(client: Client, *, own_machine: bool) -> Runner:
    try:
        client.wait_for_workers(1, timeout=60)
    except TimeoutError as err:
        raise ClusterError(
            "the Dask cluster has no workers after 60 s. Start workers and run the command again."
        ) from err
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    n_threads = sum(w["nthreads"] for w in workers)
    limits = [w["memory_limit"] for w in workers if w["memory_limit"]]
    return Runner(
        client=client,
        n_workers=len(workers),
        n_threads=n_threads,
        memory_limit=min(limits, default=resources.parse_bytes("4GiB")),
        threads_per_task=max(1, (os.cpu_count() or 1) // n_threads) if own_machine else 1,
    )


@contextmanager
def as_runner(client: Runner | Client | str | None = None, **options: Any) -> Iterator[Runner]:
    """``client`` if it is a runner already, else :func:`connect` with these options."""
    if isinstance(client, Runner):
        yield client
    else:
        with connect(client, **options) as runner:
            yield runner
