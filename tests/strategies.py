"""What Hypothesis draws: abundance matrices that try to break things, chunkings, partitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

TINY = float(np.finfo(np.float32).smallest_subnormal)
LARGE = 1e30

# few distinct numbers give ties; the last ones span what float32 holds without the sum of a column leaving it
_TIED = st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 0.5])
_WIDE = st.sampled_from([0.0, 1.0, 65_504.0, 70_000.0, 1e-30, 1e-12, LARGE, TINY])
_ANY = st.one_of(st.just(0.0), st.floats(2.0**-20, 2.0**20, width=32))


@st.composite
def abundance_matrices(
    draw: st.DrawFn,
    *,
    min_genes: int = 1,
    max_genes: int = 24,
    min_samples: int = 1,
    max_samples: int = 8,
    wide: bool = True,
) -> NDArray[np.float32]:
    """Abundances, shape (n_genes, n_samples), float32 >= 0, with zeros, ties, duplicate and empty rows and columns.

    ``wide`` adds values from the smallest subnormal float32 to 1e30.
    """
    n_genes = draw(st.integers(min_genes, max_genes))
    n_samples = draw(st.integers(min_samples, max_samples))
    cells = draw(st.sampled_from([_TIED, _WIDE, _ANY] if wide else [_TIED, _ANY]))
    values = draw(st.lists(cells, min_size=n_genes * n_samples, max_size=n_genes * n_samples))
    matrix = np.array(values, np.float32).reshape(n_genes, n_samples)
    return _spoil(draw, matrix)


@st.composite
def planted_matrices(
    draw: st.DrawFn, *, max_genes: int = 60, max_samples: int = 12, min_samples: int = 3, distinct: bool = False
) -> NDArray[np.float32]:
    """Abundances with groups in them: noisy multiples of a few profiles, so that merges of any height happen.

    With ``distinct``, what makes equal distances likely is left out: tests of what holds only without ties would throw
    most of such cases away.
    """
    n_samples = draw(st.integers(max(min_samples, 5) if distinct else min_samples, max_samples))
    n_genes = draw(st.integers(2, max_genes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    profiles = rng.lognormal(0, 1.5, (draw(st.integers(1, 6)), n_samples)) * (rng.random((1, n_samples)) < 0.9)
    noise = draw(st.sampled_from([0.05, 0.3, 1.0] if distinct else [0.0, 0.05, 0.3, 1.0]))
    scale = rng.lognormal(0, 1, (n_genes, 1))
    matrix = profiles[rng.integers(0, len(profiles), n_genes)] * scale * rng.lognormal(0, noise, (n_genes, n_samples))
    matrix *= rng.random((n_genes, n_samples)) < draw(st.sampled_from([1.0, 0.7] if distinct else [1.0, 0.7, 0.3]))
    if distinct:
        return matrix.astype(np.float32)
    if draw(st.booleans()):
        matrix = np.round(matrix)  # counts: many ties
    return _spoil(draw, matrix.astype(np.float32))


def _spoil(draw: st.DrawFn, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat rows (some scaled by a power of two: same direction, exactly) and empty rows and columns."""
    n_genes, n_samples = matrix.shape
    gene = st.integers(0, n_genes - 1)
    for source, target, factor in draw(st.lists(st.tuples(gene, gene, st.sampled_from([1.0, 2.0, 0.5])), max_size=4)):
        matrix[target] = matrix[source] * np.float32(factor)
    for i in draw(st.lists(gene, max_size=2)):
        matrix[i] = 0
    for j in draw(st.lists(st.integers(0, n_samples - 1), max_size=1)):
        matrix[:, j] = 0
    return matrix


@st.composite
def chunkings(draw: st.DrawFn, n: int, *, max_chunks: int = 6) -> tuple[int, ...]:
    """Sizes > 0 of consecutive chunks that cover ``n`` rows."""
    cuts = draw(st.sets(st.integers(1, n - 1), max_size=max_chunks - 1)) if n > 1 else set()
    edges = [0, *sorted(cuts), n]
    return tuple(b - a for a, b in pairwise(edges))


@st.composite
def partitions(draw: st.DrawFn, n: int, *, max_groups: int = 8) -> NDArray[np.int64]:
    """A label per thing, shape (n,), int64, labels 0, 1, … by falling size, ties by first member."""
    raw = draw(st.lists(st.integers(0, max_groups - 1), min_size=n, max_size=n))
    groups: dict[int, list[int]] = {}
    for i, label in enumerate(raw):
        groups.setdefault(label, []).append(i)
    labels = np.empty(n, np.int64)
    for rank, members in enumerate(sorted(groups.values(), key=lambda m: (-len(m), m[0]))):
        labels[members] = rank
    return labels
