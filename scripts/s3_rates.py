#!/usr/bin/env python
"""How fast a store is written: to a disk, to S3 on loopback, and to S3 by xarray alone through s3fs.

    scripts/s3_rates.py --genes 200000 --samples 200

The same matrix and the same workers, in turn, several times over; prints MB of values per second of wall time (the
median) and the ratios. Needs the packages of the test and bench extras.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pyarrow as pa

from cagdask import storage
from cagdask.client import connect
from cagdask.io.layout import create_store, plan_chunks, write_rows

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the tests are no package of the environment


def block(start: int, stop: int, n_samples: int) -> np.ndarray:
    """Rows of a sparse table of values with three decimals."""
    rng = np.random.default_rng(start)
    values = np.round(rng.lognormal(0, 1, (stop - start, n_samples)), 3).astype(np.float32)
    values[rng.random(values.shape) < 0.9] = 0
    return values


def write(staged: str, start: int, stop: int, n_samples: int) -> None:
    ids = pa.array([f"gene_{i:08d}" for i in range(start, stop)])
    write_rows(staged, start, ids, block(start, stop, n_samples))


def with_cagdask(runner, url: str, n_genes: int, n_samples: int) -> None:
    plan = plan_chunks(n_genes, n_samples, runner.task_budget)
    folder, _ = storage.begin_work(url, {}, overwrite=True)
    staged = storage.join(folder, "store")
    create_store(staged, plan, [f"s{j}" for j in range(n_samples)], "abundance", {})
    runner.map("write", write, [(staged, *rows, n_samples) for rows in plan.blocks()])
    storage.publish(staged, url)
    storage.end_work(url)


def with_xarray(runner, url: str, n_genes: int, n_samples: int, options: dict) -> None:
    import xarray as xr

    rows = plan_chunks(n_genes, n_samples, runner.task_budget).block_rows

    def make(block_info) -> np.ndarray:
        (start, stop), _ = block_info[None]["array-location"]
        return block(start, stop, n_samples)

    sizes = tuple(min(rows, n_genes - start) for start in range(0, n_genes, rows))
    values = da.map_blocks(make, chunks=(sizes, (n_samples,)), dtype=np.float32, meta=np.empty((0, 0), np.float32))
    ds = xr.Dataset({"abundance": (("gene", "sample"), values)})
    with runner.client.as_current():
        ds.to_zarr(url, mode="w", zarr_format=3, consolidated=False, storage_options=options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=200_000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    shape = chosen.genes, chosen.samples
    with tempfile.TemporaryDirectory(prefix="cagdask-rates-") as folder:
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
        seconds: dict[str, list[float]] = {"local": [], "s3": [], "xarray through s3fs": []}
        try:
            with connect(n_workers=2, memory_limit="2GiB") as runner:
                ways = {
                    "local": lambda: with_cagdask(runner, f"{folder}/local.zarr", *shape),
                    "s3": lambda: with_cagdask(runner, "s3://rates/made.zarr", *shape),
                    "xarray through s3fs": lambda: with_xarray(runner, "s3://rates/plain.zarr", *shape, options),
                }
                for turn in range(chosen.repeats + 1):
                    for name, way in ways.items():
                        begun = time.perf_counter()
                        way()
                        if turn:  # the first one loads libraries
                            seconds[name].append(time.perf_counter() - begun)
        finally:
            server.kill()
    size = 4 * chosen.genes * chosen.samples / 1e6
    rates = {name: round(size / statistics.median(found), 1) for name, found in seconds.items()}
    ratios = {"s3 / local": rates["s3"] / rates["local"], "s3 / xarray": rates["s3"] / rates["xarray through s3fs"]}
    ratios = {name: round(value, 2) for name, value in ratios.items()}
    print(json.dumps({"MB_per_second": rates, "ratios": ratios, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
