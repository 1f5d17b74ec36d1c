"""The size of values decides nothing: squares of tiny ones are 0 in float64, and must not be all there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cagdask
from tests.inline_runner import InlineRunner


@pytest.mark.parametrize("linkage", ["ward", "average"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation"])
def test_clusters_do_not_depend_on_the_unit(tmp_path: Path, metric: str, linkage: str) -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(3, 5)), 8, axis=0) + 0.1 * rng.normal(size=(24, 5))
    found = []
    for size in (1.0, 2.0**-570, 2.0**-900, 2.0**90):  # powers of two: the same digits
        path = tmp_path / f"{size:g}.parquet"
        table = pd.DataFrame(values * size, columns=list("abcde")).assign(id=[f"r{i}" for i in range(24)])
        table[["id", *"abcde"]].to_parquet(path, index=False)
        ds = cagdask.two_pass(str(path), k=3, metric=metric, linkage=linkage, client=InlineRunner())
        found.append(ds.item_cluster.values.tolist())
    assert len(set(found[0])) == 3
    assert found[1:] == found[:1] * 3
