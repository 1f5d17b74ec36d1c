from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cagdask import storage
from cagdask.errors import InputError, SchemaError
from cagdask.reports import find_cags_files, tables
from tests.conftest import MakeStore
from tests.result_store import write_result_store

LABELS = [1, 0, -1, 0, 2, 1, 0]


@pytest.fixture
def result(tmp_path: Path) -> str:
    return write_result_store(str(tmp_path / "cags.zarr"), LABELS)


def test_genes_table_has_a_row_per_gene_of_the_store(result: str, tmp_path: Path) -> None:
    tables.write_genes(result, str(tmp_path / "genes.parquet"))
    table = pd.read_parquet(tmp_path / "genes.parquet")
    assert list(table.columns) == ["gene_id", "cag", "cag_distance", "prevalence", "mean_abundance"]
    assert list(table["gene_id"]) == [f"gene{i}" for i in range(7)]
    assert list(table["cag"]) == LABELS
    assert table["cag"].dtype == np.int64
    assert np.isnan(table["cag_distance"][2])


def test_cag_table_has_the_contracts_columns(result: str, tmp_path: Path) -> None:
    tables.write_cags(result, str(tmp_path / "cags.parquet"))
    table = pd.read_parquet(tmp_path / "cags.parquet")
    assert list(table.columns) == [
        "cag", "size", "prevalence", "mean_abundance", "std_abundance", "entropy", "cohesion", "status",
    ]  # fmt: skip
    assert list(table["cag"]) == [0, 1, 2]
    assert list(table["size"]) == [3, 2, 1]


def test_cag_abundance_has_a_column_per_sample(result: str, tmp_path: Path) -> None:
    tables.write_cag_abundance(result, str(tmp_path / "cag_abundance.parquet"))
    table = pd.read_parquet(tmp_path / "cag_abundance.parquet")
    assert list(table.columns) == ["cag", "sample0", "sample1", "sample2", "sample3"]
    stored = storage.open_group(result)["cag_abundance"][:]
    np.testing.assert_array_equal(table.drop(columns="cag").to_numpy(), stored)


@pytest.mark.parametrize(("block", "window"), [(65_536, 4_000_000), (2, 3), (1, 1), (3, 2)])
def test_membership_is_sorted_by_cag_then_gene_row(
    result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, window: int
) -> None:
    monkeypatch.setattr(tables, "BLOCK", block)
    monkeypatch.setattr(tables, "WINDOW", window)
    tables.write_membership(result, str(tmp_path / "CAGs.csv.gz"))
    find_cags_files.write_membership_json(result, str(tmp_path / "x.cags.json.gz"))
    table = pd.read_csv(tmp_path / "CAGs.csv.gz")
    assert list(table.columns) == ["CAG", "gene"]
    assert list(table["CAG"]) == [0, 0, 0, 1, 1, 2]
    assert list(table["gene"]) == ["gene1", "gene3", "gene6", "gene0", "gene5", "gene4"]
    with gzip.open(tmp_path / "x.cags.json.gz") as handle:
        groups = json.load(handle)
    assert list(groups) == ["0", "1", "2"]
    assert groups == {"0": ["gene1", "gene3", "gene6"], "1": ["gene0", "gene5"], "2": ["gene4"]}


def test_names_with_commas_quotes_and_accents_survive(tmp_path: Path) -> None:
    genes = ["a,b", 'say "hi"', "gène", "x<y>&z"]
    result = write_result_store(str(tmp_path / "r.zarr"), [0, 0, 0, 0], genes=genes)
    tables.write_membership(result, str(tmp_path / "c.csv.gz"))
    find_cags_files.write_membership_json(result, str(tmp_path / "c.json.gz"))
    assert list(pd.read_csv(tmp_path / "c.csv.gz")["gene"]) == genes
    with gzip.open(tmp_path / "c.json.gz") as handle:
        assert json.load(handle) == {"0": genes}


def test_a_result_without_any_cag_gives_empty_files(tmp_path: Path) -> None:
    result = write_result_store(str(tmp_path / "r.zarr"), [-1, -1])
    find_cags_files.write_membership_json(result, str(tmp_path / "c.json.gz"))
    tables.write_membership(result, str(tmp_path / "c.csv.gz"))
    with gzip.open(tmp_path / "c.json.gz") as handle:
        assert json.load(handle) == {}
    assert pd.read_csv(tmp_path / "c.csv.gz").empty


def test_files_have_the_same_bytes_on_every_run(result: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for name in tables.FILES:
            tables.write_file(name, result, str(tmp_path / folder))
    for name in tables.FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_nothing_is_left_when_writing_fails(result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "_names_at", fail)
    with pytest.raises(OSError, match="No space"):
        tables.write_file("CAGs.csv.gz", result, str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_find_cags_feather_files_are_read_by_pandas(result: str, tmp_path: Path, abundance_store: MakeStore) -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    store = abundance_store(values, list("wxyz"), ["s1", "s2"])
    find_cags_files.write_gene_feather(store, str(tmp_path / "p.feather"), lambda rows: rows * 2)
    table = pd.read_feather(tmp_path / "p.feather")
    assert list(table.columns) == ["index", "s1", "s2"]
    assert list(table["index"]) == list("wxyz")
    assert table["s1"].dtype == np.float64
    np.testing.assert_array_equal(table[["s1", "s2"]].to_numpy(), values * 2)

    find_cags_files.write_cag_feather(result, str(tmp_path / "p.cags.feather"))
    cags = pd.read_feather(tmp_path / "p.cags.feather")
    assert list(cags.columns) == ["index", "sample0", "sample1", "sample2", "sample3"]
    assert list(cags["index"]) == [0, 1, 2]
    assert cags["index"].dtype == np.int64


def test_a_sample_named_like_a_column_is_refused() -> None:
    with pytest.raises(InputError, match="a sample is named 'cag'"):
        tables.check_sample_names(["s1", "cag"], "cag")


def test_an_abundance_store_is_not_a_result(tmp_path: Path, abundance_store: MakeStore) -> None:
    store = abundance_store(np.ones((2, 2)))
    with pytest.raises(SchemaError, match="gene_cag"):
        tables.write_file("genes.parquet", store, str(tmp_path))
