"""Folds of samples: which of them train a classifier, and which test it.

    random    samples dealt to folds label by label             a study is in both parts: its batch effect helps
    grouped   whole studies dealt to folds, labels kept even    as new studies will be
    study     each study by itself

A fold is a number per sample: the fold in which it is tested, -1 if never. All depends on the seed alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


def strata_of(member: Bools) -> Int64:
    """A number per sample to keep even over folds: its label, the rarest one of several; n_labels for none."""
    counts = member.sum(axis=0)
    by_rarity = np.argsort(counts, kind="stable")
    first = member[:, by_rarity].argmax(axis=1)
    return np.asarray(np.where(member.any(axis=1), by_rarity[first], member.shape[1]), np.int64)


def random_folds(strata: Int64, n_folds: int, seed: int) -> Int64:
    """Deal the samples of each stratum to folds in a random order, as scikit-learn's ``StratifiedKFold`` does.

    Parameters
    ----------
    strata
        Shape (n_samples,).
    n_folds
        At least 2.
    seed
        Of the order.
    """
    from sklearn.model_selection import StratifiedKFold

    return _filled(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(strata, strata), len(strata))


def grouped_folds(strata: Int64, studies: NDArray[np.object_], n_folds: int, seed: int) -> Int64:
    """Deal whole studies to folds, strata as even as can be: scikit-learn's ``StratifiedGroupKFold``.

    Parameters
    ----------
    strata, studies
        Shape (n_samples,).
    n_folds
        At most as many as there are studies.
    seed
        Of the order in which studies are tried.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    split = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(strata, strata, studies)
    return _filled(split, len(strata))


def study_folds(studies: NDArray[np.object_]) -> Int64:
    """A fold for each study, by its name."""
    return np.unique(studies.astype(str), return_inverse=True)[1].astype(np.int64)


def inner_folds(strata: Int64, studies: NDArray[np.object_] | None, train: Bools, n_folds: int, seed: int) -> Int64:
    """Folds within the training samples of a fold; -1 for all others.

    They are grouped by study where the outer ones are; with fewer than two studies in training they are random.
    """
    made = np.full(len(strata), -1, np.int64)
    if studies is not None and len(set(studies[train])) >= 2:
        n = min(n_folds, len(set(studies[train])))
        made[train] = grouped_folds(strata[train], studies[train], n, seed)
    else:
        made[train] = random_folds(strata[train], n_folds, seed)
    return made


def shares(strata: Int64, test_share: float, n_splits: int, seed: int) -> list[Bools]:
    """Test samples of repeated splits, each stratum split by the same share: ``StratifiedShuffleSplit``."""
    from sklearn.model_selection import StratifiedShuffleSplit

    splitter = StratifiedShuffleSplit(n_splits, test_size=test_share, random_state=seed)
    made = []
    for _, test in splitter.split(strata, strata):
        chosen = np.zeros(len(strata), bool)
        chosen[test] = True
        made.append(chosen)
    return made


def study_shares(
    strata: Int64, studies: NDArray[np.object_], test_share: float, n_splits: int, seed: int
) -> list[Bools]:
    """Test samples of repeated splits that keep whole studies apart, strata as even as can be.

    Studies are dealt to as many folds as make a fold's share nearest to ``test_share``; each fold is a split, and when
    all were, studies are dealt anew.
    """
    n_folds = min(max(2, round(1 / test_share)), len(set(studies)))
    made: list[Bools] = []
    while len(made) < n_splits:
        number = grouped_folds(strata, studies, n_folds, seed + len(made))
        made += [number == fold for fold in range(n_folds)]
    return made[:n_splits]


def _filled(splits: Iterable[tuple[Int64, Int64]], n: int) -> Int64:
    made = np.full(n, -1, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels with fewer samples than folds: they are said by their counts
        for fold, (_, test) in enumerate(splits):
            made[test] = fold
    return made
