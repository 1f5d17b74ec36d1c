from __future__ import annotations

import numpy as np
import pytest

from cagdask.vectors.pictures import color_range


@pytest.mark.parametrize(
    ("beside", "wanted"),
    [
        ([0.8, 0.9, 0.85], (0.8, 0.9, "viridis")),
        ([-0.2, 0.5, 0.1], (-0.5, 0.5, "RdBu_r")),
        ([-0.3, -0.1, -0.2], (-0.3, -0.1, "viridis")),
    ],
)
def test_colors_span_the_values_beside_the_diagonal(beside: list[float], wanted: tuple[float, float, str]) -> None:
    values = np.eye(3)
    values[np.triu_indices(3, 1)] = beside
    values += np.triu(values, 1).T
    assert color_range(values) == wanted


def test_equal_values_have_colors_too() -> None:
    low, high, _ = color_range(np.ones((3, 3)))
    assert low < 1 < high
    assert color_range(np.ones((1, 1)))[:2] == (0, 1)
