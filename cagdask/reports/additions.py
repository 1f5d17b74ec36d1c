"""What was made from a result elsewhere, for its page: tests of its CAGs, and another result to compare with.

tables of `cagdask test`   beside the result, or named --> volcano plot, top hits
another result             named                       --> matrix of both, what became of each CAG
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import storage
from cagdask.errors import InputError
from cagdask.plot.association import has_direction, read_association, volcano
from cagdask.plot.compared import comparison
from cagdask.reports.comparison import compare
from cagdask.reports.naming import row_names

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import xarray as xr

FDR = 0.05
"""q value up to which a CAG is said to differ."""
N_TOP = 10
"""Rows of a table on the page."""
MOST = 6
"""Tables of tests that are taken from beside a result."""
_BEGINS = b"cag\teffect\tp_value\tq_value"


@dataclass(frozen=True)
class Addition:
    """A part of the page.

    Attributes
    ----------
    title, words
        What it is, and what it says in a sentence or two.
    head, rows
        A small table; numbers or words. The first cell of a row is the number of a CAG.
    chart
        A picture.
    """

    title: str
    words: str
    chart: alt.Chart
    head: tuple[str, ...] = ()
    rows: list[list[Any]] = field(default_factory=list)


def associations(ds: xr.Dataset, urls: Sequence[str] | None) -> list[Addition]:
    """Tables of ``cagdask test``: those that are named, or those beside the result store.

    Raises
    ------
    InputError
        A table that is named is none of CAGs of this result.
    """
    found = [(url, read_association(url)) for url in (_beside(ds) if urls is None else urls)]
    if urls is None:  # what only lies there may be of another result
        found = [(url, table) for url, table in found if _misfit(ds, table) is None]
    return [_association(ds, url, table) for url, table in found]


def _beside(ds: xr.Dataset) -> list[str]:
    """Files in the folder of a result that begin like a test of CAGs, by name."""
    source = ds.encoding.get("source")
    if source is None or storage.is_remote(str(source)):  # to list a folder of a server takes long: name the tables
        return []
    folder = storage.parent_of(str(source))
    try:
        names = sorted(os.listdir(storage.local_path(folder)))
    except OSError:  # a folder that may not be listed
        return []
    made = os.path.getmtime(storage.local_path(storage.join(str(source), "zarr.json")))
    urls = [
        storage.join(folder, name)
        for name in names
        if name.endswith(".tsv") and os.path.getmtime(os.path.join(storage.local_path(folder), name)) >= made
    ]  # an older one is of the result that was there before, whose CAGs had other numbers
    return [url for url in urls if storage.read_range(url, 0, len(_BEGINS)) == _BEGINS][:MOST]


def _misfit(ds: xr.Dataset, table: Any) -> str | None:
    """Why a table can not be a test of the CAGs of this result; None if it can."""
    if table.columns[0] != "cag":
        return f"tests {table.columns[0]}s, not CAGs"
    if len(table) and not 0 <= table["cag"].min() <= table["cag"].max() < ds.sizes["cag"]:
        return f"has a CAG {table['cag'].max()}, and this result has {ds.sizes['cag']:,}"
    return None


def _association(ds: xr.Dataset, url: str, table: pd.DataFrame) -> Addition:
    wrong = _misfit(ds, table)
    if wrong:
        raise InputError(f"{url}: {wrong}. Name the output of `cagdask test` on this result.")
    n_found = int((table["q_value"] <= FDR).sum())
    n_tested = int(table["p_value"].notna().sum())
    words = f"{n_found:,} of {n_tested:,} tested CAGs differ at a false discovery rate of {FDR:.0%} (q ≤ {FDR:g})."
    if has_direction(table):
        words += " An effect is positive where the second group has more."
    top = table.head(N_TOP)
    sizes = np.asarray(ds["cag_size"].values)[top["cag"]]
    names = row_names(ds, np.asarray(top["cag"], np.int64))
    rows = [
        [row["cag"], int(size), name, row["effect"], row["p_value"], row["q_value"]]
        for row, size, name in zip(top.to_dict("records"), sizes, names, strict=True)
    ]
    title = storage.name_of(url).rpartition(".")[0]
    head = ("CAG", "genes", "most of its genes", "effect", "p value", "q value")
    return Addition(title, words, volcano(table, fdr=FDR), head, rows)


def compared_with(ds: xr.Dataset, other: str) -> Addition:
    """How another result agrees with this one.

    Raises
    ------
    InputError
        They have no gene in common.
    """
    found = compare(ds, other)
    held = found.summary
    words = (
        f"Adjusted Rand index {held['adjusted_rand']:.3f} (1: the same groups; 0: no more alike than by chance), on "
        f"{held['n_genes']:,} genes. Of the CAGs of this result {held['n_same']:,} are the same there, "
        f"{held['n_joined']:,} are joined with other genes, {held['n_split']:,} are split, {held['n_mixed']:,} are "
        "split and mixed with other genes."
    )
    names = ("cag", "size", "fate", "n_parts", "largest_part", "n_shared")
    rows = [[row[name] for name in names] for row in found.table.head(N_TOP).to_dict("records")]
    head = ("CAG", "genes", "what became of it", "parts", "largest part", "genes in it")
    title = storage.name_of(other.removesuffix("/").removesuffix("/cags.zarr"))
    return Addition(title, words, comparison(ds, other), head, rows)
