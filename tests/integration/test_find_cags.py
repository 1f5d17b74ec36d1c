"""find_cags from store to result store: exact, measured as defined, the same bytes however it is cut.

Killed or resumed.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage

from cagdask import storage
from cagdask.cags.clustering import find_cags
from cagdask.cags.cutting import cut
from cagdask.compute.connect import connect
from cagdask.compute.executor import Item, Outcome
from cagdask.compute.memory import WORKER_BASE, task_budget
from cagdask.compute.on_dask import OnDask
from cagdask.compute.runner import Runner
from cagdask.engine.linkage import average as linkage_loop
from cagdask.engine.linkage.rounds import LinkagePlan
from cagdask.engine.plan.task_memory import EnginePlan
from cagdask.errors import InputError, MemoryLimitError, ResumeError, SchemaError, StoreError
from cagdask.simulation.writing import simulate_abundance
from tests import reference
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, with_memory

Matrix = NDArray[np.float32]


@pytest.fixture(scope="module")
def cohort() -> Matrix:
    """600 genes x 60 samples with planted genomes at low coverage; some genes are in no sample, some in one."""
    return simulate_abundance(600, 60, coverage=0.5, seed=3)[0]


@pytest.fixture
def many_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even a small cohort go through the rounds that only large ones need."""

    planned = EnginePlan.linkage

    def plan(*args: Any) -> LinkagePlan:
        return replace(planned(*args), k=4, small=30)

    monkeypatch.setattr(EnginePlan, "linkage", plan)
    monkeypatch.setattr(linkage_loop, "LISTED_AT_ONCE", 0)


def limit(budget: int) -> int:
    """Memory of a worker that leaves a task this many bytes."""
    found = next(n for n in range(WORKER_BASE, 2 * WORKER_BASE, 1000) if task_budget(n) >= budget)
    assert task_budget(found) < budget + 1000
    return found


LITTLE = limit(250_000)
"""Blocks of about a hundred genes of the cohort; merging tasks of a few more."""


def digests(store: str) -> dict[str, str]:
    """Of every file of a folder."""
    root = Path(store)
    assert root.is_dir()
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# -- tables, by their definitions --------------------------------------------------------------------------------------


def tables(matrix: Matrix, method: str) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Profiles, the unfloored table, and what absent is in that."""
    x = np.where(matrix > 0, matrix.astype(np.float64), np.nan)
    if method == "clr":
        ratios = np.log10(x) - np.nanmean(np.log10(x), axis=0)
        floor = float(np.nanmin(ratios))
        return np.nan_to_num(ratios - floor), np.nan_to_num(ratios, nan=floor), floor
    if method == "none":
        table = x
    elif method == "median":
        table = x / np.nanmedian(x, axis=0)
    else:
        table = x / np.nansum(x, axis=0)
        table = np.sqrt(table) if method == "hellinger" else table
    return np.nan_to_num(table), np.nan_to_num(table), 0.0


def scipy_labels(profiles: NDArray[np.float64], left_out: NDArray[np.bool_], max_dist: float) -> NDArray[np.int64]:
    leader = np.arange(len(profiles))
    rows = np.flatnonzero(profiles.any(axis=1) & ~left_out)
    group = fcluster(scipy_linkage(profiles[rows], "average", metric="cosine"), max_dist, "distance")
    for g in np.unique(group):
        leader[rows[group == g]] = rows[group == g][0]
    return reference.naive_labels(leader, left_out)


@pytest.mark.parametrize("max_dist", [0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("method", ["sum", "median", "clr", "hellinger"])
def test_groups_are_those_of_scipy(
    cohort: Matrix, abundance_store: MakeStore, runner: Runner, many_rounds: None, method: str, max_dist: float
) -> None:
    found = find_cags(
        abundance_store(cohort), normalization=method, max_dist=max_dist, refine="none", min_samples=2, client=runner
    )
    left_out = (cohort > 0).sum(axis=1) < 2
    wanted = scipy_labels(tables(cohort, method)[0], left_out, max_dist)
    np.testing.assert_array_equal(found["gene_linkage_cag"].values, wanted)
    np.testing.assert_array_equal(found["gene_cag"].values, wanted)
    assert 1 < found.sizes["cag"] < (~left_out).sum()


@pytest.mark.parametrize(
    ("metric", "linkage"), [("spearman", "average"), ("correlation", "average"), ("cosine", "single")]
)
def test_other_metrics_and_single_linkage_equal_the_naive_reference(
    cohort: Matrix, abundance_store: MakeStore, many_rounds: None, metric: str, linkage: str
) -> None:
    matrix = cohort[:200, :20]
    found = find_cags(
        abundance_store(matrix), metric=metric, linkage=linkage, max_dist=0.4, refine_dist=0.3, client=InlineRunner()
    )
    left_out = ~(matrix > 0).any(axis=1)
    profiles = reference.unit_profiles(tables(matrix, "sum")[0], metric) * ~left_out[:, None]
    leader = reference.leaders_at(reference.naive_linkage(profiles, 0.6, linkage), len(matrix), 0.4)
    np.testing.assert_array_equal(found["gene_linkage_cag"].values, reference.naive_labels(leader, left_out))
    refined = reference.naive_refinement(profiles, leader, 0.7)
    np.testing.assert_array_equal(found["gene_cag"].values, reference.naive_labels(refined, left_out))


@pytest.mark.parametrize("refine", ["aggregate", "none"])
@pytest.mark.parametrize("method", ["sum", "clr"])
def test_every_measure_is_what_its_definition_says(
    cohort: Matrix, abundance_store: MakeStore, method: str, refine: str
) -> None:
    found = find_cags(
        abundance_store(cohort), normalization=method, max_dist=0.3, min_samples=3, refine=refine, client=InlineRunner()
    )
    profiles, table, absent = tables(cohort, method)
    label = found["gene_cag"].values
    left_out = (cohort > 0).sum(axis=1) < 3
    np.testing.assert_array_equal(label == -1, left_out)
    assert (found["gene_cag"] == found["gene_linkage_cag"]).all() == (refine == "none")
    np.testing.assert_allclose(found["gene_prevalence"], (cohort > 0).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["gene_mean_abundance"], table.mean(axis=1), rtol=1e-5)
    unit = reference.unit_profiles(profiles)
    for cag in range(found.sizes["cag"]):
        here = found.isel(cag=cag)
        members = np.flatnonzero(label == cag)
        n, abundance = len(members), table[members].mean(axis=0)
        above = np.where((cohort[members] > 0).any(axis=0), np.maximum(abundance - absent, 0), 0)
        share = above[above > 0] / above.sum() if above.sum() > 0 else np.ones(1)
        mean = unit[members].mean(axis=0)
        similarity = unit[members] @ unit[members].T
        assert int(here["cag_size"]) == n
        np.testing.assert_allclose(here["cag_abundance"], abundance, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(here["cag_prevalence"], (cohort[members] > 0).any(axis=0).mean(), rtol=1e-6)
        np.testing.assert_allclose(here["cag_mean_abundance"], abundance.mean(), rtol=1e-5)
        np.testing.assert_allclose(here["cag_std_abundance"], abundance.std(), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(here["cag_entropy"], -(share * np.log(share)).sum(), rtol=1e-3, atol=1e-3)
        cohesion = (similarity.sum() - n) / (n * (n - 1)) if n > 1 else 1.0
        np.testing.assert_allclose(here["cag_cohesion"], cohesion, rtol=1e-5)
        distance = 1 - unit[members] @ mean / np.linalg.norm(mean) if n > 1 else np.zeros(1)
        np.testing.assert_allclose(found["gene_cag_distance"][members], distance, atol=1e-6)
    assert (np.diff(found["cag_size"].values) <= 0).all()


def test_merge_tree_is_that_of_scipy(cohort: Matrix, abundance_store: MakeStore, runner: Runner) -> None:
    found = find_cags(abundance_store(cohort), max_dist=0.6, min_samples=4, client=runner)
    rows = np.flatnonzero((cohort > 0).sum(axis=1) >= 4)
    heights = scipy_linkage(tables(cohort, "sum")[0][rows], "average", metric="cosine")[:, 2]
    np.testing.assert_allclose(found["merge_height"], heights[heights <= 0.6], atol=1e-6)
    child = found["merge_child"].values
    assert len(np.unique(child)) == child.size
    assert (child < found.sizes["gene"] + np.arange(len(child))[:, None]).all()
    assert found.attrs["certified"]


def test_cut_gives_what_clustering_at_the_smaller_threshold_gives(
    cohort: Matrix, abundance_store: MakeStore, tmp_path: Path
) -> None:
    store, here = abundance_store(cohort), InlineRunner()
    find_cags(store, output=str(tmp_path / "high.zarr"), max_dist=0.5, client=here)
    low = find_cags(store, max_dist=0.2, refine="none", client=here)
    assert here.loaded == ["cagdask.cags.stages"] * 2
    again = cut(str(tmp_path / "high.zarr"), max_dist=0.2, store=store, client=here)
    np.testing.assert_array_equal(again["gene_cag"], low["gene_cag"])
    np.testing.assert_array_equal(again["merge_child"], low["merge_child"])
    np.testing.assert_array_equal(again["cag_abundance"], low["cag_abundance"])
    np.testing.assert_allclose(again["cag_cohesion"], low["cag_cohesion"], rtol=1e-6)


# -- the same bytes ----------------------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {"max_dist": 0.3, "normalization": "clr", "min_samples": 2}


@pytest.fixture
def wanted(cohort: Matrix, abundance_store: MakeStore, tmp_path: Path) -> dict[str, str]:
    """Files of a result made in one process, one block, one task after the other."""
    find_cags(abundance_store(cohort), output=str(tmp_path / "wanted.zarr"), client=InlineRunner(), **OPTIONS)
    return digests(str(tmp_path / "wanted.zarr"))


@pytest.mark.parametrize(("chunk_rows", "memory_limit"), [(7, 2**30), (7, LITTLE), (250, LITTLE), (None, LITTLE)])
def test_same_bytes_for_any_chunks_and_memory(
    cohort: Matrix,
    abundance_store: MakeStore,
    tmp_path: Path,
    wanted: dict[str, str],
    many_rounds: None,
    chunk_rows: int | None,
    memory_limit: int,
) -> None:
    store, output = abundance_store(cohort, chunk_rows=chunk_rows), str(tmp_path / "out.zarr")
    find_cags(store, output=output, client=InlineRunner(memory_limit=memory_limit), **OPTIONS)
    assert digests(output) == wanted


@pytest.mark.parametrize("linkage", ["average", "single"])
def test_same_bytes_for_one_worker_and_two(
    cohort: Matrix, abundance_store: MakeStore, tmp_path: Path, runner: Runner, many_rounds: None, linkage: str
) -> None:
    store, one, two = abundance_store(cohort, chunk_rows=90), str(tmp_path / "one.zarr"), str(tmp_path / "two.zarr")
    find_cags(store, output=one, linkage=linkage, client=InlineRunner(), **OPTIONS)
    find_cags(store, output=two, linkage=linkage, client=with_memory(runner, limit(700_000)), **OPTIONS)
    assert digests(one) == digests(two)


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(
    cohort: Matrix, abundance_store: MakeStore, tmp_path: Path, wanted: dict[str, str], many_rounds: None
) -> None:
    with connect(n_workers=2, memory_limit="1GiB") as own:
        victims = sorted(own.executor.client.run(os.getpid).values())[:1]

        class Deadly(OnDask):
            """Kills a worker after the first outcome of a search, while other tasks are on their way."""

            def _outcome(self, stage: str, future: Any, item: Item) -> Outcome:
                outcome = super()._outcome(stage, future, item)
                if stage == "clustering round 1: search neighbors" and victims:
                    os.kill(victims.pop(), signal.SIGKILL)
                return outcome

        deadly = with_memory(Runner(Deadly(own.executor.client, is_given=False)), limit(700_000))
        find_cags(abundance_store(cohort), output=str(tmp_path / "out.zarr"), client=deadly, **OPTIONS)
    assert not victims
    assert digests(str(tmp_path / "out.zarr")) == wanted


# -- interrupted -------------------------------------------------------------------------------------------------------


class Stopped(InlineRunner):
    """Ends with Ctrl-C at its n-th task."""

    def __init__(self, n: int) -> None:
        super().__init__(memory_limit=LITTLE)
        self.n = n

    def ends(self) -> None:
        if len(self.calls) > self.n:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on(
    cohort: Matrix, abundance_store: MakeStore, tmp_path: Path, many_rounds: None
) -> None:
    store = abundance_store(cohort)
    whole = InlineRunner(memory_limit=LITTLE)
    find_cags(store, output=str(tmp_path / "wanted.zarr"), client=whole, **OPTIONS)
    wanted = digests(str(tmp_path / "wanted.zarr"))
    for share in (0.05, 0.5, 0.99):
        output = str(tmp_path / f"out-{share}.zarr")
        stop = int(share * len(whole.calls))
        with pytest.raises(KeyboardInterrupt):
            find_cags(store, output=output, client=Stopped(stop), **OPTIONS)
        assert not os.path.exists(output)
        rest = InlineRunner(memory_limit=2**30)  # a machine with more memory goes on with the plan of the first
        find_cags(store, output=output, client=rest, **OPTIONS)
        assert len(rest.calls) <= len(whole.calls) - stop + 8  # what writes into the store is done again
        assert digests(output) == wanted
        assert not os.path.exists(output + ".work")


def test_unfinished_work_of_other_parameters_is_not_mixed_in(
    cohort: Matrix, abundance_store: MakeStore, tmp_path: Path, wanted: dict[str, str]
) -> None:
    store, output = abundance_store(cohort), str(tmp_path / "out.zarr")
    with pytest.raises(KeyboardInterrupt):
        find_cags(store, output=output, client=Stopped(12), **(OPTIONS | {"max_dist": 0.1}))
    with pytest.raises(ResumeError, match=r"differs in parameters.*`overwrite=True`"):
        find_cags(store, output=output, client=InlineRunner(), **OPTIONS)
    find_cags(store, output=output, client=InlineRunner(), overwrite=True, **OPTIONS)
    assert digests(output) == wanted


# -- refused -----------------------------------------------------------------------------------------------------------


def test_an_existing_output_is_left_alone(cohort: Matrix, abundance_store: MakeStore, tmp_path: Path) -> None:
    store, output, here = abundance_store(cohort), str(tmp_path / "out.zarr"), InlineRunner()
    find_cags(store, output=output, client=here, **OPTIONS)
    before = digests(output)
    here.calls.clear()
    with pytest.raises(StoreError, match=r"out\.zarr: is already there\. Add `overwrite=True`"):
        find_cags(store, max_dist=0.2, output=output, client=here)
    assert not here.calls
    with pytest.raises(KeyboardInterrupt):
        find_cags(store, max_dist=0.2, output=output, client=Stopped(30), overwrite=True)
    assert digests(output) == before
    find_cags(store, max_dist=0.2, output=output, client=here, overwrite=True)
    assert digests(output) != before


def test_no_gene_left_says_so_and_leaves_nothing(abundance_store: MakeStore, tmp_path: Path) -> None:
    store, output = abundance_store(np.eye(5)), str(tmp_path / "out.zarr")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match=r"no gene is left.*2 or more of 5 samples.*smaller `min_samples`"):
        find_cags(store, max_dist=0.2, output=output, min_samples=2, client=InlineRunner())
    assert sorted(os.listdir(tmp_path)) == before
    assert find_cags(store, max_dist=0.2, output=output, min_samples=1, client=InlineRunner()).sizes["cag"] == 5


def test_more_samples_asked_for_than_there_are(abundance_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`min_samples` is 6, but there are 5 samples"):
        find_cags(
            abundance_store(np.eye(5)),
            max_dist=0.2,
            output=str(tmp_path / "out.zarr"),
            min_samples=6,
            client=InlineRunner(),
        )
    assert not list(tmp_path.glob("out*"))


def test_a_normalized_table_is_not_normalized_again() -> None:
    ds = xr.Dataset(
        {"abundance": (("gene", "sample"), np.eye(3, dtype=np.float32))},
        {"gene_id": ("gene", list("abc")), "sample_id": ("sample", list("xyz"))},
        attrs={"normalization": "sum"},
    )
    here = InlineRunner()
    with pytest.raises(SchemaError, match=r"is normalized already, by sum. Use normalization none"):
        find_cags(ds, max_dist=0.2, normalization="sum", client=here)
    assert find_cags(ds, max_dist=0.2, normalization="none", client=here).sizes["cag"] == 3


@pytest.mark.parametrize("what", [{"max_dist": 1.0}, {"max_dist": -0.1}, {"max_dist": float("nan")}, {"metric": "l2"}])
def test_bad_parameters_name_themselves(abundance_store: MakeStore, tmp_path: Path, what: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`{next(iter(what))}` is ")):
        find_cags(abundance_store(np.eye(3)), output=str(tmp_path / "out.zarr"), client=InlineRunner(), **what)
    assert not list(tmp_path.glob("out*"))


def test_too_little_memory_is_refused_from_the_plan(cohort: Matrix, abundance_store: MakeStore, tmp_path: Path) -> None:
    here = InlineRunner(memory_limit=limit(20_000))
    with pytest.raises(MemoryLimitError, match=r"find components: one task needs .* Use `memory_limit='"):
        find_cags(abundance_store(cohort), max_dist=0.2, output=str(tmp_path / "out.zarr"), client=here)
    assert not here.calls
    assert not list(tmp_path.glob("out*"))


# -- small and odd -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linkage", ["average", "single"])
@pytest.mark.parametrize(
    ("matrix", "labels"),
    [
        ([[2, 1]], [0]),
        ([[2], [1], [0]], [0, 0, -1]),
        ([[2, 1], [4, 2]], [0, 0]),
        (np.eye(4), [0, 1, 2, 3]),
        ([[0, 0], [0, 3], [3, 0], [0, 1]], [-1, 0, 1, 0]),
        (np.ones((6, 3)), [0] * 6),
    ],
)
def test_small_tables(abundance_store: MakeStore, matrix: Any, labels: list[int], linkage: str) -> None:
    method = "sum" if linkage == "average" else "none"
    found = find_cags(
        abundance_store(matrix), max_dist=0.2, normalization=method, linkage=linkage, client=InlineRunner()
    )
    assert found["gene_cag"].values.tolist() == labels


def test_a_gene_at_the_floor_in_all_its_samples_is_alone(abundance_store: MakeStore) -> None:
    matrix = np.array([[1, 0, 1], [100, 10, 100], [0, 10, 100], [1, 0, 1]], np.float32)
    found = find_cags(abundance_store(matrix), max_dist=0.2, normalization="clr", clr_floor=0.5, client=InlineRunner())
    assert found["gene_cag"].values.tolist().count(found["gene_cag"].values[0]) == 1
    assert found["gene_cag_distance"].values[0] == 0


def test_a_dataset_gives_what_its_store_gives(cohort: Matrix, abundance_store: MakeStore) -> None:
    store, here = abundance_store(cohort), InlineRunner()
    from_store = find_cags(store, max_dist=0.2, client=here)
    from_dataset = find_cags(storage.open_dataset(store), max_dist=0.2, client=here)
    xr.testing.assert_identical(from_store.drop_attrs(), from_dataset.drop_attrs())
