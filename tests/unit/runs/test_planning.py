from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask.compute import memory as resources
from cagdask.errors import InputError, MemoryLimitError
from cagdask.runs import input_shape
from cagdask.runs.input_shape import Shape
from cagdask.runs.planning import make_plan, plan
from tests.conftest import MakeStore

GIB = 2**30


def test_a_stores_shape_is_exact(abundance_store: MakeStore) -> None:
    made = plan(abundance_store(np.ones((30, 4))), n_workers=2, memory_limit="1GiB")
    assert (made.shape.n_genes, made.shape.n_samples, made.shape.estimated) == (30, 4, False)
    assert not any(stage.stage.startswith("read") for stage in made.stages)
    assert made.store_bytes > 0


def test_a_small_sheet_is_counted_and_a_large_one_estimated(toy_sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = plan(str(toy_sheet)).shape
    assert (exact.n_genes, exact.n_samples, exact.estimated) == (10, 6, False)
    monkeypatch.setattr(input_shape, "LOOKED_AT", 4)
    made = plan(str(toy_sheet), n_workers=2)
    assert made.shape.estimated
    assert made.shape.n_samples == 6
    assert 5 <= made.shape.n_genes <= 20
    assert "genes estimated from 4 of its sample files" in made.to_text()
    monkeypatch.setattr(input_shape, "LOOK_BYTES", 1)
    assert plan(str(toy_sheet)).shape.n_looked_at == 2


@pytest.mark.parametrize(("orient", "shape"), [("genes-by-samples", (3, 2)), ("samples-by-genes", (2, 3))])
def test_a_tables_rows_are_counted(tmp_path: Path, orient: str, shape: tuple[int, int]) -> None:
    (tmp_path / "t.tsv").write_text("\ta\tb\ng1\t1\t2\ng2\t3\t4\ng3\t0\t1\n")
    made = plan(str(tmp_path / "t.tsv"), orient=orient)
    assert (made.shape.n_genes, made.shape.n_samples) == shape


def test_what_can_not_fit_is_refused_with_the_memory_that_would_do() -> None:
    shape = Shape("x", "store", n_genes=10**9, n_samples=200, n_values=10**9)
    with pytest.raises(MemoryLimitError, match=r"one task needs .* Use `memory_limit='\d+MiB'` or more") as caught:
        make_plan(shape, n_workers=2, memory_limit=2 * GIB)
    wanted = str(caught.value).split("memory_limit='")[1].split("'")[0]
    more = resources.parse_bytes(wanted)
    assert make_plan(shape, n_workers=2, memory_limit=more).worst.task_bytes <= more


def test_a_large_sample_file_decides_the_memory_of_reading() -> None:
    shape = Shape("x", "sheet", 10**5, 10, n_values=10**6, largest_bytes=3 * GIB, largest_values=10**7, id_bytes=10**7)
    with pytest.raises(MemoryLimitError, match="read samples"):
        make_plan(shape, n_workers=2, memory_limit=4 * GIB)


@given(
    n_genes=st.integers(1, 10**8),
    n_samples=st.integers(1, 5000),
    density=st.floats(0.01, 1),
    n_workers=st.integers(1, 64),
    memory=st.integers(1, 64),
)
def test_a_plan_never_exceeds_the_budget(
    n_genes: int, n_samples: int, density: float, n_workers: int, memory: int
) -> None:
    n_values = int(n_genes * n_samples * density)
    shape = Shape("x", "sheet", n_genes, n_samples, n_values=n_values, id_bytes=20 * n_values)
    try:
        made = make_plan(shape, n_workers=n_workers, memory_limit=memory * GIB)
    except MemoryLimitError as err:  # refused: then the memory that it names would do
        wanted = resources.parse_bytes(str(err).split("memory_limit='")[1].split("'")[0])
        assert wanted > memory * GIB
        made = make_plan(shape, n_workers=n_workers, memory_limit=wanted)
    for stage in made.stages:
        assert stage.n_tasks > 0
        assert 0 <= stage.task_bytes <= resources.TASK_SHARE * made.memory_limit, stage
        assert stage.task_bytes + resources.WORKER_BASE <= resources.HIGHEST_SHARE * made.memory_limit, stage
    assert json.loads(json.dumps(made.to_json()))["worst_stage"] == made.worst.stage
    read = next(stage for stage in made.stages if stage.stage == "read samples")
    assert read.n_tasks == n_samples


@pytest.mark.parametrize(("n_genes", "memory"), [(10**5, 2), (10**6, 2), (10**7, 4)])
def test_what_small_workers_have_done_is_not_refused(n_genes: int, memory: int) -> None:
    shape = Shape("x", "store", n_genes, 200, n_values=n_genes * 20)
    assert make_plan(shape, n_workers=2, memory_limit=memory * GIB).n_tasks > 0


def test_genes_are_estimated_from_how_often_they_recur() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((5000, 50)) < rng.uniform(0.2, 0.6, 5000)[:, None]
    times = np.bincount(present[:, :4].sum(1), minlength=5)[1:].tolist()
    found = input_shape.estimate_genes(times, 4, 50, int(present.sum()))
    assert 0.8 * 5000 < found < 1.1 * 5000
    assert input_shape.estimate_genes(times, 4, 4, 10**6) == sum(times)


def test_missing_and_unknown_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: there is no such file or store"):
        plan(str(tmp_path / "nowhere.json"))
    (tmp_path / "table.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"table\.xlsx: has a single column"):
        plan(str(tmp_path / "table.xlsx"))


def test_what_was_measured_was_expected_within_a_factor() -> None:
    """The runs of the docs: the largest worker, disk, time and reads by 1.5 at most."""
    measured = Path(__file__).parents[3] / "docs" / "explanation" / "scale.jsonl"
    rows = [json.loads(line) for line in measured.read_text().splitlines()]
    exact = [row for row in rows if row["method"] == "cagdask" and row["recall"] is None]
    assert len(exact) >= 8
    for row in exact:
        n_values = int(row["density"] * row["genes"] * row["samples"])
        shape = Shape("x", "store", row["genes"], row["samples"], n_values=n_values)
        chosen = {"max_dist": 0.2} | {
            name: value for name, value in row["options"] if name in ("normalization", "max_dist")
        }
        made = make_plan(shape, n_workers=2, memory_limit=resources.parse_bytes(row["memory_limit"]), **chosen)
        found = {
            "memory": made.worker_bytes / 2**20 / row["worker_peak_mib"],
            "disk": made.work_bytes / 2**20 / row["disk_mib"],
            "time": made.seconds / (row["wall_s"] + 10),
            "reads": made.read_bytes / row["bytes_read"],
        }
        assert all(1 / 1.5 <= ratio <= 1.5 for ratio in found.values()), (row["name"], found)
