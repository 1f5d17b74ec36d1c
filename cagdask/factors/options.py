"""Options of factorizing, each declared once; light, since commands import them to start."""

from __future__ import annotations

from dataclasses import replace

from cagdask.arguments import Option, Options

NONNEG = ("error", "shift", "feature-shift", "negative-part")
MISSING = ("error", "drop-features", "drop-samples")
SOLVERS = ("compressed", "exact")
ORIENTS = ("genes-by-samples", "samples-by-genes")

K = Option("k", None, "Number of components.", int, least=1, required=True, flags=("-k",))
TABLE = (
    Option("missing", "error", "What to do with missing values of a Parquet table.", choices=MISSING),
    Option("orient", "genes-by-samples", "What the rows of a Parquet table are.", choices=ORIENTS),
    Option("id_column", None, "Column of the rows' names; default: the first.", optional=True, metavar="NAME"),
)
"""How to read a table that is no store."""
NONNEGATIVE = Option(
    "nonneg",
    "error",
    "What to do with values below 0: stop; take off the smallest of the table (shift) or of the gene (feature-shift); "
    "or use max(-v, 0) (negative-part).",
    choices=NONNEG,
)
SEED = Option("seed", 0, "Seed of what is drawn.", int, least=0)
TOL = Option(
    "tol",
    1e-5,
    "Stop when a pass lowers the squared error by less than this share.",
    float,
    above=0,
    below=1,
)
MAX_PASSES = Option("max_passes", 500, "Passes of the solver, at most.", int, least=1)
REPLICATES = Option("n_replicates", 20, "Random beginnings, at least 3.", int, least=3, flags=("--replicates",))
_SHORTER = (replace(TOL, default=1e-4), replace(MAX_PASSES, default=200))

NMF = Options(
    K,
    NONNEGATIVE,
    Option(
        "solver",
        "compressed",
        "Work on a sketch, with 5 passes over the data (compressed), or go on over the data themselves (exact).",
        choices=SOLVERS,
    ),
    SEED,
    TOL,
    MAX_PASSES,
    *TABLE,
)
"""Of :func:`cagdask.nmf`."""
SELECT = Options(REPLICATES, NONNEGATIVE, SEED, *_SHORTER, *TABLE)
"""Of :func:`cagdask.nmf_select`, beside the numbers of components."""
CONSENSUS = Options(
    K,
    REPLICATES,
    Option(
        "density_threshold",
        0.5,
        "Leave out programs that are farther than this from their nearest copies, in (0, 2].",
        float,
        above=0,
        most=2,
    ),
    NONNEGATIVE,
    SEED,
    *_SHORTER,
    *TABLE,
)
"""Of :func:`cagdask.nmf_consensus`."""
PROJECT = Options(*TABLE)
"""Of :func:`cagdask.nmf_project`."""
