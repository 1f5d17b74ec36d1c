"""Where and how tasks run: workers, stages, memory, progress, and what an interrupted run goes on from.

settings         what cagdask sets in Dask, and how long it waits
allowed          cores and memory that this process may use: affinity, cgroups, batch jobs
memory           what a task may use, and what a stage used
progress         what is done, for whoever shows it
finished_tasks   saved results of finished tasks, for resuming
executor         what runs tasks, and what it tells of each: in_process (threads here), on_dask (workers)
runner           runs the tasks of a stage on an executor, and keeps account
work             the work folder of a command, on which each builds its own class
connect          which executor
local_cluster    worker processes of this machine, that only their owner can reach
kernels          njit, whose compiled kernels are loaded without what only compiling needs
kernel_cache     where compiled kernels are kept if no usual place can be written
signals          SIGTERM and SIGHUP end as Ctrl-C does
launchers        workers on SLURM, Kubernetes, ... (--cluster)
quick_start      PyArrow without pandas, SciPy's compiled modules alone, fewer looks for objects that nobody uses
worker_plugins   what is set up in worker processes
checks           whether workers that somebody else started have the same versions and reach the same places
"""
