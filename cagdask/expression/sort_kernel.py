"""The compiled sort of samples; apart, since compiling takes what other steps need not wait for.

Values are 0 or more, so their bits, read as whole numbers, are in the order of the values: a radix sort applies. It
looks at each value six times, 11 bits a time, whatever the values, and is two to four times as fast as comparing them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit

_BITS, _N_DIGITS = 11, 6
_N_VALUES = 1 << _BITS


def sort_rows(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Sort each row in place, and say where its values were; equal ones keep their order.

    Parameters
    ----------
    values
        Values >= 0, shape (n_rows, n), in C order; changed.

    Returns
    -------
    ndarray
        Place in the row before, shape (n_rows, n).
    """
    values += 0.0  # -0 becomes 0: as bits it would be the largest
    order = np.empty(values.shape, np.int32)
    _sort_rows(values.view(np.uint64), order)
    return order


@njit(cache=True, nogil=True)
def _sort_rows(keys: NDArray[np.uint64], order: NDArray[np.int32]) -> Any:  # compiled
    n_rows, n = keys.shape
    counts = np.empty((_N_DIGITS, _N_VALUES), np.int64)
    other_keys, other_order = np.empty(n, np.uint64), np.empty(n, np.int32)
    mask = np.uint64(_N_VALUES - 1)
    for row in range(n_rows):
        source, target = keys[row], other_keys
        source_order, target_order = order[row], other_order
        counts[:] = 0
        for i in range(n):
            source_order[i] = i
            for digit in range(_N_DIGITS):
                counts[digit, (source[i] >> np.uint64(_BITS * digit)) & mask] += 1
        n_moves = 0
        for digit in range(_N_DIGITS):
            place, shift = counts[digit], np.uint64(_BITS * digit)
            if n == 0 or place[(source[0] >> shift) & mask] == n:
                continue  # all values have this digit
            n_before = 0
            for value in range(_N_VALUES):
                n_before, place[value] = n_before + place[value], n_before
            for i in range(n):
                value = (source[i] >> shift) & mask
                target[place[value]] = source[i]
                target_order[place[value]] = source_order[i]
                place[value] += 1
            source, target = target, source
            source_order, target_order = target_order, source_order
            n_moves += 1
        if n_moves % 2:
            target[:] = source
            target_order[:] = source_order
