"""Joining by similarity without noise, against the definition pair by pair, and for any blocks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cagdask.engine.linkage import corrected_joining, corrected_nearest
from cagdask.engine.linkage.components import roots_of
from cagdask.engine.linkage.corrected_joining import _join_unlinked
from cagdask.engine.linkage.corrected_links import join_linked
from cagdask.engine.linkage.corrected_nearest import Linking, compare_sides, compare_within, side_of
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


def _by_definition(groups: Groups) -> np.ndarray:
    """Gene of the group that each ends in: all pairs in every round, and the reciprocal nearest join."""
    rows, gene, size, length = (np.array(field) for field in groups)
    ends = gene.copy()
    while True:
        n = len(gene)
        i, j = (index.ravel() for index in np.indices((n, n)))
        cosine = np.einsum("ij,ij->i", rows[i], rows[j])
        rho = corrected(cosine, (size[i], size[j]), (length[i], length[j]), rows.shape[1]).reshape(n, n)
        rho[np.eye(n, dtype=bool) | (rho < bounds_of(rows.shape[1]).same)] = -2
        near = rho.argmax(axis=1)
        pairs = [(a, b) for a, b in enumerate(near) if a < b and near[b] == a and rho[a, b] > -2]
        if not pairs:
            return ends
        for a, b in pairs:
            total = size[a] * length[a] * rows[a] + size[b] * length[b] * rows[b]
            size[a] += size[b]
            length[a] = np.linalg.norm(total) / size[a]
            rows[a] = total / np.linalg.norm(total)
            ends[ends == gene[b]] = gene[a]
        left = np.setdiff1d(np.arange(n), [b for _, b in pairs])
        rows, gene, size, length = rows[left], gene[left], size[left], length[left]


def _crowded(seed: int, n_groups: int, chain: float) -> Groups:
    """Groups of a few genomes, most of them genes alone; ``chain`` draws each genome out to one that shades off."""
    rng = np.random.default_rng(seed)
    start, end = rng.normal(size=(2, 5, 40))
    of_group, size = rng.integers(0, 5, n_groups), rng.choice([1, 1, 1, 2, 3, 8], n_groups)
    rows, length = [], []
    for genome, n in zip(of_group, size, strict=True):
        genes = start[genome] + chain * rng.random() * end[genome] + rng.uniform(0.2, 1) * rng.normal(size=(n, 40))
        mean = (genes / np.linalg.norm(genes, axis=1, keepdims=True)).mean(axis=0)
        length.append(np.linalg.norm(mean))
        rows.append(mean / length[-1])
    return Groups(np.array(rows), np.arange(n_groups), size, np.array(length))


@pytest.mark.parametrize("listed", [0.5, 0.85, 0.999])
@pytest.mark.parametrize("seed", range(8))
def test_links_give_what_comparing_all_in_every_round_gives(
    seed: int, listed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where few pairs are linked to begin with, so that groups must be compared with all again."""
    monkeypatch.setattr(corrected_nearest, "LISTED", listed)
    monkeypatch.setattr(corrected_nearest, "LISTED_ALONE", listed)
    groups = _crowded(seed, 90, chain=seed % 4)
    held, linking = side_of(groups), Linking(10**6)
    compare_within(held, groups.gene, linking)
    parts = Groups(*(np.array(field) for field in groups))
    found = join_linked(parts, held.near, held.best, *(side.astype(np.int32) for side in linking.pairs()))
    parent = groups.gene.copy()
    for keep, leave in zip(found.keep, found.leave, strict=True):
        parent[parent == leave] = keep
    assert len(found.keep) > 20
    assert np.array_equal(parent, _by_definition(groups))
    assert np.array_equal(np.flatnonzero(found.lives), np.unique(parent))


def test_more_links_than_there_is_room_for_are_done_without() -> None:
    """Groups that are all alike: then each round compares with all, as if there were no links."""
    groups = _crowded(1, 60, chain=0)
    few, many = Linking(3), Linking(10**6)
    for linking in (few, many):
        compare_within(side_of(groups), groups.gene, linking)
    assert few.n > 3
    assert not len(few.pairs()[0])
    assert len(many.pairs()[0]) == many.n
    answers = [_join_unlinked(Groups(*(np.array(field) for field in groups)), None, most) for most in (3, 10**6)]
    assert answers[0].n_pairs > answers[1].n_pairs, "comparing all costs more"
    assert np.array_equal(answers[0].keep, answers[1].keep)
    assert np.array_equal(answers[0].leave, answers[1].leave)
    assert answers[0].active == answers[1].active


def test_links_that_tasks_list_give_what_rounds_over_files_give(tmp_path: Path) -> None:
    """First round over files, the others in one task that reads the links; and all over files, without room for any."""
    means, about = _noisy_genomes(11, 0.9)
    with_links = LinkagePlan(chunk_rows=5, merge_rows=40, small=0)
    without = LinkagePlan(chunk_rows=5, merge_rows=2, small=0)
    ends = [_join(tmp_path / str(i), means, about[:, 1], 3, plan) for i, plan in enumerate((with_links, without))]
    assert list(tmp_path.glob("0/join/round-1/compared/*/links/*"))
    assert not list(tmp_path.glob("0/join/round-2"))
    assert list(tmp_path.glob("1/join/round-2"))
    assert not list(tmp_path.glob("1/join/round-1/compared/*/links/*"))
    assert np.array_equal(*ends)


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
