from __future__ import annotations

import numpy as np
import pytest

from cagdask.explore import cag_map
from cagdask.explore.cag_map import density, gene_places, lay_out


def families(n_families: int, n_each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Profiles of families of CAGs, mixed, and the family of each."""
    rng = np.random.default_rng(seed)
    family = np.arange(n_families * n_each) % n_families
    profiles = rng.lognormal(0, 1.5, (n_families, 30))[family] * rng.lognormal(0, 0.2, (len(family), 30))
    return profiles.astype(np.float32), family


@pytest.mark.parametrize("n_landmarks", [40, 1_000])
def test_near_on_the_map_is_similar(monkeypatch: pytest.MonkeyPatch, n_landmarks: int) -> None:
    """Also of CAGs that t-SNE never saw."""
    monkeypatch.setattr(cag_map, "N_LANDMARKS", n_landmarks)
    profiles, family = families(8, 15)
    place = lay_out([profiles], len(profiles)).place
    distance = np.linalg.norm(place[:, None] - place[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (family[distance.argmin(axis=1)] == family).mean() > 0.95


def test_a_map_does_not_depend_on_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cag_map, "N_LANDMARKS", 25)
    profiles, _ = families(5, 12)
    whole = lay_out([profiles], len(profiles))
    for step in (1, 7, 30):
        pieces = lay_out((profiles[i : i + step] for i in range(0, len(profiles), step)), len(profiles))
        np.testing.assert_allclose(pieces.place, whole.place, atol=1e-6)
        np.testing.assert_array_equal(pieces.on_rim, whole.on_rim)


def test_what_is_like_no_landmark_is_on_the_rim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cag_map, "N_LANDMARKS", 10)
    profiles, _ = families(2, 6)
    profiles[:, 20:] = 0
    profiles[11] = 0
    profiles[11, 25] = 1
    made = lay_out([profiles], len(profiles))
    assert list(np.flatnonzero(made.on_rim)) == [11]
    assert np.linalg.norm(made.place[11]) > np.linalg.norm(made.place[:10], axis=1).max()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5])
def test_few_cags_have_places(n: int) -> None:
    profiles, _ = families(1, 5)
    place = lay_out([profiles[:n]], n).place
    assert place.shape == (n, 2)
    assert np.isfinite(place).all()
    assert len(np.unique(place.round(6), axis=0)) == n


def test_genes_lie_around_their_cag_the_typical_ones_nearest() -> None:
    profiles, _ = families(1, 5)
    made = lay_out([profiles], 5)
    label = np.array([0, 0, 0, 1, -1])
    distance = np.array([0.0, 0.05, 0.1, 0.0, np.nan], np.float32)
    place = gene_places(made, label, distance, np.array([3, 1, 0, 0, 0]))
    away = np.linalg.norm(place[:3] - made.place[0], axis=1)
    assert away[0] == 0
    assert away[1] == pytest.approx(away[2] / 2, rel=1e-3)
    np.testing.assert_array_equal(place[3], made.place[1])
    assert np.isnan(place[4]).all()


def test_density_counts_what_a_histogram_counts() -> None:
    place = np.random.default_rng(0).normal(size=(1_000, 2)).astype(np.float32)
    place[5] = np.nan
    x, y = (-0.5, 1.0), (-1.0, 0.25)
    inside = place[~np.isnan(place[:, 0])]
    expected, _, _ = np.histogram2d(inside[:, 1], inside[:, 0], bins=(10, 20), range=(y, x))
    assert density(place, x, y, (10, 20)).sum() == expected.sum()
    np.testing.assert_array_equal(density(place, x, y, (10, 20)), expected)
