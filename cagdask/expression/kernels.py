"""Depth, size factors and quantiles of values in memory, in float64.

References
----------
.. [1] Robinson and Oshlack (2010). A scaling normalization method for differential expression analysis of RNA-seq data.
.. [2] Anders and Huber (2010). Differential expression analysis for sequence count data.
.. [3] Bolstad et al. (2003). A comparison of normalization methods for high density oligonucleotide array data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LOG_RATIO_TRIM, SUM_TRIM = 0.3, 0.05
"""Shares of genes that TMM leaves out at either end, by log-ratio and by mean log expression."""


def scaled(block: NDArray[Any], *, length: Float64 | None, scale: Float64 | None, log: bool) -> Float64:
    """Values over the length of their gene, times the scale of their sample, as log2(1 + v) if wanted.

    Parameters
    ----------
    block
        Values >= 0, shape (n_genes, n_samples).
    length
        Shape (n_genes,), bp; None divides by nothing.
    scale
        Shape (n_samples,); None multiplies with nothing.
    log
        Whether to take log2(1 + v).
    """
    values: Float64 = np.array(block, np.float64)  # a copy in the order of the block, changed step by step
    if length is not None:
        values /= length[:, None]
    if scale is not None:
        values *= scale
    if log:
        values += 1
        np.log2(values, out=values)
    return values


def quantiles_of(values: Float64, target: Float64) -> Float64:
    """Give each column the target's values in the order of its own; ties get the mean of the target over their ranks.

    Parameters
    ----------
    values
        Values >= 0, shape (n_genes, n_samples).
    target
        Ascending, shape (n_genes,).
    """
    from cagdask.expression.sort_kernel import sort_rows

    ranked = np.array(values.T, order="C")
    found = np.empty_like(ranked)
    for sample, (order, own) in enumerate(zip(sort_rows(ranked), ranked, strict=True)):
        starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
        lengths = np.diff(np.r_[starts, len(own)])
        means = np.add.reduceat(target, starts) / lengths
        found[sample, order] = np.repeat(means, lengths)
    return found.T


def sorted_sum(values: Float64) -> Float64:
    """Sum of the sorted columns, shape (n_genes,).

    Parameters
    ----------
    values
        Values >= 0, shape (n_genes, n_samples).
    """
    from cagdask.expression.sort_kernel import sort_rows

    ranked = np.array(values.T, order="C")
    sort_rows(ranked)
    found: Float64 = np.ascontiguousarray(ranked.T).sum(axis=1)  # each rank by itself, as NumPy adds up a row
    return found


def upper_quartile(values: Float64) -> Float64:
    """75th percentile of each column, shape (n_samples,)."""
    quartiles: Float64 = np.quantile(values, 0.75, axis=0)
    return quartiles


def tmm_factor(counts: Float64, total: float, reference: Float64, reference_total: float) -> float:
    """Trimmed mean of the log-ratios of one sample to a reference, before factors are scaled to a product of 1 [1]_.

    Parameters
    ----------
    counts, reference
        Shape (n_genes,).
    total, reference_total
        Sums of all counts of the two samples.
    """
    from scipy.stats import rankdata

    both = (counts > 0) & (reference > 0)
    if not both.any():
        return 1.0
    mine, theirs = counts[both], reference[both]
    ratio = np.log2((mine / total) / (theirs / reference_total))  # as edgeR rounds it: ties decide who is trimmed
    mean = (np.log2(mine / total) + np.log2(theirs / reference_total)) / 2
    variance = (total - mine) / total / mine + (reference_total - theirs) / reference_total / theirs
    if np.abs(ratio).max() < 1e-6:
        return 1.0
    n = len(ratio)
    by_ratio, by_mean = np.floor(n * LOG_RATIO_TRIM) + 1, np.floor(n * SUM_TRIM) + 1
    ranks, mean_ranks = rankdata(ratio), rankdata(mean)
    kept = (ranks >= by_ratio) & (ranks <= n + 1 - by_ratio) & (mean_ranks >= by_mean) & (mean_ranks <= n + 1 - by_mean)
    if not kept.any() or not (variance[kept] > 0).all():
        return 1.0
    return float(2 ** (np.sum(ratio[kept] / variance[kept]) / np.sum(1 / variance[kept])))


def ratio_medians(counts: Float64, log_means: Float64) -> Float64:
    """Median over genes of the ratio to the genes' geometric means, of each column [2]_.

    Parameters
    ----------
    counts
        Shape (n_genes, n_samples).
    log_means
        Mean of the natural logarithm over all samples, shape (n_genes,); -inf for a gene that any sample lacks.
    """
    used = np.isfinite(log_means)
    with np.errstate(divide="ignore"):
        medians: Float64 = np.exp(np.median(np.log(counts[used]) - log_means[used, None], axis=0))
    return medians
