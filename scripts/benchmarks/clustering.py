"""Clustering beside its peers, and agreement with planted genomes."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import click
import numpy as np

from benchmarks.measuring import SCRIPTS, agreement_of, genomes, measured, show
from benchmarks.peers import FIND_CAGS, METHODS, installed

PROGRAM = str(SCRIPTS / "benchmark.py")


@click.command()
@click.argument("method")
@click.argument("store")
@click.argument("max_dist", type=float)
@click.argument("to")
def one(method: str, store: str, max_dist: float, to: str) -> None:
    """Cluster a store by one method (called by the others)."""
    np.save(to, METHODS[method](store, max_dist))
    click.echo("{}")


@click.command()
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
        for name in installed(methods):
            if name == "find-cags":
                if not peer_python:
                    click.echo("find-cags left out: no --peer-python", err=True)
                    continue
                command = [peer_python, "-c", FIND_CAGS]
            else:
                command = [sys.executable, PROGRAM, "one", name]
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


@click.command()
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

    names = installed(methods)
    costs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    labels: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if store is None:
            store = f"{folder}/cohort.zarr"
            simulate_store(store, genes, samples, seed=seed)
        for _ in range(n_turns):
            for name in names:
                command = [sys.executable, PROGRAM, "one", name, store, str(max_dist), f"{folder}/{name}.npy"]
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


@click.command()
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
