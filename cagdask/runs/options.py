"""Options of planning, each declared once; light, since commands import them to start."""

from __future__ import annotations

from cagdask.arguments import Option, Options
from cagdask.cags.options import MAX_DIST
from cagdask.io.options import INGEST
from cagdask.normalization.options import NORMALIZATION

PLAN = Options(
    Option(
        "n_workers",
        None,
        "Worker processes; default: one per core that is allowed, 16 at most.",
        int,
        least=1,
        optional=True,
        flags=("--workers",),
    ),
    NORMALIZATION,
    MAX_DIST,
    *(INGEST[name] for name in ("results_key", "abundance_key", "gene_id_key", "orient")),
)
"""Of :func:`cagdask.plan`."""
