from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cagdask.engine import arrays, pivots
from cagdask.engine.neighbors import PRODUCT_MARGIN


@pytest.mark.parametrize("rest", [0.0, 1e-5, 1e-4, 1e-3, 0.1])
def test_leading_coordinates_bound_every_similarity(rest: float) -> None:
    """Also where almost nothing of a row is left out: the root of a rounding error is a hundred times the margin."""
    rng = np.random.default_rng(0)
    inside = rng.random((300, 40)) ** 8 @ (rng.random((40, 120)) * (rng.random((40, 120)) < 0.3))
    basis = pivots.leading_directions(inside.astype(np.float32), 40, rng)
    outside = rng.normal(size=inside.shape)
    for _ in range(2):
        outside -= (outside @ basis) @ basis.T
    inside, outside = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (inside, outside))
    near, far = inside + rest * outside, 0.8 * inside + 0.6 * outside
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    bound = np.einsum("ij,ij->i", pivots.lead_of(near, basis), pivots.lead_of(far, basis))
    assert (bound >= np.einsum("ij,ij->i", near, far) - PRODUCT_MARGIN).all()


@pytest.mark.parametrize("n_samples", [3, 50, 1100])
def test_directions_are_orthonormal(n_samples: int) -> None:
    rng = np.random.default_rng(0)
    basis = pivots.leading_directions(rng.random((60, n_samples), np.float32), 64, rng).astype(np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(min(64, n_samples)), atol=1e-6)


@pytest.mark.parametrize("chunk_rows", [1, 7, 20, 1000])
def test_chunks_hold_every_row_once_and_whole_lists(chunk_rows: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (4, 11))
    ends = counts.cumsum(axis=1)
    taken = []
    for part in pivots.plan_chunks(counts, chunk_rows):
        taken += [(block, row) for block, begin, end in part for row in range(begin, end)]
        pivots_of = {
            int(np.searchsorted(ends[b], row, side="right")) for b, begin, end in part for row in range(begin, end)
        }
        rows = sum(end - begin for _, begin, end in part)
        assert rows <= chunk_rows or len(part) == 1 or len(pivots_of) == 1
    assert sorted(taken) == [(b, row) for b in range(4) for row in range(ends[b, -1])]


@pytest.mark.parametrize("pivot", [np.ones((7, 3)), np.eye(5), np.ones((1, 4))])
def test_order_of_pivots_is_a_permutation(pivot: np.ndarray) -> None:
    order = pivots.near_ones_together(pivot.astype(np.float32))
    assert sorted(order.tolist()) == list(range(len(pivot)))


def test_pivots_of_rows_that_point_everywhere(tmp_path: Path) -> None:
    """Centered rows may cancel each other out: a mean of length 0 is no pivot."""
    rows = np.concatenate([np.eye(4), -np.eye(4)] * 40)
    arrays.save(str(tmp_path / "b"), rows=rows, gene=np.arange(len(rows)), size=np.ones(len(rows), np.int64))
    block = {"folder": str(tmp_path / "b"), "n": len(rows), "weight": None}
    n = pivots.train_pivots([block], len(rows), 10_000, 3, 0.8, 0, str(tmp_path / "p"))
    found = arrays.load(str(tmp_path / "p"), "pivots")
    assert n == len(found) > 0
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
