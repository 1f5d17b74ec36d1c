"""Matrix Market files that are larger than what a task may use, with lines in any order."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables import market
from cagdask.io.tables.parts import read_table


def write_folder(folder: Path, rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float64]) -> str:
    """A 10x folder of these entries, in their order; places are counted from 0."""
    folder.mkdir()
    n_genes, n_samples = int(rows.max()) + 1, int(columns.max()) + 1
    with (folder / "matrix.mtx").open("wb") as file:
        file.write(f"%%MatrixMarket matrix coordinate real general\n%\n{n_genes} {n_samples} {len(rows)}\n".encode())
        entries = pa.table({"row": rows + 1, "column": columns + 1, "value": values})
        pa_csv.write_csv(entries, file, pa_csv.WriteOptions(include_header=False, delimiter=" "))
    (folder / "features.tsv").write_text("".join(f"g{i}\n" for i in range(n_genes)))
    (folder / "barcodes.tsv").write_text("".join(f"s{i}\n" for i in range(n_samples)))
    return str(folder)


def write_table(path: Path, dense: NDArray[np.float64]) -> str:
    """The same as text."""
    columns = {"gene": [f"g{i}" for i in range(len(dense))]} | {f"s{j}": dense[:, j] for j in range(dense.shape[1])}
    pa_csv.write_csv(pa.table(columns), str(path), pa_csv.WriteOptions(delimiter="\t"))
    return str(path)


def test_a_tall_file_in_any_order_takes_no_more_than_its_task_may_and_is_the_same_table(tmp_path: Path) -> None:
    budget, shape = 2**24, (20_000, 25)
    chance = np.random.default_rng(0)
    rows, columns = np.divmod(chance.permutation(shape[0] * shape[1])[:400_000], shape[1])
    values = chance.integers(1, 50, len(rows)).astype(np.float64)
    dense = np.zeros(shape)
    dense[rows, columns] = values
    assert 48 * len(rows) > budget, "as a whole it would not fit"
    folder = write_folder(tmp_path / "tall", rows, columns, values)
    parts = tmp_path / "parts"
    few = write_folder(tmp_path / "few", np.array([0, 1]), np.array([0, 1]), np.ones(2))
    read_table(few, 1, "", {}, False, budget, str(tmp_path / "first"))  # what is imported is no memory of the reader
    tracemalloc.start()
    try:
        found = read_table(folder, 1, "", {}, False, budget, str(parts))
        assert tracemalloc.get_traced_memory()[1] < budget
    finally:
        tracemalloc.stop()
    table = write_table(tmp_path / "t.tsv", dense)
    assert found["digest"] == read_table(table, 1, "", {}, False, 2**26, str(tmp_path / "others"))["digest"]
    assert not [name for name in os.listdir(parts) if name.startswith("tmp")]


@pytest.mark.parametrize("longest", [1, 3, 100])
def test_entries_of_one_place_add_up_whatever_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr(market, "MAX_RUN", longest)
    rows, columns = np.array([2, 0, 2, 1, 2, 0]), np.array([1, 0, 1, 1, 0, 0])
    folder = write_folder(tmp_path / "data", rows, columns, np.array([1, 2, 4, 8, 16, 32.5]))
    table = write_table(tmp_path / "t.tsv", np.array([[34.5, 0], [0, 8], [16, 5]]))
    digests = {
        read_table(url, 1, "", {}, False, 2**24, str(tmp_path / f"parts-{i}"))["digest"]
        for i, url in enumerate([folder, table])
    }
    assert len(digests) == 1


@pytest.mark.parametrize("place", ["4 1", "1 3", "0 1", "1 -5"])
def test_an_entry_outside_is_named_with_its_number(tmp_path: Path, place: str) -> None:
    folder = write_folder(tmp_path / "data", np.array([0, 2]), np.array([0, 1]), np.ones(2))
    matrix = tmp_path / "data" / "matrix.mtx"
    matrix.write_text(matrix.read_text().replace("\n3 2 1\n", f"\n{place} 1\n"))
    row, column = place.split()
    with pytest.raises(InputError, match=rf"entry 2 of the matrix is at row {row}, column {column}, outside 3 x 2"):
        read_table(folder, 1, "", {}, False, 2**24, str(tmp_path / "parts"))
