"""From the input to every file that people open, in one go, and going on where an interrupted run stopped.

    INPUT --ingest--> abundance.zarr --find_cags--> cags.zarr --outputs--> *.parquet, CAGs.csv.gz --> report.html
                                                                                    last of all: run.json

Each stage replaces its own files at its end, so that an interrupted run leaves whole files; ``run.json`` exists only
once everything else does. How an interrupted run is found and goes on: :mod:`cagdask.runs.resume`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from cagdask import storage
from cagdask.arguments import Options
from cagdask.cags.jobs import check_samples, check_source
from cagdask.cags.options import CLUSTER
from cagdask.cags.parameters import Parameters
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.io.options import INGEST, IngestOptions
from cagdask.reports import tables
from cagdask.runs import files, resume
from cagdask.runs.forecast import expect_clustering
from cagdask.stores import ABUNDANCE, CAGS, REPORT, RUN

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client


class ClusterOptions(TypedDict, total=False):
    """Options that :func:`run` and :func:`cluster` hand to :func:`cagdask.find_cags`."""

    normalization: str | None
    clr_floor: float | str | None
    max_dist: float | str
    min_samples: int
    metric: str | None
    linkage: str
    refine: str | None
    refine_dist: float | None
    search: str
    probes: int
    fdr: float
    strata: str | None
    unsupported: str
    seed: int
    stability: int


class RunOptions(IngestOptions, ClusterOptions, total=False):
    """Options of :func:`run`: those of ingest and those of find_cags."""


INGEST_DEFAULTS = INGEST.defaults


# -- checks ----------------------------------------------------------------------------------------------------------


def check_options(options: RunOptions | ClusterOptions, *, ingest: bool = True) -> dict[str, Any]:
    """Check option values before any work.

    Parameters
    ----------
    options
        Some or all options.
    ingest
        Whether those of ingest are allowed, too.

    Returns
    -------
    dict
        Every option, those not given with their default.

    Raises
    ------
    TypeError
        An option does not exist.
    ValueError
        A value is not one of the choices, or out of range.
    """
    known = Options(*(INGEST.values() if ingest else ()), *CLUSTER.values())
    chosen = known.check(**known.defaults | dict(options))
    if chosen.get("kind") == "expression" and chosen["normalization"] is None:
        chosen["normalization"] = "none"  # expression is normalized before: see cagdask normalize
    return chosen | asdict(_parameters(chosen).checked())


def _parameters(chosen: dict[str, Any]) -> Parameters:
    return Parameters(**{field.name: chosen[field.name] for field in fields(Parameters)})


# -- the two pipelines -----------------------------------------------------------------------------------------------


def run(
    source: str,
    *,
    output: str,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
    formats: str | Sequence[str] = (),
    **options: Unpack[RunOptions],
) -> xr.Dataset:
    """Ingest, cluster, and write every file, in one go.

    Parameters
    ----------
    source
        Sample sheet, table, an abundance store, or the folder of a run.
    output
        Folder or URL prefix. Gets ``abundance.zarr`` (unless ``source`` is a store), ``cags.zarr``,
        ``genes.parquet``, ``CAGs.csv.gz``, ``cags.parquet``, ``cag_abundance.parquet``, ``report.html`` and, at the
        very end, ``run.json``.
    overwrite
        Replace what an earlier run left there, each file once its successor is complete.
    client, n_workers, memory_limit
        Where to compute: see :func:`cagdask.connect`.
    formats
        Formats of tables beside Parquet: ``tsv``, ``csv``, ``h5ad``, ``geneshot``.
    **options
        Those of :func:`cagdask.ingest` and :func:`cagdask.find_cags`, with the same defaults.

    Returns
    -------
    Dataset
        The result store, opened.

    Raises
    ------
    TypeError, ValueError
        An option is unknown or its value not allowed; before any work, as the next two.
    StoreError
        The output can not be written, or is there already.
    ResumeError
        An unfinished run of another command is there.
    InputError
        The input can not be used.

    Notes
    -----
    An interrupted run goes on where it stopped when it is called again with the same arguments.
    """
    where: dict[str, Any] = {
        "overwrite": overwrite,
        "client": client,
        "n_workers": n_workers,
        "memory_limit": memory_limit,
    }
    where["formats"] = formats
    return storage.open_dataset(write_run(source, output, options, where))


def write_run(source: str, output: str, options: RunOptions, where: dict[str, Any]) -> str:
    """Do what :func:`run` does, and give the URL of the result: nothing is opened, so xarray is not imported.

    Parameters
    ----------
    source, output, options
        As for :func:`run`.
    where
        Its arguments ``overwrite``, ``client``, ``n_workers``, ``memory_limit`` and, if wanted, ``formats``.
    """
    return _write("run", source, output, check_options(options), where)


def cluster(
    store: str,
    *,
    output: str,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
    formats: str | Sequence[str] = (),
    **options: Unpack[ClusterOptions],
) -> xr.Dataset:
    """Cluster a store and write the files of a run, without report and copy of the input.

    Parameters
    ----------
    store
        Abundance store, as :func:`cagdask.ingest` writes it; the folder of a run; or a sample sheet or table, which is
        ingested with default options into ``abundance.zarr`` in ``output``.
    output
        Folder or URL prefix; gets what :func:`run` writes but ``report.html``.
    overwrite, client, n_workers, memory_limit, formats
        As for :func:`run`.
    **options
        Those of :func:`cagdask.find_cags`, with the same defaults.

    Returns
    -------
    Dataset
        The result store, opened.

    Raises
    ------
    TypeError, ValueError, StoreError, ResumeError
        As for :func:`run`.
    """
    where: dict[str, Any] = {
        "overwrite": overwrite,
        "client": client,
        "n_workers": n_workers,
        "memory_limit": memory_limit,
    }
    where["formats"] = formats
    return storage.open_dataset(write_clusters(store, output, options, where))


def write_clusters(store: str, output: str, options: ClusterOptions, where: dict[str, Any]) -> str:
    """Do what :func:`cluster` does, and give the URL of the result; arguments as for :func:`write_run`."""
    return _write("cluster", store, output, check_options(options, ingest=False), where)


def _write(command: str, source: str, output: str, chosen: dict[str, Any], where: dict[str, Any]) -> str:
    """Run the stages that a command and its input need; only ``run`` writes a report. Gives the URL of the result."""
    output = storage.absolute(output)
    formats = files.checked_formats(where.pop("formats", ()))
    storage.check_target(output, overwrite=True)
    reports = (REPORT,) if command == "run" else ()
    with files.report_ahead(output, where, wanted=bool(reports)) as maker:
        found = resume.look_at(source, no_header=bool(chosen.get("no_header", False)))
        _check(found, chosen)
        products = ({} if found.is_store else {"ingest": ABUNDANCE}) | {"cluster": CAGS}
        names = [*products.values(), *tables.file_names(formats), *reports, RUN]
        recipe = _recipe(command, found, chosen) | ({"formats": formats} if formats else {})
        overwrite = where.pop("overwrite")
        progress = resume.begin(output, recipe, products, names, options=tuple(INGEST_DEFAULTS), overwrite=overwrite)
        store = found.url if found.is_store else storage.join(output, ABUNDANCE)
        with (
            resume.cleaning_up(progress),
            as_runner(**where, work_bytes=found.work_bytes) as runner,
            files.finishing(progress, runner, maker, wanted=bool(reports)) as finish,
        ):
            if not found.is_store and "ingest" not in progress.done:
                _ingest_stage(found, store, chosen, progress, runner)
            _cluster_stage(store, progress, runner)
            finish(files.Origin(store, found.digest, found.n_bytes), names)
    return storage.join(output, CAGS)


def _check(found: resume.Source, chosen: dict[str, Any]) -> None:
    """Refuse an input that can not be clustered with these options."""
    if found.is_store:
        _check_no_ingest(found, chosen)
        check_source(found.url, _parameters(chosen))
    else:
        _check_before_ingest(found, INGEST.defaults | chosen)


def _ingest_stage(
    found: resume.Source, store: str, chosen: dict[str, Any], progress: resume.Progress, runner: Runner
) -> None:
    from cagdask.io import ingest

    options = (ingest.ingest.__kwdefaults__ or {}) | {name: chosen[name] for name in INGEST if name in chosen}
    with progress.stage("ingest", runner):
        ingest.write_store(found.url, store, options, {"overwrite": progress.replace, "client": runner})
    storage.remove(storage.join(progress.output, RUN))  # of an earlier run: it speaks of another store


def _check_no_ingest(found: resume.Source, chosen: dict[str, Any]) -> None:
    """Refuse options of an ingest for what is ingested already."""
    given = [name for name, usual in INGEST_DEFAULTS.items() if name != "kind" and chosen.get(name, usual) != usual]
    if given:
        raise ValueError(
            f"{found.url}: is a store already, and {given[0]} says how to make one. Leave it out, or name the sample "
            "sheet or table."
        )


def _check_before_ingest(found: resume.Source, chosen: dict[str, Any]) -> None:
    """Refuse, before reading the samples, what clustering them would refuse."""
    if chosen["kind"] == "embedding":
        raise ValueError(
            "kind is 'embedding', and CAGs are found in abundance or expression. Use cagdask ingest alone."
        )
    if chosen["kind"] == "expression" and chosen["normalization"] != "none":
        raise ValueError("`kind` is 'expression': use `normalization='none'`.")
    if found.samples is None:
        return
    tables.check_sample_names(list(found.samples), "cag")
    check_samples(found.url, len(found.samples), chosen["min_samples"], chosen["stability"])


def _recipe(command: str, found: resume.Source, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"command": command, "source": found.url, "source_digest": found.digest, "parameters": parameters}


def _cluster_stage(store: str, progress: resume.Progress, runner: Runner) -> None:
    from cagdask.cags.clustering import cluster_store

    result = storage.join(progress.output, CAGS)
    tables.check_sample_names(tables.sample_names(storage.open_group(store)), "cag")
    if "cluster" not in progress.done:
        parameters = _parameters(progress.recipe["parameters"])
        with progress.stage("cluster", runner):
            storage.check_target(result, overwrite=progress.replace)
            after = progress.steps[progress.steps.index("cluster") + 1 :]
            expect_clustering(store, parameters, runner, after)
            progress.search = cluster_store(store, result, parameters, runner, overwrite=progress.replace)
            storage.remove(storage.join(progress.output, RUN))  # of an earlier run: it speaks of another result
