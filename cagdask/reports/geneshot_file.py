"""A result in the HDF5 layout of geneshot, for its tools and notebooks.

    /abund/cag/wide   CAG, a column per specimen     /annot/cag/all    CAG, size, prevalence, mean_abundance, ...
    /annot/gene/all   gene, CAG, prevalence, ...     /manifest         specimen, metadata of samples

Each is a DataFrame of pandas in the format ``fixed``, which PyTables writes in one go: the abundances of all CAGs are
held at once, 8 bytes per CAG and sample.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cagdask import storage
from cagdask.errors import InputError
from cagdask.reports import conversions
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import pandas as pd


def check_tables() -> None:
    """Refuse the layout, before any work, where it can not be written.

    Raises
    ------
    InputError
        PyTables is not installed.
    """
    from importlib.util import find_spec

    if find_spec("tables") is None:
        raise InputError("format geneshot needs PyTables, which is not installed: pip install tables. Or leave it out.")


def write_geneshot(result: str, url: str) -> None:
    """Write a result in geneshot's layout.

    Parameters
    ----------
    result
        URL of a result store.
    url
        File to write: complete or absent, and the same bytes for the same result.

    Raises
    ------
    InputError
        PyTables is not installed.
    """
    import pandas as pd

    check_tables()
    frames = geneshot_frames(result)
    with scratch_folder() as folder:
        local = Path(folder) / "results.hdf5"
        with pd.HDFStore(local, mode="w", complevel=5, complib="zlib") as store:
            _leave_times_out(store)
            for key, frame in frames.items():
                store.put(key, frame, format="fixed", track_times=False)
        with local.open("rb") as made, storage.open_output(url) as out:
            shutil.copyfileobj(made, out)


def _leave_times_out(store: pd.HDFStore) -> None:
    """Let PyTables note no times in what it makes, so that the same result gives the same bytes."""
    handle = store._handle
    for name in ("create_array", "create_carray", "create_earray", "create_vlarray"):
        setattr(handle, name, partial(getattr(handle, name), track_times=False))


def geneshot_frames(result: str) -> dict[str, pd.DataFrame]:
    """The tables of the layout, by where they lie."""
    ds = storage.look(result)
    wide = conversions.to_pandas(result, what="abundance")
    wide.insert(0, "CAG", wide.index.to_numpy())
    genes = conversions.to_pandas(result, what="genes").reset_index().rename(columns={"gene_id": "gene", "cag": "CAG"})
    cags = conversions.to_pandas(result).reset_index().rename(columns={"cag": "CAG"})
    samples = conversions.sample_table(ds).reset_index().rename(columns={"sample_id": "specimen"})
    frames: dict[str, Any] = {
        "/abund/cag/wide": wide,
        "/annot/cag/all": cags,
        "/annot/gene/all": genes,
        "/manifest": samples,
    }
    return {key: _with_objects(frame.reset_index(drop=True)) for key, frame in frames.items()}


def _with_objects(frame: pd.DataFrame) -> pd.DataFrame:
    """Names of columns and text as Python's, which is what the format is made of."""
    made = frame.set_axis(frame.columns.astype(object), axis="columns")
    text = [name for name, dtype in made.dtypes.items() if dtype.kind in "OUT"]
    return made.astype(dict.fromkeys(text, object))
