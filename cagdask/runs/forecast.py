"""What the phases of a run are expected to take, for the bar that says how long it will take yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cagdask.cags.parameters import Parameters
from cagdask.compute.progress import reporter
from cagdask.compute.time_left import Phase
from cagdask.engine.stage_names import FOLD, GATHER_CHUNKS, JUDGE_GENES, MEASURE_GENES, MERGE, PROFILES, SEARCH, TREE

if TYPE_CHECKING:
    from cagdask.compute.runner import Runner
    from cagdask.runs.input_shape import Shape

_UNEVEN = 1.2  # workers wait for each other, and for the disk
_REFINED = 0.4  # of what linking takes: comparing groups, and joining them
_SHUFFLED = 0.3  # the same for linking shuffled genes
_JUDGED = 1.5  # over measuring genes: roles, modules, core abundances
_PAGE_SECONDS, _PAGE_GENE = 1.0, 4e-5
_FILE_GENE = 1e-5
_ROUND = "clustering round"


SMALL_VALUES = 1_000_000
"""A table of fewer takes seconds."""


def expect_clustering(store: str, parameters: Parameters, runner: Runner, steps: Sequence[str]) -> None:
    """Tell the reporter what clustering a store, and the steps after it, are expected to take."""
    reporter().expect(lambda: _phases(store, parameters, runner, steps))


def _phases(store: str, parameters: Parameters, runner: Runner, steps: Sequence[str]) -> list[Phase]:
    from cagdask.runs.input_shape import measure

    shape = measure(store, keys=("", "", ""), orient="auto")
    if shape.n_genes * shape.n_samples < SMALL_VALUES:
        return []
    return clustering_phases(shape, parameters, runner.task_budget, runner.n_threads, steps)


def clustering_phases(
    shape: Shape, parameters: Parameters, task_budget: int, n_threads: int, steps: Sequence[str]
) -> list[Phase]:
    """Phases of clustering and of what follows it.

    Parameters
    ----------
    shape
        Of what is clustered.
    parameters
        Of the clustering.
    task_budget, n_threads
        Bytes that the arrays of one task may take, and tasks that run at once.
    steps
        Names of the steps of the command that follow: ``outputs``, ``report``.
    """
    # the engine compiles: a table that is refused would wait for it
    from cagdask.engine.plan.expected_cost import expect
    from cagdask.engine.plan.task_memory import plan_engine

    n_genes, n_samples = shape.n_genes, shape.n_samples
    plan = plan_engine(n_genes, n_samples, task_budget, n_threads)
    density = shape.n_values / (n_genes * n_samples) if shape.n_values else 1.0
    chosen = parameters.checked()
    is_automatic = chosen.refine == "noise-corrected"
    cpu = expect(
        n_genes, n_samples, density, plan, max_dist=float(chosen.max_dist),
        is_clr=chosen.normalization == "clr", is_automatic=is_automatic,
    ).cpu_seconds  # fmt: skip
    at_once = min(n_threads, max(1, -(-n_genes // plan.block_rows)))
    wall = {name: _UNEVEN * seconds / at_once for name, seconds in cpu.items()}
    parts = {name: wall[name] for name in (GATHER_CHUNKS, SEARCH, MERGE)}
    linking = sum(parts.values())
    shares = tuple((name, seconds / linking) for name, seconds in parts.items())
    phases = [Phase((PROFILES, "measure samples", FOLD), wall[PROFILES]), Phase((_ROUND,), linking, shares)]
    if chosen.refine != "none":
        phases.append(Phase((TREE, "refine", "attach"), _REFINED * linking))
    if is_automatic:
        phases += [Phase(("shuffle",), wall[PROFILES]), Phase((_ROUND,), _SHUFFLED * linking, shares)]
        phases.append(Phase((TREE, "refine", "attach"), _SHUFFLED * _REFINED * linking))
    phases.append(Phase((MEASURE_GENES,), wall[MEASURE_GENES]))
    phases.append(Phase((JUDGE_GENES, "profile CAGs"), _JUDGED * wall[MEASURE_GENES]))
    after = {
        "outputs": Phase(("write tables", "write files"), _FILE_GENE * n_genes),
        "report": Phase(("write the report",), _PAGE_SECONDS + _PAGE_GENE * n_genes),
    }
    return phases + [after[step] for step in steps]
