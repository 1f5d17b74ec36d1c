"""Genes with too little support, left alone: each is a CAG of its own, and groups are what stays of them.

    CAGs, status of genes --who stays--> members --sum profiles--> new means --number--> CAGs

Folders of tasks as in :mod:`cagdask.cags.results`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.cags.results import ALONE, GROUPED, STATUSES, UNSUPPORTED, CagFiles, LabelFiles, MemberFiles, StatusFiles
from cagdask.engine.linkage import tree
from cagdask.engine.linkage.refinement_table import DirectionFiles
from cagdask.engine.rows.files import FoldFiles
from cagdask.engine.rows.profiles import FILTERED

Int64 = NDArray[np.int64]


def groups_that_stay(cag: Int64, leaves: NDArray[np.bool_]) -> Int64:
    """Smallest gene of the group of each gene, once the genes that leave are groups of their own; shape (n_genes,).

    Examples
    --------
    >>> groups_that_stay(np.array([0, 0, 1, 0, 1]), np.array([True, False, False, False, False]))
    array([0, 1, 2, 1, 2])
    """
    gene = np.arange(len(cag))
    stays = (cag >= 0) & ~leaves
    first = np.full(cag.max(initial=-1) + 1, len(cag))
    np.minimum.at(first, cag[stays], gene[stays])
    group = gene.copy()
    group[stays] = first[cag[stays]]
    return group


def number_members(labels: str, judged: str, fold: str, folder: str) -> dict[str, int]:
    """Task: the groups that stay, numbered in the order of their first genes, as a :class:`MemberFiles`."""
    group = _groups(labels, judged)
    takes_part = FoldFiles.open(fold).first >= 0
    first_gene, inverse = np.unique(group[takes_part], return_inverse=True)
    label = np.full(len(group), -1, np.int64)
    label[takes_part] = inverse
    MemberFiles(first_gene=first_gene, label=label, size=np.bincount(inverse)).write(folder)
    return {"n": len(first_gene)}


def write_labels(labels: str, judged: str, fold: str, groups: list[str], folder: str, status: str) -> dict[str, int]:
    """Task: the CAGs that stay, as a :class:`LabelFiles`, and the status of their genes, as a :class:`StatusFiles`.

    ``groups`` are folders of the directions of those of :func:`number_members`. A gene of which the whole group left is
    alone, too. Returns the number of CAGs.
    """
    group, before = _groups(labels, judged), CagFiles.open(labels)
    cag = tree.labels(group, FoldFiles.open(fold).first == FILTERED)
    size = np.bincount(cag[cag >= 0])
    block, row = np.full((2, len(size)), -1, np.int64)
    for b, files in enumerate(DirectionFiles.open_all(groups)):
        at = cag[files.gene]
        block[at], row[at] = b, np.arange(len(at))
    LabelFiles(cag=cag, linkage_cag=np.array(before.linkage_cag), size=size, block=block, row=row).write(folder)
    of_genes = StatusFiles.open(judged)
    made = np.array(of_genes.status)
    made[(made == STATUSES.index(GROUPED)) & (size[np.maximum(cag, 0)] == 1)] = STATUSES.index(ALONE)
    StatusFiles(support=np.array(of_genes.support), status=made).write(status)
    return {"n_cags": len(size)}


def _groups(labels: str, judged: str) -> Any:
    leaves = StatusFiles.open(judged).status == STATUSES.index(UNSUPPORTED)
    return groups_that_stay(np.asarray(CagFiles.open(labels).cag), leaves)
