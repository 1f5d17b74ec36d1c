"""Sums over the genes of each group, for any number of groups.

    block of genes --sum by label--> part: labels ascending, sums      one task per block
    parts --slices of a label range--> sums of these groups            one task per range

Sums are kept as two float64, the second what the first can not hold, so that after rounding to float32 they do not
depend on how genes were cut into blocks. Per task: one block, and the sums of the groups in it or in its range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.rows.files import load_rows, save_rows
from cagdask.storage import arrays

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


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


def write_part(folder: str, label: Int64, values: Float64, **flags: NDArray[np.bool_]) -> None:
    """Sums by label of one block of genes, as ``label`` (m,), and ``high`` and ``low``, rows; flags are joined by or.

    Parameters
    ----------
    folder
        Where to write.
    label
        Group of each row, (n_rows,) int64; rows of negative label are left out.
    values
        Shape (n_rows, n), float64.
    flags
        Boolean arrays (n_rows, n); stored as (m, n).
    """
    taken = label >= 0
    present, target = np.unique(label[taken], return_inverse=True)
    high = np.zeros((len(present), values.shape[1]))
    low = np.zeros_like(high)
    add_rows(high, low, target, values if taken.all() else values[taken])
    joined = {}
    for name, flag in flags.items():
        joined[name] = np.zeros((len(present), flag.shape[1]), bool)
        join_flags(joined[name], target, flag if taken.all() else flag[taken])
    save_rows(storage.join(folder, "high"), high)
    save_rows(storage.join(folder, "low"), low)
    arrays.save(folder, label=present, **joined)


def read_sums(parts: list[str], begin: int, end: int, n: int, *flags: str) -> tuple[Float64, list[NDArray[np.bool_]]]:
    """Sums, and joined flags, of the groups ``begin:end`` over all parts, each of shape (end - begin, n)."""
    high = np.zeros((end - begin, n))
    low = np.zeros_like(high)
    joined = [np.zeros((end - begin, n), bool) for _ in flags]
    for url in parts:
        label = arrays.load(url, "label")
        i, j = np.searchsorted(label, [begin, end])
        if i == j:
            continue
        target = np.asarray(label[i:j]) - begin
        add_rows(high, low, target, load_rows(storage.join(url, "high"), i, j))
        low[target] += load_rows(storage.join(url, "low"), i, j)
        for total, name in zip(joined, flags, strict=True):
            total[target] |= arrays.load(url, name, i, j)
    return high + low, joined
