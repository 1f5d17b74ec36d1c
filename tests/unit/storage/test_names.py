"""Genes and samples are selected by name, and opening a store reads no names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cagdask import save_dataset
from cagdask.errors import InputError
from cagdask.storage import open_dataset
from cagdask.storage.names import NameIndex, without_names
from tests.conftest import MakeStore

VALUES = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
GENES, SAMPLES = ["a", "b", "c", "d"], ["S1", "S2", "S3"]


@pytest.fixture
def url(abundance_store: MakeStore) -> str:
    return abundance_store(VALUES, GENES, SAMPLES)


def test_genes_and_samples_are_selected_as_in_pandas(url: str) -> None:
    ds = open_dataset(url)
    table = pd.DataFrame(VALUES, GENES, SAMPLES)
    assert ds.sel(gene="c", sample="S2").abundance.values.item() == table.loc["c", "S2"]
    picked = ds.sel(gene=["d", "a"], sample=["S3"]).abundance
    np.testing.assert_array_equal(picked, table.loc[["d", "a"], ["S3"]])
    assert ds.isel(gene=slice(1, 3)).sel(gene="b").gene_id.values.item() == "b"
    back = ds.abundance.to_pandas()
    assert back.index.tolist() == GENES
    assert back.loc["d", "S1"] == table.loc["d", "S1"]
    assert ds.load().sel(gene="b").abundance.values.tolist() == table.loc["b"].tolist()


def test_opening_and_slicing_read_no_names(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(_: NameIndex) -> None:
        raise AssertionError("names were read")

    monkeypatch.setattr(NameIndex, "index", property(made))
    ds, again = open_dataset(url), open_dataset(url)
    assert (ds.abundance == again.abundance).all()
    assert ds.isel(gene=slice(2), sample=0).abundance.shape == (2,)
    with pytest.raises(AssertionError, match="names were read"):
        ds.sel(gene="a")


def test_a_name_that_is_not_there_is_told(url: str) -> None:
    with pytest.raises(KeyError, match=r"no gene is named 'x' .2 of those asked for are not"):
        open_dataset(url).sel(gene=["a", "x", "y"])
    with pytest.raises(KeyError, match="no sample is named 'S4'"):
        open_dataset(url).sel(sample="S4")
    twice = xr.concat([open_dataset(url)] * 2, "gene", data_vars="minimal")
    with pytest.raises(InputError, match="gene 'a' is there more than once"):
        twice.sel(gene="a")


def test_parts_of_a_store_are_put_together_by_name(url: str) -> None:
    values = open_dataset(url).abundance
    both = values.isel(gene=slice(0, 3)) + open_dataset(url).abundance.isel(gene=slice(1, 4))
    assert both.gene.values.tolist() == ["b", "c"]
    np.testing.assert_array_equal(both, 2 * VALUES[1:3])
    joined = xr.concat([values.isel(gene=[3]), values.isel(gene=[0])], "gene")
    np.testing.assert_array_equal(joined.sel(gene="a"), VALUES[0])


def test_stores_hold_names_once(url: str, tmp_path: Path) -> None:
    ds = open_dataset(url)
    save_dataset(ds, str(tmp_path / "saved.zarr"))
    assert not {"gene", "sample"} & {path.name for path in (tmp_path / "saved.zarr").iterdir()}
    xr.testing.assert_equal(open_dataset(str(tmp_path / "saved.zarr")), ds)
    assert not {"gene", "sample"} & set(without_names(ds).coords)
