"""The approximate search: FAISS in the lists of the nearest pivots, and its recall."""

from __future__ import annotations

import numpy as np
import pytest

import cagdask
from cagdask.compute.runner import Runner
from cagdask.engine.linkage import rounds
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan, Linked, Round
from cagdask.engine.rows.files import Block, GroupFiles, smaller_form
from cagdask.engine.search import approximate
from cagdask.engine.search.neighbors import ListFiles
from cagdask.simulation.writing import simulate_abundance
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner


@pytest.fixture(scope="module")
def cohort() -> np.ndarray:
    return simulate_abundance(1500, 40, seed=3)[0]


def test_enough_probes_find_what_the_exact_search_finds(abundance_store: MakeStore, cohort: np.ndarray) -> None:
    store = abundance_store(cohort)
    exact = cagdask.find_cags(store, max_dist=0.2, client=InlineRunner())
    all_ = cagdask.find_cags(store, max_dist=0.2, search="approximate", probes=10_000, client=InlineRunner())
    np.testing.assert_array_equal(all_.gene_cag, exact.gene_cag)
    np.testing.assert_array_equal(all_.merge_height, exact.merge_height)
    assert all_.attrs["search_recall"] == 1
    assert not all_.attrs["certified"]
    assert exact.attrs["certified"]
    assert "search_recall" not in exact.attrs


@pytest.mark.parametrize("method", ["average", "single"])
def test_chunks_and_workers_do_not_change_the_result(
    abundance_store: MakeStore, cohort: np.ndarray, method: str, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = abundance_store(cohort)
    options = {"max_dist": 0.2, "search": "approximate", "probes": 2, "linkage": method, "refine": "none"}
    one = cagdask.find_cags(store, client=InlineRunner(), **options)
    other = cagdask.find_cags(store, client=runner, **options)
    plan = LinkagePlan(1300, 10**6, small=0)  # a component that is cut would show
    monkeypatch.setattr("cagdask.engine.plan.task_memory.EnginePlan.linkage", lambda _: plan)
    cut = cagdask.find_cags(store, client=InlineRunner(), **options)
    for result in (other, cut):
        for name in ("gene_cag", "merge_child", "merge_height"):
            assert result[name].values.tobytes() == one[name].values.tobytes(), name
        assert result.attrs["search_recall"] == one.attrs["search_recall"]
    assert 0.3 < one.attrs["search_recall"] < 1


def test_recall_is_that_of_the_definition(
    cohort: np.ndarray, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "RECALL_ROWS", 10_000)  # all of them
    here = str(tmp_path_factory.mktemp("recall"))
    rows = cohort[cohort.any(axis=1)].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    n, k, threshold = len(rows), 5, 0.8
    groups = GroupFiles(**smaller_form(rows)._asdict(), gene=np.arange(n), size=np.ones(n, np.int64))
    groups.write(f"{here}/block")
    account, this = Linked(), Round(InPlace(), LinkagePlan(300, 300), here, None, "round")
    chunked = rounds.order_rows(this, [Block(f"{here}/block", n)], threshold, seed=1)
    lists = rounds.search(this, chunked, k, account, probes=1)
    gene = np.concatenate([files.gene for files in GroupFiles.open_all(chunked.chunks)])
    row = np.concatenate([files.row for files in ListFiles.open_all(lists)])
    similarity = np.round(rows @ rows.T, 10)
    np.fill_diagonal(similarity, -2)
    n_true = n_found = 0
    for at, g in enumerate(gene):
        best = np.lexsort((np.arange(n), -similarity[g]))[:k]
        best = best[similarity[g, best] >= threshold]
        n_true += len(best)
        n_found += len(set(best.tolist()) & set(gene[row[at][row[at] >= 0]].tolist()))
    assert 0.2 < n_found / n_true < 1
    assert account.recall == pytest.approx(n_found / n_true, abs=1e-12)
