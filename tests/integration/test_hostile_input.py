"""A short run of the fuzzer; ``scripts/fuzz.py`` is the long one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cagdask import storage
from cagdask.errors import InputError, SchemaError, StoreError
from cagdask.io.sheets import sheet
from cagdask.io.sheets.sheet import read_sheet
from tests import fuzz
from tests.conftest import MakeStore


def test_hostile_inputs_are_taken_or_refused(tmp_path: Path) -> None:
    report = fuzz.run(tmp_path, 350, seed=10_000_000)
    assert report.problems == []
    assert report.peak_ratio < 2
    assert {name for name, end in report.counts if end == "refused"} == set(fuzz.Playground(tmp_path / "x").targets)


def test_a_sheet_that_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MAX_SHEET_BYTES", 2**20)
    (tmp_path / "sheet.json.gz").write_bytes(fuzz.BOMB)
    with pytest.raises(InputError, match="has more than"):
        read_sheet(str(tmp_path / "sheet.json.gz"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]}, "metadata can not be used|is not read"),
        (  # one that Zarr knows, by an entry point of another package
            {"codecs": [{"name": "bytes"}, {"name": "numcodecs.bz2", "configuration": {"level": 1}}]},
            "abundance is stored with 'numcodecs.bz2', which is not read",
        ),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9, 10**3]}}}, "a chunk of abundance"),
    ],
)
def test_a_store_that_would_run_code_or_unpack_to_too_much_is_refused(
    abundance_store: MakeStore, change: dict[str, object], words: str
) -> None:
    url = abundance_store(np.ones((4, 2)))
    metadata = storage.read_json(f"{url}/abundance/zarr.json")
    storage.write_json(f"{url}/abundance/zarr.json", metadata | change)
    with pytest.raises(SchemaError, match=words):
        storage.open_dataset(url)


def test_a_manifest_with_a_size_that_is_no_number_is_damaged(tmp_path: Path) -> None:
    playground = fuzz.Playground(tmp_path / "x")
    path = playground.sealed / "manifest" / "zarr.json"
    metadata = storage.read_json(str(path))
    manifest = metadata["attributes"]["cagdask_manifest"]["files"]
    name = next(iter(manifest))
    manifest[name][0] = float("inf")
    path.write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match="its manifest is damaged"):
        storage.open_dataset(str(playground.sealed))
