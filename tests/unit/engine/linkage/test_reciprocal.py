from __future__ import annotations

import numpy as np
import pytest

from cagdask.engine.linkage import reciprocal
from cagdask.engine.linkage.components import roots_of
from cagdask.engine.linkage.reciprocal import Groups, Proofs


def test_a_group_whose_nearest_is_unknown_waits() -> None:
    """Row 2 was cut from something at 0.9; it must not join row 1 at 0.8, but rows 0 and 1 may join at 0.95."""
    angle = np.arccos([1.0, 0.95])
    mean = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(2)])
    third = np.array([0.8, (0.8 - 0.95 * 0.8) / np.sin(angle[1]), 0.0])
    third[2] = np.sqrt(1 - (third**2).sum())
    mean = np.concatenate([mean, third[None]])
    sim = np.round(mean @ mean.T, 10)
    index = np.array([[1, 2], [0, 2], [-1, 1]])
    for bound in (0.9, 0.0):
        parent, states, pair, height = reciprocal.merge_groups(
            Groups(mean.copy(), np.ones(3, np.int64), np.arange(3)),
            index,
            Proofs(index[:, 0].copy(), sim[[0, 1, 2], [1, 0, 1]], np.array([0, 0, bound]), np.full(3, -1)),
            0.5,
        )
        assert pair[0].tolist() == [0, 1]
        assert height[0] == pytest.approx(0.05, abs=1e-10)
        group = roots_of(parent)
        assert group[0] == group[1]
        if bound == 0:
            assert pair.tolist() == [[0, 1], [0, 2]]
        else:
            assert len(pair) == 1
            assert states[2] == reciprocal.WAITS
            assert states[group[0]] == 2


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0], [2, 1, 0]])
def test_lists_that_only_one_of_two_rows_is_on_end_in_merges(order: list[int]) -> None:
    """Each row lists another, in a circle, as an approximate search may; the nearest pair of all joins first."""
    base = np.array([[1, 0, 0.0], [0.8, 0.6, 0], [0.9, 0.1, 0]])[order]
    mean = base / np.linalg.norm(base, axis=1, keepdims=True)
    sim = np.round(mean @ mean.T, 10)
    index = np.array([[1], [2], [0]])
    nobody = np.full(3, -1)
    parent, _, pair, height = reciprocal.merge_groups(
        Groups(mean.copy(), np.ones(3, np.int64), np.arange(3)),
        index,
        Proofs(nobody.copy(), sim[[0, 1, 2], [1, 2, 0]], np.zeros(3), nobody.copy()),
        0.5,
    )
    assert (roots_of(parent) == roots_of(parent)[0]).all()
    assert height[0] == pytest.approx(1 - sim[~np.eye(3, dtype=bool)].max())
    assert len(pair) == 2


@pytest.mark.timeout(60, method="thread")
def test_a_nearest_is_looked_for_again_when_what_it_was_not_compared_with_joins() -> None:
    """Row 0 finds row 1; then row 3, which it does not list, joins row 2, and both together are nearer than row 1."""
    sim = np.array([[1, 0.41, 0.38, 0.97], [0.41, 1, 0.48, 0.45], [0.38, 0.48, 1, 0.58], [0.97, 0.45, 0.58, 1]])
    mean = np.linalg.cholesky(sim)
    index = np.array([[1, 2], [2, 3], [3, 1], [2, 1]])
    nobody = np.full(4, -1)
    _, _, pair, height = reciprocal.merge_groups(
        Groups(mean, np.ones(4, np.int64), np.arange(4)),
        index,
        Proofs(nobody.copy(), np.zeros(4), np.zeros(4), nobody.copy()),
        0.3,
    )
    assert pair.tolist() == [[2, 3], [0, 2], [0, 1]]
    assert height == pytest.approx([0.42, 1 - (0.38 + 0.97) / 2, 1 - (0.41 + 0.48 + 0.45) / 3])
