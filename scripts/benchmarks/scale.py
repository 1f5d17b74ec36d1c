"""Growth: one case after another, in a process tree of its own, and its peers on the same store."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.measuring import SCRIPTS, agreement_of, measured
from benchmarks.scale_cases import CASES, Case, digest, keep_row, machine, make_store, read_labels, results

PROGRAM = str(SCRIPTS / "benchmark_scale.py")


@click.command()
def cases() -> None:
    """List the cases of ``table``."""
    for case in CASES.values():
        click.echo(f"{case.name:<18}{case.genes:>10,} x {case.samples:<6,} {dict(case.options)} {case.memory_limit}")


def tree_seconds() -> float:
    """Processor seconds of this process and its children so far."""
    import psutil

    root = psutil.Process()
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        used = process.cpu_times()
        total += used.user + used.system
    return total


@click.command()
@click.argument("store")
@click.argument("output")
@click.option("--workers", default=2)
@click.option("--memory-limit", default="2GiB")
@click.option("--options", default="{}")
def one(store: str, output: str, workers: int, memory_limit: str, options: str) -> None:
    """Cluster one store on workers that are warm, and say what it took (called by the others)."""
    import cagdask
    from cagdask.cags.clustering import cluster_store
    from cagdask.cags.parameters import Parameters
    from cagdask.simulation.writing import simulate_store

    chosen = {"max_dist": 0.2, "refine": "none"} | json.loads(options)
    with (
        tempfile.TemporaryDirectory() as scratch,
        cagdask.connect(n_workers=workers, memory_limit=memory_limit) as runner,
    ):
        simulate_store(f"{scratch}/small.zarr", 6_000, 50)
        for _ in range(2):
            cagdask.find_cags(f"{scratch}/small.zarr", client=runner, **chosen)
        runner.usage.clear()
        begun, used = time.perf_counter(), tree_seconds()
        with largest_size(f"{output}.work") as size:
            parameters = Parameters(**chosen).checked()
            account = cluster_store(store, output, parameters, runner, overwrite=True)
            ds = cagdask.open_dataset(output)
        wall, cpu = time.perf_counter() - begun, tree_seconds() - used
        search = sum(u.cpu_seconds for u in runner.usage if "search" in u.stage)
        found = {
            "wall_s": wall,
            "cpu_s": cpu,
            "search_cpu_s": search,
            "worker_peak_mib": max(u.peak_bytes for u in runner.usage) / 2**20,
            "disk_mib": size[0] / 2**20,
            "stages": stages_of(runner.usage),
            "tasks": sum(u.n_tasks for u in runner.usage),
            "groups": int(ds.sizes["cag"]),
            "certified": bool(ds.attrs["certified"]),
            "recall": ds.attrs.get("search_recall"),
            "digest": digest(output),
            **account,
        }
    click.echo(json.dumps(found))


@contextmanager
def largest_size(folder: str) -> Iterator[list[int]]:
    """The largest size of a folder while the block runs, looked at every second."""
    largest, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            with suppress(OSError):
                files = (os.stat(f"{here}/{name}") for here, _, names in os.walk(folder) for name in names)
                largest[0] = max(largest[0], sum(file.st_blocks * 512 for file in files))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield largest
    ended.set()
    watcher.join()


def stages_of(usage: list[Any]) -> dict[str, dict[str, float]]:
    """Tasks, seconds and largest worker of each stage, all rounds of linkage together."""
    stages: dict[str, dict[str, float]] = {}
    for used in usage:
        name = re.sub(r"^clustering round \d+: (finish the last) .*|^clustering round \d+: ", r"\1", used.stage)
        stage = stages.setdefault(name, {"tasks": 0, "cpu_s": 0.0, "wall_s": 0.0, "peak_mib": 0.0})
        stage["tasks"] += used.n_tasks
        stage["cpu_s"] = round(stage["cpu_s"] + used.cpu_seconds, 3)
        stage["wall_s"] = round(stage["wall_s"] + used.wall_seconds, 3)
        stage["peak_mib"] = round(max(stage["peak_mib"], used.peak_bytes / 2**20), 1)
    return stages


def measure_case(case: Case, store: str, folder: str, workers: int = 2) -> dict[str, Any]:
    """Cluster a store as a case says."""
    output = f"{folder}/result-{case.name}.zarr"
    command = [sys.executable, PROGRAM, "one", store, output, "--options", json.dumps(dict(case.options))]
    found = measured([*command, "--workers", str(workers), "--memory-limit", case.memory_limit])
    # measured() counts the start-up too; what the process says of itself does not
    return {k: v for k, v in found.items()} | {"output": output}


@click.command()
@click.option("--only", help="Names of cases, comma separated; default: all.")
@click.option("--keep", help="Folder for stores, kept for the next time.")
@click.option("--seed", default=0)
@click.option("--peers/--no-peers", default=True)
def table(only: str | None, keep: str | None, seed: int, peers: bool) -> None:
    """Cluster every case, and its peers the same store; one line each into the results."""
    folder = keep or tempfile.mkdtemp()
    Path(folder).mkdir(exist_ok=True)
    for name in only.split(",") if only else [name for name in CASES if name != "trial"]:
        case = CASES[name]
        store, truth, density = make_store(case, folder, seed)
        found = measure_case(case, store, folder)
        labels = read_labels(found["output"])
        row = asdict(case) | {"method": "cagdask", "density": density, "seed": seed} | found | machine()
        row["ari_truth"] = agreement_of(truth, labels)
        keep_row(row)
        for peer in case.peers if peers else ():
            keep_row(measure_peer(peer, case, store, folder, truth, labels) | {"density": density, "seed": seed})
        shutil.rmtree(found["output"])
    if not keep:
        shutil.rmtree(folder)


def measure_peer(peer: str, case: Case, store: str, folder: str, truth: Any, labels: Any) -> dict[str, Any]:
    """Cluster the same store by another method, without its start-up."""
    from cagdask.simulation.writing import simulate_store

    tiny, to = f"{folder}/tiny.zarr", f"{folder}/labels.npy"
    simulate_store(tiny, 100, case.samples, overwrite=True)
    program = str(SCRIPTS / "benchmark.py")
    costs = [measured([sys.executable, program, "one", peer, url, "0.2", to]) for url in (tiny, store)]
    others = np.load(to)
    row = asdict(case) | {"method": peer, "peak_mib": costs[1]["peak_mib"], "groups": len(np.unique(others))}
    for name in ("wall_s", "cpu_s"):
        row[name] = costs[1][name] - costs[0][name]
    return row | {"ari_truth": agreement_of(truth, others), "ari_cagdask": agreement_of(labels, others)} | machine()


@click.command()
@click.option("--genes", default=200_000)
@click.option("--keep", help="Folder for stores, kept for the next time.")
def workers(genes: int, keep: str | None) -> None:
    """The same store on one worker and on two."""
    folder = keep or tempfile.mkdtemp()
    Path(folder).mkdir(exist_ok=True)
    case = Case(f"workers-{genes}", genes)
    store, _, density = make_store(case, folder, 0)
    for n in (1, 2):
        found = measure_case(case, store, folder, n)
        keep_row(asdict(case) | {"method": f"{n} workers", "density": density, "seed": 0} | found | machine())
    one_, two = (next(r for r in results() if r["method"] == f"{n} workers" and r["name"] == case.name) for n in (1, 2))
    click.echo(f"speed-up {one_['wall_s'] / two['wall_s']:.2f}; same result: {one_['digest'] == two['digest']}")
