"""Two-pass clustering against its definition, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist, squareform

from cagdask import storage
from cagdask.errors import InputError, MemoryLimitError, SchemaError, StoreError, TaskError
from cagdask.twopass import sample, sources
from cagdask.twopass.two_pass import label_by_leaders, two_pass
from tests.conftest import MakeStore, write_abundance_store
from tests.inline_runner import InlineRunner, memory_for
from tests.result_store import write_result_store

Matrix = NDArray[Any]
Table = Callable[..., str]


def planted(n: int, k: int, d: int = 5, seed: int = 0, spread: float = 0.5) -> tuple[Matrix, Matrix]:
    """Points around ``k`` centers, and their centers' numbers."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    points = rng.normal(0, 4, (k, d))[truth] + rng.normal(0, spread, (n, d))
    return points.astype(np.float32).astype(np.float64), truth


def same_partition(a: Any, b: Any) -> bool:
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A function that writes a matrix as Parquet with names in the first column."""

    def make(matrix: Any, name: str = "items", row_group: int | None = None, names: Any = None) -> str:
        frame = pd.DataFrame(np.asarray(matrix), columns=[f"x{j}" for j in range(np.shape(matrix)[1])])
        frame.insert(0, "name", names if names is not None else [f"item {i}" for i in range(len(frame))])
        url = tmp_path / f"{name}.parquet"
        frame.to_parquet(url, index=False, row_group_size=row_group)
        return str(url)

    return make


# -- the definition --------------------------------------------------------------------------------------------------


def by_definition(x: Matrix, rows: Matrix, k: int, metric: str, method: str) -> tuple[Matrix, Matrix, Matrix]:
    """Clusters of the sample, leaders (two medoids each), label of everything, in the plainest way."""
    between = pdist(x[rows], metric)
    found = fcluster(
        linkage(np.sqrt(2 * between) if method == "ward" and metric != "euclidean" else between, method), k, "maxclust"
    )
    clusters = sorted((np.flatnonzero(found == c) for c in np.unique(found)), key=lambda m: (-len(m), m[0]))
    if method == "ward" and metric != "euclidean":
        between = np.sqrt(2 * between)
    square, leaders, of, first = squareform(between), [], [], np.zeros(len(rows), int)
    for c, members in enumerate(clusters, start=1):
        first[members] = c
        medoid = min(members, key=lambda i: round(square[i, members].sum(), 9))
        both = [medoid]
        if len(members) > 1:
            rest = [i for i in members if i != medoid]
            to_both = np.minimum(square, square[medoid])
            both.append(min(rest, key=lambda i: round(to_both[i, members].sum(), 9)))
        leaders += both
        of += [c] * len(both)
    to = cdist(x, x[rows[np.array(leaders)]], metric)
    return first, rows[np.array(leaders)], np.array(of)[to.argmin(axis=1)]


@settings(max_examples=6)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["euclidean", "cosine", "correlation"]),
    st.sampled_from(["ward", "average", "complete"]),
    st.integers(1, 5),
)
def test_labels_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, seed: int, metric: str, method: str, k: int
) -> None:
    x, _ = planted(90, 4, seed=seed, spread=1.5)
    url = str(tmp_path_factory.mktemp("defined") / "items.zarr")
    write_abundance_store(url, x.astype(np.float32), kind="expression")
    ds = two_pass(url, k=k, stride=3, metric=metric, linkage=method, client=InlineRunner())
    first, leaders, label = by_definition(x, np.arange(0, 90, 3), k, metric, method)
    assert ds.draw_cluster.values.tolist() == first.tolist()
    assert ds.leader_row.values.tolist() == leaders.tolist()
    assert ds.item_cluster.values.tolist() == label.tolist()
    to = cdist(x, x[leaders], metric)
    np.testing.assert_allclose(ds.item_distance.values, np.maximum(to.min(axis=1), 0), atol=1e-6)
    if k > 1:
        of = ds.leader_cluster.values
        others = [to[i, of != label[i]].min() - to[i].min() for i in range(90)]
        np.testing.assert_allclose(ds.item_margin.values, others, atol=1e-6)
    else:
        assert np.isnan(ds.item_margin.values).all()


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
def test_ward_joins_directions_by_their_chords(table: Table, metric: Any) -> None:
    x, _ = planted(40, 3, spread=1.5)
    ds = two_pass(table(x), k=3, metric=metric, client=InlineRunner())
    expected = linkage(np.sqrt(2 * pdist(x, metric)), "ward")
    np.testing.assert_allclose(ds.merge_height.values, expected[:, 2], rtol=1e-9)


def test_the_notebook_clusters_rows_of_the_square_matrix(table: Table) -> None:
    x, _ = planted(60, 3, spread=2.0)
    ds = two_pass(table(x), k=3, compat="mdtraj-notebook", seed=4, client=InlineRunner())
    rows = np.arange(0, 60, 5)
    with pytest.warns(match="uncondensed distance matrix"):
        merges = linkage(squareform(pdist(x[rows])), "ward")
    first = fcluster(merges, t=3, criterion="maxclust")
    assert ds.draw_cluster.values.tolist() == first.tolist()
    rng = np.random.RandomState(4)
    leaders, of = [], []
    for c in dict.fromkeys(first.tolist()):
        leaders += rng.choice(np.flatnonzero(first == c), 2).tolist()
        of += [c, c]
    assert ds.leader_row.values.tolist() == rows[leaders].tolist()
    assert ds.leader_cluster.values.tolist() == of
    assert ds.item_cluster.values.tolist() == np.array(of)[cdist(x, x[rows[leaders]]).argmin(axis=1)].tolist()


def test_leaders_by_rule() -> None:
    x = np.array([0.0, 1, 2, 3, 10, 50])[:, None]
    between, members = pdist(x), np.arange(6)
    assert sample.central(between, 6, members, 1) == [2]  # sums: 66, 62, 60, 60, 74, 234; the first of equal ones
    assert sample.central(between, 6, members, 9) == [2, 5, 4, 0, 1, 3]
    assert sample.spread(between, 6, members, 3) == [2, 5, 4]
    assert sample.spread(between, 6, np.array([1, 2]), 3) == [1, 2]


def test_duplicates_do_not_lead_twice_before_others() -> None:
    x = np.zeros((4, 1))
    assert sample.central(pdist(x), 4, np.arange(4), 3) == [0, 1, 2]
    assert sample.spread(pdist(x), 4, np.arange(4), 3) == [0, 1, 2]


def test_random_leaders_are_members_and_differ(table: Table) -> None:
    x, _ = planted(80, 3)
    found = [
        two_pass(table(x), k=3, leader_rule="random", n_leaders=4, seed=seed, client=InlineRunner(), n_workers=1)
        for seed in (0, 0, 1)
    ]
    for ds in found:
        drawn = dict(zip(ds.draw_row.values.tolist(), ds.draw_cluster.values.tolist(), strict=True))
        assert [drawn[row] for row in ds.leader_row.values.tolist()] == ds.leader_cluster.values.tolist()
        assert len(set(ds.leader_row.values.tolist())) == 12
    assert found[0].leader_row.values.tolist() == found[1].leader_row.values.tolist()
    assert found[0].leader_row.values.tolist() != found[2].leader_row.values.tolist()


def test_a_drawn_sample_is_sorted_seeded_and_without_repeats() -> None:
    recipe = sample.Recipe(3, None, 50, "euclidean", "ward", 2, "medoid", 7, None)
    rows = sample.drawn_items(1000, recipe)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == 50
    assert rows.tolist() == sample.drawn_items(1000, recipe).tolist()
    assert sample.drawn_items(20, recipe).tolist() == list(range(20))


# -- sources ---------------------------------------------------------------------------------------------------------


def test_every_source_of_the_same_items_gives_the_same_labels(
    tmp_path: Path, abundance_store: MakeStore, table: Table
) -> None:
    x = np.abs(planted(70, 3, d=6)[0])
    expected = two_pass(table(x), k=3, client=InlineRunner()).item_cluster.values
    genes = abundance_store(x)
    turned = abundance_store(x.T, chunk_rows=2)
    cags = write_result_store(str(tmp_path / "r" / "cags.zarr"), list(range(70)), n_samples=6)
    storage.open_array(cags, "cag_abundance", writable=True)[...] = x
    for source, of in (
        (genes, None),
        (genes, "genes"),
        (turned, "samples"),
        (cags, None),
        (str(tmp_path / "r"), "cags"),
    ):
        ds = two_pass(source, k=3, of=of, client=InlineRunner())
        assert ds.item_cluster.values.tolist() == expected.tolist(), (source, of)
    ds = two_pass(turned, k=3, of="samples", client=InlineRunner())
    assert ds.item_id.values[:2].tolist() == ["sample_000", "sample_001"]
    assert ds.feature_id.values[:2].tolist() == ["gene_000000", "gene_000001"]


def test_an_embedding_has_rows_too(tmp_path: Path) -> None:
    x, truth = planted(60, 3)
    url = str(tmp_path / "vectors.zarr")
    group = storage.create_group(url, {"schema_version": 1, "kind": "embedding"})
    storage.write_array(group, "embedding", x.astype(np.float32))
    storage.write_array(group, "gene_id", np.array([f"g{i}" for i in range(60)], object))
    assert same_partition(two_pass(url, k=3, client=InlineRunner()).item_cluster.values, truth)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_chunks_and_blocks_change_no_byte(tmp_path: Path, abundance_store: MakeStore, metric: str) -> None:
    x = np.abs(planted(24, 4, spread=2.0)[0])
    found = set()
    for i, (chunk, block) in enumerate(((1, None), (7, 7), (1000, None), (25, 1))):
        output = tmp_path / f"labels-{i}"
        two_pass(
            abundance_store(x, chunk_rows=chunk),
            k=4,
            metric=metric,
            stride=4,
            block=block,
            output=str(output),
            client=InlineRunner(),
        )
        found.add((output / "labels.parquet").read_bytes())
        found |= {(output / "leaders.zarr" / name / "c" / "0").read_bytes() for name in ("leader_row", "merge_height")}
    assert len(found) == 3


def test_row_groups_change_no_byte(table: Table, tmp_path: Path) -> None:
    x, _ = planted(40, 3)
    found = set()
    for group in (1, 7, 1000):
        url = str(tmp_path / f"out-{group}")
        two_pass(table(x, row_group=group), k=3, stride=2, output=url, client=InlineRunner())
        found.add((Path(url) / "labels.parquet").read_bytes())
    assert len(found) == 1


# -- what it writes --------------------------------------------------------------------------------------------------


def test_files_of_a_folder(table: Table, tmp_path: Path) -> None:
    x, truth = planted(100, 3)
    output = tmp_path / "clusters"
    ds = two_pass(table(x), k=3, stride=4, output=str(output), client=InlineRunner())
    report = json.loads((output / "twopass.json").read_text())
    assert sorted(path.name for path in output.iterdir()) == sorted(report["files"])
    for name in ("dendrogram.png", "distances.png", "sizes.png"):
        assert (output / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    frame = pd.read_parquet(output / "labels.parquet")
    assert list(frame) == ["id", "cluster", "distance", "margin"]
    assert frame.id.tolist() == [f"item {i}" for i in range(100)]
    assert same_partition(frame.cluster, truth)
    assert frame.cluster.tolist() == ds.item_cluster.values.tolist()
    assert sorted(report["sizes"]) == sorted(np.bincount(truth).tolist())
    assert report["drawn_sizes"] == sorted(report["drawn_sizes"], reverse=True)
    assert report["kept_first_label"] == 1.0
    assert sum(report["distance_counts"]) == 100
    assert not Path(f"{output}.work").exists()


def test_max_dist_leaves_outliers_unassigned(table: Table) -> None:
    x, _ = planted(60, 3, spread=0.1)
    x[17] = 100
    free = two_pass(table(x), k=3, stride=2, client=InlineRunner())
    held = two_pass(table(x), k=3, stride=2, max_dist=5.0, client=InlineRunner())
    assert free.item_cluster.values[17] > 0
    assert np.flatnonzero(held.item_cluster.values == 0).tolist() == [17]
    assert held.item_distance.values[17] == free.item_distance.values[17] > 5
    assert held.cluster_size.values[0] == 1
    assert held.cluster_size.values.sum() == 60


def test_leaders_label_new_items_with_features_in_any_order(
    table: Table, abundance_store: MakeStore, tmp_path: Path
) -> None:
    x, truth = planted(200, 3)
    names = [f"x{j}" for j in range(5)]
    fitted = tmp_path / "fitted"
    ds = two_pass(table(x[:100]), k=3, output=str(fitted), client=InlineRunner())
    new = tmp_path / "new.parquet"
    frame = pd.DataFrame(x[100:], columns=names)[names[::-1]]
    frame.insert(0, "id", range(100, 200))
    frame.to_parquet(new, index=False)
    for leaders in (fitted, fitted / "leaders.zarr"):
        labels = label_by_leaders(str(new), leaders=str(leaders), client=InlineRunner())
        both = np.concatenate([ds.item_cluster.values, labels.item_cluster.values])
        assert same_partition(both, truth)
        assert labels.item_id.values[0] == "100"
    again = label_by_leaders(table(x[:100]), leaders=str(fitted), output=str(tmp_path / "again"), client=InlineRunner())
    for name in ("item_cluster", "item_distance", "item_margin"):
        assert again[name].values.tobytes() == ds[name].values.tobytes()
    files = {path.name for path in (tmp_path / "again").iterdir()}
    assert files == {"labels.zarr", "labels.parquet", "distances.png", "sizes.png", "twopass.json"}


def test_zero_rows_have_no_direction(table: Table) -> None:
    x, _ = planted(40, 2)
    x[[4, 9]] = 0
    ds = two_pass(table(x), k=2, stride=2, metric="cosine", client=InlineRunner())
    assert np.flatnonzero(np.isnan(ds.item_distance.values)).tolist() == [4, 9]
    assert ds.item_cluster.values[[4, 9]].tolist() == [0, 0]
    assert ds.draw_cluster.values[2] == 0
    report = json.loads(ds.attrs["report"])
    assert report["n_without_direction"] == 2
    assert any("2 rows have no direction" in note and "'item 4'" in note for note in report["notes"])
    euclidean = two_pass(table(x), k=2, stride=2, client=InlineRunner())
    assert (euclidean.item_cluster.values > 0).all()


def test_a_small_cluster_is_led_by_all_and_said_so(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    x, _ = planted(30, 1, spread=0.1)
    x[0] = 50
    ds = two_pass(table(x), k=2, n_leaders=3, client=InlineRunner())
    assert ds.leader_cluster.values.tolist() == [1, 1, 1, 2]
    assert "fewer than 3 items were drawn of cluster 2" in caplog.text


def test_merges_of_one_height_can_not_be_cut_apart(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    x = np.repeat(np.eye(2) * 5, 10, axis=0)
    ds = two_pass(table(x), k=3, client=InlineRunner())
    assert set(ds.item_cluster.values.tolist()) == {1, 2}
    assert "falls into 2 clusters, not 3" in caplog.text


def test_one_item_is_one_cluster(table: Table) -> None:
    ds = two_pass(table(np.ones((1, 2))), k=1, client=InlineRunner())
    assert ds.item_cluster.values.tolist() == [1]


def test_a_report_has_the_stages_of_its_own_run(table: Table) -> None:
    x, _ = planted(40, 2)
    runner = InlineRunner()
    stages = []
    for _ in range(2):
        report = json.loads(two_pass(table(x), k=2, client=runner).attrs["report"])
        stages.append([used["stage"] for used in report["stages"]])
    assert stages[0] == stages[1]


def test_names_of_leaders_are_read_chunk_by_chunk(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    items = sources.describe(table(np.eye(50)))
    read = []
    original = sources.read_names
    monkeypatch.setattr(sources, "read_names", lambda *place: read.append(place[1:]) or original(*place))
    assert sources.names_of(items, [40, 3, 7, 40], at_once=16) == ["item 40", "item 3", "item 7", "item 40"]
    assert read == [(0, 16), (32, 48)]


def test_an_interrupted_run_goes_on(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cagdask.twopass import labels

    x, _ = planted(50, 2)
    options: dict[str, Any] = {"k": 2, "stride": 5, "block": 10, "output": str(tmp_path / "out")}
    monkeypatch.setattr(labels, "write_table", lambda *_: 1 / 0)
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        two_pass(table(x), client=InlineRunner(), **options)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    again = InlineRunner()
    two_pass(table(x), client=again, **options)
    assert {stage for stage, _ in again.calls} == {"write labels", "write table", "count labels"}


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "`k` is 0"),
        ({"k": True}, "`k` is True"),
        ({"metric": "manhattan"}, "`metric` is 'manhattan'; choose one of euclidean, cosine"),
        ({"metric": "rmsd"}, "rmsd is for trajectories"),
        ({"linkage": "centroid"}, "choose one of ward, average, complete"),
        ({"leader_rule": "best"}, "choose one of medoid, random, k-centre"),
        ({"n_leaders": 0}, "`n_leaders` is 0"),
        ({"stride": 0}, "`stride` is 0"),
        ({"stride": 2, "sample": 3}, "two ways to draw"),
        ({"seed": -1}, "`seed` is -1"),
        ({"max_dist": -1.0}, "`max_dist` is -1.0"),
        ({"max_dist": float("nan")}, "`max_dist` is nan"),
        ({"block": 0}, "`block` is 0"),
        ({"of": "genes"}, "of genes is for stores"),
        ({"topology": "a.pdb"}, "topology is for trajectories"),
        ({"compat": "other"}, "choose one of mdtraj-notebook"),
        ({"compat": "mdtraj-notebook", "linkage": "average"}, "means `linkage='ward'`"),
        ({"k": 11, "stride": 2}, r"`k` is 11, but the sample has 10 rows \(every 2th of 20\)"),
    ],
)
def test_what_can_not_be_meant_is_refused(table: Table, options: dict[str, Any], message: str) -> None:
    runner = InlineRunner()
    with pytest.raises(ValueError, match=message):
        two_pass(table(np.eye(20)), client=runner, **{"k": 2} | options)
    assert runner.calls == []


def bad_values(table: Table) -> str:
    x = np.ones((20, 3))
    x[7, 2], x[12, 0] = np.nan, 1e200  # the second has no square
    return table(x)


@pytest.mark.parametrize("stride", [5, 7])  # the sample has none of them, or one
def test_missing_values_are_counted_and_the_first_named(table: Table, tmp_path: Path, stride: int) -> None:
    url = bad_values(table)
    with pytest.raises(InputError, match=r"2 values are missing, infinite or too large; the first is 'x2' of 'item 7'"):
        two_pass(url, k=1, stride=stride, output=str(tmp_path / "out"), client=InlineRunner(), block=20)
    assert {path.name for path in tmp_path.iterdir()} == {"items.parquet"}


def test_tables_that_can_not_be_meant(tmp_path: Path, table: Table) -> None:
    def refused(frame: Any, message: str, **options: Any) -> None:
        url = tmp_path / "bad.parquet"
        frame.to_parquet(url, **{"index": False} | options)
        with pytest.raises(InputError, match=message):
            two_pass(str(url), k=1, output=str(tmp_path / "out"), client=InlineRunner())
        assert {path.name for path in tmp_path.iterdir()} == {"bad.parquet"}

    numbers = {"x": [1.0, 2], "y": [3.0, 4]}
    refused(pd.DataFrame(numbers), "no column of names: 'x' holds double")
    refused(pd.DataFrame({"name": ["a", "a"]} | numbers), "'a' names more than one row")
    refused(pd.DataFrame({"name": ["a", None]} | numbers), "a row has no name")
    refused(
        pd.DataFrame({"name": ["a", "b"], "kind": ["u", "v"]} | numbers), "column 'kind' holds .*string, not numbers"
    )
    refused(pd.DataFrame({"name": ["a", "b"]}), "has 2 rows of 0 values")
    refused(pd.DataFrame({"name": ["a", "b"]} | numbers)[:0], "has 0 rows|no column of names")
    ds = two_pass(_indexed(tmp_path), k=2, client=InlineRunner())
    assert ds.item_id.values.tolist() == ["a", "b"]


def _indexed(folder: Path) -> str:
    pd.DataFrame({"x": [1.0, 2]}, index=pd.Index(["a", "b"], name="model")).to_parquet(folder / "indexed.parquet")
    return str(folder / "indexed.parquet")


def test_sources_that_are_not_there_or_not_what_they_seem(tmp_path: Path, abundance_store: MakeStore) -> None:
    with pytest.raises(StoreError, match="no such store"):
        two_pass(str(tmp_path / "no.zarr"), k=1, client=InlineRunner())
    with pytest.raises(InputError, match="there is no such file"):
        two_pass(str(tmp_path / "no.parquet"), k=1, client=InlineRunner())
    (tmp_path / "bad.parquet").write_bytes(b"PAR2")
    with pytest.raises(InputError, match="can not be read as Parquet"):
        two_pass(str(tmp_path / "bad.parquet"), k=1, client=InlineRunner())
    store = abundance_store(np.eye(3))
    with pytest.raises(SchemaError, match="holds abundance, no CAGs"):
        two_pass(store, k=1, of="cags", client=InlineRunner())
    result = write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 1])
    with pytest.raises(SchemaError, match="holds cags, not genes"):
        two_pass(result, k=1, of="genes", client=InlineRunner())
    with pytest.raises(ValueError, match="choose one of genes, samples, cags"):
        two_pass(store, k=1, of="cells", client=InlineRunner())
    with pytest.raises(ValueError, match="more than one source"):
        two_pass([store, store], k=1, client=InlineRunner())


def test_an_output_that_is_there_is_kept(table: Table, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="already there"):
        two_pass(table(np.eye(4)), k=2, output=str(tmp_path / "out"), client=InlineRunner())
    two_pass(table(np.eye(4)), k=2, output=str(tmp_path / "out"), overwrite=True, client=InlineRunner())
    assert (tmp_path / "out" / "twopass.json").exists()


def test_too_few_directions(table: Table, tmp_path: Path) -> None:
    x = np.zeros((10, 3))
    x[3] = 1
    with pytest.raises(InputError, match=r"`k` is 2, but only 1 of 10 drawn rows have a direction"):
        two_pass(table(x), k=2, metric="cosine", output=str(tmp_path / "out"), client=InlineRunner())
    assert {path.name for path in tmp_path.iterdir()} == {"items.parquet"}


def test_a_sample_too_large_is_refused_with_the_largest_that_fits(table: Table, tmp_path: Path) -> None:
    url = table(np.random.default_rng(0).normal(size=(600, 4)))
    memory = memory_for(sample.sample_bytes(300, 4))
    runner = InlineRunner(memory_limit=memory)
    largest = sample.largest_sample(4, runner.task_budget)
    assert 300 <= largest < 305
    with pytest.raises(MemoryLimitError, match=rf"has {largest}: use `stride=2` or `sample={largest}`,"):
        two_pass(url, k=2, stride=1, client=runner)
    assert runner.calls == []
    two_pass(url, k=2, sample=largest, block=10, client=runner)


@given(st.integers(1, 10_000), st.integers(1, 2**40))
def test_the_largest_sample_is_the_largest(n_features: int, budget: int) -> None:
    n = sample.largest_sample(n_features, budget)
    assert sample.sample_bytes(n, n_features) <= budget < sample.sample_bytes(n + 1, n_features)


def test_features_that_leaders_do_not_know(table: Table, tmp_path: Path, abundance_store: MakeStore) -> None:
    fitted = str(tmp_path / "fitted")
    two_pass(table(np.eye(4)), k=2, output=fitted, client=InlineRunner())
    with pytest.raises(SchemaError, match=r"its 3 values per item are not the 4 of .*; 'x3' is missing"):
        label_by_leaders(table(np.eye(3), "three"), leaders=fitted, client=InlineRunner())
    with pytest.raises(SchemaError, match=r"its 5 values per item are not the 4"):
        label_by_leaders(table(np.eye(5), "five"), leaders=fitted, client=InlineRunner())
    store = abundance_store(np.eye(4))
    with pytest.raises(SchemaError, match="holds abundance, no leaders"):
        label_by_leaders(store, leaders=store, client=InlineRunner())
