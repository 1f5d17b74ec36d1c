"""How long an expression compendium takes at sizes and worker counts that can not be had here: a model, from two runs.

    python scripts/benchmark_expression.py run small.h5 --folder scratch > small.jsonl
    python scripts/benchmark_expression.py run large.h5 --folder scratch > large.jsonl
    python scripts/scaling_expression.py small.jsonl large.jsonl --genes 60000 --samples 620000 --workers 2,16,64

The processor time of a stage is a part for each gene and a part for each value,

    cpu(genes, samples) = A · genes^p + B · genes · samples

where p is 1, and 2 for the cosines, which add up 100 samples for each pair of a gene and a row. A and B follow from two
runs with as many genes and more samples; what would be below 0 is taken as 0. The stage is then cut into tasks as the
library would, each tile of whole samples takes some time of its own, and the stage lasts as long as
:class:`scaling_model.Stage` says. The model knows nothing of slow disks, nor of workers that share a memory bus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from scaling_model import GIB, Stage

from cagdask.compute.memory import task_budget
from cagdask.expression import measure_tasks, request, tasks
from cagdask.io.layout import plan_chunks

SQUARE = ("cosines",)
"""Stages whose first part grows with the square of the genes."""
WRITE_SECONDS, READ_SECONDS = 1.0e-3, 0.4e-3
"""Of a tile beyond its bytes, by Zarr, on a disk (measured: tiles of 100 KB beside some of 2 MB)."""
TILES = {"turn": (1, 0), "add sorted": (0, 1), "rank": (1, 1), "write": (0, 1)}
"""Times that a stage writes and reads each tile."""
BY_SAMPLES = ("quartiles", "factors", "add sorted", "rank")
READS = {"read table": 1, "write store": 1, "write": 1, "rank": 1, "add sorted": 1, "turn": 1, "sums": 1,
         "survey": 1, "cosines": 1}  # fmt: skip
"""Times that a stage reads the table."""


def measured(path: str) -> tuple[int, int, dict[tuple[str, str], dict[str, Any]]]:
    """Genes, samples, and usage of each step and stage of a run of the benchmark."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines() if line.startswith("{")]
    size = next(one for one in lines if "genes" in one)
    found = {(one["step"], one["stage"]): one for one in lines if "stage" in one}
    return size["genes"], size["samples"], found


def parts_of(stage: str, small: tuple[int, int, float], large: tuple[int, int, float]) -> tuple[float, float]:
    """A and B of a stage, from genes, samples and processor seconds of two runs; neither is below 0."""
    power = 2 if stage in SQUARE else 1
    (g, s, a), (h, t, b) = small, large
    own = h**power * g * s - g**power * h * t
    first = (a * h * t - b * g * s) / -own
    second = (b * g**power - a * h**power) / -own
    if first < 0:
        return 0.0, b / (h * t)
    if second < 0:
        return b / h**power, 0.0
    return first, second


def n_tasks(stage: str, genes: int, samples: int, memory: int) -> int:
    """Tasks that the library would make of a stage."""
    budget = task_budget(memory)
    if stage == "read table":
        return 1
    if stage == "sums":
        return min(tasks.N_SUMS, genes)
    if stage in ("survey", "cosines"):
        return max(1, min(measure_tasks.N_PARTS, genes, 4 * genes * samples // measure_tasks.PART_BYTES))
    if stage in BY_SAMPLES:
        group = tasks.group_samples(genes)
        tile = max(1, min(request.TILE_BYTES, budget // 4) // (4 * genes) // group) * group
        return -(-samples // tile)
    return -(-genes // plan_chunks(genes, samples, budget).block_rows)


def tile_seconds(stage: str, genes: int, samples: int, memory: int) -> float:
    """Processor seconds that tiles take, however small they are: there are few in a run that is measured."""
    writes, reads = TILES.get(stage, (0, 0))
    n_tiles = n_tasks("turn", genes, samples, memory) * n_tasks("rank", genes, samples, memory)
    return n_tiles * (writes * WRITE_SECONDS + reads * READ_SECONDS)


@click.command()
@click.argument("small")
@click.argument("large")
@click.option("--genes", default=60_000, show_default=True)
@click.option("--samples", default=620_000, show_default=True)
@click.option("--memory", default=8, show_default=True, help="GiB of a worker of one thread.")
@click.option("--workers", "counts", default="2,16,64", show_default=True)
def main(small: str, large: str, genes: int, samples: int, memory: int, counts: str) -> None:
    """Print a table of Markdown: processor time and wall time of each stage."""
    (g, s, first), (h, t, second) = measured(small), measured(large)
    workers = [int(one) for one in counts.split(",")]
    click.echo(f"| step | stage | tasks | CPU h | {' | '.join(f'{n} workers, h' for n in workers)} |")
    click.echo(f"| --- | --- | --- | --- | {' | '.join('---' for _ in workers)} |")
    total, walls = 0.0, [0.0] * len(workers)
    for (step, name), used in second.items():
        per_gene, per_value = parts_of(name, (g, s, first[step, name]["cpu_seconds"]), (h, t, used["cpu_seconds"]))
        cpu = per_gene * genes ** (2 if name in SQUARE else 1) + per_value * genes * samples
        cpu += tile_seconds(name, genes, samples, memory * GIB)
        count = n_tasks(name, genes, samples, memory * GIB)
        stage = Stage(name, count, cpu, READS.get(name, 0) * 4.0 * genes * samples)
        own = [stage.seconds(n)[0] for n in workers]
        total, walls = total + cpu, [a + b for a, b in zip(walls, own, strict=True)]
        click.echo(f"| {step} | {name} | {count:,} | {cpu / 3600:.2f} | {' | '.join(f'{x / 3600:.2f}' for x in own)} |")
    click.echo(f"| all | | | {total / 3600:.1f} | {' | '.join(f'{x / 3600:.1f}' for x in walls)} |")


if __name__ == "__main__":
    main()
