"""The nearest group of every row, against all distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cagdask.engine.search import nearest_group
from cagdask.engine.search.nearest_group import NO_GROUP, Nearest


def by_definition(rows: NDArray[Any], points: NDArray[Any], group: NDArray[Any]) -> list[tuple[int, float, float]]:
    found = []
    for row in cdist(rows, points, "sqeuclidean"):
        by_group = sorted((row[group == g].min(), int(g)) for g in np.unique(group))
        second = by_group[1][0] if len(by_group) > 1 else np.inf
        found.append((by_group[0][1], by_group[0][0], second))
    return found


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 30), st.integers(1, 9), st.booleans())
def test_nearest_groups_are_those_of_all_distances(seed: int, n: int, m: int, d: int, unit: bool) -> None:
    rng = np.random.default_rng(seed)
    rows, points = rng.normal(size=(n, d)) + 3, rng.normal(size=(m, d)) + 3
    group = rng.integers(0, 5, m)
    if unit:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = Nearest.of(n)
    cut = int(rng.integers(0, m + 1))
    found.update(rows, points[:cut], group[:cut], unit=unit)
    found.update(rows, points[cut:], group[cut:], unit=unit)
    expected = by_definition(rows, points, group)
    if not unit:  # on a line, directions are +1 and -1: ties, which the definition here breaks by noise
        assert found.group.tolist() == [g for g, _, _ in expected]
    np.testing.assert_allclose(found.best, [best for _, best, _ in expected], atol=2e-10)
    np.testing.assert_allclose(found.second, [second for _, _, second in expected], atol=2e-10)


@pytest.mark.parametrize("unit", [True, False])
def test_blocks_of_any_shape_give_the_same_bits(monkeypatch: pytest.MonkeyPatch, unit: bool) -> None:
    rng = np.random.default_rng(1)
    rows, points = rng.random((300, 37)), rng.random((150, 37))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    group = rng.integers(0, 40, 150)
    whole = Nearest.of(300)
    whole.update(rows, points, group, unit=unit)
    for block, slice_ in ((1, 7), (64, 1), (7, 1000)):
        monkeypatch.setattr(nearest_group, "ROWS_AT_ONCE", block)
        monkeypatch.setattr(nearest_group, "POINTS_AT_ONCE", slice_)
        cut = Nearest.of(300)
        order = rng.permutation(150)
        cut.update(rows, points[order], group[order], unit=unit)
        for name in ("group", "best", "second"):
            assert getattr(whole, name).tobytes() == getattr(cut, name).tobytes()


def test_ties_go_to_the_smaller_group() -> None:
    found = Nearest.of(1)
    found.update(np.zeros((1, 2)), np.array([[0.0, 1], [1, 0], [-1, 0]]), np.array([7, 3, 5]), unit=False)
    assert (found.group[0], found.best[0], found.second[0]) == (3, 1.0, 1.0)


def test_what_is_equal_but_for_rounding_is_a_tie() -> None:
    row = np.array([[0.6, 0.8, 0.0]])
    point = np.array([[0.6 + 1e-13, 0.8, 0.1], [0.6, 0.8 - 1e-13, -0.1]])
    for order in ([0, 1], [1, 0]):
        found = Nearest.of(1)
        found.update(row, point[order], np.array([4, 2])[order], unit=True)
        assert found.group[0] == 2


def test_one_group_has_no_second() -> None:
    found = Nearest.of(2)
    assert found.group.tolist() == [NO_GROUP, NO_GROUP]
    found.update(np.array([[1.0], [5.0]]), np.array([[2.0], [3.0]]), np.array([9, 9]), unit=False)
    assert found.best.tolist() == [1.0, 4.0]
    assert np.isinf(found.second).all()


def test_a_far_origin_costs_no_digits() -> None:
    rows = np.array([[1e8, 1e8], [1e8 + 3, 1e8]])
    points = np.array([[1e8 + 1, 1e8], [1e8 + 2, 1e8]])
    found = Nearest.of(2)
    found.update(rows, points, np.array([1, 2]), unit=False)
    assert found.group.tolist() == [1, 2]
    assert found.best.tolist() == [1.0, 1.0]
    assert found.second.tolist() == [4.0, 4.0]


def test_what_the_product_can_not_tell_apart_is_computed_again() -> None:
    points = 1e9 + np.arange(20.0)[:, None] * np.array([[1.0, 0.0]])
    rows = points + 0.25
    found = Nearest.of(20)
    found.update(rows, points, np.arange(20), unit=False)
    assert found.group.tolist() == list(range(20))
