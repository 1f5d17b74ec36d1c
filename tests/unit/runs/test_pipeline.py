from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cagdask import storage, stores
from cagdask.cags import clustering
from cagdask.errors import CagdaskError, InputError, ResumeError, SchemaError, StoreError
from cagdask.reports import page, tables
from cagdask.runs import pipeline
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner

RUN_FILES = {
    "abundance.zarr",
    "cags.zarr",
    "genes.parquet",
    "CAGs.csv.gz",
    "cags.parquet",
    "cag_abundance.parquet",
    "cag_sum.parquet",
    "cag_core_abundance.parquet",
    "cag_core_share.parquet",
    "report.html",
    "run.json",
}


@pytest.fixture
def here() -> InlineRunner:
    return InlineRunner()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fail_once(monkeypatch: pytest.MonkeyPatch, module: object, name: str, err: BaseException) -> Callable[[], int]:
    """Let a function fail at its first call; gives how often it was called."""
    right = getattr(module, name)
    calls = []

    def wrapped(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise err
        return right(*args, **options)

    monkeypatch.setattr(module, name, wrapped)
    return lambda: len(calls)


def test_a_run_writes_every_file_and_run_json_last(toy_sheet: Path, tmp_path: Path, here: InlineRunner) -> None:
    ds = pipeline.run(str(toy_sheet), output=str(tmp_path / "out"), client=here, max_dist=0.1)
    assert names(tmp_path / "out") == RUN_FILES
    assert ds.sizes["gene"] == 10
    assert pd.read_csv(tmp_path / "out" / "CAGs.csv.gz")["CAG"].value_counts().tolist()[:3] == [4, 3, 2]
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["parameters"]["max_dist"] == 0.1
    assert run["parameters"]["refine_dist"] == 0.1
    assert [stage["stage"] for stage in run["stages"]] == ["ingest", "cluster", "outputs", "report"]
    for stage in run["stages"]:
        assert {"wall_seconds", "cpu_seconds", "peak_bytes", "n_tasks", "parts"} <= set(stage)
    assert {"cagdask", "dask", "numpy", "zarr"} <= set(run["versions"])
    assert {"source", "input", *tables.FILES} <= set(run["digests"])
    assert all(re.fullmatch("[0-9a-f]{32,64}", digest) for digest in run["digests"].values())
    assert run["pairs_evaluated"] == run["search"]["multiplied"] == 0  # proportional genes are one row, no two are near
    samples = sum(path.stat().st_size for path in toy_sheet.parent.iterdir() if path != toy_sheet)
    assert run["bytes_read"] >= samples
    assert run["bytes_written"] == sum(run["files"].values()) > 0
    assert run["rounds"] >= 1
    assert run["digests"]["input"] == ds.attrs["input_digest"]
    assert run["certified"] is True


def test_samples_that_were_left_out_are_in_run_json(toy_sheet: Path, tmp_path: Path, here: InlineRunner) -> None:
    (toy_sheet.parent / "bad.json").write_text('[{"id": "gene_a", "depth": "much"}]')
    sheet = json.loads(toy_sheet.read_text()) | {"bad": "bad.json"}
    toy_sheet.write_text(json.dumps(sheet))
    with pytest.raises(InputError, match="sample 'bad', record 1, gene 'gene_a'"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "out"), client=here)
    assert not (tmp_path / "out").exists()
    ds = pipeline.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "out"), client=here, on_bad_sample="skip")
    assert "bad" not in ds.sample_id.values
    ((sample, fault),) = json.loads((tmp_path / "out" / "run.json").read_text())["skipped_samples"]
    assert (sample, "'depth'" in fault) == ("bad", True)


def test_a_run_finishes_the_other_samples_and_goes_on(toy_sheet: Path, tmp_path: Path, here: InlineRunner) -> None:
    whole = (toy_sheet.parent / "east.json").read_text()
    (toy_sheet.parent / "east.json").write_text(whole[:-5])
    output = str(tmp_path / "out")
    with pytest.raises(InputError, match="1 of 6 samples can not be used: 'east'"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here, on_bad_sample="finish")
    (toy_sheet.parent / "east.json").write_text(whole)
    again = InlineRunner()
    pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=again, on_bad_sample="finish")
    assert [call for call in again.calls if call[0] == "read samples"] == [("read samples", 1)]
    assert names(tmp_path / "out") == RUN_FILES
    assert json.loads((tmp_path / "out" / "run.json").read_text())["skipped_samples"] == []


@pytest.mark.parametrize("option", [{"abundance_key": "rpkm"}, {"on_bad_sample": "skip"}])
def test_options_of_an_ingest_are_refused_for_a_store(
    abundance_store: MakeStore, tmp_path: Path, here: InlineRunner, option: dict[str, Any]
) -> None:
    store = abundance_store(np.eye(3, dtype=np.float32) + 1)
    with pytest.raises(ValueError, match=f"is a store already, and {next(iter(option))} says how to make one"):
        pipeline.run(store, output=str(tmp_path / "out"), client=here, **option)


def test_a_finished_run_is_not_overwritten_unasked(toy_sheet: Path, tmp_path: Path, here: InlineRunner) -> None:
    output = str(tmp_path / "out")
    pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here)
    before = (tmp_path / "out" / "run.json").read_bytes()
    with pytest.raises(StoreError, match=r"abundance\.zarr is already there\. Add `overwrite=True`"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here)
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    pipeline.run(str(toy_sheet), output=output, client=here, overwrite=True, max_dist=0.5)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["parameters"]["max_dist"] == 0.5
    assert names(tmp_path / "out") == RUN_FILES


@pytest.mark.parametrize(
    ("module", "function"), [(clustering, "cluster_store"), (tables, "write_file"), (page, "report")]
)
def test_an_interrupted_run_goes_on_and_gives_the_same(
    toy_sheet: Path,
    tmp_path: Path,
    here: InlineRunner,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    function: str,
) -> None:
    clean, output = str(tmp_path / "clean"), str(tmp_path / "out")
    pipeline.run(str(toy_sheet), max_dist=0.2, output=clean, client=here)
    monkeypatch.setattr("sys.executable", "")  # no process beside this one, where nothing would fail
    fail_once(monkeypatch, module, function, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here)
    assert stores.PARTIAL in names(tmp_path / "out")
    assert "run.json" not in names(tmp_path / "out")
    here.calls.clear()
    pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here)
    assert not any(stage == "read samples" for stage, _ in here.calls)
    assert names(tmp_path / "out") == RUN_FILES
    for name in tables.FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()
    assert (tmp_path / "out" / "report.html").read_bytes() == (tmp_path / "clean" / "report.html").read_bytes()


def test_another_input_does_not_go_on_with_an_interrupted_run(
    toy_sheet: Path, tmp_path: Path, here: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")
    fail_once(monkeypatch, clustering, "cluster_store", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here)
    with pytest.raises(ResumeError, match=r"differs in gene_id_key"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here, gene_id_key="name")
    sample = next(toy_sheet.parent.rglob("*.json.gz"))
    os.utime(sample, (1, 1))
    with pytest.raises(ResumeError, match=r"differs in source_digest"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here)
    pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here, overwrite=True)
    assert names(tmp_path / "out") == RUN_FILES


def test_a_finished_ingest_serves_other_options_of_clustering(
    toy_sheet: Path, tmp_path: Path, here: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")
    fail_once(monkeypatch, clustering, "cluster_store", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output, client=here)
    here.calls.clear()
    ds = pipeline.run(str(toy_sheet), output=output, client=here, max_dist=0.1)
    assert ds.attrs["max_dist"] == 0.1
    assert not any(stage == "read samples" for stage, _ in here.calls)
    assert names(tmp_path / "out") == RUN_FILES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_samples": 99}, "`min_samples` is 99"),
        ({"kind": "embedding"}, "embedding"),
    ],
)
def test_what_clustering_refuses_is_refused_before_the_ingest(
    toy_sheet: Path, tmp_path: Path, here: InlineRunner, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline.run(str(toy_sheet), output=str(tmp_path / "out"), client=here, **options)
    assert not here.calls
    assert not (tmp_path / "out").exists()


def test_bad_input_leaves_nothing_and_keeps_what_was_there(toy_sheet: Path, tmp_path: Path, here: InlineRunner) -> None:
    pipeline.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "old"), client=here)
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}
    bad = toy_sheet.with_name("bad.json")
    (toy_sheet.parent / "broken.json").write_text('[{"id": "a", "depth": -1}]')
    bad.write_text(json.dumps({"s": "broken.json"}))
    with pytest.raises(InputError, match=r"broken\.json.*-1"):
        pipeline.run(str(bad), max_dist=0.2, output=str(tmp_path / "new"), client=here)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match=r"broken\.json.*-1"):
        pipeline.run(str(bad), max_dist=0.2, output=str(tmp_path / "old"), client=here, overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_dist": 1.0}, "`max_dist` is 1.0; it must be"),
        ({"max_dist": float("nan")}, "`max_dist` is nan"),
        ({"min_samples": 0}, "`min_samples` is 0"),
        ({"normalization": "log"}, "'log'"),
        ({"metric": "euclidean"}, "`metric` is 'euclidean'; choose one of cosine"),
        ({"orient": "sideways"}, "`orient` is 'sideways'; choose one of auto, genes-by-samples"),
        ({"kind": "counts"}, "`kind` is 'counts'; choose one of abundance"),
    ],
)
def test_options_are_checked_before_anything_is_touched(
    toy_sheet: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline.run(str(toy_sheet), output=str(tmp_path / "out"), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_unknown_options_are_named(toy_sheet: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unknown option max_distance; the options are"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "out"), max_distance=0.1)  # type: ignore[call-arg]


def test_outputs_that_can_not_be_written_are_refused_first(toy_sheet: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "no" / "out"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "file"))


def test_inputs_that_are_none_are_refused_first(toy_sheet: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    with pytest.raises(InputError, match="no such file or store"):
        pipeline.run(str(tmp_path / "nothing.json"), max_dist=0.2, output=output)
    with pytest.raises(InputError, match="sample 'sample_sheet': has no key 'results'"):
        pipeline.run(str(toy_sheet.parent), max_dist=0.2, output=output)
    toy_sheet.write_text(json.dumps({"s": "gone.json"}))
    with pytest.raises(InputError, match=r"gone\.json"):
        pipeline.run(str(toy_sheet), max_dist=0.2, output=output)
    assert not (tmp_path / "out").exists()


def test_a_store_is_clustered_without_copy_and_cluster_writes_no_report(
    abundance_store: MakeStore, tmp_path: Path, here: InlineRunner, toy_cohort: object
) -> None:
    store = abundance_store(toy_cohort.matrix)  # type: ignore[attr-defined]
    pipeline.run(store, max_dist=0.2, output=str(tmp_path / "run"), client=here)
    assert names(tmp_path / "run") == RUN_FILES - {"abundance.zarr"}
    pipeline.cluster(store, max_dist=0.2, output=str(tmp_path / "cluster"), client=here)
    assert names(tmp_path / "cluster") == RUN_FILES - {"abundance.zarr", "report.html"}
    with pytest.raises(StoreError, match=r"cags\.zarr is already there"):
        pipeline.cluster(store, max_dist=0.2, output=str(tmp_path / "cluster"), client=here)


def test_a_result_is_not_a_store_to_cluster(
    abundance_store: MakeStore, tmp_path: Path, here: InlineRunner, toy_cohort: object
) -> None:
    pipeline.cluster(abundance_store(toy_cohort.matrix), max_dist=0.2, output=str(tmp_path / "a"), client=here)  # type: ignore[attr-defined]
    with pytest.raises(SchemaError, match="cags"):
        pipeline.cluster(str(tmp_path / "a" / "cags.zarr"), max_dist=0.2, output=str(tmp_path / "b"), client=here)
    assert not (tmp_path / "b").exists()


def test_a_sample_named_like_a_column_is_refused_before_clustering(
    abundance_store: MakeStore, tmp_path: Path, here: InlineRunner
) -> None:
    store = abundance_store(np.ones((3, 2)), sample_ids=["a", "cag"])
    with pytest.raises(CagdaskError, match="a sample is named 'cag'"):
        pipeline.cluster(store, max_dist=0.2, output=str(tmp_path / "out"), client=here)
    assert not (tmp_path / "out").exists()
    assert here.calls == []


def test_min_samples_above_the_number_of_samples_is_refused_first(
    abundance_store: MakeStore, tmp_path: Path, here: InlineRunner
) -> None:
    with pytest.raises(InputError, match="`min_samples` is 3"):
        pipeline.cluster(
            abundance_store(np.ones((3, 2))), max_dist=0.2, output=str(tmp_path / "out"), client=here, min_samples=3
        )
    assert not (tmp_path / "out").exists()
    assert not storage.exists(str(tmp_path / "out.work"))
