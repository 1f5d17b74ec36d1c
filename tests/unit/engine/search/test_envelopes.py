"""Envelopes against the largest product of any two rows, which they must never fall below."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask.engine.rows.files import smaller_form, unit
from cagdask.engine.search.envelopes import envelope_groups, envelopes, fringe_begins, subtracted


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[np.ndarray, bool]:
    """Unit rows, sparse or full, with signs or not, of few samples or of more than an envelope has numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 40)), draw(st.sampled_from([1, 2, 7, 60, 300]))
    signed = draw(st.booleans())
    rows = rng.lognormal(sigma=draw(st.sampled_from([0.1, 1.0, 3.0])), size=shape)
    rows *= rng.random(shape) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    if signed:
        rows -= rows.mean(1, keepdims=True)
    length = np.sqrt((rows**2).sum(1, keepdims=True))
    return np.divide(rows, length, out=np.zeros(shape), where=length > 1e-9), signed


@given(cohorts(), st.data())
def test_product_of_envelopes_is_at_least_that_of_any_two_rows(cohort: tuple[np.ndarray, bool], data: st.DataObject):
    rows, signed = cohort
    inner = data.draw(st.lists(st.integers(1, max(1, len(rows) - 1)), max_size=8))
    begin = np.unique([0, *(i for i in inner if i < len(rows)), len(rows)])
    group = envelope_groups(np.einsum("ij,ij->j", rows, rows))
    found = envelopes(smaller_form(rows), begin, group, signed=signed)
    assert found.shape == (len(begin) - 1, min(rows.shape[1], 256) + 2 * signed)
    bound = found @ subtracted(found, signed=signed).T
    exact = rows @ rows.T
    largest = np.maximum.reduceat(np.maximum.reduceat(exact, begin[:-1], axis=0), begin[:-1], axis=1)
    assert (bound >= largest - 1e-7).all()


@pytest.mark.parametrize(
    ("n_core", "n", "expected"), [(0, 0, [0]), (3, 3, [3]), (3, 4, [3, 4]), (3, 8, [3, 5, 7, 8]), (0, 4, [0, 2, 4])]
)
def test_parts_of_the_fringe_cover_it(n_core: int, n: int, expected: list[int]):
    assert fringe_begins(n_core, n).tolist() == expected


def test_many_rows_are_gone_through_in_pieces():
    rows = unit(np.random.default_rng(1).random((10_000, 5))).astype(np.float64)
    begin = np.append(np.arange(0, 10_000, 37), 10_000)
    expected = np.maximum.reduceat(rows, begin[:-1], axis=0)
    found = envelopes(smaller_form(rows), begin, np.arange(5), signed=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found >= expected).all()
