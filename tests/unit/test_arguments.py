from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask import arguments


@pytest.mark.parametrize("kind", [int, np.int8, np.uint8, np.int32, np.uint64, np.array])
def test_a_whole_number_of_any_library_is_taken_as_a_python_int(kind: Any) -> None:
    found = arguments.whole("k", kind(3), least=1)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize("value", [3.0, np.float64(3), True, np.True_, "3", None, [3], np.array([3]), float("nan")])
def test_what_is_no_whole_number_is_refused_in_words(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^`k` is .*; it must be a whole number of at least 1\.$"):
        arguments.whole("k", value, least=1)


@pytest.mark.parametrize("value", [0, np.int64(0), np.uint8(11)])
def test_a_whole_number_out_of_bounds_is_refused_with_the_bounds(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`k` is {value}; it must be a whole number of at least 1 and at most 10\."):
        arguments.whole("k", value, least=1, most=10)


@given(st.floats(0, 1, width=32))
def test_a_float32_is_taken_as_the_decimal_it_is_printed_as(value: float) -> None:
    found = arguments.number("max_dist", np.float32(value))
    assert type(found) is float
    assert np.float32(found) == np.float32(value)
    assert str(np.float32(value)) == str(np.float32(found))


def test_a_fifth_is_a_fifth_in_every_precision() -> None:
    for kind in (float, np.float16, np.float32, np.float64):
        assert arguments.number("max_dist", kind("0.2")) == 0.2


@pytest.mark.parametrize("value", [1, np.int64(1), np.uint8(1), np.array(1.0)])
def test_a_whole_number_is_a_number_too(value: Any) -> None:
    found = arguments.number("max_dist", value)
    assert found == 1.0
    assert type(found) is float


@pytest.mark.parametrize("value", [True, np.False_, "0.2", None, float("nan"), np.float32("inf"), 1.0, -0.1, 0.1j])
def test_what_is_no_number_in_bounds_is_refused_in_words(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^`max_dist` is .*; it must be a number of at least 0 and below 1\.$"):
        arguments.number("max_dist", value, least=0, below=1)


def test_bounds_that_are_not_allowed_values_are_said_so() -> None:
    assert arguments.number("tol", 0.5, above=0, most=0.5) == 0.5
    with pytest.raises(ValueError, match=r"`tol` is 0; it must be a number above 0 and at most 0\.5\."):
        arguments.number("tol", 0, above=0, most=0.5)


def test_a_flag_is_true_or_false_and_nothing_like_it() -> None:
    assert arguments.flag("exact", np.True_) is True
    assert arguments.flag("exact", False) is False
    for value in (1, 0, "yes", None):
        with pytest.raises(ValueError, match=r"`exact` is .*; it must be True or False\."):
            arguments.flag("exact", value)


def test_a_word_that_is_not_among_the_choices_is_refused_with_them() -> None:
    assert arguments.choice("linkage", np.str_("single"), ("average", "single")) == "single"
    for value in ("ward", None, True, ["single"]):
        with pytest.raises(ValueError, match=r"`linkage` is .*; choose one of average, single\."):
            arguments.choice("linkage", value, ("average", "single"))


def test_a_long_value_is_shown_in_short() -> None:
    with pytest.raises(ValueError, match=r"`k` is 'xxx.*\.\.\.; it must be") as caught:
        arguments.whole("k", "x" * 10_000)
    assert len(str(caught.value)) < 150
