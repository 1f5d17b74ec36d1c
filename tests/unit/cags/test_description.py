"""Sums, representative genes and words of CAGs, against pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cagdask import storage
from cagdask.cags import description
from cagdask.cags.assignment import assign
from cagdask.cags.clustering import find_cags
from cagdask.cags.cutting import cut
from cagdask.reports import columns, tables
from cagdask.simulation.writing import simulate_abundance
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, memory_for

TAXA = ["k__Bacteria;s__a", "k__Bacteria;s__b", "", "k__Archaea;s__c"]


def add_metadata(store: str) -> pd.DataFrame:
    """Give the genes of a store a taxonomy, a length and a score; gives what was written."""
    group = storage.open_group(store, writable=True)
    n = group["gene_id"].shape[0]
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "gene_taxonomy": rng.choice(TAXA, n),
            "gene_length": rng.integers(100, 900, n),
            "gene_score": rng.random(n),
        }
    )
    for name in table:
        values = table[name].to_numpy()
        values = values.astype(np.dtypes.StringDType()) if values.dtype.kind == "O" or name.endswith("y") else values
        storage.write_array(group, name, values, dims=("gene",), attrs={"long_name": name})
    storage.finish_group(group)
    return table


@pytest.fixture
def store(abundance_store: MakeStore) -> str:
    return abundance_store(simulate_abundance(400, 60, seed=3)[0], chunk_rows=64)


def wanted_words(label: np.ndarray, words: pd.Series) -> pd.DataFrame:
    """The most frequent word of each CAG, the first of equals, and its share, by counting."""
    found = {}
    for cag, rows in pd.Series(np.arange(len(label))).groupby(label):
        if cag < 0:
            continue
        of_cag = words.iloc[rows]
        counts: dict[str, int] = {}
        for word in of_cag:
            if word:
                counts[word] = counts.get(word, 0) + 1
        best = max(counts, key=counts.get, default="")  # the first of equals
        found[cag] = (best, np.float32(counts.get(best, 0) / len(of_cag)))
    return pd.DataFrame(found, index=["word", "share"]).T


@pytest.mark.parametrize("options", [{}, {"normalization": "clr", "clr_floor": "auto", "min_samples": 5}])
def test_sums_representatives_and_words_are_those_of_pandas(
    store: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    table = add_metadata(store)
    values = np.asarray(storage.open_array(store, "abundance")[:], np.float64)
    result = str(tmp_path / "cags.zarr")
    ds = find_cags(store, output=result, max_dist=0.3, client=InlineRunner(), **options).load()
    label = ds.gene_cag.values
    sums = pd.DataFrame(values[label >= 0]).groupby(label[label >= 0]).sum()
    np.testing.assert_allclose(ds.cag_sum, sums, rtol=1e-12)
    assert ds.cag_sum.dtype == np.float64

    distance = pd.Series(ds.gene_cag_distance.values)[label >= 0]
    nearest = distance.groupby(label[label >= 0]).idxmin()
    assert ds.cag_representative.values.tolist() == ds.gene_id.values[nearest].tolist()

    for name in table:
        assert ds[name].values.tolist() == table[name].tolist()
    words = wanted_words(label, table["gene_taxonomy"])
    assert ds.cag_taxonomy.values.tolist() == words["word"].tolist()
    assert ds.cag_taxonomy_share.values.tolist() == words["share"].tolist()
    assert "cag_score" not in ds

    tables.write_file("genes.parquet", result, str(tmp_path))
    genes = pd.read_parquet(tmp_path / "genes.parquet")
    assert list(genes)[:5] == list(columns.GENE_COLUMNS)
    assert genes["taxonomy"].tolist() == table["gene_taxonomy"].tolist()
    assert genes["length"].tolist() == table["gene_length"].tolist()
    tables.write_file("cags.parquet", result, str(tmp_path))
    cags = pd.read_parquet(tmp_path / "cags.parquet").set_index("cag")
    assert cags["representative"].tolist() == ds.cag_representative.values.tolist()
    assert cags["taxonomy"].tolist() == words["word"].tolist()
    tables.write_file("cag_sum.parquet", result, str(tmp_path))
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "cag_sum.parquet").drop(columns="cag"), ds.cag_sum)


def test_blocks_and_chunks_do_not_change_them(abundance_store: MakeStore, tmp_path: Path) -> None:
    store = abundance_store(simulate_abundance(120, 20, seed=3)[0], chunk_rows=32)
    add_metadata(store)
    names = ("cag_sum", "cag_representative", "cag_taxonomy", "cag_taxonomy_share", "gene_taxonomy")
    whole = find_cags(store, max_dist=0.2, output=str(tmp_path / "a.zarr"), client=InlineRunner())
    small = find_cags(store, max_dist=0.2, output=str(tmp_path / "b.zarr"), client=InlineRunner(memory_for(2**18)))
    for name in names:
        assert whole[name].values.tolist() == small[name].values.tolist()


def test_cut_and_assigned_results_carry_metadata_of_old_and_new_genes(
    store: str, abundance_store: MakeStore, tmp_path: Path
) -> None:
    table = add_metadata(store)
    result = str(tmp_path / "cags.zarr")
    find_cags(store, output=result, max_dist=0.3, refine="none", client=InlineRunner())
    finer = cut(result, max_dist=0.1, store=store, client=InlineRunner())
    words = wanted_words(finer.gene_cag.values, table["gene_taxonomy"])
    assert finer.cag_taxonomy.values.tolist() == words["word"].tolist()

    values = np.asarray(storage.open_array(store, "abundance")[:5])
    batch = abundance_store(values, [f"new{i}" for i in range(5)], storage.open_array(store, "sample_id")[:].tolist())
    more = assign(batch, to=result, clustered=store, client=InlineRunner())
    assert more.gene_taxonomy.values.tolist() == [*table["gene_taxonomy"], *[""] * 5]
    assert more.gene_length.values[-5:].tolist() == [-1] * 5
    assert np.isnan(more.gene_score.values[-5:]).all()
    sizes = more.cag_size.values
    assert (more.cag_representative.values == "").tolist() == (sizes == 0).tolist()
    total = float(storage.open_dataset(store).abundance.sum()) + float(values.sum())
    left_out = float(storage.open_dataset(store).abundance.values[more.gene_cag.values[:-5] < 0].sum())
    np.testing.assert_allclose(float(more.cag_sum.sum()), total - left_out, rtol=1e-6)


def test_ties_go_to_the_first_row() -> None:
    label = np.array([1, 0, 0, 1, 0, -1, 0])
    rows = description.representatives(label, np.array([0.5, 0.2, 0.1, 0.5, 0.1, 0, 0.3], np.float32), 3)
    assert rows.tolist() == [2, 0, -1]
    value = np.array([9, 4, 7, 8, 7, 7, 4], np.uint64)
    rows, counts = description.most_frequent(label, value, np.uint64(0), 3)
    assert rows.tolist() == [1, 0, -1]
    assert counts.tolist() == [2, 1, 0]
