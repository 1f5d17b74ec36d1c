"""Tables that are in memory: datasets of xarray, tables of pandas, AnnData, sparse matrices of SciPy.

    DataFrame, DataArray, AnnData, sparse, array + names --as_dataset--> Dataset (gene, sample) --write_dataset--> store

Sparse values stay sparse until a block of genes is read.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask import arguments, provenance, schema
from cagdask.errors import InputError
from cagdask.storage.datasets import save_dataset

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

BLOCK_CELLS = 2**22
"""Cells that are read at a time, 16 MiB as float32."""
CHUNK_CELLS = 2**20
"""Cells of a stored chunk."""
ORIENTATIONS = ("genes-by-samples", "samples-by-genes")
TAKEN = (
    "a Dataset or DataArray of xarray, a DataFrame of pandas, AnnData, a sparse matrix of SciPy or an array of NumPy"
)


def kind_of(data: Any) -> str:
    """Which kind of table an object is.

    Raises
    ------
    TypeError
        It is none.
    """
    known = {("xarray", "Dataset"), ("xarray", "DataArray"), ("pandas", "DataFrame"), ("anndata", "AnnData")}
    known |= {("numpy", "ndarray")}
    for base in type(data).__mro__:
        package = base.__module__.partition(".")[0]
        if (package, base.__name__) in known:
            return base.__name__
        if package == "scipy" and hasattr(data, "tocsr"):
            return "sparse"
    raise TypeError(f"{type(data).__name__} is no table; name a path or URL, or give {TAKEN}.")


def as_dataset(
    data: Any,
    *,
    genes: Sequence[str] | None = None,
    samples: Sequence[str] | None = None,
    orient: str = "genes-by-samples",
    gene_dim: str | None = None,
    variable: str | None = None,
    kind: str = "abundance",
) -> xr.Dataset:
    """A table in memory as a dataset of genes and samples, which every analysis takes.

    Parameters
    ----------
    data
        A Dataset or DataArray with dims of any names, a DataFrame (genes in its index, samples in its columns), AnnData
        (its observations are the samples), a sparse matrix of SciPy or an array of NumPy.
    genes, samples
        Names, for a matrix without any.
    orient
        Of a DataFrame or a matrix: ``genes-by-samples`` or ``samples-by-genes``.
    gene_dim
        Of a Dataset or DataArray: the dim of the genes, if it is not called ``gene``.
    variable
        Of a Dataset: the variable with the values, if it is not called ``abundance`` and there are several.
    kind
        ``abundance`` or ``expression``; a Dataset that says what it is keeps that.

    Returns
    -------
    Dataset
        ``abundance`` (gene, sample) with ``gene_id`` and ``sample_id``. Values are shared, not copied; sparse ones
        become dense block by block when they are read.

    Raises
    ------
    TypeError
        ``data`` is no table.
    ValueError, InputError
        It can not be told what its genes are, a name is missing or there twice, or values are no numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"s1": [1, 0], "s2": [2, 5]}, index=["g1", "g2"])
    >>> as_dataset(table).sizes
    Frozen({'gene': 2, 'sample': 2})
    """
    orient = arguments.choice("orient", orient, ORIENTATIONS)
    kind = arguments.choice("kind", kind, schema.KINDS[:2])
    what = kind_of(data)
    if what in ("Dataset", "DataArray"):
        return _from_xarray(data, gene_dim, variable, kind)
    if gene_dim is not None or variable is not None:
        raise ValueError(f"`gene_dim` and `variable` are for data of xarray, not for {what}. Leave them out.")
    if what == "AnnData":
        return _made(_transposed(data.X), data.var_names, data.obs_names, kind)
    if what == "DataFrame":
        bad = [str(name) for name, dtype in data.dtypes.items() if dtype.kind not in "fiub"]
        if bad:
            raise InputError(f"the DataFrame has columns that are no numbers: {', '.join(bad[:5])}. Leave them out.")
        table = data if orient == "genes-by-samples" else data.T
        return _made(table.to_numpy(), table.index, table.columns, kind)
    if genes is None or samples is None:
        raise ValueError("a matrix has no names: give genes=... and samples=..., a name for each.")
    values = data if orient == "genes-by-samples" else _transposed(data)
    return _made(values, genes, samples, kind)


def _transposed(values: Any) -> Any:
    return values.T


def _from_xarray(data: Any, gene_dim: str | None, variable: str | None, kind: str) -> xr.Dataset:
    if hasattr(data, "data_vars"):
        names = [n for n, v in data.data_vars.items() if v.ndim == 2 and v.dtype.kind in "fiub"]
        name = variable or ("abundance" if "abundance" in names else names[0] if len(names) == 1 else None)
        if name is None or name not in data.data_vars:
            listed = ", ".join(map(str, names)) or "none"
            raise InputError(f"the Dataset has several variables of two dims, or none ({listed}). Say variable=....")
        dims = data[name].dims
        if set(dims) == {"gene", "sample"} and name == "abundance" and {"gene_id", "sample_id"} <= set(data.variables):
            kept: xr.Dataset = data.assign(abundance=data[name].transpose("gene", "sample"))
            _check_ids(kept["gene_id"].values, "gene")
            _check_ids(kept["sample_id"].values, "sample")
            return kept
        kind = data.attrs.get("kind", kind)
        data = data[name]
    if data.ndim != 2:
        raise InputError(f"the values have the dims {data.dims}; two are needed, of genes and samples.")
    gene_dim = gene_dim or ("gene" if "gene" in data.dims else None)
    if gene_dim not in data.dims:
        raise ValueError(f"the dims are {' and '.join(map(repr, data.dims))}: say which has the genes, gene_dim=....")
    sample_dim = next(dim for dim in data.dims if dim != gene_dim)
    table = data.transpose(gene_dim, sample_dim)
    return _made(table.variable.data, _names(table, gene_dim, "gene"), _names(table, sample_dim, "sample"), kind)


def _names(table: Any, dim: Any, thing: str) -> Any:
    for name in (f"{thing}_id", dim, f"{dim}_id"):
        if name in table.coords and table.coords[name].dims == (dim,):
            return table.coords[name].values
    raise InputError(f"dim {dim!r} has no coordinate with the names of the {thing}s. Assign one: assign_coords.")


def _made(values: Any, genes: Any, samples: Any, kind: str) -> xr.Dataset:
    import xarray as xr

    gene_id, sample_id = (np.array([str(name) for name in names], object) for names in (genes, samples))
    if values.ndim != 2 or tuple(values.shape) != (len(gene_id), len(sample_id)):
        raise InputError(
            f"the values have the shape {tuple(values.shape)}, but there are {len(gene_id):,} genes and "
            f"{len(sample_id):,} samples. Transpose them, or say orient=...."
        )
    if not values.shape[0] or not values.shape[1]:
        raise InputError(f"the table is empty: {values.shape[0]:,} genes, {values.shape[1]:,} samples.")
    _check_ids(gene_id, "gene")
    _check_ids(sample_id, "sample")
    if hasattr(values, "tocsr"):
        values = _lazily_dense(values.tocsr())
    coords = {"gene_id": ("gene", gene_id), "sample_id": ("sample", sample_id)}
    return xr.Dataset({"abundance": (("gene", "sample"), values)}, coords=coords, attrs={"kind": kind})


def _lazily_dense(matrix: Any) -> Any:
    import dask.array

    class Rows:
        """Blocks of rows, made dense when they are read."""

        shape, dtype, ndim = matrix.shape, matrix.dtype, 2

        def __getitem__(self, key: Any) -> NDArray[Any]:
            return np.asarray(matrix[key[0]].toarray()[:, key[1]])

    rows = max(1, BLOCK_CELLS // matrix.shape[1])
    return dask.array.from_array(Rows(), chunks=(rows, matrix.shape[1]), asarray=False, name=False)


def _check_ids(names: Any, thing: str) -> None:
    found = [str(name) for name in names]
    if "" in found:
        raise InputError(f"{thing} {found.index('') + 1:,} has no name. Give it one.")
    if len(set(found)) < len(found):
        seen: set[str] = set()
        twice = next(name for name in found if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InputError(f"{thing} {twice!r} is there more than once. Keep one of each, or add them up.")


# -- stores ------------------------------------------------------------------------------------------------------------


def write_dataset(ds: xr.Dataset, url: str, *, overwrite: bool = True) -> None:
    """Write a dataset of genes and samples as a store, with the digest that an ingest of the same values gives.

    Raises
    ------
    InputError
        A value is missing, infinite, too large for float32 or, of abundances, negative; names gene and sample.
    StoreError
        The target is there, or its folder is missing.
    """
    digest, prevalence = _look_through(ds)
    rows = max(1, min(ds.sizes["gene"], CHUNK_CELLS // ds.sizes["sample"]))
    values = ds["abundance"].astype(np.float32).chunk(gene=rows, sample=-1)
    ids = {name: (name.partition("_")[0], _text(ds[name].values)) for name in ("gene_id", "sample_id")}
    made = ds.assign(abundance=values, gene_prevalence=("gene", prevalence)).assign_coords(ids)
    made = made.assign_attrs(input_digest=digest)
    made = made.drop_vars([name for name in ("gene", "sample") if name in made.coords])
    save_dataset(made, url, overwrite=overwrite)


def _text(names: Any) -> NDArray[Any]:
    return np.array([str(name) for name in names], np.dtypes.StringDType())


def _look_through(ds: xr.Dataset) -> tuple[str, NDArray[np.float32]]:
    """Read everything once: refuse what is no abundance; gives the digest of the rest, and genes' prevalence."""
    values = ds["abundance"]
    genes = pa.array([str(name) for name in ds["gene_id"].values], pa.string())
    samples = [str(name) for name in ds["sample_id"].values]
    signed = ds.attrs.get("kind", "abundance") != "abundance"
    hashes = [hashlib.blake2b(digest_size=32) for _ in samples]
    prevalence = np.empty(len(genes), np.float32)
    step, n_vanished = max(1, BLOCK_CELLS // len(samples)), 0
    for begin in range(0, len(genes), step):
        block = np.asarray(values[begin : begin + step].values)
        _check_block(block, genes, samples, begin, signed)
        n_given = int(np.count_nonzero(block))
        with np.errstate(under="ignore"):
            block = block.astype(np.float32)
        n_vanished += n_given - int(np.count_nonzero(block))
        prevalence[begin : begin + step] = np.count_nonzero(block > 0, axis=1) / len(samples)
        for digest, of_sample in zip(hashes, np.ascontiguousarray(block.T), strict=True):
            digest.update(of_sample.tobytes())
    if n_vanished and not prevalence.any():
        raise InputError(
            f"all {n_vanished:,} values other than 0 are too small for float32 (below 1.4e-45). Multiply all by one "
            "number first."
        )
    if n_vanished:
        logger.warning("%d values are too small for float32 (below 1.4e-45) and count as absent", n_vanished)
    return table_digest(genes, samples, [digest.hexdigest() for digest in hashes]), prevalence


def _check_block(block: NDArray[Any], genes: pa.StringArray, samples: list[str], begin: int, signed: bool) -> None:
    largest = float(np.finfo(np.float32).max)
    wrong = ~(np.abs(block) <= largest)
    if not signed:
        wrong |= block < 0
    if not wrong.any():
        return
    row, column = (int(i[0]) for i in np.nonzero(wrong))
    value = float(block[row, column])
    if np.isnan(value):
        problem = "the value is missing (NaN). Write 0 where the gene was not found"
    elif np.isinf(value):
        problem = f"the value is infinite ({value}). Correct it"
    elif value < 0:
        problem = f"the value is {value:g}; abundances are 0 or more. Correct it, or say kind='expression'"
    else:
        problem = f"the value is {value:g}, above {largest:.3g}, the largest that float32 holds. Scale the values down"
    raise InputError(f"gene {genes[begin + row].as_py()!r}, sample {samples[column]!r}: {problem}.")


def table_digest(genes: pa.StringArray, samples: list[str], digests: list[str]) -> str:
    """Digest of a table from its ids and the digest of each sample's float32 values."""
    import pyarrow.compute as pc

    text = hashlib.blake2b(np.asarray(pc.binary_length(genes), dtype="<i4").tobytes(), digest_size=32)
    text.update(genes.buffers()[2])
    return provenance.digest(["table", text.hexdigest(), list(zip(samples, digests, strict=True))])
