"""The compiled kernel of the mean cosines; apart, since compiling takes what other measures need not wait for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit


@njit(cache=True, nogil=True)
def add_squared_sums(
    strip: NDArray[np.float32], inverse: NDArray[np.float64], members: NDArray[np.int32], total: NDArray[np.float64]
) -> Any:  # compiled
    """Add to ``total``, of every gene, the squares of the sums of its samples' values over their lengths.

    In float64, samples in their order, then rows in theirs: the same bits however many rows a strip has. Values are
    scaled here and not before, so that the cache holds twice as many of them.

    Parameters
    ----------
    strip
        Values of all samples in some genes, shape (n_samples, n_rows).
    inverse
        1 / length of each sample's vector, shape (n_samples,).
    members
        Samples of every gene, shape (n_genes, n).
    total
        Shape (n_genes,); changed in place.
    """
    n_rows = strip.shape[1]
    sums = np.empty(n_rows)
    for gene in range(members.shape[0]):
        sums[:] = 0.0
        for k in range(members.shape[1]):
            sample = members[gene, k]
            scale = inverse[sample]
            for row in range(n_rows):
                sums[row] += strip[sample, row] * scale
        added = total[gene]
        for row in range(n_rows):
            added += sums[row] * sums[row]
        total[gene] = added
