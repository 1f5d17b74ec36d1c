"""The first lines of a text table: separator, header, decimal mark, quotes, and what each column seems to hold.

# comments            skipped; the last of them is the header where its width fits
gene  s1  s2          header: names; a first line of data is refused, never swallowed
a     1   0.5         up to a thousand rows are looked at, and tell numbers from text
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables.labels import GENE_NAMES, SAMPLE_NAMES

MAX_LINE_BYTES = 64 * 2**20
"""Longest line of a text table: a million samples, or a few bytes of gzip that unpack to nothing but one line."""
_LINES = 1000
_BYTES = 2**21
_SEPARATORS = ("\t", ",", ";", "|", " ")
_NAMED = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}
MISSING = ("", "NA", "N/A", "null", "NULL", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "None")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")


@dataclass(frozen=True)
class Look:
    """What the first lines of a text table say.

    Attributes
    ----------
    separator
        Between cells; a blank stands for any run of blanks.
    n_skipped
        Lines before the first row of data.
    names, kinds
        Of the columns: header, and ``number``, ``integer``, ``text`` or ``empty``.
    numbered, repeated
        Columns that count the rows; columns with a cell that occurs twice.
    decimal
        ``.`` or ``,``.
    quoted
        Whether double quotes stand around cells.
    longest
        Bytes of the longest line that was looked at.
    """

    separator: str
    n_skipped: int
    names: list[str]
    kinds: list[str]
    numbered: frozenset[int]
    repeated: frozenset[int]
    decimal: str
    quoted: bool
    longest: int


def look(url: str, handle: Any, *, no_header: bool = False) -> Look:
    """Look at the first lines of a text table.

    Raises
    ------
    InputError
        It is empty, has a single column or no rows, a line is far too long, or its first line is data.
    """
    lines, longest = _first_lines(url, handle)
    n_skipped, comments = _comments(lines)
    body = [line for line in lines[n_skipped:] if line.strip()]
    if not body and not comments:
        raise InputError(f"{url}: the table is empty. Check the file.")
    separator, quoted = _separator(url, body or [comments[-1]])
    rows = [split(line, separator, quoted) for line in body]
    if no_header:
        names = [] if rows else [""]
    elif comments and rows and _is_header(comments[-1], rows, separator, quoted):
        names = _header_of(comments[-1], separator, quoted)
        if len(names) < 2 and _width(rows) > 1:
            names, rows, n_skipped = _take_header(lines, rows, n_skipped)
    else:
        names, rows, n_skipped = _take_header(lines, rows, n_skipped)
    return _described(url, names, rows, separator, quoted, n_skipped, longest, no_header)


def _take_header(lines: list[str], rows: list[list[str]], skipped: int) -> tuple[list[str], list[list[str]], int]:
    while skipped < len(lines) and not lines[skipped].strip():
        skipped += 1
    return (rows[0] if rows else []), rows[1:], skipped + 1


def _described(
    url: str, names: list[str], rows: list[list[str]], separator: str, quoted: bool, skipped: int, longest: int,
    no_header: bool,
) -> Look:  # fmt: skip
    width = _width(rows)
    if no_header:
        value = [storage.name_of(url).split(".")[0]] if width == 2 else [str(i) for i in range(1, width)]
        if rows and width > 2 and not any(row[-1].strip() for row in rows if len(row) == width):
            value = [storage.name_of(url).split(".")[0] if width == 3 else name for name in value]
            value[-1] = ""  # each row ends in a separator
        names = ["gene", *value]
    if names and rows and width == len(names) + 1:
        trailing = all(len(row) < width or not row[-1].strip() for row in rows)
        names = [*names, ""] if trailing else ["", *names]  # R writes no name for the row names
    if len(names) < 2:
        shown = names[0][:60] if names else ""
        raise InputError(
            f"{url}: has a single column, {shown!r}. A table has names in the first column and values in the others, "
            "separated by tabs, commas, semicolons or blanks."
        )
    if not rows:
        raise InputError(f"{url}: the table has no rows below its header. Check the file.")
    full = [row for row in rows if len(row) == len(names)]
    columns = [list(column) for column in zip(*full, strict=True)] or [[] for _ in names]
    decimal = _decimal(url, columns, separator)
    kinds = [_kind(column, decimal) for column in columns]
    if not no_header:
        _check_header(url, names, rows, decimal)
    numbered = frozenset(i for i, column in enumerate(columns) if _counts(column))
    repeated = frozenset(i for i, column in enumerate(columns) if len(set(column)) < len(column))
    return Look(separator, skipped, names, kinds, numbered, repeated, decimal, quoted, longest)


def _first_lines(url: str, handle: Any) -> tuple[list[str], int]:
    found: list[str] = []
    n_bytes = longest = 0
    while len(found) < _LINES and (n_bytes < _BYTES or len(found) < 3):
        line = handle.readline(MAX_LINE_BYTES)
        if len(line) >= MAX_LINE_BYTES:
            raise InputError(f"{url}: a line has {MAX_LINE_BYTES:,} bytes or more. Check that it is a table of lines.")
        if not line:
            break
        n_bytes += len(line)
        longest = max(longest, len(line))
        if b"\0" in line:
            raise InputError(f"{url}: line {len(found) + 1:,} holds a NUL byte, so this is no text. Check the file.")
        try:
            found.append(line.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError as err:
            raise InputError(
                f"{url}: line {len(found) + 1:,} is not UTF-8 (byte {line[err.start]:#x}). Save the table as UTF-8."
            ) from err
    if found:
        found[0] = found[0].removeprefix("\ufeff")
    return found, longest


def _comments(lines: list[str]) -> tuple[int, list[str]]:
    """Lines at the top that are no data: how many, and which of them begin with ``#``."""
    if lines and re.fullmatch(r"#1\.2\s*", lines[0]):  # GCT: its version, and its numbers of rows and columns
        return min(2, len(lines)), []
    if lines and re.fullmatch(r"(?i)sep=.", lines[0].strip()):  # what Excel takes for the separator
        return 1, []
    n = 0
    while n < len(lines) and (lines[n].startswith("#") or (n and not lines[n].strip())):
        n += 1
    return n, [line for line in lines[:n] if line.strip()]


def _header_of(comment: str, separator: str, quoted: bool) -> list[str]:
    return split(comment, separator, quoted)


def _is_header(comment: str, rows: list[list[str]], separator: str, quoted: bool) -> bool:
    """Whether a comment is the header: its width fits, and it names its first column, or the row below is no header."""
    width = _width(rows)
    cells = _header_of(comment, separator, quoted)
    if len(cells) not in (width, width - 1):
        return False
    first = cells[0].strip("# ").lower()
    if first and (first in GENE_NAMES or first in SAMPLE_NAMES or first.endswith("id")):
        return True  # of a table of words alone, no row looks unlike a header: #SampleID, diagnosis
    below = [any(_looks_numeric(cell) for cell in column) for column in zip(*rows[1:], strict=False)]
    return len(rows) < 2 or any(_looks_numeric(cell) for cell, number in zip(rows[0], below, strict=False) if number)


def split(line: str, separator: str, quoted: bool) -> list[str]:
    """Cells of a line."""
    if separator == " ":
        return line.split()
    if not quoted or '"' not in line:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator), [])


def _width(rows: list[list[str]]) -> int:
    return Counter(map(len, rows[1:] or rows)).most_common(1)[0][0] if rows else 0


def _looks_numeric(cell: str) -> bool:
    plain = cell.strip()
    return bool(plain) and plain not in MISSING and (is_number(plain) or bool(_DECIMAL_COMMA.fullmatch(plain)))


def _share_of_numbers(lines: list[str], separator: str, quoted: bool) -> float:
    """Share of cells beyond the first column that are numbers: commas may stand within numbers, or between them."""
    cells = [cell for line in lines for cell in split(line, separator, quoted)[1:] if cell.strip()]
    return sum(map(_looks_numeric, cells)) / max(1, len(cells))


def _separator(url: str, body: list[str]) -> tuple[str, bool]:
    """What stands between cells, and whether quotes stand around them."""
    odd = next((i for i, line in enumerate(body) if line.count('"') % 2), None)
    name = storage.name_of(url).lower()
    hint = "," if ".csv" in name else "\t"
    order = sorted(_SEPARATORS, key=lambda separator: separator != hint)  # blanks come last
    some = body[:50]
    for choices, less in ((order[:-1], 0), (order[:-1], 1), (" ", 0), (" ", 1)):
        fitting = [separator for separator in choices if _fits(some, separator, odd is None, less)]
        if fitting:
            separator = max(fitting, key=lambda separator: _share_of_numbers(some[:10], separator, odd is None))
            if odd is not None and separator != "\t":
                raise InputError(
                    f"{url}: row {odd + 1:,} opens a quote and does not close it: {body[odd][:60]!r}. Close it, or "
                    "take it out."
                )
            return separator, odd is None
    found = max(order, key=lambda separator: (len(split(some[0], separator, False)), separator == hint))
    return (found if len(split(some[0], found, False)) > 1 and found != " " else hint), odd is None


def _fits(lines: list[str], separator: str, quoted: bool, less: int) -> bool:
    """Whether a separator gives rows of one width, and a first line that is ``less`` shorter."""
    widths = [len(split(line, separator, quoted)) for line in lines]
    common = Counter(widths[1:] or widths).most_common(1)[0][0]
    same = widths[1:].count(common) >= 0.9 * (len(widths) - 1)
    return common > 1 and same and common - widths[0] == less


def _decimal(url: str, columns: list[list[str]], separator: str) -> str:
    if separator == ",":
        return "."
    cells = [cell for column in columns[1:] for cell in column if "," in cell]
    commas = [cell for cell in cells if _DECIMAL_COMMA.fullmatch(cell.strip())]
    if not commas or len(commas) < len(cells):
        thousands = [cell for cell in cells if _THOUSANDS.fullmatch(cell.strip())]
        if thousands and len(thousands) == len(cells):
            raise InputError(f"{url}: {thousands[0]!r} has commas between its thousands. Write numbers without them.")
        return "."
    if all(_THOUSANDS.fullmatch(cell.strip()) for cell in commas) and separator != ";":
        raise InputError(
            f"{url}: {commas[0]!r} may be a decimal comma or a comma between thousands. Write numbers with a point."
        )
    return ","


def is_number(text: str) -> bool:
    """Whether a cell is a number, or none at all."""
    try:
        float(text)
    except ValueError:
        return text.strip() in MISSING
    return "_" not in text


def _kind(cells: list[str], decimal: str) -> str:
    quick = None if decimal == "," else _quick_kind(cells)
    return quick or _kind_of_any(cells, decimal)


def _kind_of_any(cells: list[str], decimal: str) -> str:
    held = [cell.strip() for cell in cells if cell.strip() and cell.strip() not in MISSING]
    if not held:
        return "empty" if not any(cell.strip() for cell in cells) else "number"
    if decimal == ",":
        held = [cell.replace(",", ".") for cell in held]
    numbers = [cell for cell in held if is_number(cell)]
    if 2 * len(numbers) < len(held) or (len(numbers) < len(held) and len(held) == 1):
        return "text"
    return "integer" if all(re.fullmatch(r"[-+]?\d+", cell) for cell in held) else "number"


def _quick_kind(cells: list[str]) -> str | None:
    """The kind of a column that holds nothing but numbers, as most columns do; None for any other column."""
    joined = "".join(cells)
    if not re.fullmatch(r"[-+.eE\d\s]+", joined):
        return None
    try:
        list(map(float, cells))
    except ValueError:
        return None
    return "integer" if re.fullmatch(r"[-+\d\s]*", joined) else "number"


def _counts(cells: list[str]) -> bool:
    """Whether cells are 0, 1, 2, … or 1, 2, 3, … in order."""
    return (
        bool(cells) and cells[0].strip() in ("0", "1") and cells == [str(int(cells[0]) + i) for i in range(len(cells))]
    )


def _check_header(url: str, names: list[str], rows: list[list[str]], decimal: str) -> None:
    """Refuse a first line that is data: its other cells are numbers, and the first is the name of nothing."""
    first = names[0].strip().lower()
    if first in GENE_NAMES or first in SAMPLE_NAMES or first.startswith("#") or first.endswith(("id", "ids")):
        return
    others = [name.strip().replace(decimal, ".") for name in names[1:] if name.strip()]
    if others and all(is_number(name) and name not in MISSING for name in others):
        raise InputError(
            f"{url}: its first line looks like data ({names[0]!r}, {names[1]!r}), not a header. Add `no_header=True` "
            "to read it as data; if it is the header, call the first column gene_id (or sample_id)."
        )
