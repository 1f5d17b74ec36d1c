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

import importlib
import itertools
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import dask
from dask.sizeof import sizeof
from distributed import Client, LocalCluster, WorkerPlugin, fire_and_forget
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.core import CommClosedError
from distributed.comm.registry import backends
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError
from distributed.security import Security
from threadpoolctl import threadpool_limits

from cagdask import storage
from cagdask.compute import checks, launchers, memory
from cagdask.compute.finished_tasks import Answers
from cagdask.compute.progress import reporter
from cagdask.errors import CagdaskError, ClusterError, TaskError

logger = logging.getLogger(__name__)

KEPT_BY_ALLOCATOR = 2**25
"""Bytes that a worker of a LocalCluster keeps for its next arrays, unless it is small."""
KEPT_SHARE = 1 / 128
"""Share of its memory that a small one keeps."""
DASK_CONFIG = {
    "distributed.scheduler.no-workers-timeout": "60s",  # else a cluster that lost its workers hangs for ever
    "distributed.scheduler.worker-ttl": "30 minutes",  # a compiled kernel holds its thread longer than the default
    "distributed.scheduler.allowed-failures": 5,
    "distributed.comm.retry.count": 3,
    "distributed.worker.memory.spill": False,  # tasks return a few numbers: there is nothing worth spilling
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,  # a worker without a task frees nothing by waiting: it would for ever
    "distributed.worker.profile.enabled": False,  # these two look at each process fifty to a hundred times a second,
    "distributed.admin.tick.interval": "500ms",  # for what nobody looks at afterwards: a tenth of a short run
    # Dask lets workers give each freed array back to the system at once; getting it again costs a quarter of the time
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": KEPT_BY_ALLOCATOR,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": KEPT_BY_ALLOCATOR,
}
_ALLOCATOR_KEYS = [name for name in DASK_CONFIG if ".MALLOC_" in name]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
WINDOW_PER_THREAD = 4
"""Tasks submitted ahead per worker thread: keeps workers busy and the scheduler small."""
PATIENCE = {
    "cagdask.first-worker-timeout": "60s",  # until a cluster that runs already has a worker
    "cagdask.launched-worker-timeout": "1 hour",  # the same for one that --cluster starts: jobs may queue
    "cagdask.no-workers-timeout": "60s",  # how long a run goes on without any worker
}
"""How long cagdask waits, by the name in Dask's configuration that changes it."""
_POLL_SECONDS = 1.0
_FETCH_SECONDS = 5  # for a few numbers of a task that ended, before a look at whether there are workers
_ANSWER_SECONDS = 10  # that a scheduler may take to say how many workers it has
_SHOWN = 120  # characters of a task's arguments in a message


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
    is_given
        Whether somebody else started the workers, maybe on other machines.
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
    is_given: bool = False
    usage: list[memory.StageUsage] = field(default_factory=list)
    account: dict[str, Any] = field(default_factory=dict)

    @property
    def task_budget(self) -> int:
        """Bytes that the arrays of one task may take: its share of its worker's limit."""
        return memory.task_budget(self.memory_limit, max(1, self.n_threads // max(1, self.n_workers)))

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
        used = memory.StageUsage(stage)
        folder = storage.join(done, stage.replace(" ", "-")) if done else None
        with self._stage(stage, sum(weights), unit), Answers(folder) as answers:
            kept = answers.found(items)
            for i, result in kept.items():
                results[i] = result
                reporter().advance(weights[i])
            waiting = [i for i in range(len(items)) if i not in kept]
            for i, answer in self._execute(stage, function, items, waiting):
                results[i] = answer["result"]
                used.n_tasks += 1
                used.cpu_seconds += answer["cpu_seconds"]
                used.peak_bytes = max(used.peak_bytes, answer["peak_bytes"])
                answers.keep(i, items[i], results[i], answer["cpu_seconds"])
                reporter().advance(weights[i])
        used.wall_seconds = time.perf_counter() - begun
        self.usage.append(used)
        logger.info("%s: %d tasks, %.1f s, %.1f CPU-s", stage, used.n_tasks, used.wall_seconds, used.cpu_seconds)
        return results

    def load(self, module: str) -> None:
        """Let workers of our own import a module of this package now, while this process imports its part."""
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

    def _execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], waiting: list[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        futures: dict[int, Any] = {}
        arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        todo = iter(waiting)

        def submit(n: int) -> None:
            for i in itertools.islice(todo, n):
                future = self.client.submit(
                    _measured,
                    function,
                    items[i],
                    self.threads_per_task,
                    pure=False,
                    key=f"{stage}-{i}-{time.time_ns()}",
                )
                futures[i] = future
                future.add_done_callback(lambda _, i=i: arrived.put(i))

        try:
            submit(max(2, WINDOW_PER_THREAD * self.n_threads))
            while futures:
                i = self._next(stage, arrived)
                answer = self._result(stage, futures[i], items[i])
                del futures[i]  # not before: until it is fetched, it may have to run again, and to be cancelled
                submit(1)
                yield i, answer
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
        patience = _seconds("cagdask.no-workers-timeout")
        alone_since: float | None = None

        def look() -> None:
            nonlocal alone_since
            if self.client.status in ("closing", "closed"):
                raise _lost(stage)
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

    def _fetched(self, stage: str, future: Any) -> dict[str, Any]:
        """What a task that ended answers. Its worker may be gone with the answer: then it is waited for again."""
        look = self._watch(stage)
        while True:
            try:
                return dict(future.result(timeout=_FETCH_SECONDS))
            except TimeoutError:  # not the task's own, which is an answer; what came meanwhile comes at once next time
                look()

    def _result(self, stage: str, future: Any, item: tuple[Any, ...]) -> dict[str, Any]:
        try:
            answer = self._fetched(stage, future)
        except ClusterError:
            raise
        except KilledWorker as err:
            raise ClusterError(
                f"{stage}: the task {item!r} ended several workers, most likely for memory. Give workers more with "
                f"--memory-limit (they have {memory.format_bytes(self.memory_limit)})."
            ) from err
        except (NoValidWorkerError, NoWorkerError) as err:
            raise ClusterError(
                f"{stage}: the cluster has no workers left. Start workers and run the command again."
            ) from err
        except CancelledError as err:
            raise _lost(stage) from err
        except Exception as err:  # whatever a task may raise: it is told with stage and subject, and chained
            if self.client.status != "running":  # what it says is of the connection, not of the task
                raise _lost(stage) from err
            _blame_store(item, err)
            first = (str(err).strip().splitlines() or ["no message"])[0]
            raise TaskError(
                f"{stage}: the task for {_shown(item)} failed with {type(err).__name__}: {first} (-v shows where). "
                "Finished work is kept."
            ) from err
        if "error" in answer:
            raise answer["error"]
        return answer


def _blame_store(item: tuple[Any, ...], err: BaseException) -> None:
    """Raise an error that names the damaged files, if a store that a failed task read has some."""
    for url in {part for part in item if isinstance(part, str) and "/" in part}:
        with suppress(Exception):  # it is about to be said that the task failed
            wrong = storage.find_damage(url)
            if wrong:
                break
    else:
        return
    raise storage.damaged(url, wrong) from err


def _lost(stage: str) -> ClusterError:
    return ClusterError(
        f"{stage}: the connection to the Dask scheduler is lost. Finished work is kept: start scheduler and workers, "
        "and run the same command again."
    )


def _shown(item: tuple[Any, ...]) -> str:
    """The beginning of a task's arguments, where what it is about stands."""
    text = ", ".join(map(str, item))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _seconds(name: str) -> float:
    return float(dask.utils.parse_timedelta(dask.config.get(name, PATIENCE[name])))


def _count_workers(client: Client) -> int:
    """Workers that the scheduler has; a scheduler that does not answer has none."""
    try:
        scheduler: Any = client.scheduler
        return int(client.sync(scheduler.identity, n_workers=0, callback_timeout=_ANSWER_SECONDS)["n_workers"])
    except (OSError, RuntimeError, AttributeError):  # it is gone, or the client is just noticing
        return 0


class InProcess(Runner):
    """Runs tasks in threads of this process: for what is done before a worker would have started."""

    def __init__(self, memory_limit: str | int = "4GiB") -> None:
        limit = memory.parse_bytes(memory_limit)
        super().__init__(cast(Client, None), 1, 1, limit, threads_per_task=os.cpu_count() or 1)

    def load(self, module: str) -> None:
        """Nothing to do ahead: the tasks import it here."""

    def _execute(
        self, stage: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], waiting: list[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        cores = os.cpu_count() or 1
        n_threads = max(1, min(cores, len(waiting)))
        memory.set_task_threads(max(1, cores // n_threads))
        with threadpool_limits(max(1, cores // n_threads)), ThreadPoolExecutor(n_threads) as pool:
            index_of = {pool.submit(_timed, function, items[i]): i for i in waiting}
            try:
                for future in as_completed(index_of):
                    yield index_of[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _load(module: str) -> None:
    """On the worker: import."""
    importlib.import_module(module)


def _timed(function: Callable[..., Any], item: tuple[Any, ...]) -> dict[str, Any]:
    begun = time.thread_time()
    return {
        "result": function(*item),
        "cpu_seconds": time.thread_time() - begun,
        "peak_bytes": memory.peak_bytes(),
    }


def _measured(function: Callable[..., Any], item: tuple[Any, ...], n_threads: int) -> dict[str, Any]:
    """On the worker: run one task with explicit thread counts, and measure it.

    The counts are set here, in the thread that runs the task: OpenMP, which FAISS uses, keeps them per thread.
    """
    memory.set_task_threads(n_threads)
    memory.reset_peak()
    begun = time.process_time()
    try:
        with threadpool_limits(n_threads):
            result = function(*item)
    except (CagdaskError, OSError) as err:  # as an answer: if it is raised here, Dask logs a traceback to stderr
        err.__traceback__ = err.__cause__ = err.__context__ = None  # they hold the task's arrays and open files
        return {"error": err}
    return {
        "result": result,
        "cpu_seconds": time.process_time() - begun,
        "peak_bytes": memory.peak_bytes(),
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
        A connected client, a scheduler's address, or the name of a launcher (slurm, pbs, sge, lsf, kubernetes,
        gateway). None starts a LocalCluster.
    scheduler_file
        A scheduler file, instead of an address.
    n_workers
        Worker processes of the LocalCluster, of one thread each; by default one per core, 16 at most. Workers to ask a
        launcher for.
    memory_limit
        Memory of each of them.

    Raises
    ------
    ClusterError
        The scheduler does not answer, no worker comes, or versions differ.

    Notes
    -----
    Certificates for ``tls://`` addresses are those of Dask's configuration, ``distributed.comm.tls``.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK_CONFIG))
        if isinstance(client, Client):
            connected = client
        elif client or scheduler_file:
            target: Any = client
            if client in launchers.LAUNCHERS:
                target = stack.enter_context(launchers.launched(str(client), n_workers, memory_limit))
            connected = stack.enter_context(_connected(target, scheduler_file))
        else:
            n_workers = n_workers or min(16, os.cpu_count() or 1)
            limit = memory.parse_bytes(memory_limit)
            threads = str(max(1, (os.cpu_count() or 1) // n_workers))
            kept = min(KEPT_BY_ALLOCATOR, int(limit * KEPT_SHARE))
            stack.enter_context(dask.config.set(dict.fromkeys(_ALLOCATOR_KEYS, kept)))
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
        if logging.getLogger("distributed").level >= logging.CRITICAL:  # Dask gives its client a level of its own
            logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        launched = client in launchers.LAUNCHERS if isinstance(client, str) else False
        try:
            runner = _runner(connected, own_machine=not (client or scheduler_file), launched=launched)
            reporter().message(f"Dask dashboard: {connected.dashboard_link}")
            yield runner
        except CagdaskError:
            raise
        except Exception as err:
            if not isinstance(err, CommClosedError) and connected.status == "running":
                raise
            raise _lost("cluster") from err


def _connected(target: Any, scheduler_file: str | None) -> Client:
    where = getattr(target, "scheduler_address", None) or target or scheduler_file
    if isinstance(target, str):
        _check_address(target)
    if str(where).startswith("tls://") and not Security().get_connection_args("client").get("ssl_context"):
        raise ClusterError(
            f"no Dask scheduler answers at {where} without certificates. Name them with --tls-ca-file, --tls-cert and "
            "--tls-key, or in Dask's configuration (distributed.comm.tls)."
        )
    try:
        return Client(target, scheduler_file=scheduler_file, timeout="20s", set_as_default=False)
    except (OSError, TimeoutError, ValueError, RuntimeError) as err:  # the last: TCP where encryption is required
        said = (str(err.__cause__ or err).strip().splitlines() or [type(err).__name__])[0]
        raise ClusterError(
            f"no Dask scheduler answers at {where} ({said}). Check the address, that this machine may connect to it, "
            "and for tls:// the certificates (--tls-ca-file, --tls-cert, --tls-key)."
        ) from err


def _check_address(address: str) -> None:
    """Refuse what is no address, before a client is made: one that never connected complains for 40 s when it ends."""
    scheme, place = parse_address(address)
    if scheme in ("tcp", "tls"):
        try:
            parse_host_port(place)
            return
        except ValueError:
            pass
    elif scheme in backends:
        return
    raise ClusterError(
        f"{address!r} is no address of a Dask scheduler. Write it as tcp://host:8786 or tls://host:8786."
    )


def _runner(client: Client, *, own_machine: bool, launched: bool = False) -> Runner:
    patience = _seconds("cagdask.launched-worker-timeout" if launched else "cagdask.first-worker-timeout")
    try:
        # a task, not a count: a cluster that adapts starts workers only when there is something to do
        client.submit(os.getpid, pure=False).result(timeout=patience)
    except (TimeoutError, NoWorkerError, NoValidWorkerError, CancelledError) as err:
        raise ClusterError(
            f"the Dask cluster has no workers after {patience:g} s. Start workers and run the command again."
        ) from err
    if not own_machine:
        client.register_plugin(checks.S3Environment())
        checks.check_versions(client)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    n_threads = sum(w["nthreads"] for w in workers)
    if not n_threads:  # they came, and are gone
        raise ClusterError("the Dask cluster has lost its workers. Start workers and run the command again.")
    default = memory.parse_bytes("4GiB")
    smallest = min(((w["memory_limit"] or default) / w["nthreads"] for w in workers), default=default)
    return Runner(
        client=client,
        n_workers=len(workers),
        n_threads=n_threads,
        memory_limit=int(smallest * max(1, n_threads // max(1, len(workers)))),  # of workers that differ, the least
        threads_per_task=max(1, (os.cpu_count() or 1) // n_threads) if own_machine else 1,
        is_given=not own_machine,
    )


@contextmanager
def as_runner(client: Runner | Client | str | None = None, **options: Any) -> Iterator[Runner]:
    """``client`` if it is a runner already, else :func:`connect` with these options."""
    if isinstance(client, Runner):
        yield client
    else:
        with connect(client, **options) as runner:
            yield runner
