"""Tests of a block of features against labels of samples, in memory, all features at once where that can be.

================  ======================================================  =========================================
test              effect                                                  interval
================  ======================================================  =========================================
``rank-sum``      2 AUC - 1: 1 if every sample of the second group has    normal, variance of Hanley and McNeil [1]_
                  more than every one of the first, -1 if less
``paired``        (R₊ - R₋) / (R₊ + R₋), ranks of the differences         normal, variance if nothing differs
``kruskal``       H / (n - 1), from 0 to 1                                none
``linear``        coefficient of the label                                t distribution
``logistic``      log-odds of the second group per unit of the feature    normal
zero-aware        that of ``rank-sum``                                    that of ``rank-sum``
================  ======================================================  =========================================

References
----------
.. [1] Hanley and McNeil (1982). The meaning and use of the area under a ROC curve.
.. [2] DerSimonian and Laird (1986). Meta-analysis in clinical trials.
.. [3] Fisher (1932). Statistical methods for research workers, 4th edition.
.. [4] Lachenbruch (1976). Analysis of data with clumping at zero.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

Z95 = 1.959963984540054
LEAST = 3
"""Samples of each group that have a feature, for a test of its amount."""


class Tested(NamedTuple):
    """What a test found, one number per feature, float64; NaN where it could not be done."""

    effect: Float64
    error: Float64
    low: Float64
    high: Float64
    p_value: Float64


def _by_error(effect: Float64, error: Float64, p_value: Float64, bound: float = np.inf) -> Tested:
    low, high = np.maximum(effect - Z95 * error, -bound), np.minimum(effect + Z95 * error, bound)
    return Tested(effect, error, low, high, p_value)


def rank_sum(values: Float64, second: NDArray[np.bool_]) -> Tested:
    """Mann and Whitney's test with continuity correction; ``second`` says which samples are of the second group."""
    from scipy.stats import mannwhitneyu

    n, m = int(second.sum()), int((~second).sum())
    with np.errstate(all="ignore"):
        found = mannwhitneyu(values[:, second], values[:, ~second], axis=1, method="asymptotic")
    area = found.statistic / (n * m)
    both, twice = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (both - area**2) + (m - 1) * (twice - area**2)) / (n * m)
    varies = values.max(axis=1) > values.min(axis=1)
    p_value = np.where(varies, found.pvalue, np.nan)
    return _by_error(2 * area - 1, 2 * np.sqrt(np.maximum(variance, 0)), p_value, 1.0)


def paired(first: Float64, second: Float64) -> Tested:
    """Wilcoxon's signed-rank test of pairs, those without a difference left out."""
    from scipy.stats import rankdata, wilcoxon

    difference = second - first
    rank = rankdata(np.where(difference == 0, np.nan, np.abs(difference)), axis=1, nan_policy="omit")
    rank = np.where(difference == 0, 0.0, rank)
    total = rank.sum(axis=1)
    p_value = np.full(len(difference), np.nan)
    some = total > 0
    if some.any():
        p_value[some] = wilcoxon(difference[some], axis=1, method="asymptotic").pvalue
    with np.errstate(all="ignore"):
        effect = (rank * np.sign(difference)).sum(axis=1) / total
        error = np.sqrt((rank**2).sum(axis=1)) / total
    return _by_error(effect, error, p_value, 1.0)


def kruskal(values: Float64, groups: NDArray[np.int64]) -> Tested:
    """Kruskal and Wallis' test of two or more groups."""
    from scipy.stats import kruskal as of_scipy

    empty = np.full(len(values), np.nan)
    effect, p_value = empty.copy(), empty.copy()
    varies = values.max(axis=1) > values.min(axis=1)
    if varies.any():
        found = of_scipy(*(values[varies][:, groups == g] for g in np.unique(groups)), axis=1)
        effect[varies], p_value[varies] = found.statistic / (values.shape[1] - 1), found.pvalue
    return Tested(effect, empty, empty, empty, p_value)


def linear(values: Float64, design: Float64, column: int) -> Tested:
    """Ordinary least squares of each feature on a design, shape (n_samples, n_terms); the effect of one term."""
    from scipy.stats import t

    inverse = np.linalg.pinv(design)
    coefficients = values @ inverse.T
    residual = values - coefficients @ design.T
    free = design.shape[0] - design.shape[1]
    error = np.sqrt((residual**2).sum(axis=1) / free * (inverse[column] @ inverse[column]))
    effect = coefficients[:, column]
    error = np.where(values.max(axis=1) > values.min(axis=1), error, np.nan)
    with np.errstate(all="ignore"):
        p_value = 2 * t.sf(np.abs(effect / error), free)
    reach = t.ppf(0.975, free) * error
    return Tested(effect, error, effect - reach, effect + reach, np.asarray(p_value))


class Parts(NamedTuple):
    """The two parts of a zero-aware test, one number per feature, float64; NaN where a part says nothing."""

    presence_effect: Float64
    presence_p: Float64
    abundance_effect: Float64
    abundance_p: Float64


def two_part(values: Float64, second: NDArray[np.bool_]) -> tuple[Tested, Parts]:
    """Presence and, among the samples that have a feature, its amount; both p values combined [4]_.

    Given who has the feature, its amount among them says something else, so that the two p values are independent under
    the null hypothesis, and Fisher's way [3]_ combines them. Where one part says nothing (all samples have the feature,
    or too few do), the other one is the answer.

    Parameters
    ----------
    values
        Shape (n_features, n_samples); a sample has a feature where its value is above 0.
    second
        Which samples are of the second group.

    Returns
    -------
    tuple of Tested and Parts
        Effect and interval of :func:`rank_sum` over all samples, with the combined p value; and the parts: difference
        of the shares that have the feature with the p value of Fisher's exact test, and the effect and p value of
        :func:`rank_sum` among those that have it.
    """
    from scipy.stats import chi2

    present = values > 0
    n, m = int(second.sum()), int((~second).sum())
    of_second, of_first = present[:, second].sum(axis=1), present[:, ~second].sum(axis=1)
    presence_p = _exact(of_first, of_second, m, n)
    effect, amount_p = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for row in np.flatnonzero((of_first >= LEAST) & (of_second >= LEAST)):
        own = present[row]
        part = rank_sum(values[row : row + 1, own], second[own])
        effect[row], amount_p[row] = part.effect[0], part.p_value[0]
    whole = rank_sum(values, second)
    p_values = np.stack([presence_p, amount_p])
    n_parts = np.isfinite(p_values).sum(axis=0)
    sums = -2 * np.where(np.isfinite(p_values), np.log(np.maximum(np.nan_to_num(p_values, nan=1.0), 1e-300)), 0).sum(
        axis=0
    )
    combined = np.where(n_parts > 0, chi2.sf(sums, np.maximum(2 * n_parts, 1)), np.nan)
    parts = Parts(of_second / n - of_first / m, presence_p, effect, amount_p)
    return whole._replace(p_value=combined), parts


def _exact(of_first: NDArray[np.int64], of_second: NDArray[np.int64], m: int, n: int) -> Float64:
    """Fisher's exact test of each feature, each table once. NaN where all or no samples have the feature."""
    from scipy.stats import fisher_exact

    pairs, place = np.unique(np.stack([of_first, of_second], axis=1), axis=0, return_inverse=True)
    found = np.full(len(pairs), np.nan)
    for i, (a, b) in enumerate(pairs.tolist()):
        if 0 < a + b < m + n:
            found[i] = fisher_exact([[b, n - b], [a, m - a]]).pvalue
    return found[place.ravel()]


def logistic(values: Float64, second: NDArray[np.bool_], design: Float64) -> Tested:
    """Logistic regression of the label on each feature and a design that holds the intercept and covariates.

    Columns are scaled to a standard deviation of 1 before, so that Newton's steps end at the same precision whatever
    the units; effects are per unit of the feature.
    """
    from numpy.linalg import LinAlgError
    from statsmodels.discrete.discrete_model import Logit
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    def scale_of(columns: Float64) -> Float64:
        spread = columns.std(axis=0)
        return np.where(spread > 0, spread, 1.0)

    found = np.full((3, len(values)), np.nan)
    design, target = design / scale_of(design), second.astype(float)
    scales = scale_of(values.T)
    for row, one in enumerate(values):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of separation and of what did not converge: no estimate to be given
            try:
                fit = Logit(target, np.column_stack([one / scales[row], design])).fit(disp=0, maxiter=100, tol=1e-11)
            except (PerfectSeparationError, LinAlgError, Warning):
                continue
        found[:, row] = fit.params[0] / scales[row], fit.bse[0] / scales[row], fit.pvalues[0]
    return _by_error(*found)


def random_effects(effects: Float64, errors: Float64) -> Tested:
    """Combine effects of several cohorts, shape (n_cohorts, n_features), as draws around a common mean [2]_.

    A cohort in which a feature has no effect or error is left out for that feature.
    """
    from scipy.stats import norm

    known = np.isfinite(effects) & np.isfinite(errors) & (errors > 0)
    effects = np.where(known, effects, 0.0)
    weight = np.divide(1, errors**2, out=np.zeros_like(errors), where=known)
    total, count = weight.sum(axis=0), known.sum(axis=0)
    with np.errstate(all="ignore"):
        fixed = (weight * effects).sum(axis=0) / total
        spread = (weight * (effects - fixed) ** 2).sum(axis=0)
        between = np.maximum(0, (spread - (count - 1)) / (total - (weight**2).sum(axis=0) / total))
        between = np.where(count > 1, between, 0.0)
        weight = np.divide(1, errors**2 + between, out=np.zeros_like(errors), where=known)
        effect = (weight * effects).sum(axis=0) / weight.sum(axis=0)
        error = 1 / np.sqrt(weight.sum(axis=0))
        effect = np.where(count > 0, effect, np.nan)
        return _by_error(effect, error, np.asarray(2 * norm.sf(np.abs(effect / error))))
