"""What is asked of a cluster before any work: the same versions everywhere, and everything within reach.

    driver ----- same Python, Dask and cagdask? ----> scheduler, every worker
           ----- can you read this, write that? ----> every worker

A worker that differs would fail later, in words that say nothing: an answer that can not be unpickled, a file that is
not there on its machine.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from cagdask import provenance, storage
from cagdask.errors import CagdaskError, ClusterError

if TYPE_CHECKING:
    from distributed import Client

SAME = ("python", "cagdask", "dask", "distributed", "zarr", "numpy", "obstore")
"""What must be of one version: results may depend on it, or messages do."""
_NAMED = 3


def facts() -> dict[str, str]:
    """Versions of this process."""
    found = provenance.versions()
    found["python"] = ".".join(platform.python_version_tuple()[:2])
    return {name: found[name] for name in SAME if name in found}


def check_versions(client: Client) -> None:
    """Refuse a cluster whose processes are of other versions than this one.

    Raises
    ------
    ClusterError
        Names the process, the package and both versions.
    """
    try:
        found = {"the scheduler": client.run_on_scheduler(facts), **client.run(facts)}
    except (ImportError, AttributeError) as err:
        raise ClusterError(
            f"the scheduler or a worker can not import cagdask ({err}). Install the same version of it there."
        ) from err
    mine = facts()
    wrong = [
        f"{who} has {name} {theirs.get(name, 'not at all')}, this process {mine[name]}"
        for who, theirs in sorted(found.items())
        for name in mine
        if theirs.get(name) != mine[name]
    ]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ClusterError(f"versions differ: {', '.join(wrong[:_NAMED])}{more}. Use one environment everywhere.")


def problem_here(reads: list[str], writes: list[str]) -> str | None:
    """Why this process can not reach a place, or None; runs on every worker."""
    try:
        for url in reads:
            storage.check_reach(url)
            if not storage.exists(url):
                return f"finds no {url}"
        for url in writes:
            storage.check_reach(url)
            parent = storage.parent_of(storage.local_path(url))
            if not storage.is_remote(url) and not os.access(parent, os.W_OK):
                return f"can not write to {parent}"
    except CagdaskError as err:
        return str(err)
    except OSError as err:
        return f"{type(err).__name__}: {err}"
    return None


def check_reach(client: Client, reads: list[str], writes: list[str]) -> None:
    """Ask every worker whether it reaches what is to be read and written.

    Raises
    ------
    ClusterError
        Names the worker and the place.
    """
    found = {who: said for who, said in client.run(problem_here, reads, writes).items() if said}
    if not found:
        return
    who, said = min(found.items())
    local = not all(map(storage.is_remote, reads + writes))
    hint = " Use a folder that all machines share, or s3:// URLs." if local else ""
    raise ClusterError(f"worker {who} (one of {len(found)}): {said}.{hint}".replace("..", "."))
