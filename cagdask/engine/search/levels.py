"""The similarity that a round asks for, and how far from its pivot a row may be: what costs least.

The lower the similarity that is asked for, the less can be skipped, while many rows would have found each other at a
higher one. So a round may ask for more than the threshold, a *level*: what joins there need not be searched below.

Rows that are far from every pivot, most of them genes of no genome, would make every list so wide that nothing can skip
it. Beyond the angle *cut* they belong to no list; they are the *fringe*, and all of it is compared with itself.

Cut and level decide what a search costs, never its result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cagdask.engine.grid import STEP

Float64 = NDArray[np.float64]

LEVELS = (0.25, 0.5, 0.75)
"""Levels that a round may take, as shares of the way from the threshold to 1."""
GOES_ON = (0.45, 0.55, 0.7)
"""Share of the rows that a round at each of these leaves for the next one (measured)."""
ROUND_NS = 6e4
"""What a round costs per row beside the search, nanoseconds (measured)."""


def levels_above(threshold: float) -> dict[float, float]:
    """Levels that a round may take, on the grid of similarities, and the share of its rows that each leaves."""
    levels = np.rint((threshold + np.array(LEVELS) * (1 - threshold)) * STEP) / STEP
    return dict(zip(levels.tolist(), GOES_ON, strict=True))


def choose_level(costs: dict[float, float], n: int) -> float:
    """The level at which a round, and the one at the threshold after it, cost least.

    Parameters
    ----------
    costs
        Nanoseconds per pair of rows at each level; the first is the threshold.
    n
        Rows.
    """
    threshold = next(iter(costs))
    goes_on = levels_above(threshold)

    def cost(level: float) -> float:
        after = 0.0 if level == threshold else ROUND_NS * n + costs[threshold] * (goes_on[level] * n) ** 2
        return costs[level] * float(n) ** 2 + after

    return min(costs, key=cost)


def choose_cut(own: Float64, between: Float64, threshold: float) -> tuple[float, float]:
    """The angle to its pivot up to which a row belongs to its list, so that least is left to compare, and that share.

    Parameters
    ----------
    own, between
        Angles of a sample of rows to their own pivots, and to any, from small to large.
    threshold
        Similarity that is asked for.

    Notes
    -----
    Rows beyond the cut are all compared with each other. A list with the cut as its radius can be skipped by rows that
    are farther from its pivot than the cut and the angle of the threshold together.
    """
    cuts = np.quantile(own, np.linspace(0, 1, 33))
    fringe = 1 - np.searchsorted(own, cuts, side="right") / len(own)
    opened = np.searchsorted(between, cuts + np.arccos(threshold)) / len(between)
    left = fringe**2 + (1 - fringe**2) * opened
    best = int(np.argmin(left))
    return float(cuts[best]), float(left[best])
