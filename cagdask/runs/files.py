"""The last stages of every command that leaves the folder of a run, whatever made the result store in it.

cags.zarr --write_tables--> *.parquet, CAGs.csv.gz --PageMaker--> report.html --finish--> run.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cagdask import provenance, storage
from cagdask.compute.runner import Runner
from cagdask.reports import tables
from cagdask.reports.beside import PageMaker, report_beside
from cagdask.stores import CAGS, PARTIAL, REPORT, RUN

if TYPE_CHECKING:
    from cagdask.runs.resume import Progress


@dataclass(frozen=True)
class Origin:
    """What a result was made from, for ``run.json``.

    Attributes
    ----------
    store
        The abundance store.
    digest
        Of the input of the command.
    n_bytes
        Bytes of that input.
    """

    store: str
    digest: str
    n_bytes: int


def checked_formats(formats: str | Iterable[str]) -> tuple[str, ...]:
    """Formats of tables that are written beside Parquet, in the order of :data:`cagdask.reports.tables.OTHERS`.

    Parameters
    ----------
    formats
        Names, or text with commas between them.

    Raises
    ------
    ValueError
        One is not known.
    InputError
        One needs a library that is not installed.
    """
    asked = [one.strip() for one in formats.split(",")] if isinstance(formats, str) else list(formats)
    for one in asked:
        if one not in tables.OTHERS:
            raise ValueError(f"format is {one!r}; choose from {', '.join(tables.OTHERS)}.")
    if "geneshot" in asked:
        from cagdask.reports.geneshot_file import check_tables

        check_tables()
    return tuple(one for one in tables.OTHERS if one in asked and one != "parquet")


def write_tables(progress: Progress, runner: Runner) -> list[dict[str, Any]]:
    """Write the tables of the result in the folder, one task each; gives what :func:`tables.write_file` says."""
    result = storage.join(progress.output, CAGS)
    with progress.stage("outputs", runner):
        names = tables.file_names(progress.recipe.get("formats", ()))
        items = [(name, result, progress.output) for name in names]
        return runner.map("write files", tables.write_file, items, unit="files")


@contextmanager
def report_ahead(output: str, where: dict[str, Any], *, wanted: bool = True) -> Iterator[PageMaker]:
    """Give what writes a page: where a run may compute in this process, another one that gets ready from now on.

    Parameters
    ----------
    output
        Folder of the run.
    where
        Where to compute: ``client``, ``n_workers``.
    wanted
        Whether there will be a page.
    """
    client = where.get("client")
    may_be_here = client.in_process if isinstance(client, Runner) else client is None and not where.get("n_workers")
    is_beside = wanted and may_be_here and bool(sys.executable) and not storage.is_remote(output)
    with report_beside() if is_beside else nullcontext(PageMaker()) as maker:
        yield maker


Finish = Callable[[Origin, list[str]], None]


@contextmanager
def finishing(progress: Progress, runner: Runner, maker: PageMaker, *, wanted: bool = True) -> Iterator[Finish]:
    """Give what writes all files beside the result store, of ``names``: its tables, its page if ``wanted``, run.json.

    The process beside draws the page while this one writes the tables, and work folders are deleted meanwhile.
    """
    if not runner.in_process:
        maker.stop()  # such a run may take hours
    result = storage.join(progress.output, CAGS)
    where = {"output": storage.join(progress.output, REPORT), "overwrite": True}

    def finish(origin: Origin, names: list[str]) -> None:
        if wanted:
            maker.begin(result, **where)
        told = _told(progress, runner, origin, write_tables(progress, runner))
        removals.close()
        if wanted:
            with progress.stage("report", runner):
                maker(result, **where)
        _write_run(progress, origin, told, names)

    with ExitStack() as removals:
        removals.enter_context(storage.removals_beside())
        yield finish


def _told(progress: Progress, runner: Runner, origin: Origin, written: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``run.json`` says that does not depend on the report."""
    from cagdask.reports import page

    result = storage.look(storage.join(progress.output, CAGS))
    abundance = storage.open_group(origin.store)
    summary = page.summarize(result)
    digests = {"source": origin.digest, "input": result.attrs.get("input_digest")}
    digests |= {storage.name_of(one["file"]): one["sha256"] for one in written}
    noted = [name for name in ("error_rate", "assignment") if name in result.attrs]
    told_by_result: dict[str, Any] = {name: json.loads(result.attrs[name]) for name in noted}
    asked: dict[str, Any] = {name: value for name, value in progress.recipe.items() if name != "source_digest"}
    return {
        **asked,
        "output": progress.output,
        "versions": provenance.versions(),
        "digests": digests,
        "summary": summary,
        "certified": summary["certified"],
        **told_by_result,
        **({"choice": result.attrs["choice"]} if "choice" in result.attrs else {}),
        "skipped_samples": json.loads(str(abundance.attrs.get("skipped_samples", "[]"))),
        "rounds": progress.search.get("rounds"),
        "pairs_evaluated": progress.search.get("pairs_evaluated"),
        "search": progress.search,
        "workers": {"n_workers": runner.n_workers, "n_threads": runner.n_threads, "memory_limit": runner.memory_limit},
    }


def _write_run(progress: Progress, origin: Origin, told: dict[str, Any], names: list[str]) -> None:
    """Write ``run.json``, the sign that all is there."""
    files = {name: tables.tree_size(storage.join(progress.output, name)) for name in names if name != RUN}
    content = told | {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(sum(stage["wall_seconds"] for stage in progress.stages), 3),
        "cpu_seconds": round(sum(stage["cpu_seconds"] for stage in progress.stages), 3),
        "peak_bytes": max(stage["peak_bytes"] for stage in progress.stages),
        "stages": progress.stages,
        "bytes_read": origin.n_bytes + progress.search.get("bytes_read", 0),
        "bytes_written": sum(files.values()),
        "files": files,
    }
    storage.write_json(storage.join(progress.output, RUN), content)
    storage.remove(storage.join(progress.output, PARTIAL))
