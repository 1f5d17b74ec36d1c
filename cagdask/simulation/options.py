"""Options of simulated cohorts, each declared once; light, since commands import them to start."""

from __future__ import annotations

from cagdask.arguments import Option, Options

SIMULATE = Options(
    Option("n_genes", 20_000, "Number of genes.", int, least=1, flags=("--n-genes", "--genes")),
    Option("n_samples", 200, "Number of samples.", int, least=1, flags=("--n-samples", "--samples")),
    Option("coverage", 1.0, "Median depth of a genome where it is present, in reads per base.", float, above=0),
    Option("loner_share", 0.2, "Share of genes that belong to no genome, in [0, 1].", float, least=0, most=1),
    Option("seed", 0, "Seed of random numbers: the same numbers give the same cohort.", int, least=0),
)
"""Of :func:`cagdask.simulate`."""
