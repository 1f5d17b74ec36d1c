from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cagdask import cut, storage
from cagdask.errors import SchemaError, StoreError
from cagdask.reports import page as reporting
from tests.conftest import MakeStore
from tests.result_store import write_result_store

LABELS = [0] * 9 + [1] * 4 + [2] * 2 + [3, 4, 5, -1]


@pytest.fixture
def result(tmp_path: Path) -> str:
    return write_result_store(str(tmp_path / "cags.zarr"), LABELS)


def test_summary_counts_genes_and_cags(result: str) -> None:
    found = reporting.summarize(result, n_largest=2)
    assert {name: found[name] for name in ("n_genes", "n_samples", "n_cags", "n_alone", "n_filtered")} == {
        "n_genes": 19,
        "n_samples": 4,
        "n_cags": 6,
        "n_alone": 3,
        "n_filtered": 1,
    }
    assert found["certified"] is True
    assert [row["size"] for row in found["largest"]] == [9, 4]


def test_the_folder_of_a_run_stands_for_its_result(result: str, tmp_path: Path) -> None:
    assert reporting.summarize(str(tmp_path)) == reporting.summarize(result)


def test_report_lies_beside_the_result_and_loads_nothing(result: str, tmp_path: Path) -> None:
    where = reporting.report(result)
    page = Path(where).read_text()
    assert where == str(tmp_path / "report.html")
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)
    assert "6 CAGs" in page
    assert page.count("<circle") == 3
    assert "ab" * 32 in page


def test_report_has_the_same_bytes_on_every_run(result: str, tmp_path: Path) -> None:
    first = Path(reporting.report(result, output=str(tmp_path / "a.html"))).read_bytes()
    second = Path(reporting.report(result, output=str(tmp_path / "b.html"))).read_bytes()
    assert first == second


def test_names_of_samples_are_escaped(tmp_path: Path) -> None:
    samples = ["<script>alert(1)</script>", 'a"b', "c&d", "e"]
    url = write_result_store(str(tmp_path / "r.zarr"), [0, 0, 1], samples=samples)
    page = reporting.render(storage.open_dataset(url))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_many_samples_are_averaged_into_few_columns(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "r.zarr"), [0, 0, 1], n_samples=1000)
    page = reporting.render(storage.open_dataset(url))
    assert page.count("<rect") < 2 * reporting.MAX_COLUMNS + 50
    assert "mean of up to 7 neighboring samples" in page


@pytest.mark.parametrize("labels", [[-1, -1], [0], [0, 1, 2]])
def test_results_with_nothing_to_plot_still_give_a_page(tmp_path: Path, labels: list[int]) -> None:
    url = write_result_store(str(tmp_path / "r.zarr"), labels, n_samples=1)
    assert "</html>" in reporting.render(storage.open_dataset(url))


def test_histogram_classes_hold_every_cag() -> None:
    sizes = np.array([1, 1, 2, 3, 4, 5, 8, 9, 16, 17])
    bars = reporting._histogram(sizes)["bars"]
    assert [(bar["label"], bar["count"]) for bar in bars] == [
        ("1", 2), ("2", 1), ("3–4", 2), ("5–8", 2), ("9–16", 2), ("17–32", 1),
    ]  # fmt: skip


def test_an_existing_report_is_not_overwritten_unasked(result: str) -> None:
    reporting.report(result)
    with pytest.raises(StoreError, match="already there"):
        reporting.report(result)
    reporting.report(result, overwrite=True)


def test_a_store_without_cags_is_refused(abundance_store: MakeStore) -> None:
    with pytest.raises(SchemaError, match="holds no CAGs"):
        reporting.report(abundance_store(np.ones((2, 2))))


@pytest.mark.parametrize("sizes", [[-1, 2, 1], [2**62, 2**62, 1], [7, 1, 0]])
def test_sizes_that_can_not_be_are_refused(tmp_path: Path, sizes: list[int]) -> None:
    url = write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 0, 1, 1, 2])
    array: Any = storage.open_group(url, writable=True)["cag_size"]
    array[...] = np.array(sizes)
    for look in (reporting.report, reporting.summarize):
        with pytest.raises(SchemaError, match="cag_size is damaged"):
            look(url)


def test_a_result_with_damaged_parameters_is_not_cut(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 1])
    for damaged in ("[1]", "{", '{"max_dist": 0.2, "unknown": 1}', "{}"):
        storage.open_group(url, writable=True).attrs["parameters"] = damaged
        with pytest.raises(SchemaError, match="its attribute parameters is damaged"):
            cut(url, max_dist=0.1)
