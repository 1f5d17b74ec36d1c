"""Genes that the CAGs of two results share, matched by their ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.plot.results import open_result

if TYPE_CHECKING:
    import xarray as xr

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Overlap:
    """Genes that a CAG of the first result and one of the second share: one entry per such pair.

    Attributes
    ----------
    first, second
        Labels, shape (n_pairs,); ordered by ``first``, then by falling ``n``, then by ``second``.
    n
        Genes in both, shape (n_pairs,).
    """

    first: Int64
    second: Int64
    n: Int64


def matched_labels(first: str | xr.Dataset, second: str | xr.Dataset) -> tuple[tuple[Int64, Int64], tuple[int, int]]:
    """Labels of the genes that both results hold, in the order of ``first``; and how many only one of them holds."""
    import pandas as pd

    names, labels = zip(*(_grouped_genes(result) for result in (first, second)), strict=True)
    if len(names[0]) == len(names[1]) and np.array_equal(names[0], names[1]):
        return (labels[0], labels[1]), (0, 0)
    places = pd.Index(names[1]).get_indexer(pd.Index(names[0]))
    both = places >= 0
    if not both.any():
        raise InputError(
            f"{_said(first)} and {_said(second)} have no gene in common; the first begin {str(names[0][:1])[1:-1]} and "
            f"{str(names[1][:1])[1:-1]}. Compare results of the same gene catalogue."
        )
    n_both = int(both.sum())
    return (labels[0][both], labels[1][places[both]]), (len(both) - n_both, len(names[1]) - n_both)


def _grouped_genes(result: str | xr.Dataset) -> tuple[NDArray[Any], Int64]:
    """Ids and labels of the genes that are in a CAG."""
    ds = open_result(result)
    labels = np.asarray(ds["gene_cag"].values, np.int64)
    kept = labels >= 0
    return np.asarray(ds["gene_id"].values, object)[kept], labels[kept]


def _said(result: Any) -> str:
    return result if isinstance(result, str) else str(getattr(result, "encoding", {}).get("source", "the dataset"))


def overlap_of(first: Int64, second: Int64) -> Overlap:
    """Count the genes of each pair of a CAG of the first and of the second result; labels of shape (n_genes,)."""
    width = int(second.max(initial=0)) + 1
    pairs, n = np.unique(first * width + second, return_counts=True)
    a, b = np.divmod(pairs, width)
    order = np.lexsort((b, -n, a))
    return Overlap(a[order], b[order], n[order].astype(np.int64))
