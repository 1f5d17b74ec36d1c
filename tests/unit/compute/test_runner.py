"""What a client knows and does beside running tasks."""

from __future__ import annotations

import sys
import time

import faiss
import numpy as np
import pytest
from dask.sizeof import sizeof

from cagdask.compute import on_dask  # noqa: F401  # which tells Dask
from cagdask.compute.connect import connect


@pytest.mark.parametrize("kind", ["Flat", "IDMap,Flat", "IVF4,Flat", "HNSW8", "SQ8"])
def test_dask_knows_how_large_a_faiss_index_is(kind: str) -> None:
    rows = np.random.default_rng(0).random((2000, 64), dtype=np.float32)
    index = faiss.index_factory(64, kind)
    index.train(rows)
    index.add_with_ids(rows, np.arange(2000)) if "IDMap" in kind else index.add(rows)
    written = len(faiss.serialize_index(index))
    assert 0.8 * written < sizeof(index) < 1.2 * written


def test_workers_import_while_the_driver_goes_on() -> None:
    def n_ready() -> int:
        return sum(runner.executor.client.run(lambda: "cagdask.cags.stages" in sys.modules).values())

    with connect(n_workers=2, memory_limit="2GiB") as runner:
        assert n_ready() == 0
        begun = time.monotonic()
        runner.load("cagdask.cags.stages")
        runner.load("cagdask.no_such_module")  # what can not be imported fails where it is used, if it ever is
        while n_ready() < 2:
            assert time.monotonic() - begun < 60
            time.sleep(0.1)
        assert runner.one("stage", divmod, 7, 3) == (2, 1)
