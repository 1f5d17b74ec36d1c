"""The grid that similarities are rounded to before they are compared: equal in exact arithmetic is equal here."""

from __future__ import annotations

import numpy as np

STEP = 1e10
"""Similarities are multiples of 1 / STEP."""


def on_grid(x: float) -> float:
    """``x`` to the nearest multiple of 1 / STEP, outside of compiled code; thresholds are compared like this."""
    return float(np.rint(x * STEP) / STEP)
