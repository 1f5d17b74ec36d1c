"""Rows are the same, to the bit, whether they are kept dense or sparse, and so is what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cagdask.engine.rows import files as engine_rows
from cagdask.engine.rows.files import (
    GroupFiles,
    Stored,
    join_stored,
    product,
    product_with,
    save_rows,
    smaller_form,
    stored_rows,
    take_rows,
    take_stored,
)
from cagdask.engine.search import chunks, pivots
from cagdask.engine.search.sketches import sketches, sketches_of
from cagdask.storage.arrays import read_only


def table(n: int, n_samples: int, density: float, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_samples)) * (rng.random((n, n_samples)) < density)


def written(rows: Any, to: Path) -> Stored:
    save_rows(str(to), rows)
    return stored_rows(str(to))


def all_of(rows: Stored) -> NDArray[np.float64]:
    return take_rows(rows, np.arange(rows.n))


@pytest.mark.parametrize("n_samples", [1, 3, 4, 7, 64, 201])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.29, 0.5, 1.0])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_rows_come_back_and_multiply_as_they_were(n: int, density: float, n_samples: int, tmp_path: Path) -> None:
    rows = table(n, n_samples, density)
    stored = written(rows, tmp_path / "rows")
    assert stored.n == n
    np.testing.assert_array_equal(all_of(stored), rows)
    other = np.random.default_rng(1).normal(size=n_samples)
    for i in range(n):
        assert product_with(other, stored, i) == product(other, read_only(rows[i].copy()))


@pytest.mark.parametrize("density", [0.02, 0.9])
def test_what_is_not_zero_is_all_that_is_kept_of_few_values(density: float, tmp_path: Path) -> None:
    rows = table(500, 100, density)
    stored = written(rows, tmp_path / "rows")
    n_values = np.count_nonzero(rows)
    assert stored.nbytes == (8 * rows.size + 8 if len(stored.dense) else 12 * n_values + 8 * (4 * 500 + 1))
    assert len(stored.dense) == (500 if density > engine_rows.SPARSE_BELOW else 0)


@given(
    n_parts=st.integers(1, 4),
    dense=st.lists(st.booleans(), min_size=4, max_size=4),
    n_samples=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_taken_and_joined_rows_are_those_of_numpy(
    n_parts: int, dense: list[bool], n_samples: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(seed)
    parts = [table(int(rng.integers(0, 9)), n_samples, 1.0 if dense[i] else 0.1, seed + i) for i in range(n_parts)]
    taken, wanted = [], []
    for i, part in enumerate(parts):
        some = rng.integers(0, max(1, len(part)), len(part))
        taken.append(take_stored(written(part, folder / str(i)), some))
        wanted.append(part[some])
    joined = join_stored(taken)
    np.testing.assert_array_equal(all_of(joined), np.concatenate(wanted))
    if not any(len(part.dense) for part in taken):
        assert not len(joined.dense)
    again = written(joined, folder / "joined")
    np.testing.assert_array_equal(all_of(again), np.concatenate(wanted))


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_sparse_rows_stay_so_from_block_to_chunk(
    density: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.abs(table(400, 50, density))
    rows = rows[rows.any(axis=1)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    block, folder = str(tmp_path / "block"), str(tmp_path)
    groups = GroupFiles(**smaller_form(rows)._asdict(), gene=np.arange(len(rows)), size=np.ones(len(rows), np.int64))
    groups.write(block)
    described = {"folder": block, "n": len(rows)}
    pivots.train_pivots([described], len(rows), 2**24, (4, 8), 0.8, 0.0, 0, f"{folder}/pivots")

    def made_dense(*arguments: Any) -> Any:
        raise AssertionError("sparse rows are made dense")

    if density < engine_rows.SPARSE_BELOW:
        monkeypatch.setattr(engine_rows, "take_rows", made_dense)
    assert chunks.assign_block(described, f"{folder}/pivots", f"{folder}/sorted/0") == len(rows)
    (n,) = chunks.write_chunk_plan([f"{folder}/sorted/0"], 1000, f"{folder}/plan")
    assert chunks.gather_chunk(f"{folder}/sorted", f"{folder}/plan", 0, f"{folder}/pivots", f"{folder}/chunks/0") == n
    monkeypatch.undo()
    chunk = stored_rows(f"{folder}/chunks/0")
    assert len(chunk.dense) == (0 if density < engine_rows.SPARSE_BELOW else n)
    np.testing.assert_array_equal(all_of(chunk), rows[GroupFiles.open(f"{folder}/chunks/0").gene])


def test_joined_rows_that_have_become_many_values_are_written_dense(tmp_path: Path) -> None:
    rows = table(40, 20, 0.29)
    full = take_stored(written(rows, tmp_path / "a"), np.argsort(-(rows != 0).sum(1))[:5])
    assert not len(full.dense)
    assert len(written(full, tmp_path / "b").dense) == 5


@pytest.mark.parametrize("density", [0.05, 0.8])
def test_sketches_of_stored_rows_are_those_of_rows(density: float, tmp_path: Path) -> None:
    rows = table(100, 50, density)
    group = np.random.default_rng(2).integers(0, 8, 50)
    group[0] = 7
    found = sketches_of(written(rows, tmp_path / "rows"), group)
    np.testing.assert_array_equal(found, sketches(rows, group))
    exact = np.sqrt(np.array([[(row[group == g] ** 2).sum() for g in range(8)] for row in rows]))
    assert (found >= exact * (1 - 1e-12)).all()
