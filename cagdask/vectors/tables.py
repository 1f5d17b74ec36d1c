"""Answers as files and text: Markdown with links, TSV, JSON, Parquet, and columns for a terminal.

Section: title, table, what to say below it  -->  one file for all sections, by its suffix
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cagdask import storage
from cagdask.errors import InputError
from cagdask.vectors.names import ENSEMBL, MISSING, Names

if TYPE_CHECKING:
    import pandas as pd

PROTEIN_ATLAS = "https://www.proteinatlas.org/{gene}"
GENE_COLUMNS = ("gene", "gene_a", "gene_b", "gene_c", "gene_d", "gene_1", "gene_2")
"""Columns that hold names."""
DECIMALS = 6


@dataclass(frozen=True)
class Section:
    """The answer to one question.

    Attributes
    ----------
    title
        What was asked.
    table
        What was found, best first.
    note
        A sentence to stand below it, or none.
    """

    title: str
    table: pd.DataFrame
    note: str = ""


def with_descriptions(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """A table of pairs with symbol and description of the genes that were found, where the store has any."""
    found = table.copy()
    for column in [name for name in ("gene_b", "gene_c", "gene_d", "gene_1", "gene_2") if name in table.columns]:
        if column == "gene_b" and table["gene_b"].nunique() < 2:
            continue  # it was given
        described = names.described(names.rows(table[column].tolist()).tolist())
        for what in ("symbol", "description"):
            if described and what in described[0]:
                found[column.replace("gene", what)] = [entry[what] for entry in described]
    return found


# -- files -----------------------------------------------------------------------------------------------------------


def check_output(url: str, link: str | None, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that can not be written.

    Raises
    ------
    InputError, StoreError
        Its format is not known, or it is there.
    ValueError
        The template of links has no place for the gene.
    """
    if storage.name_of(url).rpartition(".")[2] not in WRITERS:
        raise InputError(f"{url}: of unknown format. Answers are written as {', '.join('.' + s for s in WRITERS)}.")
    if link is not None and link != "none" and "{gene}" not in link:
        raise ValueError(f"the link {link!r} has no {{gene}} in it, the place for the id. Add it, or say none.")
    storage.check_target(storage.absolute(url), overwrite=overwrite)


def write_sections(url: str, sections: Sequence[Section], content: dict[str, Any], link: str | None = None) -> None:
    """Write answers to a file, by its suffix.

    Parameters
    ----------
    url
        Path or URL; ``.md``, ``.tsv``, ``.json`` or ``.parquet``.
    sections
        One or more; tables get a column ``query`` if there are several.
    content
        What ``.json`` holds.
    link
        Template of the address of a gene, with ``{gene}``; None links Ensembl ids to the Protein Atlas, ``"none"``
        nothing.
    """
    WRITERS[storage.name_of(url).rpartition(".")[2]](storage.absolute(url), sections, content, link)


def _together(sections: Sequence[Section]) -> pd.DataFrame:
    import pandas as pd

    if len(sections) == 1:
        return sections[0].table
    parts = [section.table.copy() for section in sections]
    for part, section in zip(parts, sections, strict=True):
        part.insert(0, "query", section.title)
        part.attrs = {}
    return pd.concat(parts, ignore_index=True)


def _markdown(url: str, sections: Sequence[Section], content: dict[str, Any], link: str | None) -> None:
    lines: list[str] = []
    for section in sections:
        columns = section.table.columns.tolist()
        lines += [f"# {section.title}", "", _row([name.replace("_", " ") for name in columns])]
        lines += ["|" + " --- |" * len(columns)]
        for values in section.table.itertuples(index=False):
            lines.append(_row([_linked(value, name, link) for name, value in zip(columns, values, strict=True)]))
        lines += ["", *([section.note, ""] if section.note else [])]
    storage.write_bytes(url, "\n".join(lines).encode())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _linked(value: Any, column: str, link: str | None) -> str:
    text = shown(value).replace("|", "\\|")
    if column not in GENE_COLUMNS or link == "none" or (link is None and not ENSEMBL.match(str(value))):
        return text
    address = (link or PROTEIN_ATLAS).replace("{gene}", str(value).split(".")[0] if link is None else str(value))
    return f"[{text}]({address})"


def _tsv(url: str, sections: Sequence[Section], content: dict[str, Any], link: str | None) -> None:
    storage.write_bytes(url, _together(sections).to_csv(sep="\t", index=False, lineterminator="\n").encode())


def _json(url: str, sections: Sequence[Section], content: dict[str, Any], link: str | None) -> None:
    storage.write_json(url, content)


def _parquet(url: str, sections: Sequence[Section], content: dict[str, Any], link: str | None) -> None:
    buffer = io.BytesIO()
    table = _together(sections).copy()
    table.attrs = {}
    table.to_parquet(buffer, index=False)
    storage.write_bytes(url, buffer.getvalue())


WRITERS: dict[str, Callable[[str, Sequence[Section], dict[str, Any], str | None], None]] = {
    "md": _markdown,
    "tsv": _tsv,
    "json": _json,
    "parquet": _parquet,
}
"""Suffix -> how answers are written."""


# -- text ------------------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A cell for people."""
    if isinstance(value, float):
        return f"{value:.{DECIMALS}f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or MISSING


def as_rows(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and cells of a table, as text; a column of ranks first, columns of text last."""
    described = [name for name in table.columns if name.startswith("description")]
    columns = [name for name in table.columns if name not in described] + described
    cells = [[shown(value) for value in row] for row in table[columns].itertuples(index=False)]
    return ["", *columns], [[str(i), *row] for i, row in enumerate(cells, start=1)]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON objects."""
    found: list[dict[str, Any]] = table.to_dict("records")
    return found
