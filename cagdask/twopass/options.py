"""Options of two-pass clustering, each declared once; light, since commands import them to start."""

from __future__ import annotations

from cagdask.arguments import Option, Options

KINDS = ("genes", "samples", "cags")
METRICS = ("euclidean", "cosine", "correlation", "rmsd")
LINKAGES = ("ward", "average", "complete")
RULES = ("medoid", "random", "k-centre")
COMPATS = ("mdtraj-notebook",)

FIRST_PASS = Options(
    Option("k", None, "Number of clusters.", int, least=1, required=True, flags=("-k", "--clusters")),
    Option("stride", None, "Cluster every N-th item in the first pass.", int, least=1, optional=True),
    Option("sample", None, "Or so many, drawn by chance; default: 2000, or all.", int, least=1, optional=True),
    Option(
        "metric",
        None,
        "Distance of two items; default: euclidean, and rmsd for trajectories.",
        choices=METRICS,
        optional=True,
    ),
    Option("linkage", None, "Linkage of the sample; default: ward.", choices=LINKAGES, optional=True),
    Option("n_leaders", 2, "Leaders of each cluster.", int, least=1, flags=("--leaders",)),
    Option(
        "leader_rule",
        None,
        "Which items lead a cluster: those nearest to all others (medoid), some drawn by chance (random), or the "
        "medoid and then the farthest ones (k-centre). Default: medoid.",
        choices=RULES,
        optional=True,
    ),
    Option(
        "compat",
        None,
        "Cluster as the notebook does: Ward on the square matrix, random leaders, stride 5.",
        choices=COMPATS,
        optional=True,
    ),
    Option("seed", 0, "Seed of what is drawn.", int, least=0),
)
"""Of the first pass, which chooses the leaders."""
SECOND_PASS = Options(
    Option(
        "of",
        None,
        "What of a store is clustered; default: genes, or the CAGs of a result.",
        choices=KINDS,
        optional=True,
    ),
    Option(
        "max_dist",
        None,
        "Leave items that are farther from every leader unassigned; unit of the metric, default: none is left.",
        float,
        least=0,
        optional=True,
    ),
    Option(
        "topology",
        None,
        "Topology of trajectories that have none.",
        optional=True,
        metavar="FILE",
        flags=("--top",),
    ),
    Option("block", None, "Items per task; default: as many as fit. Changes no label.", int, least=1, optional=True),
)
"""Of both passes."""
TWO_PASS = Options(*FIRST_PASS.values(), *SECOND_PASS.values())
"""Of :func:`cagdask.two_pass`."""
