"""Temporary folders of this machine: private, gone at the end of a block, and cleared later where a run was killed.

    TMPDIR/cagdask-XXXXXXXX/     mode 0700
      in-use                     name of the machine; locked (flock) by the process that made the folder
      ...                        what the block writes

No code of a process runs after SIGKILL or when memory runs out, so its folder stays. But the kernel drops its lock.
The first temporary folder of a later process of the same user therefore removes each folder whose lock it can take. A
folder without the name of this machine is left alone: a network disk may not tell one machine of the locks of another.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

logger = logging.getLogger(__name__)

_PREFIX = "cagdask-"
_IN_USE = "in-use"
_cleared: set[str] = set()
"""Folders for temporary files in which this process has looked for what killed runs left."""


@contextmanager
def scratch_folder(parent: str | None = None) -> Iterator[str]:
    """A folder of this machine for what nobody keeps, that only this user can look into; gone at the end of the block.

    Parameters
    ----------
    parent
        Where to make it; by default where the machine has its temporary files.
    """
    parent = os.path.abspath(parent or tempfile.gettempdir())
    if parent not in _cleared:
        _cleared.add(parent)
        clear_abandoned(parent)
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)  # with mode 0700
    try:
        mark = _mark(folder)
        try:
            yield folder
        finally:
            os.close(mark)  # network disks keep a removed file that is open
    finally:
        _remove(folder)


def _mark(folder: str) -> int:
    """Lock a folder for this process, and then name the machine: without the name nobody removes it."""
    mark = os.open(os.path.join(folder, _IN_USE), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX)
    except OSError as err:
        logger.debug("%s: this disk has no locks (%s), so that it is not cleared after a kill", folder, err.strerror)
    else:
        os.write(mark, platform.node().encode())
    return mark


def _remove(folder: str) -> None:
    """Remove a folder, its mark last: what a kill leaves in between can still be cleared."""
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != _IN_USE:
                os.remove(entry.path)
    shutil.rmtree(folder, ignore_errors=True)


def clear_abandoned(parent: str) -> list[str]:
    """Remove temporary folders of this user whose processes have ended without doing so; their paths."""
    removed, candidates = [], []
    with suppress(OSError), os.scandir(parent) as found:  # where it can not be read, only new folders are made
        candidates = [entry.path for entry in found if entry.name.startswith(_PREFIX)]
    for folder in candidates:
        try:
            if _is_private(folder) and _remove_unless_used(folder):
                removed.append(folder)
        except OSError as err:  # also where another process removes it at the same time
            logger.debug("%s: not cleared: %s", folder, err)
    return removed


def _is_private(folder: str) -> bool:
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _remove_unless_used(folder: str) -> bool:
    """Remove a folder if its lock is free and it is of this machine; whether it did."""
    mark = os.open(os.path.join(folder, _IN_USE), os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.read(mark, 1024) != platform.node().encode():
            return False
        logger.info("%s: removing what a killed run has left", folder)
        _remove(folder)
        return True
    finally:
        os.close(mark)
