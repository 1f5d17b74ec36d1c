"""Options of planning, each declared once; light, since commands import them to start."""

from __future__ import annotations

from cagdask.arguments import Option, Options
from cagdask.cags.options import MAX_DIST_OR_AUTO, NORMALIZATION_OR_AUTO
from cagdask.io.options import INGEST

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
    NORMALIZATION_OR_AUTO,
    MAX_DIST_OR_AUTO,
    *(INGEST[name] for name in ("results_key", "abundance_key", "gene_id_key", "orient")),
)
"""Of :func:`cagdask.plan`."""
