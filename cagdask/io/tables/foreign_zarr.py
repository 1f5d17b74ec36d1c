"""Zarr stores that others wrote, v2 or v3: a matrix of two dimensions, whatever these are called.

The variable is the one asked for (``variable``), or the only one with two dimensions. Ids are the coordinate of a
dimension's own name, or the only text along it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables.hdf5 import dense_rows, fields_table, named_batches
from cagdask.io.tables.reading import SAMPLES_IN_ROWS, Batches, Reading

_GENE_DIMS = ("gene", "genes", "gene_id", "var", "feature", "features", "otu", "asv", "taxon", "x")
_SAMPLE_DIMS = ("sample", "samples", "sample_id", "obs", "cell", "cells", "specimen", "barcode", "time")


@contextmanager
def open_zarr_table(url: str, _: Any, reading: Reading) -> Iterator[Batches]:
    """A matrix of a Zarr store.

    Raises
    ------
    InputError
        The store is damaged, or has no such matrix, or several.
    """
    import xarray as xr

    try:
        group = storage.open_store(url, read_only=True)
        ds = xr.open_zarr(group, consolidated=False, chunks=None, mask_and_scale=False, decode_times=False)
    except (KeyError, ValueError, OSError, TypeError, RuntimeError, FileNotFoundError) as err:
        line = " ".join(str(err).split())[:200]
        raise InputError(f"{url}: can not be read as a Zarr store ({line}). Write it again with xarray.") from err
    with ds:
        array = _variable(url, ds, reading.variable)
        turned = _turned(array, reading)
        rows, columns = array.dims[::-1] if turned else array.dims
        row_ids, row_name = _ids(url, ds, rows)
        column_ids, column_name = _ids(url, ds, columns)
        genes_in_rows = reading.orient != SAMPLES_IN_ROWS
        values = array.variable

        def read(begin: int, end: int) -> np.ndarray[Any, Any]:
            some = values[:, begin:end] if turned else values[begin:end]
            return dense_rows(some.values.T if turned else some.values, 0, end - begin)

        yield Batches(
            row_name, column_ids, genes_in_rows, named_batches(row_ids, len(column_ids), read),
            lambda: iter([pa.array(row_ids, pa.string())]), settled=True,
            row_metadata=_fields(ds, rows, row_name, len(row_ids)),
            column_metadata=_fields(ds, columns, column_name, len(column_ids)),
            notes=[f"variable {array.name!r}, {'genes' if genes_in_rows else 'samples'} along {rows!r}"],
        )  # fmt: skip


def _variable(url: str, ds: Any, asked: str | None) -> Any:
    held = [str(name) for name, v in ds.variables.items() if v.ndim == 2 and v.dtype.kind in "iuf"]
    listed = ", ".join(held[:8]) or "none"
    if asked is not None and asked not in held:
        raise InputError(f"{url}: has no variable {asked!r} of numbers in two dimensions (it has {listed}).")
    if asked is None and len(held) != 1:
        raise InputError(f"{url}: has {len(held)} variables of two dimensions ({listed}). Name one with `variable`.")
    return ds[asked or held[0]]


def _turned(array: Any, reading: Reading) -> bool:
    """Whether the second dimension is the rows: by the names of both, where the user does not say."""
    first, second = (str(dim).lower() for dim in array.dims)
    if reading.orient != "auto":
        return False
    return (second in _GENE_DIMS[:-1] and first not in _GENE_DIMS) or (
        first in _SAMPLE_DIMS and second not in _SAMPLE_DIMS
    )


def _ids(url: str, ds: Any, dim: Any) -> tuple[list[str], str]:
    along = [str(name) for name, v in ds.variables.items() if v.dims == (dim,)]
    texts = [name for name in along if ds[name].dtype.kind in "OUST"]
    known = [name for name in (str(dim), f"{dim}_id", f"{dim}_ids", f"{dim}_name", "_index") if name in along]
    name = known[0] if known else texts[0] if len(texts) == 1 else None
    if name is None:
        raise InputError(
            f"{url}: dimension {dim!r} has no names: no coordinate {dim!r} or {dim!s}_id, and {len(texts)} texts along "
            "it. Add a coordinate of the dimension's name."
        )
    return [v.decode() if isinstance(v, bytes) else str(v) for v in ds[name].values.tolist()], name


def _fields(ds: Any, dim: Any, ids: str, n: int) -> pa.Table | None:
    held = {
        str(k): v.values
        for k, v in ds.variables.items()
        if v.dims == (dim,) and str(k) != ids and v.dtype.kind in "iufOUST"
    }
    return fields_table(held, n)
