"""Measure the way of an expression compendium through cagdask: ingest, normalize, metrics.

    python scripts/benchmark_expression.py cosine                       # CPU beside matrices of pairs
    python scripts/benchmark_expression.py make big.h5 --genes 20000 --samples 50000
    python scripts/benchmark_expression.py run big.h5 --folder scratch  # seconds and peak memory of each stage

The file is as ARCHS4 publishes them, in compressed chunks, written some samples at a time. Counts are drawn with a mean
of each gene and tissue, many of them 0.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from threadpoolctl import threadpool_limits

SAMPLES_AT_ONCE = 500
N_TISSUES = 20


def drawn(rng: Any, strength: Any, tissue: Any) -> Any:
    """Counts of all genes in some samples, shape (n_genes, n_samples), int32."""
    depth = rng.gamma(8, 0.125, len(tissue)).astype(np.float32)
    spread = rng.standard_exponential((len(strength), len(tissue)), np.float32)
    return np.minimum(strength[:, tissue] * depth * spread, 2**24).astype(np.int32)


@click.group()
def main() -> None:
    """Generate, and measure."""


@main.command()
@click.argument("path")
@click.option("--genes", default=20_000, show_default=True)
@click.option("--samples", default=50_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def make(path: str, genes: int, samples: int, seed: int) -> None:
    """Write a made-up compendium as HDF5, some samples at a time."""
    import h5py

    rng = np.random.default_rng(seed)
    strength = (rng.gamma(0.5, 40, (genes, 1)) * rng.gamma(0.7, 1.4, (genes, N_TISSUES))).astype(np.float32)
    tissue = rng.integers(0, N_TISSUES, samples)
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        chunks = (min(genes, 1000), min(samples, SAMPLES_AT_ONCE))
        values = file.create_dataset("data/expression", (genes, samples), np.int32, chunks=chunks, compression="lzf")
        file.create_dataset("meta/genes/symbol", data=[f"GENE{i}" for i in range(genes)], dtype=text)
        file.create_dataset("meta/samples/geo_accession", data=[f"GSM{j}" for j in range(samples)], dtype=text)
        file.create_dataset("meta/samples/series_id", data=[f"GSE{j // 40}" for j in range(samples)], dtype=text)
        file.create_dataset("meta/samples/tissue", data=[f"tissue {t}" for t in tissue], dtype=text)
        for begin in range(0, samples, SAMPLES_AT_ONCE):
            some = tissue[begin : begin + SAMPLES_AT_ONCE]
            values[:, begin : begin + len(some)] = drawn(rng, strength, some)
    click.echo(f"{path}: {genes:,} x {samples:,}, {Path(path).stat().st_size / 2**30:.2f} GiB")


@main.command()
@click.argument("path")
@click.option("--folder", required=True, help="Stores are made here, and removed at the end.")
@click.option("--workers", default=2, show_default=True)
@click.option("--memory-limit", default="2GiB", show_default=True)
@click.option("--method", default="cpm+log+quantile", show_default=True)
def run(path: str, folder: str, workers: int, memory_limit: str, method: str) -> None:
    """Ingest, normalize, measure; one line of JSON for each stage."""
    import h5py

    import cagdask

    with h5py.File(path) as file:
        genes, samples = file["data/expression"].shape
    click.echo(json.dumps({"genes": genes, "samples": samples, "workers": workers, "memory_limit": memory_limit}))
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        with cagdask.connect(n_workers=workers, memory_limit=memory_limit) as runner:
            steps: dict[str, Any] = {
                "ingest": lambda: cagdask.ingest(path, store=str(place / "c.zarr"), kind="expression", client=runner),
                "normalize": lambda: cagdask.normalize_expression(
                    str(place / "c.zarr"), output=str(place / "n.zarr"), method=method, client=runner
                ),
                "metrics": lambda: cagdask.expression_metrics(
                    str(place / "n.zarr"), output=str(place / "m.tsv"), groups="tissue", client=runner
                ),
            }
            for name, step in steps.items():
                n, begun = len(runner.usage), time.perf_counter()
                step()
                for used in runner.usage[n:]:
                    click.echo(json.dumps({"step": name, **vars(used)}))
                wall = time.perf_counter() - begun
                cpu = sum(used.cpu_seconds for used in runner.usage[n:])
                peak = max(used.peak_bytes for used in runner.usage[n:]) / 2**20
                click.echo(json.dumps({"step": name, "wall": round(wall), "cpu": round(cpu), "peak_mib": round(peak)}))
    finally:
        shutil.rmtree(place)


@main.command()
@click.option("--genes", default=3000, show_default=True)
@click.option("--samples", default=5000, show_default=True)
@click.option("--pairs", default=200, show_default=True, help="Genes whose pairs are computed.")
def cosine(genes: int, samples: int, pairs: int) -> None:
    """Processor time of the mean cosines by sums, and by matrices of pairs with the same reading of the table."""
    from cagdask.compute.in_process import InProcess
    from cagdask.compute.runner import Runner
    from cagdask.expression.measuring import expression_metrics
    from cagdask.storage.objects import as_dataset, write_dataset

    rng = np.random.default_rng(0)
    strength = (rng.gamma(0.5, 40, (genes, 1)) * rng.gamma(0.7, 1.4, (genes, N_TISSUES))).astype(np.float32)
    values = np.log2(1 + drawn(rng, strength, rng.integers(0, N_TISSUES, samples))).astype(np.float32)
    folder = tempfile.mkdtemp()
    try:
        names = [f"GENE{i}" for i in range(genes)], [f"GSM{j}" for j in range(samples)]
        write_dataset(as_dataset(values, genes=names[0], samples=names[1], kind="expression"), f"{folder}/s.zarr")
        few = as_dataset(values[:64, :64], genes=names[0][:64], samples=names[1][:64], kind="expression")
        write_dataset(few, f"{folder}/few.zarr")
        expression_metrics(f"{folder}/few.zarr", client=Runner(InProcess("2GiB", n_threads=1)))  # loads the kernel
        runner = Runner(InProcess("2GiB", n_threads=1))
        frame = expression_metrics(f"{folder}/s.zarr", client=runner)
    finally:
        shutil.rmtree(folder)
    sums = {used.stage: used.cpu_seconds for used in runner.usage}
    unit = values / np.sqrt((values.astype(np.float64) ** 2).sum(axis=0))
    center = int(0.95 * (samples + 1))
    differs, begun = 0.0, time.process_time()
    with threadpool_limits(1):
        for gene in range(pairs):
            chosen = np.argsort(values[gene], kind="stable")[center - 50 : center + 50]
            some = unit[:, chosen]
            found = ((some.T @ some).sum() - len(chosen)) / (len(chosen) * (len(chosen) - 1))
            differs = max(differs, abs(found - frame["mean_cosine"][gene]))
    by_pairs = (time.process_time() - begun) / pairs * genes
    click.echo(
        f"{genes:,} genes x {samples:,} samples: sums {sums['cosines']:.1f} s (and the survey of all measures "
        f"{sums['survey']:.1f} s), pairs {by_pairs:.1f} s ({by_pairs / sums['cosines']:.0f} x), largest difference "
        f"{differs:.1e}"
    )


if __name__ == "__main__":
    main()
