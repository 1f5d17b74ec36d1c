"""Starting workers elsewhere: thin launchers over dask-jobqueue, dask-kubernetes and dask-gateway.

    --cluster slurm --workers 20  -->  dask_jobqueue.SLURMCluster()  -->  20 jobs, each a Dask worker

What a job looks like (queue, wall time, account, image, prologue) is the business of those packages and is written in
Dask's own configuration, ``~/.config/dask/*.yaml`` or ``DASK_…`` variables: nothing of it is repeated here. A cluster
that can be had as an address needs no launcher.
"""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
from distributed.security import Security

from cagdask.compute import memory as resources
from cagdask.errors import CagdaskError, ClusterError

logger = logging.getLogger(__name__)


_SHOWN = 400  # characters of what another package says


@dataclass(frozen=True)
class Launcher:
    """How clusters of one kind are started.

    Attributes
    ----------
    module, cluster
        Where the class is, and its name.
    extra
        Extra of cagdask that installs it.
    arguments
        Gives the arguments of the class from the memory of a worker in bytes and the launcher's name.
    check
        Given the class, says why it can not be used here, before anything is started; None if it can.
    """

    module: str
    cluster: str
    extra: str
    arguments: Callable[[str, int], dict[str, Any]]
    check: Callable[[Any], str | None] = lambda _: None


def _of_jobs(name: str, memory: int) -> dict[str, Any]:
    """What the configuration of a job queue leaves open: a job is one worker of one thread."""
    usual = {
        "cores": 1,
        "processes": 1,
        "memory": f"{memory // 2**20}MiB",
        "scheduler-options": {"dashboard_address": "127.0.0.1:0"},  # it shows to anybody who can connect
    }
    chosen: dict[str, Any] = {
        key.replace("-", "_"): value
        for key, value in usual.items()
        if dask.config.get(f"jobqueue.{name}.{key}", None) in (None, {})
    }
    if dask.config.get("distributed.comm.require-encryption", None):
        chosen |= {"protocol": "tls", "security": Security(require_encryption=True)}
    return chosen


def _no_submit_command(cluster: Any) -> str | None:
    command = str(cluster.job_cls.submit_command).split()[0]
    if shutil.which(command):
        return None
    return f"this machine has no command {command}. Start the run where jobs are submitted from, on a login node"


def _no_kubernetes(_cluster: Any) -> str | None:
    try:
        importlib.import_module("kr8s").api().version()  # what dask-kubernetes speaks to the cluster with
    except Exception as err:  # of its own, of the HTTP client, of files
        return f"no Kubernetes cluster can be reached from here ({_one_line(err)}). Check that kubectl version answers"
    return None


def _of_pods(_name: str, memory: int) -> dict[str, Any]:
    size = f"{memory // 2**20}Mi"
    return {"n_workers": 0, "resources": {"requests": {"memory": size}, "limits": {"memory": size}}}


def _of_gateway(_name: str, _memory: int) -> dict[str, Any]:
    return {}  # a gateway's administrators say how large its workers are


LAUNCHERS = {
    name: Launcher("dask_jobqueue", f"{name.upper()}Cluster", "jobqueue", _of_jobs, _no_submit_command)
    for name in ("slurm", "pbs", "sge", "lsf")
} | {
    "kubernetes": Launcher("dask_kubernetes.operator", "KubeCluster", "kubernetes", _of_pods, _no_kubernetes),
    "gateway": Launcher("dask_gateway", "GatewayCluster", "gateway", _of_gateway),
}


@contextmanager
def launched(name: str, n_workers: int | None, memory_limit: str | int) -> Iterator[Any]:
    """A cluster of a kind, asked for its workers, that ends with the block.

    Parameters
    ----------
    name
        One of :data:`LAUNCHERS`.
    n_workers
        Workers to ask for.
    memory_limit
        Memory of each, where the configuration of its package does not say.

    Raises
    ------
    ValueError
        The number of workers is not given.
    ClusterError
        The package is not installed, or it can not start a cluster.
    """
    launcher = LAUNCHERS[name]
    if n_workers is None:
        raise ValueError(f"`client={name!r}` needs the number of workers: give `n_workers`.")
    try:
        make = getattr(importlib.import_module(launcher.module), launcher.cluster)
    except ImportError as err:
        raise ClusterError(
            f"`client={name!r}` needs another package ({err}). Install it: pip install 'cagdask[{launcher.extra}]'."
        ) from err
    problem = launcher.check(make)
    if problem is not None:
        raise ClusterError(f"`client={name!r}`: {problem}.")
    try:
        cluster = make(**launcher.arguments(name, resources.parse_bytes(memory_limit)))
    except Exception as err:  # each package has its own
        raise ClusterError(f"`client={name!r}` can not start a cluster: {_one_line(err)} (-v shows more)") from err
    with _overheard() as failures:
        try:
            with cluster:
                cluster.scale(n_workers)
                yield cluster
        except CagdaskError:
            raise
        except Exception:
            if not failures:
                raise
            raise ClusterError(f"`client={name!r}` can not start workers: {_one_line(failures[0])}") from failures[0]
        if failures:
            logger.warning("`client='%s'`: not all workers could be started: %s", name, _one_line(failures[0]))


@contextmanager
def _overheard() -> Iterator[list[BaseException]]:
    """What fails in the background, where workers are started: the event loop logs it, and tells nobody else."""
    failures: list[BaseException] = []
    log = logging.getLogger("tornado.application")

    def hear(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            failures.append(record.exc_info[1])
            return logger.isEnabledFor(logging.INFO)  # with -v, where it happened
        return True

    log.addFilter(hear)
    try:
        yield failures
    finally:
        log.removeFilter(hear)


def _one_line(err: BaseException) -> str:
    return " ".join(str(err).split())[:_SHOWN] or type(err).__name__
