"""Two folders of one disk that change their names in one step, so that a reader finds either of them, whole."""

from __future__ import annotations

import ctypes
import os

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100


def exchanged(one: str, other: str) -> bool:
    """Exchange the names of two local paths; False where the system or its file system can not."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    ended = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    return bool(ended == 0)
