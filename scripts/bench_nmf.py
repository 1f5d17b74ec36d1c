"""Measure `cagdask nmf` beside scikit-learn: R², processor time, passes over the data, peak memory.

    python scripts/bench_nmf.py quality              # 1150 x 2718, k = 50, three seeds: R² of both, two ways
    python scripts/bench_nmf.py cost                 # 1150 x 18444, negative part: CPU seconds of both
    python scripts/bench_nmf.py memory               # 100,000 and 1,000,000 genes x 500: peak of the workers

The data are drawn to be like gene effects of knock-outs in cell lines: a mean per gene, 50 sparse programs, noise, and
one value of -5, so that the shift to non-negative values buries the variation under a constant. One thread each.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
from threadpoolctl import threadpool_limits

WAYS = ("shift", "negative-part")


def gene_effects(n_samples: int, n_genes: int, seed: int, spread: float = 0.3, noise: float = 0.08) -> Any:
    """Made-up effects, shape (n_genes, n_samples), float32."""
    rng = np.random.default_rng(seed)
    mean = np.where(rng.random(n_genes) < 0.15, -rng.gamma(4, 0.3, n_genes), rng.normal(-0.05, 0.1, n_genes))
    latent = rng.gamma(1, 1, (n_samples, 50))
    loading = rng.gamma(1, 1, (50, n_genes)) * (rng.random((50, n_genes)) < 0.3)
    signal = latent @ (loading * np.where(rng.random((50, n_genes)) < 0.5, -1, 1))
    signal *= spread / signal.std()
    effects = np.maximum(mean + signal - signal.mean(axis=0) + rng.normal(0, noise, signal.shape), -5)
    effects[0, 0] = -5
    return np.ascontiguousarray(effects.T.astype(np.float32))


def new_store(url: str, n_genes: int, n_samples: int) -> Any:
    """An expression store to fill."""
    import pyarrow as pa

    from cagdask.io.layout import create_store, plan_chunks, write_rows

    plan = plan_chunks(n_genes, n_samples, 2**30)
    create_store(
        url, plan, [f"sample_{j}" for j in range(n_samples)], "expression", {"history": "", "input_digest": ""}
    )

    def write(begin: int, block: Any) -> None:
        write_rows(url, begin, pa.array([f"gene_{begin + i}" for i in range(len(block))]), block)

    return plan, write


def write_store(url: str, values: Any) -> None:
    plan, write = new_store(url, *values.shape)
    for begin, end in plan.blocks():
        write(begin, values[begin:end])


def write_large_store(url: str, n_genes: int, n_samples: int) -> None:
    """A store of 20 programs, block after block."""
    plan, write = new_store(url, n_genes, n_samples)
    latent = np.random.default_rng(0).gamma(0.7, 1, (20, n_samples)).astype(np.float32)
    for begin, end in plan.blocks():
        rng = np.random.default_rng([1, begin])
        loading = rng.gamma(0.7, 1, (end - begin, 20)) * (rng.random((end - begin, 20)) < 0.3)
        noise = rng.standard_normal((end - begin, n_samples), np.float32)
        write(begin, np.maximum(0, loading.astype(np.float32) @ latent + 0.3 * noise))


def workers() -> Any:
    """Two workers of 2 GiB, of one thread each."""
    import cagdask

    return cagdask.connect(n_workers=2, memory_limit="2GiB")


def ours(runner: Any, store: str, folder: Path, k: int, nonneg: str, **options: Any) -> dict[str, Any]:
    """cagdask; CPU of the tasks, and of this process, with its scheduler, while they run."""
    import cagdask

    output = folder / "factors"
    begun, wall = time.process_time(), time.perf_counter()
    cagdask.nmf(store, k=k, output=str(output), nonneg=nonneg, client=runner, overwrite=True, **options)
    driver, wall = time.process_time() - begun, time.perf_counter() - wall
    found = json.loads((output / "nmf.json").read_text())
    tasks = sum(stage["cpu_seconds"] for stage in found["stages"])
    peak = max(stage["peak_bytes"] for stage in found["stages"]) / 2**20
    return {"r2": found["r2"], "passes": found["passes"], "solver passes": len(found["trace"]),
            "converged": found["converged"], "task cpu s": tasks, "driver cpu s": driver, "wall s": wall,
            "largest worker MiB": peak}  # fmt: skip


def theirs(values: Any, k: int, **options: Any) -> dict[str, Any]:
    """scikit-learn in memory."""
    from sklearn.decomposition import NMF

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        begun = time.process_time()
        model = NMF(k, random_state=0, **options).fit(values.T)
    squares = float(((values - values.mean(axis=1, keepdims=True)) ** 2).sum(dtype=np.float64))
    return {"r2": 1 - model.reconstruction_err_**2 / squares, "solver passes": model.n_iter_,
            "task cpu s": time.process_time() - begun}  # fmt: skip


def made_nonnegative(effects: Any, nonneg: str) -> Any:
    return effects - effects.min() if nonneg == "shift" else np.maximum(-effects, 0)


def show(row: dict[str, Any]) -> None:
    click.echo("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


@click.group()
def main() -> None:
    """Measure non-negative matrix factorization."""


@main.command()
@click.option("--seeds", default=3, show_default=True)
def quality(seeds: int) -> None:
    """R² of ours, of scikit-learn's default, and of scikit-learn run to convergence."""
    for seed in range(seeds):
        effects = gene_effects(1150, 2718, seed)
        with tempfile.TemporaryDirectory() as folder, workers() as runner:
            store = str(Path(folder) / "effects.zarr")
            write_store(store, effects)
            for nonneg in WAYS:
                about = {"seed": seed, "nonneg": nonneg}
                values = made_nonnegative(effects, nonneg)
                show(about | {"method": "default"} | theirs(values, 50))
                long = theirs(values, 50, tol=1e-6, max_iter=1000)
                show(about | {"method": "converged"} | long)
                own = ours(runner, store, Path(folder), 50, nonneg)
                show(about | {"method": "cagdask"} | own | {"of converged": own["r2"] / long["r2"]})


@main.command()
def cost() -> None:
    """Processor seconds beside scikit-learn's default."""
    effects = gene_effects(1150, 18444, 0, spread=0.42, noise=0.1)
    with tempfile.TemporaryDirectory() as folder, workers() as runner:
        store, nonneg = str(Path(folder) / "effects.zarr"), "negative-part"
        write_store(store, effects)
        ours(runner, store, Path(folder), 5, nonneg, max_passes=2)  # loads libraries and compiled kernels
        show({"method": "default"} | theirs(made_nonnegative(effects, nonneg), 50))
        for tol in (1e-5, 1e-4):
            show({"method": "cagdask", "tol": tol} | ours(runner, store, Path(folder), 50, nonneg, tol=tol))


@main.command()
@click.option("--genes", type=int, multiple=True, default=[100_000, 1_000_000], show_default=True)
@click.option("--samples", default=500, show_default=True)
@click.option("--folder", help="Where the stores go while they are needed.")
def memory(genes: tuple[int, ...], samples: int, folder: str | None) -> None:
    """Peak memory of two workers of 2 GiB over the number of genes, k = 20."""
    for n_genes in genes:
        with tempfile.TemporaryDirectory(dir=folder) as place, workers() as runner:
            store = str(Path(place) / "large.zarr")
            write_large_store(store, n_genes, samples)
            row = ours(runner, store, Path(place), 20, "error")
            show({"genes": n_genes, "samples": samples} | row)
            shutil.rmtree(store)


if __name__ == "__main__":
    main()
