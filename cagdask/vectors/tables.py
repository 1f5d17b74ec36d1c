"""Answers as files and text: Markdown with links, TSV, JSON, Parquet, and columns for a terminal.

Section: title, table, what to say below it  -->  one file for all sections, by its suffix
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
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
SMALL, LARGE = 1e-4, 1e10
"""Sizes outside of which a number is shown with so many digits, not decimals: a small distance is not 0."""


@dataclass(frozen=True)
class Found:
    """The answer to one question, in columns: thousands of these are made and read much sooner than tables of pandas.

    Attributes
    ----------
    columns
        Values by name, best first, all of the same length.
    attrs
        What is known beside the columns.
    """

    columns: dict[str, list[Any]]
    attrs: dict[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @classmethod
    def of(cls, table: pd.DataFrame) -> Found:
        """The same as a table of pandas."""
        return cls({str(name): table[name].tolist() for name in table.columns}, dict(table.attrs))

    def to_table(self) -> pd.DataFrame:
        """The same as a table of pandas."""
        import pandas as pd

        numbers = {"similarity": "float64", "distance": "float64", "certified": "bool"}
        table = pd.DataFrame(self.columns).astype({n: t for n, t in numbers.items() if n in self.columns})
        table.attrs = dict(self.attrs)
        return table


@dataclass(frozen=True)
class Section:
    """The answer to one question, as it is shown.

    Attributes
    ----------
    title
        What was asked.
    found
        The answer.
    note
        A sentence to stand below it, or none.
    """

    title: str
    found: Found
    note: str = ""


def with_descriptions(found: Found, names: Names) -> Found:
    """Pairs with symbol and description of the genes that were found, where the store has any."""
    columns = dict(found.columns)
    for place in ("b", "c", "d", "1", "2"):
        genes = columns.get(f"gene_{place}", [])
        if not genes or (place == "b" and len(set(genes)) < 2):
            continue  # b was given
        described = names.columns(names.rows(genes))
        columns |= {f"{what}_{place}": described[what] for what in described if what != "gene"}
    return Found(columns, found.attrs)


def cut_columns(columns: dict[str, Any], lengths: Sequence[int]) -> Iterator[dict[str, list[Any]]]:
    """Columns of these lengths, one after the other cut from the same."""
    lists = {name: values if isinstance(values, list) else values.tolist() for name, values in columns.items()}
    first = 0
    for length in lengths:
        yield {name: values[first : first + length] for name, values in lists.items()}
        first += length


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
        return sections[0].found.to_table()
    names = list(dict.fromkeys(name for section in sections for name in section.found.columns))
    columns: dict[str, list[Any]] = {"query": [s.title for s in sections for _ in range(len(s.found))]}
    for name in names:
        columns[name] = [v for s in sections for v in s.found.columns.get(name, [None] * len(s.found))]
    return pd.DataFrame(columns)


def _markdown(url: str, sections: Sequence[Section], content: dict[str, Any], link: str | None) -> None:
    lines: list[str] = []
    for section in sections:
        columns = list(section.found.columns)
        lines += [f"# {section.title}", "", _row([name.replace("_", " ") for name in columns])]
        lines += ["|" + " --- |" * len(columns)]
        for values in zip(*section.found.columns.values(), strict=True):
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
        few = 0 < abs(value) < SMALL or abs(value) >= LARGE
        return f"{value:.{DECIMALS}g}" if few else f"{value:.{DECIMALS}f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or MISSING


def as_rows(found: Found) -> tuple[list[str], list[list[str]]]:
    """Header and cells of an answer, as text; a column of ranks first, columns of text last."""
    described = [name for name in found.columns if name.startswith("description")]
    names = [name for name in found.columns if name not in described] + described
    rows = zip(*(found.columns[name] for name in names), strict=True)
    return ["", *names], [[str(i), *map(shown, row)] for i, row in enumerate(rows, start=1)]


def records(found: Found) -> list[dict[str, Any]]:
    """Rows as JSON objects, without what :func:`with_descriptions` adds."""
    columns = {n: values for n, values in found.columns.items() if not n.startswith(("symbol_", "description_"))}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def as_text(sections: Sequence[Section]) -> str:
    """Answers for a terminal: titles, aligned columns, notes."""
    parts = []
    for section in sections:
        body = align(*as_rows(section.found)) if len(section.found) else "Nothing found."
        parts.append("\n".join(part for part in (section.title, body, section.note) if part))
    return "\n\n".join(parts)


def align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the right, the first to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for first, *rest in (header, *rows):
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
