"""Charts of the samples: the largest CAGs over them, and how alike they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.plot import numbers
from cagdask.plot.ordination import Ordination, ordinate, similar_together
from cagdask.plot.results import open_result
from cagdask.plot.style import SEQUENTIAL, WIDTH, finished

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import xarray as xr

N_ROWS = 40
"""CAGs of a heat map: the largest."""
MAX_COLUMNS = 160
"""Columns of a heat map; neighboring samples are averaged where there are more."""
N_ORDINATED = 1_000
"""CAGs that samples are compared by: those with the most abundance."""
MAX_CATEGORIES = 8
"""Values of a metadata column that get a color of their own; the rarest of more are one."""
TOLD = 0.4
"""Share of the samples whose values have a color of their own, at least, for a column to color samples."""

Float64 = NDArray[np.float64]


class Matrix(NamedTuple):
    """The largest CAGs over samples.

    ``share`` (n_rows, n_samples) float64 in [0, 1] is the abundance as a share of the CAG's own largest, and its root
    is what pictures show; of logarithms, the root is the place between the row's smallest and largest value. ``cag``
    holds the numbers of the rows, ``rows`` and ``columns`` the orders in which similar ones are neighbors.
    """

    cag: NDArray[np.int64]
    share: Float64
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


def largest_over_samples(ds: xr.Dataset, n: int = N_ROWS) -> Matrix:
    """The ``n`` largest CAGs of two genes or more; those of one gene only where there are no others."""
    sizes = ds["cag_size"].values[: max(n, 1)]
    count = int((sizes >= 2).sum()) or int((sizes >= 1).sum())
    values = ds["cag_abundance"][: min(n, count)].values.astype(np.float64)
    if values.size:
        low = values.min(axis=1, keepdims=True)
        low = np.minimum(low, 0) if are_shares(ds) else low
        width = values.max(axis=1, keepdims=True) - low
        share = np.divide(values - low, width, out=np.zeros_like(values), where=width > 0)
    else:
        share = values
    if not are_shares(ds):
        share = share**2
    roots = np.sqrt(share)
    return Matrix(np.arange(len(values)), share, similar_together(roots), similar_together(roots.T))


def are_shares(ds: xr.Dataset) -> bool:
    """Whether abundances are shares of their sample, or like such, of which 0 is the least; not logarithms."""
    return numbers.parameters_of(ds).get("normalization", "sum") in ("sum", "median", "hellinger")


def brightness_of(ds: xr.Dataset) -> str:
    """What the colors of a heat map of CAGs over samples mean."""
    return "root of the share of the row's largest" if are_shares(ds) else "0: the row's least value, 1: its largest"


def sample_table(ds: xr.Dataset) -> pd.DataFrame:
    """Metadata of the samples: a column per ``sample_*`` variable of one dimension, indexed by sample id."""
    import pandas as pd

    columns = {
        str(name).removeprefix("sample_"): ds[name].values
        for name in ds.variables
        if str(name).startswith("sample_") and name != "sample_id" and ds[name].dims == ("sample",)
    }
    return pd.DataFrame(columns, index=[str(name) for name in ds["sample_id"].values])


def ordination_of(ds: xr.Dataset) -> tuple[Ordination, int]:
    """Samples laid out by their most abundant CAGs, and how many CAGs these were."""
    sizes, mean = ds["cag_size"].values, np.nan_to_num(ds["cag_mean_abundance"].values.astype(np.float64))
    grouped = np.flatnonzero(sizes >= 2)
    grouped = grouped if len(grouped) else np.arange(len(sizes))
    picked = np.sort(grouped[np.argsort(-np.abs(mean[grouped]) * sizes[grouped], kind="stable")[:N_ORDINATED]])
    profiles = _rows(ds, picked)
    is_log_ratio = numbers.parameters_of(ds).get("normalization") == "clr"
    return ordinate(profiles, is_log_ratio=is_log_ratio), len(picked)


def _rows(ds: xr.Dataset, picked: NDArray[np.int64]) -> Float64:
    """Rows of ``cag_abundance``, read a chunk at a time: most of them are near the start."""
    step = 4_096
    parts = []
    for begin in range(0, int(picked[-1]) + 1 if len(picked) else 0, step):
        inside = picked[(picked >= begin) & (picked < begin + step)]
        if len(inside):
            parts.append(ds["cag_abundance"][begin : begin + step].values[inside - begin].astype(np.float64))
    return np.concatenate(parts) if parts else np.zeros((0, ds.sizes["sample"]))


def categories(values: Any) -> NDArray[np.object_]:
    """A word for each value of a metadata column: at most :data:`MAX_CATEGORIES`, the rarest of more are "other"."""
    import pandas as pd

    column = pd.Series(values)
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")  # 1023, not 1023.0
    words = column.astype(object).where(pd.notna(pd.Series(values)), "missing").astype(str)
    words = words.where(words.str.strip() != "", "missing")
    counts = words.value_counts()
    kept = sorted(counts.index, key=lambda word: (-counts[word], word))[:MAX_CATEGORIES]
    if len(counts) > MAX_CATEGORIES:
        words = words.where(words.isin(kept[:-1]), "other")
    return np.asarray(words, object)


def is_continuous(values: Any) -> bool:
    """Whether a metadata column is a number that is better shown on a scale than as categories."""
    import pandas as pd

    column = pd.Series(values)
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
                and column.nunique() > MAX_CATEGORIES)  # fmt: skip


def coloring_columns(table: pd.DataFrame) -> list[str]:
    """Columns of sample metadata that can color samples: of more than one value, and no names of single samples."""
    found = []
    for name in table:
        known = table[name].dropna().astype(str)
        known = known[known.str.strip() != ""]
        n_kinds = known.nunique()
        named = known.value_counts().iloc[: MAX_CATEGORIES - 1].sum()  # the others are of one color
        if n_kinds > 1 and (is_continuous(table[name]) or n_kinds <= MAX_CATEGORIES or named >= TOLD * len(known)):
            found.append(str(name))
    return found


def _metadata(ds: xr.Dataset, color_by: str | None) -> Any:
    if color_by is None:
        return None
    table = sample_table(ds)
    name = color_by.removeprefix("sample_")
    if name not in table:
        known = ", ".join(table) or "none"
        raise ValueError(f"`color_by` is {color_by!r}; the samples of this result have these columns: {known}.")
    return table[name]


def composition(result: str | xr.Dataset, *, color_by: str | None = None) -> alt.Chart:
    """Samples in a plane: near ones are made of the same CAGs.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    color_by
        A column of the samples' metadata.

    Raises
    ------
    ValueError
        There is no such column.
    """
    import altair as alt

    ds = open_result(result)
    values = _metadata(ds, color_by)
    made, _ = ordination_of(ds)
    table = sample_table(ds)[[]].assign(x=made.coordinates[:, 0].round(5), y=made.coordinates[:, 1].round(5))
    chart = alt.Chart(table.reset_index(names="sample")).mark_point(size=50, opacity=0.75, filled=True)
    shown: dict[str, Any] = {}
    if values is not None:
        kind = "Q" if is_continuous(values) else "N"
        chart.data["value"] = np.asarray(values) if kind == "Q" else categories(values)
        shown = {"color": alt.Color(f"value:{kind}", title=color_by, **_scale(kind))}
        if kind == "N":
            shown["shape"] = alt.Shape("value:N", title=color_by)
    axes = [f"axis {i + 1} ({share:.0%})" for i, share in enumerate(made.explained)]
    chart = chart.encode(
        x=alt.X("x:Q", title=axes[0], axis=alt.Axis(grid=False)),
        y=alt.Y("y:Q", title=axes[1], axis=alt.Axis(grid=False)),
        tooltip=["sample:N", *(["value"] if values is not None else [])],
        **shown,
    )
    return finished(chart.properties(title=made.method), 360)


def _scale(kind: str) -> dict[str, Any]:
    import altair as alt

    return {"scale": alt.Scale(scheme=SEQUENTIAL)} if kind == "Q" else {}


def heat_map(result: str | xr.Dataset, *, group_by: str | None = None) -> alt.Chart:
    """The largest CAGs over samples, similar ones side by side.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    group_by
        A column of the samples' metadata: samples are put together by it first.

    Raises
    ------
    ValueError
        There is no such column.
    """
    import altair as alt
    import pandas as pd

    ds = open_result(result)
    values = _metadata(ds, group_by)
    made = largest_over_samples(ds)
    order = (
        made.columns if values is None else made.columns[np.argsort(categories(values)[made.columns], kind="stable")]
    )
    share, labels = binned(made.share[made.rows][:, order], [str(name) for name in ds["sample_id"].values[order]])
    rows = [f"CAG {i}" for i in made.cag[made.rows]]
    table = pd.DataFrame(np.sqrt(share).round(3), index=rows, columns=range(len(labels)))
    long = table.rename_axis("CAG").reset_index().melt("CAG", var_name="column", value_name="value")
    long["samples"] = [labels[i] for i in long["column"]]
    chart = (
        alt.Chart(long)
        .mark_rect()
        .encode(
            x=alt.X("column:O", title="samples", axis=alt.Axis(labels=False, ticks=False)),
            y=alt.Y("CAG:N", sort=rows, title=None),
            color=alt.Color("value:Q", title=brightness_of(ds), scale=alt.Scale(scheme=SEQUENTIAL)),
            tooltip=["CAG:N", "samples:N", alt.Tooltip("value:Q", format=".2f")],
        )
        .properties(title=f"grouped by {group_by}" if group_by else "similar samples side by side")
    )
    return finished(chart.properties(width=WIDTH), max(60, 14 * len(rows)))


def binned(values: Float64, names: list[str]) -> tuple[Float64, list[str]]:
    """Columns averaged with their neighbors until there are at most :data:`MAX_COLUMNS`, and what each is called."""
    per_column = max(1, -(-len(names) // MAX_COLUMNS))
    starts = np.arange(0, len(names), per_column)
    counts = np.diff(np.append(starts, len(names)))
    means = np.add.reduceat(values, starts, axis=1) / counts if values.size else values
    labels = [
        names[a] if n == 1 else f"{names[a]} … {names[a + n - 1]}"
        for a, n in zip(starts.tolist(), counts.tolist(), strict=True)
    ]
    return means, labels
