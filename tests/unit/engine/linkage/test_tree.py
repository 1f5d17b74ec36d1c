from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage

from cagdask.engine.linkage import tree
from tests import reference


@pytest.mark.parametrize("seed", range(5))
def test_table_is_that_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((40, 6))
    wanted = scipy_linkage(points, "average", metric="cosine")
    smallest = list(range(40))
    pairs = []
    for a, b, _, _ in wanted:
        pairs.append(sorted((smallest[int(a)], smallest[int(b)])))
        smallest.append(pairs[-1][0])
    # any order in which parts come before wholes: the two halves one after the other
    left = [i for i in range(39) if wanted[i, 2] < 0.05 and i % 2 == 0 and (wanted[i, :2] < 40).all()]
    order = left + [i for i in range(39) if i not in left]
    child, height = tree.merge_table(np.array(pairs)[order], wanted[order, 2].copy(), 40)
    np.testing.assert_array_equal(child, np.sort(wanted[:, :2].astype(int), axis=1))
    np.testing.assert_array_equal(height, wanted[:, 2])
    for cut in (0.02, 0.1, 0.3):
        found = reference.naive_labels(tree.cut_merges(child, height, 40, cut))
        groups = fcluster(wanted, cut, "distance")
        first = np.array([np.flatnonzero(groups == g)[0] for g in groups])
        np.testing.assert_array_equal(found, reference.naive_labels(first))


def test_heights_never_fall_and_parts_come_before_wholes() -> None:
    pair = np.array([[2, 3], [0, 1], [0, 2], [0, 4]])
    child, height = tree.merge_table(pair, np.array([0.3, 0.1, 0.2, 0.3]), 5)
    assert height.tolist() == [0.1, 0.3, 0.3, 0.3]
    assert child.tolist() == [[0, 1], [2, 3], [5, 6], [4, 7]]


def test_links_of_a_forest_become_merges_of_groups() -> None:
    ends, height = np.array([[1, 4], [3, 4], [0, 1], [2, 5]]), np.array([0.2, 0.1, 0.3, 0.3])
    pair, at = tree.merges_of_forest(ends, height, 6)
    assert at.tolist() == [0.1, 0.2, 0.3, 0.3]
    assert pair.tolist() == [[3, 4], [1, 3], [0, 1], [2, 5]]


def test_identical_genes_join_their_first_at_height_zero() -> None:
    pair, height = tree.merges_of_identical(np.array([0, -1, 0, 3, -2, 0, 3]))
    assert pair.tolist() == [[0, 2], [0, 5], [3, 6]]
    assert not height.any()


def test_labels_go_by_size_then_by_smallest_gene() -> None:
    leader = np.array([0, 1, 2, 1, 4, 4, 0, 7, 2, 2])
    left_out = np.arange(10) == 7
    found = tree.labels(leader, left_out)
    assert found.tolist() == [1, 2, 0, 2, 3, 3, 1, -1, 0, 0]
    np.testing.assert_array_equal(found, reference.naive_labels(leader, left_out))


@pytest.mark.parametrize("n_genes", [1, 4])
def test_no_merges(n_genes: int) -> None:
    child, height = tree.merge_table(np.empty((0, 2), np.int64), np.empty(0), n_genes)
    assert child.shape == (0, 2)
    assert height.shape == (0,)
    assert tree.first_genes(child, n_genes).tolist() == list(range(n_genes))
