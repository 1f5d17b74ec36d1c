from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import cagdask
from cagdask import storage
from cagdask.compute.in_process import InProcess
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.vectors import all_pairs, questions, sources
from cagdask.vectors.names import Names
from cagdask.vectors.similarity import search
from cagdask.vectors.sources import opened
from tests.result_store import write_result_store
from tests.vector_store import vector_matrices, write_vectors


def by_definition(rows, metric):
    """Similarities of all rows, shape (n, n), -inf where a row has no direction."""
    x = rows.astype(np.float64)
    if metric == "euclidean":
        return -cdist(x, x)
    if metric == "correlation":
        x = x - x.mean(axis=1, keepdims=True)
    length = np.linalg.norm(x, axis=1)
    gone = length <= 1e-12 * np.abs(rows).max(axis=1) * rows.shape[1]
    unit = x / np.where(gone, 1, length)[:, None]
    found = unit @ unit.T
    found[:, gone] = found[gone] = -np.inf
    return found


def check(table, expected, excluded, k):
    """The table holds the k best of the expected scores, equal ones aside."""
    expected = expected.copy()
    expected[list(excluded)] = -np.inf
    wanted = np.sort(expected[expected > -np.inf])[::-1][:k]
    np.testing.assert_allclose(table.similarity, wanted, atol=1e-9)
    rows = [int(name[1:]) for name in table.gene]
    np.testing.assert_allclose(expected[rows], wanted, atol=1e-9)
    assert len(set(rows)) == len(rows)


@given(
    rows=vector_matrices(),
    metric=st.sampled_from(["cosine", "correlation", "euclidean"]),
    k=st.sampled_from([1, 4, 1000]),
    chunk_rows=st.sampled_from([1, 3, 100]),
    n_asked=st.sampled_from([1, 12]),
)
def test_the_most_similar_are_those_of_the_definition(tmp_path, rows, metric, k, chunk_rows, n_asked):
    store = write_vectors(str(tmp_path / "v.zarr"), rows, chunk_rows=chunk_rows)
    expected = by_definition(rows, metric)
    askable = [i for i in range(len(rows)) if metric == "euclidean" or expected[i].max() > -np.inf]
    asked = askable[:n_asked]
    if not asked:
        return
    with pytest.MonkeyPatch.context() as patch, opened(store, client=Runner(InProcess())) as (vectors, runner):
        patch.setattr(questions, "SCORES_AT_ONCE", 40)
        tables = search(
            vectors, Names(vectors), runner, [[f"g{i}"] for i in asked], k=k, metric=metric, combine="joint"
        )
    for i, table in zip(asked, tables, strict=True):
        check(table, expected[i], [i], k)
        if metric == "euclidean":
            np.testing.assert_array_equal(table.distance, -table.similarity)


@pytest.mark.parametrize("metric", ["cosine", "correlation", "euclidean"])
def test_many_questions_at_once_have_the_answers_of_each_alone(tmp_path, metric):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(60, 20))[rng.integers(0, 60, 3000)] + 0.3 * rng.normal(size=(3000, 20))).astype(np.float32)
    rows[40:70] = rows[3]  # many equal ones
    rows[200:300] = rows[17] * (1 + 2e-7 * rng.normal(size=(100, 20)))  # more than float32 can tell apart
    store = write_vectors(str(tmp_path / "v.zarr"), rows, chunk_rows=700)
    asked = [[f"g{i}"] for i in (3, 0, 45, 100, 2999, 17, 18, 19, 20, 21)]
    with opened(store) as (vectors, runner):
        options = {"k": 5, "metric": metric, "combine": "joint"}
        together = search(vectors, Names(vectors), runner, asked, **options)
        alone = [search(vectors, Names(vectors), runner, [query], **options)[0] for query in asked]
    for one, other in zip(together, alone, strict=True):
        assert one.equals(other)


def test_equal_similarities_are_ordered_by_row(tmp_path):
    store = write_vectors(str(tmp_path / "v.zarr"), [[1, 0], [0, 1], [2, 0], [3, 0], [1, 0]], list("cbdae"))
    assert cagdask.similar(store, "c", k=3).gene.tolist() == ["d", "a", "e"]


def test_several_genes_count_jointly_or_against_each_other(tmp_path):
    rows = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    cosine = by_definition(rows, "cosine")
    check(cagdask.similar(store, ["g3", "g9", "g1"]), (cosine[[3, 9, 1]] ** 2).sum(0), [3, 9, 1], 10)
    found = cagdask.similar(store, ["g3", "g9", "g1"], combine="contrast")
    check(found, cosine[3] - cosine[[9, 1]].mean(0), [3, 9, 1], 10)


def test_answers_do_not_depend_on_chunks_blocks_or_workers(tmp_path, monkeypatch, runner: Runner):
    rows = np.random.default_rng(2).normal(size=(1000, 16)).astype(np.float32)
    found = []
    for chunk_rows, client in ((1000, None), (64, None), (7, None), (64, runner)):
        store = write_vectors(str(tmp_path / f"{len(found)}.zarr"), rows, chunk_rows=chunk_rows)
        monkeypatch.setattr(sources, "READ_BYTES", 64 * chunk_rows)
        found.append((cagdask.similar(store, "g5", client=client), cagdask.similar_pairs(store, 20, client=client)))
    for table, pairs in found[1:]:
        assert table.equals(found[0][0])
        assert pairs.equals(found[0][1])
        assert pairs.attrs == found[0][1].attrs


# -- all pairs -------------------------------------------------------------------------------------------------------


@given(
    rows=vector_matrices(),
    metric=st.sampled_from(["cosine", "correlation"]),
    n=st.sampled_from([1, 5, 10_000]),
    panel=st.sampled_from([4, 100]),
)
def test_top_pairs_are_those_of_the_definition(tmp_path, rows, metric, n, panel):
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    all_scores = by_definition(rows, metric)[np.triu_indices(len(rows), 1)]
    all_scores = all_scores[all_scores > -np.inf]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_pairs, "PANEL_ROWS", panel)
        patch.setattr(all_pairs, "TILE", 4)
        patch.setattr(all_pairs, "WAVE", 2)
        if not len(all_scores):
            with pytest.raises(InputError, match="no two vectors with a direction"):
                cagdask.similar_pairs(store, n, metric=metric)
            return
        table = cagdask.similar_pairs(store, n, metric=metric)
    np.testing.assert_allclose(table.similarity, np.sort(all_scores)[::-1][:n], atol=1e-9)
    found = table.attrs["summary"]
    assert found["n_pairs"] == len(all_scores) == sum(found["histogram"]["counts"])
    assert found["mean"] == pytest.approx(all_scores.mean(), abs=2e-6)
    assert found["std"] == pytest.approx(all_scores.std(), abs=1e-4)
    assert found["minimum"] == pytest.approx(all_scores.min(), abs=2e-6)
    assert found["maximum"] == pytest.approx(all_scores.max(), abs=2e-6)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_top_pairs_that_float32_can_not_tell_apart_are_ordered_in_float64(tmp_path, n):
    rng = np.random.default_rng(8)
    rows = np.repeat(rng.normal(size=(6, 40)), 50, axis=0)
    rows = (rows * (1 + 3e-7 * rng.normal(size=(300, 40)))).astype(np.float32)
    scores = by_definition(rows, "cosine")[np.triu_indices(300, 1)]
    table = cagdask.similar_pairs(write_vectors(str(tmp_path / "v.zarr"), rows), n)
    np.testing.assert_allclose(table.similarity, np.sort(scores)[::-1][:n], atol=1e-10)


def test_equally_similar_pairs_are_ordered_by_row(tmp_path):
    table = cagdask.similar_pairs(write_vectors(str(tmp_path / "v.zarr"), [[0, 1], [1, 0], [2, 0], [0, 3], [3, 0]]), 3)
    assert list(zip(table.gene_1, table.gene_2, strict=True)) == [("g0", "g3"), ("g1", "g2"), ("g1", "g4")]


def test_the_histogram_is_that_of_all_pairs(tmp_path):
    rows = np.random.default_rng(4).normal(size=(300, 9)).astype(np.float32)
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    scores = by_definition(rows, "cosine")[np.triu_indices(300, 1)]
    histogram = cagdask.similar_pairs(store, 1).attrs["summary"]["histogram"]
    counts, edges = np.histogram(scores, bins=200, range=(-1, 1))
    np.testing.assert_allclose(histogram["edges"], edges, atol=1e-12)
    assert np.abs(np.array(histogram["counts"]) - counts).sum() <= 2


# -- what has vectors ------------------------------------------------------------------------------------------------


def test_profiles_are_normalized_while_they_are_read(abundance_store):
    rng = np.random.default_rng(3)
    matrix = (rng.lognormal(0, 2, (40, 6)) * rng.lognormal(0, 3, 6)).astype(np.float32)
    store = abundance_store(matrix, [f"g{i}" for i in range(40)], chunk_rows=7)
    check(cagdask.similar(store, "g2"), by_definition(matrix / matrix.sum(0), "cosine")[2], [2], 10)
    check(cagdask.similar(store, "g2", normalization="none"), by_definition(matrix, "cosine")[2], [2], 10)
    ds = cagdask.normalize(cagdask.open_dataset(store), method="hellinger")
    expected = by_definition(np.sqrt(matrix / matrix.sum(0)), "cosine")[2]
    np.testing.assert_allclose(
        cagdask.similar(ds, "g2").similarity, np.sort(np.delete(expected, 2))[:-11:-1], atol=1e-6
    )


def test_expression_is_taken_as_it_is(abundance_store):
    matrix = np.random.default_rng(3).normal(size=(20, 5)).astype(np.float32)
    store = abundance_store(matrix, [f"g{i}" for i in range(20)], kind="expression")
    check(cagdask.similar(store, "g2"), by_definition(matrix, "cosine")[2], [2], 10)
    with pytest.raises(ValueError, match="can not be normalized by sum"):
        cagdask.similar(store, "g2", normalization="sum")


def test_cags_of_a_result_have_mean_profiles(tmp_path):
    store = write_result_store(str(tmp_path / "r.zarr"), [0] * 5 + [1] * 3 + [2] * 2 + [3, 4, 5], n_samples=12)
    means = storage.open_array(store, "cag_abundance")[:]
    found = cagdask.similar(store, "2")
    check(found.assign(gene="g" + found.gene), by_definition(means, "cosine")[2], [2], 10)
    with pytest.raises(InputError, match=r"no cag named '7'.* CAGs 0 to 5"):
        cagdask.similar(store, "7")


def test_loadings_of_a_factorization_are_vectors(tmp_path):
    rows = np.random.default_rng(5).random((30, 4)).astype(np.float32)
    url = str(tmp_path / "f.zarr")
    group = storage.create_group(url, {"schema_version": 1, "kind": "factors"})
    storage.write_array(group, "gene_loading", rows, dims=("gene", "component"))
    storage.write_array(group, "gene_id", np.array([f"g{i}" for i in range(30)], dtype=object))
    storage.finish_group(group)
    check(cagdask.similar(url, "g4"), by_definition(rows, "cosine")[4], [4], 10)


def test_a_store_without_vectors_is_refused(tmp_path):
    url = str(tmp_path / "f.zarr")
    group = storage.create_group(url, {"schema_version": 1, "kind": "other"})
    storage.write_array(group, "sample_id", np.array(["a"], dtype=object))
    storage.finish_group(group)
    with pytest.raises(SchemaError, match="holds no vectors; needs one of embedding"):
        cagdask.similar(url, "a")


def test_symbols_are_names_and_descriptions_come_along(tmp_path):
    store = write_vectors(
        str(tmp_path / "v.zarr"),
        np.eye(4) + 0.1,
        [f"ENSG0000000000{i}" for i in range(4)],
        symbols=["CD3E", "CD2", "", "CD2"],
        descriptions=["one", "two", "", "four"],
    )
    table = cagdask.similar(store, "CD3E")
    assert table.gene.tolist() == [f"ENSG0000000000{i}" for i in (1, 2, 3)]
    assert table.symbol.tolist() == ["CD2", "", "CD2"]
    assert table.description.tolist() == ["two", "", "four"]
    with pytest.raises(InputError, match="two of these names are one gene"):
        cagdask.similar(store, ["CD3E", "ENSG00000000000"])
    with pytest.raises(InputError, match=r"symbol 'CD2' is that of 2 genes \(ENSG00000000001, ENSG00000000003\)"):
        cagdask.similar(store, "CD2")


# -- what can not be asked -------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    rows = np.random.default_rng(6).normal(size=(5, 3)).astype(np.float32)
    rows[4] = 0
    return write_vectors(str(tmp_path / "v.zarr"), rows, ["CD3E", "CD3D", "CD8A", "MKI67", "ZERO"])


@pytest.mark.parametrize(
    ("genes", "options", "message"),
    [
        (
            "CD3F",
            {},
            r"no gene named 'CD3F'. Did you mean CD3\w, CD3\w, CD8A\? The store holds names such as 'CD3E', no Ens",
        ),
        ("cd3e", {}, r"Did you mean CD3E, "),
        ("ENSG00000198851", {}, "holds names such as 'CD3E', no Ensembl ids"),
        (["CD3E", "CD3E"], {}, "gene 'CD3E' is given twice"),
        ([], {}, "no gene is given"),
        ("ZERO", {}, "the vector of 'ZERO' is zero, so it has no direction"),
        ("CD3E", {"k": 0}, "`k` is 0; it must be a whole number of at least 1"),
        ("CD3E", {"k": 3.0}, "`k` is 3.0; it must be a whole number"),
        ("CD3E", {"k": True}, "`k` is True; it must be a whole number"),
        ("CD3E", {"metric": "l2"}, "`metric` is 'l2'; choose one of cosine"),
        ("CD3E", {"combine": "sum"}, "`combine` is 'sum'; choose one of joint, contrast"),
        ("CD3E", {"combine": "contrast"}, "`combine='contrast'` needs a gene to be unlike; 'CD3E' is alone"),
        (["CD3E", "CD8A"], {"metric": "euclidean"}, "euclidean'` has no sum of squared cosines"),
    ],
)
def test_what_can_not_be_answered_is_refused_with_a_sentence(store, genes, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        cagdask.similar(store, genes, **options)
    assert "\n" not in str(caught.value)


def test_zero_vectors_are_left_out_and_counted_and_k_may_be_too_large(store, caplog):
    with caplog.at_level(logging.WARNING, "cagdask"):
        table = cagdask.similar(store, "CD3E", k=9)
    assert "ZERO" not in table.gene.tolist()
    assert len(table) == 3
    assert table.attrs["n_without_direction"] == 1
    assert "9 genes were asked for, and there are only 3 others" in caplog.text


def test_a_vector_with_nan_is_named(tmp_path):
    rows = np.ones((6, 3), np.float32)
    rows[4, 1] = np.nan
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    with pytest.raises(InputError, match=r"gene 'g4' \(row 4\) has NaN or infinite values"):
        cagdask.similar(store, "g1")


def test_a_misspelled_name_among_many_is_found(tmp_path):
    names = [f"gene-{i:06d}" for i in range(30_000)] + ["TOP2A"]
    store = write_vectors(str(tmp_path / "v.zarr"), np.ones((30_001, 1), np.float32), names)
    with pytest.raises(InputError, match=r"Did you mean gene-012345,"):
        cagdask.similar(store, "gene-12345")
    with pytest.raises(InputError, match="Did you mean TOP2A"):
        cagdask.similar(store, "TOP2")


def test_an_unknown_gene_is_refused_before_abundances_are_read(abundance_store, monkeypatch):
    """Normalizing takes a pass over the store, which a misspelled name must not cost."""
    store = abundance_store(np.random.default_rng(0).random((6, 4)), list("abcdef"))
    monkeypatch.setattr("cagdask.vectors.sources.sample_statistics", lambda *_: pytest.fail("the store was read"))
    with pytest.raises(InputError, match="'nowhere'"):
        cagdask.similar(store, "nowhere")
    with pytest.raises(InputError, match="'nowhere'"):
        cagdask.analogies(store, "a", "nowhere")
