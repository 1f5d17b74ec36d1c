"""Results made from a result, as folders with the files of a run: ``cut`` and ``assign``.

    RESULT        --cut-->     CAGs of a smaller threshold  --+
                                                              +-->  OUTPUT: cags.zarr, tables, report.html, run.json
    RESULT, STORE --assign-->  CAGs with more members       --+

An OUTPUT that ends in ``.zarr`` gets the result store alone. As for ``run``, an interrupted command goes on when it is
given again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from cagdask import provenance, storage, stores
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.reports import tables
from cagdask.reports.beside import PageMaker
from cagdask.runs import files, resume
from cagdask.stores import CAGS, REPORT, RUN


def write_cut(result: str, output: str, *, max_dist: float, store: str | None, where: dict[str, Any]) -> str:
    """Cut a result, and write the files of a run.

    Parameters
    ----------
    result
        URL of a result store.
    output
        Folder to write to; or, if it ends in ``.zarr``, the result store to make.
    max_dist, store
        As for :func:`cagdask.cut`.
    where
        Arguments ``overwrite``, ``client``, ``n_workers``, ``memory_limit`` and, if wanted, ``formats``.

    Returns
    -------
    str
        URL of the new result store.

    Raises
    ------
    ValueError, SchemaError, StoreError
        As for :func:`cagdask.cut`; or ``output`` is the folder of what is cut.
    """
    overwrite, formats, where = _apart(where, output)
    with files.report_ahead(output, where, wanted=not _is_store_name(output)) as maker:
        from cagdask.cags import cutting  # takes as long to import as the process of the report to get ready
        from cagdask.cags.jobs import work_bytes

        cut = cutting.check_cut(storage.look(result), result, max_dist, store or stores.clustered_store(result))
        where |= {"work_bytes": work_bytes(*cut.shape)}

        def make(target: str, runner: Runner, replace: bool) -> None:
            cutting.cut_store(cut, target, runner, overwrite=replace)

        if _is_store_name(output):
            output = storage.absolute(output)
            storage.check_target(output, overwrite=overwrite)
            with as_runner(**where) as runner:
                make(output, runner, overwrite)
            return output
        recipe = {
            "command": "cut",
            "source": cut.store,
            "result": cut.result,
            "parameters": asdict(cut.parameters),
        } | formats
        return _write(output, recipe, _origin(cut.store, cut.result), make, overwrite, where, maker)


def write_assigned(
    store: str, output: str, *, to: str, clustered: str | None, options: dict[str, Any], where: dict[str, Any]
) -> str:
    """Assign genes to the CAGs of a result, and write the files of a run.

    Parameters
    ----------
    store, to, clustered
        As for :func:`cagdask.assign`; ``to`` is the URL of a result store.
    output
        Folder to write to; or, if it ends in ``.zarr``, the result store to make.
    options
        Its ``max_dist``, ``min_size`` and ``min_support``.
    where
        Arguments ``overwrite``, ``client``, ``n_workers``, ``memory_limit`` and, if wanted, ``formats``.

    Returns
    -------
    str
        URL of the new result store.

    Raises
    ------
    ValueError, SchemaError, InputError, StoreError
        As for :func:`cagdask.assign`; or ``output`` is the folder of ``to``.
    """
    from cagdask.cags import assignment

    overwrite, formats, where = _apart(where, output)
    clustered = clustered or stores.clustered_store(to)
    if _is_store_name(output):
        output = storage.absolute(output)
        assignment.assign(store, to=to, clustered=clustered, output=output, overwrite=overwrite, **where, **options)
        return output
    found = resume.look_at(store)
    held = storage.absolute(clustered) if clustered else found.url
    recipe = {"command": "assign", "source": held, "store": found.url, "result": to, "parameters": options} | formats

    def make(target: str, runner: Runner, replace: bool) -> None:
        assignment.assign(store, to=to, clustered=clustered, output=target, overwrite=replace, client=runner, **options)

    with files.report_ahead(output, where) as maker:
        where |= {"work_bytes": found.work_bytes}
        return _write(output, recipe, _origin(held, to), make, overwrite, where, maker)


def _apart(where: dict[str, Any], output: str) -> tuple[bool, dict[str, Any], dict[str, Any]]:
    """Whether to replace, the formats as part of a recipe, and where to compute."""
    formats = files.checked_formats(where.get("formats", ()))
    if formats and _is_store_name(output):
        raise ValueError(f"{output}: is the name of a store, and formats are of tables in a folder. Name a folder.")
    rest = {name: value for name, value in where.items() if name not in ("overwrite", "formats")}
    return bool(where["overwrite"]), {"formats": formats} if formats else {}, rest


def _is_store_name(output: str) -> bool:
    return output.rstrip("/").endswith(".zarr")


def _origin(store: str, result: str) -> files.Origin:
    """The origin of a new result; its digest changes with that of the store and of the result it is made from."""
    held = [storage.read_json(storage.join(url, "zarr.json")) for url in (store, result)]
    return files.Origin(store, provenance.digest(held), tables.tree_size(store))


def _write(
    output: str,
    recipe: dict[str, Any],
    origin: files.Origin,
    make: Callable[[str, Runner, bool], None],
    overwrite: bool,
    where: dict[str, Any],
    maker: PageMaker,
) -> str:
    """Make a result store in a folder, and all other files of a run beside it."""
    output = storage.absolute(output)
    result, command = storage.join(output, CAGS), str(recipe["command"])
    if result == recipe["result"]:
        raise ValueError(f"{output}: holds the result that {command} starts from. Name another folder.")
    tables.check_sample_names(tables.sample_names(storage.open_group(str(recipe["result"]))), "cag")
    names = [CAGS, *tables.file_names(recipe.get("formats", ())), REPORT, RUN]
    recipe = recipe | {"source_digest": origin.digest}
    progress = resume.begin(output, recipe, {command: CAGS}, names, overwrite=overwrite)
    with (
        resume.cleaning_up(progress),
        as_runner(**where) as runner,
        files.finishing(progress, runner, maker) as finish,
    ):
        if command not in progress.done:
            with progress.stage(command, runner):
                storage.check_target(result, overwrite=progress.replace)
                make(result, runner, progress.replace)
                storage.remove(storage.join(output, RUN))  # of an earlier run: it speaks of another result
        finish(origin, names)
    return result
