"""The unit of vectors decides nothing: answers about vectors of any size are those about the same of usual size."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask.vectors.analogies.rules import Rules
from cagdask.vectors.analogies.session import open_analogies
from cagdask.vectors.ranking import rounded
from cagdask.vectors.similarity import open_similarity
from cagdask.vectors.tables import shown
from tests.vector_store import vector_matrices, write_vectors


def scaled_pair(folder, rows, exponent):
    """Two stores: the rows as drawn, all of them at most 1, and the same times a power of two."""
    rows = np.ldexp(rows, -int(np.frexp(np.abs(rows).max(initial=1e-9))[1])).astype(np.float32)
    rows[np.abs(rows) < 2.0**-40] = 0  # float32 holds the rest at every size
    return (write_vectors(str(folder / f"{e}.zarr"), np.ldexp(rows, e), chunk_rows=16) for e in (0, exponent))


@given(
    rows=vector_matrices(),
    exponent=st.sampled_from([-80, -37, 40, 100]),
    metric=st.sampled_from(["cosine", "correlation", "euclidean"]),
    several=st.booleans(),
)
def test_neighbors_do_not_depend_on_the_unit(tmp_path, rows, exponent, metric, several):
    one, other = scaled_pair(tmp_path, rows, exponent)
    genes = ["g0", "g1"] if several else ["g0"]
    try:
        expected = cagdask.similar(one, genes, k=8, metric=metric, combine="contrast" if several else "joint")
    except cagdask.errors.InputError:  # without direction
        return
    found = cagdask.similar(other, genes, k=8, metric=metric, combine="contrast" if several else "joint")
    assert found.gene.tolist() == expected.gene.tolist()
    size = 2.0**exponent if metric == "euclidean" else 1
    np.testing.assert_allclose(found.similarity, expected.similarity * size, rtol=1e-9, atol=1e-10 * size)


@given(
    rows=vector_matrices(max_rows=20),
    exponent=st.sampled_from([-80, -37, 40, 100]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    operation=st.sampled_from(["difference", "sum"]),
)
def test_analogies_do_not_depend_on_the_unit(tmp_path, rows, exponent, metric, operation):
    one, other = scaled_pair(tmp_path, rows, exponent)
    rules = Rules(metric=metric, operation=operation)
    with open_analogies(one) as session:
        try:
            expected = session.answer("g0", "g1", None, rules, k=8)
        except cagdask.errors.InputError:  # the same, or zero
            return
    with open_analogies(other) as session:
        found = session.answer("g0", "g1", None, rules, k=8)
    names = ["gene_c", "gene_d"]
    assert found[names].equals(expected[names])
    size = 2.0**exponent if metric == "euclidean" else 1
    np.testing.assert_allclose(found.similarity, expected.similarity * size, rtol=1e-9, atol=1e-10 * size)


@pytest.mark.parametrize("exponent", [-37, -80, 40, 100])
def test_pruned_searches_of_pairs_do_not_depend_on_the_unit(tmp_path, exponent):
    """Enough pairs that blocks are left out, which small stores never need."""
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(700, 4)) @ rng.normal(size=(4, 9)) + 0.1 * rng.normal(size=(700, 9))).astype(np.float32)
    one, other = scaled_pair(tmp_path, rows, exponent)
    answers = []
    for store in (one, other):
        with open_analogies(store) as session:
            answers.append(session.find([("g0", "g1", None), ("g2", "g3", None)], Rules(metric="euclidean"), k=10))
    for expected, found in zip(*answers, strict=True):
        assert found.columns["gene_c"] == expected.columns["gene_c"]
        assert found.columns["gene_d"] == expected.columns["gene_d"]


def test_many_questions_about_tiny_vectors_have_the_answers_of_numpy(tmp_path):
    rows = (np.random.default_rng(2).normal(size=(300, 6)) * 1e-11).astype(np.float32)
    store = write_vectors(str(tmp_path / "v.zarr"), rows)
    with open_similarity(store) as session:
        found = session.find([[f"g{i}"] for i in range(30)], k=5, metric="euclidean")
    x = rows.astype(np.float64)
    for i, answer in enumerate(found):
        distance = np.linalg.norm(x - x[i], axis=1)
        distance[i] = np.inf
        assert answer.columns["gene"] == [f"g{j}" for j in np.argsort(distance)[:5]]
        np.testing.assert_allclose(answer.columns["distance"], np.sort(distance)[:5], rtol=1e-9)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0.999999999999, 1.000000000001))
def test_distances_keep_ten_digits_and_lose_the_noise_of_rounding(value, noise):
    score = np.array([value])
    found = rounded(score, score)
    np.testing.assert_allclose(found, score, rtol=1e-10, atol=1e-300)
    assert rounded(found, found) == pytest.approx(found[0], rel=1e-15)
    cosine = np.array([np.tanh(value)])
    assert abs(rounded(cosine) - cosine) <= 5.1e-11
    if 1e-290 < abs(value) < 1e290:
        assert abs(rounded(score * noise, score) / found - 1) <= 1.1e-10


def test_a_small_distance_is_not_printed_as_zero():
    assert [shown(x) for x in (1.234567e-11, -3.5e-9, 0.0, 0.25, 123456.5, 1e20)] == [
        "1.23457e-11", "-3.5e-09", "0.000000", "0.250000", "123456.500000", "1e+20",
    ]  # fmt: skip


@pytest.mark.parametrize("variable", ["embedding", "abundance"])
def test_an_error_about_a_table_in_memory_names_no_temporary_file(variable):
    dim = "component" if variable == "embedding" else "sample"
    values = np.random.default_rng(0).random((6, 4), np.float32)
    values[2] = 0
    coords = {"gene_id": ("gene", [f"g{i}" for i in range(6)])}
    if dim == "sample":
        coords["sample_id"] = ("sample", list("abcd"))
    kind = variable if dim == "component" else "expression"
    table = xr.Dataset({variable: (("gene", dim), values)}, coords=coords, attrs={"kind": kind})
    for question, message in (
        (["g9"], "the Dataset given: has no gene named 'g9'"),
        (["g2"], "vector of 'g2' is zero"),
    ):
        with pytest.raises(cagdask.errors.InputError, match=re.escape(message)) as caught:
            cagdask.similar(table, question)
        assert "the Dataset given" in str(caught.value)
        assert "/" not in str(caught.value)
