"""The role of a gene, or of a whole CAG, from how candidates explain its profile.

    its own CAG explains it                   core, or accessory if it is missing where the CAG is
    the sum of two CAGs does, and one does not  shared
    another CAG does                          as of its own
    nothing does                              alone, or core of the CAG it is in

Kernels on the profiles of one gene and its candidates; thresholds were chosen on simulated cohorts, see
``scripts/roles.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cagdask.cags.role_model import (
    LARGEST_RATIO,
    SOLID_UNITS,
    by_chance,
    misfits,
    non_negative,
    pair_weights,
    products,
    ratio,
    tally,
    weights_of,
)
from cagdask.compute.kernels import njit

ROLES = ("core", "accessory", "shared", "alone", "left out")
"""Values of ``gene_role``; files of tasks hold their numbers."""
CORE, ACCESSORY, SHARED, ALONE, LEFT_OUT = range(len(ROLES))

OF_GENES, OF_CAGS = (3.0, 0.45), (2.0, 0.3)
"""Factor by which an abundance may be off, and the share of samples that an unrelated CAG explains by chance."""
OF_CAGS_NARROWLY = (1.4, 0.15)
"""The same for a closer fit: profiles of CAGs have little noise, so fewer samples tell a close fit from chance."""
WELL = 0.12
"""A gene whose CAG leaves this share of its samples unexplained, or less, is of this CAG alone."""
FAIR = 0.3
"""Most that may be left unexplained by another CAG, or by two."""
POOR = 0.4
"""More than this, and the gene's own CAG does not explain where it is missing either."""
BETTER, MUCH_BETTER = 0.6, 0.4
"""Share of what one CAG leaves unexplained that two may leave; the second if genes may be missing, too."""
CHANCE = 0.05
"""Expected fits by chance, of all candidates, below which a fit is none."""
MISSING = 0.15
"""A gene that is missing in more than this share of the samples in which it should be is accessory."""
FEWEST_ZEROS = 2
FEWEST_OUTSIDE = 3
"""Samples with the gene and without its CAG from which on a second CAG is looked for."""
NOTABLY_OUTSIDE, STILL_OUTSIDE = 4, 0.3
MOST_MISSING = 0.7


@njit(cache=True, nogil=True)
def is_missing(sure: int, zeros: int) -> bool:
    """Whether a gene is missing where it should be, beyond chance."""
    return zeros >= FEWEST_ZEROS and zeros > MISSING * sure


@njit(cache=True, nogil=True)
def own_role(x: Any, own: Any, unit: float) -> tuple[int, bool]:
    """Role of a gene by its own CAG, and whether that explains it well enough to look no further."""
    r = ratio(x, own, unit)
    solid, wrong, sure, zeros, outside = tally(x, own, own, r, 0.0, unit, OF_GENES[0])
    well = wrong <= WELL * solid and outside < FEWEST_OUTSIDE
    missing = is_missing(sure, zeros) and wrong <= POOR * solid
    return (ACCESSORY if missing else CORE), well


@njit(cache=True, nogil=True)
def unexplained(x: Any, profiles: Any, unit: float) -> Any:
    """What the sum of some CAGs does not explain of a gene, 0 where it explains a good part; shape (n_samples,)."""
    gram, moment = products(x, profiles, weights_of(x, unit))
    found = non_negative(gram, moment)
    rest = np.zeros(len(x))
    for s in range(len(x)):
        expected = 0.0
        for i in range(len(found)):
            expected += found[i] * profiles[i, s]
        if expected <= FAIR * x[s]:
            rest[s] = max(0.0, x[s] - expected)
    return rest


@njit(cache=True, nogil=True)
def best_pair(x: Any, profiles: Any, unit: float, tolerance: float, may_miss: bool) -> Any:
    """The two profiles whose sum explains a gene best.

    With ``may_miss``, samples without the gene say nothing. Returns places and weights of the two, and what
    :func:`cagdask.cags.role_model.tally` counts, as (a, b, r, s, solid, wrong, sure, zeros, outside); a is -1 for none.
    """
    weight = weights_of(x, unit)
    if may_miss:
        weight = np.where(x > 0, weight, 0.0)
    gram, moment = products(x, profiles, weight)
    best_a, best_b, best_r, best_s = -1, -1, 0.0, 0.0
    least = int(FAIR * np.count_nonzero(x >= SOLID_UNITS * unit)) + (0 if may_miss else len(x))
    for a in range(len(profiles)):
        for b in range(a + 1, len(profiles)):
            r, s = pair_weights(gram[a, a], gram[a, b], gram[b, b], moment[a], moment[b])
            if min(r, s) <= 0 or max(r, s) > LARGEST_RATIO * min(r, s):
                continue
            cost = misfits(x, profiles[a], profiles[b], (r, s), unit, tolerance, not may_miss, least)
            if cost < least or (cost == least and best_a < 0):
                least = cost
                best_a, best_b, best_r, best_s = a, b, r, s
    if best_a < 0:
        return -1, -1, 0.0, 0.0, 0, 0, 0, 0, 0
    solid, wrong, sure, zeros, outside = tally(x, profiles[best_a], profiles[best_b], best_r, best_s, unit, tolerance)
    return best_a, best_b, best_r, best_s, solid, wrong, sure, zeros, outside


@njit(cache=True, nogil=True)
def best_single(x: Any, profiles: Any, unit: float, tolerance: float) -> Any:
    """The profile that explains a gene best, as (place, solid, wrong, sure, zeros, outside)."""
    best = (-1, 0, 0, 0, 0, 0)
    for a in range(len(profiles)):
        r = ratio(x, profiles[a], unit)
        solid, wrong, sure, zeros, outside = tally(x, profiles[a], profiles[a], r, 0.0, unit, tolerance)
        if best[0] < 0 or wrong < best[2]:
            best = (a, solid, wrong, sure, zeros, outside)
    return best


@njit(cache=True, nogil=True)
def choose(x: Any, profiles: Any, own: int, unit: float, n_references: int) -> tuple[int, int, int]:
    """Role of a gene that its own CAG does not explain well.

    Parameters
    ----------
    x
        Abundances of the gene, shape (n_samples,), float64.
    profiles
        Of its candidates, shape (k, n_samples).
    own
        Which of them is its own CAG; -1 if it is in none of three genes or more.
    unit
        Its smallest abundance above 0.
    n_references
        CAGs that the candidates were taken from.

    Returns
    -------
    role, first, second
        Number in :data:`ROLES`, and places of the CAGs that it rests on; -1 for none.
    """
    tolerance, share = OF_GENES
    place, solid, wrong, sure, zeros, outside = best_single(x, profiles, unit, tolerance)
    for may_miss in (False, True):
        a, b, r, s, p_solid, p_wrong, p_sure, p_zeros, p_outside = best_pair(x, profiles, unit, tolerance, may_miss)
        if a < 0 or p_wrong > FAIR * p_solid:
            continue
        less_outside = outside >= NOTABLY_OUTSIDE and p_outside <= STILL_OUTSIDE * outside
        good = p_wrong <= BETTER * wrong or less_outside
        if own >= 0:
            good = good and (own == a or own == b or wrong > FAIR * solid)
        elif by_chance(p_solid, p_wrong, share, n_references * n_references / 2) >= CHANCE:
            good = False
        if may_miss:
            good = good and less_outside and p_wrong <= MUCH_BETTER * wrong and p_zeros <= MOST_MISSING * p_sure
        else:
            good = good and p_zeros <= max(1.0, MISSING * p_sure)
        if good:
            return (SHARED, a, b) if r * profiles[a].sum() >= s * profiles[b].sum() else (SHARED, b, a)
    if own >= 0:
        return own_role(x, profiles[own], unit)[0], own, -1
    fits = place >= 0 and wrong <= FAIR * solid and outside < FEWEST_OUTSIDE
    if fits and by_chance(solid, wrong, share, n_references) < CHANCE:
        return (ACCESSORY if is_missing(sure, zeros) else CORE), place, -1
    return ALONE, -1, -1
