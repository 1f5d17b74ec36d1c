"""Volcano, dendrogram, loadings and error rate: what is drawn, against an independent computation of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage

import cagdask
from cagdask.errors import InputError, SchemaError
from cagdask.factors.factorization import nmf
from cagdask.plot import association, factors
from cagdask.plot.dendrogram import branches_of
from cagdask.simulation.writing import simulate_store
from tests.inline_runner import InlineRunner
from tests.result_store import write_result_store


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tree")
    simulate_store(str(folder / "cohort.zarr"), n_genes=200, n_samples=20, seed=1)
    cagdask.find_cags(
        str(folder / "cohort.zarr"),
        max_dist=0.4,
        refine="none",
        output=str(folder / "cags.zarr"),
        client=InlineRunner(),
    )
    return str(folder)


def made_up(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    p = np.append(rng.random(n - 1), np.nan)
    return pd.DataFrame({"cag": np.arange(n), "effect": rng.normal(size=n), "p_value": p, "q_value": p * 2})


def test_a_volcano_has_a_point_for_each_tested_feature() -> None:
    table = made_up(40)
    points, n_left_out = association.volcano_points(table, fdr=0.3)
    assert n_left_out == 0
    wanted = table.dropna().set_index("cag").loc[points["cag"]]
    np.testing.assert_allclose(points["height"], -np.log10(wanted["p_value"]))
    np.testing.assert_array_equal(points["effect"], wanted["effect"])
    is_found = points["found"].str.startswith("q")
    assert set(points["cag"][is_found]) == set(table["cag"][table["p_value"] <= 0.15])


def test_the_effect_of_more_than_two_groups_has_no_direction() -> None:
    table = made_up(9)
    for low, title in ((np.nan, "effect"), (-1.0, "effect: positive where the second group has more")):
        spec = cagdask.plot.volcano(table.assign(ci_low=low)).to_dict()
        assert spec["encoding"]["x"]["title"] == title


def test_of_many_features_the_smallest_p_values_are_all_drawn() -> None:
    table = made_up(20_000)
    points, n_left_out = association.volcano_points(table, fdr=0.01)
    assert len(points) <= association.MAX_FOUND + association.MAX_OTHERS
    assert len(points) + n_left_out == 19_999
    smallest = table.nsmallest(association.MAX_FOUND, "p_value")["cag"]
    assert set(smallest) <= set(points["cag"])


def test_a_table_that_is_no_test_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("gene\tx\nA\t1\n")
    with pytest.raises(InputError, match=r"a\.tsv: has no column effect. Name the output of `cagdask test`"):
        cagdask.plot.volcano(str(tmp_path / "a.tsv"))


def test_a_dendrogram_is_the_tree_that_scipy_makes_of_the_genes(clustered: str) -> None:
    ds = cagdask.open_dataset(f"{clustered}/cags.zarr")
    members = np.flatnonzero(ds["gene_cag"].values == 0)
    abundance = cagdask.open_dataset(f"{clustered}/cohort.zarr")["abundance"].values.astype(np.float64)
    tree = linkage((abundance / abundance.sum(0))[members], "average", "cosine")
    found = branches_of(ds, 0, max_leaves=1000)
    assert found.n_trees == found.n_drawn == 1
    np.testing.assert_allclose(found.heights[:, 2], tree[:, 2], atol=1e-6)
    assert sorted(found.leaves) == sorted(members)
    half = branches_of(ds, 0, max_leaves=len(members) // 2)
    assert half.n_genes.sum() == len(members)
    np.testing.assert_allclose(half.heights[:, 2], tree[-len(half.merges) :, 2], atol=1e-6)
    assert set(np.diff(np.flatnonzero(np.isin(members[leaves_list(tree)], found.leaves)))) == {1}


def test_lines_of_a_dendrogram_do_not_cross(clustered: str) -> None:
    found = branches_of(cagdask.open_dataset(f"{clustered}/cags.zarr"), 0)
    for a, b, middle in found.places:
        assert a < b
        assert middle == (a + b) / 2


def test_a_cag_that_is_not_there_has_no_dendrogram(clustered: str) -> None:
    with pytest.raises(ValueError, match="`cag` is 100000; this result has the CAGs 0 to"):
        cagdask.plot.dendrogram(clustered, cag=100_000)


def test_loadings_are_those_of_the_table_of_weights(clustered: str) -> None:
    folder = f"{clustered}/factors"
    nmf(f"{clustered}/cohort.zarr", k=3, output=folder, client=InlineRunner())
    table, k = factors.top_loadings(folder, n_top=4)
    weights = pd.read_parquet(f"{folder}/NMF_weight_matrix_gsea.parquet").set_index("genes")
    assert k == 3
    assert set(table["gene"]) == {gene for name in weights for gene in weights[name].nlargest(4).index}
    drawn = table.pivot(index="gene", columns="component", values="loading")
    np.testing.assert_allclose(drawn, weights.loc[drawn.index, drawn.columns], rtol=1e-6)
    shares = table.pivot(index="gene", columns="component", values="share")
    np.testing.assert_allclose(shares.max(), 1)
    with pytest.raises(SchemaError, match="holds no factors"):
        factors.top_loadings(f"{clustered}/cags.zarr")


def test_the_error_rate_is_drawn_as_it_was_estimated(tmp_path: Path) -> None:
    ds = cagdask.open_dataset(write_result_store(str(tmp_path / "cags.zarr"), [0, 0, 1, 1])).load()
    with pytest.raises(ValueError, match="no error rate"):
        cagdask.plot.error_rate(ds)
    curve = [{"fdr": 0.2, "support": 1.0}, {"fdr": 0.004, "support": 3.5}]
    ds.attrs["error_rate"] = json.dumps({"curve": curve, "fdr": 0.01})
    drawn = cagdask.plot.error_rate(ds).to_dict()
    assert curve in [[{name: row[name] for name in ("fdr", "support")} for row in rows]
                     for rows in drawn["datasets"].values()]  # fmt: skip
