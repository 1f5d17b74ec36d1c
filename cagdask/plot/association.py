"""What a test of CAGs, genes or factors found: effects against p values."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import storage
from cagdask.errors import InputError
from cagdask.plot.style import ORANGE, finished

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MAX_FOUND, MAX_OTHERS = 1_500, 1_500
"""Points that are drawn: those with the smallest p values, and an even choice of the others."""
LEAST_P = 1e-300
"""Smaller p values are drawn there."""
COLUMNS = ("effect", "p_value", "q_value")
"""What every table of ``cagdask test`` holds beside the name of its feature, which comes first."""


def read_association(url: str) -> pd.DataFrame:
    """The table that ``cagdask test`` wrote, TSV or Parquet.

    Raises
    ------
    InputError
        It is no such table.
    """
    return read_columns(url, COLUMNS, "cagdask test")


def read_columns(url: str, columns: tuple[str, ...], command: str) -> pd.DataFrame:
    """A table that a command wrote, TSV or Parquet.

    Parameters
    ----------
    url
        The file.
    columns
        Columns that it must have.
    command
        What wrote it, for messages.

    Raises
    ------
    InputError
        It is no such table.
    """
    import pandas as pd

    data = BytesIO(storage.read_bytes(storage.absolute(url)))
    try:
        table = pd.read_parquet(data) if url.endswith(".parquet") else pd.read_csv(data, sep="\t")
    except (ValueError, OSError) as err:
        raise InputError(f"{url}: can not be read as a table ({err}). Name the output of `{command}`.") from err
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{url}: has no column {missing[0]}. Name the output of `{command}`.")
    return table


def volcano(table: str | pd.DataFrame, *, fdr: float = 0.05) -> alt.Chart:
    """Effect and p value of each tested feature.

    Parameters
    ----------
    table
        What :func:`cagdask.test` returned, or the TSV or Parquet file that ``cagdask test`` wrote.
    fdr
        Features with a q value of at most this are colored.

    Raises
    ------
    InputError
        The file is no such table.
    """
    import altair as alt

    held = read_association(table) if isinstance(table, str) else table
    points, n_left_out = volcano_points(held, fdr)
    effect = "effect: positive where the second group has more" if has_direction(held) else "effect"
    title = str(points.columns[0])
    words = list(dict.fromkeys(points["found"]))
    order = sorted(words, key=lambda word: not word.startswith("q"))
    scale = alt.Scale(domain=order, range=[ORANGE if word.startswith("q") else "#8a949e" for word in order])
    shape = alt.Scale(domain=order, range=["triangle-up" if word.startswith("q") else "circle" for word in order])
    chart = (
        alt.Chart(points)
        .mark_point(filled=True, size=40, opacity=0.7)
        .encode(
            x=alt.X("effect:Q", title=effect),
            y=alt.Y("height:Q", title="−log10 p", scale=alt.Scale(domainMin=0)),
            color=alt.Color("found:N", scale=scale, legend=alt.Legend(orient="top", title=None)),
            shape=alt.Shape("found:N", scale=shape, legend=alt.Legend(orient="top", title=None)),
            tooltip=[
                alt.Tooltip(f"{title}:N"),
                alt.Tooltip("effect:Q", format=".3g"),
                alt.Tooltip("p_value:Q", title="p value", format=".3g"),
                alt.Tooltip("q_value:Q", title="q value", format=".3g"),
            ],
        )
    )
    said = f"{n_left_out:,} features with larger p values are not drawn" if n_left_out else ""
    return finished(chart.properties(title=said) if said else chart)


def has_direction(table: pd.DataFrame) -> bool:
    """Whether effects have a sign: those of a test of more than two groups have none, and no interval."""
    return "ci_low" in table and bool(table["ci_low"].notna().any())


def volcano_points(table: pd.DataFrame, fdr: float) -> tuple[pd.DataFrame, int]:
    """What a volcano plot shows, and how many tested features it leaves out.

    Returns
    -------
    DataFrame
        The feature's column, ``effect``, ``p_value``, ``q_value``, ``height`` (−log10 p), ``found`` (words for the
        legend); by rising p value. Features that could not be tested are not in it.
    """
    title: Any = table.columns[0]
    tested = table[np.isfinite(table["p_value"]) & np.isfinite(table["effect"])].sort_values("p_value", kind="stable")
    n_others = max(0, len(tested) - MAX_FOUND)
    step = max(1, -(-n_others // MAX_OTHERS))
    rows = np.r_[: min(len(tested), MAX_FOUND), MAX_FOUND : MAX_FOUND + n_others : step]
    shown = tested.iloc[rows]
    found = shown["q_value"] <= fdr
    n_found = int((tested["q_value"] <= fdr).sum())
    words = np.where(found, f"q ≤ {fdr:g} ({n_found:,})", f"other ({len(tested) - n_found:,})")
    drawn = shown[[title, *COLUMNS]].assign(height=-np.log10(np.maximum(shown["p_value"], LEAST_P)), found=words)
    return drawn.reset_index(drop=True), len(tested) - len(drawn)
