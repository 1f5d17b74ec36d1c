"""The passes of a normalization, by tasks on the workers.

    sums        rows of genes     -> sums of each sample over genes, divided by their lengths if wanted
    turn        rows of genes     -> tiles: genes x a group of samples, so that whole samples can be read
    factors     a group of samples-> size factors (only tmm and median-of-ratios)
    add sorted  a group of samples-> sum of its sorted columns (only quantile, and not for a target that is given)
    rank        a group of samples-> the same tiles with quantiles (only quantile)
    write       rows of genes     -> the output store

Sums go over parts of the table that follow from its shape alone and are added in their order, so that the bytes of the
output do not depend on chunks, workers and memory. A task holds some rows of the table three times in float64, or a
group of whole samples likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.expression.kernels import (
    Float64,
    quantiles_of,
    ratio_medians,
    scaled,
    sorted_sum,
    tmm_factor,
    upper_quartile,
)
from cagdask.storage.arrays import Files, array

N_SUMS = 64
"""Parts into which sums over genes are cut, whatever the workers."""
SORTED_BYTES = 2**25
"""Float64 samples that are sorted at once: a part of the sum of sorted samples."""
HELD_BYTES = 2**24
"""Float32 rows that are read at once for sums."""


class RowFiles(Files):
    """Genes that take part."""

    kept: NDArray[np.int64] = array(np.int64, "gene", "row in the source")


class VectorFiles(Files):
    """One number for each gene or sample."""

    values: Float64 = array(np.float64, "item", "length in bp, scale, size factor, sum, … as the folder is called")


class SumFiles(Files):
    """Of each sample, over some genes."""

    total: Float64 = array(np.float64, "sample", "sum")
    per_length: Float64 = array(np.float64, "sample", "sum of values over the length of their gene, per bp")
    root: Float64 = array(np.float64, "sample", "sum of square roots, of counts")
    least: Float64 = array(np.float64, "sample", "smallest value")
    most: Float64 = array(np.float64, "sample", "largest value")


class GeneFiles(Files):
    """Of each gene, over all samples."""

    log_mean: Float64 = array(np.float64, "gene", "mean natural logarithm, -inf if a sample lacks the gene")
    present: NDArray[np.bool_] = array(np.bool_, "gene", "whether any sample has it")


class SortedFiles(Files):
    """Sums of sorted samples."""

    sums: Float64 = array(np.float64, "group, rank", "sum over a group of samples")


@dataclass(frozen=True)
class Source:
    """What tasks read: a store, which of its genes take part, and what each value is scaled with.

    Attributes
    ----------
    url, folder
        Store, and folder of ``kept`` (a :class:`RowFiles`), and ``length``, ``scale``, ``after`` (a
        :class:`VectorFiles` each) where there are any.
    tiles
        Store of tiles with whole samples, where there is one.
    has
        Which of the three are there.
    log
        Whether values are taken as log2(1 + v).
    counts
        Whether values must be whole numbers.
    """

    url: str
    folder: str
    tiles: str | None
    has: list[str]
    log: bool
    counts: bool

    def kept(self, begin: int, end: int) -> NDArray[np.int64]:
        """Rows in the store of genes ``begin`` to ``end``."""
        return RowFiles.open(storage.join(self.folder, "kept"), begin, end).kept

    def vector(self, name: str, begin: int | None = None, end: int | None = None) -> Float64 | None:
        """Lengths, scales or last divisors, or None."""
        return read_vector(self.folder, name, begin, end) if name in self.has else None

    def rows(self, begin: int, end: int) -> NDArray[np.float32]:
        """Values of genes ``begin`` to ``end`` as they are stored."""
        kept = self.kept(begin, end)
        first = int(kept[0])
        block = np.asarray(storage.open_array(self.url, "abundance")[first : int(kept[-1]) + 1])
        return block if len(block) == len(kept) else block[kept - first]

    def scaled_rows(self, begin: int, end: int) -> Float64:
        """Values of genes ``begin`` to ``end``, scaled, without the last divisor."""
        length = self.vector("length", begin, end)
        return scaled(self.rows(begin, end), length=length, scale=self.vector("scale"), log=self.log)

    def columns(self, begin: int, end: int) -> NDArray[np.float32]:
        """Values of samples ``begin`` to ``end`` as they are stored, all genes."""
        assert self.tiles is not None
        return np.asarray(storage.open_array(self.tiles, "tiles")[:, begin:end])

    def scaled_groups(self, begin: int, samples: NDArray[np.float32]) -> Iterator[tuple[int, Float64]]:
        """Groups of whole samples from ``begin`` on, scaled, without the last divisor, and where each begins."""
        length = self.vector("length")
        for low, block in _groups(samples):
            scale = self.vector("scale", begin + low, begin + low + block.shape[1])
            yield low, scaled(block, length=length, scale=scale, log=self.log)


def _steps(begin: int, end: int, row_bytes: int, held: int) -> list[tuple[int, int]]:
    step = max(1, held // row_bytes)
    return [(low, min(low + step, end)) for low in range(begin, end, step)]


def read_vector(folder: str, name: str, begin: int | None = None, end: int | None = None) -> Float64:
    """Rows of a :class:`VectorFiles` in a folder of vectors."""
    return VectorFiles.open(storage.join(folder, name), begin, end).values


def group_samples(n_genes: int) -> int:
    """Samples that are sorted at once; a function of the number of genes."""
    return max(1, SORTED_BYTES // (8 * n_genes))


def _groups(block: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Groups of a task's samples as float64, each sample in one piece, with the place of the first in the task."""
    step = group_samples(len(block))
    for low in range(0, block.shape[1], step):
        yield low, block[:, low : low + step].astype(np.float64, order="F")


def _refuse(source: Source, begin: int, block: NDArray[np.float32]) -> None:
    """Raise where a value is negative or, for counts, no whole number."""
    wrong = block < 0
    what = "is below 0, and expression is not. Ingest the values before they were centered or logged"
    if source.counts and not wrong.any():
        wrong = block != np.floor(block)
        what = (
            "is no whole number, and size factors come from counts. Use `method='tpm'` or `method='cpm'`, or the raw "
            "counts"
        )
    if not wrong.any():
        return
    row, column = (int(place) for place in np.argwhere(wrong)[0])
    gene: Any = storage.open_array(source.url, "gene_id")[int(source.kept(begin + row, begin + row + 1)[0])]
    sample: Any = storage.open_array(source.url, "sample_id")[column]
    raise InputError(f"{source.url}: gene {gene}, sample {sample}: {block[row, column]:g} {what}.")


def sums_task(source: dict[str, Any], begin: int, end: int, folder: str) -> int:
    """Sums of each sample over genes ``begin`` to ``end``, and of their values over length.

    Writes ``total``, ``per_length``, of counts ``root`` (of their square roots), and the ``least`` and ``most`` value.
    Added gene by gene, so the sums are the same however many rows are read at once.
    """
    given = Source(**source)
    n_samples = int(storage.open_array(given.url, "abundance").shape[1])
    total, per_length, root = np.zeros(n_samples), np.zeros(n_samples), np.zeros(n_samples)
    least, most = np.full(n_samples, np.inf), np.full(n_samples, -np.inf)
    for low, high in _steps(begin, end, 4 * n_samples, HELD_BYTES):
        block = given.rows(low, high)
        _refuse(given, low, block)
        length = given.vector("length", low, high)
        for row, values in enumerate(block.astype(np.float64)):
            total += values
            if length is not None:
                per_length += values / length[row]
            if given.counts:
                root += np.sqrt(values)
        np.minimum(least, block.min(axis=0), out=least)
        np.maximum(most, block.max(axis=0), out=most)
    SumFiles(total=total, per_length=per_length, root=root, least=least, most=most).write(folder)
    return end - begin


def turn_task(source: dict[str, Any], begin: int, end: int, folder: str) -> int:
    """Write genes ``begin`` to ``end`` as tiles, and the mean logarithm of counts: -inf if a sample lacks one."""
    given = Source(**source)
    assert given.tiles is not None
    block = given.rows(begin, end)
    storage.open_array(given.tiles, "tiles", writable=True)[begin:end] = block
    if given.counts:
        with np.errstate(divide="ignore"):
            log_mean = np.log(block.astype(np.float64)).mean(axis=1)
        GeneFiles(log_mean=log_mean, present=np.asarray((block > 0).any(axis=1))).write(folder)
    return end - begin


def quartile_task(source: dict[str, Any], begin: int, end: int, folder: str) -> int:
    """75th percentile of samples ``begin`` to ``end``, over genes that some sample has."""
    given = Source(**source)
    present = GeneFiles.open(storage.join(given.folder, "genes")).present
    parts = [upper_quartile(block[present]) for _, block in _groups(given.columns(begin, end))]
    VectorFiles(values=np.concatenate(parts)).write(folder)
    return end - begin


def tmm_task(source: dict[str, Any], begin: int, end: int, reference: int, folder: str) -> int:
    """TMM factors of samples ``begin`` to ``end`` against the reference sample, not yet scaled to a product of 1."""
    given = Source(**source)
    total = read_vector(given.folder, "total")
    base = given.columns(reference, reference + 1)[:, 0].astype(np.float64)
    factors = []
    for low, block in _groups(given.columns(begin, end)):
        totals = total[begin + low : begin + low + block.shape[1]]
        factors += [
            tmm_factor(np.ascontiguousarray(counts), float(own), base, float(total[reference]))
            for counts, own in zip(block.T, totals, strict=True)
        ]
    VectorFiles(values=np.array(factors)).write(folder)
    return end - begin


def ratio_task(source: dict[str, Any], begin: int, end: int, folder: str) -> int:
    """Median ratios of samples ``begin`` to ``end`` to the genes' geometric means."""
    given = Source(**source)
    log_means = GeneFiles.open(storage.join(given.folder, "genes")).log_mean
    parts = [ratio_medians(block, log_means) for _, block in _groups(given.columns(begin, end))]
    VectorFiles(values=np.concatenate(parts)).write(folder)
    return end - begin


def sorted_task(source: dict[str, Any], begin: int, end: int, folder: str) -> int:
    """Sum of the sorted samples ``begin`` to ``end``, one sum for each group of them, in order."""
    given = Source(**source)
    sums = [sorted_sum(block) for _, block in given.scaled_groups(begin, given.columns(begin, end))]
    SortedFiles(sums=np.stack(sums)).write(folder)
    return end - begin


def rank_task(source: dict[str, Any], begin: int, end: int, ranked: str) -> int:
    """Write the quantiles of samples ``begin`` to ``end`` as tiles."""
    given = Source(**source)
    target = read_vector(given.folder, "target")
    array = storage.open_array(ranked, "tiles", writable=True)
    samples = given.columns(begin, end)
    for low, block in given.scaled_groups(begin, samples):
        samples[:, low : low + block.shape[1]] = quantiles_of(block, target)  # in their place: a second array is large
    array[:, begin:end] = samples
    return end - begin


def write_task(source: dict[str, Any], begin: int, end: int, ranked: str | None, staged: str) -> int:
    """Write genes ``begin`` to ``end`` of the output: values, and what the source says of the genes."""
    given = Source(**source)
    target = storage.open_group(staged, writable=True)
    values: NDArray[Any]
    if ranked is None:
        values = given.scaled_rows(begin, end)
    else:
        values = np.asarray(storage.open_array(ranked, "tiles")[begin:end])
    after = given.vector("after", begin, end)
    values = values if after is None else values.astype(np.float64) / after[:, None]
    found: dict[str, Any] = {"abundance": np.minimum(values, np.finfo(np.float32).max).astype(np.float32, copy=False)}
    kept = given.kept(begin, end)
    first, last = int(kept[0]), int(kept[-1]) + 1
    origin = storage.open_group(given.url)
    for name in target.array_keys():
        if name.startswith("gene_") and name in origin:
            found[name] = np.asarray(cast(Any, origin[name])[first:last])[kept - first]
    if "gene_length" in target and (given.has and ("length" in given.has or "after" in given.has)):
        length = given.vector("length", begin, end) if "length" in given.has else after
        assert length is not None
        found["gene_length"] = length.astype(np.int64)
    for name, part in found.items():
        storage.with_all_chunks(cast(Any, target[name]))[begin:end] = part
    return end - begin
