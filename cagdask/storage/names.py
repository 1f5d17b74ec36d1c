"""Names of genes and samples as indexes of their dims, read when first asked for.

    ds.sel(gene="Otu1", sample=["S1", "S2"])   reads gene_id and sample_id, once, and looks the names up
    ds.isel(gene=slice(0, 10))                 reads nothing

An index of pandas holds all names in memory, about 120 bytes each; a store of a million genes must open without that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

import numpy as np
import pandas as pd
import xarray as xr
from xarray.indexes import PandasIndex

from cagdask.errors import InputError

NAMED = {"gene": "gene_id", "sample": "sample_id"}
"""Dims that have names, and the coordinate that holds them."""


class NameIndex(PandasIndex):
    """An index of pandas that is made of a lazy variable when it is needed.

    Parameters
    ----------
    variable
        The names, one dim.
    """

    __slots__ = ("_made", "variable")

    def __init__(self, variable: xr.Variable) -> None:
        self.variable = variable
        self._made: pd.Index | None = None
        self.dim = variable.dims[0]
        self.coord_dtype = np.dtype(object)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the lazy variable: as a pandas index, all names would be read to be sent."""
        return NameIndex, (self.variable,)

    @property
    def index(self) -> pd.Index:
        """All names, in memory from the first use on."""
        if self._made is None:
            values = np.asarray(self.variable.values)
            self._made = pd.Index(values.astype(object), dtype=object, name=self.dim)
        return self._made

    def create_variables(self, variables: Mapping[Any, xr.Variable] | None = None) -> dict[Any, xr.Variable]:
        """The coordinate: the lazy names themselves."""
        return {self.dim: self.variable}

    def isel(self, indexers: Mapping[Any, Any]) -> NameIndex | None:
        """The index of some rows; none for a single one."""
        picked = self.variable.isel({self.dim: indexers[self.dim]})
        return NameIndex(picked) if picked.dims == (self.dim,) else None

    def sel(self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None) -> Any:
        """Places of names.

        Raises
        ------
        KeyError
            A name is not there; it is said which.
        InputError
            Names are there twice, so that it can not be told which is meant.
        """
        if not self.index.is_unique:
            twice = self.index[self.index.duplicated()][0]
            raise InputError(f"{self.dim} {twice!r} is there more than once; select by place: isel({self.dim}=...).")
        try:
            return super().sel(labels, method, tolerance)
        except KeyError as err:
            asked = np.atleast_1d(np.asarray(next(iter(labels.values())), object))
            lacking = [name for name in asked.tolist() if name not in self.index]
            if not lacking:
                raise
            n = f" ({len(lacking):,} of those asked for are not)" if len(lacking) > 1 else ""
            raise KeyError(f"no {self.dim} is named {lacking[0]!r}{n}; names are in {self.dim}_id.") from err

    def equals(self, other: xr.Index, **options: Any) -> bool:
        """Whether the names are the same; nothing is read to compare the names of one store."""
        if isinstance(other, NameIndex) and _name_of(self.variable) == _name_of(other.variable) != "":
            return True
        return bool(isinstance(other, PandasIndex) and self.index.equals(other.index))

    def join(self, other: Any, how: str = "inner") -> Self:
        """Names of both, or of either."""
        joined = PandasIndex(self.index, self.dim).join(PandasIndex(other.index, self.dim), how)
        return self._replace(joined.index)

    @classmethod
    def concat(cls, indexes: Any, dim: Any, positions: Any = None) -> Self:
        """Names of several parts, one after the other."""
        plain = [PandasIndex(one.index, dim) for one in indexes]
        made = PandasIndex.concat(plain, dim, positions).index
        return cast(Self, NameIndex(xr.Variable((dim,), np.asarray(made, object))))

    def _replace(self, index: pd.Index, dim: Any = None, coord_dtype: Any = None) -> Self:
        return cast(Self, NameIndex(xr.Variable((dim or self.dim,), np.asarray(index, object))))

    def _copy(self, deep: bool = True, memo: dict[int, Any] | None = None) -> Self:
        return cast(Self, NameIndex(self.variable))  # nobody changes names in place


def _name_of(variable: xr.Variable) -> str:
    """Dask's name of lazy data, equal for equal data; else nothing."""
    return str(getattr(variable.data, "name", ""))


def with_names(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with coordinates ``gene`` and ``sample`` to select by, where it has their names."""
    for dim, name in NAMED.items():
        if name in ds.variables and ds[name].dims == (dim,) and dim not in ds.coords:
            variable = ds[name].variable.copy(deep=False)
            variable.attrs, variable.encoding = {"long_name": f"Name of the {dim}, to select by"}, {}
            ds = ds.assign_coords(xr.Coordinates({dim: variable}, indexes={dim: NameIndex(variable)}))
    return ds


def without_names(ds: xr.Dataset) -> xr.Dataset:
    """The dataset without what :func:`with_names` added: stores hold names once."""
    return ds.drop_vars([dim for dim, name in NAMED.items() if dim in ds.coords and name in ds.variables])
