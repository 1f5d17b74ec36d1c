"""Results as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CAG_COLUMNS = {
    "CAG": "cag",
    "genes": "size",
    "prevalence": "prevalence",
    "mean abundance": "mean_abundance",
    "entropy": "entropy",
    "cohesion": "cohesion",
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the right, the first to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for first, *rest in (header, *rows):
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def cag_table(largest: Sequence[dict[str, Any]]) -> str:
    """The largest CAGs and their statistics."""
    if not largest:
        return "No CAGs."
    return table(list(_CAG_COLUMNS), [[_number(row.get(name)) for name in _CAG_COLUMNS.values()] for row in largest])


def counts(summary: dict[str, Any]) -> str:
    """One sentence of counts."""
    grouped = summary["n_cags"] - summary["n_alone"]
    filtered = f", {summary['n_filtered']:,} genes filtered out" if summary["n_filtered"] else ""
    return (
        f"{summary['n_genes']:,} genes in {summary['n_samples']:,} samples: {summary['n_cags']:,} CAGs, {grouped:,} of "
        f"them of two genes or more, {summary['n_alone']:,} genes alone{filtered}."
    )


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else f"{value:.4g}"
