from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from cagdask.cags.parameters import Parameters


@pytest.mark.parametrize(
    ("max_dist", "refine_dist", "wanted"), [(0.5, None, 0.2), (0.1, None, 0.1), (0.1, 0.4, 0.4), (0, 0, 0.0)]
)
def test_refine_dist_is_the_smaller_of_max_dist_and_a_fifth_unless_given(
    max_dist: float, refine_dist: float | None, wanted: float
) -> None:
    found = Parameters(max_dist=max_dist, refine_dist=refine_dist).checked()
    assert found.refine_dist == wanted
    assert type(found.max_dist) is type(found.refine_dist) is float


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("metric", "euclidean", "`metric` is 'euclidean'; choose one of cosine, correlation, spearman"),
        ("linkage", "ward", "`linkage` is 'ward'; choose one of average, single"),
        ("refine", True, "`refine` is True; choose one of aggregate, noise-corrected, none"),
        ("normalization", "Sum", "`normalization` is 'Sum'; choose one of sum, median"),
        ("clr_floor", -2, "`clr_floor` is only for `normalization='clr'`"),
        ("max_dist", 1, "`max_dist` is 1; it must be a number of at least 0 and below 1"),
        ("max_dist", -1e-9, "at least 0 and below 1"),
        ("max_dist", float("nan"), "`max_dist` is nan"),
        ("max_dist", "0.2", "`max_dist` is '0.2'; choose one of auto, a number"),
        ("max_dist", False, "`max_dist` is False"),
        ("refine_dist", 1.5, "`refine_dist` is 1.5"),
        ("min_samples", 0, "`min_samples` is 0; it must be a whole number of at least 1"),
        ("min_samples", 1.5, "`min_samples` is 1.5; it must be a whole number"),
        ("min_samples", 2.0, "`min_samples` is 2.0; it must be a whole number"),
        ("fdr", 0, "`fdr` is 0; it must be a number above 0 and at most 0.5"),
        ("fdr", 0.51, "`fdr` is 0.51; it must be a number above 0 and at most 0.5"),
        ("seed", -1, "`seed` is -1"),
        ("seed", True, "`seed` is True"),
        ("probes", np.float64(8), "`probes` is 8.0"),
    ],
)
def test_each_bad_value_is_named_with_what_is_allowed(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameters(**{"max_dist": 0.2, name: value}).checked()


def test_numpy_numbers_are_taken_and_become_plain_ones() -> None:
    found = Parameters(
        normalization="clr",
        clr_floor=np.float32(-3),
        max_dist=np.float32(0.2),
        min_samples=np.int64(2),
        refine_dist=np.float64(0.1),
        probes=np.uint8(4),
        seed=np.int32(1),
    )
    plain = Parameters("clr", -3.0, 0.2, 2, refine_dist=0.1, probes=4, seed=1)
    assert found.checked() == plain.checked()
    assert json.dumps(asdict(found.checked())) == json.dumps(asdict(plain.checked()))


def test_auto_takes_what_the_battery_chose_and_a_number_what_it_always_was() -> None:
    found = Parameters().checked()
    assert found == Parameters(max_dist="auto").checked()
    assert (found.normalization, found.clr_floor, found.metric) == ("clr", "auto", "correlation")
    assert (found.refine, found.max_dist) == ("noise-corrected", 0.2)
    assert found.checked() == found, "what was filled in stays"
    usual = Parameters(max_dist=0.2).checked()
    assert (usual.normalization, usual.clr_floor, usual.metric, usual.refine) == ("sum", None, "cosine", "aggregate")
    assert Parameters(max_dist="auto", normalization="sum", metric="cosine").checked().normalization == "sum"


@pytest.mark.parametrize(
    "options",
    [
        {"linkage": "single"},
        {"search": "approximate"},
        {"refine": "none"},
        {"refine": "aggregate"},
        {"refine_dist": 0.1},
    ],
)
def test_what_needs_a_threshold_gets_the_usual_one_and_a_line(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    found = Parameters(**options).checked()
    assert found == Parameters(max_dist=0.2, **options).checked()
    assert f"`{next(iter(options))}` " in caplog.text
    assert "needs a threshold, and `max_dist` is auto: 0.2 is taken, with sum and cosine" in caplog.text
