"""False discoveries and power of ``cagdask test`` on simulated cohorts with planted effects.

Each cohort has 300 genes in 2 x 30 samples, lognormal where present and absent in up to 70 % of the samples. In 30
genes the second group has more of the gene, is more often without it, or both at once. Genes are found at a false
discovery rate of 0.05; false discoveries are the mean over cohorts of their share among the genes that were found.

    python scripts/planted_effects.py --cohorts 200
"""

from __future__ import annotations

import click
import numpy as np
from scipy.stats import false_discovery_control

from cagdask.labels import statistics

N_GENES, N_PLANTED, N_SAMPLES, FDR = 300, 30, 60, 0.05
DEPTH, ABSENCE = 1.2, 0.35
"""Planted: difference of log abundance, in standard deviations; and of the share of samples without the gene."""


def cohort(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Genes x samples, and which samples are of the second group; the first genes are planted."""
    second = np.arange(N_SAMPLES) % 2 == 1
    absent = np.repeat(rng.uniform(0, 0.7, (N_GENES, 1)), N_SAMPLES, axis=1)
    absent[10:N_PLANTED] *= 0.5
    log = rng.normal(size=(N_GENES, N_SAMPLES))
    log[:10, second] += DEPTH  # more
    absent[10:20, second] += ABSENCE  # seldom
    log[20:N_PLANTED, second] += DEPTH  # seldom, and more where it is: ranks over all samples see little of either
    absent[20:N_PLANTED, second] += ABSENCE
    return np.where(rng.uniform(size=log.shape) < absent, 0.0, np.exp(log)), second


def found_by(values: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Which genes each test finds."""
    design = np.column_stack([np.ones(N_SAMPLES), second.astype(float)])
    p_values = {
        "rank-sum": statistics.rank_sum(values, second).p_value,
        "rank-sum --zero-aware": statistics.two_part(values, second)[0].p_value,
        "kruskal": statistics.kruskal(values, second.astype(np.int64)).p_value,
        "linear": statistics.linear(np.log1p(values), design, 1).p_value,
        "logistic": statistics.logistic(np.log1p(values), second, design[:, :1]).p_value,
    }
    return {name: false_discovery_control(np.nan_to_num(p, nan=1.0)) <= FDR for name, p in p_values.items()}


@click.command()
@click.option("--cohorts", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(cohorts: int, seed: int) -> None:
    """Print a table."""
    rng = np.random.default_rng(seed)
    false: dict[str, list[float]] = {}
    power: dict[str, list[list[float]]] = {}
    for _ in range(cohorts):
        for name, found in found_by(*cohort(rng)).items():
            false.setdefault(name, []).append(found[N_PLANTED:].sum() / max(1, found.sum()))
            power.setdefault(name, []).append([found[begin : begin + 10].mean() for begin in (0, 10, 20)])
    click.echo("test                   false discoveries  power: more  seldom  both")
    for name in false:
        more, seldom, both = np.mean(power[name], axis=0)
        click.echo(f"{name:22} {np.mean(false[name]):17.3f}  {more:11.2f}  {seldom:6.2f}  {both:4.2f}")


if __name__ == "__main__":
    main()
