from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cagdask.engine.linkage import merging
from cagdask.engine.linkage.merging import BatchFiles
from cagdask.engine.search.neighbors import ListFiles


def write_lists(
    rng: np.random.Generator, n: int, k: int, where: Path
) -> tuple[list[str], list[int], np.ndarray, np.ndarray]:
    """Random lists of at most k of 2 or 3 parts of rows that know nothing of each other."""
    row = np.full((n, k), -1)
    sim = np.full((n, k), -2.0)
    for i in range(n):
        others = [j for j in range(i % 3, n, 3) if j != i and abs(i - j) < n // 4]
        count = min(len(others), int(rng.integers(0, k + 1)))
        row[i, :count] = rng.choice(others, count, replace=False)
        sim[i, :count] = np.sort(rng.random(count))[::-1]
    offsets = [0, n // 3, n]
    folders = []
    for a, b in ((0, n // 3), (n // 3, n)):
        folders.append(str(where / f"lists-{a}"))
        bound, tie = np.zeros(b - a), np.full(b - a, -1)
        ListFiles(row=row[a:b], sim=sim[a:b], bound=bound, tie=tie, gene=np.arange(a, b)).write(folders[-1])
    return folders, offsets, row, sim


@pytest.mark.parametrize("batch_rows", [1, 5, 100])
def test_batches_are_connected_components(batch_rows: int, tmp_path: Path) -> None:
    n, k = 60, 2
    folders, offsets, row, _ = write_lists(np.random.default_rng(0), n, k, tmp_path)
    made = merging.make_batches(folders, offsets, batch_rows, n, str(tmp_path / "batches"))
    i, j = np.nonzero(row >= 0)
    _, wanted = connected_components(coo_array((np.ones(len(i)), (i, row[i, j])), (n, n)), directed=False)
    positions = [BatchFiles.open(str(tmp_path / "batches" / str(b))).position for b in range(len(made["batches"]))]
    assert sorted(np.concatenate(positions).tolist()) == list(range(n))
    batch_of = np.empty(n, np.int64)
    for b, position in enumerate(positions):
        assert (np.diff(position) > 0).all()
        batch_of[position] = b
        assert len(position) <= batch_rows or len(np.unique(wanted[position])) == 1
    for component in range(wanted.max() + 1):
        assert len(np.unique(batch_of[wanted == component])) == 1
    assert made["largest_component"] == np.bincount(wanted).max()


@pytest.mark.parametrize("largest", [2, 3, 10])
def test_a_large_component_is_cut_but_never_at_its_strongest_link(largest: int, tmp_path: Path) -> None:
    folders, offsets, row, sim = write_lists(np.random.default_rng(1), 90, 4, tmp_path)
    made = merging.make_batches(folders, offsets, 1, largest, str(tmp_path / "batches"))
    batches = [
        set(BatchFiles.open(str(tmp_path / "batches" / str(b))).position.tolist()) for b in range(len(made["batches"]))
    ]
    assert max(map(len, batches)) <= largest
    assert sorted(i for batch in batches for i in batch) == list(range(90))
    strongest = int(sim[:, 0].argmax())
    assert any({strongest, int(row[strongest, 0])} <= batch for batch in batches)


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
        parent, states, pair, height = merging.merge_groups(
            mean.copy(),
            np.ones(3, np.int64),
            np.arange(3),
            index,
            index[:, 0].copy(),
            sim[[0, 1, 2], [1, 0, 1]],
            np.array([0, 0, bound]),
            np.full(3, -1),
            0.5,
        )
        assert pair[0].tolist() == [0, 1]
        assert height[0] == pytest.approx(0.05, abs=1e-10)
        group = merging.roots_of(parent)
        assert group[0] == group[1]
        if bound == 0:
            assert pair.tolist() == [[0, 1], [0, 2]]
        else:
            assert len(pair) == 1
            assert states[2] == merging.WAITS
            assert states[group[0]] == 2


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0], [2, 1, 0]])
def test_lists_that_only_one_of_two_rows_is_on_end_in_merges(order: list[int]) -> None:
    """Each row lists another, in a circle, as an approximate search may; the nearest pair of all joins first."""
    base = np.array([[1, 0, 0.0], [0.8, 0.6, 0], [0.9, 0.1, 0]])[order]
    mean = base / np.linalg.norm(base, axis=1, keepdims=True)
    sim = np.round(mean @ mean.T, 10)
    index = np.array([[1], [2], [0]])
    nobody = np.full(3, -1)
    parent, _, pair, height = merging.merge_groups(
        mean.copy(), np.ones(3, np.int64), np.arange(3), index, nobody.copy(), sim[[0, 1, 2], [1, 2, 0]], np.zeros(3),
        nobody.copy(), 0.5,
    )  # fmt: skip
    assert (merging.roots_of(parent) == merging.roots_of(parent)[0]).all()
    assert height[0] == pytest.approx(1 - sim[~np.eye(3, dtype=bool)].max())
    assert len(pair) == 2


@pytest.mark.timeout(60, method="thread")
def test_a_nearest_is_looked_for_again_when_what_it_was_not_compared_with_joins() -> None:
    """Row 0 finds row 1; then row 3, which it does not list, joins row 2, and both together are nearer than row 1."""
    sim = np.array([[1, 0.41, 0.38, 0.97], [0.41, 1, 0.48, 0.45], [0.38, 0.48, 1, 0.58], [0.97, 0.45, 0.58, 1]])
    mean = np.linalg.cholesky(sim)
    index = np.array([[1, 2], [2, 3], [3, 1], [2, 1]])
    nobody = np.full(4, -1)
    _, _, pair, height = merging.merge_groups(
        mean, np.ones(4, np.int64), np.arange(4), index, nobody.copy(), np.zeros(4), np.zeros(4), nobody.copy(), 0.3
    )
    assert pair.tolist() == [[2, 3], [0, 2], [0, 1]]
    assert height == pytest.approx([0.42, 1 - (0.38 + 0.97) / 2, 1 - (0.41 + 0.48 + 0.45) / 3])
