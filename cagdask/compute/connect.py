"""Deciding where tasks run: in this process, on workers that this machine starts, or on a cluster that is given.

    connect(n_workers=0)          threads of this process
    connect()                     a LocalCluster: one worker process per core
    connect("tcp://…"), Client    a cluster that somebody else started
    connect("slurm", n_workers=9) workers that a launcher asks for

Functions of this package that are asked nothing about it take :func:`as_runner`: small work runs in this process.
Dask is imported only where it is used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from cagdask.compute import in_process, memory, settings
from cagdask.compute.allowed import allowed
from cagdask.compute.progress import reporter
from cagdask.compute.quick_start import rarely_collecting
from cagdask.compute.runner import Runner
from cagdask.errors import CagdaskError, ClusterError

if TYPE_CHECKING:
    from distributed import Client

    Where = Runner | Client | str | None

logger = logging.getLogger(__name__)


@contextmanager
def connect(
    client: Client | str | None = None,
    *,
    scheduler_file: str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = settings.DEFAULT_MEMORY,
) -> Iterator[Runner]:
    """A runner on a given cluster, on workers of this machine that end with the block, or in this process.

    Parameters
    ----------
    client
        A connected client, a scheduler's address, or the name of a launcher (slurm, pbs, sge, lsf, kubernetes,
        gateway). None starts a LocalCluster.
    scheduler_file
        A scheduler file, instead of an address.
    n_workers
        Worker processes of the LocalCluster, of one thread each; by default one per core that is allowed, 16 at most,
        and fewer where there is not a GiB of memory for each. 0 starts none: tasks run in threads of this process.
        Workers to ask a launcher for.
    memory_limit
        Memory of each of them, or of this process. The default becomes less where less is allowed.

    Raises
    ------
    ValueError
        ``n_workers`` is below 0, or 0 with a cluster.
    ClusterError
        The scheduler does not answer, no worker comes, or versions differ.

    Notes
    -----
    Certificates for ``tls://`` addresses are those of Dask's configuration, ``distributed.comm.tls``.
    """
    if n_workers is not None and n_workers < 0:
        raise ValueError(f"`n_workers` is {n_workers}; use 1 or more, or 0 to compute in this process.")
    if n_workers == 0:
        if client or scheduler_file:
            raise ValueError(
                "`n_workers` is 0, which means this process, but a cluster is given. Leave out one of them."
            )
        with rarely_collecting():
            yield _here(settings.memory_here(memory_limit), "as asked")
        return
    with _on_dask(client, scheduler_file, n_workers, memory_limit) as runner:
        yield runner


@contextmanager
def as_runner(
    client: Where = None,
    *,
    n_workers: int | None = None,
    memory_limit: str | int = settings.DEFAULT_MEMORY,
    work_bytes: int | None = None,
) -> Iterator[Runner]:
    """``client`` if it is a runner already; this process for small work; else :func:`connect`.

    Parameters
    ----------
    client, n_workers, memory_limit
        As for :func:`connect`.
    work_bytes
        About how many bytes the work handles: its store, and what tasks hold at once. If neither ``client`` nor
        ``n_workers`` is given, work of up to :data:`cagdask.compute.settings.IN_PROCESS_BYTES` runs in this process.
        None if it is not known.
    """
    if isinstance(client, Runner):
        yield client
        return
    undecided = client is None and n_workers is None
    if undecided and work_bytes is not None and work_bytes <= settings.IN_PROCESS_BYTES:
        # small work can not use it all; with a worker's memory for each task, plans are those of workers
        whole = memory.parse_bytes(memory_limit) * in_process.default_threads()
        limit = max(settings.memory_here(memory_limit), allowed().worker_memory(whole, 1))
        with rarely_collecting():
            yield _here(limit, f"about {memory.format_bytes(work_bytes)} of work")
        return
    with connect(client, n_workers=n_workers, memory_limit=memory_limit) as runner:
        yield runner


def _own_workers(n_workers: int | None, memory_limit: str | int) -> tuple[int, int]:
    """How many workers to start on this machine, and bytes of each; says so where something limits them."""
    here = allowed()
    n_workers, each = settings.workers_here(n_workers, memory_limit)
    said = [here.line] if here.line else []
    if each * n_workers > here.memory.n:
        said.append(f"together more memory than the {memory.format_bytes(here.memory.n)} that are allowed")
    if said:
        count = "1 worker" if n_workers == 1 else f"{n_workers} workers"
        reporter().message(f"{count} of {memory.format_bytes(each)}: {', '.join(said)}")
    return n_workers, each


def _here(memory_limit: int, why: str) -> Runner:
    executor = in_process.InProcess(memory_limit)
    n, line = executor.n_threads, allowed().line
    more = f"; {line}" if line else ""
    reporter().message(f"Computing in this process, {n} thread{'' if n == 1 else 's'} ({why}{more})")
    return Runner(executor)


@contextmanager
def _on_dask(
    client: Client | str | None, scheduler_file: str | None, n_workers: int | None, memory_limit: str | int
) -> Iterator[Runner]:
    import dask
    from distributed import Client
    from distributed.comm.core import CommClosedError

    from cagdask.compute import launchers
    from cagdask.compute.local_cluster import local_cluster
    from cagdask.compute.on_dask import lost

    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings.DASK_CONFIG))
        is_given, patience = True, "cagdask.first-worker-timeout"
        if isinstance(client, Client):
            if client.asynchronous:
                raise ClusterError(
                    "`client` is an asynchronous Client, in whose event loop cagdask can not wait. Make it without "
                    "asynchronous=True, or call cagdask in a thread: await asyncio.to_thread(cagdask.run, ...)."
                )
            connected = client
        elif client or scheduler_file:
            target: Any = client
            if client in launchers.LAUNCHERS:
                target = stack.enter_context(launchers.launched(str(client), n_workers, memory_limit))
                patience = "cagdask.launched-worker-timeout"
            connected = stack.enter_context(_connected(target, scheduler_file))
        else:
            is_given = False
            connected = stack.enter_context(local_cluster(*_own_workers(n_workers, memory_limit)))
        if logging.getLogger("distributed").level >= logging.CRITICAL:  # Dask gives its client a level of its own
            logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            runner = _with_workers(connected, is_given, patience)
            if is_given or dask.config.get(settings.DASHBOARD, False):
                reporter().message(f"Dask dashboard: {connected.dashboard_link}")
            yield runner
        except CagdaskError:
            raise
        except Exception as err:
            if not isinstance(err, CommClosedError) and connected.status == "running":
                raise
            raise lost("cluster") from err


def _connected(target: Any, scheduler_file: str | None) -> Client:
    from distributed import Client
    from distributed.security import Security

    from cagdask.compute import on_dask

    where = getattr(target, "scheduler_address", None) or target or scheduler_file
    if isinstance(target, str):
        check_address(target)
    if str(where).startswith("tls://") and not Security().get_connection_args("client").get("ssl_context"):
        raise ClusterError(
            f"no Dask scheduler answers at {where} without certificates. Name them in Dask's configuration: "
            "`distributed.comm.tls`."
        )
    try:
        patience = on_dask.seconds("cagdask.connect-timeout")
        return Client(target, scheduler_file=scheduler_file, timeout=patience, set_as_default=False)
    except (OSError, TimeoutError, ValueError, RuntimeError) as err:  # the last: TCP where encryption is required
        said = (str(err.__cause__ or err).strip().splitlines() or [type(err).__name__])[0]
        raise ClusterError(
            f"no Dask scheduler answers at {where} ({said}). Check the address, that this machine may connect to it, "
            "and for tls:// the certificates (`distributed.comm.tls`)."
        ) from err


def check_address(address: str) -> None:
    """Refuse what is no address, before a client is made: one that never connected complains for 40 s when it ends.

    Raises
    ------
    ClusterError
        Says how an address is written.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import backends

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


def _with_workers(client: Client, is_given: bool, patience: str) -> Runner:
    """A runner on a client, once it has a worker that can be used."""
    from concurrent.futures import CancelledError

    from distributed.scheduler import NoValidWorkerError, NoWorkerError

    from cagdask.compute import checks, on_dask
    from cagdask.compute.worker_plugins import S3Environment

    seconds = on_dask.seconds(patience)
    try:
        # a task, not a count: a cluster that adapts starts workers only when there is something to do
        client.submit(os.getpid, pure=False).result(timeout=seconds)
    except (TimeoutError, NoWorkerError, NoValidWorkerError, CancelledError) as err:
        raise ClusterError(
            f"the Dask cluster has no workers after {seconds:g} s. Start workers and run the command again."
        ) from err
    if is_given:
        client.register_plugin(S3Environment())
        checks.check_versions(client)
    return Runner(on_dask.OnDask(client, is_given=is_given))
