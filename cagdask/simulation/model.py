"""The model of a simulated cohort: planted genomes, their coverage, and the reads of their genes.

Genes belong to genomes, or to none (*loners*). Sizes of genomes are log-normal. A genome is present in a sample or
absent; where it is present, its coverage is log-normal over genomes and over samples. The reads of a gene are Poisson
distributed. Their mean is the coverage of the genome times the length of the gene, a constant factor of the gene, and
gamma noise:

    nreads ~ Poisson(coverage[genome, sample] * factor[gene] * length[gene] / 150 * Gamma(10, 1/10))
    depth  = nreads * 150 / length

Every sample has a random generator of its own for the coverage of its genomes, and every block of 4,096 genes in a
sample has one for the reads. So a cohort can be made sample by sample or block by block, with the same numbers:

                sample 0   sample 1   ...
    block 0     (0, 0)     (0, 1)               a sample file is a column, gene by gene: O(genes) memory
    block 1     (1, 0)     (1, 1)               a store chunk is some rows: a block, and O(genomes x samples)
    ...

Genes are shuffled, so that gene ids do not reveal genomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.simulation.options import SIMULATE

BLOCK = 4096
"""Genes per block of random numbers; part of what a seed means."""

READ_LENGTH = 150

_GENES, _COVERAGE, _READS = 0, 1, 2  # what a generator is for: the first part of its key


class SampleCoverage(NamedTuple):
    """Depth of a sample, and coverage of its genomes, shape (n_genomes,), float64, 0 where absent."""

    depth: float
    genome: NDArray[np.float64]


@dataclass(frozen=True)
class Cohort:
    """Everything about a simulated cohort but its reads; O(genes) memory.

    Attributes
    ----------
    n_genes, n_samples, coverage, seed
        As asked for.
    genome
        Genome of each gene, shape (n_genes,), int64; -1 for a loner.
    length
        Of each gene, shape (n_genes,), int64, bp.
    factor
        Constant of each gene, shape (n_genes,), float64.
    genome_prevalence, genome_level
        Probability of being in a sample, and log coverage, shape (n_genomes,), float64.
    loner_prevalence, loner_level
        The same for every gene, used where it is a loner, shape (n_genes,), float64.
    """

    n_genes: int
    n_samples: int
    coverage: float
    seed: int
    genome: NDArray[np.int64]
    length: NDArray[np.int64]
    factor: NDArray[np.float64]
    genome_prevalence: NDArray[np.float64]
    genome_level: NDArray[np.float64]
    loner_prevalence: NDArray[np.float64]
    loner_level: NDArray[np.float64]

    @property
    def n_genomes(self) -> int:
        """Planted CAGs of two or more genes."""
        return len(self.genome_level)

    @property
    def n_blocks(self) -> int:
        """Blocks of :data:`BLOCK` genes."""
        return -(-self.n_genes // BLOCK)

    def gene_ids(self, rows: Iterable[int] | None = None) -> list[str]:
        """Names of the genes in these rows, by default of all; in the order of rows, which is that of the names."""
        return _names("gene", self.n_genes, range(self.n_genes) if rows is None else rows)

    def sample_ids(self) -> list[str]:
        """Names of the samples."""
        return _names("sample", self.n_samples, range(self.n_samples))

    def sample_coverage(self, sample: int) -> SampleCoverage:
        """How deep a sample was sequenced, and the coverage of every genome in it."""
        rng = _generator(self.seed, _COVERAGE, sample)
        depth = float(self.coverage * np.exp(rng.normal(0, 0.3)))
        return SampleCoverage(depth, depth * _coverage(rng, self.genome_prevalence, self.genome_level))

    def block_reads(self, block: int, sample: int, cover: SampleCoverage) -> NDArray[np.int64]:
        """Reads of the genes of a block in a sample, shape (rows,)."""
        rows = slice(block * BLOCK, min(self.n_genes, (block + 1) * BLOCK))
        rng = _generator(self.seed, _READS, block, sample)
        genome = self.genome[rows]
        alone = genome < 0
        here = np.zeros(len(genome))
        here[~alone] = cover.genome[genome[~alone]]
        here[alone] = cover.depth * _coverage(rng, self.loner_prevalence[rows][alone], self.loner_level[rows][alone])
        there = np.flatnonzero(here)
        mean = here[there] * self.factor[rows][there] * self.length[rows][there] / READ_LENGTH
        reads = np.zeros(len(genome), np.int64)
        reads[there] = rng.poisson(mean * rng.gamma(10, 0.1, len(there)))
        return reads

    def abundance_blocks(self) -> Iterator[NDArray[np.float32]]:
        """Abundance of block after block of genes, shape (rows, n_samples), float32."""
        covers = [self.sample_coverage(j) for j in range(self.n_samples)]
        for block in range(self.n_blocks):
            length = self.length[block * BLOCK : (block + 1) * BLOCK]
            depth = np.empty((len(length), self.n_samples), np.float32)
            for j, cover in enumerate(covers):
                depth[:, j] = read_depth(self.block_reads(block, j, cover), length)
            yield depth


def _names(word: str, n: int, rows: Iterable[int]) -> list[str]:
    pattern = f"{word}_%0{max(3, len(str(n)))}d"
    return [pattern % (row + 1) for row in rows]


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _coverage(
    rng: np.random.Generator, prevalence: NDArray[np.float64], level: NDArray[np.float64]
) -> NDArray[np.float64]:
    present = rng.random(len(level)) < prevalence
    return np.where(present, np.exp(level + rng.normal(0, 1.2, len(level))), 0.0)


def read_depth(reads: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean coverage of a gene: bases of its reads per base of it."""
    return reads * float(READ_LENGTH) / length


def make_cohort(
    n_genes: int = 20_000,
    n_samples: int = 200,
    *,
    coverage: float = 1.0,
    seed: int = 0,
    loner_share: float = 0.2,
    prevalence: tuple[float, float] = (0.05, 0.6),
) -> Cohort:
    """Draw genomes and genes; see :func:`cagdask.simulate` for the parameters.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    """
    _check(n_genes, n_samples, coverage, seed, loner_share, prevalence)
    rng = _generator(seed, _GENES)
    sizes = _genome_sizes(rng, n_genes - round(loner_share * n_genes))
    genome = np.full(n_genes, -1, np.int64)
    genome[: sizes.sum()] = np.repeat(np.arange(len(sizes)), sizes)
    rng.shuffle(genome)
    return Cohort(
        n_genes=n_genes,
        n_samples=n_samples,
        coverage=coverage,
        seed=seed,
        genome=genome,
        length=np.clip(np.exp(rng.normal(np.log(800), 0.6, n_genes)), 150, 9000).astype(np.int64),
        factor=np.exp(rng.normal(0, 0.3, n_genes)),
        genome_prevalence=rng.uniform(*prevalence, len(sizes)),
        genome_level=rng.normal(0, 1, len(sizes)),
        loner_prevalence=rng.uniform(*prevalence, n_genes),
        loner_level=rng.normal(0, 1, n_genes),
    )


def _genome_sizes(rng: np.random.Generator, n_genes: int) -> NDArray[np.int64]:
    """Sizes of genomes, log-normal with mean 50, at least 2, that add up to ``n_genes``."""
    drawn = np.zeros(0, np.int64)
    while drawn.sum() < n_genes:
        more = np.maximum(2, np.round(rng.lognormal(np.log(50) - 0.5, 1.0, 256))).astype(np.int64)
        drawn = np.concatenate([drawn, more])
    n_genomes = int(np.searchsorted(drawn.cumsum(), n_genes)) + 1 if n_genes else 0
    sizes = drawn[:n_genomes]
    if n_genomes:
        sizes[-1] -= sizes.sum() - n_genes
    return sizes


def _check(
    n_genes: int, n_samples: int, coverage: float, seed: int, loner_share: float, prevalence: tuple[float, float]
) -> None:
    SIMULATE.check(n_genes=n_genes, n_samples=n_samples, coverage=coverage, seed=seed, loner_share=loner_share)
    if not 0 <= prevalence[0] <= prevalence[1] <= 1:
        raise ValueError(f"`prevalence` is {tuple(prevalence)}; give two numbers in [0, 1], the smaller first.")
