"""How long a command will take yet, by a clock that is made up."""

from __future__ import annotations

import itertools

import pytest

from cagdask.cags.parameters import Parameters
from cagdask.compute.time_left import QUIET_SECONDS, Phase, TimeLeft
from cagdask.runs.forecast import clustering_phases
from cagdask.runs.input_shape import Shape

PARTS = (("gather", 0.1), ("search", 0.7), ("merge", 0.2))
PHASES = [
    Phase(("normalize",), 40),
    Phase(("clustering round",), 400, PARTS),
    Phase(("measure",), 40),
    Phase(("write the report",), 20),
]
STAGES = [
    ("normalize genes", 40.0),
    ("clustering round 1: gather chunks", 25.0),
    ("clustering round 1: search neighbors", 175.0),
    ("clustering round 1: merge groups", 50.0),
    ("clustering round 2: search neighbors", 75.0),
    ("clustering round 3: finish the last 80 groups", 75.0),
    ("measure genes", 40.0),
    ("write the report", 20.0),
]


def told(stages: list[tuple[str, float]], phases: list[Phase] = PHASES) -> list[tuple[float, float | None]]:
    """Time, and what is said to be left, each second of a run."""
    left, now, said = TimeLeft(phases, 0.0), 0.0, []
    for stage, seconds in stages:
        left.begin(stage, now)
        for second in range(int(seconds)):
            said.append((now + second, left.seconds(second / seconds, now + second)))
        now += seconds
    return said


@pytest.mark.parametrize("speed", [0.4, 1.0, 3.0])
def test_what_is_left_is_right_by_a_half_once_a_third_is_done(speed: float) -> None:
    stages = [(name, seconds * speed) for name, seconds in STAGES]
    whole = sum(seconds for _, seconds in stages)
    for now, left in told(stages):
        if now > whole / 3 and whole - now > 30 * speed:
            assert left is not None
            assert 0.5 * (whole - now) <= left <= 1.7 * (whole - now), (now, left)


@pytest.mark.parametrize("speed", [0.4, 1.0, 3.0])
def test_it_seldom_goes_up(speed: float) -> None:
    said = [left for _, left in told([(name, seconds * speed) for name, seconds in STAGES]) if left is not None]
    ups = sum(after > 1.02 * before for before, after in itertools.pairwise(said))
    assert ups <= 0.03 * len(said)
    assert min(said) >= 0


def test_nothing_is_said_in_the_first_seconds() -> None:
    assert all(left is None for now, left in told(STAGES) if now < QUIET_SECONDS)


def test_stages_that_are_not_expected_and_stages_without_counts_do_no_harm() -> None:
    stages = [("normalize genes", 40.0), ("sharpen pencils", 100.0), ("measure genes", 40.0), ("something", 500.0)]
    said = [left for _, left in told(stages) if left is not None]
    assert all(0 <= left < 3_600 for left in said)


@pytest.mark.parametrize("max_dist", ["auto", 0.2])
@pytest.mark.parametrize("steps", [["outputs"], ["outputs", "report"]])
def test_phases_of_a_clustering_follow_its_stages(max_dist: float | str, steps: list[str]) -> None:
    shape = Shape("a.zarr", "store", 200_000, 500, n_values=20_000_000)
    phases = clustering_phases(shape, Parameters(max_dist=max_dist), 2**30, 2, steps)
    assert all(phase.seconds > 0 for phase in phases)
    rounds = [phase for phase in phases if phase.parts]
    assert len(rounds) == (2 if max_dist == "auto" else 1)
    assert all(sum(share for _, share in phase.parts) == pytest.approx(1) for phase in rounds)
    assert phases[-1].words[0].startswith("write tables" if steps == ["outputs"] else "write the report")
