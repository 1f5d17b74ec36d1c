from __future__ import annotations

import base64
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import cagdask
from cagdask import cut, storage
from cagdask.errors import InputError, SchemaError, StoreError
from cagdask.plot.ordination import ordinate
from cagdask.reports import findings, page_data
from cagdask.reports import page as reporting
from cagdask.reports.naming import last_rank
from cagdask.reports.page_data import representative_rows
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
    page = without_program(Path(where).read_text())
    assert where == str(tmp_path / "report.html")
    assert "default-src 'none'" in page
    assert not re.search(r'src=|href="[^#]|@import|url\(|https?://(?!www.w3.org|vega.github.io/schema)', page)
    assert "form 3 groups of two genes or more, which hold 15 genes" in page
    assert "ab" * 32 in page


def without_program(page: str) -> str:
    """The page without the charting library, which knows addresses that it never asks."""
    found = page.index("</script>\n<script>\n")
    return page[:found] + page[page.index("</script>", found + 20) :]


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found
    return dict(json.loads(found[1]))


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_the_table_of_the_page_holds_every_cag_with_its_nearest_gene(result: str) -> None:
    data = data_of(reporting.render(storage.open_dataset(result)))
    table = unpacked(data["cags"])
    assert table["size"] == [9, 4, 2, 1, 1, 1]
    assert table["gene"] == ["gene0", "gene9", "gene13", "gene15", "gene16", "gene17"]
    assert unpacked(data["genes"]) == [f"gene{i}" for i in range(18)]
    assert [table["status_words"][i] for i in table["status"]][3:] == ["solid"] * 3


def test_the_gene_nearest_to_the_mean_stands_for_a_cag() -> None:
    ds = xr.Dataset(
        {
            "gene_cag": ("gene", [1, 0, 0, -1, 0, 1]),
            "gene_cag_distance": ("gene", np.array([0.2, 0.3, 0.1, np.nan, 0.1, 0.2])),
            "cag_size": ("cag", [3, 2, 0]),
        }
    )
    assert representative_rows(ds).tolist() == [2, 0, -1]


def test_names_do_not_end_the_script_that_holds_them(tmp_path: Path) -> None:
    genes = ["</script><b>", "<!--", "\u2028"]
    url = write_result_store(str(tmp_path / "r.zarr"), [0, 0, 1], genes=genes, samples=["</script>", "b", "c", "d"])
    page = reporting.render(storage.open_dataset(url))
    assert "</script><b>" not in page
    assert data_of(page)["samples"]["samples"][0] == "</script>"
    assert unpacked(data_of(page)["genes"]) == genes


def test_too_many_genes_for_a_page_are_looked_up_elsewhere(result: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_data, "INDEX_BYTES", 10)
    page = reporting.render(storage.open_dataset(result))
    assert data_of(page)["genes"] is None
    assert "too many genes for this page" in page


def test_a_row_that_holds_most_of_the_abundance_is_named(tmp_path: Path) -> None:
    url = write_result_store(str(tmp_path / "r.zarr"), LABELS, genes=["UNMAPPED", *map(str, range(18))])
    array: Any = storage.open_group(url, writable=True)["gene_mean_abundance"]
    array[...] = np.array([100, *[1] * 18])
    page = reporting.render(storage.open_dataset(url))
    assert "UNMAPPED holds 85% of the abundance" in page
    assert "--exclude-genes UNMAPPED" in page


def test_it_is_named_after_log_ratios_too() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 1, (40, 60)) * (rng.random((40, 60)) < 0.7)
    values[7] = 20 * values.sum(axis=0) * rng.lognormal(0, 0.3, 60)
    table = pd.DataFrame(values, [f"g{i}" if i != 7 else "UNMAPPED" for i in range(40)], [f"s{i}" for i in range(60)])
    found = cagdask.find_cags(table, n_workers=0)
    assert found.attrs["metric"] == "correlation"
    assert any(caution.title.startswith("UNMAPPED holds 9") for caution in findings.warnings_of(found))


def test_the_error_rate_is_said_where_there_is_one(result: str) -> None:
    ds = storage.open_dataset(result)
    ds.attrs["error_rate"] = json.dumps({"in_words": "At most 0.01 of the genes in groups are there by chance."})
    assert findings.trust(ds)[-1] == "At most 0.01 of the genes in groups are there by chance."
    for damaged in ("{", "[1]", "null"):
        ds.attrs["error_rate"] = damaged
        assert len(findings.trust(ds)) == 1


def test_what_next_names_a_column_that_has_groups(result: str) -> None:
    ds = storage.open_dataset(result)
    assert not any("cagdask test" in command for _, command in findings.next_steps(ds))
    site = np.array(["gut", "soil"] * 4)
    samples = xr.Dataset(
        {"sample_coin": ("sample", list("abbaabba")), "sample_site": ("sample", site)},
        coords={"sample_id": ("sample", list("abcdefgh"))},
    )
    plane = ordinate(np.array([site == "gut", site == "soil"], float), is_log_ratio=False)
    assert findings.most_telling(samples, plane)[1] == "site"
    (command,) = [command for _, command in findings.next_steps(samples, "site") if "cagdask test" in command]
    assert "--labels site" in command


def test_few_samples_are_said(result: str) -> None:
    assert "Only 4 samples" in reporting.render(storage.open_dataset(result))


def test_a_column_that_explains_the_samples_is_named() -> None:
    rng = np.random.default_rng(0)
    site = np.repeat(["gut", "soil"], 15)
    values = rng.random((6, 30)) * np.where(site == "gut", 1, 0.01)
    values[3:] = values[3:] / np.where(site == "gut", 100, 0.01)
    ds = xr.Dataset({"sample_site": ("sample", site), "sample_coin": ("sample", rng.integers(0, 2, 30).astype(str))},
                    coords={"sample_id": ("sample", [str(i) for i in range(30)])})  # fmt: skip
    caution = findings._batch(ds, ordinate(values, is_log_ratio=False))
    assert caution is not None
    assert caution.title.startswith("site explains")
    assert findings._batch(ds.drop_vars("sample_site"), ordinate(values, is_log_ratio=False)) is None


def test_report_has_the_same_bytes_on_every_run(result: str, tmp_path: Path) -> None:
    first = Path(reporting.report(result, output=str(tmp_path / "a.html"))).read_bytes()
    second = Path(reporting.report(result, output=str(tmp_path / "b.html"))).read_bytes()
    assert first == second


@pytest.mark.parametrize("labels", [[-1, -1], [0], [0, 1, 2]])
def test_results_with_nothing_to_plot_still_give_a_page(tmp_path: Path, labels: list[int]) -> None:
    url = write_result_store(str(tmp_path / "r.zarr"), labels, n_samples=1)
    assert "</html>" in reporting.render(storage.open_dataset(url))


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


def test_an_error_rate_that_is_not_reached_is_a_caution(result: str) -> None:
    ds = storage.open_dataset(result)
    ds.attrs["error_rate"] = json.dumps({"in_words": "Shuffled genes form groups, too.", "support_bound": None})
    assert len(findings.trust(ds)) == 1
    assert any(one.detail == "Shuffled genes form groups, too." for one in findings.warnings_of(ds))
    ds.attrs["error_rate"] = json.dumps({"in_words": "Few by chance.", "support_bound": 1.5})
    assert findings.trust(ds)[-1] == "Few by chance."


def test_a_given_threshold_is_told_from_an_automatic_one(result: str) -> None:
    ds = storage.open_dataset(result)
    assert "within 0.2 were joined" in findings.method(ds)
    assert any(one.title == "No error rate was estimated" for one in findings.warnings_of(ds))
    ds.attrs["parameters"] = json.dumps({"refine": "noise-corrected", "normalization": "clr"})
    assert "automatic threshold" in findings.method(ds)


def test_columns_that_can_not_color_samples_are_not_offered(result: str) -> None:
    ds = storage.open_dataset(result)
    ds["sample_study"] = ("sample", ["one"] * 4)
    ds["sample_site"] = ("sample", ["gut", "soil", "gut", ""])
    assert list(data_of(reporting.render(ds))["samples"]["columns"]) == ["site"]
    assert "another one for most samples: study" in reporting.render(ds)


@pytest.mark.parametrize(
    ("lineage", "last"),
    [("k__B;p__Firmicutes;g__;s__", "p__Firmicutes"), ("k__B|s__Blautia", "s__Blautia"), ("a kinase", "a kinase")],
)
def test_a_lineage_is_called_by_its_last_named_rank(lineage: str, last: str) -> None:
    assert last_rank(lineage) == last


TESTED = "cag\teffect\tp_value\tq_value\n1\t0.5\t0.001\t0.006\n0\t-0.1\t0.5\t0.6\n2\t0.2\t\t\n"


def test_a_test_beside_the_result_is_shown_with_it(result: str, tmp_path: Path) -> None:
    (tmp_path / "by-site.tsv").write_text(TESTED)
    (tmp_path / "other.tsv").write_text("cag\tsize\n0\t1\n")
    page = reporting.render(storage.open_dataset(result))
    assert "1 of 2 tested CAGs differ at a false discovery rate of 5%" in page
    assert "<h3>by-site</h3>" in page
    assert "<h3>other</h3>" not in page
    drawn = data_of(page)["charts"]["volcano-0"]
    (points,) = drawn["datasets"].values()
    assert [(row["cag"], row["effect"]) for row in points] == [(1, 0.5), (0, -0.1)]
    assert "volcano-0" not in data_of(reporting.render(storage.open_dataset(result), ()))["charts"]


def test_a_test_that_is_older_than_the_result_is_not_shown_with_it(result: str, tmp_path: Path) -> None:
    """A run that replaces another leaves the tables of its tests, in which CAGs have other numbers."""
    (tmp_path / "by-site.tsv").write_text(TESTED)
    made = os.path.getmtime(f"{result}/zarr.json")
    os.utime(tmp_path / "by-site.tsv", (made - 60, made - 60))
    assert "<h3>by-site</h3>" not in reporting.render(storage.open_dataset(result))


def test_a_test_of_another_result_is_refused_if_named_and_left_out_if_found(result: str, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(TESTED.replace("2\t0.2", "99\t0.2"))
    assert "<h3>a</h3>" not in reporting.render(storage.open_dataset(result))
    with pytest.raises(InputError, match=r"a\.tsv: has a CAG 99, and this result has 6"):
        reporting.report(result, association=str(tmp_path / "a.tsv"))
    (tmp_path / "b.tsv").write_text(TESTED.replace("cag", "gene"))
    with pytest.raises(InputError, match="tests genes, not CAGs"):
        reporting.report(result, association=[str(tmp_path / "b.tsv")])


def test_two_results_are_compared_on_the_page(result: str, tmp_path: Path) -> None:
    other = write_result_store(str(tmp_path / "other.zarr"), [0] * 5 + [1] * 4 + [2] * 4 + [3] * 2 + [4, 5, 6, -1])
    page = reporting.render(storage.open_dataset(result), compare=other)
    assert "Of the CAGs of this result 2 are the same there" in page
    assert "1 are split, 0 are" in page
    assert "comparison" in data_of(page)["charts"]


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["a"] * 4 + ["b"] * 4, "--labels site --output"),
        (["a"] * 3 + ["b"] * 3 + ["c"] * 3, "--labels site --test kruskal --output"),
        (["a"] * 3 + ["x y"] * 3 + ["c"], "--labels site --groups 'a,x y' --output"),
    ],
)
def test_the_test_that_is_proposed_is_one_that_the_column_allows(labels: list[str], wanted: str) -> None:
    ds = xr.Dataset(
        {"sample_site": ("sample", labels)}, coords={"sample_id": ("sample", list("abcdefghi"[: len(labels)]))}
    )
    commands = [command for _, command in findings.next_steps(ds, "site")]
    assert wanted in commands[1]
