"""Frames of molecular dynamics trajectories as rows of coordinates, read with mdtraj where it is installed.

    a.h5, b.h5 --seek--> frames 100 to 200 --> float64 rows, x y z of every atom, in nm

Only formats in which a frame can be found without reading those before it are taken, so that any block of frames costs
its own size. mdtraj holds coordinates in float32; as float64 they are the same numbers.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError

SUFFIXES = (".h5", ".hdf5", ".xtc", ".trr", ".dcd", ".nc", ".netcdf")
WITH_TOPOLOGY = (".h5", ".hdf5")
FRAMES_AT_ONCE = 1000


def suffix_of(url: str) -> str | None:
    """Which of :data:`SUFFIXES` a name ends with; None for others."""
    return next((suffix for suffix in SUFFIXES if storage.name_of(url).lower().endswith(suffix)), None)


def library() -> Any:
    """The module mdtraj.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        import mdtraj
    except ImportError as err:
        raise InputError(
            f"trajectories are read with mdtraj, which is not installed ({err}). pip install 'cagdask[mdtraj]'."
        ) from err
    return mdtraj


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    """A trajectory file of mdtraj; what its C code prints goes to stderr."""
    md = library()
    if storage.is_remote(url):
        raise InputError(f"{url}: trajectories are read from local files only. Copy it first.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _stdout_to_stderr():
                file = md.open(storage.local_path(url))
            with file:
                yield file
    except ImportError as err:
        line = str(err).strip().splitlines()[0]
        raise InputError(f"{url}: can not be read ({line}). pip install 'cagdask[mdtraj]'.") from err
    except (OSError, RuntimeError, ValueError, KeyError) as err:
        if isinstance(err, InputError):
            raise
        line = (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
        raise InputError(f"{url}: can not be read as a trajectory ({line}). Write the file again.") from err


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _topology(url: str, file: Any, topology: str | None) -> Any:
    """Topology of a trajectory: its own, or that of a file."""
    if topology is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return library().load_topology(storage.local_path(topology))
        except (OSError, ValueError, KeyError, IndexError) as err:
            raise InputError(f"{topology}: holds no topology ({err}). Give a .pdb, .gro or .h5 file.") from err
    own = file.topology if suffix_of(url) in WITH_TOPOLOGY else None
    if own is None:
        raise InputError(
            f"{url}: has no topology of its own. Name a file that has one with `topology`, such as a .pdb."
        )
    return own


def measure(urls: Sequence[str], topology: str | None) -> tuple[int, list[str]]:
    """Number of frames of all trajectories together, and the names of their atoms.

    Raises
    ------
    InputError
        A file can not be read, has no topology, or other atoms than the first.
    """
    n_frames = 0
    atoms: list[str] = []
    for url in urls:
        with _opened(url) as file:
            n = len(file)
            n_frames += n
            found = [f"{i} {atom}" for i, atom in enumerate(_topology(url, file, topology).atoms)]
            if n:
                held = np.asarray(_frames(file, 1)).shape[1]
                if held != len(found):
                    where = topology or "its topology"
                    raise InputError(f"{url}: has {held} atoms, but {where} has {len(found)}. Name another topology.")
        if not atoms:
            atoms = found
        elif found != atoms:
            first = next((f"{a!r} and {b!r}" for a, b in zip(atoms, found, strict=False) if a != b), "the first ones")
            raise InputError(
                f"{url}: its {len(found)} atoms are not the {len(atoms)} of {urls[0]} (compare {first}). "
                "Cluster trajectories of the same molecule."
            )
    if n_frames == 0:
        raise InputError(f"{urls[0]}: has no frames; there is nothing to cluster.")
    return n_frames, atoms


def _frames(file: Any, n_frames: int) -> Any:
    """Coordinates of the next frames in the unit of the file."""
    found = file.read(n_frames=n_frames)
    return found.coordinates if hasattr(found, "coordinates") else found[0] if isinstance(found, tuple) else found


def read_frames(urls: Sequence[str], topology: str | None, begin: int, end: int) -> NDArray[np.float64]:
    """Frames ``begin:end`` of all trajectories one after the other, shape (end - begin, 3 · atoms), nm."""
    parts: list[NDArray[np.float64]] = []
    at = 0
    for url in urls:
        if at >= end:
            break
        with _opened(url) as file:
            n = len(file)
            low, high = max(begin - at, 0), min(end - at, n)
            if low < high:
                file.seek(low)
                found = file.read_as_traj(*_top(url, file, topology), n_frames=high - low).xyz
                parts.append(found.reshape(len(found), -1).astype(np.float64))
            at += n
    return np.concatenate(parts)


def _top(url: str, file: Any, topology: str | None) -> tuple[Any, ...]:
    return () if suffix_of(url) in WITH_TOPOLOGY else (_topology(url, file, topology),)


def rmsd_to(frames: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """RMSD of every frame to each target after superposition, shape (n_frames, n_targets), nm.

    ``frames`` and ``target`` are rows of coordinates. A frame's numbers do not depend on those beside it.
    """
    mobile, fixed = _centered(frames), _centered(target)
    found = np.empty((len(frames), len(target)))
    for j in range(len(target)):
        found[:, j] = library().rmsd(mobile, fixed, j, parallel=False, precentered=True)
    return found


def rmsd_among(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """RMSD of every pair of frames, in the order of ``scipy.spatial.distance.pdist``."""
    mobile = _centered(frames)
    n = len(frames)
    found = np.empty(n * (n - 1) // 2)
    at = 0
    for i in range(n - 1):
        row = library().rmsd(mobile, mobile, i, parallel=False, precentered=True)[i + 1 :]
        found[at : at + len(row)] = row
        at += len(row)
    return found


def _centered(frames: NDArray[np.float64]) -> Any:
    xyz = frames.reshape(len(frames), -1, 3).astype(np.float32)
    found = library().Trajectory(xyz, None)
    found.center_coordinates()
    return found
