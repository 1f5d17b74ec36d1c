"""Measure how clustering grows with genes, samples, density and workers; every figure lands in one file of JSON lines.

    python scripts/benchmark_scale.py cases
    python scripts/benchmark_scale.py table --only 100k,1m --keep STORES
    python scripts/benchmark_scale.py workers --genes 200000
    python scripts/benchmark_scale.py killed --genes 200000
    python scripts/benchmark_scale.py plans
    python scripts/benchmark_scale.py draw

A case is clustered in a process tree of its own that has started its workers, loaded all libraries and kernels, and
clustered a small cohort before anything counts: processor seconds are those of the whole tree after that, *over
start-up*. Peak memory is the largest sum of proportional set sizes over the tree. Peers come from packages, on the same
stores: fastcluster, and the composition of FAISS range search, connected components and fastcluster.

Cohorts are simulated at 1x coverage, ``sum``, ``max_dist`` 0.2, unrefined, two workers of one thread, unless a case
says otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmark import agreement_of, genomes, measured

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "explanation" / "scale.jsonl"
PICTURES = ROOT / "docs" / "explanation" / "images"


@dataclass(frozen=True)
class Case:
    """One clustering.

    Attributes
    ----------
    name
        What it is called on the command line.
    genes, samples, prevalence
        Of the cohort; the prevalence of genomes decides its density.
    options
        Of :func:`cagdask.find_cags`.
    memory_limit
        Of each of two workers.
    peers
        Who else clusters the same store.
    """

    name: str
    genes: int
    samples: int = 200
    prevalence: tuple[float, float] = (0.05, 0.6)
    options: tuple[tuple[str, Any], ...] = ()
    memory_limit: str = "2GiB"
    peers: tuple[str, ...] = ()


START_SECONDS = 10
"""Of workers and libraries, which the cases leave out and a plan counts."""
SPARSE = (0.005, 0.115)
CASES = {
    case.name: case
    for case in (
        Case("20k", 20_000, peers=("composition", "fastcluster")),
        Case("50k", 50_000, peers=("composition",)),
        Case("100k", 100_000, peers=("composition",)),
        Case("200k", 200_000),
        Case("500k", 500_000),
        Case("1m", 1_000_000),
        Case("sparse-100k", 100_000, prevalence=SPARSE),
        Case("sparse-1m", 1_000_000, prevalence=SPARSE),
        Case("wide-1m", 1_000_000, 1000, prevalence=(0.02, 0.22), memory_limit="4GiB"),
        Case("wide-sparse-1m", 1_000_000, 1000, prevalence=(0.002, 0.045), memory_limit="4GiB"),
        Case("record-5m", 5_000_000, 199, prevalence=SPARSE, memory_limit="4GiB"),
        Case(
            "clr-200k",
            200_000,
            options=(("normalization", "clr"), ("clr_floor", "auto"), ("max_dist", 0.3)),
        ),
        Case("half-200k", 200_000, options=(("max_dist", 0.5),)),
        Case("approximate-200k", 200_000, options=(("search", "approximate"),)),
        Case("approximate-1m", 1_000_000, options=(("search", "approximate"),)),
    )
}


@click.group()
def main() -> None:
    """Measure how clustering grows."""


@main.command()
def cases() -> None:
    """List the cases of ``table``."""
    for case in CASES.values():
        click.echo(f"{case.name:<18}{case.genes:>10,} x {case.samples:<6,} {dict(case.options)} {case.memory_limit}")


# -- one case --------------------------------------------------------------------------------------------------------


def tree_seconds() -> float:
    """Processor seconds of this process and its children so far."""
    import psutil

    root = psutil.Process()
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        used = process.cpu_times()
        total += used.user + used.system
    return total


@main.command()
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


def digest(result: str) -> str:
    """Of the labels and the merge tree of a result."""
    from cagdask.storage import open_group

    group = open_group(result)
    parts = [np.asarray(group[name][:]).tobytes() for name in ("gene_cag", "merge_child", "merge_height")]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def make_store(case: Case, folder: str, seed: int) -> tuple[str, Any, float]:
    """The cohort of a case, the genomes of its genes, and the share of values that are not zero."""
    from cagdask.simulation.writing import make_cohort, simulate_store
    from cagdask.storage import open_group

    shape = f"{case.genes}x{case.samples}-{case.prevalence[0]}-{case.prevalence[1]}-{seed}"
    store = f"{folder}/{shape}.zarr"
    options = {"seed": seed, "prevalence": case.prevalence}
    if not Path(store).exists():
        simulate_store(store, case.genes, case.samples, **options)
    density = float(np.mean(open_group(store)["gene_prevalence"][:]))
    return store, genomes(make_cohort(case.genes, case.samples, **options).genome), density  # type: ignore[arg-type]


def machine() -> dict[str, Any]:
    """What a figure depends on beside the code."""
    from cagdask.provenance import versions

    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "?")
    return {
        "machine": f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
        "load": round(os.getloadavg()[0], 1),
        "versions": str(versions()),
        "day": time.strftime("%Y-%m-%d"),
    }


def measure_case(case: Case, store: str, folder: str, workers: int = 2) -> dict[str, Any]:
    """Cluster a store as a case says."""
    output = f"{folder}/result-{case.name}.zarr"
    command = [sys.executable, __file__, "one", store, output, "--options", json.dumps(dict(case.options))]
    found = measured([*command, "--workers", str(workers), "--memory-limit", case.memory_limit])
    # measured() counts the start-up too; what the process says of itself does not
    return {k: v for k, v in found.items()} | {"output": output}


@main.command()
@click.option("--only", help="Names of cases, comma separated; default: all.")
@click.option("--keep", help="Folder for stores, kept for the next time.")
@click.option("--seed", default=0)
@click.option("--peers/--no-peers", default=True)
def table(only: str | None, keep: str | None, seed: int, peers: bool) -> None:
    """Cluster every case, and its peers the same store; one line each into the results."""
    folder = keep or tempfile.mkdtemp()
    Path(folder).mkdir(exist_ok=True)
    for name in only.split(",") if only else CASES:
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


def read_labels(result: str) -> Any:
    """Label of every gene; genes that are nowhere each have their own."""
    from cagdask.storage import open_group

    labels = open_group(result)["gene_cag"][:]
    return np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)


def measure_peer(peer: str, case: Case, store: str, folder: str, truth: Any, labels: Any) -> dict[str, Any]:
    """Cluster the same store by another method, without its start-up."""
    from cagdask.simulation.writing import simulate_store

    tiny, to = f"{folder}/tiny.zarr", f"{folder}/labels.npy"
    simulate_store(tiny, 100, case.samples, overwrite=True)
    program = str(Path(__file__).with_name("benchmark.py"))
    costs = [measured([sys.executable, program, "one", peer, url, "0.2", to]) for url in (tiny, store)]
    others = np.load(to)
    row = asdict(case) | {"method": peer, "peak_mib": costs[1]["peak_mib"], "groups": len(np.unique(others))}
    for name in ("wall_s", "cpu_s"):
        row[name] = costs[1][name] - costs[0][name]
    return row | {"ari_truth": agreement_of(truth, others), "ari_cagdask": agreement_of(labels, others)} | machine()


def keep_row(row: dict[str, Any]) -> None:
    """Append a row to the results, in place of an earlier one of the same case and method."""
    row = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items() if k != "output"}
    rows = [r for r in results() if (r["name"], r["method"]) != (row["name"], row["method"])]
    RESULTS.write_text("".join(json.dumps(r, sort_keys=True) + "\n" for r in [*rows, row]))
    shown = ("name", "method", "wall_s", "cpu_s", "search_cpu_s", "peak_mib", "worker_peak_mib", "multiply_adds_share",
             "rounds", "groups", "ari_truth", "ari_cagdask", "recall", "load")  # fmt: skip
    click.echo(json.dumps({k: row[k] for k in shown if row.get(k) is not None}))


def results() -> list[dict[str, Any]]:
    """All rows so far."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


# -- workers, and everything killed ----------------------------------------------------------------------------------


@main.command()
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


@main.command()
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


# -- the plan ---------------------------------------------------------------------------------------------------------


@main.command()
def plans() -> None:
    """What ``cagdask plan`` would have said of every measured case, over what was measured."""
    from cagdask.compute.memory import parse_bytes
    from cagdask.runs.input_shape import Shape
    from cagdask.runs.planning import make_plan

    click.echo(f"{'case':<18}{'memory':>8}{'disk':>8}{'time':>8}{'reads':>8}")
    for row in results():
        if row["method"] != "cagdask":
            continue
        genes, samples = row["genes"], row["samples"]
        shape = Shape(row["name"], "store", genes, samples, n_values=int(row["density"] * genes * samples))
        chosen = {"max_dist": 0.2} | {
            name: value for name, value in row["options"] if name in ("normalization", "max_dist")
        }
        made = make_plan(shape, n_workers=2, memory_limit=parse_bytes(row["memory_limit"]), **chosen)
        ratios = (
            made.worker_bytes / 2**20 / row["worker_peak_mib"],
            made.work_bytes / 2**20 / row["disk_mib"],
            made.seconds / (row["wall_s"] + START_SECONDS),
            made.read_bytes / row["bytes_read"],
        )
        click.echo(f"{row['name']:<18}" + "".join(f"{ratio:>8.2f}" for ratio in ratios))


# -- pictures --------------------------------------------------------------------------------------------------------


@main.command()
def draw() -> None:
    """Draw the curves of the results."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cagdask"
    from matplotlib import pyplot

    rows = [r for r in results() if "method" in r and "cpu_s" in r]
    dense, sparse = ("20k", "50k", "100k", "200k", "500k", "1m"), ("sparse-100k", "sparse-1m", "record-5m")
    ours = [r for r in rows if r["method"] == "cagdask"]
    curves = {
        "cagdask, 28 % non-zero": [r for r in ours if r["name"] in dense],
        "cagdask, 5 % non-zero": [r for r in ours if r["name"] in sparse],
        "FAISS, components, fastcluster": [r for r in rows if r["method"] == "composition"],
        "fastcluster": [r for r in rows if r["method"] == "fastcluster"],
    }
    PICTURES.mkdir(exist_ok=True)
    for what, label, file in (
        ("cpu_s", "processor seconds over start-up", "scale-cpu.svg"),
        ("peak_mib", "peak memory of all processes, MiB", "scale-memory.svg"),
    ):
        figure, axes = pyplot.subplots(figsize=(7, 4.5))
        for name, points in curves.items():
            points = sorted(points, key=lambda r: r["genes"])
            if points:
                axes.plot([r["genes"] for r in points], [r[what] for r in points], marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="genes", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.tight_layout()
        figure.savefig(PICTURES / file, metadata={"Date": None})
        click.echo(str(PICTURES / file))


if __name__ == "__main__":
    main()
