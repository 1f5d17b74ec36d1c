"""Sums, means of logarithms and medians whose last bit does not depend on how the genes were split into blocks.

Adding floating-point numbers in another order gives another last bit, and with it, sooner or later, another tree. So
every block is reduced to integers, which add up the same in any order, and only their total becomes a float:

    block 0  --add_block-->  int64 partial --+
    block 1  --add_block-->  int64 partial --+--merge-->  partial  --finish-->  float64 per sample
    block 2  --add_block-->  int64 partial --+

===== ================================================== ==========================================================
step  partial, int64                                     exact because
===== ================================================== ==========================================================
sum   (n_samples, 33): count, 32 bins of mantissas       a float32 is an integer times a power of two
least (n_samples, 1): bits of the smallest value         the smaller of two is one of them
log   (n_samples, 4): count, hi, lo, bits of the minimum log10 is put on a grid of 2**-40 before it is added
digit (2, n_samples, 2**n_bits): histograms of one digit positive float32 sort as their bits do: radix selection
===== ================================================== ==========================================================

Logarithms are of a value over the smallest one of its sample. A quotient is rounded once, so samples that are multiples
of each other have the same quotients, bit for bit: what follows from them does not see a sample's depth.

The kernels see float32 >= 0, shape (rows, n_samples); zeros are absent and take no part. They are compiled without
leave to reorder arithmetic. A task holds its block, 4 bytes a cell, and its partial.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit

Partial = NDArray[np.int64]
Step = tuple[str, int, int]
"""One pass over the table: its name and, for a digit, its lowest bit and number of bits."""

_compile = njit(nogil=True, cache=True)  # strict arithmetic: no fastmath
GRID_BITS = 40
LOW_BITS = 20
SUM_BINS = 32  # exponents 0..255 by eight: a 24-bit mantissa shifted by 0..7, so a bin holds 2**32 genes


def steps(statistic: str, n_samples: int) -> list[Step]:
    """List the passes over the table that a statistic needs: ``"sum"``, ``"log"`` or ``"median"``.

    A histogram of 2,048 counts for each of many samples would be large: beyond 2,048 samples the digits are shorter.
    """
    if statistic == "log":
        return [("least", 0, 0), ("log", 0, 0)]
    if statistic != "median":
        return [(statistic, 0, 0)]
    widths = (11, 10, 10) if n_samples <= 2048 else (8, 8, 8, 7)
    low = 31 - np.cumsum(widths)
    return [("digit", int(shift), width) for shift, width in zip(low, widths, strict=True)]


def empty(step: Step, n_samples: int) -> Partial:
    """Make the partial of no genes at all."""
    name, _, width = step
    if name == "sum":
        return np.zeros((n_samples, 1 + SUM_BINS), np.int64)
    if name == "least":
        return np.full((n_samples, 1), np.iinfo(np.int32).max, np.int64)
    if name == "log":
        partial = np.zeros((n_samples, 4), np.int64)
        partial[:, 3] = np.iinfo(np.int32).max
        return partial
    return np.zeros((2, n_samples, 1 << width), np.int64)


def add_block(step: Step, partial: Partial, block: NDArray[np.float32], state: Partial | None = None) -> None:
    """Add a block, shape (rows, n_samples), float32, to ``partial``, in place.

    ``state`` is what :func:`advance` gave after the step before; a first step has none.
    """
    bits = np.ascontiguousarray(block, np.float32).view(np.int32)
    name, shift, width = step
    if name == "sum":
        _add_sum(bits, partial)
    elif name == "least":
        _add_least(bits, partial)
    elif name == "log":
        assert state is not None
        smallest = _values_of(state[:, 0])
        _add_log(bits.view(np.float32), bits, smallest, partial)
    else:
        prefix = np.zeros((2, block.shape[1]), np.int64) if state is None else state[:2].copy()
        prefix[1, prefix[0] == prefix[1]] = -1  # both middle values still lie in one bin: count it once
        _add_digit(bits, shift, width, prefix, partial)


def merge(step: Step, partial: Partial, other: Partial) -> None:
    """Add ``other`` to ``partial``, in place; in any order, grouped in any way."""
    if step[0] == "least":
        np.minimum(partial, other, out=partial)
    elif step[0] == "log":
        partial[:, :3] += other[:, :3]
        np.minimum(partial[:, 3], other[:, 3], out=partial[:, 3])
    else:
        partial += other


def advance(step: Step, partial: Partial, state: Partial | None = None) -> Partial:
    """Turn the total of a step into what the next one needs to know.

    For a digit, shape (5, n_samples): the bits found so far of the lower and the upper middle value, the ranks of both
    among the values that share these bits, and the number of values. Else the total itself.
    """
    if step[0] != "digit":
        return partial
    low, high = partial
    if state is None:
        count = low.sum(axis=1)
        state = np.stack([np.zeros_like(count), np.zeros_like(count), (count - 1) // 2, count // 2, count])
    found = state.copy()
    shared = state[0] == state[1]
    for i, histogram in enumerate([low, np.where(shared[:, None], low, high)]):
        reached = histogram.cumsum(axis=1)
        digit = (reached <= state[2 + i][:, None]).sum(axis=1).clip(max=histogram.shape[1] - 1)
        below = np.take_along_axis(reached - histogram, digit[:, None], axis=1)[:, 0]
        found[i] = (state[i] << step[2]) | digit
        found[2 + i] = state[2 + i] - below
    return found


def totals(state: Partial) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give number and sum of the values of every sample; the sum is the float64 nearest to the true one."""
    exact = (sum(int(v) << (8 * k) for k, v in enumerate(bins)) for bins in state[:, 1:])
    return state[:, 0].copy(), np.array([_nearest(value, 1 << 150) for value in exact])


def log_means(state: Partial) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Give number of values, mean of log10(value / smallest value) and smallest value; 0 where there is none."""
    count, high, low, minimum = state.T
    sums = [(int(h) << LOW_BITS) + int(x) for h, x in zip(high, low, strict=True)]
    means = [_nearest(s, int(n) << GRID_BITS) if n else 0.0 for s, n in zip(sums, count, strict=True)]
    return count.copy(), np.array(means), np.where(count > 0, _values_of(minimum), 0.0)


def _values_of(bits: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values of float32 with these bits, as float64."""
    return bits.astype(np.int32).view(np.float32).astype(np.float64)


def medians(state: Partial) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give number and median of the values of every sample: the mean of the two middle ones, 0 where there is none."""
    middle = state[:2].astype(np.int32).view(np.float32).astype(np.float64)
    return state[4].copy(), np.where(state[4] > 0, (middle[0] + middle[1]) / 2, 0.0)


def _nearest(numerator: int, denominator: int) -> float:
    return float(Fraction(numerator, denominator))


def log_ratios(
    block: NDArray[np.float32],
    smallest: NDArray[np.float64],
    log_mean: NDArray[np.float64],
    *,
    floor: float,
    shift: float,
    absent: float,
) -> NDArray[np.float64]:
    """Compute ``max(log10(v / smallest) - log_mean, floor) - shift`` where v > 0, ``absent`` elsewhere.

    ``smallest`` and ``log_mean`` have shape (n_samples,), as :func:`log_means` gives them. The shape of ``block``,
    float64.
    """
    out = np.empty(block.shape, np.float64)
    _log_ratios(np.ascontiguousarray(block, np.float32), smallest, log_mean, floor, shift, absent, out)
    return out


def first_refused(block: NDArray[np.float32], *, signed: bool = False) -> tuple[int, int] | None:
    """Row and sample of the first value that is not finite or, unless ``signed``, below 0; None if all are well."""
    bits = np.ascontiguousarray(block, np.float32).view(np.int32)
    at = int(_first_refused(bits, signed))
    return None if at < 0 else divmod(at, bits.shape[1])


# -- kernels ---------------------------------------------------------------------------------------------------------


@_compile
def _add_sum(bits: NDArray[np.int32], partial: Partial) -> None:
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            b: Any = np.int64(bits[i, j])
            if b > 0:
                exponent = max(b >> 23, 1)  # 0 marks a subnormal: the same unit as 1, without the leading bit
                mantissa = (b & 0x7FFFFF) | ((b >= 0x800000) << 23)
                partial[j, 0] += 1
                partial[j, 1 + (exponent >> 3)] += mantissa << (exponent & 7)


@_compile
def _first_refused(bits: NDArray[np.int32], signed: bool) -> Any:
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            b: Any = np.int64(bits[i, j])
            if (b & 0x7F800000) == 0x7F800000 or (b < 0 and not signed and b != -0x80000000):  # that one is -0.0
                return i * bits.shape[1] + j
    return -1


@_compile
def _add_least(bits: NDArray[np.int32], partial: Partial) -> None:
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            b: Any = np.int64(bits[i, j])
            if b > 0:
                partial[j, 0] = min(partial[j, 0], b)


@_compile
def _add_log(
    block: NDArray[np.float32], bits: NDArray[np.int32], smallest: NDArray[np.float64], partial: Partial
) -> None:
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            b: Any = np.int64(bits[i, j])
            if b > 0:
                on_grid = np.int64(np.floor(np.log10(np.float64(block[i, j]) / smallest[j]) * 1099511627776.0 + 0.5))
                partial[j, 0] += 1
                partial[j, 1] += on_grid >> LOW_BITS
                partial[j, 2] += on_grid & ((1 << LOW_BITS) - 1)
                partial[j, 3] = min(partial[j, 3], b)


@_compile
def _add_digit(bits: NDArray[np.int32], shift: int, width: int, prefix: Partial, partial: Partial) -> None:
    mask = (1 << width) - 1
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            b: Any = np.int64(bits[i, j])
            if b > 0:
                above = b >> (shift + width)
                if above == prefix[0, j]:
                    partial[0, j, (b >> shift) & mask] += 1
                elif above == prefix[1, j]:
                    partial[1, j, (b >> shift) & mask] += 1


@_compile
def _log_ratios(
    block: NDArray[np.float32],
    smallest: NDArray[np.float64],
    log_mean: NDArray[np.float64],
    floor: float,
    shift: float,
    absent: float,
    out: NDArray[np.float64],
) -> None:
    for i in range(block.shape[0]):
        for j in range(block.shape[1]):
            if block[i, j] > 0:
                out[i, j] = max(np.log10(np.float64(block[i, j]) / smallest[j]) - log_mean[j], floor) - shift
            else:
                out[i, j] = absent
