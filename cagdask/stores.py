"""What lies at a URL, and the names of files in the folders that commands write.

    OUTPUT of run, cluster                      FOLDER of twopass       FOLDER of nmf
      abundance.zarr   abundance store            leaders.zarr            factors.zarr
      cags.zarr        result store               labels.zarr
      run.json         last of all

Wherever a store or a result is meant, the folder that holds it may be named instead: :func:`abundance_url`,
:func:`result_url` and :func:`in_folder` find it.
"""

from __future__ import annotations

import os
from typing import Literal

from cagdask import schema, storage
from cagdask.errors import InputError, SchemaError

ABUNDANCE, CAGS, REPORT = "abundance.zarr", "cags.zarr", "report.html"
RUN, PARTIAL = "run.json", "run.json.partial"
"""What a run did, written last of all; and what an unfinished one has done."""
LEADERS, LABELS = "leaders.zarr", "labels.zarr"
FACTORS = "factors.zarr"

Kind = Literal["store", "result", "run", "file", "folder", "nothing"]


def kind_of(url: str) -> Kind:
    """What lies at a URL; ``store`` is any but a result, ``run`` the folder of a run, ``folder`` another one.

    Raises
    ------
    StoreError, SchemaError
        It is a store that can not be opened.
    """
    url = storage.absolute(url)
    if is_store(url):
        return "result" if storage.look(url).attrs.get("kind") == schema.RESULT_KIND else "store"
    if any(storage.exists(storage.join(url, name)) for name in (CAGS, ABUNDANCE, RUN, PARTIAL)):
        return "run"
    if not storage.exists(url):
        return "nothing"
    return "folder" if not storage.is_remote(url) and os.path.isdir(url) else "file"


def is_store(url: str) -> bool:
    """Whether a store of cagdask, finished or not, lies at ``url``; a Zarr store of others is none."""
    if storage.exists(storage.work_folder(url)):
        return True
    metadata = storage.join(url, "zarr.json")
    if not storage.exists(metadata):
        return False
    try:
        attributes = storage.read_json(metadata)["attributes"]
    except (ValueError, TypeError, KeyError):
        return True  # damaged: whoever opens it says how
    return {"schema_version", "kind"} <= attributes.keys() if isinstance(attributes, dict) else True


def in_folder(url: str, name: str) -> str:
    """The store ``name`` in a folder, or ``url`` itself where the folder has none; absolute."""
    inside = storage.join(url, name)
    return storage.absolute(inside if storage.exists(inside) else url)


def result_url(url: str) -> str:
    """URL of a result store: itself, or that in the folder of a run; absolute. Nothing is opened."""
    return in_folder(url, CAGS)


def abundance_url(url: str) -> str:
    """The store of genes and samples that a URL means: itself, or that of the run whose folder it is; absolute.

    A file, and a folder that holds none of these, is left as it is: whoever reads it says what it is.

    Raises
    ------
    InputError
        The folder holds no run, or the run's store is gone.
    """
    url = storage.absolute(url)
    if is_store(url) or (not storage.is_remote(url) and os.path.isfile(storage.local_path(url))):
        return url
    inside = storage.join(url, ABUNDANCE)
    if is_store(inside):
        return inside
    run = storage.read_json(storage.join(url, RUN))
    if run is not None:
        named = str(run.get("source", ""))
        if is_store(named):
            return named
        raise InputError(f"{url}: is the folder of a run of {named or 'an input'}, which is no store or gone. Name it.")
    if not storage.is_remote(url) and os.path.isdir(url):
        if is_store(storage.join(url, CAGS)):
            raise InputError(f"{url}: holds cags.zarr, but no abundance.zarr. Name the store that was clustered.")
    return url


def clustered_store(result: str) -> str | None:
    """The store that a result was made from: beside it, or what its run says; None if there is nothing to tell from.

    Parameters
    ----------
    result
        URL of a result store.
    """
    folder = storage.parent_of(storage.absolute(result))
    beside = storage.join(folder, ABUNDANCE)
    if storage.exists(beside):
        return beside
    run = storage.read_json(storage.join(folder, RUN))
    return None if run is None else str(run["source"])


def open_result(url: str) -> storage.StoreView:
    """A look at a result: its store, or the folder of a run.

    Raises
    ------
    StoreError
        Nothing is there.
    SchemaError
        It holds no CAGs.
    """
    view = storage.look(result_url(url))
    if "gene_cag" not in view.variables:
        raise SchemaError(f"{view.url}: holds no CAGs. Cluster it first: cagdask cluster STORE --output URL.")
    schema.validate(view, "gene_cag", "cag_size", "cag_abundance", where=view.url)
    return view
