"""What is said of samples before numbers of them are believed.

Labels that can be learned have enough samples, from two studies or more, and are not the same thing as a study or
batch. Samples of relative abundances add up to one number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.labels.sets import LabelSet

WHOLES = (1.0, 100.0, 1e6)
"""What relative abundances add up to: shares, percent, counts per million."""
TOLERANCE = 0.01


class Verdict(NamedTuple):
    """Whether a label can be learned: its samples, the studies they are from (None if not known), and why not."""

    label: str
    n_samples: int
    n_studies: int | None
    why_not: str


def judge(found: LabelSet, studies: NDArray[np.object_] | None, min_label: int) -> list[Verdict]:
    """Say of every label whether it can be learned, and why not.

    Parameters
    ----------
    found
        The labels.
    studies
        Study of each sample, empty text if it is not known; None without studies.
    min_label
        Samples that a label must have.
    """
    labelled = found.labelled
    verdicts = []
    for i, name in enumerate(found.names):
        having = found.member[:, i]
        n = int(having.sum())
        n_studies = None if studies is None else len(set(studies[having]) - {""})
        why = ""
        if n == labelled.sum():
            why = "every labelled sample has it"
        elif n < min_label:
            why = f"fewer than {min_label} samples"
        elif not found.single and labelled.sum() - n < min_label:
            why = f"fewer than {min_label} samples are without it"
        elif n_studies is not None and n_studies < 2:
            why = "all its samples are from one study"
        verdicts.append(Verdict(name, n, n_studies, why))
    return verdicts


def confounded(found: LabelSet, column: NDArray[np.object_]) -> list[str]:
    """Labels that can not be told from a study or batch: none of these has samples with and samples without.

    Parameters
    ----------
    found
        The labels.
    column
        Study or batch of each sample; samples without one (empty text) do not count.
    """
    known = found.labelled & (column != "")
    told = []
    for i, name in enumerate(found.names):
        having = [bool(x) for x in found.member[known, i]]
        mixed = set(zip(column[known], having, strict=True))
        if any(having) and len(mixed) == len(set(column[known])):
            told.append(name)
    return told


class Scale(NamedTuple):
    """What samples add up to.

    ``whole`` is 1, 100 or a million where most of the ``n`` samples add up to that, else None; ``others`` are samples
    that do not, each with its sum.
    """

    whole: float | None
    n: int
    others: list[str]


def scale_of(total: NDArray[np.float64], names: list[str]) -> Scale:
    """Whether samples hold relative abundances, and which of them do not.

    Parameters
    ----------
    total
        Sum of the values of each sample, shape (n_samples,).
    names
        Of the samples.
    """
    for whole in WHOLES:
        alike = np.abs(total - whole) <= TOLERANCE * whole
        if 2 * alike.sum() > len(total):
            return Scale(whole, len(total), [f"{names[i]} ({total[i]:.3g})" for i in np.flatnonzero(~alike).tolist()])
    return Scale(None, len(total), [])
