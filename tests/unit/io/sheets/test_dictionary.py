from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask import storage
from cagdask.errors import MemoryLimitError
from cagdask.io import columns
from cagdask.io.columns import read_id_range, read_row_range, write_columns
from cagdask.io.sheets.dictionary import _entries, choose_splitters, count_parts, merge_genes, sort_order, union

# few letters make ties; the others test bytes: zero, two to four bytes long, and one that sorts otherwise in UTF-16
NAMES = st.one_of(
    st.text("ab", max_size=30), st.text("a\0é\uffff\U0001f600", max_size=20), st.from_regex(r"gene_[0-9]{1,12}\Z")
)
ID_SETS = st.lists(st.sets(NAMES.filter(bool), max_size=30), min_size=1, max_size=6)


@given(st.lists(NAMES, max_size=60), st.integers(0, 5))
def test_order_is_that_of_utf8_bytes(names, skipped):
    ids = pa.array(names, pa.string())[skipped:]
    assert ids.take(pa.array(sort_order(ids))).to_pylist() == sorted(names[skipped:], key=str.encode)


@given(ID_SETS)
def test_union_is_that_of_sets_and_rows_point_into_it(sets):
    slices = [pa.array(sorted(names, key=str.encode), pa.string()) for names in sets]
    genes, rows = union(slices)
    assert genes.to_pylist() == sorted(set().union(*sets), key=str.encode)
    for names, row in zip(slices, rows, strict=True):
        assert genes.take(pa.array(row)).equals(names)


@pytest.mark.parametrize("row_group", [1, 3, 1000])
def test_ranges_are_read_without_the_rest(tmp_path, monkeypatch, row_group):
    monkeypatch.setattr(columns, "ROW_GROUP", row_group)
    names = [f"g{i:02d}" for i in range(20)]
    url = str(tmp_path / "ids.parquet")
    write_columns(url, pa.table({"id": names, "abundance": np.arange(20, dtype=np.float32)}))
    assert read_id_range(url, None, None)[0]["id"].to_pylist() == names
    table, first = read_id_range(url, "g03", "g07")
    assert (table["abundance"].to_pylist(), first) == ([3, 4, 5, 6], 3)
    assert read_id_range(url, "g035", "g0355")[0].num_rows == 0
    assert read_id_range(url, "z", None)[0].num_rows == 0
    assert read_id_range(url, None, "a")[0].num_rows == 0
    for start, stop in ((0, 20), (0, 1), (5, 9), (19, 20), (3, 3)):
        assert read_row_range(url, start, stop).to_pylist() == names[start:stop]
        assert read_row_range(url, start, stop, "abundance").to_pylist() == list(range(start, stop))


def test_ranges_are_read_from_remote_files():
    write_columns("memory://ids/a.parquet", pa.table({"id": ["a", "b", "c"]}))
    assert read_id_range("memory://ids/a.parquet", "b", None)[0]["id"].to_pylist() == ["b", "c"]
    assert read_row_range("memory://ids/a.parquet", 0, 2).to_pylist() == ["a", "b"]


@given(ID_SETS, st.integers(1, 9))
def test_any_cut_into_parts_gives_the_same_rows(tmp_path, sets, n_parts):
    work = str(tmp_path / "work")
    storage.remove(work)
    names = [sorted(some, key=str.encode) for some in sets]
    files = []
    for i, some in enumerate(names):
        files.append(f"{work}/{i}.parquet")
        values = np.arange(1, len(some) + 1, dtype=np.float32)
        write_columns(files[-1], pa.table({"id": pa.array(some, pa.string()), "abundance": values}))
    storage.write_json(f"{work}/samples.json", [[url, str(some)] for url, some in zip(files, names, strict=True)])
    splitters = choose_splitters(names, [len(some) for some in names], n_parts)
    assert splitters == sorted(set(splitters), key=str.encode)
    bounds = [None, *splitters, None]
    genes: list[str] = []
    entries: list[dict[int, float]] = [{} for _ in names]
    for p in range(len(bounds) - 1):
        n = merge_genes(f"{work}/samples.json", "", bounds[p], bounds[p + 1], 2**20, f"{work}/part{p}")["n_genes"]
        for found, (row, value) in zip(entries, _entries(f"{work}/part{p}.entries.arrow"), strict=True):
            found.update(zip((row + len(genes)).tolist(), value.tolist(), strict=True))
        genes += read_row_range(f"{work}/part{p}.genes.parquet", 0, n).to_pylist() if n else []
    assert genes == sorted(set().union(*sets), key=str.encode)
    for some, found in zip(names, entries, strict=True):
        assert {genes[row]: value for row, value in found.items()} == {name: i + 1 for i, name in enumerate(some)}


def test_parts_are_about_equal():
    rng = np.random.default_rng(0)
    samples = [sorted(f"{i:06d}" for i in rng.choice(100_000, n, replace=False)) for n in (20_000, 5_000, 40_000)]
    sketches = [[some[i] for i in np.linspace(0, len(some) - 1, 512).astype(int)] for some in samples]
    splitters = choose_splitters(sketches, [len(some) for some in samples], 8)
    assert len(splitters) == 7
    every = np.array(sorted(name for some in samples for name in some))
    sizes = np.diff([0, *np.searchsorted(every, splitters), len(every)])
    assert sizes.max() < 1.2 * len(every) / 8


def test_a_range_larger_than_the_budget_is_refused(tmp_path):
    url = str(tmp_path / "a.parquet")
    write_columns(url, pa.table({"id": [f"{i:09d}" for i in range(1000)], "abundance": np.ones(1000, np.float32)}))
    (tmp_path / "samples.json").write_text(json.dumps([[url, "of its ids"]]))
    with pytest.raises(MemoryLimitError, match="take more than the 1,000 bytes"):
        merge_genes(str(tmp_path / "samples.json"), "", None, None, 1000, str(tmp_path / "out"))


@given(st.integers(0, 10**11), st.integers(1, 100), st.integers(2**20, 2**36), st.integers(1, 64))
def test_parts_fit_half_the_budget(n_entries, id_length, budget, n_threads):
    n_parts = count_parts(n_entries, n_entries * id_length, budget, n_threads)
    assert n_parts >= 1
    assert n_entries / n_parts * (2 * id_length + 60) <= budget / 2
