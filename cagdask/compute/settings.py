"""What cagdask sets in Dask and in its worker processes, and how long it waits.

Nothing here imports Dask: these are plain values that :mod:`cagdask.compute.connect` hands to it.
"""

from __future__ import annotations

from cagdask.compute import memory
from cagdask.compute.allowed import allowed

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
ALLOCATOR_KEYS = tuple(name for name in DASK_CONFIG if ".MALLOC_" in name)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
WINDOW_PER_THREAD = 4
"""Tasks submitted ahead per worker thread: keeps workers busy and the scheduler small."""
PATIENCE = {
    "cagdask.connect-timeout": "20s",  # until the scheduler at a given address answers
    "cagdask.first-worker-timeout": "60s",  # until a cluster that runs already has a worker
    "cagdask.launched-worker-timeout": "1 hour",  # the same for one that --cluster starts: jobs may queue
    "cagdask.no-workers-timeout": "60s",  # how long a run goes on without any worker
}
"""How long cagdask waits, by the name in Dask's configuration that changes it."""
DASHBOARD = "cagdask.dashboard"
"""Name in Dask's configuration that turns on the dashboard of workers that a run starts on its machine."""
IN_PROCESS_BYTES = 2**30
"""Work up to this size runs in this process unless workers are asked for: starting them would take longer."""
MAX_WORKERS = 16
"""Worker processes of a LocalCluster, and tasks at once in this process, unless more are asked for."""
DEFAULT_MEMORY = "4GiB"
"""Memory of a worker, or of this process; less where less is allowed."""


def n_cores() -> int:
    """Processor cores that this process may use: see :mod:`cagdask.compute.allowed`."""
    return allowed().cores.n


def memory_here(memory_limit: str | int, n_workers: int = 1) -> int:
    """Bytes of each of some processes of this machine: as asked for, or what is allowed where nobody asked."""
    wanted = memory.parse_bytes(memory_limit)
    return allowed().worker_memory(wanted, n_workers) if memory_limit == DEFAULT_MEMORY else wanted


def workers_here(n_workers: int | None, memory_limit: str | int) -> tuple[int, int]:
    """How many workers to start on this machine, and bytes of each.

    Parameters
    ----------
    n_workers
        As asked for; None: as many as are allowed.
    memory_limit
        As asked for; :data:`DEFAULT_MEMORY` counts as not asked for.
    """
    here = allowed()
    if n_workers is None:
        n_workers = here.n_workers(MAX_WORKERS)
        if memory_limit != DEFAULT_MEMORY:  # of that size, no more than fit
            n_workers = max(1, min(n_workers, here.memory.n // memory.parse_bytes(memory_limit)))
    return n_workers, memory_here(memory_limit, n_workers)
