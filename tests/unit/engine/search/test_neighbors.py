from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cagdask.engine.linkage import rounds
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan, Linked, Round
from cagdask.engine.rows.files import Block, GroupFiles, smaller_form
from cagdask.engine.search.neighbors import ListFiles


def noisy_groups(n: int, n_samples: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(5)
    centers = rng.lognormal(0, 2, (n // 12, n_samples)) * (rng.random((n // 12, n_samples)) < 0.4)
    rows = centers[rng.integers(0, len(centers), n)] * rng.gamma(3, 1, (n, n_samples)) + 1e-3 * rng.random(
        (n, n_samples)
    )
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ties(n: int, n_samples: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(6)
    rows = (rng.random((n, n_samples)) < 3 / n_samples) + np.eye(n_samples)[rng.integers(0, n_samples, n)] > 0
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def searched(rows: NDArray[Any], size: NDArray[Any], gene: NDArray[Any], threshold: float, k: int, where: Path) -> Any:
    """Lists of the engine, in the order of genes; and how many pairs were left out of account."""
    folders = []
    for begin in range(0, len(rows), 170):
        folders.append(Block(str(where / f"block-{begin}"), len(rows[begin : begin + 170])))
        part = slice(begin, begin + 170)
        GroupFiles(**smaller_form(rows[part])._asdict(), size=size[part], gene=gene[part]).write(folders[-1].folder)
    plan, account = LinkagePlan(150, 150, sizes=(8, 24)), Linked()
    this = Round(InPlace(), plan, str(where), None, "round")
    chunked = rounds.order_rows(this, folders, threshold, seed=1)
    lists = rounds.search(this, chunked, k, account)
    files = list(ListFiles.open_all(lists))
    found_gene, row = np.concatenate([part.gene for part in files]), np.concatenate([part.row for part in files])
    sim, bound = np.concatenate([part.sim for part in files]), np.concatenate([part.bound for part in files])
    order = np.argsort(found_gene)
    return np.where(row >= 0, found_gene[row], -1)[order], sim[order], bound[order], account


@pytest.mark.parametrize("threshold", [0.9, 0.5, 0.1])
@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("make", [noisy_groups, ties])
def test_lists_are_those_of_brute_force(make: Any, k: int, threshold: float, tmp_path: Path) -> None:
    rows = make(600, 60)
    gene = np.random.default_rng(0).permutation(600)
    rows[gene % 3 == 0] *= 0.97  # means of groups are shorter than 1
    near, sim, bound, account = searched(rows, np.ones(600, np.int64), gene, threshold, k, tmp_path)
    by_gene = rows[np.argsort(gene)]
    wanted = np.round(by_gene @ by_gene.T, 10)
    np.fill_diagonal(wanted, -2)
    for g in range(600):
        order = np.lexsort((np.arange(600), -wanted[g]))[:k]
        order = order[wanted[g, order] >= threshold]
        assert near[g, : len(order)].tolist() == order.tolist()
        assert (near[g, len(order) :] == -1).all()
        np.testing.assert_array_equal(sim[g, : len(order)], wanted[g, order])
        unlisted = np.delete(wanted[g], order)
        assert unlisted.max() <= bound[g]
        assert bound[g] < threshold or len(order) == k
    assert account.multiplied <= 600 * 600 / 2
    if threshold == 0.9 and make is noisy_groups:
        assert account.multiplied < 0.1 * 600 * 600
