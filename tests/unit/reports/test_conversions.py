"""A result as pandas, AnnData, h5ad and geneshot's layout, read back by those that read them."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import cagdask
from cagdask import storage
from cagdask.reports import anndata_file, geneshot_file, tables
from tests.result_store import write_result_store

LABELS = [1, 0, -1, 0, 2, 1, 0]


@pytest.fixture
def result(tmp_path: Path) -> str:
    """A result of 7 genes, 3 CAGs and 4 samples with metadata."""
    url = write_result_store(str(tmp_path / "cags.zarr"), LABELS)
    group = storage.open_group(url, writable=True)
    sites = np.array(["gut", "gut", "mouth", ""], np.dtypes.StringDType())
    storage.write_array(group, "sample_site", sites, dims=("sample",), attrs={})
    storage.write_array(group, "sample_age", np.array([31, 4, 77, 8]), dims=("sample",), attrs={})
    taxa = np.array([f"s__{i}" for i in range(7)], np.dtypes.StringDType())
    storage.write_array(group, "gene_taxonomy", taxa, dims=("gene",), attrs={})
    storage.write_array(group, "cag_taxonomy", taxa[:3], dims=("cag",), attrs={})
    storage.finish_group(group)
    return url


def test_pandas_gets_the_tables_with_their_names(result: str, tmp_path: Path) -> None:
    for name, what in (("genes", "genes"), ("cags", "cags"), ("cag_abundance", "abundance"), ("cag_sum", "sum")):
        tables.write_file(f"{name}.parquet", result, str(tmp_path))
        wanted = pd.read_parquet(tmp_path / f"{name}.parquet")
        wanted = wanted.set_index("gene_id" if what == "genes" else "cag")
        for given in (result, cagdask.open_dataset(result), cagdask.open_dataset(result).load()):
            found = cagdask.to_pandas(given, what=what)
            pd.testing.assert_frame_equal(found, wanted, check_dtype=False, check_index_type=False, check_names=False, check_column_type=False)  # fmt: skip # noqa: E501
            assert found.index.name == wanted.index.name
    assert cagdask.to_pandas(result, what="genes").loc["gene3", "taxonomy"] == "s__3"
    with pytest.raises(ValueError, match="choose one of cags, genes, abundance, sum"):
        cagdask.to_pandas(result, what="reads")


def test_h5ad_holds_samples_by_cags_with_metadata_of_both(result: str, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.h5ad", "b.h5ad")]
    for path in paths:
        anndata_file.write_h5ad(result, path)
    assert Path(paths[0]).read_bytes() == Path(paths[1]).read_bytes()
    ds = storage.open_dataset(result).load()
    with h5py.File(paths[0]) as file:
        assert dict(file.attrs) == {"encoding-type": "anndata", "encoding-version": "0.1.0"}
        np.testing.assert_array_equal(file["X"][:], ds.cag_abundance.values.T)
        np.testing.assert_array_equal(file["layers/sum"][:], ds.cag_sum.values.T)
        assert file["obs"].attrs["column-order"].tolist() == ["age", "site"]
        assert file["obs/site"].asstr()[:].tolist() == ["gut", "gut", "mouth", ""]
        assert file["obs/age"][:].tolist() == [31, 4, 77, 8]
        assert file["var/_index"].asstr()[:].tolist() == ["CAG_0", "CAG_1", "CAG_2"]
        assert file["var/taxonomy"].asstr()[:].tolist() == ["s__0", "s__1", "s__2"]
        assert file["uns/cagdask/parameters/max_dist"][()] == 0.2
    back = cagdask.ingest(paths[0], store=str(tmp_path / "back.zarr"), n_workers=0)
    np.testing.assert_array_equal(back.abundance, ds.cag_abundance)
    assert back.sample_id.values.tolist() == ds.sample_id.values.tolist()
    assert back.gene_taxonomy.values.tolist() == ["s__0", "s__1", "s__2"]
    assert back.sample_site.values.tolist() == ["gut", "gut", "mouth", ""]


@pytest.mark.skipif(importlib.util.find_spec("anndata") is None, reason="anndata is not installed")
def test_anndata_reads_the_h5ad_file_as_to_anndata_makes_it(result: str, tmp_path: Path) -> None:
    import anndata

    anndata_file.write_h5ad(result, str(tmp_path / "a.h5ad"))
    read, made = anndata.read_h5ad(tmp_path / "a.h5ad"), cagdask.to_anndata(result)
    np.testing.assert_array_equal(read.X, made.X)
    np.testing.assert_array_equal(read.layers["sum"], made.layers["sum"])
    pd.testing.assert_frame_equal(read.obs, made.obs, check_names=False)
    pd.testing.assert_frame_equal(read.var, made.var, check_names=False)


@pytest.mark.skipif(importlib.util.find_spec("anndata") is not None, reason="anndata is installed")
def test_without_anndata_one_line_says_what_to_do(result: str) -> None:
    with pytest.raises(ImportError, match=r"pip install 'cagdask\[anndata\]'.*--format h5ad"):
        cagdask.to_anndata(result)


def test_geneshots_layout_is_read_by_pandas_and_by_our_reader(result: str, tmp_path: Path) -> None:
    pytest.importorskip("tables")
    path = str(tmp_path / "geneshot.hdf5")
    geneshot_file.write_geneshot(result, path)
    time.sleep(1.1)  # HDF5 notes times in seconds
    geneshot_file.write_geneshot(result, f"{path}-again")
    assert Path(path).read_bytes() == Path(f"{path}-again").read_bytes()
    ds = storage.open_dataset(result).load()
    genes = pd.read_hdf(path, "/annot/gene/all")
    assert genes["gene"].tolist() == ds.gene_id.values.tolist()
    assert genes["CAG"].tolist() == LABELS
    assert pd.read_hdf(path, "/annot/cag/all")["size"].tolist() == [3, 2, 1]
    manifest = pd.read_hdf(path, "/manifest")
    assert manifest["specimen"].tolist() == ds.sample_id.values.tolist()
    assert manifest["site"].tolist() == ["gut", "gut", "mouth", ""]
    back = cagdask.ingest(path, store=str(tmp_path / "back.zarr"), n_workers=0)
    np.testing.assert_array_equal(back.abundance, ds.cag_abundance)
    assert back.gene_id.values.tolist() == ["CAG 0", "CAG 1", "CAG 2"]


def test_without_pytables_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(cagdask.errors.InputError, match=r"needs PyTables.*pip install tables"):
        geneshot_file.check_tables()


@pytest.mark.parametrize(("suffix", "separator"), [("tsv", "\t"), ("csv", ",")])
def test_text_tables_hold_what_parquet_holds(tmp_path: Path, suffix: str, separator: str) -> None:
    genes = ["a,b", 'say "hi"', "tab\there", "gène"]
    url = write_result_store(str(tmp_path / "r.zarr"), [0, 0, 1, -1], genes=genes, samples=["s,1", "s2"])
    for name in tables.TABLES:
        for ending in ("parquet", suffix):
            tables.write_file(f"{name}.{ending}", url, str(tmp_path))
        wanted = pd.read_parquet(tmp_path / f"{name}.parquet")
        found = pd.read_csv(tmp_path / f"{name}.{suffix}", sep=separator)
        pd.testing.assert_frame_equal(found, wanted, check_dtype=False, rtol=1e-6)
