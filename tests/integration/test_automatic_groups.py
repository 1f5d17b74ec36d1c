"""``max_dist="auto"`` from store to result: planted genomes, shuffled genes, and the same bytes whatever the blocks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cagdask import storage
from cagdask.cags.assignment import assign
from cagdask.cags.clustering import find_cags
from cagdask.cags.cutting import cut
from cagdask.errors import InputError
from cagdask.plot.numbers import threshold_table
from cagdask.reports.tables import write_genes
from cagdask.simulation.writing import simulate_abundance
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, memory_for


def _pairs_in_common(labels: np.ndarray, truth: np.ndarray) -> float:
    """Of pairs of genes that are together in either, the share that are together in both."""
    together, planted = labels[:, None] == labels[None, :], truth[:, None] == truth[None, :]
    off = ~np.eye(len(labels), dtype=bool)
    return float((together & planted & off).sum() / ((together | planted) & off).sum())


@pytest.fixture(scope="module")
def thin() -> tuple[np.ndarray, np.ndarray]:
    """500 genes x 80 samples at low coverage, and the planted genome of each."""
    abundance, genome = simulate_abundance(500, 80, coverage=0.5, seed=3)[:2]
    return np.asarray(abundance, np.float32), np.asarray(genome)


def test_planted_genomes_are_found_without_a_threshold(
    abundance_store: MakeStore, thin: tuple[np.ndarray, np.ndarray]
) -> None:
    """At low coverage no usual threshold is right; every gene of a found group is marked as supported."""
    abundance, genome = thin
    store = abundance_store(abundance)
    automatic = find_cags(store, client=InlineRunner())
    usual = find_cags(store, max_dist=0.2, client=InlineRunner())
    present = abundance.any(axis=1)
    found = _pairs_in_common(automatic.gene_cag.values[present], genome[present])
    assert found > _pairs_in_common(usual.gene_cag.values[present], genome[present]) + 0.1
    assert found > 0.8
    assert automatic.attrs["choice"].startswith("No threshold was given: genes were linked up to a correlation")
    assert "choice" not in usual.attrs
    assert "gene_status" not in usual
    assert json.loads(usual.attrs["parameters"]).keys().isdisjoint({"fdr"})
    rate = json.loads(automatic.attrs["error_rate"])
    swept = threshold_table(automatic)
    assert (np.diff(rate["by_height"]["n_grouped"]) >= 0).all()
    assert swept.fdr.iloc[-1] == (1 + rate["by_height"]["n_grouped"][-1]) / (present.sum() - swept.n_alone.iloc[-1])
    assert "fdr" not in threshold_table(usual)
    assert rate["n_shuffled"] == int((automatic.gene_support.values > 0).sum())
    status = automatic.gene_status.values.astype(object)
    cag = automatic.gene_cag.values
    assert np.array_equal(status == "left out", cag < 0)
    alone = np.isin(status, ["alone", "no profile"])
    assert np.array_equal(status == "no profile", present & (automatic.gene_support.values == 0)), "below the floor"
    assert np.array_equal(alone[cag >= 0], automatic.cag_size.values[cag[cag >= 0]] == 1)


def test_shuffled_genes_are_never_grouped_as_certain(
    abundance_store: MakeStore, thin: tuple[np.ndarray, np.ndarray]
) -> None:
    shuffled = np.random.default_rng(0).permuted(thin[0], axis=1)[:, :20]
    found = find_cags(abundance_store(shuffled), client=InlineRunner())
    status = found.gene_status.values.astype(object)
    assert (status == "supported").mean() <= 0.01
    assert (status == "too little support").any(), "20 samples are too few, and that is said"
    assert "too few samples" in json.loads(found.attrs["error_rate"])["in_words"]


def test_same_bytes_for_any_blocks_and_cut_goes_below(
    abundance_store: MakeStore, thin: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = abundance_store(thin[0][:160, :40])
    one, other, finer = (str(tmp_path / name) for name in ("one.zarr", "other.zarr", "finer.zarr"))
    find_cags(store, output=one, client=InlineRunner())
    find_cags(store, output=other, client=InlineRunner(memory_limit=memory_for(60_000), n_threads=4))
    a, b = storage.open_dataset(one), storage.open_dataset(other)
    assert a.attrs["error_rate"] == b.attrs["error_rate"]
    for name in a.variables:
        assert a[name].equals(b[name]), name
    cut(one, max_dist=0.1, store=store, output=finer, client=InlineRunner())
    made = storage.open_dataset(finer)
    assert int(made.sizes["cag"]) > int(a.sizes["cag"])
    assert "gene_status" not in made
    assert "choice" not in made.attrs
    more = assign(store, to=one, client=InlineRunner())
    grouped = a.cag_size.values[a.gene_cag.values] > 1
    within = np.quantile(a.gene_cag_distance.values[grouped & (a.gene_cag.values >= 0)], 0.95)
    assert json.loads(more.attrs["assignment"])["max_dist"] == pytest.approx(max(0.2, within), abs=6e-4)


def test_strata_keep_what_a_site_explains_out_of_the_groups_by_chance(
    abundance_store: MakeStore, thin: tuple[np.ndarray, np.ndarray]
) -> None:
    """Genes that are on or off by site are alike; shuffled within sites they stay so, and are not called supported."""
    rng = np.random.default_rng(1)
    site = np.repeat([0, 1, 2, 3], 10)
    of_gene = rng.integers(0, 4, 120)
    matrix = np.where(of_gene[:, None] == site, rng.lognormal(0, 0.2, (120, 40)), 0)
    store = abundance_store(matrix)
    storage.write_array(
        storage.open_group(store, writable=True), "sample_site", np.array([f"s{i}" for i in site]), dims=("sample",)
    )
    supported = {}
    for strata in (None, "site"):
        found = find_cags(store, normalization="none", strata=strata, client=InlineRunner())
        supported[strata] = float((found.gene_status.values.astype(object) == "supported").mean())
        assert json.loads(found.attrs["parameters"])["strata"] == strata
    assert supported[None] > 0.9
    assert supported["site"] < 0.1


def test_strata_that_can_not_be_used_are_refused(abundance_store: MakeStore) -> None:
    store = abundance_store(np.random.default_rng(0).lognormal(size=(20, 12)))
    group = storage.open_group(store, writable=True)
    storage.write_array(group, "sample_name", np.array([f"n{i}" for i in range(12)]), dims=("sample",))
    with pytest.raises(InputError, match="each of the 12 samples has a value of its own in strata 'name'"):
        find_cags(store, strata="name", client=InlineRunner())
    with pytest.raises(InputError, match="strata 'site' is no column of the sample metadata: it has name"):
        find_cags(store, strata="site", client=InlineRunner())
    with pytest.raises(
        ValueError, match="genes are shuffled, and their support is judged, only with `max_dist='auto'`"
    ):
        find_cags(store, max_dist=0.2, strata="name", client=InlineRunner())


def test_few_samples_and_genes_without_profile_are_said(
    abundance_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    matrix = np.random.default_rng(0).lognormal(size=(30, 6))
    matrix[3] = 2.0
    found = find_cags(abundance_store(matrix), normalization="none", client=InlineRunner())
    words = json.loads(found.attrs["error_rate"])["in_words"]
    assert words.startswith("There are only 6 samples")
    assert "1 gene has no profile, since it does not differ between samples" in words
    assert words in caplog.text
    status = found.gene_status.values.astype(object)
    assert status[3] == "no profile"
    assert found.cag_size.values[found.gene_cag.values[3]] == 1


@pytest.mark.parametrize("matrix", [np.arange(1.0, 9)[:, None], np.ones((5, 12)), np.arange(1.0, 13)[None]])
def test_without_any_profile_each_gene_is_alone_and_that_is_said(
    abundance_store: MakeStore, matrix: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """One sample, genes that are the same in all samples, and one gene, of which clr leaves nothing."""
    found = find_cags(abundance_store(matrix), client=InlineRunner())
    assert found.gene_cag.values.tolist() == list(range(len(matrix)))
    assert set(found.gene_status.values) == {"no profile"}
    assert set(found.cag_status.values) == {"alone"}
    assert (found.gene_cag_second.values == -1).all()
    assert ("only 1 sample" if matrix.shape[1] == 1 else "nothing to group") in caplog.text


def test_genes_with_too_little_support_are_left_alone_on_request(
    abundance_store: MakeStore, thin: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Genes of two samples each are together by chance; the CAGs that stay are as if those were not there."""
    rng = np.random.default_rng(0)
    rare = np.zeros((200, 80), np.float32)
    for gene in rare:
        gene[rng.choice(20, 2, replace=False)] = 50
    store = abundance_store(np.concatenate([rare, thin[0][:300]]))
    url = str(tmp_path / "alone.zarr")
    guess = find_cags(store, client=InlineRunner())
    alone = find_cags(store, output=url, unsupported="alone", client=InlineRunner())
    before, after = (ds.gene_status.values.astype(object) for ds in (guess, alone))
    weak = before == "too little support"
    assert weak.any()
    assert (before == "supported").any()
    assert np.array_equal(after == "too little support", weak)
    assert (alone.cag_size.values[alone.gene_cag.values[weak]] == 1).all()
    stays = np.flatnonzero(before == "supported")
    same = guess.gene_cag.values[stays][:, None] == guess.gene_cag.values[stays]
    assert np.array_equal(same, alone.gene_cag.values[stays][:, None] == alone.gene_cag.values[stays])
    assert np.array_equal(alone.cag_size.values, np.bincount(alone.gene_cag.values[alone.gene_cag.values >= 0]))
    assert np.array_equal(alone.gene_linkage_cag.values, guess.gene_linkage_cag.values)
    np.testing.assert_allclose(alone.gene_cag_distance.values[weak], 0, atol=1e-6)
    write_genes(url, str(tmp_path / "genes.parquet"))
    table = pd.read_parquet(tmp_path / "genes.parquet")
    assert table.status.tolist() == after.tolist()
    with pytest.raises(ValueError, match="their support is judged, only with `max_dist='auto'`"):
        find_cags(store, max_dist=0.2, unsupported="alone", client=InlineRunner())
