"""Ingest beside its peer, a store larger than memory, and everything from samples to the report."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring import measured, show
from benchmarks.peers import PANDAS_INGEST


@click.command()
@click.option("--genes", default=300_000)
@click.option("--samples", default=100)
@click.option("--seed", default=0)
@click.option("--cohort", help="Folder of a simulated cohort, instead of making one.")
def ingest(genes: int, samples: int, seed: int, cohort: str | None) -> None:
    """Sample JSONs into a table: cagdask, and json.load with pandas as find-cags does it."""
    from cagdask.simulation.writing import simulate

    with tempfile.TemporaryDirectory() as folder:
        if cohort is None:
            cohort = f"{folder}/cohort"
            simulate(cohort, n_genes=genes, n_samples=samples, seed=seed)
        sheet = f"{cohort}/sample_sheet.json"
        n_records = sum(
            gzip.decompress(Path(cohort, path).read_bytes()).count(b'"id"')
            for path in json.loads(Path(sheet).read_text()).values()
        )
        ours = [sys.executable, "-m", "cagdask", "ingest", sheet, "--store", f"{folder}/store.zarr", "--workers", "2"]
        rows = [
            {"method": "cagdask", **measured([*ours, "--memory-limit", "2GiB", "--json", "--no-progress"])},
            {"method": "json.load + pandas", **measured([sys.executable, "-c", PANDAS_INGEST, sheet])},
        ]
    kept = [{k: row[k] for k in ("method", "wall_s", "cpu_s", "peak_mib")} for row in rows]
    for row in kept:
        row["records / s"] = n_records / row["wall_s"]
    click.echo(f"{n_records:,} records")
    show(kept, seed)


# -- larger than memory, and end to end --------------------------------------------------------------------------------


def planted_store(store: str, genes: int, samples: int, seed: int) -> None:
    """Genomes of 50 genes or more, in a tenth of the samples, with noise: quick to make, and never in memory."""
    from cagdask import schema, storage

    rows = 1000
    group = storage.create_group(store, {"schema_version": schema.SCHEMA_VERSION, "kind": "abundance", "history": ""})
    table = storage.create_array(group, "abundance", (genes, samples), chunks=(rows // 4, samples))
    n_genomes = min(500, -(-genes // 50))
    rng = np.random.default_rng([seed, 1])
    level = rng.lognormal(0, 1, (n_genomes, samples)) * (rng.random((n_genomes, samples)) < 0.1)
    for begin in range(0, genes, rows):
        rng = np.random.default_rng([seed, 2, begin])
        gene = np.arange(begin, min(begin + rows, genes))
        noise = rng.lognormal(0, rng.uniform(0.1, 0.6, (len(gene), 1)), (len(gene), samples))
        table[begin : begin + rows] = (level[gene * n_genomes // genes] * noise).astype(np.float32)
    storage.write_array(group, "gene_id", np.array([f"gene-{i:07d}" for i in range(genes)]))
    storage.write_array(group, "sample_id", np.array([f"sample-{j:05d}" for j in range(samples)]))
    storage.finish_group(group)


@click.command("out-of-core")
@click.option("--genes", default=400_000)
@click.option("--samples", default=2_700)
@click.option("--memory-limit", default="512MiB")
@click.option("--seed", default=0)
@click.option("--store", help="A store made before, instead of making one.")
def out_of_core(genes: int, samples: int, memory_limit: str, seed: int, store: str | None) -> None:
    """Cluster a store, by default four times as large as all workers' memory limits together, stage by stage."""
    import cagdask
    from cagdask.cags.clustering import cluster_store
    from cagdask.cags.parameters import Parameters
    from cagdask.compute.memory import format_bytes
    from cagdask.engine.plan.task_memory import plan_engine

    with tempfile.TemporaryDirectory() as folder:
        if store is None:
            store = f"{folder}/cohort.zarr"
            planted_store(store, genes, samples, seed)
        with cagdask.connect(n_workers=2, memory_limit=memory_limit) as runner:
            plan = plan_engine(genes, samples, runner.task_budget, runner.n_threads)
            pids = runner.executor.client.run(os.getpid)
            begun = time.perf_counter()
            parameters = Parameters(max_dist=0.2, refine="none").checked()
            account = cluster_store(store, f"{folder}/cags.zarr", parameters, runner, overwrite=False)
            ds = cagdask.open_dataset(f"{folder}/cags.zarr")
            rows = [
                {
                    "stage": used.stage,
                    "tasks": used.n_tasks,
                    "wall_s": used.wall_seconds,
                    "cpu_s": used.cpu_seconds,
                    "peak_mib": used.peak_bytes / 2**20,
                }
                for used in runner.usage
            ]
            same = pids == runner.executor.client.run(os.getpid)
            limit = runner.memory_limit
    show(rows, seed)
    peak = max(row["peak_mib"] for row in rows)
    seconds = time.perf_counter() - begun
    click.echo(
        f"\nstore {format_bytes(4 * genes * samples)}, workers 2 x {format_bytes(limit)}; {int(ds.sizes['cag']):,} "
        f"CAGs in {seconds:.0f} s; stages {sum(row['cpu_s'] for row in rows):.1f} CPU s, of them search "
        f"{sum(row['cpu_s'] for row in rows if 'search' in row['stage']):.1f}; multiply-adds "
        f"{account['multiply_adds'] / (genes**2 * samples):.2%} of all; same workers at the end: {same}; "
        f"largest peak {peak:.0f} MiB; "
        f"planned per task { ({k: format_bytes(v) for k, v in plan.task_bytes.items()}) }"
    )


@click.command()
@click.option("--genes", default=100_000)
@click.option("--samples", default=200)
@click.option("--seed", default=0)
@click.option("--refine", default="aggregate")
@click.option("--keep", help="Folder for cohort and output, kept.")
def run(genes: int, samples: int, seed: int, refine: str, keep: str | None) -> None:
    """Everything from sample JSONs to the report, on two workers of 2 GiB, stage by stage."""
    from cagdask.simulation.writing import simulate

    folder = keep or tempfile.mkdtemp()
    cohort, output = f"{folder}/cohort", f"{folder}/output"
    if not Path(cohort).exists():
        simulate(cohort, n_genes=genes, n_samples=samples, seed=seed)
    command = [
        sys.executable,
        "-m",
        "cagdask",
        "run",
        f"{cohort}/sample_sheet.json",
        "--output",
        output,
        "--workers",
        "2",
    ]
    total = measured(
        [
            *command,
            "--memory-limit",
            "2GiB",
            "--max-dist",
            "0.2",
            "--refine",
            refine,
            "--overwrite",
            "--json",
            "--no-progress",
        ]
    )
    stages = json.loads(Path(output, "run.json").read_text())["stages"]
    show(
        [
            {
                "stage": s["stage"],
                "wall_s": s["wall_seconds"],
                "cpu_s": s["cpu_seconds"],
                "worker peak MiB": s["peak_bytes"] / 2**20,
            }
            for s in stages
        ]
        + [{"stage": "whole process tree", "wall_s": total["wall_s"], "cpu_s": total["cpu_s"], "worker peak MiB": ""}],
        seed,
    )
    click.echo(f"peak of the process tree {total['peak_mib']:.0f} MiB")
    if not keep:
        shutil.rmtree(folder)
