"""What lies at a URL, and the folder of a run where a store or a result is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cagdask
from cagdask import stores
from cagdask.errors import InputError, SchemaError
from tests.inline_runner import InlineRunner


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``table.tsv``; ``run`` of it; ``clusters`` of the store of that run, which have none of their own."""
    folder = tmp_path_factory.mktemp("runs")
    rows = [f"g{i}\t{i % 5 + 1}\t{i % 3}\t{i % 7}\t{2 * (i % 5) + 1}" for i in range(40)]
    (folder / "table.tsv").write_text("gene\ta\tb\tc\td\n" + "\n".join(rows) + "\n")
    cagdask.run(str(folder / "table.tsv"), max_dist=0.2, output=str(folder / "run"), client=InlineRunner())
    cagdask.run(
        str(folder / "run" / "abundance.zarr"), max_dist=0.2, output=str(folder / "clusters"), client=InlineRunner()
    )
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("run/abundance.zarr", "store"),
        ("run/cags.zarr", "result"),
        ("run", "run"),
        ("clusters", "run"),
        ("table.tsv", "file"),
        (".", "folder"),
        ("nowhere", "nothing"),
    ],
)
def test_what_lies_at_a_url(runs: Path, name: str, kind: str) -> None:
    assert stores.kind_of(str(runs / name)) == kind


def test_the_folder_of_a_run_stands_for_its_store_and_its_result(runs: Path) -> None:
    store = str(runs / "run" / "abundance.zarr")
    for named in ("run/abundance.zarr", "run", "clusters"):
        assert stores.abundance_url(str(runs / named)) == store
    for named in ("run", "run/cags.zarr"):
        assert stores.result_url(str(runs / named)) == str(runs / "run" / "cags.zarr")
    assert stores.clustered_store(str(runs / "clusters" / "cags.zarr")) == store
    assert stores.open_result(str(runs / "run")).sizes["gene"] == 40


def test_a_store_without_cags_is_no_result(runs: Path) -> None:
    with pytest.raises(SchemaError, match="holds no CAGs"):
        stores.open_result(str(runs / "run" / "abundance.zarr"))


def test_a_result_whose_store_nobody_knows_is_told(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (runs / "run" / "cags.zarr").rename(tmp_path / "alone" / "cags.zarr")
    try:
        with pytest.raises(InputError, match=r"but no abundance\.zarr"):
            stores.abundance_url(str(tmp_path / "alone"))
    finally:
        (tmp_path / "alone" / "cags.zarr").rename(runs / "run" / "cags.zarr")


def test_every_function_takes_the_folder_of_a_run(runs: Path, tmp_path: Path) -> None:
    folder, here = str(runs / "run"), InlineRunner()
    found = cagdask.find_cags(folder, max_dist=0.2, client=here)
    assert found.sizes["gene"] == 40
    again = cagdask.run(folder, max_dist=0.2, output=str(tmp_path / "again"), client=here)
    assert again["gene_cag"].values.tolist() == found["gene_cag"].values.tolist()
    assert json.loads((tmp_path / "again" / "run.json").read_text())["source"].endswith("run/abundance.zarr")
    cut = cagdask.cut(folder, max_dist=0.1, client=here)
    assert cut.attrs["max_dist"] == 0.1
    assigned = cagdask.assign(folder, to=folder, client=here)
    assert "gene_assigned" in assigned
    assert cagdask.nmf(folder, k=1, output=str(tmp_path / "nmf"), client=here).sizes["component"] == 1


def test_the_text_false_certifies_nothing(runs: Path) -> None:
    result = cagdask.open_dataset(str(runs / "run" / "cags.zarr")).load()
    assert result.attrs["certified"] is True
    result.attrs["certified"] = "false"
    assert cagdask.cut(result, max_dist=0.1, client=InlineRunner()).attrs["certified"] is False
