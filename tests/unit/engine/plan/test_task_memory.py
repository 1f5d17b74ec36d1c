from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask.engine.linkage.rounds import SMALL_BLOCK, shared_rows
from cagdask.engine.plan.task_memory import TRAINING_BYTES, merge_bytes_per_row, plan_engine, training_bytes
from cagdask.engine.stage_names import JUDGE_GENES, RELATE_CAGS, WRITE_CORE


@pytest.mark.parametrize("n_genes", [1, 1_000, 100_000, 10_000_000])
@pytest.mark.parametrize("n_samples", [1, 200, 5_000])
@pytest.mark.parametrize("budget", [2**24, 2**28, 2**32])
def test_tasks_whose_size_can_be_chosen_fit_the_budget(n_genes: int, n_samples: int, budget: int) -> None:
    plan = plan_engine(n_genes, n_samples, budget, 2)
    held = {RELATE_CAGS: 24, JUDGE_GENES: 24, WRITE_CORE: 1}  # bytes of every gene or CAG that each task has to hold
    assert all(
        bytes_ <= budget + held.get(name, 0) * n_genes
        for name, bytes_ in plan.task_bytes.items()
        if name != "find components"
    )
    assert plan.block_rows >= 1
    assert plan.merge_rows >= 2
    assert plan.cag_rows >= 1


def test_more_memory_makes_larger_tasks_and_more_workers_smaller_ones() -> None:
    little, much = (plan_engine(1_000_000, 200, budget, 2) for budget in (2**24, 2**30))
    assert little.block_rows < much.block_rows
    assert little.merge_rows < much.merge_rows
    assert plan_engine(100_000, 200, 2**30, 64).block_rows < plan_engine(100_000, 200, 2**30, 2).block_rows


def test_linkage_knows_the_threads() -> None:
    assert plan_engine(1_000, 10, 2**28, 7).linkage().n_threads == 7


@pytest.mark.parametrize("k", [16, 64, 416, 5_000])
@pytest.mark.parametrize("n_samples", [20, 200, 5_000])
def test_longer_lists_leave_room_for_fewer_rows(n_samples: int, k: int) -> None:
    budget = 2**28
    plan = plan_engine(1_000_000, n_samples, budget, 2).linkage().with_lists_of(k)
    assert plan.merge_rows * merge_bytes_per_row(n_samples, k) <= budget
    assert 4 * plan.merge_rows * merge_bytes_per_row(n_samples, k) > budget


def test_training_takes_what_the_rows_of_its_sample_take() -> None:
    assert training_bytes(1_000_000, 200) == TRAINING_BYTES == plan_engine(1_000_000, 200, 2**30, 2).training_bytes
    assert training_bytes(20_000, 200) < TRAINING_BYTES / 5
    assert training_bytes(20_000, 1_000) > 3 * 4_096 * 8 * 1_000
    assert plan_engine(1_000_000, 200, 2**20, 2).training_bytes == 2**19


def test_a_budget_that_holds_no_row_shows_in_the_plan() -> None:
    plan = plan_engine(1_000, 100_000, 10_000, 1)
    assert max(plan.task_bytes.values()) > 10_000


@given(n=st.integers(1, 10**8), n_threads=st.integers(1, 1000))
def test_blocks_are_four_for_each_thread_or_two_small_ones(n: int, n_threads: int) -> None:
    n_blocks = -(-n // shared_rows(n, n_threads))
    assert n_blocks <= 4 * n_threads
    if n > 4 * n_threads * SMALL_BLOCK:
        assert n_blocks >= 3.8 * n_threads
    elif n > 2 * n_threads * 2**10:
        assert n_blocks >= 1.9 * n_threads
