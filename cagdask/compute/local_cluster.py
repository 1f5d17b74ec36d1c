"""Worker processes of this machine, that only their owner can reach, and that leave nothing behind.

    driver: event loop, scheduler, nannies --TLS on 127.0.0.1--> worker processes
              |                                                     |
              +--- certificate made for the run, in memory ---------+
              +--- S3 secrets, through a pipe ----------------------+
              +--- private folder (0700), gone at the end ----------+

Every user of a machine can connect to ports on 127.0.0.1, and whoever can connect to a Dask scheduler can run code as
its owner. So both sides show a certificate that is made for the run and never written to a file. What workers are
started with can be read in ``/proc`` while they live: secrets are not among it. The dashboard, which speaks plain HTTP,
is off unless Dask's configuration says ``cagdask.dashboard: true``.

Ctrl-C reaches all processes of a terminal. Workers never get it: the thread of the event loop, which starts them, has
it blocked, and a blocked signal stays so in its children. The driver takes it, also while workers start, and ends them.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import dask
from distributed import Client, LocalCluster, Nanny
from distributed.security import Security
from distributed.utils import LoopRunner

from cagdask.compute import settings, signals
from cagdask.compute.main_guard import check_main_guard
from cagdask.compute.worker_plugins import QuietWorker
from cagdask.errors import ClusterError
from cagdask.storage import s3_settings
from cagdask.storage.scratch import scratch_folder

_CLOSE_SECONDS = 20.0
"""How long a cluster may take to end by itself; then its processes are killed."""
_STOP_SECONDS = 5.0
"""The same for one that was interrupted while it started."""
_CLIENT_SECONDS = "60s"


def _routes(dashboard: bool) -> dict[str, list[str]]:
    """Pages that are served: whether a process is there. What changes a cluster or passes requests on is not."""
    quiet = ("worker", "nanny") if dashboard else ("scheduler", "worker", "nanny")
    return {f"distributed.{part}.http.routes": ["distributed.http.health"] for part in quiet}


class _PrivateNanny(Nanny):
    """Starts a worker, also in place of one that died, without the S3 secrets in what it inherits."""

    async def instantiate(self) -> Any:
        with s3_settings.hidden():
            return await super().instantiate()


@contextmanager
def local_cluster(n_workers: int, memory_limit: int) -> Iterator[Client]:
    """A client of worker processes of this machine, which end with the block.

    Parameters
    ----------
    n_workers
        Processes, of one thread each.
    memory_limit
        Bytes of each.

    Raises
    ------
    ClusterError
        They can not be started, or the script that asks has no main guard.
    """
    check_main_guard()
    with s3_settings.hidden():  # the first lock starts a process that watches over all of them
        _check_semaphores()
    cores = settings.n_cores()
    kept = min(settings.KEPT_BY_ALLOCATOR, int(memory_limit * settings.KEPT_SHARE))
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        dashboard = bool(dask.config.get(settings.DASHBOARD, False))
        config = dict.fromkeys(settings.ALLOCATOR_KEYS, kept) | _routes(dashboard) | {"temporary-directory": folder}
        stack.enter_context(dask.config.set(config))
        loop = _loop(stack)
        security = certificate()

        def make() -> LocalCluster:
            return LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                memory_limit=memory_limit,
                host="127.0.0.1",
                protocol="tls://",
                security=security,
                worker_class=_PrivateNanny,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": dashboard},
                silence_logs=logging.CRITICAL,
                env=dict.fromkeys(settings.THREAD_VARIABLES, str(max(1, cores // n_workers))) | s3_settings.secrets(),
                local_directory=folder,
                asynchronous=True,
            )

        cluster = stack.enter_context(_started(loop, make))
        client = stack.enter_context(
            Client(
                cluster.scheduler_address, security=security, loop=loop, timeout=_CLIENT_SECONDS, set_as_default=False
            )
        )
        client.register_plugin(QuietWorker())
        yield client


def certificate() -> Security:
    """A key and a certificate of its own, in memory, that both sides of every connection must show."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())  # a millisecond, where RSA takes a tenth of a second
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cagdask")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks are set back
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    public = signed.public_bytes(pem).decode()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=public,
        **{f"tls_{role}_cert": public for role in roles},
        **{f"tls_{role}_key": secret for role in roles},
    )


def _check_semaphores() -> None:
    """Refuse a machine on which processes can not share a lock, in words."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as err:
        raise ClusterError(
            f"worker processes need a shared memory folder that can be written, /dev/shm ({err.strerror}). Mount one, "
            "or compute in this process with `n_workers=0`."
        ) from err


def _loop(stack: ExitStack) -> Any:
    """An event loop in a thread of its own, whose children do not get Ctrl-C; it ends with the stack."""
    runner = LoopRunner()
    with signals.blocked():
        runner.start()
    stack.callback(runner.stop)
    return runner.loop


def _submit(loop: Any, work: Coroutine[Any, Any, Any]) -> Future[Any]:
    return asyncio.run_coroutine_threadsafe(work, loop.asyncio_loop)


@contextmanager
def _started(loop: Any, make: Callable[[], LocalCluster]) -> Iterator[LocalCluster]:
    """A cluster with its workers, that ends with the block; one that is interrupted while it starts is killed."""
    before = set(multiprocessing.active_children())
    made: list[LocalCluster] = []

    async def start() -> None:
        made.append(make())
        await made[0]

    async def close() -> None:
        await made[0]._close()  # close() is for callers outside of the loop, too

    coming = _submit(loop, start())
    try:
        coming.result()
    except BaseException as err:
        coming.cancel()
        _kill(before)
        if made:
            with suppress(Exception, CancelledError):
                _submit(loop, close()).result(timeout=_STOP_SECONDS)
            _kill(before)
        if isinstance(err, Exception):
            said = (str(err.__cause__ or err).strip().splitlines() or [type(err).__name__])[0]
            raise ClusterError(
                f"worker processes can not be started on this machine ({said}). Compute in this process with "
                "`n_workers=0`, or see more with -v."
            ) from err
        raise
    try:
        yield made[0]
    finally:
        with suppress(Exception):  # of what is being ended
            _submit(loop, close()).result(timeout=_CLOSE_SECONDS)
        _kill(before, wait=0)


def _kill(before: set[Any], wait: float = 2.0) -> None:
    """End worker processes that are not among those before, and those that are still being started."""
    until = time.monotonic() + wait
    while True:
        for process in set(multiprocessing.active_children()) - before:
            if process.pid is not None and "Dask Worker" in process.name:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        starting = any("watch message queue" in thread.name for thread in threading.enumerate())
        if not starting or time.monotonic() >= until:
            return
        time.sleep(0.05)
