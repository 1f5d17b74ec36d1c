"""Work in progress: a folder in which the tasks of a command write, and a runner that runs them.

    TARGET.work/          folder
      done/<stage>/*.json results of finished tasks, for resuming
      store/              the result, until it is published at TARGET; on S3 its chunks may lie there already
      ...                 what tasks hand on

Each command has a class of its own that puts its stages in order, on top of :class:`Work`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cagdask import storage
from cagdask.compute.runner import Runner


@dataclass
class Work:
    """A work folder and where its tasks run.

    Attributes
    ----------
    folder
        The work folder, as :func:`cagdask.storage.begin_work` gives it.
    runner
        Where tasks run.
    n_before
        Stages that the runner had run before.
    """

    folder: str
    runner: Runner
    n_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_before = len(self.runner.usage)

    @property
    def done(self) -> str:
        """Folder of the kept results of finished tasks."""
        return self.path("done")

    @property
    def staged(self) -> str:
        """The result until it is published."""
        return storage.staged_store(self.folder)

    def path(self, *parts: str) -> str:
        """A place in the work folder."""
        return storage.join(self.folder, *parts)
