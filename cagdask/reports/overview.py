"""What matters of a dataset in a few lines, as text or, in a notebook, as HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from cagdask import storage, stores
from cagdask.plot.samples import coloring_columns, sample_table
from cagdask.reports import findings
from cagdask.reports.page import format_number, summarize

if TYPE_CHECKING:
    import xarray as xr

N_ROWS = 5
"""CAGs that are listed: the largest."""
_COLUMNS = {"CAG": "cag", "genes": "size", "prevalence": "prevalence", "cohesion": "cohesion", "gene": "representative",
            "taxonomy": "taxonomy", "description": "description"}  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """What matters of a store or a result; a notebook shows it as a table.

    Attributes
    ----------
    title
        Name of the cohort.
    lines
        Sentences: what it holds, and what speaks for it.
    cautions
        Sentences: what speaks against it.
    head, rows
        Its largest CAGs as text; none for a store.
    """

    title: str
    lines: list[str]
    cautions: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def __repr__(self) -> str:
        said = [self.title, *self.lines, *(f"! {one}" for one in self.cautions)]
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        for row in [self.head, *self.rows] if self.rows else []:
            said.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return "\n".join(said)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        said = [f"<b>{escape(self.title)}</b>", *(f"<div>{escape(line)}</div>" for line in self.lines)]
        said += [f'<div style="border-left: 3px solid #d55e00; padding-left: .5em">{escape(one)}</div>'
                 for one in self.cautions]  # fmt: skip
        if self.rows:
            head = "".join(f"<th>{escape(name)}</th>" for name in self.head)
            body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
            said.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        return "\n".join(said)


def summary(data: str | xr.Dataset) -> Summary:
    """What matters of a store or a result in a few lines; nothing large is read.

    Parameters
    ----------
    data
        Store, result store, folder of a run, or dataset.

    Returns
    -------
    Summary
        Prints as text; a notebook shows it as HTML.

    Raises
    ------
    StoreError
        Nothing is there.

    Examples
    --------
    >>> cagdask.summary("my-cags")  # doctest: +SKIP
    """
    ds: Any = storage.look(stores.result_url(data)) if isinstance(data, str) else data
    lines = [findings.headline(ds), findings.method(ds), *findings.trust(ds)] if "gene_cag" in ds.variables else [
        _content(ds)
    ]  # fmt: skip
    if "sample" in ds.sizes and (columns := coloring_columns(sample_table(ds))):
        lines.append(f"Known of the samples: {', '.join(columns)}.")
    if "gene_cag" not in ds.variables:
        return Summary(findings.cohort_name(ds), lines)
    cautions = [f"{one.title}. {one.detail}" for one in findings.warnings_of(ds)]
    largest = summarize(ds, n_largest=N_ROWS)["largest"]
    shown = {head: name for head, name in _COLUMNS.items() if largest and name in largest[0]}
    rows = [[_cell(row[name]) for name in shown.values()] for row in largest]
    return Summary(findings.cohort_name(ds), lines, cautions, list(shown), rows)


def _content(ds: Any) -> str:
    sizes = " × ".join(f"{size:,} {name}{'' if size == 1 else 's'}" for name, size in ds.sizes.items())
    said = f"{sizes}; {ds.attrs.get('kind', 'dataset')}"
    method = ds.attrs.get("normalization")
    return f"{said}, normalized by {method}." if method else f"{said}."


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else format_number(value)
