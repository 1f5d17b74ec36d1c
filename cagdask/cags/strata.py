"""Strata of samples: within them the samples of a gene are shuffled, for a null that keeps what strata do.

sample_site    gut gut oral gut oral        site, depth or batch, as the store knows them
codes           0   0   1    0   1          genes of one site stay genes of that site
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError

Int64 = NDArray[np.int64]


def codes_of(store: str, column: str) -> Int64:
    """Number of the stratum of each sample, shape (n_samples,), from 0.

    Parameters
    ----------
    store
        Abundance store.
    column
        Of its sample metadata, kept as ``sample_<column>``. A missing value is a stratum like others.

    Raises
    ------
    InputError
        There is no such column, or each sample is a stratum of its own.
    """
    group: Any = storage.open_group(store)
    n_samples = int(group["sample_id"].shape[0])
    known = [
        name.removeprefix("sample_")
        for name in sorted(group.array_keys())
        if name.startswith("sample_") and name != "sample_id" and group[name].shape == (n_samples,)
    ]
    if column not in known:
        has = f"it has {', '.join(known)}" if known else "it has none; give a table as `metadata` when it is ingested"
        raise InputError(f"{store}: strata {column!r} is no column of the sample metadata: {has}.")
    values: Any = storage.open_array(store, f"sample_{column}")[:]
    codes: Int64 = np.unique(np.array([str(value) for value in values]), return_inverse=True)[1].astype(np.int64)
    if len(codes) > 1 and len(np.unique(codes)) == len(codes):
        raise InputError(
            f"{store}: each of the {len(codes):,} samples has a value of its own in strata {column!r}, so that nothing "
            "could be shuffled. Use a column with few values, such as site or batch."
        )
    return codes


def shuffled_order(codes: Int64 | None, n_samples: int, seed: int, gene: int) -> Int64:
    """An order of the samples that depends on the seed and the gene alone, and stays within strata if there are any."""
    rng = np.random.default_rng([seed, gene])
    if codes is None:
        return rng.permutation(n_samples)
    order = np.empty(n_samples, np.int64)
    order[np.argsort(codes, kind="stable")] = np.lexsort((rng.random(n_samples), codes))
    return order
