from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cagdask.engine.rows import sums


@pytest.mark.parametrize("density", [1.0, 0.05])
@pytest.mark.parametrize("edges", [[0, 500], [0, 1, 2, 499, 500], list(range(0, 501, 50))])
@pytest.mark.parametrize("ranges", [[(0, 20)], [(0, 7), (7, 8), (8, 20)]])
def test_sums_are_exact_however_genes_and_groups_are_cut(
    edges: list[int], ranges: list[tuple[int, int]], density: float, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(-1, 19, 500)  # group 19 is empty, -1 is left out
    values = rng.lognormal(0, 15, (500, 6)) * (rng.random((500, 6)) < density)
    present = rng.random((500, 6)) < 0.01
    parts = []
    for a, b in pairwise(edges):
        parts.append(str(tmp_path / f"{a}"))
        sums.write_part(parts[-1], label[a:b], values[a:b], present[a:b])
    total = np.concatenate([sums.read_sums(parts, begin, end, 6) for begin, end in ranges])
    flags = np.concatenate([sums.read_present(parts, begin, end, 6) for begin, end in ranges])
    for g in range(20):
        members = values[label == g]
        assert total[g].tolist() == [math.fsum(members[:, j]) for j in range(6)]
        assert flags[g].tolist() == present[label == g].any(axis=0).tolist()
