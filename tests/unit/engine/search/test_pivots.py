from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cagdask.engine.linkage.rounds import shared_rows
from cagdask.engine.rows.files import GroupFiles, smaller_form
from cagdask.engine.search import chunks, pivots


@pytest.mark.parametrize("chunk_rows", [1, 7, 20, 1000])
def test_chunks_hold_every_row_once_and_whole_lists(chunk_rows: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (4, 11))
    ends = counts.cumsum(axis=1)
    taken = []
    for part in chunks.plan_chunks(lambda: counts, chunk_rows):
        taken += [(block, row) for block, begin, end in part for row in range(begin, end)]
        pivots_of = {
            int(np.searchsorted(ends[b], row, side="right")) for b, begin, end in part for row in range(begin, end)
        }
        rows = sum(end - begin for _, begin, end in part)
        assert rows <= chunk_rows or len(part) == 1 or len(pivots_of) == 1
    assert sorted(taken) == [(b, row) for b in range(4) for row in range(ends[b, -1])]


@pytest.mark.parametrize("n_threads", [1, 2, 16])
def test_chunks_of_a_share_are_four_for_each_thread_though_lists_stay_whole(n_threads: int) -> None:
    counts = np.random.default_rng(0).integers(1, 40, (4, 20_000))
    rows = shared_rows(int(counts.sum()), n_threads)
    assert 3.8 * n_threads < len(chunks.plan_chunks(lambda: counts, rows)) <= 4 * n_threads


@pytest.mark.parametrize("pivot", [np.ones((7, 3)), np.eye(5), np.ones((1, 4))])
def test_order_of_pivots_is_a_permutation(pivot: np.ndarray) -> None:
    order = pivots.near_ones_together(pivot.astype(np.float32))
    assert sorted(order.tolist()) == list(range(len(pivot)))


def test_pivots_of_rows_that_point_everywhere(tmp_path: Path) -> None:
    """Centered rows may cancel each other out: a mean of length 0 is no pivot."""
    rows = np.concatenate([np.eye(4), -np.eye(4)] * 40)
    groups = GroupFiles(**smaller_form(rows)._asdict(), gene=np.arange(len(rows)), size=np.ones(len(rows), np.int64))
    groups.write(str(tmp_path / "b"))
    block = {"folder": str(tmp_path / "b"), "n": len(rows), "weight": None}
    pivots.train_pivots([block], len(rows), 2**20, (2, 3), 0.8, 0.0, 0, str(tmp_path / "p"))
    found = pivots.PivotFiles.open(str(tmp_path / "p")).pivots
    assert len(found) > 0
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("products_at_once", [1, 70, 2**20])
def test_nearest_pivot_is_the_nearest_if_all_cells_are_probed(
    products_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pivots, "CELLS_PROBED", 1000)
    monkeypatch.setattr(pivots, "PRODUCTS_AT_ONCE", products_at_once)
    centers, cells, rows = (_directions(n, seed) for seed, n in enumerate((300, 17, 500)))
    cosine, nearest = pivots.nearest_pivots(centers, cells, rows)
    assert nearest.tolist() == (rows @ centers.T).argmax(axis=1).tolist()
    np.testing.assert_allclose(cosine, (rows @ centers.T).max(axis=1), atol=1e-6)


def test_nearest_pivot_is_most_often_the_nearest() -> None:
    rows = _directions(4000, 0)
    centers, cells = pivots.two_level_pivots(rows, 400, seed=0)
    cosine, nearest = pivots.nearest_pivots(centers, cells, rows)
    np.testing.assert_allclose(cosine, np.einsum("ij,ij->i", rows, centers[nearest]), atol=1e-6)
    assert (nearest == (rows @ centers.T).argmax(axis=1)).mean() > 0.8


def test_nearest_pivot_does_not_depend_on_the_rows_beside_it() -> None:
    """Nor on how they lie in memory: each row has a dozen pivots that are equally near, but for the last bits."""
    rng = np.random.default_rng(0)
    centers = _unit(np.repeat(_directions(40, 1), 12, axis=0) * (1 + rng.uniform(-1e-7, 1e-7, (480, 12))))
    cells, rows = _directions(9, 2), _directions(700, 3)
    together = pivots.nearest_pivots(centers, cells, rows)
    alone = [pivots.nearest_pivots(centers, cells, rows[i : i + 1]) for i in range(len(rows))]
    assert together[1].tolist() == [int(pivot[0]) for _, pivot in alone]
    assert together[0].tolist() == [float(cosine[0]) for cosine, _ in alone]


def test_row_whose_cells_are_empty_finds_a_pivot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pivots, "CELLS_PROBED", 2)
    cells, centers = np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32)[:2]
    cosine, nearest = pivots.nearest_pivots(centers, cells, _unit([[1, 2, 0, 0, 0], [0.2, 0.1, 0, 3, 4]]))
    assert nearest.tolist() == [1, 0]
    np.testing.assert_allclose(cosine, [2 / 5**0.5, 0.2 / 25.05**0.5], rtol=1e-5)


def _directions(n: int, seed: int) -> np.ndarray:
    return _unit(np.random.default_rng(seed).gamma(0.2, size=(n, 12)))


def _unit(rows: object) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
