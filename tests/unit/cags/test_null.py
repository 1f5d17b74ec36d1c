"""What chance groups: shuffled profiles, and the error rate by support."""

from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from cagdask.cags import null
from cagdask.cags.results import STATUSES, CagFiles, StatusFiles, TreeFiles
from cagdask.engine.linkage.error_rates import HEIGHTS, by_height, by_support, heights_up_to
from cagdask.engine.rows.files import ProfileFiles, load_rows, smaller_form
from cagdask.engine.rows.profiles import FILTERED, ZERO, keys_of


def _profiles(folder: Path, rows: np.ndarray, gene: np.ndarray, mark: np.ndarray) -> str:
    ProfileFiles(**smaller_form(rows)._asdict(), gene=gene, keys=keys_of(rows), mark=mark.astype(np.int8)).write(
        str(folder)
    )
    return str(folder)


def test_shuffled_genes_keep_their_values_and_do_not_depend_on_blocks(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 30))
    gene, mark = np.arange(20), np.zeros(20)
    whole = _profiles(tmp_path / "whole", rows, gene, mark)
    part = _profiles(tmp_path / "part", rows[7:], gene[7:], mark[7:])
    for url in (whole, part):
        null.shuffle_profiles(url, 1, 5, f"{url}-shuffled")
    shuffled = load_rows(f"{whole}-shuffled")
    assert np.array_equal(np.sort(shuffled, axis=1), np.sort(rows, axis=1))
    assert not np.array_equal(shuffled, rows)
    assert np.array_equal(load_rows(f"{part}-shuffled"), shuffled[7:])
    null.shuffle_profiles(whole, 1, 6, str(tmp_path / "other-seed"))
    assert not np.array_equal(load_rows(str(tmp_path / "other-seed")), shuffled)


def test_of_many_genes_every_kth_is_shuffled_and_the_others_are_left_out(tmp_path: Path) -> None:
    mark = np.array([0, FILTERED, 0, 0, ZERO, 0])
    gene = np.flatnonzero(mark == 0)
    url = _profiles(tmp_path / "some", np.random.default_rng(0).normal(size=(4, 8)), gene, mark)
    assert null.shuffle_profiles(url, 2, 0, str(tmp_path / "shuffled")) == 2
    found = ProfileFiles.open(str(tmp_path / "shuffled"))
    assert found.gene.tolist() == [0, 2]
    assert found.mark.tolist() == [0, FILTERED, 0, FILTERED, FILTERED, FILTERED]
    assert null.step_of(20_000) == 1
    assert null.step_of(1_000_000) == 50


def test_support_is_the_number_of_samples_that_carry_a_profile(tmp_path: Path) -> None:
    rows = np.zeros((2, 9))
    rows[0, 3], rows[1, :4] = 1, 0.5
    url = _profiles(tmp_path / "profiles", rows, np.array([4, 6]), np.zeros(2))
    null.measure_support(url, str(tmp_path / "support"))
    assert null.SupportFiles.open(str(tmp_path / "support")).support == pytest.approx([1, 4])


def test_shuffled_genes_are_counted_at_each_height_as_scipy_groups_them(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 6))
    made = linkage(rows, "average", "correlation")
    made = made[made[:, 2] <= 0.5]
    tree = {"child": made[:, :2].astype(np.int64), "height": made[:, 2], "first_gene": np.zeros(60, np.int64)}
    TreeFiles(**tree).write(str(tmp_path))
    found = null.grouped_by_height(null.Shuffled("", str(tmp_path), 0.5), 60)
    whole = linkage(rows, "average", "correlation")
    expected = []
    for height in heights_up_to(0.5):
        label = fcluster(whole, height, "distance")
        expected.append(int((np.bincount(label)[label] > 1).sum()))
    assert found == {"max_dist": 0.5, "n_grouped": expected}
    assert expected[0] == 0
    assert expected[-1] > 10


@pytest.mark.parametrize("step", [1, 10])
def test_the_rate_by_height_never_falls_while_no_gene_is_grouped_anew(step: int) -> None:
    counts = np.sort(np.random.default_rng(step).integers(0, 40, HEIGHTS))
    found = {"by_height": {"max_dist": 0.2, "n_grouped": counts.tolist()}, "shuffled_every": step}
    found |= {"n_shuffled": 100, "n_with_profile": 100 * step}
    rate = by_height(found, np.linspace(0, 0.2, 200), np.full(200, 90 * step))
    assert (np.diff(rate) >= 0).all()
    expected = 1 + (1 - (1 - counts[-1] / 100) ** step) * 100 * step
    assert rate[-1] == min(1.0, expected / (90 * step))


def test_error_rate_of_a_sample_is_that_of_all_if_partners_are_independent() -> None:
    """Half of the shuffled genes are grouped: of twice as many, three quarters would be."""
    yes = np.ones(1000, bool)
    shuffled = np.arange(1000) % 2 == 0
    by_chance = np.arange(1000) % 4 == 0
    chance = np.where(shuffled, np.where(by_chance, 2, 1), 0)
    levels, rate, low, high = by_support(np.full(1000, 3, np.float32), yes, chance, 2)
    assert levels.tolist() == [3]
    assert rate == pytest.approx([751 / 1000])
    assert 0.68 < low[0] < 0.7 < 0.8 < high[0] < 0.82  # 125 of 250 pairs: .5 +- .063, and 1 - (1 - p)^2 of it


def test_genes_that_chance_groups_as_well_are_marked(tmp_path: Path) -> None:
    """Genes of support 2 are grouped by chance, those of support 10 never; a large CAG is beyond chance anyway."""
    cag = np.concatenate([np.arange(400) // 2, np.repeat(200, 10), [201, -1]])
    support = np.concatenate([np.repeat([10, 2], 200), np.full(10, 2), [10, 0]]).astype(np.float32)
    size = np.bincount(cag[cag >= 0])
    CagFiles(cag=cag, linkage_cag=cag, size=size).write(str(tmp_path / "labels"))
    chance = np.where(np.arange(412) < 200, np.arange(412), np.arange(412) // 2 + 200)
    chance = np.unique(chance, return_inverse=True)[1]
    CagFiles(cag=chance, linkage_cag=chance, size=np.bincount(chance)).write(str(tmp_path / "shuffled"))
    null.SupportFiles(gene=np.arange(412), support=support).write(str(tmp_path / "support"))
    pairs = np.arange(200, 412).reshape(-1, 2)
    TreeFiles(child=pairs, height=np.full(106, 0.1), first_gene=np.zeros(412, np.int64)).write(str(tmp_path / "tree"))
    shuffled = null.Shuffled(str(tmp_path / "shuffled"), str(tmp_path / "tree"), 0.2)
    found = null.judge(
        str(tmp_path / "labels"),
        shuffled,
        [str(tmp_path / "support")],
        1,
        0.01,
        40,
        str(tmp_path / "out"),
    )
    status = [STATUSES[i] for i in StatusFiles.open(str(tmp_path / "out")).status]
    assert set(status[:200]) == {"supported"}
    assert set(status[200:400]) == {"too little support"}
    assert set(status[400:410]) == {"supported"}, "more than twice the largest group by chance"
    assert status[410:] == ["alone", "left out"]
    assert found["support_bound"] == 10
    assert found["n_unsupported"] == 200
    assert "200 of 410 grouped genes have too little support" in found["in_words"]
    assert found["by_height"]["n_grouped"] == [0] * 40 + [212] * 40
    folders = str(tmp_path / "labels"), shuffled, [str(tmp_path / "support")]
    few = null.judge(*folders, 1, 0.01, null.FEWEST_SAMPLES - 1, str(tmp_path / "few"))
    assert few["support_bound"] is few["fdr_interval"] is None
    assert few["in_words"].startswith("There are only 7 samples: which genes belong together can not be told")
    assert few["n_unsupported"] == 410
