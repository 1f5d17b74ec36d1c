"""How well the profile of a gene is explained by one CAG, or by the sum of two.

    gene x, CAG a            --ratio-->  x ≈ r·a          where both are present
    gene x, CAGs a and b     --weights--> x ≈ r·a + s·b   non-negative least squares
                             --tally-->  samples that fit, samples that do not, zeros that should not be

A gene's *unit* is its smallest abundance above 0: about what one read makes. Where a fit expects many units, a zero is
no chance; where it expects few, it is. So nothing here needs counts, and low coverage does not look like a missing
gene.

References
----------
.. [1] Plaza Oñate et al. (2019). MSPminer: abundance-based reconstitution of microbial pan-genomes from shotgun
   metagenomic data. Bioinformatics 35:1544-1552.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit

Float64 = NDArray[np.float64]

SPREAD = 0.15
"""Variance of an abundance beyond that of counting, as a share of its square."""
SOLID_UNITS = 2.0
"""Units from which on an abundance has to be explained."""
SURE_UNITS = 5.0
"""Expected units from which on a zero is no chance."""
TRACE_UNITS = 0.05
"""Expected units below which a CAG counts as absent."""
NOISE = 2.0
"""Standard deviations of counting noise that a fit may be off, besides the tolerance."""
LARGEST_RATIO = 4.0
"""How much more of one CAG than of the other a gene of both may have."""
_SWEEPS = 200


@njit(cache=True, nogil=True)
def ratio(x: Any, a: Any, unit: float) -> float:
    """Weighted median of ``x / a`` over the samples that have both; 0 if none has. Shapes (n_samples,)."""
    there = np.flatnonzero((x > 0) & (a > 0))
    if len(there) == 0:
        return 0.0
    ratios = x[there] / a[there]
    weight = 1 / (unit / x[there] + SPREAD)
    order = np.argsort(ratios, kind="mergesort")
    half = weight.sum() / 2
    total = 0.0
    for i in order:
        total += weight[i]
        if total >= half:
            return float(ratios[i])
    return float(ratios[order[-1]])


@njit(cache=True, nogil=True)
def weights_of(x: Any, unit: float) -> Any:
    """Inverse variance of each abundance of a gene, by counting and :data:`SPREAD`; shape (n_samples,)."""
    return 1 / (unit * unit + unit * x + SPREAD * x * x)


@njit(cache=True, nogil=True)
def non_negative(gram: Any, moment: Any) -> Any:
    """Non-negative least squares by coordinate descent.

    Parameters
    ----------
    gram
        ``A'A`` of the columns, shape (k, k), float64.
    moment
        ``A'y``, shape (k,).

    Returns
    -------
    ndarray
        The coefficients, shape (k,), all >= 0.
    """
    k = len(moment)
    found = np.zeros(k)
    for _ in range(_SWEEPS):
        change = 0.0
        for i in range(k):
            if gram[i, i] <= 0:
                continue
            rest = moment[i]
            for j in range(k):
                if j != i:
                    rest -= gram[i, j] * found[j]
            value = max(0.0, rest / gram[i, i])
            change = max(change, abs(value - found[i]) * math.sqrt(gram[i, i]))
            found[i] = value
        if change <= 1e-12 * math.sqrt(max(1e-300, np.abs(moment).max())):
            break
    return found


@njit(cache=True, nogil=True)
def products(x: Any, profiles: Any, weight: Any) -> Any:
    """Weighted products of profiles, shape (k, k), and of each with ``x``, shape (k,)."""
    k = len(profiles)
    gram, moment = np.zeros((k, k)), np.zeros(k)
    for i in range(k):
        for j in range(i + 1):
            total = 0.0
            for s in range(len(x)):
                total += weight[s] * profiles[i, s] * profiles[j, s]
            gram[i, j] = gram[j, i] = total
        total = 0.0
        for s in range(len(x)):
            total += weight[s] * profiles[i, s] * x[s]
        moment[i] = total
    return gram, moment


@njit(cache=True, nogil=True)
def pair_weights(aa: float, ab: float, bb: float, ax: float, bx: float) -> tuple[float, float]:
    """Non-negative least squares of two columns, from their products, in closed form."""
    det = aa * bb - ab * ab
    if det > 1e-12 * aa * bb:
        r, s = (ax * bb - bx * ab) / det, (bx * aa - ax * ab) / det
        if r >= 0 and s >= 0:
            return r, s
    one = max(0.0, ax / aa) if aa > 0 else 0.0
    two = max(0.0, bx / bb) if bb > 0 else 0.0
    return (one, 0.0) if one * ax >= two * bx else (0.0, two)


@njit(cache=True, nogil=True)
def tally(x: Any, a: Any, b: Any, r: float, s: float, unit: float, tolerance: float) -> tuple[int, int, int, int, int]:
    """Count the samples by how ``x ≈ r·a + s·b`` fits.

    Parameters
    ----------
    x, a, b
        Abundances, shape (n_samples,).
    r, s
        Weights of ``a`` and ``b``.
    unit
        Smallest abundance of the gene.
    tolerance
        Factor by which an abundance may be off, > 1.

    Returns
    -------
    solid, wrong, sure, zeros, outside
        Samples in which the gene is certainly there, and of these the ones that do not fit; samples in which it should
        be, and of these the ones where it is not; samples that have it though the CAGs are absent.
    """
    solid = wrong = sure = zeros = outside = 0
    for i in range(len(x)):
        expected = r * a[i] + s * b[i]
        if expected >= SURE_UNITS * unit:
            sure += 1
            zeros += x[i] == 0
        if x[i] > 0 and expected <= TRACE_UNITS * unit:
            outside += 1
        if x[i] >= SOLID_UNITS * unit:
            solid += 1
            near = x[i] < expected * tolerance and x[i] * tolerance > expected
            wrong += not (near or abs(x[i] - expected) <= NOISE * math.sqrt(unit * expected))
    return solid, wrong, sure, zeros, outside


@njit(cache=True, nogil=True)
def misfits(
    x: Any, a: Any, b: Any, weights: tuple[float, float], unit: float, tolerance: float, with_zeros: bool, most: int
) -> int:
    """``wrong`` of :func:`tally`, plus ``zeros`` if these count; counted until there are more than ``most``."""
    r, s = weights
    found = 0
    for i in range(len(x)):
        if x[i] == 0:
            if with_zeros and r * a[i] + s * b[i] >= SURE_UNITS * unit:
                found += 1
        elif x[i] >= SOLID_UNITS * unit:
            expected = r * a[i] + s * b[i]
            near = x[i] < expected * tolerance and x[i] * tolerance > expected
            found += not (near or abs(x[i] - expected) <= NOISE * math.sqrt(unit * expected))
        if found > most:
            break
    return found


@njit(cache=True, nogil=True)
def by_chance(solid: int, wrong: int, share: float, tries: float) -> float:
    """Expected number of ``tries`` that fit as well by chance, if each sample fits with probability ``share``."""
    total = 0.0
    for k in range(solid - wrong, solid + 1):
        log = math.lgamma(solid + 1) - math.lgamma(k + 1) - math.lgamma(solid - k + 1)
        total += math.exp(log + k * math.log(share) + (solid - k) * math.log(1 - share))
    return total * tries


@njit(cache=True, nogil=True)
def trimmed_mean(rows: Any) -> Any:
    """Mean of each column of ``rows``, >= 0, without a quarter of the values at either end; shape (n_samples,).

    Of three rows it is the median; of fewer the mean. Most values are 0, which add nothing: only others are sorted.
    """
    n = len(rows)
    cut = n // 4 if n >= 4 else (1 if n == 3 else 0)
    found = np.zeros(rows.shape[1])
    above = np.empty(n)
    for j in range(rows.shape[1]):
        n_above = 0
        for i in range(n):
            if rows[i, j] > 0:
                above[n_above] = rows[i, j]
                n_above += 1
        n_zeros = n - n_above
        if n_above > 1:
            above[:n_above].sort()
        total = 0.0
        for i in range(max(0, cut - n_zeros), n - cut - n_zeros):
            total += above[i]
        found[j] = total / (n - 2 * cut)
    return found
