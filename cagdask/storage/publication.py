"""Publication of what was made in a work folder: in one step, complete or absent.

on a disk      one rename, or an exchange with what it replaces
on S3          a switch, which is the put of the manifest: see :mod:`cagdask.storage.targets`
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from cagdask.errors import StoreError
from cagdask.storage import files, manifest, s3
from cagdask.storage.exchange import exchanged
from cagdask.storage.files import exists, remove, write_json
from cagdask.storage.manifest import Manifest
from cagdask.storage.paths import in_place, is_remote, is_s3, join, local_path, work_folder
from cagdask.storage.s3_client import S3Client

logger = logging.getLogger(__name__)

_THREADS = 16
PUBLISHING = "publishing.json"
"""Digest of a local store, beside the work that it is made of, written just before it is published."""

Note = Callable[[str, str, dict[str, Any]], None]
"""Is told of a target, the digest of the store that it is about to become, and what there is to know of its making."""
_note: ContextVar[Note | None] = ContextVar("note", default=None)


@contextmanager
def publications_noted(note: Note) -> Iterator[None]:
    """Call ``note`` just before each store of the block is published.

    A digest that was noted and is that of the target (:func:`cagdask.storage.published`) says that the store was
    published from this block, even if the process was killed right then.
    """
    token = _note.set(note)
    try:
        yield
    finally:
        _note.reset(token)


def publish(staged: str, target: str, about: dict[str, Any] | None = None) -> None:
    """Move a finished file or folder into place. Until then, what it replaces stays.

    Parameters
    ----------
    staged, target
        What to move, and where to.
    about
        What a run that is interrupted just now has to know of the making of a store.

    Raises
    ------
    StoreError
        Another process published the same target at the same time.
    """
    is_store = exists(join(staged, "zarr.json"))
    made = manifest.make(staged) if is_store else None
    if made is not None:
        files.write_bytes(join(staged, manifest.NAME), made.to_bytes())
        _tell(target, made.digest, about or {})
    if not is_remote(target):
        _rename(local_path(staged), local_path(target), used_up=made is None)
    elif is_s3(target) and made is not None:
        _switch(staged, target, made)
    else:
        _copy_folder(staged, target)


def _tell(target: str, digest: str, about: dict[str, Any]) -> None:
    if exists(work_folder(target)) and not is_s3(target):  # there the work stays until all is copied
        write_json(join(work_folder(target), PUBLISHING), {"digest": digest})
    note = _note.get()
    if note is not None:
        note(target, digest, about)


def _rename(staged: str, target: str, *, used_up: bool) -> None:
    """One rename; where there is something to replace, the two are exchanged, and it ends with the work folder."""
    if used_up:  # nothing tells later whether this was done: a later try must not rely on the work
        remove(join(work_folder(target), "recipe.json"))
    if not os.path.isdir(staged) or not os.path.exists(target):
        os.replace(staged, target)
        return
    if not exchanged(staged, target):  # not Linux, or a file system that can not: two renames
        replaced = f"{staged}.replaced"
        remove(replaced)
        os.rename(target, replaced)
        try:
            os.rename(staged, target)
        except OSError:
            os.rename(replaced, target)
            raise
        staged = replaced
    if used_up or not staged.startswith(work_folder(target) + os.sep):
        remove(staged)


def _switch(staged: str, target: str, made: Manifest) -> None:
    """Publish a store on S3, in steps that can be ended by anyone who finds them begun."""
    before = manifest.read(target)
    if before is None and exists(join(target, "zarr.json")) and not exists(join(work_folder(target), "recipe.json")):
        before = Manifest({})  # a store of another program: there to be replaced, but nothing says what it is
    if before is not None and not (before.location is not None and before.files == made.files):
        location = staged.removeprefix(work_folder(target)).strip("/")
        before = _put(target, replace(made, location=location), before.tag)
    _settle_from(staged, target, made, before.tag if before else None)


def settle(target: str) -> None:
    """End a publication that was interrupted after its switch."""
    if not is_s3(target):
        return
    found = manifest.read(target)
    if found is not None and found.location is not None:
        logger.info("%s: ending the publication of an earlier run", target)
        _settle_from(join(work_folder(target), found.location), target, found, found.tag)


def _settle_from(staged: str, target: str, made: Manifest, tag: str | None) -> None:
    client, goal = s3.bucket(target)
    _, source = s3.bucket(staged)
    with files.errors_named(target):
        there = client.listing(goal)
        first = [f"{goal}/{name}" for name in there if name.endswith("zarr.json") and name != manifest.NAME]
        client.delete(first)  # who has no manifest in mind finds no store while it changes
        client.delete([f"{goal}/{name}" for name in there if name not in made.files and name != manifest.NAME])
        if in_place(staged) is None:
            _copy(client, source, goal, [name for name in made.files if not name.endswith("zarr.json")])
        _copy(client, source, goal, [name for name in made.files if name.endswith("zarr.json") and "/" in name])
        _copy(client, source, goal, ["zarr.json"])
    wrong = manifest.problems(target, made)
    manifest.refuse(target, wrong)
    _put(target, replace(made, location=None), tag)


def _copy(client: S3Client, source: str, goal: str, names: list[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda name: client.copy(f"{source}/{name}", f"{goal}/{name}"), names))


def _put(target: str, made: Manifest, tag: str | None) -> Manifest:
    """Write a manifest in place of the one with this tag, or of none."""
    client, key = s3.bucket(join(target, manifest.NAME))
    try:
        with files.errors_named(target):
            new = client.put(key, made.to_bytes(), version=tag, create=tag is None)
    except FileExistsError as err:
        raise StoreError(
            f"{target}: another run published it meanwhile. Look at what it holds; `overwrite=True` replaces it."
        ) from err
    return replace(made, tag=new)


def _copy_folder(staged: str, target: str) -> None:
    """Copy a file, or a folder that is no store, on an object store."""
    if is_s3(target):
        client, goal = s3.bucket(target)
        _, source = s3.bucket(staged)
        with files.errors_named(target):
            names = sorted(client.listing(source))
            if not names:
                client.copy(source, goal)
                return
            _copy(client, source, goal, names)
            left = [f"{goal}/{name}" for name in client.listing(goal) if name not in names]
            client.delete(left)
        return
    fs, source = files.filesystem(staged)
    _, goal = files.filesystem(target)
    if not fs.isdir(source):
        fs.mv(source, goal)
        return
    remove(target)
    for path in sorted(fs.find(source), key=lambda path: path == f"{source}/zarr.json"):
        fs.copy(path, goal + path[len(source) :])
