"""Columns of the tables of genes and of CAGs, and the variables of a result that they are."""

from __future__ import annotations

from collections.abc import Iterable

GENE_COLUMNS = {
    "gene_id": "gene_id",
    "cag": "gene_cag",
    "cag_distance": "gene_cag_distance",
    "prevalence": "gene_prevalence",
    "mean_abundance": "gene_mean_abundance",
}
STATUS_COLUMNS = {"support": "gene_support", "status": "gene_status"}
"""Of genes, where an error rate was estimated; before all other columns of some results."""
CAG_COLUMNS = {
    "size": "cag_size",
    "prevalence": "cag_prevalence",
    "mean_abundance": "cag_mean_abundance",
    "std_abundance": "cag_std_abundance",
    "entropy": "cag_entropy",
    "cohesion": "cag_cohesion",
}
LAST = (
    "gene_cag_second",
    "gene_cag_margin",
    "gene_role",
    "gene_core_cag",
    "cag_status",
    "cag_cohesion_low",
    "cag_cohesion_high",
    "cag_parent",
    "cag_stability",
)
"""Variables whose columns come after all others, in this order: columns that were there before keep their places."""


def column_names(
    shapes: dict[str, tuple[int, ...]], prefix: str, fixed: dict[str, str], left_out: Iterable[str] = ()
) -> dict[str, str]:
    """Columns of a table of genes or CAGs, and the variables that they are.

    Parameters
    ----------
    shapes
        Shapes of the variables of a result.
    prefix
        ``gene_`` or ``cag_``.
    fixed
        The columns that every table begins with. All others with a value per gene or CAG come after them, by name: what
        is known of some results, such as metadata; then those of :data:`LAST`.
    left_out
        Variables that are no columns.
    """
    n = shapes.get(next(iter(fixed.values())))
    skipped = {*fixed.values(), *left_out}
    found = dict(fixed)
    ordered = (*STATUS_COLUMNS.values(), *LAST)
    for name in [*STATUS_COLUMNS.values(), *sorted(shapes.keys() - set(ordered)), *LAST]:
        if name.startswith(prefix) and name not in skipped and shapes.get(name) == n:
            short = name.removeprefix(prefix)
            found[name if short in found or short == "cag" else short] = name
    return found
