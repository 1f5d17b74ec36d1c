"""Options of questions to vectors, each declared once: see :class:`cagdask.arguments.Option`."""

from __future__ import annotations

from cagdask.arguments import Option, Options
from cagdask.normalization.options import METHODS

SIMILARITY_METRICS = ("cosine", "correlation", "euclidean")
PAIR_METRICS = ("cosine", "correlation")
ANALOGY_METRICS = ("cosine", "euclidean")
COMBINATIONS = ("joint", "contrast")
OPERATIONS = ("difference", "sum")
METHODS_OF_FOURTH = ("add", "mul")

K = Option("k", 10, "Answers to each question, at least 1.", int, least=1, flags=("-k",))
NORMALIZATION = Option(
    "normalization",
    None,
    "How samples are made comparable; default: sum for abundances as ingested, none for all other stores.",
    choices=METHODS,
    optional=True,
)

SIMILAR = Options(
    Option(
        "metric",
        "cosine",
        "Similarity of two vectors: cosine, or correlation (cosine of the centered vectors), in [-1, 1]; or the "
        "euclidean distance, in the unit of the values.",
        choices=SIMILARITY_METRICS,
    ),
    Option(
        "combine",
        "joint",
        "With several genes: joint ranks by the sum of squared similarities to all of them; contrast by the similarity "
        "to the first minus the mean similarity to the others.",
        choices=COMBINATIONS,
    ),
    K,
)
"""Of :func:`cagdask.similar`."""

TOP_PAIRS = Option(
    "top_pairs",
    None,
    "Find the N most similar pairs of all genes, and the distribution of all similarities.",
    int,
    least=1,
    optional=True,
    metavar="N",
)

ANALOGY = Options(
    Option(
        "exact",
        False,
        "With --free-b: search every B in full, on the workers. Without it, the most promising are searched, and "
        "answers that are not proven are marked.",
        bool,
    ),
    Option(
        "metric",
        "cosine",
        "How two differences are compared: by their cosine in [-1, 1], or by the euclidean distance between them.",
        choices=ANALOGY_METRICS,
    ),
    Option(
        "operation",
        "difference",
        "What is compared: the difference of the two genes of a pair, or their sum.",
        choices=OPERATIONS,
    ),
    Option(
        "method",
        "add",
        "With a third gene: 3CosAdd (add) or 3CosMul (mul).",
        choices=METHODS_OF_FOURTH,
    ),
    Option(
        "shared",
        False,
        "Whether A or B may be C or D.",
        bool,
        flags=("--allow-shared/--exclude-shared",),
    ),
    Option(
        "max_sim",
        None,
        "Leave out near-duplicates: every C whose cosine to A is above this, and every D whose cosine to B is. In "
        "[-1, 1]; default: none is left out.",
        float,
        least=-1,
        most=1,
        optional=True,
    ),
    K,
)
"""Of :func:`cagdask.analogies`."""
