"""What made this result: versions, parameters, digests, history."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("dask", "distributed", "zarr", "numpy", "numba", "scipy", "faiss-cpu", "xarray", "pyarrow", "obstore")


def cagdask_version() -> str:
    """Version of the installed cagdask, or ``"0+unknown"`` from a bare source tree."""
    try:
        return version("cagdask")
    except PackageNotFoundError:
        return "0+unknown"


def source() -> str:
    """The ``source`` attribute of what we write: ``"cagdask 0.1.0"``."""
    return f"cagdask {cagdask_version()}"


def versions() -> dict[str, str]:
    """Versions of Python, cagdask and what a result may depend on."""
    found = {"python": platform.python_version(), "cagdask": cagdask_version()}
    held = {name: _held(name) for name in PACKAGES}
    return found | {name: one for name, one in held.items() if one is not None}


@lru_cache
def _held(name: str) -> str | None:
    """Version of an installed package, None where it is not; to find it takes milliseconds."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def digest(content: Any) -> str:
    """SHA-256 of bytes, or of the canonical JSON of anything else, as hexadecimal."""
    data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def add_history(earlier: str, line: str) -> str:
    """``earlier`` history with one more line: what was done, by which version.

    Without a time, so that the same command gives the same bytes; ``run.json`` holds the times.
    """
    return "\n".join(part for part in (earlier, f"{source()}: {line}") if part)
