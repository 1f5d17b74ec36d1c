"""Seconds and memory of a command with all its processes, and the table that shows them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

SCRIPTS = Path(__file__).resolve().parents[1]
THREADS = {name: "2" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def measured(command: list[str]) -> dict[str, Any]:
    """Run a command to its end: its seconds, peak memory, and the JSON object that it prints last."""
    import psutil

    before = os.times()
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | THREADS)
    peak = [0]

    def watch() -> None:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            total, looked = 0, time.perf_counter()
            try:
                for member in [root, *root.children(recursive=True)]:
                    total += member.memory_full_info().pss
            except psutil.Error:
                continue
            finally:
                peak[0] = max(peak[0], total)
                time.sleep(max(0.05, 50 * (time.perf_counter() - looked)))  # looking must not be what is measured

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    printed, _ = process.communicate()
    watcher.join()
    after = os.times()
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} failed")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    found = {"wall_s": time.perf_counter() - begun, "cpu_s": cpu, "peak_mib": peak[0] / 2**20}
    return found | json.loads(printed.strip().splitlines()[-1])


def processor() -> str:
    """Name of the processor."""
    return next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "?")


def show(rows: list[dict[str, Any]], seed: int) -> None:
    """Print a Markdown table, and below it machine and versions."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    click.echo("| " + " | ".join(names) + " |")
    click.echo("|" + " --- |" * len(names))
    for row in rows:
        cells = [f"{v:.4g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v) for v in
                 (row.get(name, "") for name in names)]  # fmt: skip
        click.echo("| " + " | ".join(cells) + " |")
    from cagdask.provenance import versions

    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()}"
    click.echo(f"\n{machine}; load at the end {os.getloadavg()[0]:.1f}; seed {seed}; {versions()}")


def agreement_of(labels: Any, others: Any) -> float:
    """Adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, others))


def genomes(truth: Any) -> Any:
    """Genome of each gene, with a number of its own for each loner."""
    return np.where(truth < 0, truth.max() + 1 + np.arange(len(truth)), truth)
