"""What a run would need, without running it: tasks, bytes per task, disk and time, and the stage that needs most.

    input --measure--> Shape --plan_ingest, plan_clustering--> stages --> Plan

Deciding is arithmetic on integers, with the functions that the stages themselves use to cut their work; only
:func:`cagdask.runs.input_shape.measure` reads anything.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from cagdask.cags.parameters import Parameters
from cagdask.compute import memory, settings
from cagdask.compute.memory import format_bytes
from cagdask.runs.input_shape import STORED_VALUE, Shape, measure
from cagdask.runs.options import PLAN

if TYPE_CHECKING:
    from cagdask.engine.plan.expected_cost import Expected

_RECORD_BYTES = 210  # of a record's Python objects and columns while its sample is read
_PARKED_VALUE = 12  # bytes of a value and its gene's name or row in the work folder
# seconds on a core of an ordinary server
_RECORD_SECONDS = 1.5e-6
_CELL_SECONDS = 4e-9
_TASK_SECONDS = 0.02
_START_SECONDS = 10  # workers, libraries and compiled kernels
_UNEVEN = 1.2  # workers wait for each other at the end of a stage, and for the disk


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
        Bytes that the arrays of its worst task take at most.
    cpu_seconds
        Expected, of all tasks.
    expected_bytes
        Expected of its worst task; 0 where that is the bound.
    """

    stage: str
    n_tasks: int
    task_bytes: int
    cpu_seconds: float = 0.0
    expected_bytes: int = 0


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
        Disk for the abundance store, and expected for work that is thrown away at the end.
    read_bytes
        Expected reads of the searches, which read most.
    """

    shape: Shape
    n_workers: int
    memory_limit: int
    task_budget: int
    stages: tuple[StagePlan, ...]
    store_bytes: int
    work_bytes: int
    read_bytes: int

    @property
    def worst(self) -> StagePlan:
        """The stage whose tasks need most memory."""
        return max(self.stages, key=lambda stage: stage.task_bytes)

    @property
    def n_tasks(self) -> int:
        """Tasks of all stages, one round of searching counted."""
        return sum(stage.n_tasks for stage in self.stages)

    @property
    def worker_bytes(self) -> int:
        """Expected memory of the largest worker."""
        return memory.WORKER_BASE + max(stage.expected_bytes or stage.task_bytes for stage in self.stages)

    @property
    def cpu_seconds(self) -> float:
        """Expected of all tasks."""
        return sum(stage.cpu_seconds + _TASK_SECONDS * stage.n_tasks for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Expected from the start to the end."""
        tasks = (
            (stage.cpu_seconds + _TASK_SECONDS * stage.n_tasks) / min(stage.n_tasks, self.n_workers)
            for stage in self.stages
        )
        return _START_SECONDS + _UNEVEN * sum(tasks)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        derived = {
            "worst_stage": self.worst.stage,
            "n_tasks": self.n_tasks,
            "worker_bytes": self.worker_bytes,
            "cpu_seconds": round(self.cpu_seconds, 1),
            "seconds": round(self.seconds, 1),
        }
        return asdict(self) | derived

    def to_text(self) -> str:
        """Everything for people."""
        shape = self.shape
        about = "about " if shape.estimated else ""
        lines = [f"{shape.source}: a {shape.format} of {about}{shape.n_genes:,} genes x {shape.n_samples:,} samples"]
        if shape.estimated:
            lines.append(f"  (genes estimated from {shape.n_looked_at} of its sample files; there may be more)")
        lines += ["", f"{'stage':<20}{'tasks':>8}{'bytes per task':>18}{'CPU time, about':>20}"]
        for stage in self.stages:
            worst = "  <- needs most" if stage == self.worst else ""
            seconds = f"{stage.cpu_seconds:,.0f} s" if stage.cpu_seconds >= 1 else "< 1 s"
            lines.append(
                f"{stage.stage:<20}{stage.n_tasks:>8,}{format_bytes(stage.task_bytes):>18}{seconds:>20}{worst}"
            )
        lines += [
            "",
            f"memory: {self.n_workers} workers of {format_bytes(self.memory_limit)}; a task's arrays may take "
            f"{format_bytes(self.task_budget)}; the largest worker: about {format_bytes(self.worker_bytes)}",
            f"disk:   {format_bytes(self.store_bytes)} for the abundance store, and about "
            f"{format_bytes(self.work_bytes)} while it runs",
            f"reads:  about {format_bytes(self.read_bytes)} by searches",
            f"time:   about {math.ceil(self.seconds):,} s; longer where most genes resemble many others",
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
    from cagdask.io import layout
    from cagdask.io.sheets.dictionary import count_parts

    cut = layout.plan_chunks(shape.n_genes, shape.n_samples, task_budget)
    n_blocks = len(cut.blocks())
    write = StagePlan(layout.WRITE_STORE, n_blocks, cut.task_bytes, _CELL_SECONDS * shape.n_genes * shape.n_samples)
    if shape.format == "table":
        return (
            StagePlan(layout.READ_TABLE, 1, task_budget // 2, _RECORD_SECONDS / 5 * shape.n_genes * shape.n_samples),
            write,
        )
    n_parts = count_parts(shape.n_values, shape.id_bytes, task_budget, n_threads)
    per_value = 60 + 2 * shape.id_bytes // max(1, shape.n_values)
    read = shape.largest_bytes + _RECORD_BYTES * shape.largest_values
    return (
        StagePlan(layout.READ_SAMPLES, shape.n_samples, read, _RECORD_SECONDS * shape.n_values),
        StagePlan(layout.UNITE_GENES, n_parts, per_value * -(-shape.n_values // n_parts), 2e-7 * shape.n_values),
        write,
    )


def plan_clustering(
    shape: Shape,
    task_budget: int,
    n_threads: int,
    *,
    normalization: str | None = None,
    max_dist: float | str = "auto",
) -> tuple[tuple[StagePlan, ...], Expected]:
    """Plan the stages of clustering, cut as the engine cuts them, and say what they are expected to take.

    Parameters
    ----------
    shape, task_budget, n_threads
        As for :func:`plan_ingest`.
    normalization, max_dist
        As for :func:`cagdask.find_cags`.

    Returns
    -------
    stages, expected
        Later rounds of searching and merging are smaller than the first, which is the one planned.
    """
    from cagdask.engine.plan.expected_cost import expect
    from cagdask.engine.plan.task_memory import plan_engine
    from cagdask.engine.stage_names import FIND_COMPONENTS, MERGE

    engine = plan_engine(shape.n_genes, shape.n_samples, task_budget, n_threads)
    density = shape.n_values / (shape.n_genes * shape.n_samples) if shape.n_values else 1.0
    chosen = Parameters(normalization=normalization, max_dist=max_dist).checked()
    expected = expect(
        shape.n_genes,
        shape.n_samples,
        density,
        engine,
        max_dist=float(chosen.max_dist),
        is_clr=chosen.normalization == "clr",
        is_automatic=chosen.refine == "noise-corrected",
    )
    n_blocks = -(-shape.n_genes // engine.block_rows)
    n_tasks = {MERGE: -(-shape.n_genes // engine.merge_rows), FIND_COMPONENTS: 1}
    stages = tuple(
        StagePlan(
            name,
            n_tasks.get(name, n_blocks),
            n_bytes,
            expected.cpu_seconds.get(name, 0.0),
            min(n_bytes, expected.task_bytes.get(name, n_bytes)),
        )
        for name, n_bytes in engine.task_bytes.items()
    )
    return stages, expected


def make_plan(
    shape: Shape,
    *,
    n_workers: int,
    memory_limit: int,
    normalization: str | None = None,
    max_dist: float | str = "auto",
) -> Plan:
    """Plan a run on workers of one thread each; pure arithmetic.

    Raises
    ------
    MemoryLimitError
        A task can not fit its worker.
    """
    budget = memory.task_budget(memory_limit)
    clustering, expected = plan_clustering(shape, budget, n_workers, normalization=normalization, max_dist=max_dist)
    plan = Plan(
        shape=shape,
        n_workers=n_workers,
        memory_limit=memory_limit,
        task_budget=budget,
        stages=(*plan_ingest(shape, budget, n_workers), *clustering),
        store_bytes=_store_bytes(shape),
        read_bytes=expected.read_bytes,
        work_bytes=max(expected.disk_bytes, _PARKED_VALUE * shape.n_values * 2 if shape.format != "store" else 0),
    )
    what = f"{shape.n_genes:,} genes x {shape.n_samples:,} samples"
    memory.check_fits(plan.worst.stage, plan.worst.task_bytes, what, memory_limit)
    return plan


def _store_bytes(shape: Shape) -> int:
    dense = 4 * shape.n_genes * shape.n_samples
    return dense if shape.format == "table" else min(dense, int(STORED_VALUE * shape.n_values))


# -- what people ask for ---------------------------------------------------------------------------------------------


def plan(
    source: str,
    *,
    results_key: str = "results",
    abundance_key: str = "depth",
    gene_id_key: str = "id",
    orient: str = "auto",
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
    normalization: str | None = None,
    max_dist: float | str = "auto",
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
        Worker processes of one thread (default: one per core that is allowed, 16 at most), and memory of each.
    normalization, max_dist
        As for :func:`cagdask.find_cags`; they decide what searches cost.

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
    n_workers = PLAN["n_workers"].check(n_workers)
    n_workers, limit = settings.workers_here(n_workers, memory_limit)
    Parameters(normalization=normalization, max_dist=max_dist).checked()
    shape = measure(source, keys=(results_key, abundance_key, gene_id_key), orient=orient)
    made = make_plan(shape, n_workers=n_workers, memory_limit=limit, normalization=normalization, max_dist=max_dist)
    if shape.format == "store":
        from cagdask.reports import tables

        made = replace(made, store_bytes=tables.tree_size(shape.source))
    return made
