"""The second choice of each gene against its definition, and that no split of genes or CAGs changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cagdask import open_dataset
from cagdask.cags import fit
from cagdask.cags.clustering import find_cags
from cagdask.reports import tables
from cagdask.simulation.writing import simulate_abundance
from tests.conftest import MakeStore, write_abundance_store
from tests.inline_runner import InlineRunner, memory_for

Matrix = NDArray[Any]


def by_definition(matrix: Matrix, label: Matrix) -> tuple[Matrix, Matrix]:
    """Second choice and margin of each gene, for ``sum`` and cosine distance."""
    shares = matrix.astype(float) / np.maximum(matrix.astype(float).sum(axis=0), 1e-300)
    length = np.linalg.norm(shares, axis=1, keepdims=True)
    unit = np.divide(shares, length, out=np.zeros_like(shares), where=length > 0)
    counts = np.bincount(label[label >= 0])
    means = np.array([unit[label == c].sum(axis=0) for c in range(len(counts))])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-300)
    second, margin = np.full(len(label), -1), np.full(len(label), np.nan)
    for i in np.flatnonzero(length[:, 0] > 0):
        if label[i] < 0:
            continue
        away = 1 - means @ unit[i]
        away[(counts < 2) | (np.arange(len(counts)) == label[i])] = np.inf
        if np.isfinite(away.min()):
            own = 1 - means[label[i]] @ unit[i]
            second[i], margin[i] = away.argmin(), away.min() - own
    return second, margin


@pytest.fixture(scope="module")
def cohort() -> Matrix:
    """Genes of some genomes at a coverage that leaves loners, no two of them alike."""
    matrix, _ = simulate_abundance(400, 40, coverage=0.5, seed=3)
    return np.asarray(matrix * np.random.default_rng(0).uniform(0.9, 1.1, matrix.shape), np.float32)


@pytest.mark.parametrize("min_samples", [1, 4])
def test_the_second_choice_is_the_nearest_other_cag(cohort: Matrix, tmp_path: Path, min_samples: int) -> None:
    store, result = str(tmp_path / "a.zarr"), str(tmp_path / "r.zarr")
    write_abundance_store(store, cohort, chunk_rows=90)
    find_cags(store, max_dist=0.2, min_samples=min_samples, output=result, client=InlineRunner())
    ds = open_dataset(result).load()
    second, margin = by_definition(cohort, ds.gene_cag.values)
    assert (second >= 0).sum() > 200
    assert (ds.cag_size.values[second[second >= 0]] > 1).all()
    np.testing.assert_array_equal(ds.gene_cag_second.values, second)
    np.testing.assert_allclose(ds.gene_cag_margin.values, margin, atol=1e-6)

    tables.write_genes(result, str(tmp_path / "genes.parquet"))
    genes = pd.read_parquet(tmp_path / "genes.parquet")
    assert list(genes)[-4:] == ["cag_second", "cag_margin", "role", "core_cag"]
    assert genes["cag_second"].tolist() == second.tolist()


def test_it_does_not_depend_on_how_genes_and_cags_are_split(
    cohort: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_abundance_store(str(tmp_path / "a.zarr"), cohort, chunk_rows=100)
    whole = find_cags(str(tmp_path / "a.zarr"), max_dist=0.2, client=InlineRunner())
    monkeypatch.setattr(fit, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(fit, "DIRECTIONS_AT_ONCE", 3)
    write_abundance_store(str(tmp_path / "b.zarr"), cohort, chunk_rows=33)
    small = InlineRunner(memory_limit=memory_for(200_000))
    split = find_cags(str(tmp_path / "b.zarr"), max_dist=0.2, client=small)
    for name in ("gene_cag_second", "gene_cag_margin"):
        assert whole[name].values.tobytes() == split[name].values.tobytes()


def test_of_many_cags_only_the_largest_are_choices(
    cohort: Matrix, abundance_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "MOST_CHOICES", 3)
    ds = find_cags(abundance_store(cohort), max_dist=0.2, client=InlineRunner())
    assert set(ds.gene_cag_second.values[ds.gene_cag.values > 2]) <= {0, 1, 2, -1}
    assert set(ds.gene_cag_second.values[ds.gene_cag.values == 0]) <= {1, 2}


def test_of_equally_near_cags_the_smaller_number_is_taken(abundance_store: MakeStore) -> None:
    matrix = np.zeros((6, 4), np.float32)
    matrix[0:2, 0], matrix[2:4, 1], matrix[4, 2], matrix[5] = 1, 1, 1, [1, 1, 0, 0]
    ds = find_cags(abundance_store(matrix), normalization="none", max_dist=0.1, refine="none", client=InlineRunner())
    assert ds.gene_cag.values.tolist() == [0, 0, 1, 1, 2, 3]
    assert ds.gene_cag_second.values.tolist() == [1, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(ds.gene_cag_margin.values, [1, 1, 1, 1, 1, 1 - 0.5**0.5], atol=1e-6)


def test_with_one_cag_there_is_no_second(abundance_store: MakeStore) -> None:
    ds = find_cags(abundance_store(np.ones((3, 4), np.float32)), max_dist=0.1, client=InlineRunner())
    assert ds.gene_cag_second.values.tolist() == [-1, -1, -1]
    assert np.isnan(ds.gene_cag_margin.values).all()
