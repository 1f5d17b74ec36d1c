#!/usr/bin/env python
"""How fast a store is written: to a disk, to S3 on loopback, and to S3 by xarray alone through s3fs.

    scripts/s3_rates.py --genes 200000 --samples 400

A cohort of sample JSONs is ingested, and a matrix is written (90 % zeros, the others of three decimals, unless
--dense), by the same workers, in turn, several times over. Prints MB of values per second of wall time (the median) and
the ratios; as a floor, the matrix is also read and compressed, and not written. Needs the packages of the test and
bench extras.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pyarrow as pa
from numcodecs.zstd import Zstd

from cagdask import ingest, storage
from cagdask.compute.connect import connect
from cagdask.io.layout import create_store, plan_chunks, write_rows
from cagdask.simulation.writing import simulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the tests are no package of the environment


BLOCK = 10_000


def make_table(path: str, n_genes: int, n_samples: int, dense: bool) -> None:
    """The table, made beforehand: making it takes longer than writing it."""
    table = np.lib.format.open_memmap(path, "w+", np.float32, (n_genes, n_samples))
    for start in range(0, n_genes, BLOCK):
        rng = np.random.default_rng(start)
        rows = table[start : start + BLOCK]
        values = rng.lognormal(0, 1, rows.shape)
        rows[...] = values if dense else np.where(rng.random(rows.shape) < 0.9, 0, np.round(values, 3))


def block(path: str, start: int, stop: int) -> np.ndarray:
    return np.array(np.load(path, mmap_mode="r")[start:stop])


def names(start: int, stop: int) -> list[str]:
    return [f"gene_{i:08d}" for i in range(start, stop)]


def write(staged: str, path: str, start: int, stop: int) -> None:
    write_rows(staged, start, pa.array(names(start, stop)), block(path, start, stop))


def compress(path: str, start: int, stop: int) -> None:
    """What every way has to do, and nothing else."""
    Zstd(level=1, checksum=True).encode(block(path, start, stop))


def compressed(runner, path: str, n_genes: int, n_samples: int) -> None:
    plan = plan_chunks(n_genes, n_samples, runner.task_budget)
    runner.map("compress", compress, [(path, *rows) for rows in plan.blocks()])


def into(runner, sheet: str, store: str) -> None:
    ingest(sheet, store=store, client=runner, overwrite=True)


def with_cagdask(runner, url: str, path: str, n_genes: int, n_samples: int) -> None:
    plan = plan_chunks(n_genes, n_samples, runner.task_budget)
    folder, _ = storage.begin_work(url, {}, overwrite=True, is_store=True)
    staged = storage.staged_store(folder)
    create_store(staged, plan, [f"s{j}" for j in range(n_samples)], "abundance", {})
    runner.map("write", write, [(staged, path, *rows) for rows in plan.blocks()])
    storage.publish(staged, url)
    storage.end_work(url)


def with_xarray(runner, url: str, path: str, n_genes: int, n_samples: int, options: dict) -> None:
    """The same values and names; prevalence and digests are cagdask's own."""
    import xarray as xr

    rows = plan_chunks(n_genes, n_samples, runner.task_budget).block_rows

    def make(block_info) -> np.ndarray:
        (start, stop), _ = block_info[None]["array-location"]
        return block(path, start, stop)

    sizes = tuple(min(rows, n_genes - start) for start in range(0, n_genes, rows))
    values = da.map_blocks(make, chunks=(sizes, (n_samples,)), dtype=np.float32, meta=np.empty((0, 0), np.float32))
    ids = np.array(names(0, n_genes), np.dtypes.StringDType())
    samples = np.array([f"s{j}" for j in range(n_samples)], np.dtypes.StringDType())
    ds = xr.Dataset(
        {"abundance": (("gene", "sample"), values), "gene_id": ("gene", ids), "sample_id": ("sample", samples)}
    )
    with runner.dask_scheduler():
        ds.to_zarr(url, mode="w", zarr_format=3, consolidated=False, storage_options=options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=200_000)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--cohort", default="1000000,40", help="genes and samples of the cohort that is ingested")
    parser.add_argument("--dense", action="store_true", help="all values above 0, with all their digits")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    cohort = tuple(map(int, chosen.cohort.split(",")))
    with tempfile.TemporaryDirectory(prefix="cagdask-rates-") as folder:
        table = f"{folder}/table.npy", chosen.genes, chosen.samples
        make_table(*table, chosen.dense)
        from tests.s3_server import S3Server

        server = S3Server(Path(folder) / "s3")
        server.start()
        server.make_bucket("rates")
        os.environ.update(server.environment, PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        options = {
            "endpoint_url": server.url,
            "key": server.environment["AWS_ACCESS_KEY_ID"],
            "secret": server.environment["AWS_SECRET_ACCESS_KEY"],
        }
        sheet = simulate(f"{folder}/cohort", n_genes=cohort[0], n_samples=cohort[1], seed=0)["sheet"]
        try:
            with connect(n_workers=2, memory_limit="2GiB") as runner:
                ways = {
                    "ingest, local": lambda: into(runner, sheet, f"{folder}/ingested.zarr"),
                    "ingest, s3": lambda: into(runner, sheet, "s3://rates/ingested.zarr"),
                    "local": lambda: with_cagdask(runner, f"{folder}/local.zarr", *table),
                    "s3": lambda: with_cagdask(runner, "s3://rates/made.zarr", *table),
                    "read and compressed only": lambda: compressed(runner, *table),
                    "xarray through s3fs": lambda: with_xarray(runner, "s3://rates/plain.zarr", *table, options),
                }
                seconds: dict[str, list[float]] = {name: [] for name in ways}
                for turn in range(chosen.repeats + 1):
                    for name, way in ways.items():
                        begun = time.perf_counter()
                        way()
                        if turn:  # the first one loads libraries
                            seconds[name].append(time.perf_counter() - begun)
        finally:
            server.kill()
    sizes = {name: math.prod(cohort if "ingest" in name else table[1:]) for name in seconds}
    rates = {name: 4e-6 * sizes[name] / statistics.median(found) for name, found in seconds.items()}
    plain = "xarray through s3fs"
    pairs = (("ingest, s3", "ingest, local"), ("s3", "local"), ("s3", plain), ("read and compressed only", plain))
    ratios = {f"{one} / {other}": round(rates[one] / rates[other], 2) for one, other in pairs}
    rates = {name: round(rate, 1) for name, rate in rates.items()}
    print(json.dumps({"MB_per_second": rates, "ratios": ratios, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
