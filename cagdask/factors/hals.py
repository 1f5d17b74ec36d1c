"""Hierarchical alternating least squares: the arithmetic of one row, one block, and a whole small problem.

A, genes x samples, becomes G Lᵀ with loadings G (genes x k) and latent values L (samples x k), both >= 0. With L fixed,
every row of G is a problem of its own, made of k numbers of A L and the k x k numbers of LᵀL; the other way around the
same holds for L. One coordinate after the other is set to its best value, :func:`sweep`.

    block 0: G₀ <- sweep(G₀; A₀ L, LᵀL)  --+
    block 1: G₁ <- sweep(G₁; A₁ L, LᵀL)  --+--> Σ AᵢᵀGᵢ, Σ GᵢᵀGᵢ --> L <- sweep(L; AᵀG, GᵀG)

The squared error follows from the same sums, ‖A‖² − 2⟨AᵀG, L⟩ + ⟨GᵀG, LᵀL⟩: no pass of its own. That is enough to
see when to stop. The error that is reported is summed over the differences themselves, in the last pass. Products of a
block are float32; sums over blocks, and errors, are float64, since a difference of two large numbers is what is left.

References
----------
.. [1] Cichocki and Phan (2009). Fast local algorithms for large scale nonnegative matrix and tensor factorizations.
.. [2] Ang and Gillis (2019). Accelerating nonnegative matrix factorization algorithms using extrapolation.
.. [3] Erichson, Mendible, Wihlborn and Kutz (2018). Randomized nonnegative matrix factorization.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cagdask.compute.kernels import njit

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SWEEPS = 2
"""Sweeps over the loadings of a gene each time it is visited; more cost more than they gain."""
REFIT_SWEEPS = 40
"""Sweeps of the last, exact fit of a gene; a row that no longer moves stops earlier."""
LANES = 32
"""Rows that are swept side by side."""
WINDOW = 10
"""Passes over which the descent is judged: momentum makes a single one say little."""
RESIDUAL_CELLS = 2**18
"""Differences that are held at once, 2 MiB."""
PRODUCT_ROWS = 4096
"""Rows that are added up in float32 before float64 takes over."""


@njit(cache=True, nogil=True, fastmath=True)
def sweep(rows: Float32, products: Float32, gram: Float32, n_sweeps: int) -> None:
    """Set every entry of ``rows`` to its best value >= 0 in turn, in place, ``n_sweeps`` times.

    Parameters
    ----------
    rows
        What is fitted, shape (n, k), float32.
    products
        The matrix times the fixed factor, shape (n, k), float32.
    gram
        The fixed factor's products with itself, shape (k, k), float32.
    n_sweeps
        At most so many; a row that moves less than 1e-6 of its largest entry is done.

    Notes
    -----
    Rows do not see each other: the same bits however they are split into blocks. :data:`LANES` of them are swept side
    by side, turned so that the processor's vector units work on one entry of several rows; a group that is not full is
    filled up with zeros, so that every row goes through the same instructions.
    """
    n, k = rows.shape
    width = -(-k // 4) * 4  # four columns are added at once
    weight, held = np.zeros((k, width), np.float32), np.zeros((width, LANES), np.float32)
    weight[:, :k] = gram
    wanted, inner = np.zeros((k, LANES), np.float32), np.empty(LANES, np.float32)
    moved, largest, moving = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.bool_)
    for begin in range(0, n, LANES):
        m = min(LANES, n - begin)
        held[:k, :m], wanted[:, :m] = rows[begin : begin + m].T, products[begin : begin + m].T
        moving[:m], moving[m:] = True, False
        for _ in range(n_sweeps):
            moved[:], largest[:] = 0, 0
            for j in range(k):
                if gram[j, j] <= 0:
                    held[j] = 0
                    continue
                inner[:] = 0
                for q in range(0, width, 4):
                    a, b, c, d = weight[j, q], weight[j, q + 1], weight[j, q + 2], weight[j, q + 3]
                    for t in range(LANES):
                        inner[t] += held[q, t] * a + held[q + 1, t] * b + held[q + 2, t] * c + held[q + 3, t] * d
                for t in range(LANES):
                    value = max(np.float32(0), held[j, t] + (wanted[j, t] - inner[t]) / gram[j, j])
                    value = value if moving[t] else held[j, t]
                    moved[t] = max(moved[t], abs(value - held[j, t]))
                    largest[t] = max(largest[t], value)
                    held[j, t] = value
            moving &= moved > np.float32(1e-6) * largest
            if not moving.any():
                break
        rows[begin : begin + m] = held[:k, :m].T


def gram_of(factor: Float32) -> Float64:
    """Products of the columns of a factor, shape (k, k), float64."""
    return products_of(factor, factor)


def products_of(left: Float32, right: Float32) -> Float64:
    """``leftᵀ right``, float64: float32 within :data:`PRODUCT_ROWS` rows, float64 over them."""
    total = np.zeros((left.shape[1], right.shape[1]))
    for begin in range(0, len(left), PRODUCT_ROWS):
        rows = slice(begin, begin + PRODUCT_ROWS)
        total += left[rows].T @ right[rows]
    return total


def squared_error(total: float, products: Float64, gram: Float64, latent: Float32) -> float:
    """‖A − G Lᵀ‖² in float64, from ‖A‖² (``total``), AᵀG (``products``), GᵀG (``gram``) and L."""
    values = latent.astype(np.float64)
    error = total - 2 * float((products * values).sum()) + float((gram * (values.T @ values)).sum())
    return max(0.0, error)


def residual(block: Float32, loading: Float32, latent: Float32) -> float:
    """‖A − G Lᵀ‖² of a block, each difference taken in float64: exact where it is a small part of ‖A‖²."""
    wide, total = latent.astype(np.float64).T, 0.0
    step = max(1, RESIDUAL_CELLS // block.shape[1])
    for begin in range(0, len(block), step):
        left = block[begin : begin + step] - loading[begin : begin + step].astype(np.float64) @ wide
        total += float(np.square(left).sum())
    return total


def error_change(products: Float64, gram: Float64, before: Float32, after: Float32) -> float:
    """How ‖A − G Lᵀ‖² changes where L becomes another; ``products`` and ``gram`` as for :func:`squared_error`."""
    one, other = before.astype(np.float64), after.astype(np.float64)
    moved = other - one
    return float((gram * (other.T @ other - one.T @ one)).sum()) - 2 * float((products * moved).sum())


@dataclass
class Descent:
    """The latent values on their way down, with momentum, and the errors seen.

    Whoever holds the loadings calls :meth:`update` once per pass with their sums. Momentum (reference 2) is given to
    the latent values only: they are small and in one place, whereas loadings are spread over blocks.

    Attributes
    ----------
    latent
        Values to use for the next pass, shape (n_samples, k), float32.
    total
        ‖A‖².
    tol
        The descent ends when a pass, on the average of :data:`WINDOW`, lowers the error by less than this share of it.
    trace
        Error after each pass.
    converged
        Whether it has ended.
    """

    latent: Float32
    total: float
    tol: float
    trace: list[float] = field(default_factory=list)
    converged: bool = False
    _previous: Float32 | None = None
    _momentum: float = 0.5
    _most: float = 1.0

    def update(self, products: Float64, gram: Float64) -> None:
        """Fit the latent values to the loadings.

        Parameters
        ----------
        products
            AᵀG, shape (n_samples, k).
        gram
            GᵀG, shape (k, k).
        """
        found = self.latent.copy()
        sweep(found, products.astype(np.float32), gram.astype(np.float32), SWEEPS)
        error = squared_error(self.total, products, gram, found)
        last = self.trace[-1] if self.trace else np.inf
        self.trace.append(error)
        if error > last:  # went too far: on from here without momentum, and with less of it later
            self._most, self._momentum = self._momentum, self._momentum / 1.5
            self.latent = found
        else:
            begun = self.trace[-1 - WINDOW] if len(self.trace) > WINDOW else np.inf
            self.converged = begun - error <= WINDOW * self.tol * error
            self.latent = found
            if self._previous is not None:
                self.latent = np.maximum(0, found + np.float32(self._momentum) * (found - self._previous))
            self._most = min(1.0, 1.01 * self._most)
            self._momentum = min(self._most, 1.05 * self._momentum)
        self._previous = found
        if self.converged:
            self.latent = found


def solve(
    sketch: Float32, basis: Float32, descent: Descent, max_passes: int, loading: Float32 | None = None
) -> Iterator[Float32]:
    """Factorize ``sketch basisᵀ`` in memory; gives the loadings after each pass, updated in place.

    Parameters
    ----------
    sketch
        Shape (n, rank), float32.
    basis
        Orthonormal columns, shape (n_samples, rank), float32.
    descent
        Where the latent values begin; has them at the end.
    max_passes
        Ends after so many, or when ``descent`` has converged.
    loading
        Where the loadings begin; zero by default.
    """
    k = descent.latent.shape[1]
    loading = np.zeros((len(sketch), k), np.float32) if loading is None else loading
    wide = basis.astype(np.float64)
    for number in range(max_passes):
        fit_block(sketch, (basis.T @ descent.latent), descent.latent, loading, REFIT_SWEEPS if number == 0 else SWEEPS)
        descent.update(wide @ products_of(sketch, loading), gram_of(loading))
        yield loading
        if descent.converged:
            return


def fit_block(block: Float32, fixed: Float32, latent: Float32, loading: Float32, n_sweeps: int) -> None:
    """Fit the loadings of a block in place.

    Parameters
    ----------
    block
        Rows of the matrix, or of its sketch, shape (n, width), float32.
    fixed
        Latent values in the coordinates of ``block``, shape (width, k), float32.
    latent
        Latent values, shape (n_samples, k), float32.
    loading
        Shape (n, k), float32.
    n_sweeps
        As for :func:`sweep`.
    """
    sweep(loading, block @ fixed, gram_of(latent).astype(np.float32), n_sweeps)
