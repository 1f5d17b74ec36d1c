"""The most similar pairs of all genes, and how similar all pairs are, without ever holding all pairs.

    panels of rows: 0 1 2 …        task (i, j): panels i and j, read from the store, scaled to unit length in float32
    every i <= j is a task   -->   1024 x 1024 products --> histogram, sums; those near the best so far in float64
                                   returns 200 counts, a few sums and its best pairs

Tasks go out in waves, the panels with themselves first; what the earlier waves found is what later ones must beat, so
answers stay short. Counts are of float32 similarities: one within 1e-6 of an edge may be counted on its other side.
Memory of a task: two panels, each once as read and once scaled.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cagdask import arguments
from cagdask.compute import memory
from cagdask.compute.kernels import njit
from cagdask.compute.runner import Runner
from cagdask.vectors.names import Names
from cagdask.vectors.opening import open_vectors
from cagdask.vectors.options import PAIR_METRICS
from cagdask.vectors.ranking import best, center_and_square, float32_error, rounded, unit_rows
from cagdask.vectors.sources import Vectors

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from distributed import Client

logger = logging.getLogger(__name__)

PANEL_BYTES = 32 * 2**20
PANEL_ROWS = 2**13
TILE = 1024
BINS = 200
WAVE = 32
"""Tasks of a wave, per thread."""


def similar_pairs(
    source: str | xr.Dataset,
    n: int = 100,
    *,
    metric: str = "cosine",
    normalization: str | None = None,
    clr_floor: float | str | None = None,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> pd.DataFrame:
    """Find the most similar pairs of genes, and the distribution of the similarities of all pairs.

    Parameters
    ----------
    source
        As for :func:`cagdask.similar`.
    n
        Pairs to find. All, if there are fewer.
    metric
        ``cosine`` or ``correlation``.
    normalization, clr_floor, client, n_workers, memory_limit
        As for :func:`cagdask.similar`.

    Returns
    -------
    DataFrame
        ``gene_1``, ``gene_2`` (in the order of the store) and ``similarity`` (float64), best first; equal similarities
        by row. ``attrs["summary"]``: ``n_pairs``, ``mean``, ``std``, ``minimum``, ``maximum`` over all pairs of vectors
        with a direction, ``n_without_direction``, and ``histogram``: ``edges`` (201,) from -1 to 1, ``counts`` (200,).

    Raises
    ------
    ValueError
        A parameter is not known or out of range.
    InputError, SchemaError, StoreError
        The store has no vectors, or fewer than two with a direction.

    Notes
    -----
    All pairs are multiplied: n_genes^2 / 2 products of vectors, in tasks of 8192 x 8192, the pairs exact and any result
    the same for any number of workers.
    """
    n, metric = check_pairs(n, metric)
    options: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
    options |= {"normalization": normalization, "clr_floor": clr_floor}
    with open_vectors(source, **options) as found:
        return find_pairs(found.make_ready(), found.names, found.runner, n, metric)


def check_pairs(n: int, metric: str) -> tuple[int, str]:
    """Refuse what can not be asked; gives both as plain Python has them.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    n = arguments.whole("n", n, least=1)
    if metric not in PAIR_METRICS:
        raise ValueError(f"top pairs are by {' or '.join(PAIR_METRICS)}, not by {metric!r}.")
    return n, str(metric)


def find_pairs(vectors: Vectors, names: Names, runner: Runner, n: int, metric: str) -> pd.DataFrame:
    """The table of :func:`similar_pairs`."""
    import pandas as pd

    rows = max(1, min(PANEL_ROWS, PANEL_BYTES // (4 * vectors.n_columns) // TILE * TILE or TILE))
    need = 2 * rows * vectors.n_columns * 12 + 8 * TILE**2
    memory.check_fits("similar pairs", need, f"two panels of {rows:,} vectors", runner.memory_limit)
    panels = [(begin, min(vectors.n, begin + rows)) for begin in range(0, vectors.n, rows)]
    pairs = sorted(((i, j) for i in range(len(panels)) for j in range(i, len(panels))), key=lambda p: (p[1] - p[0], p))
    found = _Together(n)
    step = WAVE * runner.n_threads
    for wave in range(0, len(pairs), step):
        items = [
            (vectors.to_json(), list(panels[i]), list(panels[j]), metric, n, found.worst)
            for i, j in pairs[wave : wave + step]
        ]
        label = "similar pairs" if len(pairs) <= step else f"similar pairs {wave // step + 1}/{-(-len(pairs) // step)}"
        for part in runner.map(label, compare_panels, items, unit="panels"):
            found.add(part)
    return found.table(pd, names, vectors)


class _Together:
    """What all tasks found."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows: NDArray[np.int64] = np.empty((0, 2), np.int64)
        self.scores: NDArray[np.float64] = np.empty(0)
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.total = self.square = 0.0
        self.lowest, self.highest = np.inf, -np.inf
        self.n_without = 0

    @property
    def worst(self) -> float:
        return float(self.scores[-1]) if len(self.scores) >= self.n else -2.0

    def add(self, part: dict[str, Any]) -> None:
        self.rows = np.concatenate([self.rows, np.array(part["rows"], np.int64).reshape(-1, 2)])
        self.scores = np.append(self.scores, np.array(part["scores"], np.float64))
        order = best(self.scores, self.n, self.rows[:, 0], self.rows[:, 1])
        self.rows, self.scores = self.rows[order], self.scores[order]
        self.counts += np.array(part["counts"], np.int64)
        self.total += part["total"]
        self.square += part["square"]
        self.lowest, self.highest = min(self.lowest, part["lowest"]), max(self.highest, part["highest"])
        self.n_without += part["n_without"]

    def table(self, pd: Any, names: Names, vectors: Vectors) -> pd.DataFrame:
        from cagdask.errors import InputError

        n_pairs = int(self.counts.sum())
        if not n_pairs:
            raise InputError(
                f"{vectors.url}: has no two vectors with a direction ({self.n_without:,} of {vectors.n:,} have none)."
            )
        if len(self.scores) < self.n:
            logger.warning("%d pairs were asked for, and there are only %d", self.n, len(self.scores))
        mean = self.total / n_pairs
        ids = names.ids
        table = pd.DataFrame(
            {
                "gene_1": [str(ids[row]) for row in self.rows[:, 0]],
                "gene_2": [str(ids[row]) for row in self.rows[:, 1]],
                "similarity": self.scores,
            }
        )
        table.attrs["summary"] = {
            "n_pairs": n_pairs,
            "mean": round(mean, 6),
            "std": round(float(np.sqrt(max(0.0, self.square / n_pairs - mean**2))), 6),
            "minimum": round(self.lowest, 6),
            "maximum": round(self.highest, 6),
            "n_without_direction": self.n_without,
            "histogram": {
                "edges": np.round(np.linspace(-1, 1, BINS + 1), 2).tolist(),
                "counts": self.counts.tolist(),
            },
        }
        return table


def compare_panels(
    vectors: dict[str, Any], one: list[int], other: list[int], metric: str, n: int, worst: float
) -> dict[str, Any]:
    """Task: all pairs of a row of one panel and a later row of the other.

    Returns ``rows`` and ``scores`` of the ``n`` best that reach ``worst``, ``counts`` of the histogram, ``total`` and
    ``square``, the sums of similarities and of their squares, ``lowest``, ``highest``, and ``n_without``, the vectors
    without direction of a panel with itself.
    """
    source = Vectors.from_json(vectors)
    read_left = source.read(*one)
    read_right = read_left if one == other else source.read(*other)
    left = unit_rows(read_left, metric)
    right = left if one == other else unit_rows(read_right, metric)
    gone_left, gone_right = (np.flatnonzero(~part.any(axis=1)) for part in (left, right))
    counts = np.zeros(BINS, np.int64)
    sums = np.array([0.0, 0.0, np.inf, -np.inf])
    rows, scores = np.empty((0, 2), np.int64), np.empty(0)
    error = 2 * float32_error(source.n_columns)
    with threadpool_limits(1):  # a product's last bit may depend on how it is shared out
        for i in range(0, len(left), TILE):
            for j in range(0, len(right), TILE):
                if one == other and j < i:
                    continue
                product = left[i : i + TILE] @ right[j : j + TILE].T
                product[gone_left[(gone_left >= i) & (gone_left < i + TILE)] - i] = np.nan
                product[:, gone_right[(gone_right >= j) & (gone_right < j + TILE)] - j] = np.nan
                if one == other and i == j:
                    product[np.tril_indices(len(product))] = np.nan
                _count(product, counts, sums)
                floor = max(worst, scores[-1] if len(scores) >= n else -2.0)
                at = np.flatnonzero(product.ravel() >= floor - error)
                if len(at) > 16 * n:  # the n best of a tile are enough
                    near = product.ravel()[at]
                    at = at[near >= np.partition(near, len(near) - n)[len(near) - n] - 2 * error]
                at_i, at_j = i + at // product.shape[1], j + at % product.shape[1]
                exact = np.empty(len(at))
                _cosines(read_left, read_right, at_i, at_j, metric == "correlation", exact)
                rows = np.concatenate([rows, np.stack([one[0] + at_i, other[0] + at_j], axis=1)])
                scores = np.append(scores, rounded(exact))
                order = best(scores, n, rows[:, 0], rows[:, 1])
                rows, scores = rows[order], scores[order]
    kept = scores >= worst
    return {
        "rows": rows[kept].tolist(),
        "scores": scores[kept].tolist(),
        "counts": counts.tolist(),
        "total": sums[0],
        "square": sums[1],
        "lowest": sums[2],
        "highest": sums[3],
        "n_without": len(gone_left) if one == other else 0,
    }


@njit(cache=True, nogil=True)
def _count(product: NDArray[np.float32], counts: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
    for i in range(product.shape[0]):
        for j in range(product.shape[1]):
            x = np.float64(product[i, j])
            if np.isnan(x):
                continue
            place = int(np.floor((x + 1.0) * (BINS / 2)))
            counts[min(BINS - 1, max(0, place))] += 1
            sums[0] += x
            sums[1] += x * x
            sums[2] = min(sums[2], x)
            sums[3] = max(sums[3], x)


@njit(cache=True, nogil=True)
def _cosines(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    at_i: NDArray[np.int64],
    at_j: NDArray[np.int64],
    centered: bool,
    out: NDArray[np.float64],
) -> None:
    for p in range(len(at_i)):
        mean_x, one = center_and_square(left[at_i[p]], centered)
        mean_y, other = center_and_square(right[at_j[p]], centered)
        product = 0.0
        for t in range(left.shape[1]):
            product += (left[at_i[p], t] - mean_x) * (right[at_j[p], t] - mean_y)
        out[p] = min(1.0, max(-1.0, product / np.sqrt(one * other)))
