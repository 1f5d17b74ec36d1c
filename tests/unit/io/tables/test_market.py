"""Matrix Market files that are larger than what a task may use, with lines in any order."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_runs_give_the_rows_back_whatever_their_lengths_and_the_order_they_are_asked_for(data: st.DataObject) -> None:
    n, m, step = (data.draw(st.integers(1, 9)) for _ in range(3))
    entry = st.tuples(st.integers(0, n - 1), st.integers(0, m - 1), st.integers(1, 9))
    dense = np.zeros((n, m))
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(market, "_ENDS", data.draw(st.integers(1, 6)))
        runs = market.Runs(file, n, m, step)
        for run in data.draw(st.lists(st.lists(entry, max_size=5), max_size=4)):
            rows, columns, values = np.array(run, np.int64).reshape(-1, 3).T
            np.add.at(dense, (rows, columns), values)
            runs.add(rows.astype(np.int32), columns.astype(np.int32), values.astype(np.float64))
        for begin in data.draw(st.permutations(range(0, n, step))):
            np.testing.assert_array_equal(runs.dense(begin, min(n, begin + step)), dense[begin : begin + step])


def test_many_runs_of_many_batches_take_little_memory() -> None:
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(market, "_ENDS", 2**12)
        tracemalloc.start()
        try:
            runs = market.Runs(file, 20_000, 2, 1)
            one = np.array([7], np.int32)
            for _ in range(100):  # with all their ends in memory: 16 MB
                runs.add(one, np.zeros(1, np.int32), np.ones(1))
            assert runs.dense(7, 8).tolist() == [[100, 0]]
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("place", ["4 1", "1 3", "0 1", "1 -5"])
def test_an_entry_outside_is_named_with_its_number(tmp_path: Path, place: str) -> None:
    folder = write_folder(tmp_path / "data", np.array([0, 2]), np.array([0, 1]), np.ones(2))
    matrix = tmp_path / "data" / "matrix.mtx"
    matrix.write_text(matrix.read_text().replace("\n3 2 1\n", f"\n{place} 1\n"))
    row, column = place.split()
    with pytest.raises(InputError, match=rf"entry 2 of the matrix is at row {row}, column {column}, outside 3 x 2"):
        read_table(folder, 1, "", {}, False, 2**24, str(tmp_path / "parts"))
