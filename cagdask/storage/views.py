"""What a store holds, seen without xarray.

    open_dataset(url)   an xarray Dataset, for those who compute with it      about a second of imports
    look(url)           names, dims, types, attributes, and arrays on demand  none

Both make the same checks. Commands that only look, and stages that need a shape, take the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import schema
from cagdask.storage import datasets
from cagdask.storage.paths import absolute

if TYPE_CHECKING:
    import zarr

_KEPT_BYTES = 2**20
"""Largest array that is kept once it was read: a page looks at the same columns a dozen times."""


@dataclass(frozen=True)
class ArrayView:
    """One array of a store; :attr:`values` reads it, and ``view[:10].values`` a part of it."""

    array: zarr.Array[Any]
    dims: tuple[str, ...]
    attrs: dict[str, Any]
    selection: Any = field(default=...)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""
        return np.dtype(self.array.dtype)

    @property
    def encoding(self) -> dict[str, Any]:
        """``chunks`` and ``shards`` as stored."""
        return {"chunks": self.array.chunks, "shards": self.array.shards}

    @property
    def values(self) -> NDArray[Any]:
        """What was selected, read now; a small array is read once, and each caller gets a copy."""
        is_small = self.selection is ... and self.dtype.itemsize * math.prod(self.shape) <= _KEPT_BYTES
        return self._kept.copy() if is_small else self._read()

    def _read(self) -> NDArray[Any]:
        return np.asarray(self.array[self.selection])

    @cached_property
    def _kept(self) -> NDArray[Any]:
        return self._read()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, selection: Any) -> ArrayView:
        return ArrayView(self.array, self.dims, self.attrs, selection)


@dataclass(frozen=True)
class StoreView:
    """A store: what :class:`xarray.Dataset` has of these names, where nothing is computed.

    Attributes
    ----------
    url
        Where it is, absolute.
    attrs
        Its attributes.
    variables
        Its arrays by name.
    """

    url: str
    attrs: dict[str, Any]
    variables: dict[str, ArrayView]

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each dim."""
        return {dim: n for one in self.variables.values() for dim, n in zip(one.dims, one.shape, strict=True)}

    @property
    def encoding(self) -> dict[str, str]:
        """``source``, as :func:`cagdask.open_dataset` notes it."""
        return {"source": self.url}

    def __getitem__(self, name: str) -> ArrayView:
        return self.variables[name]

    def __contains__(self, name: object) -> bool:
        return name in self.variables


def look(url: str) -> StoreView:
    """Open a store that cagdask wrote, to look at it.

    Parameters
    ----------
    url
        Local path or URL.

    Returns
    -------
    StoreView
        Nothing but metadata is read.

    Raises
    ------
    StoreError, SchemaError
        As for :func:`cagdask.open_dataset`.
    """
    url = absolute(url)
    with datasets.checked_group(url) as (_, group, found):
        view = StoreView(url, dict(group.attrs), {name: _view(name, found[name]) for name in sorted(found)})
        _check_sizes(view)
        schema.validate(view, where=url)
    return view


def _view(name: str, array: zarr.Array[Any]) -> ArrayView:
    dims = array.metadata.dimension_names or ()  # type: ignore[union-attr]  # version 3 has them
    if len(dims) != len(array.shape) or None in dims:
        raise ValueError(f"{name} does not name its dims")
    attrs = {key: value for key, value in array.attrs.items() if key != "coordinates"}
    return ArrayView(array, tuple(map(str, dims)), attrs)


def _check_sizes(view: StoreView) -> None:
    sizes = view.sizes
    for name, one in view.variables.items():
        for dim, n in zip(one.dims, one.shape, strict=True):
            if sizes[dim] != n:
                raise ValueError(f"{name} has {n:,} along {dim}, and another array {sizes[dim]:,}")
