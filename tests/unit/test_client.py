"""What a client needs to know without a cluster."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from dask.sizeof import sizeof

import cagdask.client  # noqa: F401  # registers what is asked for here


@pytest.mark.parametrize("kind", ["Flat", "IDMap,Flat", "IVF4,Flat", "HNSW8", "SQ8"])
def test_dask_knows_how_large_a_faiss_index_is(kind: str) -> None:
    rows = np.random.default_rng(0).random((2000, 64), dtype=np.float32)
    index = faiss.index_factory(64, kind)
    index.train(rows)
    index.add_with_ids(rows, np.arange(2000)) if "IDMap" in kind else index.add(rows)
    written = len(faiss.serialize_index(index))
    assert 0.8 * written < sizeof(index) < 1.2 * written
