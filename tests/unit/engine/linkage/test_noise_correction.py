"""Joining by similarity without noise, against the definition pair by pair, and for any blocks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cagdask.engine.linkage import corrected_joining
from cagdask.engine.linkage.components import roots_of
from cagdask.engine.linkage.corrected_nearest import compare_sides, compare_within, side_of
from cagdask.engine.linkage.noise_correction import Groups, bounds_of, corrected, inner_similarity
from cagdask.engine.linkage.refinement import directions_of
from cagdask.engine.linkage.refinement_table import TableFiles
from cagdask.engine.linkage.rounds import InPlace, LinkagePlan
from cagdask.engine.rows.files import Block, GroupFiles, smaller_form


def _noisy_genomes(seed: int, noise: float, n_genomes: int = 4, n_samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Unit profiles of groups of genes, some of one gene, and the genome of each group; mean profiles and sizes."""
    rng = np.random.default_rng(seed)
    genomes = rng.normal(size=(n_genomes, n_samples))
    of_group = rng.integers(0, n_genomes, 24)
    sizes = rng.choice([1, 2, 3, 6, 12, 40], 24)
    means = []
    for genome, size in zip(of_group, sizes, strict=True):
        genes = genomes[genome] + noise * rng.normal(size=(size, n_samples))
        genes -= genes.mean(axis=1, keepdims=True)
        genes /= np.linalg.norm(genes, axis=1, keepdims=True)
        means.append(genes.mean(axis=0))
    return np.array(means), np.column_stack([of_group, sizes])


def _join(folder: Path, means: np.ndarray, sizes: np.ndarray, blocks: int, plan: LinkagePlan) -> np.ndarray:
    """Gene of the group that each group ends in; groups have the genes 0, 10, 20 and so on."""
    gene = 10 * np.arange(len(means))
    made = []
    for b, at in enumerate(np.array_split(np.random.default_rng(blocks).permutation(len(means)), blocks)):
        url = str(folder / "groups" / str(b))
        GroupFiles(**smaller_form(means[at])._asdict(), gene=gene[at], size=sizes[at]).write(url)
        made.append(Block(url, len(at)))
    directions = directions_of(InPlace(), made, plan.chunk_rows, str(folder / "directions"))
    _, table, joined, _ = corrected_joining.join_corrected(InPlace(), directions, plan, str(folder / "join"))
    parent = np.arange(10 * len(means))
    for files in TableFiles.open_all(joined):
        parent[files.leave] = files.keep
    ends = roots_of(parent)[gene]
    assert set(TableFiles.open(table).gene) == set(ends)
    return ends


def test_similarity_without_noise_is_one_within_a_genome_whatever_the_noise() -> None:
    """The raw similarity falls with noise, the corrected one does not."""
    raw, without = [], []
    for noise in (0.2, 1.0, 2.0):
        rng = np.random.default_rng(1)
        genome = rng.normal(size=400)
        means = []
        for _ in range(2):
            genes = genome + noise * rng.normal(size=(50, 400))
            means.append((genes / np.linalg.norm(genes, axis=1, keepdims=True)).mean(axis=0))
        length = np.linalg.norm(means, axis=1)
        cosine = np.array([means[0] @ means[1] / length.prod()])
        raw.append(float(means[0] @ means[1]))
        size = np.array([50])
        without.append(float(corrected(cosine, (size, size), (length[:1], length[1:]), 400)[0]))
    assert raw[0] > 0.9
    assert raw[1] < 0.6
    assert without[:2] == pytest.approx([1, 1], abs=0.03)
    assert without[2] == -2, "below the least raw similarity nothing is joined"


@given(seed=st.integers(0, 10**6), noise=st.floats(0.1, 1.2))
@settings(deadline=None)
def test_nearest_is_that_of_the_definition(seed: int, noise: float) -> None:
    """Products in float32 and bounds do not change which group is nearest."""
    means, about = _noisy_genomes(seed, noise)
    length = np.linalg.norm(means, axis=1)
    gene = np.arange(len(means))
    groups = Groups(means / length[:, None], gene, about[:, 1], length)
    halves = side_of(groups)
    compare_sides(halves, gene[::2], halves, gene[1::2])
    compare_within(halves, gene[::2])
    compare_within(halves, gene[1::2])
    whole = side_of(groups)
    compare_within(whole, gene)
    assert np.array_equal(whole.near, halves.near)
    near, best = whole.near, whole.best
    c, bounds = inner_similarity(groups.size, length), bounds_of(means.shape[1])
    for i in gene:
        rho = np.full(len(gene), -2.0)
        for j in gene[gene != i]:
            mean, one, two = means[i] @ means[j], c[i], c[j]
            alone = np.isnan(one) or np.isnan(two)
            one, two = (two if np.isnan(one) else one), (one if np.isnan(two) else two)
            if mean >= 0.3 and one > 0 and two > 0:
                rho[j] = mean / np.sqrt(one * two)
                if rho[j] < bounds.same_alone if alone else mean < bounds.as_noisy * max(one, two):
                    rho[j] = -2
        if rho.max() >= bounds.same:
            assert near[i] == rho.argmax()
            assert best[i] == pytest.approx(rho.max(), abs=1e-9)
        else:
            assert best[i] == -2


@given(seed=st.integers(0, 10**6), noise=st.floats(0.1, 1.2), blocks=st.integers(1, 6), rows=st.integers(1, 30))
@settings(deadline=None, max_examples=25)
def test_joining_does_not_depend_on_blocks(
    seed: int, noise: float, blocks: int, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All groups in memory give what rounds over files give, for any blocks."""
    means, about = _noisy_genomes(seed, noise)
    folder = tmp_path_factory.mktemp("join")
    in_memory = _join(folder / "a", means, about[:, 1], 1, LinkagePlan(chunk_rows=1000, merge_rows=1000))
    in_files = _join(folder / "b", means, about[:, 1], blocks, LinkagePlan(chunk_rows=rows, merge_rows=2, small=0))
    assert np.array_equal(in_memory, in_files)


def test_halves_of_noisy_genomes_are_joined_and_genomes_are_not(tmp_path: Path) -> None:
    """Noise that would part the genes of a genome at any usual threshold."""
    means, about = _noisy_genomes(3, 0.8)
    ends = _join(tmp_path, means, about[:, 1], 1, LinkagePlan(chunk_rows=1000, merge_rows=1000))
    for genome in range(4):
        assert len(set(ends[about[:, 0] == genome])) == 1
    assert len(set(ends)) == len(set(about[:, 0]))


def test_unrelated_genes_that_were_put_together_take_in_no_genome(tmp_path: Path) -> None:
    """Genes that share little are little alike, and the correction makes them alike to all that have some of it."""
    rng = np.random.default_rng(5)
    site, genome = rng.normal(size=(2, 200))
    of_genome = genome + 1.6 * site + 0.2 * rng.normal(size=(60, 200))
    unrelated = 0.8 * site + 0.65 * rng.normal(size=(60, 200))
    means, size = [], np.array([60, 60])
    for genes in (of_genome, unrelated):
        unit = genes / np.linalg.norm(genes, axis=1, keepdims=True)
        means.append(unit.mean(axis=0))
    length = np.linalg.norm(means, axis=1)
    inner = inner_similarity(size, length)
    rho = means[0] @ means[1] / np.sqrt(inner.prod())
    assert rho > bounds_of(200).same, "the correction alone would join them"
    assert len(set(_join(tmp_path, np.array(means), size, 1, LinkagePlan(chunk_rows=9, merge_rows=9)))) == 2
