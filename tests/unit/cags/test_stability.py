"""CAGs that are found again in both halves of the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask import storage
from cagdask.cags import stability
from cagdask.cags.clustering import find_cags
from cagdask.errors import InputError
from cagdask.plot import save
from cagdask.plot import stability as picture
from cagdask.plot.roles import stability_counts
from tests.conftest import MakeStore
from tests.inline_runner import InlineRunner


def depths(n_samples: int = 40) -> np.ndarray:
    """Three genomes of ten genes, five genes of one sample each that are the same, and genes alone."""
    rng = np.random.default_rng(1)
    cover = rng.lognormal(1, 1.2, (3, n_samples))
    once = np.zeros((5, n_samples))
    once[:, n_samples // 2] = 5
    rows = np.concatenate([np.repeat(cover, 10, axis=0), once, rng.lognormal(0, 1.5, (10, n_samples))])
    return rows * rng.lognormal(0, 0.1, rows.shape)


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=30))
def test_the_best_index_is_that_of_all_pairs_of_sets(labels: list[tuple[int, int]]) -> None:
    cag, other = np.array(labels).T
    both = (cag >= 0) & (other >= 0)
    sets = [[set(np.flatnonzero(both & (which == k)).tolist()) for k in range(5)] for which in (cag, other)]
    wanted = [
        max([len(a & b) / len(a | b) for b in sets[1] if len(b) > 1], default=0) if len(a) > 1 else 0 for a in sets[0]
    ]
    np.testing.assert_allclose(stability.best_jaccard(cag, other, 5), wanted)


def test_genomes_are_stable_and_what_one_sample_makes_is_not(abundance_store: MakeStore) -> None:
    ds = find_cags(abundance_store(depths()), client=InlineRunner(), stability=4)
    found = ds.cag_stability.values[ds.gene_cag.values]
    assert (found[:30] == 1).all()
    assert (found[30:35] == 0).all()
    assert np.isnan(found[35:]).all()
    plain = find_cags(abundance_store(depths()), client=InlineRunner())
    assert "cag_stability" not in plain
    assert (plain.gene_cag.values == ds.gene_cag.values).all()
    assert '"stability": 4' in ds.attrs["parameters"]
    assert "stability" not in plain.attrs["parameters"]


def test_halves_share_no_sample_and_depend_on_the_seed() -> None:
    for n in (4, 7):
        first, second = stability.halves_of(n, 1, 2)
        assert sorted(first + second) == list(range(n))
        assert abs(len(first) - len(second)) <= 1
    assert len({str(stability.halves_of(20, seed, repeat)) for seed in (0, 1) for repeat in (0, 1)}) == 4


def test_a_half_that_was_compared_is_not_clustered_again(abundance_store: MakeStore, tmp_path: Path) -> None:
    store, output = abundance_store(depths()), str(tmp_path / "cags.zarr")

    class Stopped(InlineRunner):
        def begins(self, stage: str, i: int) -> None:
            super().begins(stage, i)
            if sum(stage == "look for CAGs in half of the samples" for stage, _ in self.calls) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_cags(store, output=output, client=Stopped(), stability=2)
    runner = InlineRunner()
    ds = find_cags(store, output=output, client=runner, stability=2).load()
    assert [stage for stage, _ in runner.calls].count("look for CAGs in half of the samples") == 2
    whole = find_cags(store, client=InlineRunner(), stability=2)
    np.testing.assert_array_equal(ds.cag_stability, whole.cag_stability)
    assert not storage.exists(f"{output}.work")


def test_too_few_samples_are_refused(abundance_store: MakeStore) -> None:
    with pytest.raises(InputError, match="has 3 samples, and `stability` needs 4 or more"):
        find_cags(abundance_store(depths(3)), client=InlineRunner(), stability=1)


def test_stability_is_drawn(abundance_store: MakeStore, tmp_path: Path) -> None:
    ds = find_cags(abundance_store(depths()), client=InlineRunner(), stability=1)
    assert "both halves have the CAG" in Path(save(picture(ds), str(tmp_path / "a.svg"))).read_text()
    with pytest.raises(ValueError, match="has no cag_stability"):
        picture(ds.drop_vars("cag_stability"))
    table = stability_counts(np.array([1, 0.5, np.nan]), np.array([5, 3, 1])).set_index(["stability", "what"])["n"]
    assert table[table > 0].to_dict() == {
        ("0.5", "CAGs"): 1, ("1.0", "CAGs"): 1, ("0.5", "genes"): 3, ("1.0", "genes"): 5,
    }  # fmt: skip
