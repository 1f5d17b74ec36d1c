"""Roles of planted genes, the abundance of CAGs from core genes, and that neither depends on the layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cagdask import storage
from cagdask.cags.clustering import find_cags
from cagdask.cags.role_tasks import MOST_MARKERS
from cagdask.normalization.methods import normalize
from cagdask.plot import save
from cagdask.plot.roles import roles, roles_of_cags
from cagdask.reports import tables
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner, memory_for

GENOMES, SAMPLES = 8, 80


class Planted(NamedTuple):
    """Depths (genes, samples), and of each gene its genome, the second one of shared genes, and its role."""

    depth: np.ndarray
    genome: np.ndarray
    second: np.ndarray
    role: np.ndarray


def planted(seed: int = 1, coverage: float = 5.0, core: int = 20, accessory: int = 8, shared: int = 3) -> Planted:
    """Genomes with core genes, a module that half of their strains have, and genes that another genome has, too."""
    rng = np.random.default_rng(seed)
    cover = coverage * rng.lognormal(0, 1.2, (GENOMES + 30, SAMPLES)) * (rng.random((GENOMES + 30, SAMPLES)) < 0.5)
    module = rng.random((GENOMES, SAMPLES)) < 0.5
    rows, genome, second, role = [], [], [], []
    for g in range(GENOMES):
        other = (g + 1 + rng.integers(0, GENOMES - 1, shared)) % GENOMES
        rows += [cover[g]] * core + [cover[g] * module[g]] * accessory + [cover[g] + cover[o] for o in other]
        genome += [g] * (core + accessory + shared)
        second += [-1] * (core + accessory) + list(other)
        role += ["core"] * core + ["accessory"] * accessory + ["shared"] * shared
    rows += list(cover[GENOMES:])
    genome += list(range(GENOMES, GENOMES + 30))
    second += [-1] * 30
    role += ["alone"] * 30
    mean = np.array(rows) * rng.lognormal(0, 0.3, (len(rows), 1))
    depth = rng.poisson(mean * 5 * rng.gamma(10, 0.1, mean.shape)) / 5
    there = depth.any(axis=1)
    return Planted(depth[there].astype(np.float32), *(np.array(part)[there] for part in (genome, second, role)))


def agreement(truth: np.ndarray, found: np.ndarray) -> dict[str, tuple[float, float]]:
    """Precision and recall of each role."""
    return {
        role: (
            float((truth[found == role] == role).mean()),
            float((found[truth == role] == role).mean()),
        )
        for role in np.unique(truth)
    }


@pytest.fixture(scope="module")
def cohort() -> Planted:
    return planted()


@pytest.mark.parametrize("options", [{"max_dist": "auto"}, {"max_dist": 0.2}])
def test_planted_roles_are_found(cohort: Planted, abundance_store: MakeStore, options: dict[str, Any]) -> None:
    ds = find_cags(abundance_store(cohort.depth), client=InlineRunner(), **options)
    role = ds.gene_role.values.astype(object)
    for name, (precision, recall) in agreement(cohort.role, role).items():
        assert precision >= 0.9, name
        assert recall >= 0.9, name
    cag_of = {}  # the CAG of the core genes of each genome
    for g in range(GENOMES):
        label = ds.gene_cag.values[(cohort.genome == g) & (cohort.role == "core")]
        cag_of[g] = int(np.bincount(label).argmax())
    right = (cohort.role == "accessory") & (role == "accessory")
    assert [cag_of[g] for g in cohort.genome[right]] == ds.gene_core_cag.values[right].tolist()
    right = (cohort.role == "shared") & (role == "shared")
    pairs = zip(ds.gene_core_cag.values[right], ds.gene_cag_second.values[right], strict=True)
    wanted = zip(cohort.genome[right], cohort.second[right], strict=True)
    assert [set(pair) for pair in pairs] == [{cag_of[a], cag_of[b]} for a, b in wanted]
    alone = ds.gene_core_cag.values[(cohort.role == "alone") & (role == "alone")]
    assert (alone == -1).all()
    of_modules = ds.cag_parent.values[ds.gene_cag.values[(cohort.role == "accessory") & (role == "accessory")]]
    assert set(of_modules) <= {-1, *cag_of.values()}
    assert (of_modules >= 0).mean() > 0.5  # some modules are joined with the core
    assert all(ds.cag_parent.values[cag] == -1 for cag in cag_of.values())


def test_low_coverage_is_no_missing_gene(abundance_store: MakeStore) -> None:
    cohort = planted(3, coverage=0.3, accessory=0, shared=0)
    ds = find_cags(abundance_store(cohort.depth), client=InlineRunner(), max_dist=0.5)
    role = ds.gene_role.values[cohort.role == "core"]
    assert (role == "accessory").mean() < 0.02
    assert (role == "shared").mean() < 0.02


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    names = ["gene_role", "gene_core_cag", "gene_cag_second", "cag_parent", "cag_core_abundance", "cag_core_share"]
    for name in names:
        assert (a[name].values == b[name].values).all(), name


def test_blocks_and_chunks_make_no_difference(cohort: Planted, abundance_store: MakeStore) -> None:
    one = find_cags(abundance_store(cohort.depth, chunk_rows=50), client=InlineRunner(2**30))
    runner = InlineRunner(memory_for(600_000))
    many = find_cags(abundance_store(cohort.depth, chunk_rows=7), client=runner)
    assert sum(stage == "judge genes" for stage, _ in runner.calls) > 1
    same(one, many)


@pytest.mark.parametrize("normalization", ["sum", "clr"])
def test_core_abundance_is_the_median_of_the_nearest_core_genes(
    cohort: Planted, abundance_store: MakeStore, normalization: str
) -> None:
    store = abundance_store(cohort.depth)
    ds = find_cags(store, client=InlineRunner(), normalization=normalization, metric="correlation", max_dist=0.3)
    values = normalize(storage.open_dataset(store), method=normalization).abundance.values
    if normalization == "clr":  # unfloored, as the result's own means are
        with np.errstate(divide="ignore"):
            logs = np.log10(cohort.depth.astype(float))
        logs -= np.nanmean(np.where(cohort.depth > 0, logs, np.nan), axis=0)
        values = np.where(cohort.depth > 0, logs, np.nanmin(np.where(cohort.depth > 0, logs, np.nan)))
    absent = values.min()
    for cag in range(ds.sizes["cag"]):
        genes = np.flatnonzero(ds.gene_cag.values == cag)
        genes = genes[np.lexsort((genes, ds.gene_cag_distance.values[genes]))][:MOST_MARKERS]
        roles = ds.gene_role.values[genes]
        wanted = genes
        for role in ("accessory", "core"):
            wanted = genes[roles == role] if (roles == role).any() else wanted
        share = (cohort.depth[wanted] > 0).mean(axis=0)
        median = np.where(share < 0.1, absent, np.median(values[wanted], axis=0))
        np.testing.assert_allclose(ds.cag_core_share.values[cag], share, rtol=1e-6)
        np.testing.assert_allclose(ds.cag_core_abundance.values[cag], median, rtol=2e-5, atol=1e-7)


def test_roles_are_in_the_tables(cohort: Planted, abundance_store: MakeStore, tmp_path: Path) -> None:
    result = str(tmp_path / "cags.zarr")
    ds = find_cags(abundance_store(cohort.depth), output=result, client=InlineRunner()).load()
    for name in ("genes.parquet", "cags.parquet", "cag_core_abundance.parquet", "cag_core_share.parquet"):
        tables.write_file(name, result, str(tmp_path))
    genes = pd.read_parquet(tmp_path / "genes.parquet")
    assert list(genes)[-2:] == ["role", "core_cag"]
    assert genes["role"].tolist() == ds.gene_role.values.tolist()
    assert pd.read_parquet(tmp_path / "cags.parquet")["parent"].tolist() == ds.cag_parent.values.tolist()
    for name in ("cag_core_abundance", "cag_core_share"):
        table = pd.read_parquet(tmp_path / f"{name}.parquet")
        np.testing.assert_array_equal(table.drop(columns="cag"), ds[name])


def test_the_picture_counts_shared_genes_for_both_of_their_cags() -> None:
    ds = xr.Dataset(
        {
            "gene_role": ("gene", np.array(["core", "core", "accessory", "shared", "alone", "core"], object)),
            "gene_core_cag": ("gene", [0, 0, 0, 0, -1, 1]),
            "gene_cag_second": ("gene", [1, 1, 1, 1, 0, 0]),
            "cag_size": ("cag", [3, 1, 1]),
        }
    )
    table = roles_of_cags(ds).set_index(["cag", "role"])["n_genes"]
    wanted = {(0, "core"): 2, (0, "accessory"): 1, (0, "shared"): 1, (1, "core"): 1, (1, "shared"): 1}
    assert table[table > 0].to_dict() == wanted


def test_roles_are_drawn(cohort: Planted, abundance_store: MakeStore, tmp_path: Path) -> None:
    ds = find_cags(abundance_store(cohort.depth), client=InlineRunner())
    text = Path(save(roles(ds), str(tmp_path / "roles.svg"))).read_text()
    assert all(word in text for word in ("core", "accessory", "shared", "CAG, with the genes that go with it"))
    with pytest.raises(ValueError, match="has no gene_role"):
        roles(ds.drop_vars("gene_role"))


def test_values_that_do_not_add_up_have_no_roles(cohort: Planted, abundance_store: MakeStore) -> None:
    store = abundance_store(cohort.depth, kind="expression")
    ds = find_cags(store, client=InlineRunner(), normalization="none")
    assert "gene_role" not in ds
    assert "cag_parent" not in ds
    largest = np.flatnonzero(ds.gene_cag.values == 0)
    assert len(largest) <= MOST_MARKERS
    share = (cohort.depth[largest] > 0).mean(axis=0)
    wanted = np.where(share < 0.1, 0, np.median(cohort.depth[largest], axis=0))
    np.testing.assert_allclose(ds.cag_core_abundance.values[0], wanted, rtol=1e-6)


def test_genes_left_out_and_a_store_without_groups(abundance_store: MakeStore) -> None:
    depth = np.diag(np.arange(1, 9)).astype(np.float32)
    depth[0, :4] = 1
    ds = find_cags(abundance_store(depth), client=InlineRunner(), min_samples=2)
    assert ds.gene_role.values.tolist() == ["alone"] + ["left out"] * 7
    assert ds.cag_core_share.values.tolist() == (depth[:1] > 0).astype(float).tolist()
