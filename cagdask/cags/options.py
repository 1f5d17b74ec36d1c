"""Options of clustering, each declared once; light, since commands import them to start."""

from __future__ import annotations

from cagdask.arguments import Option, Options
from cagdask.normalization.options import CLR_FLOOR, NORMALIZATION

MAX_DIST = Option(
    "max_dist",
    0.2,
    "Groups join while the distance between them is at most this; in [0, 1), unit of --metric.",
    float,
    least=0,
    below=1,
)

CLUSTER = Options(
    NORMALIZATION,
    CLR_FLOOR,
    MAX_DIST,
    Option("min_samples", 1, "Leave out genes that are present in fewer samples than this.", int, least=1),
    Option(
        "metric",
        "cosine",
        "Distance of two genes: cosine distance of their abundances over the samples; correlation distance; or "
        "correlation distance of the ranks (spearman).",
        choices=("cosine", "correlation", "spearman"),
    ),
    Option(
        "linkage",
        "average",
        "Distance of two groups: the mean (average) or the smallest (single) of the distances between their genes.",
        choices=("average", "single"),
    ),
    Option(
        "refine",
        "aggregate",
        "After clustering, join CAGs whose mean profiles are within --refine-dist (aggregate), or leave them as they "
        "are (none).",
        choices=("aggregate", "none"),
    ),
    Option(
        "refine_dist",
        None,
        "Largest cosine distance between the mean profiles of two CAGs that are joined; in [0, 1). Default: the "
        "smaller of --max-dist and 0.2.",
        float,
        least=0,
        below=1,
        optional=True,
    ),
    Option(
        "search",
        "exact",
        "How neighbors are found: all of them (exact), or only near some pivots (approximate), with the share that was "
        "found measured and reported.",
        choices=("exact", "approximate"),
    ),
    Option("probes", 8, "Pivots near a gene that --search approximate looks at; more find more.", int, least=1),
    Option("seed", 0, "Seed of random numbers. It is kept with the result; no result depends on it.", int, least=0),
)
"""Of :func:`cagdask.find_cags`."""
