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


def scaled(
    block: NDArray[Any], *, length: Float64 | None, scale: Float64 | None, log: bool, after: Float64 | None = None
) -> Float64:
    """Values over the length of their gene, times the scale of their sample, as log2(1 + v) if wanted.

    Parameters
    ----------
    block
        Values >= 0, shape (n_genes, n_samples).
    length, after
        Shape (n_genes,), bp; the second divides at the very end. None divides by nothing.
    scale
        Shape (n_samples,); None multiplies with nothing.
    log
        Whether to take log2(1 + v).
    """
    values = np.asarray(block, np.float64)
    if length is not None:
        values = values / length[:, None]
    if scale is not None:
        values = values * scale
    if log:
        values = np.log2(1 + values)
    return values if after is None else values / after[:, None]


def quantiles_of(values: Float64, target: Float64) -> Float64:
    """Give each column the target's values in the order of its own; ties get the mean of the target over their ranks.

    Parameters
    ----------
    values
        Shape (n_genes, n_samples).
    target
        Ascending, shape (n_genes,).
    """
    found = np.empty_like(values)
    for column in range(values.shape[1]):
        order = np.argsort(values[:, column], kind="stable")
        ranked = values[order, column]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        lengths = np.diff(np.r_[starts, len(ranked)])
        means = np.add.reduceat(target, starts) / lengths
        found[order, column] = np.repeat(means, lengths)
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
