from __future__ import annotations

import itertools
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, MemoryLimitError
from cagdask.vectors.analogies import quadruples
from cagdask.vectors.analogies.pair_index import PairIndex, Sizes
from cagdask.vectors.analogies.rules import QueryMaker, Rules
from cagdask.vectors.analogies.session import Session
from cagdask.vectors.names import Names
from cagdask.vectors.sources import opened
from tests.vector_store import vector_matrices, write_vectors


def cosine(x, y):
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def every_pair(rows, a, b, *, metric="cosine", sign=1, shared=False, max_sim=None, among=None):
    """Every pair that counts and its score, as the documentation defines them; a loop."""
    x = rows.astype(np.float64)
    q = x[a] - sign * x[b]
    some = [i for i in range(len(x)) if x[i].any() and (among is None or i in among)]
    found = {}
    for c, d in itertools.permutations(some, 2) if sign > 0 else itertools.combinations(some, 2):
        if (c, d) == (a, b) or (sign < 0 and {c, d} == {a, b}) or (not shared and {a, b} & {c, d}):
            continue
        v = x[c] - sign * x[d]
        if v @ v <= 1e-12 * (x[c] @ x[c] + x[d] @ x[d]):
            continue
        if max_sim is not None:
            alike = [cosine(x[a], x[c]), cosine(x[b], x[d])]
            alike += [cosine(x[a], x[d]), cosine(x[b], x[c])] if sign < 0 else []
            if max(alike) > max_sim:
                continue
        found[c, d] = cosine(q, v) if metric == "cosine" else -float(np.linalg.norm(q - v))
    return found


def check(table, expected, k, names=("gene_c", "gene_d")):
    """The table holds the k best of the expected, equal ones aside."""
    wanted = sorted(expected.values(), reverse=True)[:k]
    np.testing.assert_allclose(table.similarity, wanted, atol=1e-7)
    found = [tuple(int(name[1:]) for name in row) for row in zip(*(table[n] for n in names), strict=True)]
    np.testing.assert_allclose([expected[key] for key in found], wanted, atol=1e-7)
    assert len(set(found)) == len(found)


@given(
    rows=vector_matrices(max_rows=14, max_columns=4),
    seed=st.integers(0, 100),
    k=st.sampled_from([1, 5, 1000]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    operation=st.sampled_from(["difference", "sum"]),
    shared=st.booleans(),
    max_sim=st.sampled_from([None, 0.8, 0.0]),
    few=st.booleans(),
)
def test_pairs_are_those_of_the_definition(tmp_path, rows, seed, k, metric, operation, shared, max_sim, few):
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    rng = np.random.default_rng(seed)
    a, b = (int(i) for i in rng.choice(len(rows), 2, replace=False))
    sign = 1 if operation == "difference" else -1
    x = rows.astype(np.float64)
    alike = [cosine(x[i], x[j]) for i, j in itertools.product((a, b), range(len(x)))]
    if max_sim is not None and np.nanmin(np.abs(np.array([*alike, np.inf]) - max_sim)) < 1e-9:
        return  # rounding decides
    among = sorted({int(i) for i in rng.integers(0, len(rows), 6)}) if few else None
    options = {"metric": metric, "operation": operation, "shared": shared, "max_sim": max_sim, "k": k}
    options["candidates"] = None if among is None else [f"g{i}" for i in among]
    q = x[a] - sign * x[b]
    if q @ q <= 1e-12 * (x[a] @ x[a] + x[b] @ x[b]) or not x[a].any() or not x[b].any():
        with pytest.raises(InputError, match="no direction"):
            cagdask.analogies(store, f"g{a}", f"g{b}", **options)
        return
    table = cagdask.analogies(store, f"g{a}", f"g{b}", **options)
    assert set(table.gene_a) <= {f"g{a}"}
    assert set(table.gene_b) <= {f"g{b}"}
    assert table.certified.all()
    check(table, every_pair(rows, a, b, metric=metric, sign=sign, shared=shared, max_sim=max_sim, among=among), k)
    assert table.attrs["n_zero"] == sum(
        not rows[i].any() for i in range(len(rows)) if among is None or i in {*among, a, b}
    )


def test_what_one_question_computes_is_there_for_the_next(tmp_path, monkeypatch):
    rows = np.random.default_rng(2).normal(size=(400, 6)).astype(np.float32)
    rows[7] = rows[3]
    rows[8], rows[9, 0], rows[10] = 0, -0.0, rows[9]
    rows[10, 0] = 0.0
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    alone = cagdask.analogies(store, "g4", "g5")
    assert alone.attrs == {"n_zero": 1, "n_duplicates": 2}
    with opened(store) as (vectors, runner):
        session = Session(vectors, Names(vectors), runner)
        session.answer("g1", "g2", None, Rules(), k=10)
        monkeypatch.setattr(PairIndex, "_all_nearest", lambda *_: pytest.fail("computed twice"))
        monkeypatch.setattr(PairIndex, "n_duplicates", None)  # what was computed lies in the object
        monkeypatch.setattr("cagdask.vectors.analogies.session.load_index", lambda *_: pytest.fail("read twice"))
        again = session.answer("g4", "g5", None, Rules(), k=10)
    pd.testing.assert_frame_equal(again, alone)
    assert again.attrs == alone.attrs


# -- the fourth term -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words():
    """Vectors and the same in gensim."""
    gensim = pytest.importorskip("gensim.models")
    rng = np.random.default_rng(0)
    names = [f"g{i}" for i in range(400)]
    rows = (rng.normal(size=(400, 5)) @ rng.normal(size=(5, 30)) + rng.normal(size=(400, 30))).astype(np.float32)
    vectors = gensim.KeyedVectors(30)
    vectors.add_vectors(names, rows)
    return rows, vectors


@pytest.mark.filterwarnings("ignore:.*init_sims:DeprecationWarning")
@pytest.mark.parametrize("method", ["add", "mul"])
def test_the_fourth_term_is_that_of_gensim(tmp_path, words, method):
    rows, vectors = words
    store = write_vectors(str(tmp_path / "v.zarr"), rows, chunk_rows=90)
    most_similar = vectors.most_similar if method == "add" else vectors.most_similar_cosmul
    for seed in range(20):
        a, b, c = (f"g{i}" for i in np.random.default_rng(seed).choice(400, 3, replace=False))
        expected = most_similar(positive=[c, b], negative=[a], topn=10)
        found = cagdask.analogies(store, a, b, given=c, method=method)
        assert found.gene_d.tolist() == [name for name, _ in expected]
        np.testing.assert_allclose(found.similarity, [score for _, score in expected], atol=2e-6)
        assert set(found.gene_c) == {c}


def test_neighbors_are_those_of_gensim(tmp_path, words):
    rows, vectors = words
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    for name in ("g0", "g17", "g399"):
        expected = vectors.most_similar(name, topn=15)
        found = cagdask.similar(store, name, k=15)
        assert found.gene.tolist() == [other for other, _ in expected]
        np.testing.assert_allclose(found.similarity, [score for _, score in expected], atol=2e-6)


@pytest.mark.parametrize("method", ["add", "mul"])
def test_the_fourth_term_may_be_a_or_b_if_shared(tmp_path, method):
    store = write_vectors(str(tmp_path / "v.zarr"), [[1, 0, 0.1], [0.9, 0.5, 0.1], [1, 0.1, 0], [0, 0, 1], [-1, 0, 1]])
    options = {"given": "g2", "method": method, "k": 9}
    assert cagdask.analogies(store, "g0", "g1", **options).gene_d.tolist() == ["g3", "g4"]
    assert cagdask.analogies(store, "g0", "g1", shared=True, **options).gene_d.tolist() == ["g1", "g0", "g3", "g4"]


def test_the_fourth_term_keeps_to_candidates_and_max_sim(tmp_path, words):
    rows, _ = words
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    everyone = cagdask.analogies(store, "g1", "g2", given="g3", k=500)
    some = cagdask.analogies(store, "g1", "g2", given="g3", candidates=[f"g{i}" for i in range(0, 400, 7)])
    wanted = everyone[everyone.gene_d.isin([f"g{i}" for i in range(0, 400, 7)])]
    assert some.gene_d.tolist() == wanted.gene_d.tolist()[:10]
    far = cagdask.analogies(store, "g1", "g2", given="g3", max_sim=0.1)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    unlike = {f"g{i}" for i in np.flatnonzero(unit @ unit[2] <= 0.1)}
    assert far.gene_d.tolist() == [name for name in everyone.gene_d if name in unlike][:10]


# -- all but the first -----------------------------------------------------------------------------------------------


def every_quadruple(rows, a, sign=1, **options):
    found = {}
    x = rows.astype(np.float64)
    for b in range(len(rows)):
        q = x[a] - sign * x[b]
        if b == a or q @ q <= 1e-12 * (x[a] @ x[a] + x[b] @ x[b]) or not x[b].any():
            continue
        for (c, d), score in every_pair(rows, a, b, sign=sign, **options).items():
            found[b, c, d] = score
    return found


@given(
    rows=vector_matrices(max_rows=12, max_columns=4),
    k=st.sampled_from([1, 6]),
    operation=st.sampled_from(["difference", "sum"]),
    corner=st.sampled_from([2, 48]),
)
def test_certified_quadruples_are_right_and_exact_ones_are_all(tmp_path, rows, k, operation, corner):
    rows[0] = np.arange(1, rows.shape[1] + 1)
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    expected = every_quadruple(rows, 0, 1 if operation == "difference" else -1)
    best = sorted(expected.values(), reverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quadruples, "CORNER", corner)
        table = cagdask.analogies(store, "g0", k=k, operation=operation)
    keys = [tuple(int(name[1:]) for name in row) for row in zip(table.gene_b, table.gene_c, table.gene_d, strict=True)]
    np.testing.assert_allclose(table.similarity, [expected[key] for key in keys], atol=1e-7)
    proven = table.certified.to_numpy()
    np.testing.assert_allclose(table.similarity[proven], np.array(best[: len(table)])[proven], atol=1e-7)
    if corner == 48:  # nothing is outside
        assert proven.all()
        np.testing.assert_allclose(table.similarity, best[:k], atol=1e-7)


def test_the_exact_search_finds_what_the_screen_missed(tmp_path, monkeypatch, runner: Runner):
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(8, 5))[rng.integers(0, 8, 40)] + 0.1 * rng.normal(size=(40, 5))).astype(np.float32)
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    expected = every_quadruple(rows, 3, max_sim=0.9)
    monkeypatch.setattr(quadruples, "CORNER", 3)
    screened = cagdask.analogies(store, "g3", max_sim=0.9)
    assert not screened.certified.all()
    found = cagdask.analogies(store, "g3", max_sim=0.9, exact=True, client=runner)
    assert found.certified.all()
    check(found, expected, 10, ("gene_b", "gene_c", "gene_d"))
    few = cagdask.analogies(store, "g3", candidates=[f"g{i}" for i in range(0, 40, 3)], exact=True, client=runner)
    among = set(range(0, 40, 3))
    wanted = {key: score for key, score in every_quadruple(rows, 3, among=among).items() if key[0] in among}
    check(few, wanted, 10, ("gene_b", "gene_c", "gene_d"))


@pytest.mark.parametrize("kind", ["clusters", "low rank"])
def test_the_exact_search_keeps_k_answers_where_the_bound_decides(kind):
    """Each b need only beat the k-th best so far, and on stores of any size pairs are left out for that."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(6, 5))[rng.integers(0, 6, 30)] + 0.1 * rng.normal(size=(30, 5))
    if kind == "low rank":
        rows = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 5)) + 1
    index = PairIndex(rows.astype(np.float32), Sizes(block=5, corner=4, plain_pairs=0))
    maker = QueryMaker(index, np.arange(30), None, 2, Rules())
    found = quadruples.in_full(index, maker.others(), maker.query, 10, -np.inf)
    expected = every_quadruple(index.rows, 2)
    np.testing.assert_allclose(found.scores, sorted(expected.values(), reverse=True)[:10], atol=1e-7)
    keys = zip(found.b.tolist(), found.c.tolist(), found.d.tolist(), strict=True)
    np.testing.assert_allclose([expected[key] for key in keys], found.scores, atol=1e-7)


# -- what can not be asked -------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    rows = np.random.default_rng(6).normal(size=(8, 3)).astype(np.float32)
    rows[5], rows[6], rows[7] = 0, rows[0], -rows[0]
    return write_vectors(str(tmp_path / "v.zarr"), rows, ["A", "B", "C", "D", "E", "ZERO", "TWIN", "ANTI"])


@pytest.mark.parametrize(
    ("genes", "options", "message"),
    [
        (("A", "A"), {}, "`a` and `b` are both 'A'"),
        (("A", "Bb"), {}, r"no gene named 'Bb'. Did you mean B"),
        (("A", "TWIN"), {}, "vectors of 'A' and 'TWIN' are the same, so their difference has no direction"),
        (("A", "ANTI"), {"operation": "sum"}, "'A' and 'ANTI' cancel out, so their sum has no direction"),
        (("A", "ZERO"), {}, "the vector of .ZERO. is zero: it has no direction"),
        (("A", "B"), {"given": "ZERO"}, "the vector of 'ZERO' is zero"),
        (("A", "B"), {"given": "A"}, "the given gene 'A' is `a` or `b`"),
        (("A",), {"given": "B"}, "`given` needs `b`"),
        (("ZERO",), {}, "the vector of 'ZERO' is zero"),
        (("A",), {"metric": "euclidean"}, "without `b` only `metric='cosine'`"),
        (("A", "B"), {"exact": True}, "`exact` is for `a` alone"),
        (("A", "B"), {"given": "C", "operation": "sum"}, "`given` is searched by cosines of differences"),
        (("A", "B"), {"method": "mul"}, "`method='mul'` is for a third gene that is `given`"),
        (("A", "B"), {"k": 0}, "`k` is 0"),
        (("A", "B"), {"max_sim": 2}, "`max_sim` is 2"),
        (("A", "B"), {"metric": "correlation"}, "`metric` is 'correlation'; choose one of cosine"),
        (("A", "B"), {"operation": "product"}, "`operation` is 'product'"),
        (("A", "B"), {"method": "div"}, "`method` is 'div'"),
        (("A", "B"), {"candidates": []}, "there are no candidates"),
        (("A", "B"), {"candidates": ["C", "X1"]}, "no gene named 'X1'"),
    ],
)
def test_what_can_not_be_answered_is_refused_with_a_sentence(store, genes, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        cagdask.analogies(store, *genes, **options)
    assert "\n" not in str(caught.value)


def test_zero_and_equal_vectors_are_counted_and_k_may_be_too_large(store, caplog):
    with caplog.at_level(logging.WARNING, "cagdask"):
        table = cagdask.analogies(store, "A", "B", k=1000)
    assert table.attrs == {"n_zero": 1, "n_duplicates": 1}
    assert len(table) == 5 * 4
    assert "1000 answers were asked for, and there are only 20" in caplog.text
    assert not {"ZERO", "A", "B"} & {*table.gene_c, *table.gene_d}


def test_vectors_that_do_not_fit_are_refused_before_they_are_read(tmp_path):
    store = write_vectors(str(tmp_path / "v.zarr"), np.ones((4000, 500), np.float32), chunk_rows=100)
    with pytest.raises(MemoryLimitError, match="4,000 vectors of 500 values"):
        cagdask.analogies(store, "g1", "g2", memory_limit="437MiB", n_workers=1)
