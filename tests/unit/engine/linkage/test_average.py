from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage

from cagdask.engine.linkage import average, refinement, single
from cagdask.engine.linkage.merging import MergeFiles
from cagdask.engine.linkage.refinement_table import TableFiles
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan, shared_rows
from cagdask.engine.rows.files import Block, GroupFiles, smaller_form
from cagdask.simulation.writing import simulate_abundance
from cagdask.storage.arrays import FILE


def write_groups(folder: str, rows: NDArray[Any], size: NDArray[Any], gene: NDArray[Any]) -> None:
    GroupFiles(**smaller_form(rows)._asdict(), size=size, gene=gene).write(folder)


def merges_of(folders: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    files = list(MergeFiles.open_all(folders))
    return np.concatenate([part.pair for part in files]), np.concatenate([part.height for part in files])


def write_blocks(rows: NDArray[np.float64], where: Path, block_rows: int = 400) -> list[Block]:
    blocks = []
    for begin in range(0, len(rows), block_rows):
        part = rows[begin : begin + block_rows]
        blocks.append(Block(str(where / f"block-{begin}"), len(part)))
        gene = np.arange(begin, begin + len(part))
        write_groups(blocks[-1].folder, part, np.ones(len(part), np.int64), gene)
    return blocks


@pytest.fixture(scope="module")
def profiles() -> NDArray[np.float64]:
    """Over more samples than there are leading directions, so that every bound of the search is at work."""
    matrix = simulate_abundance(2_500, 110, coverage=1.0, seed=8)[0].astype(np.float64)
    matrix = matrix[(matrix > 0).sum(axis=1) > 2]
    matrix /= matrix.sum(axis=0)
    rows: NDArray[np.float64] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return rows


def test_rounds_of_fewer_rows_are_shared_out_again(
    profiles: NDArray[np.float64], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(average, "LISTED_AT_ONCE", 0)
    searched: list[int] = []

    class Workers:
        def map(self, stage: str, function: Callable[..., Any], items: Sequence[Any], *, done: Any = None) -> list[Any]:
            if stage.endswith("within chunks"):
                searched.append(len(items))
            return [function(*item) for item in items]

    plan = LinkagePlan(chunk_rows=1_500, merge_rows=500, k=6, small=300, n_threads=2)
    linked = average.average_linkage(Workers(), write_blocks(profiles, tmp_path), 0.8, plan, str(tmp_path / "linkage"))
    later = linked.active[1]
    assert 300 < later < 1_500  # one chunk, as large as chunks may be
    assert searched[0] == 4
    shares = -(-later // shared_rows(later, 2))
    assert 1 < shares <= searched[1] <= shares + 1  # so few rows leave no room for lists that stay whole


def test_one_process_merges_in_one_batch_and_several_share(profiles: NDArray[np.float64], tmp_path: Path) -> None:
    batches: list[int] = []

    def counted(stage: str, items: Sequence[Any]) -> None:
        if stage == "clustering round 1: merge groups":
            batches.append(len(items))

    class Alone(InPlace):
        def map(self, stage: str, function: Callable[..., Any], items: Sequence[Any], *, done: Any = None) -> list[Any]:
            counted(stage, items)
            return super().map(stage, function, items, done=done)

    class Workers:
        def map(self, stage: str, function: Callable[..., Any], items: Sequence[Any], *, done: Any = None) -> list[Any]:
            counted(stage, items)
            return [function(*item) for item in items]

    plan = LinkagePlan(chunk_rows=5_000, merge_rows=50_000, small=0)
    for mapper in (Alone(), Workers()):
        blocks = write_blocks(profiles, tmp_path)
        average.average_linkage(mapper, blocks, 0.8, plan, str(tmp_path / type(mapper).__name__))
    assert len(profiles) > 2_000
    assert batches[0] == 1 < batches[1]


@pytest.mark.parametrize("max_dist", [0.2, 0.5])
@pytest.mark.parametrize("method", ["average", "single"])
def test_groups_of_a_planted_cohort_are_those_of_scipy(
    profiles: NDArray[np.float64], method: str, max_dist: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(average, "LISTED_AT_ONCE", 0)
    plan = LinkagePlan(chunk_rows=300, merge_rows=500, k=6)
    blocks, n, threshold = write_blocks(profiles, tmp_path), len(profiles), round(1 - max_dist, 10)
    if method == "average":
        linked = average.average_linkage(InPlace(), blocks, threshold, plan, str(tmp_path / "linkage"))
    else:
        linked = single.single_linkage(InPlace(), blocks, n, threshold, plan, str(tmp_path / "linkage"))
    table = scipy_linkage(profiles, method, metric="cosine")
    pairs, heights = merges_of(linked.merges)
    np.testing.assert_allclose(np.sort(heights), table[table[:, 2] <= max_dist, 2], atol=1e-6)
    wanted = fcluster(table, max_dist, "distance")
    group = np.arange(n)
    for a, b in pairs:
        group[group == group[b]] = group[a]
    assert len(np.unique(np.column_stack([group, wanted]), axis=0)) == len(np.unique(group)) == wanted.max()
    assert len(linked.active) > 1
    assert linked.active[0] == n
    if method == "average":
        genes = np.concatenate([GroupFiles.open(block.folder).gene for block in linked.finished])
        assert sorted(genes.tolist()) == sorted(np.unique(group, return_index=True)[1].tolist())
    assert linked.multiplied < n * n / 4


def test_more_equal_similarities_than_a_list_holds_still_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(average, "LISTED_AT_ONCE", 0)
    rows = np.column_stack([np.ones(20), np.eye(20)]) / np.sqrt(2)
    linked = average.average_linkage(
        InPlace(), write_blocks(rows, tmp_path), 0.5, LinkagePlan(5, 6, k=2), str(tmp_path / "linkage")
    )
    assert merges_of(linked.merges)[0].tolist() == [[0, i] for i in range(1, 20)]
    assert len(linked.active) <= 20


def joined(rows: NDArray[np.float64], size: list[int], threshold: float, where: Path) -> list[list[list[int]]]:
    """Pairs that refinement joins, round by round."""
    write_groups(str(where / "in"), rows, np.array(size), np.arange(len(rows)))
    blocks = refinement.directions_of(InPlace(), [Block(str(where / "in"), len(rows))], 2, str(where / "groups"))
    found: Any = refinement.refine(InPlace(), blocks, threshold, LinkagePlan(2, 4), str(where / "refine"))
    return [np.column_stack([table.keep, table.leave]).tolist() for table in TableFiles.open_all(found[2])]


def at(*degrees: float) -> NDArray[np.float64]:
    return np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def test_refinement_joins_all_reciprocal_pairs_of_a_round_then_looks_again(tmp_path: Path) -> None:
    threshold = float(np.cos(np.radians(12)))
    assert joined(at(0, 5, 15, 21, 80), [1] * 5, threshold, tmp_path / "a") == [[[0, 1], [2, 3]]]
    assert joined(at(0, 5, 13, 20, 80), [1, 9, 9, 1, 1], threshold, tmp_path / "b") == [[[0, 1], [2, 3]], [[0, 2]]]


def test_refinement_goes_by_direction_not_by_length_of_means(tmp_path: Path) -> None:
    rows = at(0, 5, 60) * np.array([[0.5], [0.9], [1.0]])
    assert joined(rows, [4, 2, 1], 0.9, tmp_path) == [[[0, 1]]]


def test_orphans_to_which_a_new_group_is_nearer_are_not_compared_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise makes groups of a genome less alike than their mean is to each of them."""
    n_compared = {100: 0, -1: 0}
    gather = refinement.gather_orphans

    def gather_orphans(*given: Any) -> int:
        n = gather(*given)
        n_compared[refinement.FEW_ORPHANS] += n
        return n

    monkeypatch.setattr(refinement, "gather_orphans", gather_orphans)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        rows = np.repeat(rng.normal(size=(3, 30)), 8, axis=0) + 0.5 * rng.normal(size=(24, 30))
        rows, size = rows / np.linalg.norm(rows, axis=1, keepdims=True), rng.integers(1, 4, 24).tolist()
        found = []
        for few in n_compared:
            monkeypatch.setattr(refinement, "FEW_ORPHANS", few)
            found.append(joined(rows, size, 0.7, tmp_path / f"{seed} {few}"))
        assert found[0] == found[1]
        assert len(found[0]) > 1
    assert n_compared[-1] < 0.8 * n_compared[100]


@pytest.mark.parametrize("task", ["linkage", "refinement"])
def test_a_task_that_keeps_its_files_in_memory_leaves_the_same_and_less(
    profiles: NDArray[np.float64], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    rows = profiles[:400]
    plan = asdict(LinkagePlan(chunk_rows=150, merge_rows=500, row_bytes=20_000))
    found, left = [], []
    for name in ("in memory", "in files"):
        where = tmp_path / name
        blocks = write_blocks(rows, where)
        folder = where / "here"
        if task == "refinement":
            given = [asdict(block) for block in refinement.directions_of(InPlace(), blocks, 400, str(where / "groups"))]
            answer = refinement.refine_alone(given, 0.6, plan, str(folder))
            kept = [*answer["blocks"][1:], *answer["joined"], answer["table"]]
        else:
            answer = average.finish_alone([asdict(block) for block in blocks], 0.6, plan, str(folder))
            kept = [*answer["merges"], *(block["folder"] for block in answer["finished"])]
        left.append(sum(path.is_file() for path in folder.rglob("*")))
        found.append([(Path(url) / FILE).read_bytes() for url in kept])
        monkeypatch.setattr(LinkagePlan, "holds_in_memory", lambda self, n: False)
    assert found[0] == found[1]
    assert len(found[0]) == left[0] < left[1]
