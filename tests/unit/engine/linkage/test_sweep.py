from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from cagdask.engine.linkage.sweep import plateaus, sweep_thresholds


@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_each_threshold_is_the_cut_that_scipy_makes(n: int, seed: int, thresholds: list[float]) -> None:
    rows = np.random.default_rng(seed).random((n, 4)) ** 3
    tree = linkage(rows, "average", metric="cosine")
    heights = np.rint(np.clip(tree[:, 2], 0, None) * 1e10) / 1e10
    asked = np.sort(thresholds)
    made = sweep_thresholds(tree[:, :2].astype(np.int64), heights, n, asked)
    similarity = 1 - squareform(pdist(rows, "cosine"))
    tree[:, 2] = heights
    for i, threshold in enumerate(made.max_dist):
        label = fcluster(tree, threshold, "distance")
        sizes = np.bincount(label)
        sizes = sizes[sizes > 0]
        together = (label[:, None] == label) & ~np.eye(n, dtype=bool)
        assert made.n_groups[i] == (sizes > 1).sum()
        assert made.n_alone[i] == (sizes == 1).sum()
        assert made.largest[i] == sizes.max()
        if together.any():
            np.testing.assert_allclose(made.cohesion[i], similarity[together].mean(), atol=1e-8)
        else:
            assert np.isnan(made.cohesion[i])


def test_genes_left_out_are_not_alone() -> None:
    made = sweep_thresholds(np.array([[0, 1]]), np.array([0.1]), 4, np.array([0.0, 0.1]), n_left_out=1)
    assert made.n_alone.tolist() == [3, 1]
    assert made.n_groups.tolist() == [0, 1]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12))
def test_a_plateau_is_wide_and_loses_few(losses: list[int]) -> None:
    n_clusters = 1000 - np.cumsum(losses)
    thresholds = np.linspace(0, 0.5, len(losses))
    wanted = np.zeros(len(losses), bool)
    for a in range(len(losses)):
        for b in range(a + 1, len(losses)):
            if thresholds[b] - thresholds[a] >= 0.2 * 0.5 and n_clusters[b] >= 0.98 * n_clusters[a]:
                wanted[a : b + 1] = True
    assert plateaus(thresholds, n_clusters).tolist() == wanted.tolist()
