"""The largest values of rows that lie together: what their products with others can be at most.

    rows of a tile    0.1  0.7  0.0  0.2
                      0.2  0.5  0.1  0.2
    envelope          0.2  0.7  0.1  0.2

Rows are never negative, so the product of two envelopes is at least that of any two of their rows. One product rules
out all pairs of two tiles. Rows of a tile are alike, so their envelope is hardly larger than they are: of the pairs of
tiles of two chunks, 2 % are left, where angles of their centers leave 34 %. Envelopes are of long sketches, up to
:data:`cagdask.engine.search.sketches.LARGEST` numbers; short ones would tell too little apart.

Rows with signs are lifted first, see :mod:`cagdask.engine.search.sketches`. Of the two columns that this adds, the one
that is multiplied with its sign holds the largest length, and the one that is subtracted the smallest value.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from cagdask.engine.rows.files import Stored, take_stored
from cagdask.engine.search.sketches import LARGEST, coarse_sketches, deal_samples

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FRINGE_ROWS = 2
"""Rows of the fringe that have an envelope together. They are not alike: of two, 0.5 % of the products with tiles are
open, of four 11 %."""
ROWS_AT_ONCE = 4096
ROUNDED_UP = np.float32(1 + 2.0**-16)
ROUNDED_DOWN = np.float32(1 - 2.0**-16)
"""So that float32 products of up to 256 numbers, off by 256 * 2**-24 of the sum at most, are on the safe side."""


def envelope_groups(energy: Float64) -> Int64:
    """Group of each sample in the sketches that envelopes are of; each sample alone where there are few enough."""
    n_samples = len(energy)
    return np.arange(n_samples) if n_samples <= LARGEST else deal_samples(energy, LARGEST)


def fringe_begins(n_core: int, n: int) -> Int64:
    """Where the parts of the fringe begin that have an envelope each, and where the last ends."""
    return np.unique(np.append(np.arange(n_core, n, FRINGE_ROWS), n)).astype(np.int64)


def envelopes(rows: Stored, begin: Int64, group: Int64, *, signed: bool) -> Float32:
    """Envelope of rows ``begin[i]`` to ``begin[i + 1]`` for each i, shape (n, n_groups), or two more with ``signed``.

    ``begin`` (n + 1,) rises; ``group`` (n_samples,) int64 deals samples into groups. Some rows at a time.
    """
    found = np.empty((len(begin) - 1, group.max() + 1 + 2 * signed), np.float32)
    edges = np.searchsorted(begin, np.arange(begin[0], begin[-1], ROWS_AT_ONCE))
    for first, last in itertools.pairwise(np.unique(np.append(edges, len(begin) - 1)).tolist()):
        some = take_stored(rows, np.arange(begin[first], begin[last]))
        found[first:last] = _largest(
            coarse_sketches(some, group, signed=signed), begin[first:last] - begin[first], signed
        )
    return found


def _largest(sketches: Float32, begin: Int64, signed: bool) -> Float32:
    largest: Float32 = np.maximum.reduceat(sketches, begin, axis=0) * ROUNDED_UP
    if signed:
        largest[:, -2] = np.maximum.reduceat(np.abs(sketches[:, -2]), begin) * ROUNDED_UP
        largest[:, -1] = np.minimum.reduceat(sketches[:, -1], begin) * ROUNDED_DOWN
    return largest


def subtracted(envelope: Float32, *, signed: bool) -> Float32:
    """Envelopes as the right side of a product: the last number of those of rows with signs is subtracted."""
    if not signed:
        return envelope
    turned = envelope.copy()
    turned[:, -1] *= -1
    return turned
