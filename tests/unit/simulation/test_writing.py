"""Simulated cohorts: the same in every form, what the model says, and bad parameters."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from cagdask import storage
from cagdask.errors import ResumeError, StoreError
from cagdask.simulation import model
from cagdask.simulation.model import make_cohort
from cagdask.simulation.writing import simulate, simulate_abundance, simulate_store


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(model, "BLOCK", 64)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_cohort(folder):
    """The matrix and truth of a simulated folder, by the standard library alone."""
    lines = (folder / "truth.tsv").read_text().splitlines()
    assert lines[0] == "gene_id\tgenome"
    truth = {gene: int(genome) for gene, genome in (line.split("\t") for line in lines[1:])}
    row = {gene: i for i, gene in enumerate(truth)}
    sheet = json.loads((folder / "sample_sheet.json").read_text())
    matrix = np.zeros((len(row), len(sheet)), np.float32)
    for j, sample in enumerate(sorted(sheet)):
        for record in json.loads(gzip.decompress((folder / sheet[sample]).read_bytes()))["results"]:
            assert set(record) == {"id", "depth", "length", "nreads"}
            assert record["depth"] == record["nreads"] * 150 / record["length"]
            matrix[row[record["id"]], j] = record["depth"]
    return matrix, np.array(list(truth.values())), list(row)


@pytest.mark.usefixtures("small_blocks")
def test_files_memory_and_store_hold_the_same_numbers(tmp_path):
    options = {"seed": 7, "coverage": 0.5, "prevalence": (0.1, 0.4)}
    got = simulate(str(tmp_path / "cohort"), n_genes=300, n_samples=5, **options)
    matrix, truth, gene_ids = read_cohort(tmp_path / "cohort")
    in_memory, in_memory_truth = simulate_abundance(300, 5, **options)
    assert matrix.tobytes() == in_memory.tobytes()
    assert truth.tolist() == in_memory_truth.tolist()
    assert got["n_values"] == np.count_nonzero(matrix)
    assert got["n_genomes"] == truth.max() + 1
    stored_truth = simulate_store(str(tmp_path / "cohort.zarr"), 300, 5, chunk_rows=100, **options)
    ds = storage.open_dataset(str(tmp_path / "cohort.zarr"))
    assert ds.abundance.chunks[0] == (128, 128, 44)
    assert ds.abundance.values.tobytes() == matrix.tobytes()
    assert ds.gene_id.values.tolist() == gene_ids == sorted(gene_ids)
    np.testing.assert_allclose(ds.gene_prevalence.values, (matrix > 0).mean(axis=1), rtol=1e-6)
    assert stored_truth.tolist() == truth.tolist()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        simulate(str(tmp_path / name), n_genes=200, n_samples=3, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_more_samples_keep_the_first_ones():
    few, truth = simulate_abundance(500, 3, seed=4)
    more, same_truth = simulate_abundance(500, 6, seed=4)
    assert (more[:, :3] == few).all()
    assert (truth == same_truth).all()


def test_the_cohort_is_what_the_model_says():
    drawn = make_cohort(50_000, 20, seed=0)
    sizes = np.bincount(drawn.genome[drawn.genome >= 0])
    assert (drawn.genome < 0).sum() == 10_000
    assert sizes[:-1].min() >= 2
    assert sizes.mean() == pytest.approx(50, rel=0.15)
    assert np.median(drawn.length) == pytest.approx(800, rel=0.02)
    assert drawn.length.min() >= 150
    assert drawn.length.max() <= 9000
    assert np.log(drawn.factor).std() == pytest.approx(0.3, rel=0.02)
    matrix = np.concatenate(list(drawn.abundance_blocks()))
    assert 0.2 < (matrix > 0).mean() < 0.33
    assert np.median(matrix[matrix > 0]) == pytest.approx(1.0, rel=0.5)


def test_genes_of_a_genome_go_together_and_lie_apart():
    matrix, truth = simulate_abundance(2000, 60, seed=3, coverage=20.0)
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-30)
    similarity = unit @ unit.T
    same = (truth[:, None] == truth) & (truth >= 0) & ~np.eye(len(truth), dtype=bool)
    assert np.median(similarity[same]) > 0.9
    assert np.median(similarity[~same]) < 0.3
    largest = np.flatnonzero(truth == np.bincount(truth[truth >= 0]).argmax())
    assert np.diff(largest).max() > 1


def test_prevalence_makes_sparse_cohorts():
    dense, _ = simulate_abundance(2000, 20, prevalence=(0.5, 0.9))
    sparse, _ = simulate_abundance(2000, 20, prevalence=(0.01, 0.05))
    assert (sparse > 0).mean() < 0.05 < 0.3 < (dense > 0).mean()


@pytest.mark.parametrize("loner_share", [0.0, 1.0])
def test_all_or_no_genes_alone(loner_share):
    _, truth = simulate_abundance(100, 2, loner_share=loner_share)
    assert ((truth < 0) == bool(loner_share)).all()


def test_one_gene_in_one_sample(tmp_path):
    simulate(str(tmp_path / "one"), n_genes=1, n_samples=1, prevalence=(1, 1), coverage=50)
    assert read_cohort(tmp_path / "one")[0].shape == (1, 1)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_without_reads_leave_valid_json(tmp_path):
    simulate(str(tmp_path / "thin"), n_genes=400, n_samples=8, coverage=0.01, prevalence=(0.0, 0.05))
    matrix, *_ = read_cohort(tmp_path / "thin")
    assert np.count_nonzero(matrix) < 200


def test_what_is_there_is_not_overwritten_unless_asked(tmp_path):
    target = tmp_path / "cohort"
    simulate(str(target), n_genes=50, n_samples=2)
    before = contents(target)
    with pytest.raises(StoreError, match="`overwrite=True`"):
        simulate(str(target), n_genes=60, n_samples=2)
    assert contents(target) == before
    simulate(str(target), n_genes=60, n_samples=2, overwrite=True)
    assert len((target / "truth.tsv").read_text().splitlines()) == 61


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    simulate(str(tmp_path / "clean"), n_genes=100, n_samples=4)
    made = []
    original = model.Cohort.sample_coverage

    def failing(drawn, sample):
        if sample == 2 and 2 not in made:
            made.append(2)
            raise KeyboardInterrupt
        made.append(sample)
        return original(drawn, sample)

    monkeypatch.setattr(model.Cohort, "sample_coverage", failing)
    target = str(tmp_path / "cohort")
    with pytest.raises(KeyboardInterrupt):
        simulate(target, n_genes=100, n_samples=4)
    assert not storage.exists(target)
    with pytest.raises(ResumeError, match="differs in seed"):
        simulate(target, n_genes=100, n_samples=4, seed=9)
    simulate(target, n_genes=100, n_samples=4)
    assert made == [0, 1, 2, 2, 3]
    assert contents(tmp_path / "cohort") == contents(tmp_path / "clean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "cohort"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_genes": 0}, "`n_genes` is 0"),
        ({"n_samples": 0}, "`n_samples` is 0"),
        ({"coverage": 0.0}, "`coverage` is 0.0"),
        ({"coverage": float("nan")}, "`coverage` is nan"),
        ({"seed": -1}, "`seed` is -1"),
        ({"loner_share": 1.5}, "`loner_share` is 1.5"),
        ({"prevalence": (0.6, 0.05)}, "the smaller first"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(str(tmp_path / "cohort"), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_parent_is_refused(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        simulate(str(tmp_path / "no" / "cohort"), n_genes=5, n_samples=1)
