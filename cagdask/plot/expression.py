"""Charts of a store's values: their distribution before and after normalization, and what is measured of each gene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import schema, storage
from cagdask.errors import InputError
from cagdask.plot.association import read_columns
from cagdask.plot.style import BLUE, SEQUENTIAL, WIDTH, configured, finished

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import xarray as xr

N_SAMPLES = 30
"""Samples with a line of their own, evenly picked; more can not be told apart."""
READ_BYTES = 2**28
"""Values that are read, at most: of a larger store, blocks of genes evenly picked."""
N_BINS = 60
"""With as many samples of two stores, fewer than the 5,000 rows that Altair allows a chart."""
_ROWS = 256
MAX_GENES = 3_000
"""Genes that are drawn: half of them with the largest signal, and an even choice of the others."""
SIGNAL_COLUMNS = ("gene", "mean", "signal", "mean_cosine")


def densities(ds: xr.Dataset, n_samples: int = N_SAMPLES) -> pd.DataFrame:
    """Share of the genes in each class of values, for some samples of a store.

    Parameters
    ----------
    ds
        ``abundance`` (gene, sample), values >= 0.
    n_samples
        Samples to show, evenly picked.

    Returns
    -------
    DataFrame
        Columns ``sample``, ``value`` (middle of a class, log2(1 + v)) and ``share`` of the genes that the sample has:
        zeros, of which most tables are full, would hide all others. After quantiles, which give zeros a value, a
        sample's smallest value counts as such.
    """
    import pandas as pd

    picked = np.unique(np.linspace(0, ds.sizes["sample"] - 1, n_samples).round().astype(int))
    values = _some_genes(ds, picked)
    steps = str(ds.attrs.get("normalization", "none")).split("+")
    by_rank = "quantile" in steps or "archs4" in steps
    if "log" not in steps and "archs4" not in steps:
        values = np.log2(1 + values)
    edges = np.linspace(0, max(float(values.max(initial=0)), 1e-6), N_BINS + 1)
    found = []
    for column, sample in enumerate(picked):
        least = values[:, column].min(initial=np.inf) if by_rank else 0.0  # what ranks give to the zeros of a sample
        present = values[:, column][values[:, column] > least]
        share = np.histogram(present, edges)[0] / max(1, len(present))
        middle = (edges[:-1] + edges[1:]) / 2
        name = str(ds["sample_id"].values[sample])
        found.append(pd.DataFrame({"sample": name, "value": middle.round(4), "share": share.round(6)}))
    return pd.concat(found, ignore_index=True)


def _some_genes(ds: xr.Dataset, picked: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values of some samples, in all genes or in blocks of genes evenly picked, shape (genes, samples)."""
    n_genes, n_samples = ds.sizes["gene"], ds.sizes["sample"]
    n_blocks = -(-n_genes // _ROWS)
    read = max(1, min(n_blocks, READ_BYTES // (4 * n_samples * _ROWS)))
    blocks = np.unique(np.linspace(0, n_blocks - 1, read).round().astype(int))
    parts = [ds["abundance"][b * _ROWS : (b + 1) * _ROWS].values[:, picked] for b in blocks.tolist()]
    return np.concatenate(parts).astype(np.float64)


def density(store: str | xr.Dataset, *, before: str | xr.Dataset | None = None) -> alt.Chart:
    """Distribution of the values of each sample: a line per sample, of up to 30 of them.

    After ``quantile`` all lines lie on each other, but for genes that a sample lacks.

    Parameters
    ----------
    store
        Store of counts, abundances or expression, or its dataset.
    before
        The same before normalization, drawn beside it.

    Returns
    -------
    Chart
        Share of the genes that a sample has against log2(1 + v).

    Raises
    ------
    InputError
        A store is empty, or holds values below 0 or embeddings.
    StoreError, SchemaError
        A store is not there, or holds no abundances.
    """
    import altair as alt
    import pandas as pd

    titles = ["before", "after"] if before is not None else ["values"]
    stores = [one for one in (before, store) if one is not None]
    tables = [densities(_opened(one)).assign(when=title) for one, title in zip(stores, titles, strict=True)]
    found = pd.concat(tables, ignore_index=True)
    chart: Any = (
        alt.Chart(found)
        .mark_line(color=BLUE, opacity=0.3, strokeWidth=1)
        .encode(
            x=alt.X("value:Q", title="log2(1 + v)"),
            y=alt.Y("share:Q", title="share of the genes it has"),
            detail="sample:N",
            tooltip=["sample:N"],
        )
    )
    if len(titles) == 1:
        return finished(chart)
    split = chart.properties(width=WIDTH // 2 - 30, height=220).facet(
        column=alt.Column("when:N", title=None, sort=titles)
    )
    return configured(split.resolve_scale(x="independent", y="independent"))


def _opened(store: str | xr.Dataset) -> xr.Dataset:
    ds = storage.open_dataset(store) if isinstance(store, str) else store
    where = str(ds.encoding.get("source", "dataset"))
    schema.validate(ds, "abundance", "gene_id", "sample_id", where=where)
    if not ds.sizes["gene"] or not ds.sizes["sample"]:
        raise InputError(f"{where}: is empty. Name another store.")
    return ds


def signal(table: str | pd.DataFrame) -> alt.Chart:
    """Signal of each gene against its mean, colored by how alike its strongest samples are.

    Parameters
    ----------
    table
        What :func:`cagdask.expression_metrics` returned, or the TSV or Parquet file that ``cagdask metrics`` wrote.

    Raises
    ------
    InputError
        The file is no such table.
    """
    import altair as alt

    found = read_columns(table, SIGNAL_COLUMNS, "cagdask metrics") if isinstance(table, str) else table
    found = found[list(SIGNAL_COLUMNS)][found["mean"] > 0].sort_values("signal", kind="stable")
    n = len(found)
    strongest = max(0, n - MAX_GENES // 2)
    some = np.unique(np.linspace(0, max(0, strongest - 1), MAX_GENES // 2).round().astype(int))[: max(0, strongest)]
    shown = found.iloc[np.unique(np.concatenate([some, np.arange(strongest, n)]).astype(int))]
    chart = (
        alt.Chart(shown)
        .mark_point(filled=True, size=25, opacity=0.7)
        .encode(
            x=alt.X("mean:Q", title="mean over samples", scale=alt.Scale(type="log"), axis=alt.Axis(format="~e")),
            y=alt.Y("signal:Q", title="signal: (1 + percentile) / (1 + mean)", scale=alt.Scale(zero=False)),
            color=alt.Color("mean_cosine:Q", title="mean cosine", scale=alt.Scale(scheme=SEQUENTIAL)),
            tooltip=["gene:N", *(alt.Tooltip(f"{name}:Q", format=".3g") for name in SIGNAL_COLUMNS[1:])],
        )
    )
    said = f"the {n - strongest:,} genes of the largest signal, and {len(some):,} of the others" if strongest else ""
    return finished(chart.properties(title=said) if said else chart, 360)
