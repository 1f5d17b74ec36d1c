"""What a run would need, without running it: tasks, bytes per task, disk and time, and the stage that needs most.

    sheet   sizes of all files, and the genes of a few -->  shape
    table   its header, its rows counted               -->  shape  --plan_ingest, plan_clustering--> stages --> Plan
    store   its metadata                               -->  shape

Deciding is arithmetic on integers (:func:`plan_ingest`, :func:`plan_clustering`), with the functions that the stages
themselves use to cut their work; only :func:`measure` reads anything.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from cagdask import resources, storage
from cagdask.errors import InputError, MemoryLimitError
from cagdask.resources import format_bytes

if TYPE_CHECKING:
    import pyarrow as pa

    from cagdask.io.sheet import SampleFile

LOOKED_AT = 4
"""Sample files of a sheet that are read to estimate the number of genes."""
_LARGEST_LOOKED_AT = 2**26
_RECORD_BYTES = 210  # of a record's Python objects and columns while its sample is read
_STORED_VALUE = 4.5  # bytes of a value that is not 0 in a compressed store
_PARKED_VALUE = 12  # bytes of a value and its gene's name or row in the work folder
# CPU seconds on a core of an ordinary server; good to a factor of two or so
_RECORD_SECONDS = 1.5e-6
_CELL_SECONDS = 4e-9
_PAIR_SECONDS = 3.3e-9  # per pair of 100,000 genes in 200 samples; the share of pairs looked at falls as genes grow
_PAIR_EXPONENT = 1.87


@dataclass(frozen=True)
class Shape:
    """What is known of an input.

    Attributes
    ----------
    source
        Where it is.
    format
        ``sheet``, ``table`` or ``store``.
    n_genes, n_samples
        Size of the matrix.
    n_values
        Entries that are not 0.
    largest_bytes, largest_values
        Of the largest sample file, decompressed; 0 for a store.
    id_bytes
        Text of all gene names in all samples.
    estimated
        Whether ``n_genes`` and the numbers after it are estimates.
    """

    source: str
    format: str
    n_genes: int
    n_samples: int
    n_values: int = 0
    largest_bytes: int = 0
    largest_values: int = 0
    id_bytes: int = 0
    estimated: bool = False


@dataclass(frozen=True)
class StagePlan:
    """One stage.

    Attributes
    ----------
    stage
        Its name.
    n_tasks
        Tasks of it.
    task_bytes
        Bytes that the arrays of its worst task take.
    cpu_seconds
        Rough guess.
    """

    stage: str
    n_tasks: int
    task_bytes: int
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a run would need.

    Attributes
    ----------
    shape
        Of the input.
    n_workers, memory_limit
        Worker processes of one thread, and bytes of each.
    task_budget
        Bytes that the arrays of one task may take.
    stages
        In order.
    store_bytes, work_bytes
        Disk for the abundance store, and for work that is thrown away at the end.
    """

    shape: Shape
    n_workers: int
    memory_limit: int
    task_budget: int
    stages: tuple[StagePlan, ...]
    store_bytes: int
    work_bytes: int

    @property
    def worst(self) -> StagePlan:
        """The stage whose tasks need most memory."""
        return max(self.stages, key=lambda stage: stage.task_bytes)

    @property
    def n_tasks(self) -> int:
        """Tasks of all stages, one round of searching counted."""
        return sum(stage.n_tasks for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Rough guess of the time that it takes."""
        return sum(stage.cpu_seconds / min(stage.n_tasks, self.n_workers) for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        derived = {"worst_stage": self.worst.stage, "n_tasks": self.n_tasks, "seconds": round(self.seconds, 1)}
        return asdict(self) | derived

    def to_text(self) -> str:
        """Everything for people."""
        shape = self.shape
        about = "about " if shape.estimated else ""
        lines = [f"{shape.source}: a {shape.format} of {about}{shape.n_genes:,} genes x {shape.n_samples:,} samples"]
        if shape.estimated:
            lines.append(
                f"  (genes estimated from {min(LOOKED_AT, shape.n_samples)} of its sample files and all sizes)"
            )
        lines += ["", f"{'stage':<16}{'tasks':>8}{'bytes per task':>18}{'CPU time, roughly':>20}"]
        for stage in self.stages:
            worst = "  <- needs most" if stage == self.worst else ""
            seconds = f"{stage.cpu_seconds:,.0f} s" if stage.cpu_seconds >= 1 else "< 1 s"
            lines.append(
                f"{stage.stage:<16}{stage.n_tasks:>8,}{format_bytes(stage.task_bytes):>18}{seconds:>20}{worst}"
            )
        lines += [
            "",
            f"memory: {self.n_workers} workers of {format_bytes(self.memory_limit)}; a task's arrays may take "
            f"{format_bytes(self.task_budget)}",
            f"disk:   {format_bytes(self.store_bytes)} for the abundance store, up to {format_bytes(self.work_bytes)} "
            "while it runs",
            f"time:   roughly {math.ceil(self.seconds):,} s, good to a factor of two or so",
        ]
        return "\n".join(lines)


# -- arithmetic ------------------------------------------------------------------------------------------------------


def plan_ingest(shape: Shape, task_budget: int, n_threads: int) -> tuple[StagePlan, ...]:
    """Plan the stages of ingest, cut as ingest cuts them.

    Parameters
    ----------
    shape
        Of the input; a store needs no ingest.
    task_budget
        Bytes that the arrays of one task may take.
    n_threads
        Tasks that run at once.

    Raises
    ------
    MemoryLimitError
        Not even one gene fits.
    """
    if shape.format == "store":
        return ()
    from cagdask.io.dictionary import count_parts
    from cagdask.io.layout import plan_chunks

    cut = plan_chunks(shape.n_genes, shape.n_samples, task_budget)
    n_blocks = len(cut.blocks())
    write = StagePlan("write store", n_blocks, cut.task_bytes, _CELL_SECONDS * shape.n_genes * shape.n_samples)
    if shape.format == "table":
        return (
            StagePlan("read table", 1, task_budget // 2, _RECORD_SECONDS / 5 * shape.n_genes * shape.n_samples),
            write,
        )
    n_parts = count_parts(shape.n_values, shape.id_bytes, task_budget, n_threads)
    per_value = 60 + 2 * shape.id_bytes // max(1, shape.n_values)
    read = shape.largest_bytes + _RECORD_BYTES * shape.largest_values
    return (
        StagePlan("read samples", shape.n_samples, read, _RECORD_SECONDS * shape.n_values),
        StagePlan("merge genes", n_parts, per_value * -(-shape.n_values // n_parts), 2e-7 * shape.n_values),
        write,
    )


def plan_clustering(shape: Shape, task_budget: int, n_threads: int) -> tuple[tuple[StagePlan, ...], int]:
    """Plan the stages of clustering, cut as the engine cuts them, and the largest size of its work folder.

    Parameters
    ----------
    shape, task_budget, n_threads
        As for :func:`plan_ingest`.

    Returns
    -------
    stages, work_bytes
        Later rounds of searching and merging are smaller than the first, which is the one planned.
    """
    from cagdask.engine.sizes import plan_engine

    engine = plan_engine(shape.n_genes, shape.n_samples, task_budget, n_threads)
    n_blocks = -(-shape.n_genes // engine.block_rows)
    n_tasks = {"merge": -(-shape.n_genes // engine.merge_rows), "components": 1}
    cells = shape.n_genes * shape.n_samples
    search = _PAIR_SECONDS * 1e10 * (shape.n_genes / 1e5) ** _PAIR_EXPONENT * shape.n_samples / 200
    seconds = {"search": search, "merge": 0.1 * search}
    stages = [
        StagePlan(name, n_tasks.get(name, n_blocks), n_bytes, seconds.get(name, 3 * _CELL_SECONDS * cells))
        for name, n_bytes in engine.task_bytes.items()
    ]
    return tuple(stages), engine.disk_bytes


def make_plan(shape: Shape, *, n_workers: int, memory_limit: int) -> Plan:
    """Plan a run on workers of one thread each; pure arithmetic.

    Raises
    ------
    MemoryLimitError
        A task can not fit its worker.
    """
    budget = int(memory_limit * resources.TASK_SHARE)
    clustering, work_bytes = plan_clustering(shape, budget, n_workers)
    plan = Plan(
        shape=shape,
        n_workers=n_workers,
        memory_limit=memory_limit,
        task_budget=budget,
        stages=(*plan_ingest(shape, budget, n_workers), *clustering),
        store_bytes=_store_bytes(shape),
        work_bytes=max(work_bytes, _PARKED_VALUE * shape.n_values * 2 if shape.format != "store" else 0),
    )
    if plan.worst.task_bytes > budget:
        worst = plan.worst
        needed = math.ceil(worst.task_bytes / resources.TASK_SHARE)
        raise MemoryLimitError(
            f"{worst.stage}: one task needs {format_bytes(worst.task_bytes)} for {shape.n_genes:,} genes x "
            f"{shape.n_samples:,} samples, but a worker of {format_bytes(memory_limit)} gives its tasks "
            f"{format_bytes(budget)}. Use --memory-limit {format_bytes(needed).replace(' ', '')} or more."
        )
    return plan


def _store_bytes(shape: Shape) -> int:
    dense = 4 * shape.n_genes * shape.n_samples
    return dense if shape.format == "table" else min(dense, int(_STORED_VALUE * shape.n_values))


def estimate_genes(n_seen_in: list[int], n_looked_at: int, n_samples: int, n_values: int) -> int:
    """Guess how many genes all samples have together from how often those of a few samples recur (Chao2).

    Parameters
    ----------
    n_seen_in
        Genes found in exactly 1, 2, … of the samples looked at.
    n_looked_at
        Samples looked at.
    n_samples, n_values
        Samples, and genes over all samples, each counted as often as it occurs.

    References
    ----------
    .. [1] Chao (1987). Estimating the population size for capture-recapture data with unequal catchability.
    """
    seen = sum(n_seen_in)
    if n_looked_at >= n_samples:
        return seen
    once, twice = [*n_seen_in, 0, 0][:2]
    unseen = (n_looked_at - 1) / n_looked_at * once * max(0, once - 1) / (2 * (twice + 1))
    return max(1, seen, min(round(seen + unseen), n_values))


# -- looking at the input --------------------------------------------------------------------------------------------


def measure(source: str, *, keys: tuple[str, str, str], orient: str) -> Shape:
    """Find out the shape of an input: exactly for a store or table, by an estimate for a sheet.

    Raises
    ------
    InputError, StoreError, SchemaError
        It can not be used.
    """
    from cagdask.io.formats import suffix_of
    from cagdask.runs import is_store

    url = storage.absolute(source)
    if is_store(url):
        return _measure_store(url)
    if not storage.exists(url):
        raise InputError(f"{url}: there is no such file or store. Check the path.")
    if url.lower().removesuffix(".gz").endswith(".json"):
        from cagdask.io.sheet import read_sheet

        return _measure_sheet(url, read_sheet(url), keys)
    if suffix_of(url) is None:
        from cagdask.io.ingest import ACCEPTED

        raise InputError(f"{url}: of unknown format. Accepted are {ACCEPTED}. Rename or convert the file.")
    return _measure_table(url, orient)


def _measure_store(url: str) -> Shape:
    from cagdask import outputs, schema

    ds = storage.open_dataset(url)
    name = schema.value_name(ds.attrs.get("kind", "abundance"))
    schema.validate(ds, name, where=url)
    n_genes, n_samples = ds[name].shape
    return Shape(url, "store", n_genes, n_samples, n_values=int(outputs.tree_size(url) / _STORED_VALUE))


def _measure_table(url: str, orient: str) -> Shape:
    from cagdask.io.formats import open_table

    with open_table(url, orient) as table:
        n_rows = sum(len(names) for names, _ in table.batches)
        n_genes, n_samples = (n_rows, len(table.columns)) if table.genes_in_rows else (len(table.columns), n_rows)
    return Shape(url, "table", n_genes, n_samples, n_values=n_genes * n_samples)


def _measure_sheet(url: str, files: list[SampleFile], keys: tuple[str, str, str]) -> Shape:
    by_size = sorted((f for f in files if f.size <= _LARGEST_LOOKED_AT), key=lambda f: f.size)
    by_size = by_size or [min(files, key=lambda f: f.size)]
    count = min(LOOKED_AT, len(by_size))
    chosen = [by_size[(2 * i + 1) * len(by_size) // (2 * count)] for i in range(count)]
    looks = [_look_into(file, keys) for file in chosen]
    n_bytes = max(1, sum(file.size for file in chosen))
    values_per_byte = sum(len(ids) for ids, _ in looks) / n_bytes
    text_per_byte = sum(size for _, size in looks) / n_bytes
    total, largest = sum(file.size for file in files), max(file.size for file in files)
    n_values = round(total * values_per_byte)
    n_seen_in, id_bytes = _recurrence([ids for ids, _ in looks])
    return Shape(
        url,
        "sheet",
        n_genes=max(1, estimate_genes(n_seen_in, count, len(files), n_values)),
        n_samples=len(files),
        n_values=n_values,
        largest_bytes=round(largest * text_per_byte),
        largest_values=round(largest * values_per_byte),
        id_bytes=round(total * id_bytes / n_bytes),
        estimated=count < len(files),
    )


def _look_into(file: SampleFile, keys: tuple[str, str, str]) -> tuple[pa.StringArray, int]:
    """Gene names of a sample, and its size decompressed."""
    from cagdask.io.samples import parse_records
    from cagdask.io.sheet import read_plain

    data = read_plain(file.url, f"file of sample {file.sample!r}")
    ids, _ = parse_records(file.sample, file.url, data, keys)
    return ids, len(data)


def _recurrence(looks: list[pa.StringArray]) -> tuple[list[int], int]:
    """Genes found in exactly 1, 2, … of some samples, and the text of all names."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pa.chunked_array(looks, pa.string())
    times = np.asarray(names.value_counts().field("counts")) if len(names) else np.zeros(0, np.int64)
    return np.bincount(times, minlength=len(looks) + 1)[1:].tolist(), int(pc.sum(pc.binary_length(names)).as_py() or 0)


def plan(
    source: str,
    *,
    results_key: str = "results",
    abundance_key: str = "depth",
    gene_id_key: str = "id",
    orient: str = "genes-by-samples",
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> Plan:
    """Say what a run would need, without running it.

    Parameters
    ----------
    source
        Sample sheet, table or store. Of a sheet, a few sample files are read; a table is read through once, since
        only its end tells how many rows it has.
    results_key, abundance_key, gene_id_key, orient
        As for :func:`cagdask.ingest`.
    n_workers, memory_limit
        Worker processes of one thread (default: one per core of this machine, 16 at most), and memory of each.

    Returns
    -------
    Plan
        Tasks, bytes per task and a guess of the time by stage; disk for the store and for work in progress.

    Raises
    ------
    MemoryLimitError
        A task can not fit its worker; names the stage and the memory that would do.
    InputError, StoreError, SchemaError
        The input can not be used.
    """
    n_workers = n_workers or min(16, os.cpu_count() or 1)
    if n_workers < 1:
        raise ValueError(f"n_workers is {n_workers}; at least one is needed.")
    limit = resources.parse_bytes(memory_limit)
    shape = measure(source, keys=(results_key, abundance_key, gene_id_key), orient=orient)
    made = make_plan(shape, n_workers=n_workers, memory_limit=limit)
    if shape.format == "store":
        from cagdask import outputs

        made = replace(made, store_bytes=outputs.tree_size(shape.source))
    return made
