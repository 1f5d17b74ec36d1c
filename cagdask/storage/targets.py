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

    new target      chunks are written into place --> copy the metadata there, the root last --> put the manifest
    replacement     put a manifest that says "in cohort.zarr.work/store" --> replace the objects --> put the manifest

A reader follows the manifest, so at any moment it finds either the old store or the new one, complete. If the
publishing process is killed between two steps, the next run for the target first finishes the publication.

Only where nothing was before are chunks written into place: the recipe says so. Without the metadata, which lie in
``cohort.zarr.work/in-place`` until the end, they are no store for anyone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from cagdask.errors import ResumeError, StoreError
from cagdask.storage import files, locks, manifest, publication
from cagdask.storage.files import exists, make_folder, read_json, remove, write_json
from cagdask.storage.paths import IN_PLACE, absolute, is_remote, is_s3, join, parent_of, work_folder

logger = logging.getLogger(__name__)


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
    if not overwrite and is_taken(url):
        if not is_remote(url) and _was_just_published(url):
            remove(work_folder(url))
            raise StoreError(
                f"{url}: is complete. The run that was interrupted had just published it; nothing is left to do."
            )
        raise StoreError(f"{url}: is already there. Add `overwrite=True` to replace it, or name another target.")


def is_taken(url: str) -> bool:
    """Whether something is at a target, other than what belongs to unfinished work for it."""
    if not is_s3(url) or not exists(url):
        return exists(url)
    return manifest.read(url) is not None or not exists(join(work_folder(url), "recipe.json"))


def _was_just_published(url: str) -> bool:
    """Whether an earlier run ended between publishing a local store and deleting what it worked with."""
    folder = work_folder(url)
    if not exists(folder) or exists(locks.lock_of(url)) or manifest.published(url) is None:
        return False
    return _is_used_up(url) or not exists(join(folder, "recipe.json"))


def _is_used_up(target: str, recipe: dict[str, Any] | None = None) -> bool:
    """Whether what a work folder was to become has been published from it, or was being thrown away."""
    if recipe is not None and (recipe.get(_DROPPED) or (recipe.get(_IN_PLACE) and manifest.read(target) is not None)):
        return True
    said = read_json(join(work_folder(target), publication.PUBLISHING))
    return bool(said) and said["digest"] == manifest.published(target)


def begin_work(
    target: str, recipe: dict[str, Any], *, overwrite: bool = False, is_store: bool = False
) -> tuple[str, dict[str, Any]]:
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
    is_store
        A Zarr store is made, at :func:`staged_store`.

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
        return _begin(target, recipe, overwrite=overwrite, is_store=is_store)
    except BaseException:
        locks.release(target)
        raise


def _begin(target: str, recipe: dict[str, Any], *, overwrite: bool, is_store: bool) -> tuple[str, dict[str, Any]]:
    folder = work_folder(target)
    plan = recipe.get("plan", {})
    found = read_json(join(folder, "recipe.json")) if exists(folder) else None
    wanted = json.loads(json.dumps({key: value for key, value in recipe.items() if key != "plan"}))
    if found is not None and not _is_used_up(target, found):
        kept = found.pop("plan", {})
        _in_place[folder] = found.pop(_IN_PLACE, False)
        if found == wanted:
            logger.info("%s: going on with the work found in %s", target, folder)
            return folder, kept
        if not overwrite:
            differs = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise ResumeError(
                f"{folder}: holds unfinished work that differs in {', '.join(differs)}. Run the earlier command again "
                "to finish it, or add `overwrite=True` to throw it away."
            )
    publication.settle(target)
    _drop(target)
    remove(folder)
    make_folder(folder)
    _in_place[folder] = is_store and is_s3(target) and not exists(target)
    marks = {_IN_PLACE: True} if _in_place[folder] else {}
    write_json(join(folder, "recipe.json"), wanted | {"plan": plan} | marks)
    return folder, plan


# -- chunks in place ---------------------------------------------------------------------------------------------------

_IN_PLACE, _DROPPED = "chunks in place", "dropped"
_in_place: dict[str, bool] = {}
"""Of the work folders that this process began: whether chunks of their store are written where they are to stay."""


def staged_store(folder: str) -> str:
    """Where, for a work folder of :func:`begin_work`, a Zarr store is made that :func:`publish` puts into place."""
    placed = _in_place.get(folder)
    if placed is None:
        placed = is_s3(folder) and bool((read_json(join(folder, "recipe.json")) or {}).get(_IN_PLACE))
    return join(folder, IN_PLACE if placed else "store")


def _drop(target: str) -> None:
    """Delete the recipe of work, and before it the chunks in place of a store that was not published."""
    recipe = join(work_folder(target), "recipe.json")
    found = read_json(recipe) if is_s3(target) else None
    if found and found.get(_IN_PLACE) and manifest.read(target) is None:
        write_json(recipe, {_IN_PLACE: True, _DROPPED: True})  # no later run must resume without its chunks
        remove(target)
    remove(recipe)


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
    _drop(target)
    (_remove_soon.get() or _remove_work)(target)


def _remove_work(target: str) -> None:
    remove(work_folder(target))
    locks.release(target, whole=True)


def abandon_work(folder: str) -> None:
    """Delete a work folder that no later run can resume from, and unlock its target."""
    end_work(folder.removesuffix(work_folder("")))
