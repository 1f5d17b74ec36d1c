r"""How sure a CAG is: an interval of its cohesion, and a word.

Cohesion is the mean similarity ``c`` of all pairs of the ``n`` genes of a CAG. Left out one gene at a time, it varies
by how alike each gene is to the others: with ``t`` the cosine of a gene to the mean direction, and ``l`` the mean of
``t``, which is the length of the mean profile, the jackknife [1]_ gives

    h    = (n l t - 1) / (n - 1)                        mean similarity of a gene to the others
    SE²  = (n - 1) / n · (2 / (n - 2))² · Σ (h - c)²    = 4 n l² / ((n - 1) (n - 2)²) · Σ (t - l)²

and the interval is ``c ± q SE`` with ``q`` of Student's t distribution, ``n - 1`` degrees of freedom.

References
----------
.. [1] Arvesen (1969). Jackknifing U-statistics. Ann. Math. Statist. 40:2076-2100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask.cags.parameters import Parameters
from cagdask.compute.quick_start import special_function

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LEVEL = 0.95
"""Of the interval."""
LOOSE = 0.1
"""A CAG is loose if its cohesion is this much below the similarity that its genes were joined at."""
LEAST_WITH_NOISE = 0.3
"""Cohesion below which a CAG is loose if groups were joined by their similarity without noise, whatever the noise."""
GIANT = 20_000
"""Genes from which a CAG is more than one genome is likely to have."""
GIANT_SHARE = 0.5
"""Share of all grouped genes from which a CAG is called giant, of three or more CAGs with :data:`ENOUGH` genes."""
ENOUGH = 100
NEARER = 0.25
"""A CAG is suspicious if more than this share of its genes is nearer to another CAG."""
UNSUPPORTED = 0.5
"""The same for genes with too little support."""


def cohesion_interval(label: Int64, distance: Float32, cohesion: Float32) -> tuple[Float32, Float32]:
    """Interval of the cohesion of each CAG, by the formula above.

    Parameters
    ----------
    label, distance
        CAG of each gene, negative for none, and its cosine distance to the CAG's mean direction, (n_genes,).
    cohesion
        Of each CAG, (n_cags,).

    Returns
    -------
    low, high
        Shape (n_cags,), float32, within [-1, 1]; NaN for CAGs of one or two genes.

    Examples
    --------
    >>> low, high = cohesion_interval(
    ...     np.array([0, 0, 0, 1, -1]), np.array([0.1, 0.1, 0.2, 0, 0], np.float32), np.array([0.61, 1], np.float32)
    ... )
    >>> low.round(3), high.round(3)
    (array([-0.136,    nan], dtype=float32), array([ 1., nan], dtype=float32))
    """
    grouped = np.flatnonzero(label >= 0)
    cag, t = label[grouped], 1 - distance[grouped].astype(np.float64)
    n = np.bincount(cag, minlength=len(cohesion)).astype(np.float64)
    length = np.bincount(cag, t, minlength=len(cohesion)) / np.maximum(n, 1)
    squares = np.bincount(cag, (t - length[cag]) ** 2, minlength=len(cohesion))
    known = n >= 3
    many = np.where(known, n, 3.0)
    error = np.sqrt(4 * many * length**2 / ((many - 1) * (many - 2) ** 2) * squares)
    half = np.where(known, special_function("stdtrit")(many - 1, (1 + LEVEL) / 2) * error, np.nan)
    c = cohesion.astype(np.float64)
    return np.maximum(c - half, -1).astype(np.float32), np.minimum(c + half, 1).astype(np.float32)


def least_cohesion(parameters: Parameters) -> float:
    """Cohesion below which a CAG is called loose."""
    if parameters.refine == "noise-corrected":
        return LEAST_WITH_NOISE
    return 1 - float(parameters.max_dist) - LOOSE


def meanings(parameters: Parameters) -> str:
    """What the words of ``cag_status`` mean; the first that holds is taken."""
    return (
        f"empty: no gene is left. alone: one gene. giant: {GIANT:,} genes or more, or {GIANT_SHARE:.0%} of all grouped "
        "genes: more than one genome is likely. single-sample: no more than one sample has any of its genes, which is "
        f"no evidence of one genome. suspicious: more than {NEARER:.0%} of its genes are nearer to another CAG "
        f"(gene_cag_margin below 0), or more than {UNSUPPORTED:.0%} of them have too little support (gene_status). "
        f"loose: cohesion below {least_cohesion(parameters):.3g}. solid: none of these."
    )


def cag_status(
    size: Int64, n_present: Int64, cohesion: Float32, nearer: Int64, unsupported: Int64, least: float
) -> NDArray[np.object_]:
    """A word for each CAG; see :func:`meanings`.

    Parameters
    ----------
    size, nearer, unsupported
        Of each CAG the genes, those of them that are nearer to another CAG, and those with too little support.
    n_present
        Samples that have any of its genes.
    cohesion, least
        Its cohesion, and that below which it is loose.
    """
    grouped = size > 1
    n_grouped = int(size[grouped].sum())
    giant = size >= GIANT
    if grouped.sum() >= 3 and n_grouped >= ENOUGH:
        giant |= size >= GIANT_SHARE * n_grouped
    conditions = {
        "empty": size == 0,
        "alone": size == 1,
        "giant": giant,
        "single-sample": n_present <= 1,
        "suspicious": (nearer > NEARER * size) | (unsupported > UNSUPPORTED * size),
        "loose": cohesion < least,
    }
    found = np.full(len(size), "solid", object)
    for word in reversed(conditions):
        found[conditions[word]] = word
    return found
