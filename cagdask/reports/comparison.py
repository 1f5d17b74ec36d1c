"""Compare two results: how far they agree, and what became of each CAG.

Genes are matched by their ids, so the two may come from different stores. Genes that one of them does not have, or left
out, are counted and not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask.errors import InputError
from cagdask.plot.overlap import Overlap, matched_labels, overlap_of
from cagdask.storage.frames import write_frame

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FATES = ("same", "joined", "split", "mixed")
"""What became of a CAG: its genes are one CAG again; are part of a larger one; are several CAGs of no other genes; are
in several CAGs that hold other genes too."""


@dataclass(frozen=True)
class Comparison:
    """How two results agree.

    Attributes
    ----------
    summary
        ``n_genes`` compared; ``n_only_first`` and ``n_only_second``, genes that the other result does not have or left
        out; ``adjusted_rand``, the adjusted Rand index of the two partitions, 1 for equal ones, about 0 for unrelated
        ones; ``n_same``, ``n_joined``, ``n_split``, ``n_mixed``: rows of the table by ``fate``.
    table
        A row per CAG of the first result with two compared genes or more, the largest first: ``cag``, ``size`` (genes
        compared), ``fate`` (one of :data:`FATES`), ``n_parts`` (CAGs of the second that hold its genes),
        ``largest_part`` (the CAG of the second with most of them), ``n_shared`` (genes in it), ``jaccard`` (shared
        genes over all genes of both).
    """

    summary: dict[str, Any]
    table: pd.DataFrame


def compare(first: str | xr.Dataset, second: str | xr.Dataset) -> Comparison:
    """Compare two results by the genes that both hold.

    Parameters
    ----------
    first, second
        Result stores, folders of runs, or datasets.

    Returns
    -------
    Comparison
        Numbers of the whole, and a table of the CAGs of ``first``.

    Raises
    ------
    SchemaError
        One of them holds no CAGs.
    InputError
        They have no gene in common.

    Notes
    -----
    Adjusted Rand index: Hubert and Arabie, Journal of Classification 2, 1985; a gene alone is a group of one.
    """
    from sklearn.metrics import adjusted_rand_score

    labels, only = matched_labels(first, second)
    overlap = overlap_of(*labels)
    table = _fates(overlap)
    counts = table["fate"].value_counts()
    summary = {
        "n_genes": len(labels[0]),
        "n_only_first": only[0],
        "n_only_second": only[1],
        "adjusted_rand": float(adjusted_rand_score(*labels)),
        **{f"n_{fate}": int(counts.get(fate, 0)) for fate in FATES},
    }
    return Comparison(summary, table)


def _fates(overlap: Overlap) -> pd.DataFrame:
    import pandas as pd

    sizes = np.bincount(overlap.first, weights=overlap.n).astype(np.int64)
    other_sizes = np.bincount(overlap.second, weights=overlap.n).astype(np.int64)
    starts = np.flatnonzero(np.diff(overlap.first, prepend=-1))
    cags = overlap.first[starts]
    n_parts = np.diff(np.append(starts, len(overlap.first)))
    shared = overlap.n[starts]
    joined_size = other_sizes[overlap.second[starts]]
    has_others = np.add.reduceat(other_sizes[overlap.second], starts) > sizes[cags]
    fate = np.select(
        [(n_parts == 1) & ~has_others, n_parts == 1, ~has_others], ["same", "joined", "split"], default="mixed"
    )
    table = pd.DataFrame(
        {
            "cag": cags,
            "size": sizes[cags],
            "fate": fate,
            "n_parts": n_parts,
            "largest_part": overlap.second[starts],
            "n_shared": shared,
            "jaccard": shared / (sizes[cags] + joined_size - shared),
        }
    )
    return table[table["size"] >= 2].sort_values(["size", "cag"], ascending=[False, True], ignore_index=True)


def check_table_name(url: str) -> None:
    """Refuse a name that :func:`write_table` can not write."""
    if not url.endswith((".tsv", ".parquet")):
        raise InputError(f"{url}: ends in neither .tsv nor .parquet. Name such a file.")


def write_table(table: pd.DataFrame, url: str) -> None:
    """Write the table of a comparison as TSV or Parquet, by the suffix of its name, in place of what is there."""
    check_table_name(url)
    write_frame(table, url)
