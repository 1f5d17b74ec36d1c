"""Options of measuring genes, each declared once; light, since commands import them to start."""

from __future__ import annotations

from typing import TypedDict

from cagdask.arguments import Option, Options


class MetricsOptions(TypedDict, total=False):
    """Options of :func:`cagdask.expression_metrics`."""

    percentile: float
    n_around: int
    groups: str | None
    label_column: str | None
    compat: str | None


METRICS = Options(
    Option("percentile", 95.0, "Of each gene over samples.", kind=float, above=0, below=100),
    Option(
        "n_around", 100, "Samples around the percentile whose mean cosine similarity is computed.", kind=int, least=2,
        flags=("--around",),
    ),
    Option(
        "groups", None, "Labels of samples, over whose means specificity is given, too: a metadata column, a TSV or "
        "CSV, or a folder of lists.", optional=True, metavar="COLUMN|FILE|FOLDER",
    ),
    Option("label_column", None, "Column of the table with the groups; default: its second.", optional=True,
           metavar="NAME"),
    Option(
        "compat", None, "Add the columns of ARCHS4's scripts.", optional=True, choices=("archs4",),
    ),
)  # fmt: skip
"""Of :func:`cagdask.expression_metrics` and ``cagdask metrics``."""
