"""Sums over the genes of each group, for any number of groups.

    block of genes --sum by label--> part: labels ascending, sums      one task per block
    parts --slices of a label range--> sums of these groups            one task per range

Sums are kept as two float64, the second what the first can not hold, so that after rounding to float32 they do not
depend on how genes were cut into blocks. Per task: one block, and the sums of the groups in it or in its range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.kernels import njit
from cagdask.engine.rows.files import load_rows, save_rows
from cagdask.storage.arrays import Files, array, locked

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class SumFiles(Files):
    """Sums of one block by label, a *part*: the sums lie beside it as rows, in :data:`HIGH` and :data:`LOW`.

    Written by :func:`write_part`, read by :func:`read_sums` and :func:`read_present`.
    """

    label: Int64 = array(np.int64, "group", "labels of the block, ascending")
    present: NDArray[np.bool_] = array(
        np.bool_, "group, sample", "whether any gene of the group is there; or no column"
    )


HIGH, LOW = "high", "low"
"""Folders of the two numbers of each sum."""


@njit(cache=True, nogil=True)
def add_rows(high: Any, low: Any, target: Any, rows: Any) -> None:
    """Add ``rows[i]`` to the sum ``target[i]``; what rounding loses of ``high`` goes to ``low`` (Knuth's two-sum)."""
    for i in range(len(rows)):
        g = target[i]
        for j in range(rows.shape[1]):
            x, y = high[g, j], rows[i, j]
            s = x + y
            z = s - x
            low[g, j] += (x - (s - z)) + (y - z)
            high[g, j] = s


@njit(cache=True, nogil=True)
def join_flags(joined: Any, target: Any, flags: Any) -> None:
    """Set ``joined[target[i]]`` wherever ``flags[i]`` is set."""
    for i in range(len(flags)):
        g = target[i]
        for j in range(flags.shape[1]):
            joined[g, j] |= flags[i, j]


def write_part(folder: str, label: Int64, values: Float64, present: NDArray[np.bool_] | None = None) -> None:
    """Sums by label of one block of genes, and in which samples any gene of a label is present.

    Parameters
    ----------
    folder
        Where to write.
    label
        Group of each row, (n_rows,) int64; rows of negative label are left out.
    values
        Shape (n_rows, n), float64.
    present
        Shape (n_rows, n), bool; None if nobody will ask.
    """
    taken = label >= 0
    labels, target = np.unique(label[taken], return_inverse=True)
    high = np.zeros((len(labels), values.shape[1]))
    low = np.zeros_like(high)
    add_rows(high, low, target, locked(values if taken.all() else values[taken]))
    joined = np.zeros((len(labels), 0 if present is None else present.shape[1]), bool)
    if present is not None:
        join_flags(joined, target, present if taken.all() else present[taken])
    save_rows(storage.join(folder, HIGH), high)
    save_rows(storage.join(folder, LOW), low)
    SumFiles(label=labels, present=joined).write(folder)


def read_sums(parts: list[str], begin: int, end: int, n: int) -> Float64:
    """Sums of the groups ``begin:end`` over all parts, shape (end - begin, n)."""
    high = np.zeros((end - begin, n))
    low = np.zeros_like(high)
    for url in parts:
        rows, target = _rows_of(url, begin, end)
        if len(target):
            add_rows(high, low, target, locked(load_rows(storage.join(url, HIGH), rows.start, rows.stop)))
            low[target] += load_rows(storage.join(url, LOW), rows.start, rows.stop)
    return high + low


def read_present(parts: list[str], begin: int, end: int, n: int) -> NDArray[np.bool_]:
    """In which samples any gene of the groups ``begin:end`` is present, shape (end - begin, n)."""
    present = np.zeros((end - begin, n), bool)
    for url in parts:
        rows, target = _rows_of(url, begin, end)
        if len(target):
            present[target] |= SumFiles.open(url, rows.start, rows.stop).present
    return present


def _rows_of(part: str, begin: int, end: int) -> tuple[slice, Int64]:
    """The rows of a part that belong to the groups ``begin:end``, and which of these they are."""
    label = SumFiles.open(part).label
    first, last = (int(i) for i in np.searchsorted(label, [begin, end]))
    return slice(first, last), label[first:last] - begin
