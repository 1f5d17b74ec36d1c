"""Measure cagdask beside its peers: processor time, wall time, peak memory, agreement.

Every method runs as a process tree of its own on the same simulated cohort. Processor time is that of the whole tree as
the system accounts it; peak memory is the largest sum of proportional set sizes over the tree, sampled twenty times a
second. ``over start-up`` subtracts what the same command takes for a cohort of 100 genes.

    python scripts/benchmark.py clustering --genes 20000 --peer-python PEER/bin/python
    python scripts/benchmark.py turns --genes 20000
    python scripts/benchmark.py ingest --genes 300000 --samples 100
    python scripts/benchmark.py agreement --peer-python PEER/bin/python
    python scripts/benchmark.py out-of-core
    python scripts/benchmark.py out-of-core --genes 100000 --samples 200 --store STORE --memory-limit 2GiB
    python scripts/benchmark.py run --genes 100000

The peers come from packages: fastcluster, faiss-cpu, scikit-learn; and for find-cags' library an environment with
``nmslib boto3`` and ``ann_linkage_clustering`` (``pip install --no-deps``, its pins are older than any Python of
today).
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

THREADS = {name: "2" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


# -- measuring -------------------------------------------------------------------------------------------------------


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

    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "?")
    load = os.getloadavg()[0]
    click.echo(
        f"\n{cpu}, {os.cpu_count()} cores, {platform.system()}; load at the end {load:.1f}; seed {seed}; {versions()}"
    )


def agreement_of(labels: Any, others: Any) -> float:
    """Adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, others))


def genomes(truth: Any) -> Any:
    """Genome of each gene, with a number of its own for each loner."""
    return np.where(truth < 0, truth.max() + 1 + np.arange(len(truth)), truth)


# -- clustering ------------------------------------------------------------------------------------------------------


def unit_profiles(store: str) -> tuple[Any, Any]:
    """Unit rows of the sum-normalized table, float64, and which genes they are."""
    import zarr

    table = zarr.open_group(store, mode="r")["abundance"][:].astype(np.float64)
    table /= table.sum(axis=0)
    length = np.linalg.norm(table, axis=1)
    here = np.flatnonzero(length > 0)
    return table[here] / length[here, None], here


def by_cagdask(store: str, max_dist: float, n_workers: int = 2) -> Any:
    """cagdask itself, unrefined, on a LocalCluster of two workers, or with 0 in threads of this process."""
    import cagdask

    found = cagdask.find_cags(store, max_dist=max_dist, refine="none", n_workers=n_workers, memory_limit="2GiB")
    labels = found.gene_cag.values
    return np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)  # genes never seen, each alone


def by_fastcluster(store: str, max_dist: float) -> Any:
    """All distances, then fastcluster."""
    import fastcluster
    from scipy.cluster.hierarchy import fcluster
    from scipy.spatial.distance import pdist

    unit, here = unit_profiles(store)
    tree = fastcluster.linkage(pdist(unit, "cosine"), "average", preserve_input=False)
    return whole(fcluster(tree, max_dist, "distance"), here, store)


def by_composition(store: str, max_dist: float) -> Any:
    """FAISS range search, connected components, and fastcluster in each."""
    import faiss
    import fastcluster
    from scipy.cluster.hierarchy import fcluster
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    unit, here = unit_profiles(store)
    index = faiss.IndexFlatIP(unit.shape[1])
    unit32 = unit.astype(np.float32)
    index.add(unit32)
    begins, _, near = index.range_search(unit32, float(np.float32(1 - max_dist - 1e-5)))
    graph = csr_matrix((np.ones(len(near), bool), near, begins.astype(np.int64)), shape=(len(unit),) * 2)
    n_parts, part = connected_components(graph, directed=False)
    labels = np.empty(len(unit), np.int64)
    used = 0
    order = np.argsort(part, kind="stable")
    for members in np.split(order, np.searchsorted(part[order], np.arange(1, n_parts))):
        if len(members) == 1:
            labels[members] = used
            used += 1
            continue
        rows = unit[members]
        distance = np.maximum(1 - (rows @ rows.T.copy())[np.triu_indices(len(rows), 1)], 0)
        found = fcluster(fastcluster.linkage(distance, "average"), max_dist, "distance")
        labels[members] = used + found - 1
        used += int(found.max())
    return whole(labels, here, store)


def whole(labels: Any, here: Any, store: str) -> Any:
    """Labels of all genes of a store; those without a profile are alone."""
    import zarr

    n = zarr.open_group(store, mode="r")["abundance"].shape[0]
    everyone = labels.max() + 1 + np.arange(n)
    everyone[here] = labels
    return everyone


METHODS: dict[str, Callable[[str, float], Any]] = {
    "cagdask": by_cagdask,
    "cagdask-in-process": partial(by_cagdask, n_workers=0),
    "composition": by_composition,
    "fastcluster": by_fastcluster,
}

FIND_CAGS = """
import json, sys
import numpy as np, pandas as pd, zarr
from multiprocessing import Pool
from ann_linkage_clustering import lib
store, max_dist, to = sys.argv[1], float(sys.argv[2]), sys.argv[3]
table = zarr.open_group(store, mode="r")["abundance"][:].astype(float)
here = np.flatnonzero(table.any(axis=1))
if len(sys.argv) > 4:
    table = np.load(sys.argv[4]).astype(float)
df = pd.DataFrame(table[here], index=[f"g{i}" for i in here])
if len(sys.argv) == 4:
    df = df / df.sum()
with Pool(2) as pool:
    cags = lib.make_cags_with_ann(lib.make_nmslib_index(df), max_dist, df.copy(), pool, threads=2)
    lib.iteratively_refine_cags(cags, df.copy(), max_dist, threads=2)
labels = np.arange(len(table)) + len(cags)
for cag, genes in cags.items():
    labels[[int(g[1:]) for g in genes]] = cag
np.save(to, labels)
print(json.dumps({}))
"""


@click.group()
def main() -> None:
    """Measure cagdask beside its peers."""


@main.command()
@click.argument("method")
@click.argument("store")
@click.argument("max_dist", type=float)
@click.argument("to")
def one(method: str, store: str, max_dist: float, to: str) -> None:
    """Cluster a store by one method (called by the others)."""
    np.save(to, METHODS[method](store, max_dist))
    click.echo("{}")


@main.command()
@click.option("--genes", default=20_000)
@click.option("--samples", default=200)
@click.option("--max-dist", default=0.2)
@click.option("--seed", default=0)
@click.option("--methods", default="cagdask,composition,fastcluster,find-cags")
@click.option("--peer-python", help="Python of an environment with find-cags' library.")
def clustering(genes: int, samples: int, max_dist: float, seed: int, methods: str, peer_python: str | None) -> None:
    """Cluster the same store by every method."""
    from cagdask.simulation.writing import simulate_store

    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        truth = genomes(simulate_store(f"{folder}/cohort.zarr", genes, samples, seed=seed))
        simulate_store(f"{folder}/tiny.zarr", 100, samples, seed=seed)
        for name in methods.split(","):
            if name == "find-cags":
                if not peer_python:
                    click.echo("find-cags left out: no --peer-python", err=True)
                    continue
                command = [peer_python, "-c", FIND_CAGS]
            else:
                command = [sys.executable, __file__, "one", name]
            costs = {}
            for size in ("tiny", "cohort"):
                to = f"{folder}/{size}.npy"
                costs[size] = measured([*command, f"{folder}/{size}.zarr", str(max_dist), to])
            found[name] = np.load(f"{folder}/cohort.npy")
            row = {"method": name, **costs["cohort"]}
            row["cpu_s over start-up"] = costs["cohort"]["cpu_s"] - costs["tiny"]["cpu_s"]
            row["groups"] = len(np.unique(found[name]))
            row["ARI to truth"] = agreement_of(truth, found[name])
            rows.append(row)
    exact = next((found[n] for n in ("fastcluster", "composition") if n in found), None)
    for row in rows:
        if exact is not None:
            row["ARI to exact"] = agreement_of(exact, found[row["method"]])
    show(rows, seed)


@main.command()
@click.option("--genes", default=20_000)
@click.option("--samples", default=200)
@click.option("--max-dist", default=0.2)
@click.option("--seed", default=0)
@click.option("--turns", "n_turns", default=3)
@click.option("--methods", default="cagdask-in-process,composition,cagdask")
@click.option("--store", help="A simulated store made before, instead of making one.")
def turns(genes: int, samples: int, max_dist: float, seed: int, n_turns: int, methods: str, store: str | None) -> None:
    """Cluster the same store by several methods in turns, each a whole cold command, several times."""
    from cagdask.simulation.writing import simulate_store

    names = methods.split(",")
    costs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    labels: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if store is None:
            store = f"{folder}/cohort.zarr"
            simulate_store(store, genes, samples, seed=seed)
        for _ in range(n_turns):
            for name in names:
                command = [sys.executable, __file__, "one", name, store, str(max_dist), f"{folder}/{name}.npy"]
                costs[name].append(measured(command))
                found = np.load(f"{folder}/{name}.npy")
                if name in labels and not np.array_equal(labels[name], found):
                    raise click.ClickException(f"{name} gave another answer in another turn")
                labels[name] = found
    rows = []
    for name in names:
        row = {"method": name}
        for what in ("wall_s", "cpu_s"):
            seconds = sorted(cost[what] for cost in costs[name])
            row |= {
                f"{what}, median": seconds[len(seconds) // 2],
                f"{what}, all": " ".join(f"{s:.2f}" for s in seconds),
            }
        row["peak_mib"] = max(cost["peak_mib"] for cost in costs[name])
        row["same groups as the first"] = str(agreement_of(labels[names[0]], labels[name]) == 1)
        rows.append(row)
    show(rows, seed)


# -- agreement with the planted genomes --------------------------------------------------------------------------------


@main.command()
@click.option("--genes", default="1000,5000,20000")
@click.option("--samples", default=200)
@click.option("--seed", default=0)
@click.option("--max-dists", default="0.1,0.2,0.3,0.5")
@click.option("--metrics", default="cosine,correlation,spearman")
@click.option("--peer-python", help="Python of an environment with find-cags' library.")
def agreement(genes: str, samples: int, seed: int, max_dists: str, metrics: str, peer_python: str | None) -> None:
    """Adjusted Rand index to the planted genomes, by normalization, metric and threshold.

    Of find-cags' library too, on the same clr tables.
    """
    import cagdask
    from cagdask.simulation.writing import simulate_store

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, cagdask.connect(n_workers=2, memory_limit="2GiB") as runner:
        for n in map(int, genes.split(",")):
            store = f"{folder}/{n}.zarr"
            truth = genomes(simulate_store(store, n, samples, seed=seed))
            for metric in metrics.split(","):
                for method in ("sum", "clr"):
                    for max_dist in map(float, max_dists.split(",")):
                        options: dict[str, Any] = {"clr_floor": "auto"} if method == "clr" else {}
                        ds = cagdask.find_cags(
                            store, normalization=method, metric=metric, max_dist=max_dist, client=runner, **options
                        )
                        here = ds.gene_prevalence.values > 0
                        row = {"genes": n, "metric": metric, "normalization": method, "max_dist": max_dist}
                        row["unrefined"] = agreement_of(truth[here], ds.gene_linkage_cag.values[here])
                        row["refined"] = agreement_of(truth[here], ds.gene_cag.values[here])
                        if peer_python and (metric, method) == ("cosine", "clr"):
                            given, to = f"{folder}/normalized.npy", f"{folder}/labels.npy"
                            opened = cagdask.open_dataset(store)
                            np.save(given, cagdask.normalize(opened, method=method, **options)["abundance"].values)
                            measured([peer_python, "-c", FIND_CAGS, store, str(max_dist), to, given])
                            row["find-cags"] = agreement_of(truth[here], np.load(to)[here])
                        rows.append(row)
                        click.echo(json.dumps(row), err=True)
    show(rows, seed)


# -- ingest ------------------------------------------------------------------------------------------------------------

PANDAS_INGEST = """
import gzip, json, os, sys
import numpy as np, pandas as pd
sheet = sys.argv[1]
base = os.path.dirname(sheet)
columns = {}
for sample, path in json.load(open(sheet)).items():
    with gzip.open(os.path.join(base, path), "rt") as handle:
        records = json.load(handle)["results"]
    columns[sample] = pd.Series({r["id"]: np.float16(r["depth"]) for r in records})
table = pd.DataFrame(columns).fillna(0)
print(json.dumps({"shape": list(table.shape)}))
"""


@main.command()
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


@main.command("out-of-core")
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


@main.command()
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


if __name__ == "__main__":
    main()
