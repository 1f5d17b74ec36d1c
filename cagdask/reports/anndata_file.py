"""A result as an h5ad file, by the published layout of AnnData on disk; AnnData itself is not needed.

    X          samples x CAGs   cag_abundance, float32
    layers/sum samples x CAGs   cag_sum, float64
    obs, var                    metadata of samples; columns of cags.parquet
    uns/cagdask                 how the result was made

CAGs are written block by block, so that a block of CAGs is all that is held of the matrices.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import storage
from cagdask.reports import conversions
from cagdask.reports.tables import blocks_of, rows_at_once

if TYPE_CHECKING:
    import h5py
    import pandas as pd

CHUNK_VALUES = 2**18
"""Values of a chunk of a matrix, 1 to 2 MiB."""


def write_h5ad(result: str, url: str) -> None:
    """Write a result as h5ad, see :func:`cagdask.to_anndata` for what it holds.

    Parameters
    ----------
    result
        URL of a result store.
    url
        File to write: complete or absent, and the same bytes for the same result.
    """
    import h5py

    ds = storage.look(result)
    with tempfile.TemporaryFile() as local:  # HDF5 goes back and forth in its file
        with h5py.File(local, "w") as file:
            _mark(file, "anndata", "0.1.0")
            _write_matrix(file, "X", ds["cag_abundance"])
            layers = _group(file, "layers")
            if "cag_sum" in ds:
                _write_matrix(layers, "sum", ds["cag_sum"])
            _write_frame(file, "obs", conversions.sample_table(ds))
            var = conversions.to_pandas(result)
            var.insert(0, "cag", var.index.to_numpy())
            _write_frame(file, "var", var.set_index(conversions.cag_names(len(var))))
            for name in ("obsm", "varm", "obsp", "varp"):
                _group(file, name)
            _write_words(_group(file, "uns"), "cagdask", conversions.attributes_of(ds))
        local.seek(0)
        with storage.open_output(url) as out:
            shutil.copyfileobj(local, out)


def _mark(item: Any, kind: str, version: str = "0.2.0") -> None:
    item.attrs["encoding-type"] = kind
    item.attrs["encoding-version"] = version


def _group(parent: Any, name: str) -> h5py.Group:
    made = parent.create_group(name)
    _mark(made, "dict", "0.1.0")
    return made


def _write_matrix(parent: Any, name: str, array: Any) -> None:
    """A stored matrix, turned: a row per sample."""
    n_cags, n_samples = array.shape
    width = max(1, min(n_cags, CHUNK_VALUES // max(1, n_samples)))
    options = {"chunks": (n_samples, width), "compression": "gzip", "shuffle": True} if n_cags and n_samples else {}
    made = parent.create_dataset(name, (n_samples, n_cags), array.dtype, **options)
    step = max(width, rows_at_once(n_samples, 8) // width * width)
    for rows in blocks_of(n_cags, step):
        made[:, rows] = array[rows].values.T
    _mark(made, "array")


def _write_frame(parent: Any, name: str, table: pd.DataFrame) -> None:
    import h5py

    made = parent.create_group(name)
    _mark(made, "dataframe")
    made.attrs["_index"] = "_index"
    names = [str(column) for column in table.columns]
    made.attrs["column-order"] = np.array(names, h5py.string_dtype()) if names else np.empty(0, "S1")
    _write_column(made, "_index", table.index.to_numpy())
    for column in names:
        _write_column(made, column.replace("/", "_"), table[column].to_numpy())


def _write_column(parent: Any, name: str, values: Any) -> None:
    import h5py

    if values.dtype.kind in "OUT":
        made = parent.create_dataset(name, data=[str(v) for v in values], dtype=h5py.string_dtype(), shape=values.shape)
        _mark(made, "string-array")
    else:
        made = parent.create_dataset(name, data=values)
        _mark(made, "array")


def _write_words(parent: Any, name: str, content: dict[str, Any]) -> None:
    """Texts and numbers by name."""
    group = _group(parent, name)
    for key, value in content.items():
        if isinstance(value, dict):
            _write_words(group, key, value)
        else:
            made = group.create_dataset(key, data=value)
            _mark(made, "string" if isinstance(value, str) else "numeric-scalar")
