r"""Groups that are one once noise is taken out, joined.

A profile is what a genome does over the samples, plus noise of its own. Noise makes two genes of a genome less alike,
and how much less differs from genome to genome with depth, prevalence and length of genes. So no fixed threshold is
right for all. But a group tells how noisy its genes are: by how alike they are to each other. With ``n`` genes and
``l`` the length of their mean unit profile,

    c_A  = (n² l² - n) / (n (n - 1))      mean similarity of two genes of A
    s_AB = cosine(A, B) l_A l_B           mean similarity of a gene of A and a gene of B
    ρ_AB = s_AB / sqrt(c_A c_B)           similarity of the two profiles without noise (Spearman 1904)

Within a genome ρ is near 1, whatever the noise. A gene alone has no c, and takes that of the other group.

    groups of linkage --rounds--> all reciprocal nearest by ρ join while ρ >= same and s >= LEAST, a gene alone while
                                  ρ >= same_alone, and two groups only if s >= as_noisy max(c_A, c_B)
                      --once----> groups of SMALL genes or fewer join their nearest larger group if ρ >= ATTACHED and no
                                  other larger group comes near (second)

What is written small depends on the number of samples: see :class:`Bounds`.

Two conditions keep out what is alike by chance. Genes alone are many, and each has many groups to be alike to: so they
need more. And unrelated genes that were put together are little alike, so their c is low and their ρ to anything is
high: two groups of one genome are about equally noisy, so ``s`` is near the larger ``c``.

The second step is for noisy genes. ρ is too low for them: a small group was chosen for being alike, so its c is too
high, and a gene alone may be noisier than the group whose c it takes. What shows where they belong is that the next
best group is far away.

The nearest are found in :mod:`cagdask.engine.linkage.corrected_nearest`, the rounds are in
:mod:`cagdask.engine.linkage.corrected_joining`.

References
----------
.. [1] Spearman (1904). The proof and measurement of association between two things. Am. J. Psychol. 15:72-101.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.engine.grid import STEP

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LEAST = 0.3
"""Mean similarity, noise included, below which groups are not joined: the correction is too uncertain there."""
SMALL = 4
"""Genes of a group up to which its own c is not trusted in the second step."""
ATTACHED = 0.6
"""Similarity without noise from which on a small group may join a larger one in the second step."""
ATTACHED_LEAST = 0.2
"""Mean similarity, noise included, that this needs."""


class Bounds(NamedTuple):
    """What a cohort asks for. Chance makes profiles of few samples alike, so fewer samples ask for more.

    same
        Similarity without noise from which on two groups are one.
    same_alone
        The same for a gene alone and a group.
    as_noisy
        Least mean similarity of two groups, as a share of the larger of the similarities inside them.
    second
        Largest cosine of a small group to the second-best larger group, as a share of that to the best.
    """

    same: float
    same_alone: float
    as_noisy: float
    second: float


def bounds_of(n_samples: int) -> Bounds:
    """The bounds for a number of samples; two unrelated profiles have a correlation of about 1 / sqrt(n_samples).

    Examples
    --------
    >>> [round(bound, 2) for bound in bounds_of(100)]
    [0.78, 0.85, 0.73, 0.78]
    """
    chance = n_samples**-0.5
    same = 0.74 + 0.4 * chance
    return Bounds(same, max(same, 0.85), same - 0.05, 0.85 - 0.65 * chance)


class Groups(NamedTuple):
    """Groups in memory: unit directions (n, n_samples), and (n,) gene, genes in it, length of the mean profile."""

    rows: Float64
    gene: Int64
    size: Int64
    length: Float64

    def take(self, at: Any) -> Groups:
        """Those at some positions."""
        return Groups(self.rows[at], self.gene[at], self.size[at], self.length[at])


# -- kernels ---------------------------------------------------------------------------------------------------------


def inner_similarity(size: Int64, length: Float64) -> Float64:
    """Mean similarity of two genes of each group: the ``c`` above; NaN for a gene alone.

    Examples
    --------
    >>> inner_similarity(np.array([1, 2, 2]), np.array([1.0, 1.0, 0.5**0.5])).round(12)
    array([nan,  1.,  0.])
    """
    n = size.astype(np.float64)
    c: Float64 = (n * n * length * length - n) / np.maximum(n * (n - 1), 1)
    return np.where(size > 1, c, np.nan)


def corrected(cosine: Float64, size: tuple[Int64, Int64], length: tuple[Float64, Float64], n_samples: int) -> Float64:
    """Similarity without noise of pairs of groups.

    Parameters
    ----------
    cosine
        Of their directions, shape (n,).
    size, length
        Genes, and length of the mean profile, of either group of each pair, shape (n,) each.
    n_samples
        Of the profiles.

    Returns
    -------
    ndarray
        ρ, shape (n,), on the grid of similarities; -2 for two that may not join: two genes alone, a group whose genes
        are not alike, mean similarity below :data:`LEAST`, and what does not reach ``same_alone`` or ``as_noisy``
        of :class:`Bounds`.
    """
    c = [inner_similarity(n, x) for n, x in zip(size, length, strict=True)]
    first, second = np.where(np.isnan(c[0]), c[1], c[0]), np.where(np.isnan(c[1]), c[0], c[1])
    mean = np.rint(cosine * (length[0] * length[1]) * STEP) / STEP
    bounds = bounds_of(n_samples)
    allowed = (first > 0) & (second > 0) & (mean >= LEAST)  # false for NaN
    rho = np.full(len(cosine), -2.0)
    rho[allowed] = np.rint(mean[allowed] / np.sqrt(first[allowed] * second[allowed]) * STEP) / STEP
    is_alone = (size[0] == 1) | (size[1] == 1)
    least = np.rint(bounds.as_noisy * np.fmax(first, second) * STEP) / STEP
    unlike = np.where(is_alone, rho < bounds.same_alone, mean < least)
    return np.where(unlike, -2.0, rho)
