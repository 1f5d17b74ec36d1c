"""Profiles in files: all numbers, or only those that are not zero, whichever is smaller.

    dense     (n, n_samples) float64; or (0, n_samples), and then
    begin     (4 n + 1,) int64, where each sum of each row begins in
    column    (n_values,) int32, and
    value     (n_values,) float64

A dot product is four sums, of every fourth sample each, and the values of a row lie in the order in which they are
added, so that a sparse row is multiplied without a look at which sum a value belongs to.

In real catalogs most genes are in few samples. What a block holds is measured when it is written, so that every block
is kept, read and multiplied in the way that costs less for it; the numbers are the same, to the bit, either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit
from cagdask.engine.grid import STEP
from cagdask.storage.arrays import Files, array, locked, read_only

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SUMS = 4
"""Sums that a dot product is the total of; the last ``n_samples % SUMS`` samples are added to the first."""
SPARSE_BELOW = 0.3
"""Share of values that are not zero below which only they are kept: they take 12 bytes each instead of 8."""


class Stored(NamedTuple):
    """Rows as they lie in their files: ``dense`` has all of them, or none and the others have."""

    dense: Any
    begin: Any
    column: Any
    value: Any

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.dense) or len(self.begin) // SUMS

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return int(sum(part.nbytes for part in self))


class RowFiles(Files):
    """Rows, as :func:`smaller_form` gives them; most hand-overs of the engine are rows with something beside them."""

    dense: Float64 = array(np.float64, "dense row, sample", "all values of all rows, or no rows")
    begin: Int64 = array(np.int64, "sum edge", "where each sum of each row begins among the values")
    column: NDArray[np.int32] = array(np.int32, "value", "sample of each value that is not zero")
    value: Float64 = array(np.float64, "value", "values that are not zero")


class GroupFiles(RowFiles):
    """Groups that take part in a round, with their mean profiles as rows.

    Written by summing profiles, :func:`cagdask.engine.linkage.merging.merge_batch` and
    :func:`cagdask.engine.linkage.single.take_open_rows`; read as a :class:`Block`.
    """

    gene: Int64 = array(np.int64, "group", "smallest gene row of the group")
    size: Int64 = array(np.int64, "group", "genes in it")


class ProfileFiles(RowFiles):
    """Unit profiles of the genes of a block that take part; see :mod:`cagdask.engine.rows.profiles`.

    Written by :func:`cagdask.engine.rows.profiles.write_profiles`; read by folding, the first round of linkage,
    summing, measuring and assignment.
    """

    gene: Int64 = array(np.int64, "row", "gene row in the store")
    keys: NDArray[np.uint64] = array(np.uint64, "row, 2", "equal for profiles that are the same")
    mark: NDArray[np.int8] = array(np.int8, "gene of block", "0, or why the gene takes no part")


class FoldFiles(Files):
    """Genes with the same profile.

    Written by :func:`cagdask.engine.rows.profiles.fold_identical`; read by all stages that go from profiles to genes.
    """

    first: Int64 = array(np.int64, "gene", "smallest gene row with the same profile, or the gene's mark")
    weight: Int64 = array(np.int64, "gene", "genes that a row stands for; 0 if another stands for it")


def smaller_form(rows: Float64 | Stored) -> Stored:
    """Rows, shape (n, n_samples), float64, in the form that takes less room; for a :class:`RowFiles`."""
    if isinstance(rows, Stored):
        if not len(rows.dense) and len(rows.value) < SPARSE_BELOW * rows.n * rows.dense.shape[1]:
            return rows
        rows = _all_rows(rows)
    n_values = np.count_nonzero(rows)
    if len(rows) and n_values >= SPARSE_BELOW * rows.size:
        return Stored(rows, *_no_values())
    begin, column, value = np.empty(SUMS * len(rows) + 1, np.int64), np.empty(n_values, np.int32), np.empty(n_values)
    _pick_values(locked(rows), begin, column, value)
    return Stored(rows[:0], begin, column, value)


def save_rows(folder: str, rows: Float64 | Stored) -> None:
    """Write rows that have nothing beside them."""
    RowFiles(**smaller_form(rows)._asdict()).write(folder)


def stored_rows(folder: str) -> Stored:
    """Rows as they lie there, for kernels; local files are mapped."""
    files = RowFiles.open(folder)
    return Stored(files.dense, files.begin, files.column, files.value)


def _no_values() -> list[NDArray[Any]]:
    """What rows that are stored dense have beside them."""
    return [read_only(part) for part in (np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0))]


def load_rows(folder: str, begin: int = 0, end: int | None = None) -> Float64:
    """Rows ``begin:end``, shape (n, n_samples), float64."""
    rows = stored_rows(folder)
    if len(rows.dense):
        return np.asarray(rows.dense[begin:end])
    return take_rows(rows, np.arange(begin, min(rows.n, end) if end is not None else rows.n))


def take_rows(rows: str | Stored, positions: Int64) -> Float64:
    """Rows at these positions, shape (n_positions, n_samples), float64."""
    rows = stored_rows(rows) if isinstance(rows, str) else rows
    if len(rows.dense):
        return np.asarray(rows.dense[positions])
    found = np.zeros((len(positions), rows.dense.shape[1]))
    _spread(rows.begin, rows.column, rows.value, positions, found)
    return found


def take_stored(rows: Stored, positions: Int64) -> Stored:
    """Rows at these positions, stored as they are."""
    if len(rows.dense):
        return Stored(read_only(rows.dense[positions]), *rows[1:])
    size = np.diff(rows.begin)
    begin = np.append(0, np.cumsum(size.reshape(-1, SUMS)[positions]))
    column, value = np.empty(begin[-1], np.int32), np.empty(begin[-1])
    _pick(rows.begin, rows.column, rows.value, positions, begin, column, value)
    return Stored(rows.dense, *map(read_only, (begin, column, value)))


def join_stored(parts: list[Stored]) -> Stored:
    """Rows of several parts, one after the other; stored as they are if all are stored alike."""
    if any(len(part.dense) for part in parts):
        return Stored(read_only(np.concatenate([_all_rows(part) for part in parts])), *_no_values())
    ends = np.cumsum([0] + [len(part.value) for part in parts])
    begin = [part.begin[:-1] + end for part, end in zip(parts, ends, strict=False)]
    column, value = np.concatenate([part.column for part in parts]), np.concatenate([part.value for part in parts])
    joined = (np.concatenate([*begin, ends[-1:]]), column, value)
    return Stored(parts[0].dense, *map(read_only, joined))


def _all_rows(rows: Stored) -> Float64:
    return np.asarray(rows.dense) if len(rows.dense) else take_rows(rows, np.arange(rows.n))


def concatenate_rows(folders: list[str]) -> Float64:
    """Rows of several folders, one after the other."""
    return np.concatenate([load_rows(url) for url in folders])


@dataclass(frozen=True)
class Block:
    """Rows that take part in a round: the folder of a :class:`GroupFiles`.

    In the first round that of a :class:`ProfileFiles`; then ``weight`` names the folder of the :class:`FoldFiles` with
    the sizes.
    """

    folder: str
    n: int
    weight: str | None = None


def members(block: Block) -> tuple[Stored, Int64, Int64]:
    """Rows, genes and sizes of the groups of a block that take part."""
    rows = stored_rows(block.folder)
    if block.weight is None:
        groups = GroupFiles.open(block.folder)
        return rows, groups.gene, groups.size
    gene = ProfileFiles.open(block.folder).gene
    size = FoldFiles.open(block.weight).weight[gene]
    return take_stored(rows, np.flatnonzero(size > 0)), gene[size > 0], size[size > 0]


def lengths(rows: NDArray[Any]) -> Float64:
    """Euclidean length of each row, float64."""
    length: Float64 = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return length


def unit(rows: NDArray[Any]) -> Float32:
    """Rows scaled to unit length, float32; a row of zeros stays."""
    length = lengths(rows)
    scaled: Float32 = (rows / np.where(length > 0, length, 1)[:, None]).astype(np.float32)
    return scaled


@njit(cache=True, nogil=True)
def _pick_values(rows: Any, begin: Any, column: Any, value: Any) -> None:
    """Write the values that are not zero, in the order in which a dot product adds them, and where its sums begin."""
    n_samples = rows.shape[1]
    n_in_fours = n_samples // SUMS * SUMS
    at = 0
    for i in range(len(rows)):
        for z in range(SUMS):
            begin[SUMS * i + z] = at
            for j in range(z, n_in_fours, SUMS):
                if rows[i, j] != 0:
                    column[at], value[at] = j, rows[i, j]
                    at += 1
            if z == 0:
                for j in range(n_in_fours, n_samples):
                    if rows[i, j] != 0:
                        column[at], value[at] = j, rows[i, j]
                        at += 1
    begin[SUMS * len(rows)] = at


@njit(cache=True, nogil=True)
def _spread(begin: Any, column: Any, value: Any, positions: Any, found: Any) -> None:
    """Write values of rows at positions where they belong, into zeros."""
    for i in range(len(positions)):
        for at in range(begin[SUMS * positions[i]], begin[SUMS * (positions[i] + 1)]):
            found[i, column[at]] = value[at]


@njit(cache=True, nogil=True)
def _pick(begin: Any, column: Any, value: Any, positions: Any, to: Any, to_column: Any, to_value: Any) -> None:
    """Copy values of rows at positions one after the other; ``to`` is where each sum of each row begins."""
    for i in range(len(positions)):
        at = to[SUMS * i]
        for z in range(begin[SUMS * positions[i]], begin[SUMS * (positions[i] + 1)]):
            to_column[at], to_value[at] = column[z], value[z]
            at += 1


@njit(cache=True, nogil=True)
def copy_row(rows: Stored, i: int, to: Float64) -> None:
    """Write row ``i`` into ``to``, shape (n_samples,)."""
    if len(rows.dense):
        for j in range(len(to)):
            to[j] = rows.dense[i, j]
    else:
        to[:] = 0
        for at in range(rows.begin[SUMS * i], rows.begin[SUMS * (i + 1)]):
            to[rows.column[at]] = rows.value[at]


@njit(inline="always", cache=True)
def rounded(x: float) -> float:
    """``x`` to the nearest multiple of 1 / STEP."""
    return float(np.rint(x * STEP) / STEP)


@njit(cache=True, nogil=True)
def product(a: Float64, b: Float64) -> float:
    """Dot product in a fixed order of additions, the same on any processor."""
    s0 = s1 = s2 = s3 = 0.0
    n = len(a) // 4 * 4
    for i in range(0, n, 4):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
    for i in range(n, len(a)):
        s0 += a[i] * b[i]
    return (s0 + s1) + (s2 + s3)


@njit(cache=True, nogil=True)
def product_with(a: Float64, rows: Stored, i: int) -> float:
    """What :func:`product` gives for ``a`` and row ``i``, without the zeros of that row; the same bits."""
    if len(rows.dense):
        return product(a, rows.dense[i])
    s0 = s1 = s2 = s3 = 0.0
    begin, column, value = rows.begin, rows.column, rows.value
    z = SUMS * i
    for at in range(begin[z], begin[z + 1]):
        s0 += a[column[at]] * value[at]
    for at in range(begin[z + 1], begin[z + 2]):
        s1 += a[column[at]] * value[at]
    for at in range(begin[z + 2], begin[z + 3]):
        s2 += a[column[at]] * value[at]
    for at in range(begin[z + 3], begin[z + 4]):
        s3 += a[column[at]] * value[at]
    return (s0 + s1) + (s2 + s3)
