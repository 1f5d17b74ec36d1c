"""What a person calls the genes or CAGs of a component: their names, with what the store knows of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from cagdask import storage
from cagdask.factors.matrix import Matrix
from cagdask.reports.naming import row_names

N_NAMED = 8
"""Rows of each component that are named with what is known of them."""
_KNOWN = ("gene_symbol", "gene_description", "gene_taxonomy")

Top = list[list[tuple[str, float]]]


def top_names(matrix: Matrix, top: Top) -> Top:
    """The first rows of each component under names for people: symbol or description of a gene, taxonomy of a CAG."""
    shown = [rows[:N_NAMED] for rows in top]
    wanted = {name for rows in shown for name, _ in rows}
    known = _of_cags(matrix, wanted) if matrix.rows_are == "CAGs" else _of_genes(matrix, wanted)
    return [[(known.get(name, name), weight) for name, weight in rows] for rows in shown]


def _of_cags(matrix: Matrix, wanted: set[str]) -> dict[str, str]:
    numbers = sorted(int(name) for name in wanted)
    ds: Any = storage.look(matrix.url)
    names = row_names(ds, np.array(numbers, np.int64))
    return {str(cag): f"CAG {cag} {name}".rstrip() for cag, name in zip(numbers, names, strict=True)}


def _of_genes(matrix: Matrix, wanted: set[str]) -> dict[str, str]:
    group = storage.open_group(matrix.url)
    variable = next((name for name in _KNOWN if name in group), None)
    found: dict[str, str] = {}
    if variable is None:
        return found
    for begin in range(0, matrix.n_genes, storage.ID_CHUNK):
        end = min(matrix.n_genes, begin + storage.ID_CHUNK)
        ids = matrix.gene_names(begin, end)
        rows = [i for i, name in enumerate(ids) if name in wanted]
        if rows:
            words: Any = group[variable]
            texts = np.asarray(words[begin:end])
            found |= {ids[i]: f"{ids[i]} {texts[i]}".rstrip() for i in rows}
    return found
