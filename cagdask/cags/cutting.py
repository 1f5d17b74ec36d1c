"""The CAGs of a smaller threshold, from the merge tree of a result: nothing is clustered again.

merge_child, merge_height --merges up to max_dist--> groups
store --profiles--> mean of each group --measure--> result store
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from cagdask import schema, storage, stores
from cagdask.cags.jobs import begin, check_source, finish, work_bytes
from cagdask.cags.parameters import Parameters
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.engine.grid import on_grid
from cagdask.errors import SchemaError
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client


def cut(
    result: str | xr.Dataset,
    *,
    max_dist: float,
    store: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> xr.Dataset:
    """The CAGs at a smaller threshold, from the merge tree of a result: nothing is clustered again.

    Parameters
    ----------
    result
        Path or URL of a result store, or what :func:`find_cags` returned.
    max_dist
        At most that of the result, unit of its metric.
    store
        The abundance store that was clustered, from which the measures of the new CAGs are taken. By default
        ``abundance.zarr`` beside the result; must be given for a result in memory.
    output
        Path or URL of the new result store. None keeps it in memory.
    overwrite, client, n_workers, memory_limit
        As for :func:`find_cags`.

    Returns
    -------
    Dataset
        A result store at ``max_dist``, unrefined: what :func:`find_cags` gives with ``refine="none"``.

    Raises
    ------
    ValueError
        ``max_dist`` is above that of the result, or not in [0, 1).
    SchemaError
        ``result`` is no result store, or ``store`` is not what it was made from.

    Notes
    -----
    One pass over the store for the measures; the cut itself takes O(merges).
    """
    url = stores.result_url(result) if isinstance(result, str) else str(result.encoding.get("source", "the result"))
    view = storage.look(url) if isinstance(result, str) else result
    checked = check_cut(view, url, max_dist, store)
    if output is not None:
        storage.check_target(output, overwrite=overwrite)
    with (
        scratch_folder() as scratch,
        as_runner(
            client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=work_bytes(*checked.shape)
        ) as runner,
    ):
        if not storage.exists(url):
            checked = replace(checked, result=os.path.join(scratch, "earlier.zarr"))
            storage.save_dataset(cast("xr.Dataset", result), checked.result)
        target = storage.absolute(output) if output is not None else os.path.join(scratch, "result.zarr")
        cut_store(checked, target, runner, overwrite=overwrite)
        return storage.open_dataset(target) if output is not None else storage.load_dataset(target)


@dataclass(frozen=True)
class Cut:
    """A cut that is possible; nothing is written yet.

    Attributes
    ----------
    result, store
        What is cut, and the abundance store it was made from; absolute.
    shape
        Genes and samples of the store.
    parameters
        Those of the new result.
    certified
        Whether every merge of the result was proven.
    """

    result: str
    store: str
    shape: tuple[int, int]
    parameters: Parameters
    certified: bool


def check_cut(ds: xr.Dataset | storage.StoreView, where: str, max_dist: float, store: str | None = None) -> Cut:
    """Refuse a cut that is not possible, from metadata; see :func:`cut` for the errors.

    Parameters
    ----------
    ds
        The result, or a look at it.
    where
        Its URL, or what messages call it.
    max_dist, store
        As for :func:`cut`.
    """
    schema.validate(ds, "merge_child", "merge_height", "gene_cag", where=where)
    missing = [name for name in schema.RESULT_ATTRIBUTES if name not in ds.attrs]
    if missing:
        raise SchemaError(f"{where}: lacks the attributes {', '.join(missing)}. Cluster again.")
    parameters = _parameters_at(ds, where, max_dist)
    store = _store_of(ds, where, store)
    shape = check_source(store, parameters)
    return Cut(storage.absolute(where), store, shape, parameters, bool(schema.is_certified(ds)))


def cut_store(cut: Cut, target: str, runner: Runner, *, overwrite: bool) -> None:
    """Make the result store ``target``, or resume making it."""
    job, attrs = begin(cut.store, target, cut.parameters, runner, "cut", overwrite=overwrite)
    job.prepare()
    tree = job.cut(cut.result)
    groups = job.refine(job.directions(job.mean_profiles(tree)))
    finish(job, target, tree, groups, attrs, "cut", certified=cut.certified)


def _parameters_at(ds: xr.Dataset | storage.StoreView, where: str, max_dist: float) -> Parameters:
    """The parameters of a result at another threshold, without refinement.

    Raises
    ------
    ValueError
        The threshold is not in [0, 1), or above that of the result.
    SchemaError
        The result's own parameters can not be read.
    """
    try:
        earlier = json.loads(ds.attrs["parameters"])
        parameters = Parameters(
            **(
                earlier
                | {
                    "max_dist": max_dist,
                    "refine": "none",
                    "refine_dist": None,
                    "strata": None,
                    "unsupported": "guess",
                    "stability": 0,
                }
            )
        ).checked()
        highest = float(earlier["max_dist"])
    except (TypeError, KeyError, json.JSONDecodeError) as err:
        raise SchemaError(f"{where}: its attribute parameters is damaged ({err}). Cluster again.") from err
    if on_grid(max_dist) > on_grid(highest):
        raise ValueError(
            f"`max_dist` is {max_dist}, but {where} was clustered up to {highest}. Cluster again to go higher."
        )
    return parameters


def _store_of(ds: xr.Dataset | storage.StoreView, where: str, store: str | None) -> str:
    """The store that a result was made from, absolute.

    Raises
    ------
    ValueError
        None is named, and the result is in memory only.
    SchemaError
        The result was made from another one.
    """
    if store is None and not storage.exists(where):
        raise ValueError("the result is in memory only: name the store that was clustered (store=...).")
    store = storage.absolute(store or storage.join(storage.parent_of(storage.absolute(where)), stores.ABUNDANCE))
    held = storage.look(store).attrs.get("input_digest", "")
    if held and held != ds.attrs["input_digest"]:
        raise SchemaError(f"{store}: is not the store that {where} was made from. Name that one with `store`.")
    return store
