from __future__ import annotations

import numpy as np
import pytest

import cagdask
from cagdask.explore.session import Session
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("explore")
    simulate_store(str(folder / "cohort.zarr"), n_genes=400, n_samples=25, seed=2)
    cagdask.find_cags(
        str(folder / "cohort.zarr"),
        max_dist=0.4,
        refine="none",
        output=str(folder / "cags.zarr"),
        client=InlineRunner(),
    )
    made = Session(str(folder))
    made.read_names_ahead().join(60)
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
    assert len(session.find("  ")) == 0


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
    store = session.source.replace("cags.zarr", "cohort.zarr")
    finer = cagdask.cut(session.source, max_dist=at, store=store, client=InlineRunner()).gene_cag.values
    _, counts = np.unique(finer[session.label == 0], return_counts=True)
    table = session.split(0, at)
    grouped = sorted(counts[counts >= 2], reverse=True)
    alone = int((counts == 1).sum())
    assert list(table.genes) == [*grouped, *([alone] if alone else [])]


def test_a_cag_that_is_not_there_is_refused(session: Session) -> None:
    with pytest.raises(ValueError, match="there is no CAG 100000; they are numbered 0 to"):
        session.members(100_000)
