"""Cut and assign leave what a run leaves: the same names, the same columns, a report and ``run.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cagdask import storage, stores
from cagdask.cags.cutting import cut
from cagdask.runs import derived, pipeline
from cagdask.simulation.writing import simulate_abundance
from cagdask.storage import manifest
from tests.conftest import MakeStore

HERE: dict[str, Any] = {"overwrite": False, "client": None, "n_workers": 0, "memory_limit": "1GiB"}
TABLES = ("genes.parquet", "cags.parquet", "cag_abundance.parquet", "cag_sum.parquet")


@pytest.fixture
def folder(abundance_store: MakeStore, tmp_path: Path) -> Path:
    """The folder of a run of 300 genes."""
    store = abundance_store(simulate_abundance(300, 40, seed=3)[0])
    pipeline.write_run(store, str(tmp_path / "run"), {"max_dist": 0.3, "refine": "none"}, dict(HERE))
    return tmp_path / "run"


def test_cut_leaves_the_files_of_a_run_and_a_cut_of_it_can_go_on(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "finer")
    made = derived.write_cut(str(folder / "cags.zarr"), out, max_dist=0.1, store=None, where=HERE)
    assert made == f"{out}/cags.zarr"
    ran, run = storage.read_json(f"{folder}/run.json"), storage.read_json(f"{out}/run.json")
    assert run["files"].keys() == ran["files"].keys()
    assert not ran.keys() - run.keys()
    assert (run["command"], run["source"], run["parameters"]["max_dist"]) == ("cut", ran["source"], 0.1)
    for name in TABLES:
        assert list(pd.read_parquet(f"{out}/{name}")) == list(pd.read_parquet(folder / name))
    wanted = cut(str(folder / "cags.zarr"), max_dist=0.1, store=ran["source"], n_workers=0)
    labels = pd.read_parquet(f"{out}/genes.parquet").cag
    np.testing.assert_array_equal(labels, wanted.gene_cag)
    assert labels[labels >= 0].nunique() == run["summary"]["n_cags"] > ran["summary"]["n_cags"]
    assert "<html" in Path(f"{out}/report.html").read_text()[:500]

    again = derived.write_cut(made, str(tmp_path / "finest"), max_dist=0.05, store=None, where=HERE)
    assert stores.clustered_store(again) == ran["source"]


def test_assign_leaves_the_files_of_a_run(folder: Path, tmp_path: Path) -> None:
    store, out = storage.read_json(f"{folder}/run.json")["source"], str(tmp_path / "more")
    options = {"max_dist": 0.5, "min_size": 2, "min_support": 1.0}
    made = derived.write_assigned(store, out, to=str(folder / "cags.zarr"), clustered=None, options=options, where=HERE)
    run = storage.read_json(f"{out}/run.json")
    assert run["files"].keys() == storage.read_json(f"{folder}/run.json")["files"].keys()
    assert run["assignment"]["n_assigned"] == int(storage.open_dataset(made).gene_assigned.sum()) > 0
    assert run["parameters"] == options
    assert pd.read_parquet(f"{out}/cags.parquet")["size"].sum() == 300 - (storage.open_dataset(made).gene_cag < 0).sum()


def test_a_name_that_ends_in_zarr_gets_the_store_alone(folder: Path, tmp_path: Path) -> None:
    result = str(folder / "cags.zarr")
    alone = derived.write_cut(result, str(tmp_path / "alone.zarr"), max_dist=0.1, store=None, where=HERE)
    inside = derived.write_cut(result, str(tmp_path / "inside"), max_dist=0.1, store=None, where=HERE)
    assert (Path(alone) / manifest.NAME).read_bytes() == (Path(inside) / manifest.NAME).read_bytes()
    assert not (tmp_path / "run.json").exists()


def test_a_cut_into_its_own_folder_is_refused(folder: Path) -> None:
    before = storage.read_json(f"{folder}/run.json")
    with pytest.raises(ValueError, match="holds the result that cut starts from"):
        derived.write_cut(
            str(folder / "cags.zarr"), str(folder), max_dist=0.1, store=None, where=HERE | {"overwrite": True}
        )
    with pytest.raises(ValueError, match=r"max_dist.? is 0\.9, but"):
        derived.write_cut(str(folder / "cags.zarr"), f"{folder}-x", max_dist=0.9, store=None, where=HERE)
    assert storage.read_json(f"{folder}/run.json") == before
    assert not Path(f"{folder}-x").exists()


def test_further_formats_are_written_beside_parquet_by_run_and_cut(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(simulate_abundance(60, 20, seed=3)[0])
    asked = HERE | {"formats": "csv, tsv,h5ad"}
    pipeline.write_run(store, str(tmp_path / "run"), {"max_dist": 0.3}, dict(asked))
    result = str(tmp_path / "run" / "cags.zarr")
    derived.write_cut(result, str(tmp_path / "finer"), max_dist=0.1, store=None, where=asked)
    for folder in (tmp_path / "run", tmp_path / "finer"):
        run = storage.read_json(f"{folder}/run.json")
        assert run["formats"] == ["tsv", "csv", "h5ad"]
        assert set(run["files"]) <= {path.name for path in folder.iterdir()}
        assert {"genes.tsv", "cags.csv", "cag_sum.tsv", "cags.h5ad", "genes.parquet"} <= set(run["files"])
        cags = pd.read_csv(folder / "cags.tsv", sep="\t")
        assert cags["size"].tolist() == pd.read_parquet(folder / "cags.parquet")["size"].tolist()
    with pytest.raises(ValueError, match="format is 'xls'; choose from parquet, tsv, csv, h5ad, geneshot"):
        pipeline.write_run(store, str(tmp_path / "x"), {}, HERE | {"formats": "xls"})
    with pytest.raises(ValueError, match="formats are of tables in a folder"):
        derived.write_cut(result, str(tmp_path / "x.zarr"), max_dist=0.1, store=None, where=asked)
    assert not (tmp_path / "x").exists()
