from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.hierarchy import dendrogram

import cagdask
from cagdask.explore import gene_vectors
from cagdask.explore.gene_vectors import NotReadyError
from cagdask.explore.session import Session
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("explore")
    simulate_store(str(folder / "abundance.zarr"), n_genes=400, n_samples=25, seed=2)
    cagdask.find_cags(
        str(folder / "abundance.zarr"),
        max_dist=0.4,
        refine="none",
        output=str(folder / "cags.zarr"),
        client=InlineRunner(),
    )
    made = Session(str(folder))
    made.read_ahead().join(60)
    return made


def test_a_part_of_a_name_finds_genes_and_their_cags(session: Session) -> None:
    found = session.find("GENE_01", most=200)
    assert list(found.gene) == [f"gene_{i:03d}" for i in range(10, 20)]
    assert list(session.find("_1", most=200).gene) == [f"gene_{i}" for i in range(100, 200)]
    ds = session.ds
    row = int(np.flatnonzero(ds["gene_id"].values == found.gene[5])[0])
    assert found.cag[5] == ds["gene_cag"].values[row]
    assert len(session.find("_399")) == 1
    assert len(session.find("nothing like it")) == 0
    assert list(session.find("  ").gene) == list(session.ds["gene_id"].values[:12]), "what names look like"


def test_members_are_those_of_the_result_nearest_first(session: Session) -> None:
    members = session.members(0)
    ds = session.ds
    assert set(members.gene) == set(ds["gene_id"].values[ds["gene_cag"].values == 0])
    assert (np.diff(members.distance) >= 0).all()
    np.testing.assert_array_equal(session.profile(0), ds["cag_abundance"][0].values)
    assert session.describe(0)["genes"] == len(members)


def test_nearest_cags_are_those_of_all_cosines(session: Session) -> None:
    ds = session.ds
    rows = ds["cag_abundance"].values[session.sizes >= 2].astype(float)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = unit @ unit[1]
    similarity[1] = -2
    best = np.argsort(-similarity, kind="stable")[:5]
    found = session.nearest_cags(1, 5)
    assert list(found.cag) == list(best)
    np.testing.assert_allclose(found.similarity, similarity[best], atol=1e-4)


@pytest.mark.parametrize("at", [0.0, 0.1, 0.2, 0.4])
def test_a_cag_splits_as_cut_splits_it(session: Session, at: float) -> None:
    store = session.source.replace("cags.zarr", "abundance.zarr")
    finer = cagdask.cut(session.source, max_dist=at, store=store, client=InlineRunner()).gene_cag.values
    _, counts = np.unique(finer[session.label == 0], return_counts=True)
    table = session.split(0, at)
    grouped = sorted(counts[counts >= 2], reverse=True)
    alone = int((counts == 1).sum())
    assert list(table.genes) == [*grouped, *([alone] if alone else [])]


def test_similar_genes_are_those_of_the_command(session: Session) -> None:
    store = session.source.replace("cags.zarr", "abundance.zarr")
    asked = "gene_007"
    expected = cagdask.similar(store, asked, k=8, client=InlineRunner())
    found = session.similar_genes(asked, 8)
    assert list(found.gene) == list(expected.gene)
    np.testing.assert_array_equal(found.similarity, expected.similarity)
    ds = session.ds
    rows = [int(np.flatnonzero(ds["gene_id"].values == gene)[0]) for gene in found.gene]
    assert list(found.cag) == list(ds["gene_cag"].values[rows])


def test_an_analogy_is_that_of_the_command(session: Session) -> None:
    store = session.source.replace("cags.zarr", "abundance.zarr")
    a, b, c = "gene_007", "gene_100", "gene_200"
    expected = cagdask.analogies(store, a, b, given=c, k=6, client=InlineRunner())
    found = session.analogous_genes(a, b, c, 6)
    assert list(found.gene) == list(expected.gene_d)
    np.testing.assert_array_equal(found.similarity, expected.similarity)


@pytest.mark.parametrize("most", [5, 20, 200])
def test_a_dendrogram_is_that_of_scipy(session: Session, most: int) -> None:
    """Of the most merges that are shown, the heights are the largest, and each tip stands for the genes below it."""
    tree = session.tree.of(0)
    made = tree.branches(most)
    lines = made.lines()[1]
    assert len(made.leaves) == min(most, len(tree.rows))
    assert made.n_genes.sum() == len(tree.rows)
    np.testing.assert_array_equal(lines[:, 1], tree.height[len(tree.height) - len(lines) :])
    if most >= len(tree.rows):
        table = np.column_stack([tree.child, tree.height, np.zeros(len(tree.height))])
        sizes = np.ones(2 * len(tree.rows) - 1)
        for i, (a, b) in enumerate(tree.child):
            sizes[len(tree.rows) + i] = table[i, 3] = sizes[a] + sizes[b]
        expected = dendrogram(table, no_plot=True)
        assert sorted(map(tuple, np.sort(np.asarray(expected["dcoord"]), axis=1).round(9))) == sorted(
            map(tuple, np.sort(lines, axis=1).round(9))
        )


def test_a_store_without_profiles_says_so(session: Session, tmp_path: Path) -> None:
    shutil.copytree(session.source, tmp_path / "alone.zarr")
    alone = Session(str(tmp_path / "alone.zarr"))
    assert list(alone.members(0).gene) == list(session.members(0).gene)
    with pytest.raises(ValueError, match=r"Keep abundance\.zarr in its folder"):
        alone.similar_genes("gene_007")


def test_profiles_that_are_too_many_are_left_to_the_command(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gene_vectors, "MOST_BYTES", 400 * 25 - 1)
    fresh = Session(session.url)
    assert fresh.vectors is not None
    fresh.vectors.load()
    with pytest.raises(ValueError, match=r"400 genes of 25 values .* cagdask similar .*abundance\.zarr GENE"):
        fresh.similar_genes("gene_007")


def test_a_gene_that_is_not_there_is_refused_with_names_like_it(session: Session) -> None:
    with pytest.raises(ValueError, match=r"there is no gene 'GENE_00'\. Names that contain it: gene_001, gene_002"):
        session.similar_genes("GENE_00")


def test_profiles_that_are_still_being_read_are_said_to_be(session: Session) -> None:
    fresh = Session(session.url)
    with pytest.raises(NotReadyError, match="0%"):
        fresh.similar_genes("gene_007")
    with pytest.raises(NotReadyError, match="being laid out"):
        fresh.cag_map()


def test_a_cag_that_is_not_there_is_refused(session: Session) -> None:
    with pytest.raises(ValueError, match="there is no CAG 100000; they are numbered 0 to"):
        session.members(100_000)
