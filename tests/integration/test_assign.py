"""Assigning genes to CAGs against its definition, with planted genomes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cagdask import assign, find_cags, open_dataset, schema, storage
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, MemoryLimitError, ResumeError, SchemaError, StoreError, TaskError
from cagdask.simulation.writing import simulate_abundance
from tests import strategies
from tests.conftest import MakeStore, write_abundance_store
from tests.inline_runner import InlineRunner, memory_for
from tests.result_store import write_result_store

Matrix = NDArray[Any]


def by_definition(
    matrix: Matrix, cag: Matrix, scale: Matrix, max_dist: float, min_size: int, min_support: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Label, distance and margin of the genes that no CAG of two or more has; NaN for the others."""
    rows = matrix / np.where(scale > 0, scale, 1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    cag = np.append(cag, np.full(len(matrix) - len(cag), -1))
    counts = np.bincount(cag[cag >= 0], minlength=1)
    large = np.flatnonzero(counts >= min_size)
    label, distance, margin = cag.copy(), np.full(len(cag), np.nan), np.full(len(cag), np.nan)
    means = np.array([unit[cag == c].mean(axis=0) for c in large]).reshape(-1, matrix.shape[1])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for i in np.flatnonzero((cag < 0) | (counts[cag] < 2)):
        away = 1 - means @ unit[i]
        if not unit[i].any() or not len(large) or away.min() > max_dist + 1e-11:
            continue
        shares = means[away.argmin()] * unit[i]
        if shares.sum() ** 2 / (shares**2).sum() < min_support - 1e-11:
            continue
        label[i], distance[i] = large[away.argmin()], away.min()
        margin[i] = np.partition(away, 1)[1] - away.min() if len(large) > 1 else np.nan
    return label, distance, margin


def far_from_a_tie(matrix: Matrix) -> Matrix:
    """Every value changed by chance a little, so that no two distances are equal but by definition."""
    return (matrix * np.random.default_rng(0).uniform(0.9, 1.1, matrix.shape)).astype(np.float32)


# -- the definition --------------------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(
    strategies.planted_matrices(max_genes=40),
    st.sampled_from([0.05, 0.2, 0.5]),
    st.integers(2, 4),
    st.sampled_from([1, 2, 3.5]),
)
def test_genes_are_put_where_the_definition_says(
    tmp_path_factory: pytest.TempPathFactory, matrix: Matrix, max_dist: float, min_size: int, min_support: float
) -> None:
    folder = tmp_path_factory.mktemp("defined")
    matrix = far_from_a_tie(matrix)
    write_abundance_store(str(folder / "a.zarr"), matrix)
    try:
        found = find_cags(
            str(folder / "a.zarr"),
            max_dist=0.05,
            min_samples=2,
            refine="none",
            output=str(folder / "r.zarr"),
            client=InlineRunner(),
        )
    except InputError:  # no gene is in two samples
        return
    cag = found.gene_cag.values
    ds = assign(
        str(folder / "a.zarr"),
        to=str(folder / "r.zarr"),
        max_dist=max_dist,
        min_size=min_size,
        min_support=min_support,
        client=InlineRunner(),
    )
    scale = matrix.astype(float).sum(axis=0)
    label, distance, margin = by_definition(matrix.astype(float), cag, scale, max_dist, min_size, min_support)
    assert ds.gene_cag.values.tolist() == label.tolist()
    assert ds.gene_assigned.values.tolist() == (~np.isnan(distance)).tolist()
    put = ds.gene_assigned.values
    np.testing.assert_allclose(ds.gene_cag_distance.values[put], distance[put], atol=1e-6)
    if min_size == 2:  # of more, those that take no others in count for the margin, too
        np.testing.assert_allclose(ds.gene_cag_margin.values[put], margin[put], atol=1e-6)


@pytest.fixture(scope="module")
def cohort() -> tuple[Matrix, Matrix]:
    """1,000 genes x 60 samples of planted genomes at low coverage, and the genome of each."""
    return simulate_abundance(1000, 60, coverage=0.7, seed=5)


@pytest.fixture(scope="module")
def clustered(cohort: tuple[Matrix, Matrix], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Its store, and the result of clustering it."""
    folder = tmp_path_factory.mktemp("clustered")
    store, result = str(folder / "abundance.zarr"), str(folder / "cags.zarr")
    write_abundance_store(store, cohort[0], chunk_rows=300)
    find_cags(store, max_dist=0.2, refine="none", min_samples=3, output=result, client=InlineRunner())
    return store, result


def test_what_was_clustered_stays_and_what_was_assigned_is_told(clustered: tuple[str, str], tmp_path: Path) -> None:
    store, result = clustered
    before = open_dataset(result)
    more = str(tmp_path / "more.zarr")
    ds = assign(store, to=result, min_size=3, min_support=1, output=more, client=InlineRunner()).load()
    put = ds.gene_assigned.values
    assert 0 < put.sum() < len(put)
    was = before.gene_cag.values
    assert (ds.gene_cag.values[~put] == was[~put]).all()
    assert (before.cag_size.values[np.maximum(was[put], 0)][was[put] >= 0] == 1).all()
    assert (was[put] < 0).any()  # in too few samples to be clustered
    assert (ds.gene_linkage_cag.values == before.gene_linkage_cag.values).all()
    assert (ds.gene_cag_distance.values[put] <= 0.2 + 1e-6).all()
    np.testing.assert_allclose(ds.gene_cag_distance.values[~put], before.gene_cag_distance.values[~put], atol=1e-6)
    stayed = ~put & (was >= 0)
    np.testing.assert_allclose(ds.gene_cag_margin.values[stayed], before.gene_cag_margin.values[stayed], atol=1e-6)
    assert np.isnan(ds.gene_cag_margin.values[ds.gene_cag.values < 0]).all()
    assert ds.merge_child.equals(before.merge_child)
    assert ds.merge_height.equals(before.merge_height)
    for name in schema.RESULT_ATTRIBUTES:
        if name != "history":
            assert ds.attrs[name] == before.attrs[name]
    said = json.loads(ds.attrs["assignment"])
    assert said["n_assigned"] == put.sum() == said["n_assigned_alone"] + said["n_assigned_left_out"]
    assert said["n_assigned_left_out"] == (was[put] < 0).sum()
    assert said["n_left_out"] == (ds.gene_cag.values < 0).sum()
    assert said["n_alone"] == (ds.cag_size.values == 1).sum()
    schema.validate(ds, "gene_assigned", "gene_cag_margin")


def test_measures_are_those_of_all_members(clustered: tuple[str, str], cohort: tuple[Matrix, Matrix]) -> None:
    store, result = clustered
    ds = assign(store, to=result, min_size=2, max_dist=0.4, client=InlineRunner())
    table = cohort[0] / cohort[0].sum(axis=0)
    label, sizes = ds.gene_cag.values, ds.cag_size.values
    assert sizes.tolist() == np.bincount(label[label >= 0], minlength=len(sizes)).tolist()
    assert (sizes == 0).any()
    for c in [0, 1, 2, *np.flatnonzero(sizes == 0)[:2], *np.flatnonzero(sizes == 1)[:2]]:
        members = table[label == c]
        mean = members.mean(axis=0) if len(members) else np.zeros(60)
        np.testing.assert_allclose(ds.cag_abundance.values[c], mean, rtol=1e-5)
        assert ds.cag_prevalence.values[c] == pytest.approx((members > 0).any(axis=0).mean())
        if len(members) > 1:
            unit = members / np.linalg.norm(members, axis=1, keepdims=True)
            n = len(unit)
            assert ds.cag_cohesion.values[c] == pytest.approx(
                (unit @ unit.T).sum() / n / (n - 1) - 1 / (n - 1), abs=1e-5
            )


@pytest.mark.parametrize(
    "options", [{"normalization": "clr", "clr_floor": "auto"}, {"metric": "correlation"}, {"metric": "spearman"}]
)
def test_every_normalization_and_metric_is_the_results_own(
    cohort: tuple[Matrix, Matrix], abundance_store: MakeStore, tmp_path: Path, options: dict[str, Any]
) -> None:
    from cagdask import normalize
    from cagdask.engine.rows.profiles import unit_profiles

    store, result = abundance_store(cohort[0][:400]), str(tmp_path / "r.zarr")
    find_cags(store, refine="none", output=result, client=InlineRunner(), max_dist=0.1, **options)
    ds = assign(store, to=result, min_size=2, max_dist=0.3, client=InlineRunner())
    method = options.get("normalization", "sum")
    values = normalize(open_dataset(store), method=method, clr_floor=options.get("clr_floor")).abundance.values
    unit = unit_profiles(values.astype(np.float64), options.get("metric", "cosine"))
    cag = open_dataset(result).gene_cag.values
    for i in np.flatnonzero(ds.gene_assigned.values)[:10]:
        mean = unit[cag == ds.gene_cag.values[i]].mean(axis=0)
        expected = 1 - unit[i] @ mean / np.linalg.norm(mean)
        assert ds.gene_cag_distance.values[i] == pytest.approx(expected, abs=1e-4)
    assert ds.gene_assigned.values.any()


# -- planted genomes -------------------------------------------------------------------------------------------------


def rand_index(a: Matrix, b: Matrix) -> float:
    """Adjusted Rand index."""

    def pairs(counts: Matrix) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both = np.unique(np.stack([a, b], axis=1), axis=0, return_counts=True)[1]
    mine, theirs = (pairs(np.unique(x, return_counts=True)[1]) for x in (a, b))
    expected = mine * theirs / (len(a) * (len(a) - 1) / 2)
    return (pairs(both) - expected) / ((mine + theirs) / 2 - expected)


def is_right(label: Matrix, genome: Matrix) -> NDArray[np.bool_]:
    """A gene of a genome: in a CAG of two or more most of whose genes are of that genome; a loner: alone."""
    right = np.zeros(len(label), bool)
    for cag in np.unique(label):
        members = np.flatnonzero(label == cag)
        names, counts = np.unique(genome[members], return_counts=True)
        most = names[counts.argmax()]
        right[members] = (genome[members] == most) & (most >= 0) & (len(members) > 1)
        if len(members) == 1:
            right[members] = genome[members] < 0
    return right


def agreement(label: Matrix, genome: Matrix, seen: Matrix) -> float:
    own = np.where(genome < 0, -1 - np.arange(len(genome)), genome)
    return rand_index(label[seen], own[seen])


@pytest.mark.parametrize("seed", [1, 2])
def test_agreement_with_planted_genomes_rises_and_what_was_right_stays_right(
    abundance_store: MakeStore, tmp_path: Path, seed: int
) -> None:
    matrix, genome = simulate_abundance(4000, 100, coverage=1.0, seed=seed)
    store, result = abundance_store(matrix), str(tmp_path / "cags.zarr")
    find_cags(store, refine="none", max_dist=0.2, output=result, client=InlineRunner())
    seen = matrix.any(axis=1)
    before = open_dataset(result).gene_cag.values
    after = assign(store, to=result, client=InlineRunner()).gene_cag.values
    assert agreement(after, genome, seen) > agreement(before, genome, seen)
    was, now = is_right(before, genome)[seen], is_right(after, genome)[seen]
    assert (was & ~now).sum() <= 0.001 * was.sum()
    assert now.sum() > was.sum()


# -- another store ---------------------------------------------------------------------------------------------------


def test_a_batch_is_put_where_its_genes_would_have_been(
    cohort: tuple[Matrix, Matrix], abundance_store: MakeStore, tmp_path: Path
) -> None:
    matrix, _ = cohort
    old, new = matrix[:700], matrix[700:]
    genes = [f"g{i}" for i in range(1000)]
    store, result = abundance_store(old, genes[:700], name="abundance.zarr"), str(tmp_path / "cags.zarr")
    find_cags(store, max_dist=0.2, refine="none", min_samples=3, output=result, client=InlineRunner())
    order = np.random.default_rng(0).permutation(60)
    names = [f"sample_{j:03d}" for j in order]
    more = np.concatenate([new, old[:5]])[:, order]
    batch = abundance_store(more, [*genes[700:], *genes[:5]], names, chunk_rows=50)
    ds = assign(batch, to=result, min_size=2, client=InlineRunner())
    assert ds.gene_id.values.tolist() == genes
    cag = open_dataset(result).gene_cag.values
    label, distance, _ = by_definition(matrix.astype(float), cag, old.astype(float).sum(axis=0), 0.2, 2, 2)
    put = ~np.isnan(distance)
    assert put[700:].any()
    assert ds.gene_assigned.values.tolist() == put.tolist()
    assert ds.gene_cag.values[put].tolist() == label[put].tolist()
    assert ds.gene_cag.values[:700][~put[:700]].tolist() == cag[~put[:700]].tolist()
    rest = np.flatnonzero(~put[700:]) + 700
    enough = (matrix[rest] > 0).sum(axis=1) >= 3
    n_cags = open_dataset(result).sizes["cag"]
    assert ds.gene_cag.values[rest[enough]].tolist() == list(range(n_cags, n_cags + enough.sum()))
    assert (ds.gene_cag.values[rest[~enough]] == -1).all()
    assert (ds.gene_linkage_cag.values[700:] == -1).all()
    np.testing.assert_allclose(ds.gene_prevalence.values, (matrix > 0).mean(axis=1), atol=1e-6)
    assert (ds.merge_child.values >= 1000).any()
    assert ds.attrs["input_digest"] != open_dataset(result).attrs["input_digest"]


# -- the same bytes --------------------------------------------------------------------------------------------------


def contents(url: str) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in sorted(Path(url).rglob("*")) if p.is_file()}


def test_chunks_and_workers_change_no_byte(
    cohort: tuple[Matrix, Matrix], abundance_store: MakeStore, tmp_path: Path, runner: Runner
) -> None:
    matrix = cohort[0][:120]
    store, result = abundance_store(matrix), str(tmp_path / "cags.zarr")
    find_cags(store, max_dist=0.2, refine="none", output=result, client=InlineRunner())
    found = []
    for i, chunk in enumerate((1, 7, 1000)):
        output = str(tmp_path / f"out-{i}.zarr")
        client = runner if i == 1 else InlineRunner(n_threads=1 + 4 * i)
        assign(
            abundance_store(matrix, chunk_rows=chunk), to=result, min_size=2, max_dist=0.4, output=output, client=client
        )
        found.append(contents(output))
    assert found[0] == found[1] == found[2]
    assert open_dataset(str(tmp_path / "out-0.zarr")).gene_assigned.values.any()


def test_an_interrupted_assignment_goes_on(
    clustered: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cagdask.cags import results

    store, result = clustered
    whole = str(tmp_path / "whole.zarr")
    assign(store, to=result, output=whole, client=InlineRunner())
    monkeypatch.setattr(results, "write_merges", lambda *_: 1 / 0)
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        assign(store, to=result, output=str(tmp_path / "out.zarr"), client=InlineRunner())
    assert not (tmp_path / "out.zarr").exists()
    monkeypatch.undo()
    again = InlineRunner()
    assign(store, to=result, output=str(tmp_path / "out.zarr"), client=again)
    assert "normalize genes" not in {stage for stage, _ in again.calls}
    assert contents(str(tmp_path / "out.zarr")) == contents(whole)


def test_work_of_an_earlier_version_is_not_gone_on_with(
    clustered: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cagdask.cags import results

    store, result = clustered
    out, recipe = str(tmp_path / "out.zarr"), tmp_path / "out.zarr.work" / "recipe.json"
    monkeypatch.setattr(results, "write_merges", lambda *_: 1 / 0)
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        assign(store, to=result, output=out, client=InlineRunner())
    monkeypatch.undo()
    held = json.loads(recipe.read_text())
    held["work"] -= 1
    del held["plan"]["n_threads"]  # which that version did not know
    recipe.write_text(json.dumps(held))
    with pytest.raises(ResumeError, match=r"differs in work\. .*`overwrite=True`"):
        assign(store, to=result, output=out, client=InlineRunner())
    assign(store, to=result, output=out, overwrite=True, client=InlineRunner())
    assert open_dataset(out).gene_cag.size


def test_a_result_without_a_cag_of_two_takes_nothing_in(abundance_store: MakeStore, tmp_path: Path) -> None:
    store, result = abundance_store(np.eye(5)), str(tmp_path / "cags.zarr")
    find_cags(store, max_dist=0.2, output=result, client=InlineRunner())
    ds = assign(store, to=result, client=InlineRunner())
    assert ds.gene_cag.values.tolist() == [0, 1, 2, 3, 4]
    assert not ds.gene_assigned.values.any()


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": 1}, "`min_size` is 1; it must be a whole number of at least 2"),
        ({"min_size": True}, "`min_size` is True"),
        ({"min_support": 0.5}, "`min_support` is 0.5; it must be a number of at least 1"),
        ({"min_support": float("nan")}, "`min_support` is nan"),
        ({"max_dist": 1.0}, "`max_dist` is 1.0"),
        ({"max_dist": -0.1}, "`max_dist` is -0.1"),
        ({"max_dist": float("nan")}, "`max_dist` is nan"),
    ],
)
def test_parameters_out_of_range(clustered: tuple[str, str], options: dict[str, Any], message: str) -> None:
    runner = InlineRunner()
    with pytest.raises(ValueError, match=message):
        assign(clustered[0], to=clustered[1], client=runner, **options)
    assert runner.calls == []


def test_stores_that_do_not_belong_together(
    clustered: tuple[str, str], abundance_store: MakeStore, tmp_path: Path
) -> None:
    store, result = clustered
    runner = InlineRunner()
    with pytest.raises(StoreError, match="no such store"):
        assign(store, to=str(tmp_path / "no.zarr"), client=runner)
    with pytest.raises(SchemaError, match="holds no CAGs"):
        assign(store, to=store, client=runner)
    other = abundance_store(np.eye(4, 60), sample_ids=[f"sample_{j:03d}" for j in range(1, 61)])
    with pytest.raises(SchemaError, match=r"lacks 1 of the 60 samples .*'sample_000'"):
        assign(other, to=result, client=runner)
    with pytest.raises(SchemaError, match=r"is not the store that .* was made from"):
        assign(store, to=result, clustered=other, client=runner)
    far = write_result_store(str(tmp_path / "far.zarr"), [0, 0, 1], n_samples=60)
    with pytest.raises(SchemaError, match=r"is not the store that .*`clustered`"):
        assign(store, to=far, client=runner)
    put = str(tmp_path / "put.zarr")
    assign(store, to=result, output=put, client=InlineRunner())
    with pytest.raises(SchemaError, match="has assigned genes already"):
        assign(store, to=put, clustered=store, client=runner)
    with pytest.raises(StoreError, match="already there"):
        assign(store, to=result, output=put, client=runner)
    lacking = xr.open_zarr(storage.open_store(result), consolidated=False)
    del lacking.attrs["metric"]
    storage.save_dataset(lacking.load(), str(tmp_path / "lacking.zarr"))
    with pytest.raises(SchemaError, match="lacks the attributes metric"):
        assign(store, to=str(tmp_path / "lacking.zarr"), client=runner)
    normal = xr.open_zarr(storage.open_store(store), consolidated=False).assign_attrs(normalization="clr")
    storage.save_dataset(normal.load(), str(tmp_path / "clr.zarr"))
    with pytest.raises(SchemaError, match=r"is normalized already, by clr.* made with .*: name the abundances"):
        assign(str(tmp_path / "clr.zarr"), to=result, client=runner)
    assert runner.calls == []


def test_memory_is_planned(clustered: tuple[str, str]) -> None:
    runner = InlineRunner(memory_limit=memory_for(2**16))
    with pytest.raises(MemoryLimitError, match="`memory_limit="):
        assign(clustered[0], to=clustered[1], client=runner)
    assert runner.calls == []
