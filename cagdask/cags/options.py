"""Options of clustering, each declared once; light, since commands import them to start."""

from __future__ import annotations

from dataclasses import replace

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
MAX_DIST_OR_AUTO = replace(
    MAX_DIST,
    default="auto",
    help="No threshold (auto): groups are joined by their similarity without noise, and an error rate is estimated on "
    "shuffled genes. Or a number: groups join while the distance between them is at most this, and nothing else is "
    "done; in [0, 1), unit of --metric.",
    words=("auto",),
)
NORMALIZATION_OR_AUTO = replace(
    NORMALIZATION,
    default=None,
    optional=True,
    help=NORMALIZATION.help + " Default: clr; with a number as --max-dist: sum.",
)

CLUSTER = Options(
    NORMALIZATION_OR_AUTO,
    replace(CLR_FLOOR, help=CLR_FLOOR.help + " With --max-dist auto: auto."),
    MAX_DIST_OR_AUTO,
    Option("min_samples", 1, "Leave out genes that are present in fewer samples than this.", int, least=1),
    Option(
        "metric",
        None,
        "Distance of two genes: cosine distance of their abundances over the samples; correlation distance; or "
        "correlation distance of the ranks (spearman). Default: correlation; with a number as --max-dist: cosine.",
        choices=("cosine", "correlation", "spearman"),
        optional=True,
    ),
    Option(
        "linkage",
        "average",
        "Distance of two groups: the mean (average) or the smallest (single) of the distances between their genes. "
        "For single, give a number as --max-dist.",
        choices=("average", "single"),
    ),
    Option(
        "refine",
        None,
        "After clustering, join CAGs whose mean profiles are within --refine-dist (aggregate), or whose similarity "
        "without noise says that they are one (noise-corrected), or leave them as they are (none). Default: "
        "noise-corrected; with a number as --max-dist: aggregate.",
        choices=("aggregate", "noise-corrected", "none"),
        optional=True,
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
        "How neighbors are found: all of them (exact), or only near some pivots (approximate, up to --max-dist, "
        "or 0.2), with the share that was found measured and reported.",
        choices=("exact", "approximate"),
    ),
    Option("probes", 8, "Pivots near a gene that --search approximate looks at; more find more.", int, least=1),
    Option(
        "fdr",
        0.01,
        "With --max-dist auto: share of grouped genes that chance may have grouped; genes with too little "
        "support for that are marked. Above 0, at most 0.5.",
        float,
        above=0,
        most=0.5,
    ),
    Option(
        "strata",
        None,
        "With --max-dist auto: column of the sample metadata, such as site or batch; genes are shuffled "
        "within its values, so that what it explains is not taken for chance.",
        optional=True,
        metavar="COLUMN",
    ),
    Option(
        "unsupported",
        "guess",
        "With --max-dist auto: leave genes with too little support in their groups, which are a best guess, "
        "marked as such (guess), or each alone (alone).",
        choices=("guess", "alone"),
    ),
    Option(
        "seed",
        0,
        "Seed of random numbers. It is kept with the result; only the shuffled genes of --max-dist auto "
        "and the halves of --stability depend on it.",
        int,
        least=0,
    ),
    Option(
        "stability",
        0,
        "Split the samples into two halves this many times, cluster each half, and say of each CAG in which share of "
        "the splits both halves have it (Jaccard index of the genes at least 0.5). Each time takes about as long as "
        "the run. 0: do not.",
        int,
        least=0,
    ),
)
"""Of :func:`cagdask.find_cags`."""

ASSIGN = Options(
    replace(
        MAX_DIST,
        default=None,
        optional=True,
        help="Largest distance to a CAG's mean direction, in [0, 1); default: that of RESULT; if it was made without "
        "a threshold, the distance within which 95 % of its grouped genes are.",
    ),
    Option("min_size", 2, "Fewest genes of a CAG that takes others in, at least 2.", int, least=2),
    Option(
        "min_support", 2.0, "Fewest samples, effectively, on which a similarity must rest, at least 1.", float, least=1
    ),
)
"""Of :func:`cagdask.assign`."""
