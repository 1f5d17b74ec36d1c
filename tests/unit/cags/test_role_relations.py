"""Which CAGs are accessory modules of which."""

from pathlib import Path

import numpy as np
import pytest

from cagdask.cags.role_relations import KINDS, MODULE, N_NEAREST, OWN, RelationFiles, find_modules
from cagdask.cags.role_search import ReferenceFiles, References, nearest

HELD = 2**20
SAMPLES = 60


def _references(folder: Path, profiles: np.ndarray, sizes: list[int]) -> str:
    profile = profiles.astype(np.float32)
    share = (profile > 0).astype(np.float32)
    number = np.arange(len(profile))
    ReferenceFiles(number=number, size=np.array(sizes), profile=profile, share=share).write(str(folder))
    return str(folder)


def _modules(folder: Path, references: str, n: int, held_bytes: int = HELD) -> tuple[list[str], list[int]]:
    nothing = {"kind": np.zeros(n, np.int8), "first": np.full(n, -1), "second": np.full(n, -1)}
    RelationFiles(**nothing).write(str(folder / "shared"))
    find_modules([references], [str(folder / "shared")], 0, n, held_bytes, str(folder / "modules"))
    found = RelationFiles.open(str(folder / "modules"))
    return [KINDS[kind] for kind in found.kind], found.first.tolist()


@pytest.mark.parametrize("held_bytes", [1, HELD])
def test_a_module_is_found_that_is_missing_where_its_genome_is_most_abundant(tmp_path: Path, held_bytes: int) -> None:
    rng = np.random.default_rng(0)
    genome = np.sort(rng.lognormal(3, 1.2, SAMPLES))
    genome[-20:] *= 50
    module = np.where(np.arange(SAMPLES) < 40, genome, 0)
    others = rng.lognormal(3, 1.2, (12, SAMPLES)) * (rng.random((12, SAMPLES)) < 0.6)
    profiles = np.vstack([genome, module, others])
    references = _references(tmp_path / "references", profiles, [50, 20] + [30] * 12)
    usual = nearest(profiles[1:2].astype(np.float64), References([references], HELD), N_NEAREST + 1).place
    assert 0 not in usual, "the cosine over all samples does not show it"
    kind, first = _modules(tmp_path, references, len(profiles), held_bytes)
    assert (kind[1], first[1]) == (KINDS[MODULE], 0)
    assert kind[0] == KINDS[OWN]
    assert set(kind[2:]) == {KINDS[OWN]}


@pytest.mark.parametrize(("n_genes", "expected"), [(8, "own"), (60, "accessory")])
def test_a_few_genes_that_get_reads_of_another_genome_are_no_core(tmp_path: Path, n_genes: int, expected: str) -> None:
    rng = np.random.default_rng(1)
    genome = rng.lognormal(3, 1, SAMPLES) * (np.arange(SAMPLES) < 25)
    mapped = genome + 0.02 * rng.lognormal(3, 1, SAMPLES)
    references = _references(tmp_path / "references", np.vstack([genome, mapped]), [100, n_genes])
    assert _modules(tmp_path, references, 2)[0] == [expected, "own"]


@pytest.mark.parametrize(("off", "expected"), [(1.15, "accessory"), (1.9, "own")])
def test_a_close_fit_in_six_samples_is_no_chance_and_a_coarse_one_may_be(
    tmp_path: Path, off: float, expected: str
) -> None:
    """Among 100 candidates six fits within a factor of 2 are expected by chance 0.07 times, closer ones 0.001 times."""
    rng = np.random.default_rng(2)
    profiles = rng.lognormal(3, 1.2, (100, SAMPLES)) * (rng.random((100, SAMPLES)) < 0.6)
    profiles[0] = rng.lognormal(3, 1, SAMPLES) * (np.arange(SAMPLES) < 20)
    profiles[1] = 0
    profiles[1, :12:2] = profiles[0, :12:2] * off ** np.array([-1, 1, 0, 0, 1, -1])
    references = _references(tmp_path / "references", profiles, [50, 20] + [30] * 98)
    kind, first = _modules(tmp_path, references, len(profiles))
    assert kind[1] == expected
    assert first[1] == (0 if expected == "accessory" else -1)
