"""What the columns of a text table hold."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from cagdask.io.tables import cells as cells_of_text

NUMBERS = st.one_of(st.integers(-99, 99).map(str), st.floats().map(repr), st.sampled_from(["1e5", "+3", "-0", " 7 "]))
OTHERS = st.sampled_from(["", " ", "NA", "nan", "inf", "None", "1_000", "e", "-", ".", "x", "٣", "1 2", "1,5"])


@given(st.lists(NUMBERS | OTHERS, max_size=5))
@example(["1", "nan"])
@example(["1", "", "2"])
@example(["1_0", "2"])
def test_the_short_way_to_the_kind_of_a_column_gives_what_the_long_one_does(cells: list[str]) -> None:
    short = cells_of_text._quick_kind(cells)
    assert short in (None, cells_of_text._kind_of_any(cells, "."))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(repr), min_size=1))
def test_columns_of_plain_numbers_take_the_short_way(cells: list[str]) -> None:
    assert cells_of_text._quick_kind(cells) == "number"
