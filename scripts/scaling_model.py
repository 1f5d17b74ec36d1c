"""How long clustering takes on more workers and more genes than can be had here: a model, from measured tasks.

    python scripts/scaling_model.py check
    python scripts/scaling_model.py extrapolate

``check`` takes the stages of the run on one worker out of the results of ``benchmark_scale.py workers`` and says how
long they take on two, beside what was measured. ``extrapolate`` lets the stages of the largest measured case grow to
more genes and samples, cuts them as :func:`cagdask.engine.plan.task_memory.plan_engine` would, and puts them on more
workers.

A stage lasts as long as the longest of

    its tasks, shared out, and what is left to do by one at the end      what computing takes
    its tasks, one after the other at the scheduler                      what the scheduler takes
    its bytes over what workers together, and the store, can read        what reading takes

and the stages follow one another. Stages of one task (choose pivots, find components, write merge tree)
last the same however many workers there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import click
from benchmarks.scale_cases import results

GIB = 2**30
SUBMIT_SECONDS = 2.5e-3
"""Of scheduler and driver per task (measured: trivial tasks of a LocalCluster)."""
STAGE_SECONDS = 0.05
"""From the last answer of a stage to the first task of the next (measured)."""
WORKER_BYTES = 0.3e9
"""Bytes that a worker reads in a second: a tenth of a node with 25 Gb/s."""
STORE_BYTES = 50e9
"""Bytes that the store gives in a second: what S3 gives to some hundred connections."""
ALONE = (
    "find identical genes", "choose pivots", "plan chunks", "pair chunks", "find components", "finish the last",
    "write merge tree", "number CAGs", "copy merge tree",
)  # fmt: skip
"""Stages of one task, in each round."""
SEARCHES = ("search neighbors", "search neighbors within chunks")


@dataclass(frozen=True)
class Stage:
    """A stage: tasks, processor seconds of all of them, and bytes that they read."""

    name: str
    tasks: float
    cpu_s: float
    n_bytes: float = 0.0
    turns: int = 1

    def seconds(self, n_workers: int) -> tuple[float, str]:
        """How long it lasts, and what decides that."""
        at_once = min(n_workers, self.tasks / self.turns)
        limits = {
            "computing": self.cpu_s / at_once + (1 - 1 / at_once) * self.cpu_s / self.tasks,
            "scheduler": self.tasks * SUBMIT_SECONDS,
            "reading": self.n_bytes / min(n_workers * WORKER_BYTES, STORE_BYTES),
        }
        longest = max(limits, key=lambda name: limits[name])
        what = "one task" if self.name in ALONE and longest == "computing" else longest
        return limits[longest] + STAGE_SECONDS * self.turns, what


def measured_stages(row: dict[str, Any]) -> list[Stage]:
    """Stages of a measured run."""
    rounds = max(1, row["rounds"] - 1)
    found = []
    for name, used in row["stages"].items():
        if used["tasks"]:
            turns = rounds if name in (*SEARCHES, "choose pivots", "sort genes by pivot", "plan chunks",
                                       "gather chunks", "pair chunks", "search neighbors, finish lists",
                                       "find components", "merge groups") else 1  # fmt: skip
            n_bytes = row["bytes_read"] if name == "search neighbors" else 0
            found.append(Stage(name, used["tasks"], used["cpu_s"], n_bytes, turns))
    return found


def total(stages: list[Stage], n_workers: int) -> tuple[float, dict[str, float]]:
    """Seconds of all stages, and by what decides."""
    by: dict[str, float] = {}
    for stage in stages:
        seconds, what = stage.seconds(n_workers)
        by[what] = by.get(what, 0.0) + seconds
    return sum(by.values()), by


def row_of(name: str, method: str = "cagdask") -> dict[str, Any]:
    """A measured case."""
    for row in results():
        if row["name"] == name and row["method"] == method:
            return row
    raise click.ClickException(f"{name} by {method} is not measured: run benchmark_scale.py first")


@click.group()
def main() -> None:
    """Model how clustering scales."""


@main.command()
@click.option("--genes", default=200_000)
def check(genes: int) -> None:
    """What the model says of one and two workers, beside what was measured."""
    one = row_of(f"workers-{genes}", "1 workers")
    for n_workers in (1, 2):
        row = row_of(f"workers-{genes}", f"{n_workers} workers")
        seconds, _ = total(measured_stages(one), n_workers)
        click.echo(
            f"{n_workers} workers: {seconds:.1f} s by the model, {row['wall_s']:.1f} s measured "
            f"({seconds / row['wall_s']:.2f})"
        )


def growth(small: dict[str, Any], large: dict[str, Any], name: str) -> float:
    """Exponent by which processor seconds of a stage grow with genes."""
    a, b = (row["stages"][name]["cpu_s"] for row in (small, large))
    return math.log(b / a) / math.log(large["genes"] / small["genes"])


@main.command()
@click.option("--base", default="sparse-1m", help="The measured case that grows.")
@click.option("--smaller", default="sparse-100k", help="The case that tells how fast.")
@click.option("--genes", default=100_000_000)
@click.option("--samples", default=10_000)
@click.option("--memory", default=64, help="GiB of a worker of one thread.")
@click.option("--workers", "counts", default="64,1000")
@click.option("--whole/--mapped", help="Whether chunks are read whole, as from an object store, or only what is used.")
def extrapolate(base: str, smaller: str, genes: int, samples: int, memory: int, counts: str, *, whole: bool) -> None:
    """More genes, samples and workers than there are."""
    row = row_of(base)
    exponents = {name: growth(row_of(smaller), row, name) for name in SEARCHES}
    times = genes / row["genes"]
    click.echo(
        f"{genes:,} genes x {samples:,} samples of {row['density']:.1%} not zero, from {base}; genes to the power of "
        + " and ".join(f"{exponent:.2f} in {name}" for name, exponent in exponents.items())
    )
    for n_workers in map(int, counts.split(",")):
        stages = [grown(stage, row, times, exponents, genes, samples, memory * GIB, n_workers, whole=whole)
                  for stage in measured_stages(row)]  # fmt: skip
        seconds, by = total(stages, n_workers)
        core_hours = sum(stage.cpu_s for stage in stages) / 3600
        read = sum(stage.n_bytes for stage in stages)
        shares = ", ".join(f"{name} {part / seconds:.0%}" for name, part in sorted(by.items(), key=lambda x: -x[1]))
        click.echo(
            f"{n_workers:>5} workers: {seconds / 3600:.1f} h, {core_hours:,.0f} core-hours, {read / 1e9:,.0f} GB read, "
            f"{sum(stage.tasks for stage in stages):,.0f} tasks; decided by {shares}"
        )
        slowest = sorted(stages, key=lambda stage: -stage.seconds(n_workers)[0])[:4]
        for stage in slowest:
            lasts, what = stage.seconds(n_workers)
            click.echo(f"      {stage.name:<32}{lasts / 3600:8.2f} h  {stage.tasks:>9,.0f} tasks  {what}")
    from cagdask.engine.plan.task_memory import table_bytes_per_gene

    alone = genes * table_bytes_per_gene("average")
    click.echo(f"the task that cuts components holds {alone / GIB:,.0f} GiB: its worker needs {alone / 0.4 / GIB:,.0f}")


def grown(
    stage: Stage, row: dict[str, Any], times: float, exponents: dict[str, float], genes: int, samples: int, memory: int,
    n_workers: int, *, whole: bool,
) -> Stage:  # fmt: skip
    """A stage of a larger cohort, cut for some workers."""
    from cagdask.compute.memory import task_budget
    from cagdask.engine.plan.expected_cost import row_bytes, search_seconds
    from cagdask.engine.plan.task_memory import plan_engine

    plan = plan_engine(genes, samples, task_budget(memory), n_workers)
    wide = samples / row["samples"]
    if stage.name in ALONE:  # of pivots the training sample is bounded; the others hold a few numbers per gene
        more = 1.0 if stage.name in ("choose pivots", "finish the last") else times
        return Stage(stage.name, stage.tasks, stage.cpu_s * more, 0.0, stage.turns)
    rounds = sum(row["active"]) / row["active"][0] if stage.turns > 1 else 1.0
    profiles = row_bytes(samples, row["density"])
    if stage.name in SEARCHES:
        n_chunks = genes / plan.chunk_rows
        longer = search_seconds(row["density"] * samples) / search_seconds(row["density"] * row["samples"])
        cpu_s = stage.cpu_s * times ** exponents[stage.name] * longer
        read = 4 * 88 + 24 * 16 + (profiles if whole else 0.0)
        turns = genes * (n_chunks / 2 if stage.name == "search neighbors" else 1) * rounds
        return Stage(stage.name, n_chunks * rounds, cpu_s, turns * read, stage.turns)
    n_bytes = profiles * genes * rounds
    return Stage(stage.name, genes / plan.block_rows * rounds, stage.cpu_s * times * wide, n_bytes, stage.turns)


if __name__ == "__main__":
    main()
