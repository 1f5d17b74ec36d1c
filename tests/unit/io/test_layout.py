from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask import storage
from cagdask.errors import MemoryLimitError
from cagdask.io.layout import CHUNK_BYTES, MAX_BLOCK_ROWS, SHARD_BYTES, ChunkPlan, create_store, plan_chunks, write_rows


@given(st.integers(1, 10**9), st.integers(1, 20_000), st.integers(2**20, 2**36), st.booleans())
def test_plan_fits_the_budget_and_covers_every_gene_once(n_genes, n_samples, budget, sharded):
    plan = plan_chunks(n_genes, n_samples, budget, sharded)
    assert 1 <= plan.chunk_rows <= n_genes
    assert plan.block_rows % plan.chunk_rows == 0
    assert plan.block_rows <= MAX_BLOCK_ROWS
    assert plan.task_bytes <= budget // 2
    assert plan.chunk_rows * n_samples * 4 <= max(CHUNK_BYTES, n_samples * 4)
    assert plan.block_bytes <= max(SHARD_BYTES, n_samples * 4)
    if n_genes < 10**7:
        blocks = plan.blocks()
        assert blocks[0][0] == 0
        assert blocks[-1][1] == n_genes
        assert all(a[1] == b[0] for a, b in pairwise(blocks))
        assert all(start % plan.block_rows == 0 for start, _ in blocks)
        assert (len(blocks) - 1) * plan.block_rows < n_genes


def test_a_usual_cohort_gets_chunks_of_4_and_shards_of_64_mebibytes():
    plan = plan_chunks(1_000_000, 200, 2**30)
    assert plan.chunk_rows == 5242
    assert 0.9 * SHARD_BYTES < plan.block_bytes <= SHARD_BYTES


def test_a_small_store_is_one_chunk():
    plan = plan_chunks(10, 6, 2**30)
    assert (plan.chunk_rows, plan.block_rows, plan.blocks()) == (10, 10, [(0, 10)])


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(MemoryLimitError, match=r"a gene of 1,000,000 samples needs .*`memory_limit`"):
        plan_chunks(10, 1_000_000, 2**20)


@pytest.mark.parametrize("sharded", [True, False])
def test_what_is_written_is_there_also_where_it_is_zero(tmp_path: Path, sharded: bool):
    plan = ChunkPlan(n_genes=6, n_samples=3, chunk_rows=2, block_rows=4, sharded=sharded)
    store = str(tmp_path / "a.zarr")
    create_store(store, plan, ["a", "b", "c"], "abundance", {})
    write_rows(store, 0, pa.array(["g0", "g1", "g2", "g3"]), np.zeros((4, 3), np.float32))
    storage.open_array(store, "abundance", writable=True)[4:6] = 0
    written = {name for name in storage.list_files(store) if "/c/" in name and "sample" not in name}
    values = {f"abundance/c/{i}/0" for i in range(2 if sharded else 3)}
    assert written == values | {"gene_id/c/0", "gene_prevalence/c/0"}
    assert not storage.open_array(store, "abundance")[:].any()
