"""How many of the grouped genes chance would group as well, from groups of shuffled genes: arithmetic.

Of many genes, only every k-th is shuffled. Chance partners grow with the number of genes: if a share ``p`` of ``n``
shuffled genes is grouped, then ``1 - (1 - p)^k`` of ``k n`` would be, as long as partners are independent.

The interval of the rate is that of ``p`` by Clopper and Pearson [1]_, carried through the same formulas. Genes that
chance groups come together, so what is counted is groups of their mean size, not genes.

References
----------
.. [1] Clopper and Pearson (1934). The use of confidence or fiducial limits illustrated in the case of the binomial.
   Biometrika 26:404-413.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.quick_start import special_function

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

HEIGHTS = 80
"""Heights of the first step at which groups of shuffled genes are counted."""


def heights_up_to(max_dist: float) -> Float64:
    """The :data:`HEIGHTS` heights, evenly from 0 to ``max_dist``."""
    return np.linspace(0, max_dist, HEIGHTS)


def by_height(found: dict[str, Any], max_dist: Float64, n_grouped: Int64) -> Float64:
    """Share of the genes grouped by the first step that chance would group, by the height at which that ends.

    Parameters
    ----------
    found
        What :func:`cagdask.cags.null.judge` found.
    max_dist
        Heights, shape (n,). The rate between two heights at which shuffled genes were counted is that of the larger.
    n_grouped
        Genes in groups of two or more at each, shape (n,).

    Returns
    -------
    ndarray
        Shape (n,), in [0, 1]; NaN where nothing was counted.

    Examples
    --------
    >>> counts = {"max_dist": 0.79, "n_grouped": [0] * 40 + [5] * 40}
    >>> found = {"by_height": counts, "shuffled_every": 1, "n_with_profile": 100, "n_shuffled": 100}
    >>> by_height(found, np.array([0.1, 0.5, 0.9]), np.array([50, 60, 60]))
    array([0.02, 0.1 ,  nan])
    """
    counted = found.get("by_height")
    rate = np.full(len(max_dist), np.nan)
    if not counted or not found["n_shuffled"]:
        return rate
    of_chance = np.asarray(counted["n_grouped"], np.float64)
    step = counted["max_dist"] / (len(of_chance) - 1) or 1.0
    at = np.ceil(np.asarray(max_dist) / step - 1e-6).astype(np.int64)
    known = (at >= 0) & (at < len(of_chance))
    share = of_chance[at[known]] / found["n_shuffled"]
    rate[known] = _rate(1 + _of_all(share, found["shuffled_every"], found["n_with_profile"]), n_grouped[known])
    return rate


def _of_all(share: Float64, step: int, n: Any) -> Float64:
    """Genes of ``n`` that chance would group, if it groups this share of every ``step``-th."""
    return np.asarray((1 - (1 - share) ** step) * n, np.float64)


def _rate(expected: Float64, n_grouped: Any) -> Float64:
    return np.asarray(np.minimum(1.0, expected / np.maximum(1, n_grouped)), np.float64)


def by_support(
    support: Float32, grouped: NDArray[np.bool_], chance: Int64, step: int
) -> tuple[Float64, Float64, Float64, Float64]:
    """Estimated share of grouped genes that chance would group, by support.

    Parameters
    ----------
    support
        Of each gene, shape (n_genes,).
    grouped
        Whether the gene is in a group of two or more, shape (n_genes,).
    chance
        Genes in the group of the same gene shuffled, 0 if it was not shuffled, shape (n_genes,).
    step
        Every how many-th gene was.

    Returns
    -------
    levels, rate, low, high
        Supports, ascending, and FDR among the genes of at least that support, with its 95 % interval.

    Examples
    --------
    >>> s, yes = np.array([1, 1, 2, 2], np.float32), np.ones(4, bool)
    >>> levels, rate, low, high = by_support(s, yes, np.array([2, 1, 1, 1]), 1)
    >>> levels, rate, low.round(2), high.round(2)
    (array([1., 2.]), array([0.5, 0.5]), array([0., 0.]), array([1., 1.]))
    """
    levels = np.unique(support[grouped].astype(np.float64))

    def at_least(which: NDArray[np.bool_]) -> Float64:
        found = np.sort(support[which].astype(np.float64))
        return np.asarray(len(found) - np.searchsorted(found, levels), np.float64)

    n, by_chance = at_least(chance > 0), at_least(chance > 1)
    together = max(2.0, float(chance[chance > 1].mean())) if (chance > 1).any() else 2.0
    shares = (by_chance / np.maximum(1, n), *share_interval(by_chance / together, n / together))
    of_all, found = at_least(support > 0), at_least(grouped)
    expected, least, most = (_of_all(share, step, of_all) for share in shares)
    return levels, _rate(1 + expected, found), _rate(least, found), _rate(1 + most, found)


def share_interval(found: Float64, n: Float64) -> tuple[Float64, Float64]:
    """95 % interval of a share of which ``found`` of ``n`` were counted, (n_shares,) each; numbers may be broken.

    Examples
    --------
    >>> low, high = share_interval(np.array([0.0, 5.0]), np.array([10.0, 10.0]))
    >>> low.round(3), high.round(3)
    (array([0.   , 0.187]), array([0.308, 0.813]))
    """
    betaincinv = special_function("betaincinv")
    missed = np.maximum(n - found, 0)
    low = np.where(found > 0, betaincinv(np.maximum(found, 1e-9), missed + 1, 0.025), 0.0)
    high = np.where(missed > 0, betaincinv(found + 1, np.maximum(missed, 1e-9), 0.975), 1.0)
    return low, high
