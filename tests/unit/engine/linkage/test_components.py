from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cagdask.engine.linkage import components
from cagdask.engine.linkage.components import BatchFiles
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
    made = components.make_batches(folders, offsets, batch_rows, n, str(tmp_path / "batches"))
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
    made = components.make_batches(folders, offsets, 1, largest, str(tmp_path / "batches"))
    batches = [
        set(BatchFiles.open(str(tmp_path / "batches" / str(b))).position.tolist()) for b in range(len(made["batches"]))
    ]
    assert max(map(len, batches)) <= largest
    assert sorted(i for batch in batches for i in batch) == list(range(90))
    strongest = int(sim[:, 0].argmax())
    assert any({strongest, int(row[strongest, 0])} <= batch for batch in batches)
