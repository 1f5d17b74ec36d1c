"""Make samples comparable: what a sample's depth or make-up did to its abundances is divided out.

Every method needs a few numbers per sample, over its genes that are not absent, and then works on each value alone:

    pass 1    block 0 -> partial --+
              block 1 -> partial --+--> SampleStatistics, (n_samples,) each
              block 2 -> partial --+           |
    pass 2    block 0 -----------------> normalize_block -> block 0, and so on

========== ==================================== ======= ==============================================
method     value                                absent  passes over the table for the statistics
========== ==================================== ======= ==============================================
sum        v / sum                              0       1
median     v / median                           0       3 (one per digit of a radix selection)
hellinger  sqrt(v / sum)                        0       1
clr        log10(v / geometric mean)            floor   2 (the smallest value, then the logarithms)
none       v                                    0       0
========== ==================================== ======= ==============================================

There are two tables. *Profiles* are what is clustered: absent is 0, so that the cosine sees presence; for ``clr``,
values below a floor are raised to it and the floor is subtracted. The *unfloored* table is what is averaged over a CAG;
for ``clr`` absent is the smallest log-ratio of the whole table. For all other methods the two are the same.

The statistics come from integers (see :mod:`cagdask.normalization.exact_sums`), so chunks, workers and threads do not
change one bit of them. A task of pass 1 holds one block of float32 and its partial; one of pass 2 its block in float32
and in float64.

References
----------
.. [1] Aitchison (1982). The statistical analysis of compositional data.
.. [2] Legendre and Gallagher (2001). Ecologically meaningful transformations for ordination of species data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.errors import SchemaError
from cagdask.normalization.sample_statistics import (
    Floor,
    SampleStatistics,
    Values,
    lazy_statistics,
    recomputed_after,
    sample_statistics,
)

if TYPE_CHECKING:  # takes seconds to import, as do numba and Dask arrays
    import xarray as xr

__all__ = [
    "METHODS",
    "Method",
    "SampleStatistics",
    "check_options",
    "normalize",
    "normalize_block",
    "sample_statistics",
]

Method = Literal["sum", "median", "hellinger", "clr", "none"]
METHODS: tuple[str, ...] = get_args(Method)


def check_options(method: str, clr_floor: Floor = None) -> None:
    """Refuse a method or floor that does not exist, before any work.

    Raises
    ------
    ValueError
        Naming the choices.
    """
    if method not in METHODS:
        raise ValueError(f"`normalization` is {method!r}; choose one of {', '.join(METHODS)}.")
    if clr_floor is None or clr_floor == "auto":
        return
    if isinstance(clr_floor, bool | str) or not isinstance(clr_floor, float | int) or not math.isfinite(clr_floor):
        raise ValueError(f"`clr_floor` is {clr_floor!r}; give auto, a number (log10 of a ratio), or leave it out.")
    if method != "clr":
        raise ValueError(f"`clr_floor` is only for `normalization='clr'`, not for {method}. Leave it out.")


# -- kernels: one block ----------------------------------------------------------------------------------------------


def _scaled(block: NDArray[np.float32], scale: Values | None) -> Values:
    assert scale is not None
    return np.divide(block, np.where(scale > 0, scale, 1.0))


def _sum(block: NDArray[np.float32], stats: SampleStatistics, clr_floor: Floor, floored: bool) -> Values:
    return _scaled(block, stats.total)


def _median(block: NDArray[np.float32], stats: SampleStatistics, clr_floor: Floor, floored: bool) -> Values:
    return _scaled(block, stats.median)


def _hellinger(block: NDArray[np.float32], stats: SampleStatistics, clr_floor: Floor, floored: bool) -> Values:
    shares = _scaled(block, stats.total)
    return np.sqrt(shares, out=shares)


def _clr(block: NDArray[np.float32], stats: SampleStatistics, clr_floor: Floor, floored: bool) -> Values:
    from cagdask.normalization.exact_sums import log_ratios

    assert stats.log_mean is not None
    assert stats.minimum is not None
    if floored:
        floor = stats.floor(clr_floor)
        return log_ratios(block, stats.minimum, stats.log_mean, floor=floor, shift=floor, absent=0.0)
    absent = stats.absent("clr")
    return log_ratios(block, stats.minimum, stats.log_mean, floor=-math.inf, shift=0.0, absent=absent)


def _none(block: NDArray[np.float32], stats: SampleStatistics, clr_floor: Floor, floored: bool) -> Values:
    return block.astype(np.float64)


_KERNELS: dict[str, Callable[[NDArray[np.float32], SampleStatistics, Floor, bool], Values]] = {
    "sum": _sum,
    "median": _median,
    "hellinger": _hellinger,
    "clr": _clr,
    "none": _none,
}


def normalize_block(
    block: NDArray[np.float32],
    method: str,
    stats: SampleStatistics,
    *,
    clr_floor: Floor = None,
    floored: bool = True,
) -> Values:
    """Normalize a block of genes, each value for itself.

    Parameters
    ----------
    block
        Abundances >= 0, shape (rows, n_samples), float32.
    method
        One of :data:`METHODS`.
    stats
        Of the whole table, for this method.
    clr_floor
        For ``clr`` profiles: ``"auto"``, the largest of the samples' own minima; None, the minimum over the whole
        table; or a number, log10 of a ratio.
    floored
        True for profiles, where absent is 0; False for the unfloored table.

    Returns
    -------
    ndarray
        Shape of ``block``, float64. The same bits for any split of the table into blocks.
    """
    return _KERNELS[method](block, stats, clr_floor, floored)


# -- the lazy one ----------------------------------------------------------------------------------------------------


def normalize(ds: xr.Dataset | Any, *, method: str = "sum", clr_floor: Floor = None) -> xr.Dataset:
    """Normalize abundances per sample.

    Parameters
    ----------
    ds
        Needs ``abundance``, dims (gene, sample), >= 0, as :func:`cagdask.open_dataset` gives it. Chunks of any size. Or
        the path or URL of a store, or a table that :func:`cagdask.as_dataset` takes.
    method
        ``"sum"``, ``"median"``, ``"hellinger"``, ``"clr"`` or ``"none"``.
    clr_floor
        Only for ``clr``. ``"auto"``: the largest of the samples' own smallest log-ratios; None: the smallest of the
        whole table; a number: that log10-ratio. What lies below is raised to the floor, and the floor is subtracted.

    Returns
    -------
    Dataset
        ``abundance``, float32, is normalized and absent is 0; attribute ``normalization`` says how. Lazy: nothing is
        read until asked. A value beyond float32 becomes its largest number. A missing value stays missing and has no
        effect on other values; to cluster it is refused.

    Raises
    ------
    ValueError
        ``method`` or ``clr_floor`` is not known, or ``ds`` is normalized already.
    SchemaError
        There is no ``abundance`` of these dims, or it is not of the kind abundance.
    InputError
        When it is computed: a value is infinite or below 0. Method ``none`` does not look.

    Notes
    -----
    One pass over the table for the statistics (two for ``clr``, three for ``median``) and one for the values, 16 bytes
    a cell of the block at hand. Bits do not depend on chunks or threads.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> ds = xr.Dataset({"abundance": (("gene", "sample"), np.array([[3, 0], [1, 2]], np.float32))})
    >>> normalize(ds, method="sum").abundance.values
    array([[0.75, 0.  ],
           [0.25, 1.  ]], dtype=float32)
    """
    check_options(method, clr_floor)
    if isinstance(ds, str):
        ds = storage.open_dataset(ds)
    elif not hasattr(ds, "data_vars") or "abundance" not in ds:
        from cagdask.storage.objects import as_dataset

        ds = as_dataset(ds)
    earlier = ds.attrs.get("normalization", "none")
    if earlier != "none":
        raise ValueError(f"this dataset is normalized already, by {earlier}. Start from the abundances as ingested.")
    schema.validate(ds, "abundance")
    kind = ds.attrs.get("kind", "abundance")
    if kind != "abundance" and method != "none":
        raise SchemaError(
            f"normalization {method} is for abundances, and this dataset holds {kind}. Use normalization none."
        )
    profiles = _lazy_profiles(ds["abundance"].data, method, clr_floor, _names(ds, "gene_id"), _names(ds, "sample_id"))
    option = f", clr_floor={clr_floor}" if method == "clr" else ""
    attrs: dict[str, Any] = {"normalization": method}
    if method == "clr":
        attrs["clr_floor"] = "none" if clr_floor is None else clr_floor
    if ds.attrs.get("input_digest"):  # it is another table now
        attrs["input_digest"] = provenance.digest([ds.attrs["input_digest"], method, str(clr_floor)])
    attrs["history"] = provenance.add_history(ds.attrs.get("history", ""), f"normalize method={method}{option}")
    variable = ds["abundance"].copy(data=profiles).assign_attrs(units="as normalized")
    normalized = ds.assign(abundance=variable).assign_attrs(attrs)
    normalized.encoding = {}  # it is no longer what lies at its source
    return normalized


def _names(ds: xr.Dataset, name: str) -> Any:
    return ds[name].data if name in ds.variables else None


def _lazy_profiles(data: Any, method: str, clr_floor: Floor, genes: Any, samples: Any) -> Any:
    """Normalize an array lazily: the statistics of all its blocks first, then block by block."""
    import dask.array as da

    from_array: Any = da.from_array
    x = data if isinstance(data, da.Array) else from_array(data, chunks=("auto", -1))
    x = x.rechunk({1: -1}).astype(np.float32)
    if method == "none":
        return x
    stats = lazy_statistics(x, method, genes, samples)
    again = recomputed_after(x, stats)  # else every block would stay in memory from that pass to this one
    return again.map_blocks(_profile_block, dtype=np.float32, method=method, stats=stats, clr_floor=clr_floor)


def _profile_block(
    block: NDArray[np.float32], method: str, stats: SampleStatistics, clr_floor: Floor
) -> NDArray[np.float32]:
    values = normalize_block(block, method, stats, clr_floor=clr_floor)
    largest = float(np.finfo(np.float32).max)
    values[np.isnan(block)] = math.nan
    profiles: NDArray[np.float32] = np.minimum(values, largest, out=values).astype(np.float32)
    return profiles
