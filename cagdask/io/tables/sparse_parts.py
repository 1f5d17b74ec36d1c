"""Parts of a table between reading and writing: plain float32, or only what is not 0 where that is little.

plain    values, row by row
sparse   ends of the rows (int64) | columns (int32) | values (float32)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask import storage

_SPARSE = 0.25
"""Share of values that are not 0 below which a part is written sparse."""


def pack(rows: NDArray[np.float32]) -> tuple[bytes, int]:
    """Bytes of a part, and the number of its values that are not 0; -1 if it is plain."""
    n_values = int(np.count_nonzero(rows))
    if n_values >= _SPARSE * rows.size:
        return rows.tobytes(), -1
    row, column = np.nonzero(rows)
    ends = np.searchsorted(row, np.arange(len(rows) + 1)).astype(np.int64)
    return ends.tobytes() + column.astype(np.int32).tobytes() + rows[row, column].tobytes(), n_values


def fill(target: NDArray[np.float32], url: str, low: int, high: int, n_rows: int, n_values: int) -> None:
    """Put rows ``low`` to ``high`` of a part of ``n_rows`` into an array of zeros, shape (high - low, columns)."""
    width = target.shape[1]
    if n_values < 0:
        found = storage.read_range(url, low * width * 4, high * width * 4)
        target[:] = np.frombuffer(found, np.float32).reshape(-1, width)
        return
    ends = np.frombuffer(storage.read_range(url, 8 * low, 8 * (high + 1)), np.int64)
    first, last = int(ends[0]), int(ends[-1])
    if first == last:
        return
    columns_at = 8 * (n_rows + 1)
    values_at = columns_at + 4 * n_values
    columns = np.frombuffer(storage.read_range(url, columns_at + 4 * first, columns_at + 4 * last), np.int32)
    values = np.frombuffer(storage.read_range(url, values_at + 4 * first, values_at + 4 * last), np.float32)
    target[np.repeat(np.arange(high - low), np.diff(ends)), columns] = values
