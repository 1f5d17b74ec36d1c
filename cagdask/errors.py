"""The exceptions of cagdask.

Every message says what was found, what is needed and what to do next. The command line prints it as one line on
stderr and exits with 1; bad arguments are plain :class:`ValueError` or :class:`TypeError`.
"""


class CagdaskError(Exception):
    """Base of all errors that cagdask raises on purpose."""


class InputError(CagdaskError, ValueError):
    """A sample sheet, sample file or table can not be used; names the file, sample, gene and value."""


class SchemaError(CagdaskError, ValueError):
    """A store or dataset lacks a variable, or holds one of the wrong kind, dims, dtype or version."""


class StoreError(CagdaskError, OSError):
    """A store is missing, unfinished, damaged, or already there and not to be overwritten."""


class ResumeError(CagdaskError, RuntimeError):
    """Unfinished work of another command lies where this one would continue."""


class MemoryLimitError(CagdaskError, ValueError):
    """A task would need more memory than a worker has; raised from the plan, before any work."""


class TaskError(CagdaskError, RuntimeError):
    """A task failed for a reason that nobody foresaw; names the stage and what the task was about."""


class ClusterError(CagdaskError, RuntimeError):
    """The Dask cluster can not be reached, has no workers, or lost them."""
