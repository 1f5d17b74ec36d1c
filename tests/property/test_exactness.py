"""The engine equals a naive reference on whatever Hypothesis draws, and SciPy wherever no two distances tie."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage

from cagdask.cags import results
from cagdask.cags.stages import similarity_of
from cagdask.engine.linkage import average, refinement, single, tree
from cagdask.engine.linkage.components import roots_of
from cagdask.engine.linkage.refinement_table import TableFiles
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan, Linked
from cagdask.engine.rows import files, profiles
from cagdask.engine.rows.files import Block, FoldFiles, ProfileFiles, smaller_form
from cagdask.engine.search import pivots
from tests import reference
from tests.strategies import abundance_matrices, chunkings, planted_matrices

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

METRICS = st.sampled_from(["cosine", "correlation", "spearman"])
LINKAGES = st.sampled_from(["average", "single"])
ROOT_HALF = 1 - 1 / np.sqrt(2)  # distance of (1, 0) and (1, 1)
MAX_DISTS = st.sampled_from([0.0, 0.1, 0.2, ROOT_HALF, 0.3, 0.5, 0.9])


MOST_BLOCKS = 14
"""Tasks grow with the square of the number of blocks, and what can go wrong between two of them does not."""


@dataclass(frozen=True)
class Plan:
    """How a run is cut into tasks: nothing of this may show in the result."""

    chunks: tuple[int, ...]
    block_rows: int = 1000
    merge_rows: int = 1000
    k: int = 16
    sizes: tuple[int, int] | None = None
    n_pivots: int = 1
    fringe: float = 0.1
    sparse_below: float = 0.3
    level: int = 0

    def cut(self, own: Float64, *_: object) -> tuple[float, float]:
        """Angle beyond which about the share ``fringe`` of all rows lie."""
        return (float(np.quantile(own, 1 - self.fringe)) if self.fringe < 1 else -1.0), 1.0

    def choose_level(self, costs: dict[float, float], _: int) -> float:
        """The threshold, or one of the levels above it."""
        return sorted(costs)[min(self.level, len(costs) - 1)]


@st.composite
def plans(draw: st.DrawFn, n: int) -> Plan:
    sizes = st.sampled_from([2, 3, 5, 8, 1000])
    return Plan(
        chunks=draw(chunkings(n)),
        block_rows=draw(st.sampled_from([rows for rows in (1, 2, 3, 5, 8, 1000) if n <= MOST_BLOCKS * rows])),
        merge_rows=draw(sizes),
        k=draw(st.sampled_from([1, 2, 3, 8, 32])),
        sizes=draw(st.sampled_from([None, (1, 1), (1, 3), (2, 2), (64, 64)])),
        n_pivots=draw(st.sampled_from([1, 1, 2, 5, 70])),
        fringe=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),  # lists only, some fringe, fringe only
        sparse_below=draw(st.sampled_from([0.0, 0.3, 1.1])),  # never, sometimes, always
        level=draw(st.integers(0, 3)),
    )


def one_bit_apart(n: int = 6) -> Float64:
    """Rows that differ in the last bit of a float32."""
    files = np.tile(np.array([1, 2, 4, 0, 3], np.float32), (n, 1))
    for i in range(n):
        files[i, i % 5] = np.nextafter(files[i, i % 5], np.float32(9), dtype=np.float32)
    return files.astype(np.float64)


def pairs_of_samples(n: int) -> Float64:
    """All rows with two ones: every similarity is 0 or 1/2, each row has 2 (n - 2) nearest."""
    i, j = np.triu_indices(n, 1)
    return np.eye(n)[i] + np.eye(n)[j]


def core_and_one(n: int) -> Float64:
    """Rows that share one sample and have one each: all are equally near."""
    return np.column_stack([np.ones(n), np.eye(n)])


FAMILIES = {
    "one gene": np.array([[1.0, 2.0]]),
    "two genes": np.array([[1.0, 2.0], [2.0, 1.0]]),
    "two equal genes": np.array([[1.0, 2.0], [2.0, 4.0]]),
    "one sample": np.array([[1.0], [3.0], [0.0], [7.0]]),
    "all equal": np.ones((7, 4)),
    "all zero": np.zeros((5, 3)),
    "orthogonal": np.eye(9),
    "orthogonal twice": np.concatenate([np.eye(6), np.eye(6)]),
    "pairs of samples": pairs_of_samples(6),
    "core and one": core_and_one(12),
    "core and one, twice": np.kron(np.eye(2), core_and_one(6)),
    "all subsets of four samples": np.array([[(i >> j) & 1 for j in range(4)] for i in range(16)], np.float64),
    "one bit apart": one_bit_apart(),
    "steps": np.tril(np.ones((12, 12))),
    "opposite": np.array([[1.0, 2, 3], [3, 2, 1], [1, 2, 3.5], [3.5, 2, 1], [1, 1, 1]]),
    "tiny and large": np.array(
        [[1e-45, 1e30, 0], [1e-45, 0, 1e30], [0, 1e30, 1e30], [1e-45, 0, 0], [1e30, 1e30, 1e30]]
    ),
}


@st.composite
def matrices(draw: st.DrawFn) -> Float64:
    drawn = draw(st.one_of(planted_matrices(max_genes=40), abundance_matrices(max_genes=30), binary_matrices()))
    return np.asarray(drawn, np.float64)


@st.composite
def binary_matrices(draw: st.DrawFn) -> NDArray[np.float32]:
    """Presence and absence only: large families of equal similarities."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(2, 40)), draw(st.integers(1, 7))
    return (rng.random(shape) < draw(st.sampled_from([0.2, 0.5, 0.8]))).astype(np.float32)


# -- the engine, run in place ----------------------------------------------------------------------------------------


@dataclass
class Found:
    """What the engine wrote, as arrays."""

    child: Int64
    height: Float64
    first_gene: Int64
    unit: Float64
    first: Int64
    finished: list[Block] = field(default_factory=list)

    def cut(self, max_dist: float) -> Int64:
        """Labels at a smaller threshold."""
        return reference.naive_labels(tree.cut_merges(self.child, self.height, len(self.first_gene), max_dist))


def write_profiles(
    values: Float64, metric: str, chunks: tuple[int, ...], folder: str
) -> tuple[list[Block], str, Float64]:
    """Blocks of unit profiles and their fold, as the engine's tasks write them from a store."""
    ends = np.cumsum(chunks)
    multipliers = np.random.default_rng(0).integers(1, 2**63, (2, values.shape[1]), dtype=np.uint64) | np.uint64(1)
    urls, everything = [], []
    for i, (end, size) in enumerate(zip(ends, chunks, strict=True)):
        unit = profiles.unit_profiles(values[end - size : end].copy(), metric)
        everything.append(unit)
        mark = np.where(unit.any(axis=1), 0, profiles.ZERO).astype(np.int8)
        rows = unit[mark == 0]
        keys = np.zeros((len(rows), 2), np.uint64)
        profiles.row_keys(rows, multipliers, keys)
        gene = end - size + np.flatnonzero(mark == 0)
        urls.append(f"{folder}/profiles/{i}")
        ProfileFiles(**smaller_form(rows)._asdict(), gene=gene, keys=keys, mark=mark).write(urls[-1])
    fold = f"{folder}/fold"
    profiles.fold_identical(urls, len(values), fold)
    blocks = [Block(url, n, fold) for url in urls if (n := profiles.count_members(url, fold))]
    return blocks, fold, np.concatenate(everything)


def run(
    values: Float64, metric: str, method: str, max_dist: float, plan: Plan, tmp_path: Path, *, keep: bool = False
) -> Found:
    """Profiles, linkage and merge tree; ``keep`` leaves the blocks of finished groups where they are."""
    here = tempfile.mkdtemp(dir=tmp_path)
    threshold = similarity_of(max_dist)
    sizes = LinkagePlan(plan.block_rows, plan.merge_rows, k=plan.k, sizes=plan.sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(average, "LISTED_AT_ONCE", 0)  # else few rows get long lists
        patch.setattr(single, "K", plan.k)
        patch.setattr(pivots, "n_pivots_for", lambda n: min(n, plan.n_pivots))
        patch.setattr(pivots, "choose_cut", plan.cut)
        patch.setattr(pivots, "choose_level", plan.choose_level)
        patch.setattr(pivots, "ROUND_NS", 0.0)
        patch.setattr(files, "SPARSE_BELOW", plan.sparse_below)
        blocks, fold, unit = write_profiles(values, metric, plan.chunks, here)
        linked: Linked
        if method == "single":
            linked = single.single_linkage(InPlace(), blocks, len(values), threshold, sizes, f"{here}/linkage")
        else:
            linked = average.average_linkage(InPlace(), blocks, threshold, sizes, f"{here}/linkage")
    results.write_tree(linked.merges, fold, len(values), method, f"{here}/tree")
    made, first = results.TreeFiles.open(f"{here}/tree"), np.array(FoldFiles.open(fold).first)
    child, height, first_gene = np.array(made.child), np.array(made.height), np.array(made.first_gene)
    if not keep:
        shutil.rmtree(here)
    return Found(child, height, first_gene, unit, first, linked.finished)


# -- against the naive reference ---------------------------------------------------------------------------------------


def check_reference(values: Float64, metric: str, method: str, max_dist: float, plan: Plan, tmp_path: Path) -> None:
    found = run(values, metric, method, max_dist, plan, tmp_path)
    wanted = reference.naive_linkage(reference.unit_profiles(values, metric), similarity_of(max_dist), method)
    np.testing.assert_allclose(np.sort(found.height), np.sort(wanted.height), atol=1e-6)
    assert (np.diff(found.height) >= 0).all()
    for cut in (max_dist, max_dist / 2, 0.05, 0.25, 0.45):
        if cut <= max_dist:
            labels = reference.naive_labels(reference.leaders_at(wanted, len(values), cut))
            np.testing.assert_array_equal(found.cut(cut), labels, err_msg=f"cut at {cut}")


@given(st.data())
@settings(max_examples=3 * settings().max_examples)
def test_engine_equals_the_naive_reference(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(matrices(), label="values")
    plan = data.draw(plans(len(values)), label="plan")
    metric, method = data.draw(METRICS, label="metric"), data.draw(LINKAGES, label="linkage")
    check_reference(values, metric, method, data.draw(MAX_DISTS, label="max_dist"), plan, tmp_path)


@pytest.mark.parametrize("method", ["average", "single"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_equal_similarities(family: str, method: str, tmp_path: Path) -> None:
    values = FAMILIES[family]
    n = len(values)
    pieces = Plan((n,) if n == 1 else (n // 2, n - n // 2), block_rows=3, merge_rows=4, k=2, sizes=(2, 3), n_pivots=3)
    cosine = [("cosine", max_dist) for max_dist in (0.0, ROOT_HALF, 0.9)]
    for metric, max_dist in [*cosine, ("correlation", 0.5), ("spearman", 0.5)]:
        check_reference(values, metric, method, max_dist, pieces, tmp_path)
    check_reference(values, "cosine", method, 0.9, Plan((n,)), tmp_path)


# -- against SciPy -----------------------------------------------------------------------------------------------------


@given(st.data())
def test_engine_equals_scipy_where_nothing_ties(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(planted_matrices(max_genes=40, distinct=True), label="values").astype(np.float64)
    metric, method = data.draw(METRICS, label="metric"), data.draw(LINKAGES, label="linkage")
    max_dist = data.draw(MAX_DISTS, label="max_dist")
    unit = reference.unit_profiles(values, metric)
    wanted = reference.naive_linkage(unit, similarity_of(max_dist), method)
    assume(not wanted.ties and not wanted.unclear and (unit.any(axis=1)).sum() > 1)
    found = run(values, metric, method, max_dist, data.draw(plans(len(values)), label="plan"), tmp_path)
    with_profile = np.flatnonzero(unit.any(axis=1))
    table = scipy_linkage(unit[with_profile], method=method, metric="cosine")
    np.testing.assert_allclose(found.height, table[: len(found.height), 2], atol=1e-6)
    for cut in (max_dist, max_dist / 2):
        if np.abs(table[:, 2] - cut).min() > 1e-9:
            leader = np.arange(len(values))
            groups_of = fcluster(table, cut, "distance")
            for group in np.unique(groups_of):
                members = with_profile[groups_of == group]
                leader[members] = members[0]
            np.testing.assert_array_equal(found.cut(cut), reference.naive_labels(leader))


# -- laws --------------------------------------------------------------------------------------------------------------


@given(st.data())
def test_merge_table_is_the_same_bytes_for_any_plan(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(matrices(), label="values")
    metric, method = data.draw(METRICS, label="metric"), data.draw(LINKAGES, label="linkage")
    max_dist = data.draw(MAX_DISTS, label="max_dist")
    one = run(values, metric, method, max_dist, Plan((len(values),)), tmp_path)
    plan = data.draw(plans(len(values)), label="plan")
    if method == "single":
        plan = replace(plan, k=16)  # of links that tie, other lists may hold others
    other = run(values, metric, method, max_dist, plan, tmp_path)
    for name in ("unit", "first", "child", "height", "first_gene"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


@given(st.data())
def test_gene_order_does_not_matter_where_nothing_ties(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(planted_matrices(max_genes=40, distinct=True), label="values").astype(np.float64)
    metric, method = data.draw(METRICS, label="metric"), data.draw(LINKAGES, label="linkage")
    max_dist = data.draw(MAX_DISTS, label="max_dist")
    wanted = reference.naive_linkage(reference.unit_profiles(values, metric), similarity_of(max_dist), method)
    assume(not wanted.ties and not wanted.unclear)
    order = np.array(data.draw(st.permutations(range(len(values))), label="order"))
    one = run(values, metric, method, max_dist, Plan((len(values),)), tmp_path)
    other = run(values[order], metric, method, max_dist, data.draw(plans(len(values)), label="plan"), tmp_path)
    back = np.empty(len(values), np.int64)
    back[order] = order[other.first_gene]  # some member of each gene's group, by its name in the first run
    smallest = np.array([np.flatnonzero(back == b)[0] for b in back])
    np.testing.assert_array_equal(smallest, one.first_gene)


@given(st.data())
def test_cutting_lower_only_splits(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(matrices(), label="values")
    found = run(values, "cosine", data.draw(LINKAGES), 0.9, data.draw(plans(len(values))), tmp_path)
    low, high = sorted(data.draw(st.tuples(MAX_DISTS, MAX_DISTS)))
    below, above = found.cut(low), found.cut(high)
    for label in np.unique(below):
        assert len(np.unique(above[below == label])) == 1


EQUALLY_NEAR = """
    1111100 1110110 1101111 1111001 1110101 1001111 1011001 0111111 1011110 1100111 1111011 1111011
    1101111 0111111 0111101 1111110 1111111 1010111 0111111 0110111 1111011 1110110 1110111 1110111
    1111011 1100001 1010111 1110111 1110111 0111001 1111110 1011100 1111111 1011111
"""


@pytest.mark.timeout(60)
def test_a_component_that_is_cut_among_equals_still_ends(tmp_path: Path) -> None:
    """Two rows at a time, of many that are equally near: no pair of them proves anything, for ever, with two."""
    values = np.array([[int(bit) for bit in row] for row in EQUALLY_NEAR.split()], np.float64)
    plan = Plan(
        chunks=(11, 7, 1, 1, 14), block_rows=5, merge_rows=2, k=8, sizes=(2, 2), n_pivots=1, fringe=0.0,
        sparse_below=0.0, level=1,
    )  # fmt: skip
    check_reference(values, "correlation", "average", 0.5, plan, tmp_path)


# -- refinement --------------------------------------------------------------------------------------------------------


@given(st.data())
def test_refinement_equals_the_naive_reference(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(matrices(), label="values")
    metric = data.draw(METRICS, label="metric")
    max_dist, refine_dist = data.draw(st.tuples(MAX_DISTS, st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.9])), label="dists")
    plan = data.draw(plans(len(values)), label="plan")
    found = run(values, metric, "average", max_dist, plan, tmp_path, keep=True)
    assume(found.finished)
    here = tempfile.mkdtemp(dir=tmp_path)
    sizes = LinkagePlan(plan.block_rows, plan.merge_rows, k=plan.k, sizes=plan.sizes)
    found_groups = refinement.directions_of(InPlace(), found.finished, plan.block_rows, f"{here}/groups")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pivots, "n_pivots_for", lambda n: min(n, plan.n_pivots))
        patch.setattr(pivots, "choose_cut", plan.cut)
        patch.setattr(pivots, "choose_level", plan.choose_level)
        patch.setattr(pivots, "ROUND_NS", 0.0)
        patch.setattr(files, "SPARSE_BELOW", plan.sparse_below)
        patch.setattr(refinement, "FEW_ORPHANS", data.draw(st.sampled_from([-1, 512]), label="few orphans"))
        _, table, joined, _ = refinement.refine(
            InPlace(), found_groups, similarity_of(refine_dist), sizes, f"{here}/refine"
        )
    parent = np.arange(len(values))
    for pairs in TableFiles.open_all(joined):
        parent[pairs.leave] = pairs.keep
    wanted = reference.naive_refinement(
        reference.unit_profiles(values, metric), found.first_gene, similarity_of(refine_dist)
    )
    np.testing.assert_array_equal(roots_of(parent)[found.first_gene], wanted)
    np.testing.assert_array_equal(TableFiles.open(table).gene, np.unique(wanted[found.first >= 0]))
