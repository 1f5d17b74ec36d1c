"""A run of several stages into one folder, that goes on where it was interrupted.

    begin --> stage "ingest" --> stage "cluster" --> ... --> run.json
      |            |                   |                        |
      run.json.partial: what was asked for, which stages        run.json.partial is gone
      are done, and what they used

The same command finds ``run.json.partial`` and goes on; another one is refused. A run that fails before anything is
worth keeping leaves nothing. Just before a stage publishes its store, the digest of that store is noted there. A store
that has it was published by this run, though the run may have been killed before it noted the stage as done.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cagdask import provenance, storage, stores
from cagdask.compute import memory
from cagdask.compute.progress import reporter
from cagdask.errors import InputError, ResumeError, StoreError
from cagdask.reports import tables

if TYPE_CHECKING:
    from cagdask.compute.runner import Runner

logger = logging.getLogger(__name__)


# -- the input -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What is known of the input before any work.

    Attributes
    ----------
    url
        Where it is.
    is_store
        Whether it need not be ingested.
    digest
        Of a sheet or table, or of what a store says of itself: enough to notice that it was exchanged.
    n_bytes
        Of all its files.
    work_bytes
        About how many bytes reading and holding it takes; of a store, its matrix.
    """

    url: str
    is_store: bool
    digest: str
    n_bytes: int
    work_bytes: int
    samples: tuple[str, ...] | None = None


def look_at(source: str, *, no_header: bool = False) -> Source:
    """Check that an input is there, and all sample files of a sheet."""
    storage.check_reach(storage.absolute(source))
    url = stores.abundance_url(source)
    if stores.is_store(url):
        arrays = storage.look(url).variables.values()  # it says what is wrong with the store
        work_bytes = max((4 * math.prod(array.shape) for array in arrays), default=0)
        digest = provenance.digest(storage.read_json(storage.join(url, "zarr.json")))
        return Source(url, True, digest, tables.tree_size(url), work_bytes)
    from cagdask.io.sheets.cohorts import samples_of, stat_folder
    from cagdask.io.sheets.sheet import stat
    from cagdask.io.tables.reading import Reading
    from cagdask.io.work_size import sheet_work_bytes, table_work_bytes

    cohort = samples_of(url, Reading(no_header=no_header))
    if cohort is not None:
        files = cohort.files
        digest = provenance.digest([[file.sample, file.url, file.size, file.modified] for file in files])
        work = sheet_work_bytes((file.url, file.size) for file in files)
        n_bytes = sum(file.size for file in files)
        return Source(url, False, digest, n_bytes, work, tuple(file.sample for file in files))
    found = stat(url) or stat_folder(url)
    if found is None:
        raise InputError(f"{url}: there is no such file or store. Check the path.")
    return Source(url, False, provenance.digest([url, found]), found[0], table_work_bytes(url, found[0]))


# -- a run that can be interrupted -----------------------------------------------------------------------------------


STEPS = {
    "ingest": "read the input",
    "cluster": "group genes",
    "cut": "cut the merge tree",
    "assign": "assign genes",
    "outputs": "write tables",
    "report": "write the report",
}
"""Steps of a command, as people hear of them."""


@dataclass
class Progress:
    """What an unfinished run has done, kept in ``run.json.partial``.

    Attributes
    ----------
    output
        Folder of the run.
    recipe
        What was asked for; a run goes on only if it is asked for the same.
    products
        Store in ``output`` that each of the long stages makes.
    replace
        Whether what is there may be replaced.
    done
        Stages that ended well.
    stages
        What each stage used, over all tries.
    search
        What the engine noted of its search.
    publishing
        Digest of the store that each stage published, or was about to.
    """

    output: str
    recipe: dict[str, Any]
    products: dict[str, str]
    replace: bool
    done: list[str] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    search: dict[str, Any] = field(default_factory=dict)
    publishing: dict[str, str] = field(default_factory=dict)

    def has_published(self, stage: str) -> bool:
        """Whether the store of a stage is the one that this run made; other stages have none."""
        said = self.publishing.get(stage)
        return said is not None and said == storage.published(storage.join(self.output, self.products[stage]))

    def save(self, *more: dict[str, Any]) -> None:
        """Write it down, with ``more`` of what stages used."""
        content = {
            "recipe": self.recipe,
            "done": self.done,
            "stages": [*self.stages, *more],
            "search": self.search,
            "publishing": self.publishing,
        }
        storage.write_json(storage.join(self.output, stores.PARTIAL), content)

    @property
    def steps(self) -> list[str]:
        """Steps of the command, in order."""
        return [*self.products, "outputs", *(["report"] if self.recipe.get("command") != "cluster" else [])]

    def _tell(self, name: str) -> None:
        """Say which step of the command begins."""
        steps = self.steps
        if name in steps:
            reporter().step(steps.index(name) + 1, len(steps), STEPS.get(name, name))

    @contextmanager
    def stage(self, name: str, runner: Runner) -> Iterator[None]:
        """Run a stage and keep what it used, whether it ends well or not."""
        self._tell(name)
        begun, cpu, n_before = time.perf_counter(), time.process_time(), len(runner.usage)
        memory.reset_peak()

        def used() -> dict[str, Any]:
            parts, driver = runner.usage[n_before:], time.process_time() - cpu
            return {
                "stage": name,
                "wall_seconds": round(time.perf_counter() - begun, 3),
                "cpu_seconds": round(driver + sum(part.cpu_seconds for part in parts), 3),
                "peak_bytes": max((part.peak_bytes for part in parts), default=0),
                "driver_peak_bytes": memory.peak_bytes(),
                "n_tasks": sum(part.n_tasks for part in parts),
                "parts": _by_name(parts),
            }

        def note(target: str, digest: str, about: dict[str, Any]) -> None:
            if target == storage.join(self.output, self.products.get(name, "")):
                self.publishing[name] = digest
                self.search = about or self.search
                self.save(used())

        try:
            with storage.publications_noted(note):
                yield
            self.done.append(name)
        except BaseException:
            if self.has_published(name):  # it was interrupted between publishing and its end: nothing is left to do
                self.done.append(name)
            raise
        finally:
            self.stages.append(used())
            if self.done:
                self.save()


def _by_name(used: list[memory.StageUsage]) -> list[dict[str, Any]]:
    """Usage of the steps of a stage; steps of one name, such as the rounds of a search, added up."""
    parts: dict[str, dict[str, Any]] = {}
    for one in used:
        part = parts.setdefault(one.stage, {"n_times": 0} | vars(memory.StageUsage(one.stage)))
        part["n_times"] += 1
        for name in ("n_tasks", "wall_seconds", "cpu_seconds"):
            part[name] = round(part[name] + getattr(one, name), 3)
        part["peak_bytes"] = max(part["peak_bytes"], one.peak_bytes)
    return list(parts.values())


def begin(
    output: str,
    recipe: dict[str, Any],
    products: dict[str, str],
    names: list[str],
    *,
    options: Collection[str] = (),
    overwrite: bool,
) -> Progress:
    """Start or resume a run, or refuse before anything is touched.

    Parameters
    ----------
    output
        Folder or URL prefix.
    recipe
        What is asked for, as JSON, with its options under ``parameters``.
    products
        Store in ``output`` that each of the long stages makes.
    names
        Everything that the run writes in ``output``.
    options
        Parameters that the ingest depends on: a finished ingest is kept if these are the same.
    overwrite
        Replace what is there, and throw away unfinished work of another recipe.

    Raises
    ------
    StoreError
        The output can not be written, or one of the names is there already.
    ResumeError
        An unfinished run of another recipe is there.
    """
    storage.check_target(output, overwrite=True)
    if not storage.is_remote(output) and os.path.exists(output):
        if not os.path.isdir(output):
            raise StoreError(f"{output}: is a file; the output must be a folder. Name another one.")
        if not os.access(output, os.W_OK):
            raise StoreError(f"{output}: this folder is not writable. Name another one.")
    recipe = json.loads(json.dumps(recipe))
    found = storage.read_json(storage.join(output, stores.PARTIAL))
    if found and found["recipe"] == recipe:
        progress = Progress(
            output, recipe, products, True, [], found["stages"], found["search"], found.get("publishing", {})
        )
        done = [name for name in found["done"] if storage.exists(storage.join(output, products.get(name, "")))]
        done += [name for name in products if name not in done and progress.has_published(name)]
        for name in set(done) & set(products):  # of one that was interrupted just after it was published
            with storage.claimed(storage.join(output, products[name])):  # a killed run leaves its lock
                storage.remove(storage.work_folder(storage.join(output, products[name])))
        logger.info("%s: going on with an interrupted run; done: %s", output, ", ".join(done) or "nothing")
        progress.done = done
        return progress
    if found and "ingest" in found["done"] and _ingested(found["recipe"], options) == _ingested(recipe, options):
        logger.info("%s: going on after the ingest of an earlier run, with other options", output)
        stages = [stage for stage in found["stages"] if stage["stage"] == "ingest"]
        return Progress(output, recipe, products, True, ["ingest"], stages)
    if found and found["done"] and not overwrite:
        differs = _differences(found["recipe"], recipe)
        raise ResumeError(
            f"{output}: holds an unfinished run that differs in {', '.join(differs)}. Run the earlier command again to "
            "finish it, or add `overwrite=True` to throw it away."
        )
    for name in names:
        if not overwrite and storage.is_taken(storage.join(output, name)):
            raise StoreError(
                f"{output}: {name} is already there. Add `overwrite=True` to replace it, or name another folder."
            )
    return Progress(output, recipe, products, overwrite)


def _ingested(recipe: dict[str, Any], options: Collection[str]) -> list[Any]:
    parameters = recipe["parameters"]
    return [recipe["command"], recipe["source_digest"], {name: parameters.get(name) for name in options}]


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    flat = [recipe | recipe.get("parameters", {}) for recipe in (one, other)]
    names = {name for recipe in flat for name in recipe if name != "parameters"}
    return sorted(name for name in names if flat[0].get(name) != flat[1].get(name)) or ["its parameters"]


@contextmanager
def cleaning_up(progress: Progress) -> Iterator[None]:
    """Hold the folder for this run, and leave nothing behind if it fails before anything is worth keeping."""
    existed = storage.exists(progress.output)
    storage.make_folder(progress.output)
    try:
        with storage.claimed(storage.join(progress.output, stores.RUN)):
            progress.save()
            if progress.done:  # an earlier run may have left one, which speaks of another store
                storage.remove(storage.join(progress.output, stores.RUN))
            yield
    except BaseException:
        if not progress.done:
            products = [storage.join(progress.output, name) for name in progress.products.values()]
            begun = any(storage.exists(storage.work_folder(store)) for store in products)
            if not begun and not any(map(progress.has_published, progress.products)):
                storage.remove(storage.join(progress.output, stores.PARTIAL))
                if not existed and not storage.is_remote(progress.output) and not os.listdir(progress.output):
                    os.rmdir(progress.output)
        raise
