"""Opening what a picture is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cagdask import schema, storage, stores
from cagdask.errors import SchemaError

if TYPE_CHECKING:
    import xarray as xr


def open_result(result: str | xr.Dataset | storage.StoreView) -> xr.Dataset:
    """The dataset of a result: given, a result store's URL, or the folder of a run that holds ``cags.zarr``.

    A URL is only looked at (:func:`cagdask.storage.look`): pictures take whole arrays, and need no xarray for that.

    Raises
    ------
    StoreError
        Nothing is there.
    SchemaError
        It holds no CAGs.
    """
    if isinstance(result, str):
        ds: Any = storage.look(stores.result_url(result))
        where = ds.encoding["source"]
    else:
        ds, where = result, "dataset"
    if "gene_cag" not in ds.variables:
        raise SchemaError(f"{where}: holds no CAGs. Cluster it first: cagdask cluster STORE --output URL.")
    schema.validate(ds, "gene_cag", "cag_size", "cag_abundance", where=where)
    found: xr.Dataset = ds
    return found
