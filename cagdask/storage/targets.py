"""Targets are complete or absent: they are written in a work folder, then published in one step.

    cohort.zarr.lock                which run is writing it
    cohort.zarr.work/recipe.json    what is being made: a resumed run must ask for the same
                     done/…         one small JSON per finished task
                     …              files that tasks hand to each other
                     store/         the Zarr group, complete before it is published
                     publishing.json   its digest, written just before it is
    cohort.zarr                     appears last; what it replaces is there until then

On a disk the switch is one rename, which exchanges the old store and the new one. Object stores have none: there the
switch is the put of the manifest, on the condition that nobody else has written one meanwhile:

    new target      copy all objects into place --> put the manifest
    replacement     put a manifest that says "in cohort.zarr.work/store" --> replace the objects --> put the manifest

A reader follows the manifest, so at any moment it finds either the old store or the new one, complete. If the
publishing process is killed between two steps, the next run for the target first finishes the publication.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from cagdask.errors import ResumeError, StoreError
from cagdask.storage import files, locks, manifest, s3
from cagdask.storage.exchange import exchanged
from cagdask.storage.files import exists, make_folder, read_json, remove, write_json
from cagdask.storage.manifest import Manifest
from cagdask.storage.paths import absolute, is_remote, is_s3, join, local_path, parent_of

logger = logging.getLogger(__name__)

_THREADS = 16
_PUBLISHING = "publishing.json"


def work_folder(target: str) -> str:
    """Where unfinished work for ``target`` lies."""
    return target.rstrip("/") + ".work"


def check_target(url: str, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a target that can not be written or must not be replaced.

    Raises
    ------
    StoreError
        Its folder is missing or not writable, its bucket can not be listed, or it is there and ``overwrite`` is false.
    """
    files.check_reach(url)
    if not is_remote(url):
        parent = parent_of(absolute(url))
        if not os.path.isdir(parent):
            raise StoreError(f"{url}: the folder {parent} does not exist. Make it first, or name another target.")
        if not os.access(parent, os.W_OK):
            raise StoreError(f"{url}: the folder {parent} is not writable. Name another target.")
    there = exists(url)
    if there and is_s3(url) and not overwrite:  # objects without a manifest, beside unfinished work, are part of that
        there = manifest.read(url) is not None or not exists(join(work_folder(url), "recipe.json"))
    if there and not overwrite:
        if not is_remote(url) and _was_just_published(url):
            remove(work_folder(url))
            raise StoreError(
                f"{url}: is complete. The run that was interrupted had just published it; nothing is left to do."
            )
        raise StoreError(f"{url}: is already there. Add `overwrite=True` to replace it, or name another target.")


def _was_just_published(url: str) -> bool:
    """Whether an earlier run ended between publishing a local store and deleting what it worked with."""
    folder = work_folder(url)
    if not exists(folder) or exists(locks.lock_of(url)) or manifest.published(url) is None:
        return False
    return _is_used_up(url) or not exists(join(folder, "recipe.json"))


def _is_used_up(target: str) -> bool:
    """Whether what a work folder was to become has been published from it."""
    said = read_json(join(work_folder(target), _PUBLISHING))
    return bool(said) and said["digest"] == manifest.published(target)


def begin_work(target: str, recipe: dict[str, Any], *, overwrite: bool = False) -> tuple[str, dict[str, Any]]:
    """Start or resume work for a target, and lock it until :func:`end_work` or the end of this process.

    Parameters
    ----------
    target
        What is to be made.
    recipe
        What determines it, as JSON. The entry ``plan``, if any, may differ from one try to the next: the plan of the
        first try is kept, since its finished tasks belong to it.
    overwrite
        Throw away unfinished work of another recipe.

    Returns
    -------
    folder, plan
        The work folder, and the plan to follow.

    Raises
    ------
    ResumeError
        Work of another recipe is there.
    StoreError
        Another run is at work on the target.
    """
    locks.acquire(target)
    try:
        return _begin(target, recipe, overwrite=overwrite)
    except BaseException:
        locks.release(target)
        raise


def _begin(target: str, recipe: dict[str, Any], *, overwrite: bool) -> tuple[str, dict[str, Any]]:
    folder = work_folder(target)
    plan = recipe.get("plan", {})
    found = read_json(join(folder, "recipe.json")) if exists(folder) else None
    wanted = json.loads(json.dumps({key: value for key, value in recipe.items() if key != "plan"}))
    if found is not None and not _is_used_up(target):
        kept = found.pop("plan", {})
        if found == wanted:
            logger.info("%s: going on with the work found in %s", target, folder)
            return folder, kept
        if not overwrite:
            differs = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise ResumeError(
                f"{folder}: holds unfinished work that differs in {', '.join(differs)}. Run the earlier command again "
                "to finish it, or add `overwrite=True` to throw it away."
            )
    _settle(target)
    remove(folder)
    make_folder(folder)
    write_json(join(folder, "recipe.json"), wanted | {"plan": plan})
    return folder, plan


_remove_soon: ContextVar[Callable[[str], None] | None] = ContextVar("remove_soon", default=None)


@contextmanager
def removals_beside() -> Iterator[None]:
    """Delete the work folders of targets that are finished in the block while its next steps run.

    A disk takes a millisecond for each of some hundred small files. At the end of the block they are gone; a target
    stays locked until then.
    """
    begun: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:
        token = _remove_soon.set(lambda target: begun.append(pool.submit(_remove_work, target)))
        try:
            yield
        finally:
            _remove_soon.reset(token)
    for removal in begun:
        removal.result()


def end_work(target: str) -> None:
    """Delete the work folder of a finished target, its recipe first, so that no later run resumes from it."""
    remove(join(work_folder(target), "recipe.json"))
    (_remove_soon.get() or _remove_work)(target)


def _remove_work(target: str) -> None:
    remove(work_folder(target))
    locks.release(target, whole=True)


def abandon_work(folder: str) -> None:
    """Delete a work folder that no later run can resume from, and unlock its target."""
    end_work(folder.removesuffix(work_folder("")))


# -- publication -----------------------------------------------------------------------------------------------------


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
        write_json(join(work_folder(target), _PUBLISHING), {"digest": digest})
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


def _settle(target: str) -> None:
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
        there = s3.listing(client, goal)
        first = [f"{goal}/{name}" for name in there if name.endswith("zarr.json") and name != manifest.NAME]
        s3.delete(client, first)  # who has no manifest in mind finds no store while it changes
        s3.delete(client, [f"{goal}/{name}" for name in there if name not in made.files and name != manifest.NAME])
        _copy(client, source, goal, [name for name in made.files if not name.endswith("zarr.json")])
        _copy(client, source, goal, [name for name in made.files if name.endswith("zarr.json") and "/" in name])
        _copy(client, source, goal, ["zarr.json"])
    wrong = manifest.problems(target, made)
    manifest.refuse(target, wrong)
    _put(target, replace(made, location=None), tag)


def _copy(client: Any, source: str, goal: str, names: list[str]) -> None:
    import obstore

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda name: obstore.copy(client, f"{source}/{name}", f"{goal}/{name}"), names))


def _put(target: str, made: Manifest, tag: str | None) -> Manifest:
    """Write a manifest in place of the one with this tag, or of none."""
    client, key = s3.bucket(join(target, manifest.NAME))
    try:
        with files.errors_named(target):
            new = s3.put(client, key, made.to_bytes(), version=tag, create=tag is None)
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
            names = sorted(s3.listing(client, source))
            if not names:
                _copy_object(client, source, goal)
                return
            _copy(client, source, goal, names)
            left = [f"{goal}/{name}" for name in s3.listing(client, goal) if name not in names]
            s3.delete(client, left)
        return
    fs, source = files.filesystem(staged)
    _, goal = files.filesystem(target)
    if not fs.isdir(source):
        fs.mv(source, goal)
        return
    remove(target)
    for path in sorted(fs.find(source), key=lambda path: path == f"{source}/zarr.json"):
        fs.copy(path, goal + path[len(source) :])


def _copy_object(client: Any, source: str, goal: str) -> None:
    import obstore

    obstore.copy(client, source, goal)
