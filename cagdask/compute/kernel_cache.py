"""Where compiled kernels are kept when neither the package's folder nor the user's cache can be written.

    1. beside the modules          a usual environment
    2. ~/.cache/numba              an environment of somebody else
    3. a private temporary folder  a read-only image with a read-only home

Numba does the first two by itself, and refuses to compile where it has no place.
"""

from __future__ import annotations

import os
import stat

VARIABLE = "NUMBA_CACHE_DIR"


def ensure() -> None:
    """Name a place in the environment, where Numba and worker processes look for it; before Numba is imported."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if VARIABLE not in os.environ and not (_is_writable(package) or _is_writable(cache)):
        os.environ[VARIABLE] = _private_folder()


def _is_writable(path: str) -> bool:
    """Whether a folder can be written, or made where it is not there."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK | os.X_OK)


def _private_folder() -> str:
    """A temporary folder that only this user can write: kernels are code that will run."""
    import tempfile

    folder = os.path.join(tempfile.gettempdir(), f"cagdask-kernels-{os.getuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return tempfile.mkdtemp(prefix="cagdask-kernels-")
    return folder
