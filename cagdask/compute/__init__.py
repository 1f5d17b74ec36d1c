"""Where and how tasks run: workers, stages, memory, progress, and what an interrupted run goes on from.

settings         what cagdask sets in Dask, and how long it waits
memory           what a task may use, and what a stage used
progress         what is done, for whoever shows it
finished_tasks   saved results of finished tasks, for resuming
launchers        workers on SLURM, Kubernetes, ... (--cluster)
checks           whether workers that somebody else started have the same versions and reach the same places
runner           runs the tasks of a stage on an executor, and keeps account
"""
