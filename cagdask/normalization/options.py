"""Options of normalizing, declared once; light, since commands import them to start."""

from __future__ import annotations

from cagdask.arguments import Option

METHODS = ("sum", "median", "hellinger", "clr", "none")
"""Names of :data:`cagdask.normalization.methods.METHODS`; a test compares them."""

NORMALIZATION = Option(
    "normalization",
    "sum",
    "How samples are made comparable: divide by the sum (sum) or the median (median) of a sample; square root of the "
    "share (hellinger); log ratio to the geometric mean (clr); or leave the values as they are (none).",
    choices=METHODS,
)
CLR_FLOOR = Option(
    "clr_floor",
    None,
    "For clr: genes that are absent or lower get this value, log10 of a ratio. auto takes the largest of the samples' "
    "own minima; default: the minimum of the whole table.",
    float,
    words=("auto",),
    optional=True,
)
