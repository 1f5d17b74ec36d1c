"""How often the roles of genes are found, on simulated cohorts: the table of the page on roles.

    python scripts/roles.py --seed 1 --seed 2
    python scripts/roles.py --cohort accessory --coverage 2 --max-dist auto

Prints one line of Markdown per cohort, seed, coverage and threshold: precision and recall of each role. Genes of a
genome that only half of its strains have are accessory, genes that a second genome has, too, are shared.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np
from battery import found  # it lies beside this script
from scipy.stats import norm

COHORTS: dict[str, dict[str, float]] = {
    "accessory": {"accessory": 0.3},
    "two genomes": {"shared": 0.15},
    "both": {"accessory": 0.3, "shared": 0.15},
    "guilds": {"together": 0.6},
    "tight guilds": {"together": 0.85},
    "cross-mapping": {"leak": 0.02},
    "rare": {"accessory": 0.3, "shared": 0.15, "least": 0.02, "most": 0.2},
}
"""Options of :func:`cohort`; those without accessory and shared genes show how often these are seen where none are."""
ROLES = ("core", "accessory", "shared", "alone")
GUILD = 6


def cohort(
    seed: int, coverage: float, *, accessory: float = 0, shared: float = 0, together: float = 0, leak: float = 0,
    least: float = 0.1, most: float = 0.7, n_genes: int = 4000, n_samples: int = 150,
) -> tuple[Any, Any]:  # fmt: skip
    """Depths (genes, samples) float32, and the role of each gene.

    Parameters
    ----------
    coverage
        Median depth of a genome where it is present.
    accessory, shared
        Share of the genes of genomes that half of their strains have, and that another genome has, too.
    together
        Share of the variance that the genomes of a guild have in common.
    leak
        Share of the depth of another genome that is counted for a gene.
    least, most
        Prevalence of genomes.
    """
    rng = np.random.default_rng([seed, 7])
    sizes = np.clip(rng.lognormal(np.log(60) - 0.5, 1, n_genes), 2, None).astype(int)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), 0.85 * n_genes))]
    n_large, n_grouped = len(sizes), int(sizes.sum())
    genome = np.append(np.repeat(np.arange(n_large), sizes), n_large + np.arange(n_genes - n_grouped))
    n = n_large + n_genes - n_grouped
    guild = rng.integers(0, max(1, n // GUILD), n)

    def partly(spread: float) -> Any:
        common = rng.normal(0, spread, (guild.max() + 1, n_samples))[guild]
        return np.sqrt(together) * common + np.sqrt(1 - together) * rng.normal(0, spread, (n, n_samples))

    there = partly(1.0) < norm.ppf(rng.uniform(least, most, (n, 1)))
    level = np.log(coverage) + rng.normal(0, 1, (n, 1)) + rng.normal(0, 0.3, n_samples)
    depth = np.exp(level + partly(1.2)) * there
    mean, role = depth[genome], np.where(genome < n_large, "core", "alone").astype("U9")
    some = (rng.random(n_genes) < accessory) & (genome < n_large)
    mean[some] *= (rng.random((n, n_samples)) < 0.5)[genome[some]]
    role[some] = "accessory"
    other = rng.integers(0, n_large, n_genes)
    some = (rng.random(n_genes) < shared) & (genome < n_large) & (other != genome)
    mean[some] += depth[other[some]]
    role[some] = "shared"
    mean += leak * depth[rng.integers(0, n_large, n_genes)]
    length = np.clip(rng.lognormal(np.log(800), 0.6, n_genes), 150, 9000)[:, None]
    mean *= rng.lognormal(0, 0.3, (n_genes, 1)) * rng.gamma(10, 0.1, mean.shape)
    depths = (rng.poisson(mean * length / 150) * 150 / length).astype(np.float32)
    seen = depths.any(axis=1)
    return depths[seen], role[seen]


def precision_and_recall(truth: Any, role: Any) -> list[str]:
    """Of each role, as text; a dash where a role is neither there nor found."""
    cells = []
    for name in ROLES:
        planted, called = truth == name, role == name
        precision = f"{(planted & called).sum() / called.sum():.3f}" if called.any() else "-"
        recall = f"{(planted & called).sum() / planted.sum():.3f}" if planted.any() else "-"
        cells.append(f"{precision} / {recall}")
    return cells


@click.command()
@click.option("--cohort", "names", multiple=True, type=click.Choice(list(COHORTS)), help="Default: all.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--coverage", "coverages", multiple=True, type=float, default=(2.0, 5.0), show_default=True)
@click.option("--max-dist", "thresholds", multiple=True, default=("auto", "0.2"), show_default=True)
def main(
    names: tuple[str, ...], seeds: tuple[int, ...], coverages: tuple[float, ...], thresholds: tuple[str, ...]
) -> None:
    """Print precision / recall of each role."""
    click.echo(f"| cohort | seed | coverage | max_dist | {' | '.join(ROLES)} |\n| --- |{' --- |' * (3 + len(ROLES))}")
    for name in names or COHORTS:
        for seed in seeds:
            for coverage in coverages:
                depths, truth = cohort(seed, coverage, **COHORTS[name])  # type: ignore[arg-type]  # no counts among them
                for threshold in thresholds:
                    ds = found(depths, max_dist=threshold if threshold == "auto" else float(threshold))
                    cells = precision_and_recall(truth, ds.gene_role.values.astype(object))
                    click.echo(f"| {name} | {seed} | {coverage:g} | {threshold} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
