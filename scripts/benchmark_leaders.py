"""Measure two-pass clustering and assignment: agreement with what was planted, and processor time.

    python scripts/benchmark_leaders.py planted
    python scripts/benchmark_leaders.py second-pass --frames 5000
    python scripts/benchmark_leaders.py assign --genes 20000 --samples 200

The second needs mdtraj with tables (extra ``mdtraj``).
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from typing import Any

import click
import numpy as np
from threadpoolctl import threadpool_limits

import cagdask
from cagdask import storage


def rand_index(labels: Any, others: Any) -> float:
    """Adjusted Rand index, from the table of pairs."""
    both = np.unique(np.stack([labels, others], axis=1), axis=0, return_counts=True)[1].astype(float)
    counts = [np.unique(x, return_counts=True)[1].astype(float) for x in (labels, others)]
    pairs, mine, theirs = ((n * (n - 1) / 2).sum() for n in (both, *counts))
    expected = mine * theirs / (len(labels) * (len(labels) - 1) / 2)
    return float((pairs - expected) / ((mine + theirs) / 2 - expected))


def write_vectors(url: str, rows: Any) -> None:
    """A store of items with real values."""
    group = storage.create_group(url, {"schema_version": 1, "kind": "expression"})
    storage.write_array(group, "abundance", rows.astype(np.float32))
    storage.write_array(group, "gene_id", np.array([f"item {i}" for i in range(len(rows))], object))
    storage.write_array(group, "sample_id", np.array([f"x{i}" for i in range(rows.shape[1])], object))


LOOPED = 2000
"""Frames that the loop goes over, at most; each costs the same."""


@click.group()
def main() -> None:
    """Measure two-pass clustering and assignment."""


@main.command()
@click.option("--points", default=20_000)
@click.option("--stride", default=20)
@click.option("--seeds", default=5)
def planted(points: int, stride: int, seeds: int) -> None:
    """Twelve planted groups: the default, and the notebook's recipe."""
    click.echo("| points | seed | default | kept first label | notebook's recipe |\n| --- | --- | --- | --- | --- |")
    shares = {"falling sizes": 0.75 ** np.arange(12), "equal sizes": np.ones(12)}
    with tempfile.TemporaryDirectory() as folder, cagdask.connect(n_workers=1, memory_limit="2GiB") as runner:
        for name, share in shares.items():
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                centers = rng.normal(0, 1.5, (12, 20))
                truth = rng.choice(12, points, p=share / share.sum())
                url = os.path.join(folder, f"{name}-{seed}.zarr")
                write_vectors(url, centers[truth] + rng.normal(size=(points, 20)))
                ours = cagdask.two_pass(url, k=12, stride=stride, client=runner)
                theirs = cagdask.two_pass(url, k=12, stride=stride, compat="mdtraj-notebook", client=runner)
                kept = (ours.item_cluster.values[ours.draw_row.values] == ours.draw_cluster.values).mean()
                found = [rand_index(ds.item_cluster.values, truth) for ds in (ours, theirs)]
                click.echo(f"| {name} | {seed} | {found[0]:.3f} | {kept:.1%} | {found[1]:.3f} |")


@main.command("second-pass")
@click.option("--frames", default=20_000)
@click.option("--atoms", default=22)
def second_pass(frames: int, atoms: int) -> None:
    """Processor time of the second pass: a loop over single frames, and ours with all that it writes."""
    import mdtraj as md

    rng = np.random.default_rng(0)
    topology = md.Topology()
    residue = topology.add_residue("ALA", topology.add_chain())
    for i in range(atoms):
        topology.add_atom(f"C{i}", md.element.carbon, residue)
    shapes = rng.normal(0, 0.3, (3, atoms, 3))
    xyz = shapes[rng.integers(0, 3, frames)] + rng.normal(0, 0.05, (frames, atoms, 3))
    with tempfile.TemporaryDirectory() as folder, cagdask.connect(n_workers=1, memory_limit="2GiB") as runner:
        url = os.path.join(folder, "frames.h5")
        md.Trajectory(xyz.astype(np.float32), topology).save(url)
        ds = cagdask.two_pass(url, k=3, sample=500, linkage="average", client=runner)  # compiles, and opens files
        runner.usage.clear()
        ds = cagdask.two_pass(url, k=3, sample=500, linkage="average", client=runner)
        used = {stage.stage: stage.cpu_seconds for stage in runner.usage}
        leaders, of = md.load(url)[ds.leader_row.values.tolist()], ds.leader_cluster.values
        n = min(frames, LOOPED)
        with threadpool_limits(1):  # waiting threads would count as work
            begun = time.process_time()
            single = itertools.islice(md.iterload(url, chunk=1), n)
            labels = [of[np.argmin(md.rmsd(leaders, frame, 0))] for frame in single]
            loop = (time.process_time() - begun) / n
    ours = used["second pass"] / frames
    whole = sum(used[name] for name in ("second pass", "write labels", "write table", "count labels")) / frames
    same = bool((np.array(labels) == ds.item_cluster.values[:n]).all())
    click.echo(f"{frames:,} frames x {atoms} atoms, {len(of)} leaders; loop over the first {n:,}, same labels: {same}")
    click.echo(f"per frame: loop {loop * 1e6:.0f} us of CPU, second pass {ours * 1e6:.1f} us ({loop / ours:.0f}x)")
    click.echo(f"with writing and counting labels {whole * 1e6:.1f} us ({loop / whole:.0f}x)")


@main.command()
@click.option("--genes", default=20_000)
@click.option("--samples", default=200)
@click.option("--coverage", default=1.0)
@click.option("--seed", default=0)
def assign(genes: int, samples: int, coverage: float, seed: int) -> None:
    """A simulated cohort, clustered without refinement: what assignment changes."""
    from cagdask.simulation.writing import simulate_store

    head = ["min_support", "ARI before", "after", "assigned", "became right", "became wrong, of those right"]
    click.echo(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    with tempfile.TemporaryDirectory() as folder, cagdask.connect(memory_limit="2GiB") as runner:
        store, result = os.path.join(folder, "abundance.zarr"), os.path.join(folder, "cags.zarr")
        genome = simulate_store(store, genes, samples, coverage=coverage, seed=seed)
        before = cagdask.find_cags(store, max_dist=0.2, refine="none", output=result, client=runner)
        seen = before.gene_prevalence.values > 0
        own = np.where(genome < 0, -1 - np.arange(genes), genome)[seen]
        label, was = before.gene_cag.values[seen], right(before.gene_cag.values, genome)[seen]
        for support in (1.0, 2.0):
            ds = cagdask.assign(store, to=result, min_support=support, client=runner)
            now = right(ds.gene_cag.values, genome)[seen]
            row = [f"{rand_index(x, own):.4f}" for x in (label, ds.gene_cag.values[seen])]
            row += [f"{int(ds.gene_assigned.sum()):,}", f"{int((now & ~was).sum()):,}"]
            click.echo(f"| {support:g} | {' | '.join(row)} | {(was & ~now).sum() / was.sum():.3%} |")


def right(label: Any, genome: Any) -> Any:
    """A gene of a genome is right among two or more, mostly of its genome; one of none is right alone."""
    order = np.argsort(label, kind="stable")
    found = np.zeros(len(label), bool)
    for members in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        names, counts = np.unique(genome[members], return_counts=True)
        most = names[counts.argmax()]
        alone = len(members) == 1
        found[members] = genome[members] < 0 if alone else (genome[members] == most) & (most >= 0)
    return found


if __name__ == "__main__":
    main()
