"""Everything killed at random points, and the same command again: what is lost, and whether the bytes are the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
import numpy as np

from benchmarks.scale_cases import Case, digest, keep_row, machine, make_store


@click.command()
@click.option("--genes", default=200_000)
@click.option("--times", default=3)
@click.option("--seed", default=0)
@click.option("--keep", help="Folder for stores, kept for the next time.")
def killed(genes: int, times: int, seed: int, keep: str | None) -> None:
    """Kill workers and client together at random points, run the same command again, and compare."""
    from cagdask.simulation.writing import simulate_store

    folder = keep or tempfile.mkdtemp()
    Path(folder).mkdir(exist_ok=True)
    store, _, _ = make_store(Case("killed", genes), folder, seed)
    command = [sys.executable, "-m", "cagdask", "cluster", store, "--max-dist", "0.2", "--refine", "none",
               "--workers", "2", "--memory-limit", "2GiB", "--no-progress", "--json"]  # fmt: skip
    small, whole, output = (f"{folder}/{name}" for name in ("small", "whole", "killed"))
    for made in (small, whole):
        shutil.rmtree(made, ignore_errors=True)
    simulate_store(f"{folder}/small.zarr", 6_000, 50, overwrite=True)  # takes hardly more than the start-up
    start_up = tree_seconds_of([*command[:4], f"{folder}/small.zarr", *command[5:], "--output", small], None)
    begun = time.perf_counter()
    tree_seconds_of([*command, "--output", whole], None)
    seconds = time.perf_counter() - begun
    wanted, clean = digest(f"{whole}/cags.zarr"), task_seconds(whole)
    draw = random.Random(seed)
    for attempt in range(times):
        shutil.rmtree(output, ignore_errors=True)
        after = seconds * draw.uniform(0.25, 0.95)
        spent = tree_seconds_of([*command, "--output", output], after)
        kept = kept_seconds(output)
        tree_seconds_of([*command, "--output", output], None)
        row = {
            "name": f"killed-{genes}-{attempt}",
            "method": "killed",
            "genes": genes,
            "after_s": after,
            "of_s": seconds,
            "same_bytes": digest(f"{output}/cags.zarr") == wanted,
            "clean_task_cpu_s": clean,
            "spent_cpu_s": spent - start_up,
            "kept_task_cpu_s": kept,
            "again_task_cpu_s": task_seconds(output),
            "lost_share": max(0.0, spent - start_up - kept) / clean,
        }
        keep_row(row | machine())
        click.echo(json.dumps(row))


def tree_seconds_of(command: list[str], kill_after: float | None) -> float:
    """Run a command to its end, or kill it and all its processes after some seconds; processor seconds of them all."""
    import psutil

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    root = psutil.Process(process.pid)
    used: dict[int, float] = {}
    deadline = time.monotonic() + (kill_after or np.inf)
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psutil.Error):
            for member in [root, *root.children(recursive=True)]:
                times = member.cpu_times()
                used[member.pid] = times.user + times.system
        time.sleep(0.1)
    if process.poll() is None:
        for pid in used:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if process.wait() and kill_after is None:
        raise click.ClickException(f"{' '.join(command)} failed")
    return sum(used.values())


def task_seconds(output: str) -> float:
    """Processor seconds of the tasks of the last try of a run."""
    stages = json.loads(Path(output, "run.json").read_text())["stages"]
    return float(sum(part["cpu_seconds"] for stage in stages for part in stage["parts"]))


def kept_seconds(output: str) -> float:
    """Processor seconds of the tasks whose answers a run that goes on has kept."""
    answers = [json.loads(path.read_text()) for path in Path(output).rglob("done/*/*.json")]
    return float(sum(answer["cpu_seconds"] for answer in answers))
