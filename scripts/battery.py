"""Agreement of groups with planted genomes: the defaults, the best fixed threshold, and --max-dist auto.

    python scripts/battery.py compare --seed 1 --seed 2
    python scripts/battery.py heights --cohort plain --cohort "30 samples"
    python scripts/battery.py peers --seed 1 --peer-python PEER/bin/python
    python scripts/battery.py catalog counts.tsv.gz msp.tsv.gz --peer-python PEER/bin/python

Each cohort is hard in one way that real ones are. ``compare`` prints a row per cohort: the adjusted Rand index of the
default threshold, of the best of 27 fixed ones (which nobody can know without the genomes) and of ``auto``; and the
share of the genes that are grouped when each gene's samples are shuffled, where none should be. ``heights`` prints how
much it matters where the first step of ``auto`` ends. dynamicTreeCut is not among the peers: it needs R.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score

import cagdask

COHORTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "low coverage": {"coverage": 0.3},
    "deep": {"coverage": 10.0},
    "dense": {"coverage": 5.0, "prevalence": (0.6, 1.0)},
    "rare": {"prevalence": (0.01, 0.15)},
    "30 samples": {"n_samples": 30},
    "20 samples, deep": {"n_samples": 20, "coverage": 5.0},
    "guilds": {"together": 0.6},
    "tight guilds": {"together": 0.85},
    "sites": {"n_sites": 4},
    "sites and guilds": {"n_sites": 4, "together": 0.5},
    "strains": {"accessory": 0.3},
    "cross-mapping": {"leak": 0.02},
    "everything, 60 samples": {
        "n_samples": 60, "n_sites": 3, "together": 0.5, "accessory": 0.2, "leak": 0.01, "coverage": 1.0,
    },
}  # fmt: skip
HEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SEED_HEIGHTS = (0.1, 0.15, 0.2, 0.25)
GUILD = 6
"""Genomes of a guild: they rise and fall together, as far as ``together`` says."""


def cohort(
    seed: int, n_genes: int = 4000, n_samples: int = 150, coverage: float = 2.0,
    prevalence: tuple[float, float] = (0.1, 0.7), together: float = 0.0, n_sites: int = 1, accessory: float = 0.0,
    leak: float = 0.0,
) -> tuple[Any, Any]:  # fmt: skip
    """Depths, (n_genes, n_samples) float32, and the genome of each gene; -1 where either of two answers is right.

    Parameters
    ----------
    together
        Share of the variance of log depth, and of presence, that genomes of a guild have in common.
    n_sites
        Kinds of samples; a genome is rare outside its own.
    accessory
        Share of genes that only half of the samples with the genome have.
    leak
        Share of the depth of another genome that is counted for a gene.
    """
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(np.log(60) - 0.5, 1, n_genes), 2, None).astype(int)
    n_in_genomes = int(0.85 * n_genes)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), n_in_genomes))]
    sizes = np.append(sizes, n_in_genomes - sizes.sum())
    n_large = len(sizes)
    genome = np.append(np.repeat(np.arange(n_large), sizes), n_large + np.arange(n_genes - n_in_genomes))
    n = n_large + n_genes - n_in_genomes
    guild = rng.integers(0, max(1, n // GUILD), n)

    def partly_shared(spread: float) -> Any:
        common = rng.normal(0, spread, (guild.max() + 1, n_samples))[guild]
        return np.sqrt(together) * common + np.sqrt(1 - together) * rng.normal(0, spread, (n, n_samples))

    chance = np.repeat(rng.uniform(*prevalence, (n, 1)), n_samples, axis=1)
    if n_sites > 1:
        at_home = rng.integers(0, n_sites, (n, 1)) == rng.integers(0, n_sites, n_samples)
        chance = np.where(at_home, np.minimum(0.95, 1.8 * chance), 0.15 * chance)
    level = np.log(coverage) + rng.normal(0, 1, (n, 1)) + rng.normal(0, 0.3, n_samples)
    depth = np.where(partly_shared(1.0) < norm.ppf(chance), np.exp(level + partly_shared(1.2)), 0)
    mean, truth = depth[genome], genome.copy()
    if accessory:
        some = (rng.random(n_genes) < accessory) & (genome < n_large)
        mean[some] *= (rng.random((n, n_samples)) < 0.5)[genome[some]]
        truth[some] = -1
    mean += leak * depth[rng.integers(0, n_large, n_genes)]
    length = np.clip(rng.lognormal(np.log(800), 0.6, n_genes), 150, 9000)[:, None]
    mean *= rng.lognormal(0, 0.3, (n_genes, 1)) * rng.gamma(10, 0.1, mean.shape)
    depths = (rng.poisson(mean * length / 150) * 150 / length).astype(np.float32)
    there = depths.any(axis=1)
    return depths[there], truth[there]


def agreement(truth: Any, labels: Any) -> float:
    """Adjusted Rand index over the genes that have one right answer."""
    scored = truth >= 0
    return float(adjusted_rand_score(truth[scored], labels[scored]))


def profiles(depths: Any, method: str) -> Any:
    """Unit profiles: shares on cosine; square roots of shares, or log ratios, on correlation."""
    if method == "clr":
        logs = np.log(np.where(depths > 0, depths, np.nan).astype(float))
        logs -= np.nanmean(logs, axis=0)
        floor = np.nanmax(np.nanmin(logs, axis=0))
        rows = np.maximum(np.nan_to_num(logs, nan=floor), floor) - floor
    else:
        rows = depths / np.maximum(depths.sum(axis=0, dtype=float), 1e-300)
        rows = np.sqrt(rows) if method == "hellinger" else rows
    if method != "sum":
        rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12)


def tree_of(rows: Any) -> Any:
    """Average linkage of unit rows by SciPy."""
    distance = np.maximum(1 - rows @ rows.T, 0)
    np.fill_diagonal(distance, 0)
    return linkage(squareform(distance, checks=False), "average")


def best_fixed(depths: Any, truth: Any) -> float:
    """The best agreement of average linkage cut at any of the heights, by any of three normalizations."""
    best = 0.0
    for method in ("sum", "hellinger", "clr"):
        tree = tree_of(profiles(depths, method))
        best = max([best, *(agreement(truth, fcluster(tree, height, "distance")) for height in HEIGHTS)])
    return best


def found(depths: Any, **options: Any) -> Any:
    """A result of cagdask, in this process."""
    samples = [f"sample {j}" for j in range(depths.shape[1])]
    genes = [f"gene {i}" for i in range(len(depths))]
    table = pd.DataFrame(depths, index=genes, columns=samples)
    return cagdask.find_cags(table, n_workers=0, **options)


@click.group()
def main() -> None:
    """Compare ways to choose groups, on simulated cohorts."""


_cohorts = click.option("--cohort", "names", multiple=True, type=click.Choice(list(COHORTS)), help="Default: all.")
_seeds = click.option("--seed", "seeds", multiple=True, type=int, default=(1, 2), show_default=True)


def _cases(names: Iterable[str], seeds: Iterable[int]) -> Iterable[tuple[str, int, Any, Any]]:
    for seed in seeds:
        for name in names or COHORTS:
            yield name, seed, *cohort(seed, **COHORTS[name])


@main.command()
@_cohorts
@_seeds
def compare(names: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """A threshold of 0.2, the best fixed threshold and auto; and what auto does with shuffled genes."""
    click.echo("| cohort | seed | 0.2 | best fixed | auto | auto - best | shuffled, grouped | and not marked |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
    differences = []
    for name, seed, depths, truth in _cases(names, seeds):
        usual = agreement(truth, found(depths, max_dist=0.2).gene_cag.values)
        best = best_fixed(depths, truth)
        auto = agreement(truth, found(depths, max_dist="auto").gene_cag.values)
        by_chance = found(np.random.default_rng(seed).permuted(depths, axis=1), max_dist="auto")
        cag, status = by_chance.gene_cag.values, by_chance.gene_status.values.astype(object)
        grouped = (cag >= 0) & (by_chance.cag_size.values[np.maximum(cag, 0)] > 1)
        unmarked = (status == "supported").mean()
        differences.append(auto - best)
        click.echo(
            f"| {name} | {seed} | {usual:.4f} | {best:.4f} | {auto:.4f} | {auto - best:+.4f} | {grouped.mean():.1%} "
            f"| {unmarked:.1%} |"
        )
    click.echo(f"\nauto - best: mean {np.mean(differences):+.4f}, worst {np.min(differences):+.4f}")


@main.command()
@_cohorts
@_seeds
def heights(names: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """How much the height of the first step of auto matters."""
    click.echo(f"| cohort | seed | {' | '.join(map(str, SEED_HEIGHTS))} | range |")
    click.echo("| --- | --- |" + " --- |" * (len(SEED_HEIGHTS) + 1))
    for name, seed, depths, truth in _cases(names, seeds):
        rows = profiles(depths, "clr")
        tree = tree_of(rows)
        values = [agreement(truth, joined(rows, fcluster(tree, height, "distance"))) for height in SEED_HEIGHTS]
        shown = " | ".join(f"{value:.4f}" for value in values)
        click.echo(f"| {name} | {seed} | {shown} | {max(values) - min(values):.4f} |")


class InThisProcess:
    """Does the tasks of a stage one after the other."""

    def map(self, _: str, task: Any, items: Iterable[Any], **__: Any) -> list[Any]:
        """What a task answers to each item."""
        return [task(*item) for item in items]


def joined(rows: Any, label: Any) -> Any:
    """The groups that cagdask's joining makes of some groups, (n_genes,); a gene without a profile stays alone."""
    from cagdask.engine.linkage.corrected_joining import join_corrected
    from cagdask.engine.linkage.refinement import DirectionFiles
    from cagdask.engine.linkage.refinement_table import TableFiles
    from cagdask.engine.linkage.rounds import LinkagePlan
    from cagdask.engine.rows.files import Block, lengths, smaller_form

    first = np.unique(label, return_index=True)[1]
    first.sort()
    of_gene = np.argsort(label[first])[np.searchsorted(np.sort(label[first]), label)]
    size = np.bincount(of_gene)
    mean = np.zeros((len(size), rows.shape[1]))
    np.add.at(mean, of_gene, rows)
    mean /= size[:, None]
    length = lengths(mean)
    has = length > 0
    parent = np.arange(len(rows))
    with tempfile.TemporaryDirectory() as folder:
        kept = {"size": size[has], "gene": first[has], "mean_length": length[has]}
        DirectionFiles(**smaller_form(mean[has] / length[has, None])._asdict(), **kept).write(f"{folder}/groups")
        plan = LinkagePlan(len(rows), len(rows), 2**28, small=len(rows), row_bytes=1, merge_row_bytes=1, n_threads=1)
        block = Block(f"{folder}/groups", int(has.sum()))
        for url in join_corrected(InThisProcess(), [block], plan, f"{folder}/joined")[2]:
            parent[TableFiles.open(url).leave] = TableFiles.open(url).keep
        while (parent[parent] != parent).any():
            parent = parent[parent]
    return parent[first[of_gene]]


# -- peers -----------------------------------------------------------------------------------------------------------

CUT_TREE = """
suppressMessages(library(dynamicTreeCut))
path <- commandArgs(TRUE)[1]
merges <- as.matrix(read.table(file.path(path, "merges.tsv")))
n <- nrow(merges) + 1
number <- function(node) ifelse(node < n, -(node + 1), node - n + 1)
tree <- list(merge = cbind(number(merges[, 1]), number(merges[, 2])), height = merges[, 3], labels = NULL,
             order = scan(file.path(path, "order.txt"), quiet = TRUE) + 1, method = "average")
class(tree) <- "hclust"
distance <- matrix(readBin(file.path(path, "distance.bin"), "double", n * n), n, n)
label <- cutreeDynamic(tree, method = "hybrid", distM = distance, minClusterSize = 2, verbose = 0)
write(label, file.path(path, "label.txt"), ncolumns = 1)
"""


def by_dynamic_tree_cut(depths: Any) -> Any:
    """``cutreeDynamic`` (hybrid, two genes or more) of the full tree of ``clr`` on correlation."""
    rows = profiles(depths, "clr")
    distance = np.maximum(1 - rows @ rows.T, 0)
    np.fill_diagonal(distance, 0)
    tree = tree_of(rows)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savetxt(place / "merges.tsv", tree[:, :3], fmt=["%d", "%d", "%.17g"])
        np.savetxt(place / "order.txt", leaves_list(tree), fmt="%d")
        distance.tofile(place / "distance.bin")
        (place / "cut.R").write_text(CUT_TREE)
        subprocess.run(["Rscript", str(place / "cut.R"), folder], check=True, stdout=subprocess.DEVNULL)
        label = np.loadtxt(place / "label.txt", dtype=np.int64)
    return np.where(label > 0, label, label.max() + 1 + np.arange(len(label)))  # 0: in no group


FIND_CAGS = """
import sys
import numpy as np, pandas as pd
from multiprocessing import Pool
from ann_linkage_clustering import lib
table = np.load(sys.argv[1] + "/depths.npy").astype(float)
df = pd.DataFrame(table, index=[f"g{i}" for i in range(len(table))])
df = df / df.sum()
with Pool(2) as pool:
    cags = lib.make_cags_with_ann(lib.make_nmslib_index(df), 0.2, df.copy(), pool, threads=2)
    lib.iteratively_refine_cags(cags, df.copy(), 0.2, threads=2)
label = np.arange(len(table)) + len(cags)
for cag, genes in cags.items():
    label[[int(gene[1:]) for gene in genes]] = cag
np.save(sys.argv[1] + "/label.npy", label)
"""


def by_find_cags(depths: Any, python: str) -> Any:
    """The library of find-cags as its script calls it: shares, cosine 0.2, refined."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/depths.npy", depths)
        subprocess.run([python, "-W", "ignore", "-c", FIND_CAGS, folder], check=True, capture_output=True)
        return np.load(f"{folder}/label.npy")


def by_all(depths: Any, peer_python: str | None) -> dict[str, Any]:
    """Label of each gene by each program; None for one that is not there."""
    return {
        "find-cags, 0.2": by_find_cags(depths, peer_python) if peer_python else None,
        "cagdask, 0.2": found(depths, max_dist=0.2).gene_cag.values,
        "dynamicTreeCut": by_dynamic_tree_cut(depths) if shutil.which("Rscript") else None,
        "auto": found(depths, max_dist="auto").gene_cag.values,
    }


@main.command()
@_cohorts
@_seeds
@click.option("--peer-python", help="Python of an environment with find-cags' library; default: leave it out.")
def peers(names: tuple[str, ...], seeds: tuple[int, ...], peer_python: str | None) -> None:
    """Agreement of other programs with the planted genomes."""
    click.echo("| cohort | seed | find-cags, 0.2 | cagdask, 0.2 | dynamicTreeCut | auto |\n" + "| --- " * 6 + "|")
    for name, seed, depths, truth in _cases(names, seeds):
        found_by = by_all(depths, peer_python).values()
        cells = ["-" if label is None else f"{agreement(truth, label):.4f}" for label in found_by]
        click.echo(f"| {name} | {seed} | {' | '.join(cells)} |")


@main.command()
@click.argument("table")
@click.argument("groups")
@click.option("--gene", default="gene_name", show_default=True, help="Column of GROUPS that names genes as TABLE does.")
@click.option("--group", default="msp_name", show_default=True, help="Column of GROUPS with the group of each gene.")
@click.option(
    "--kind", default="class", show_default=True, help="Column of GROUPS; genes whose kind has core in it are core."
)
@click.option("--peer-python", help="As for ``peers``.")
def catalog(table: str, groups: str, gene: str, group: str, kind: str, peer_python: str | None) -> None:
    """Agreement with published groups of a real table: of their core genes, and of all their genes.

    TABLE has genes as rows, samples as columns, and names of genes in the first column; GROUPS is a table of genes.
    """
    values = pd.read_csv(table, sep="\t", index_col=0)
    values.index = values.index.astype(str)
    values = values[(values > 0).any(axis=1)]
    published = pd.read_csv(groups, sep="\t", dtype={gene: str})
    published = published[published[gene].isin(values.index)]
    at = values.index.get_indexer(published[gene])
    core = published[kind].str.contains("core").to_numpy()
    depths = values.to_numpy(np.float32)
    click.echo("| by | core genes | all genes |\n| --- | --- | --- |")
    for name, label in by_all(depths, peer_python).items():
        if label is not None:
            scores = [adjusted_rand_score(published[group][some], label[at[some]]) for some in (core, core | True)]
            click.echo(f"| {name} | {scores[0]:.3f} ({core.sum():,}) | {scores[1]:.3f} ({len(core):,}) |")


if __name__ == "__main__":
    main()
