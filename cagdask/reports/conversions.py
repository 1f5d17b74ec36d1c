"""A result as the tables and objects of other libraries, names kept.

    to_pandas(result)                    CAGs x what is known of them
    to_pandas(result, what="genes")      genes x what is known of them
    to_pandas(result, what="abundance")  CAGs x samples
    to_anndata(result)                   samples x CAGs, with metadata of both, as scanpy has them

They hold the whole table in memory: 4 bytes per CAG and sample, twice as many for sums.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import arguments
from cagdask.plot.results import open_result
from cagdask.reports.columns import CAG_COLUMNS, GENE_COLUMNS, column_names

if TYPE_CHECKING:
    import anndata
    import pandas as pd
    import xarray as xr

TABLES = ("cags", "genes", "abundance", "sum")


def to_pandas(result: str | xr.Dataset, *, what: str = "cags") -> pd.DataFrame:
    """A table of a result, with its names.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.
    what
        ``cags``: a row per CAG, the columns of ``cags.parquet``. ``genes``: a row per gene, named in the index, the
        columns of ``genes.parquet``. ``abundance``: a row per CAG, a column per sample, the mean normalized abundance
        of the CAG's genes. ``sum``: the same with the sum of abundances as ingested.

    Returns
    -------
    DataFrame
        In memory; indexed by ``cag`` or ``gene_id``.

    Raises
    ------
    ValueError
        ``what`` is none of these.
    StoreError, SchemaError
        There is no such result, or it holds no CAGs.

    Examples
    --------
    >>> to_pandas(ds, what="genes").loc["Otu1", "cag"]  # doctest: +SKIP
    """
    import pandas as pd

    arguments.choice("what", what, TABLES)
    ds = open_result(result)
    if what in ("abundance", "sum"):
        values = _values(ds, f"cag_{what}")
        return pd.DataFrame(values, _numbers(len(values)), _sample_index(ds))
    if what == "genes":
        table = _columns(ds, "gene")
        return table.set_index("gene_id")
    return _columns(ds, "cag").set_index("cag")


def to_anndata(result: str | xr.Dataset) -> anndata.AnnData:
    """A result as AnnData: samples are observations, CAGs are variables.

    Parameters
    ----------
    result
        Result store, folder of a run, or dataset.

    Returns
    -------
    AnnData
        ``X`` (samples, CAGs) float32 is ``cag_abundance``, the layer ``sum`` float64 is ``cag_sum``; ``obs`` has the
        metadata of samples, ``var`` the columns of ``cags.parquet``, and ``uns["cagdask"]`` the parameters. Variables
        are called ``CAG_0``, ``CAG_1``, … and numbered in ``var["cag"]``.

    Raises
    ------
    ImportError
        AnnData is not installed.
    StoreError, SchemaError
        There is no such result, or it holds no CAGs.
    """
    try:
        import anndata
    except ImportError as err:
        raise ImportError(
            "to_anndata needs anndata, which is not installed: pip install 'cagdask[anndata]'. Or write an h5ad file "
            "without it: cagdask run ... --format h5ad."
        ) from err
    ds = open_result(result)
    var = _columns(ds, "cag")
    var.index = cag_names(len(var))
    layers = {"sum": _values(ds, "cag_sum").T} if "cag_sum" in ds.variables else {}
    made = anndata.AnnData(_values(ds, "cag_abundance").T, obs=sample_table(ds), var=var, layers=layers)
    made.uns["cagdask"] = attributes_of(ds)
    return made


def cag_names(n: int) -> pd.Index:
    """Names of CAGs that R and AnnData take: ``CAG_0``, ``CAG_1``, …."""
    import pandas as pd

    return pd.Index([f"CAG_{i}" for i in range(n)], dtype=object)


def sample_table(ds: Any) -> pd.DataFrame:
    """What is known of the samples, a row each."""
    import pandas as pd

    names = sorted(str(name) for name in ds.variables if str(name).startswith("sample_") and name != "sample_id")
    columns = {name.removeprefix("sample_"): _plain(ds[name].values) for name in names if ds[name].dims == ("sample",)}
    return pd.DataFrame(columns, index=_sample_index(ds))


def attributes_of(ds: Any) -> dict[str, Any]:
    """How the result was made: parameters, and digest of its input."""
    parameters = {k: v for k, v in json.loads(ds.attrs.get("parameters", "{}")).items() if v is not None}
    names = ("source", "history", "input_digest", "metric", "linkage", "max_dist", "certified")
    return {name: ds.attrs[name] for name in names if name in ds.attrs} | {"parameters": parameters}


def _columns(ds: Any, dim: str) -> pd.DataFrame:
    import pandas as pd

    shapes = {str(name): tuple(ds[name].shape) for name in ds.variables if ds[name].dims == (dim,)}
    fixed, left_out = (CAG_COLUMNS, []) if dim == "cag" else (GENE_COLUMNS, ["gene_linkage_cag"])
    names = column_names(shapes, f"{dim}_", fixed, left_out)
    table = pd.DataFrame({column: _plain(ds[name].values) for column, name in names.items()})
    if dim == "cag":
        table.insert(0, "cag", np.arange(len(table)))
    return table


def _plain(values: Any) -> Any:
    """Text as pandas has it everywhere, numbers as they are."""
    return values.astype(object) if values.dtype.kind in "OUT" else values


def _values(ds: Any, name: str) -> Any:
    return np.asarray(ds[name].values)


def _numbers(n: int) -> pd.Index:
    import pandas as pd

    return pd.RangeIndex(n, name="cag")


def _sample_index(ds: Any) -> pd.Index:
    import pandas as pd

    return pd.Index([str(name) for name in ds["sample_id"].values], dtype=object, name="sample_id")
