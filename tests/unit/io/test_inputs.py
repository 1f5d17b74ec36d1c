"""Every analysis takes a store, a run's folder, a table, and tables in memory; the same data has the same digest."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import xarray as xr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask import cli, storage, stores
from cagdask.errors import InputError, SchemaError
from cagdask.io.inputs import as_store

GENES, SAMPLES = [f"Otu{i}" for i in range(40)], [f"s{j}" for j in range(6)]


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    values = (rng.gamma(1, 1, (40, 6)) * (rng.random((40, 6)) < 0.7)).astype(np.float32) + np.float32(0.01)
    values[3] = 2 * values[4]
    return pd.DataFrame(values, index=GENES, columns=SAMPLES)


@pytest.fixture
def table(tmp_path, frame):
    path = tmp_path / "table.tsv"
    frame.to_csv(path, sep="\t", index_label="gene")
    return str(path)


def write_h5ad(path, frame):
    import h5py

    with h5py.File(path, "w") as file:
        file["X"] = frame.to_numpy().T
        for axis, names in (("obs", frame.columns), ("var", frame.index)):
            file.create_group(axis).attrs["_index"] = "_index"
            file[f"{axis}/_index"] = list(names)


def ways(frame, table):
    """The same data in every form."""
    parquet, h5ad = table.replace(".tsv", ".parquet"), table.replace(".tsv", ".h5ad")
    frame.rename_axis("gene").to_parquet(parquet)
    write_h5ad(h5ad, frame)
    array = xr.DataArray(frame.to_numpy().T, dims=("site", "otu"), coords={"site": SAMPLES, "otu": GENES})
    return {
        "table": table,
        "Parquet": parquet,
        "h5ad": h5ad,
        "DataFrame": frame,
        "samples in rows": cagdask.as_dataset(frame.T, orient="samples-by-genes"),
        "DataArray": cagdask.as_dataset(array, gene_dim="otu"),
        "Dataset of other names": cagdask.as_dataset(xr.Dataset({"counts": array}), gene_dim="otu"),
        "sparse": cagdask.as_dataset(sp.csr_matrix(frame.to_numpy()), genes=GENES, samples=SAMPLES),
        "array": cagdask.as_dataset(frame.to_numpy(), genes=GENES, samples=SAMPLES),
    }


def test_the_same_data_has_one_digest_and_one_result_whichever_way_it_came(frame, table):
    found = {name: cagdask.find_cags(data, max_dist=0.2, n_workers=0) for name, data in ways(frame, table).items()}
    for ds in found.values():
        assert ds.attrs["input_digest"] == found["table"].attrs["input_digest"]
        xr.testing.assert_equal(ds, found["table"])


def test_anndata_has_the_digest_and_the_result_of_its_table(tmp_path, frame, table):
    anndata = pytest.importorskip("anndata")
    of_names = {"obs": pd.DataFrame(index=SAMPLES), "var": pd.DataFrame(index=GENES)}
    for data in (anndata.AnnData(frame.to_numpy().T, **of_names), anndata.AnnData(sp.csr_matrix(frame.T), **of_names)):
        data.write_h5ad(tmp_path / "own.h5ad")
        for way in (data, str(tmp_path / "own.h5ad")):
            found = cagdask.find_cags(way, max_dist=0.2, n_workers=0)
            xr.testing.assert_equal(found, cagdask.find_cags(table, max_dist=0.2, n_workers=0))
            assert (
                found.attrs["input_digest"] == cagdask.find_cags(table, max_dist=0.2, n_workers=0).attrs["input_digest"]
            )


def test_an_ingested_object_is_the_store_of_its_table(tmp_path, frame, table):
    one = cagdask.ingest(frame, store=str(tmp_path / "a.zarr"))
    other = cagdask.ingest(table, store=str(tmp_path / "b.zarr"), n_workers=0)
    xr.testing.assert_equal(one.compute(), other.compute())
    assert one.attrs["input_digest"] == other.attrs["input_digest"]
    assert one["abundance"].encoding["chunks"] == (40, 6)
    turned = cagdask.ingest(frame.T, store=str(tmp_path / "c.zarr"), orient="samples-by-genes")
    assert turned.attrs["input_digest"] == one.attrs["input_digest"]


def test_questions_factors_and_clusters_take_a_table_and_a_dataframe(tmp_path, frame, table):
    assert cagdask.similar(frame, "Otu3", k=2).equals(cagdask.similar(table, "Otu3", k=2, n_workers=0))
    for i, source in enumerate((frame, table)):
        cagdask.nmf(source, k=2, output=str(tmp_path / f"nmf{i}"), n_workers=0)
        clusters = cagdask.two_pass(source, k=3, n_workers=0)
        assert clusters.sizes["item"] == 40
    one, other = (pd.read_parquet(tmp_path / f"nmf{i}" / "nmf_latent.parquet") for i in range(2))
    pd.testing.assert_frame_equal(one, other)
    total = cagdask.normalize(frame, method="sum")["abundance"].sum("gene")
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_every_command_takes_the_folder_of_a_run(tmp_path, table):
    run = str(tmp_path / "run")
    cagdask.run(table, max_dist=0.2, output=run, n_workers=0)
    store = storage.join(run, "abundance.zarr")
    assert cagdask.similar(run, "Otu3", k=2).equals(cagdask.similar(store, "Otu3", k=2))
    xr.testing.assert_equal(
        cagdask.find_cags(run, max_dist=0.2, n_workers=0), cagdask.find_cags(store, max_dist=0.2, n_workers=0)
    )
    xr.testing.assert_equal(cagdask.assign(run, to=run, n_workers=0), cagdask.assign(store, to=run, n_workers=0))
    result = CliRunner().invoke(
        cli.main, ["cluster", run, "--output", str(tmp_path / "again"), "--workers", "1", "--no-progress"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "again" / "run.json").read_text())["source"] == store


def test_cluster_ingests_a_table_into_its_output(tmp_path, table):
    from cagdask.runs import pipeline

    pipeline.cluster(table, max_dist=0.2, output=str(tmp_path / "out"), n_workers=0)
    assert "abundance.zarr" in os.listdir(tmp_path / "out")
    assert "report.html" not in os.listdir(tmp_path / "out")
    cut = cagdask.cut(str(tmp_path / "out" / "cags.zarr"), max_dist=0.1, n_workers=0)
    assert cut.attrs["max_dist"] == 0.1


def test_what_is_made_for_an_analysis_is_removed_and_not_named(tmp_path, frame, table):
    before = sorted(os.listdir(tmp_path))
    with as_store(table, beside=str(tmp_path / "out"), n_workers=0) as url:
        assert storage.exists(url)
    assert sorted(os.listdir(tmp_path)) == before
    with pytest.raises(InputError, match="no gene named 'nowhere'") as caught:
        cagdask.similar(frame, "nowhere")
    assert "the DataFrame given" in str(caught.value)
    assert "/tmp" not in str(caught.value)


@pytest.mark.parametrize("command", ["cut", "report", "assign", "analogy", "twopass", "normalize", "info", "plan"])
def test_no_command_speaks_of_zarr_files_when_it_is_given_a_table(tmp_path, table, command):
    more = {
        "cut": ["--max-dist", "0.1", "--output", str(tmp_path / "x")],
        "assign": ["--to", table, "--output", str(tmp_path / "x"), "--workers", "1"],
        "analogy": ["Otu1", "Otu2", "--workers", "1"],
        "twopass": ["-k", "2", "--output", str(tmp_path / "x"), "--workers", "1"],
        "normalize": ["--output", str(tmp_path / "x"), "--workers", "1"],
    }
    result = CliRunner().invoke(cli.main, [command, table, *more.get(command, [])])
    assert "zarr.json" not in result.output
    if command in ("cut", "report", "assign"):
        assert result.exit_code == 1
        assert "table.tsv: is a file, not a store" in result.stderr
    else:
        assert result.exit_code == 0, result.output


def test_info_tells_the_size_of_a_table(table):
    result = CliRunner().invoke(cli.main, ["info", table])
    assert result.stdout == f"{table}: table; 40 genes x 6 samples\n"


@pytest.mark.parametrize("data", [3, {"a": 1}, pd.Series([1.0]), [1.0]])
def test_what_is_no_table_is_refused_before_anything_starts(data, monkeypatch):
    monkeypatch.setattr("cagdask.cags.clustering.as_runner", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(TypeError, match="is no table; name a path or URL, or give a Dataset"):
        cagdask.find_cags(data, max_dist=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(age="x"), "the DataFrame has columns that are no numbers: age"),
        (lambda f: -f, r"gene 'Otu0', sample 's0': the value is -\d.*abundances are 0 or more"),
        (lambda f: f.assign(s0=f.s0.where(f.index != "Otu5")), "gene 'Otu5', sample 's0': the value is missing"),
        (lambda f: f.rename(index={"Otu1": "Otu2"}), "gene 'Otu2' is there more than once"),
        (lambda f: f.rename(columns={"s1": "s2"}), "sample 's2' is there more than once"),
        (lambda f: f.iloc[:0], "the table is empty"),
        (lambda f: f.astype(float) * 1e40, "the largest that float32 holds"),
        (lambda f: xr.DataArray(f.to_numpy(), dims=("a", "b")), "the dims are 'a' and 'b': say which has the genes"),
        (lambda f: xr.Dataset(), "several variables of two dims, or none"),
    ],
)
def test_a_table_that_can_not_be_used_is_refused_with_its_place(frame, change, message):
    with pytest.raises(ValueError, match=message):
        cagdask.find_cags(change(frame), max_dist=0.2, n_workers=0)


def test_names_are_needed_for_a_matrix():
    with pytest.raises(ValueError, match="a matrix has no names: give genes="):
        cagdask.as_dataset(np.ones((2, 3)))
    with pytest.raises(InputError, match=r"shape \(2, 3\), but there are 3 genes and 2 samples"):
        cagdask.as_dataset(np.ones((2, 3)), genes="abc", samples="xy")


def test_values_too_small_for_a_store_are_told(tmp_path, caplog):
    table = pd.DataFrame([[1e-50, 2.0], [3.0, 1e-60]], index=["a", "b"], columns=["s", "t"])
    ds = cagdask.ingest(table, store=str(tmp_path / "s.zarr"))
    assert "2 values are too small for float32 (below 1.4e-45) and count as absent" in caplog.text
    assert ds.abundance.values.tolist() == [[0, 2], [3, 0]]


def test_options_of_files_are_refused_for_tables_in_memory(tmp_path):
    table = pd.DataFrame([[1.0, 2.0]], index=["a"], columns=["s", "t"])
    with pytest.raises(ValueError, match="metadata, exclude_genes: for files, and this is a table in memory"):
        cagdask.ingest(table, store=str(tmp_path / "s.zarr"), exclude_genes="^a", metadata="m.tsv")
    assert list(tmp_path.iterdir()) == []
    assert cagdask.ingest(table, store=str(tmp_path / "s.zarr"), kind="expression").attrs["kind"] == "expression"


def test_a_zarr_store_of_others_is_no_store_of_ours(tmp_path):
    ours, theirs = str(tmp_path / "ours.zarr"), str(tmp_path / "theirs.zarr")
    table = pd.DataFrame([[1.0, 2.0], [3.0, 0.0]], index=["a", "b"], columns=["s", "t"])
    cagdask.ingest(table, store=ours)
    coords = {"gene": np.array([1, 2]), "sample": np.array([1, 2])}
    array = xr.DataArray(table.to_numpy(), dims=("gene", "sample"), coords=coords, name="abundance")
    array.to_dataset().assign_attrs(schema_version=9).to_zarr(theirs, consolidated=False)
    assert stores.is_store(ours)
    assert not stores.is_store(theirs)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no files of samples\. Name a sheet"):
        cagdask.find_cags(str(tmp_path), max_dist=0.2)
    (tmp_path / "x").write_text("x")
    with pytest.raises(SchemaError, match="is a file, not a store"):
        cagdask.open_dataset(str(tmp_path / "x"))


@given(seed=st.integers(0, 1000), rows=st.integers(1, 30), columns=st.integers(1, 8))
def test_digests_do_not_depend_on_blocks_or_precision(seed, rows, columns):
    from cagdask.storage import objects

    values = np.random.default_rng(seed).random((rows, columns)).astype(np.float32)
    names = {"genes": [f"g{i}" for i in range(rows)], "samples": [f"s{i}" for i in range(columns)]}
    one, _ = objects._look_through(cagdask.as_dataset(values, **names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "BLOCK_CELLS", 5)
        other, _ = objects._look_through(cagdask.as_dataset(values.astype(float), **names))
    assert one == other


def test_the_version_is_there():
    from cagdask.provenance import cagdask_version

    assert cagdask.__version__ == cagdask_version()


def test_a_script_without_a_guard_gets_one_line(tmp_path, table):
    script = tmp_path / "script.py"
    script.write_text(f"import cagdask\ncagdask.find_cags({table!r}, n_workers=1)\n")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "every worker process imports this script" in last
    assert 'if __name__ == "__main__":' in last
    assert result.stderr.count("Traceback") == 1
