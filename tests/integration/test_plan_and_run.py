"""What ``plan`` says before, and what a run measures: the same stages, and no more memory."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cagdask
from cagdask.cags.clustering import cluster_store
from cagdask.cags.jobs import checked_plan
from cagdask.cags.parameters import Parameters
from cagdask.compute.connect import connect
from cagdask.compute.memory import WORKER_BASE
from cagdask.engine.linkage.average import LinkagePlan
from cagdask.engine.plan.task_memory import EnginePlan
from cagdask.engine.stage_names import MEASURE_GENES, PROFILES, REFINE, SEARCH
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner

pytestmark = pytest.mark.timeout(900)


def stages_of(runner: InlineRunner) -> set[str]:
    """Names without the number of the round; of refinement, which has several steps, the first word."""
    found = {re.sub(r"^clustering round \d+: ", "", used.stage) for used in runner.usage}
    return {"refine CAGs" if name.startswith("refine") else name for name in found}


def test_every_planned_stage_is_one_that_runs(toy_sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = EnginePlan.linkage

    def in_rounds(*arguments: Any) -> LinkagePlan:
        return replace(planned(*arguments), k=4, small=3)

    monkeypatch.setattr(EnginePlan, "linkage", in_rounds)
    lines = ["gene\ta\tb\tc"] + [f"g{i}\t{i % 7}\t{i % 5 + 1}\t{i % 3}" for i in range(60)]
    (tmp_path / "table.tsv").write_text("\n".join(lines) + "\n")
    for source in (str(toy_sheet), str(tmp_path / "table.tsv")):
        runner = InlineRunner()
        cagdask.run(source, max_dist=0.2, output=str(tmp_path / Path(source).stem), client=runner)
        names = [stage.stage for stage in cagdask.plan(source, n_workers=1).stages]
        assert len(set(names)) == len(names)
        missing = set(names) - stages_of(runner)
        assert not missing, f"planned, but no stage of the run: {missing}; it has {sorted(stages_of(runner))}"


def test_pairs_that_were_compared_in_full_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = rng.lognormal(0, 1, (8, 12))[rng.integers(0, 8, 90)] * rng.lognormal(0, 0.3, (90, 12))
    lines = ["gene\t" + "\t".join("abcdefghijkl")]
    lines += [f"g{i}\t" + "\t".join(map(repr, row.tolist())) for i, row in enumerate(groups)]
    (tmp_path / "table.tsv").write_text("\n".join(lines) + "\n")
    counted = {}
    for max_dist in (0.0, 0.3):
        output = tmp_path / str(max_dist)
        cagdask.run(str(tmp_path / "table.tsv"), output=str(output), n_workers=0, max_dist=max_dist, refine="none")
        run = json.loads((output / "run.json").read_text())
        assert run["pairs_evaluated"] == run["search"]["multiplied"]
        counted[max_dist] = run["pairs_evaluated"]
    assert 90 < counted[0.3] <= run["rounds"] * 90 * 89 // 2
    assert counted[0.0] < counted[0.3], "bounds decide more pairs where only equal ones join"


def test_tasks_use_the_memory_that_was_planned_and_not_more(abundance_store: MakeStore, tmp_path: Path) -> None:
    n_genes, n_samples = 8_000, 800
    rng = np.random.default_rng(0)
    groups = rng.lognormal(0, 2, (400, n_samples)) * (rng.random((400, n_samples)) < 0.3)
    rows = groups[rng.integers(0, 400, n_genes)] * rng.lognormal(0, 0.35, (n_genes, n_samples))
    store = abundance_store(rows, chunk_rows=1_000)
    with connect(n_workers=1, memory_limit="4GiB") as runner:
        plan = checked_plan(n_genes, n_samples, "average", runner)
        cluster_store(store, str(tmp_path / "cags.zarr"), Parameters(max_dist=0.2).checked(), runner, overwrite=False)
    peaks = {used.stage: used.peak_bytes - WORKER_BASE for used in runner.usage}
    alone = next(name for name in peaks if name.startswith("clustering round 1: "))
    planned = plan.task_bytes | {alone: plan.task_bytes[SEARCH] // plan.chunk_rows * n_genes}
    measured = {name: peaks[name] for name in planned if name in peaks}
    assert {PROFILES, REFINE, MEASURE_GENES, alone} <= set(measured)
    assert {name: (n, planned[name]) for name, n in measured.items() if n > planned[name]} == {}
    grown = max(measured.values()) - min(peaks.values())  # a worker rests below the base that is planned for
    assert grown > max(planned[name] for name in measured) / 3, "the plan is no wild guess"
