"""The first lines of a text table: separator, header, decimal mark, quotes, and what each column seems to hold.

# comments            skipped; the last of them is the header where its width fits
gene  s1  s2          header: names; a first line of data is refused, never swallowed
a     1   0.5         up to a thousand rows are looked at, and tell numbers from text
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables.cells import MISSING, check_plain, counts_rows, decimal_of, is_number, kind_of, looks_numeric
from cagdask.io.tables.labels import GENE_NAMES, SAMPLE_NAMES

MAX_LINE_BYTES = 64 * 2**20
"""Longest line of a text table: a million samples, or a few bytes of gzip that unpack to nothing but one line."""
_LINES = 1000
_BYTES = 2**21
_SEPARATORS = ("\t", ",", ";", "|", " ")
_NAMED = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}
WORDS = re.compile(r'"[^"]*"|\S+')
"""Cells of a line that are separated by blanks, where quotes stand around some."""


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


def look(
    url: str,
    handle: Any,
    *,
    no_header: bool = False,
    of_values: bool = False,
    describes: Callable[[str], bool] = lambda _: False,
) -> Look:
    """Look at the first lines of a text table.

    Parameters
    ----------
    url, handle
        The file, for messages and to read from.
    no_header
        Whether the first line is data.
    of_values
        Whether it is a table of values, in which second header lines and percent signs are looked for.
    describes
        Says of a column by its name that it holds no values: such columns tell nothing of how numbers are written.

    Raises
    ------
    InputError
        It is empty, has a single column or no rows, a line is far too long, or its first line is data.
    """
    lines, longest = _first_lines(url, handle)
    n_skipped, comments = _comments(url, lines)
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
    if of_values:
        rows, n_skipped = _without_second_headers(url, lines, rows, n_skipped)
    first = next((row[0] for row in (names, *rows) if row), "")
    if of_values and first.strip() == "N_unmapped":
        raise InputError(
            f"{url}: is STAR's ReadsPerGene of one sample. Name a sheet or a pattern of such files, also of one, such "
            "as 'star/*ReadsPerGene.out.tab': the unstranded column is taken, or that of `value_column`."
        )
    names = _whole_header(url, names, rows, no_header)
    found, columns = _described(url, names, rows, separator, quoted, n_skipped, longest, describes)
    if not no_header:
        _check_header(url, names, rows, found.decimal)
    if of_values:
        apart = frozenset(i for i, name in enumerate(found.names) if describes(name))
        check_plain(url, found.names, columns, apart)
    return found


def _take_header(lines: list[str], rows: list[list[str]], skipped: int) -> tuple[list[str], list[list[str]], int]:
    while skipped < len(lines) and not lines[skipped].strip():
        skipped += 1
    return (rows[0] if rows else []), rows[1:], skipped + 1


def _without_second_headers(
    url: str, lines: list[str], rows: list[list[str]], skipped: int
) -> tuple[list[list[str]], int]:
    """Leave out lines like ``#SampleID  Metaphlan2_Analysis …`` below the header, and refuse others of words alone."""
    while len(rows) > 1 and _is_words(rows[0]) and not all(map(_is_words, rows[1:])):
        while not lines[skipped].strip():
            skipped += 1
        if not rows[0][0].startswith("#"):
            shown = ", ".join(repr(cell) for cell in rows[0][:3])
            raise InputError(
                f"{url}: line {skipped + 1} ({shown}, …) holds words where the lines below hold numbers. Take it out; "
                "what it says of the columns goes into a table of its own (for samples: `metadata`)."
            )
        rows, skipped = rows[1:], skipped + 1
    return rows, skipped


def _is_words(row: list[str]) -> bool:
    """Whether a row has two or more cells beyond its name, and none of them is a number or missing."""
    held = [cell.strip() for cell in row[1:] if cell.strip()]
    return len(held) > 1 and not any(looks_numeric(cell) or cell in MISSING for cell in held)


def _whole_header(url: str, names: list[str], rows: list[list[str]], no_header: bool) -> list[str]:
    """The header with a name for each column, also for those that writers leave out."""
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
    return [name.strip() for name in names]


def _described(
    url: str, names: list[str], rows: list[list[str]], separator: str, quoted: bool, skipped: int, longest: int,
    describes: Callable[[str], bool],
) -> tuple[Look, list[list[str]]]:  # fmt: skip
    full = [row for row in rows if len(row) == len(names)]
    columns = [list(column) for column in zip(*full, strict=True)] or [[] for _ in names]
    apart = frozenset(i for i, name in enumerate(names) if describes(name))
    decimal = decimal_of(url, columns, separator, apart)
    kinds = [kind_of(column, decimal) for column in columns]
    numbered = frozenset(i for i, column in enumerate(columns) if counts_rows(column))
    repeated = frozenset(i for i, column in enumerate(columns) if len(set(column)) < len(column))
    return Look(separator, skipped, names, kinds, numbered, repeated, decimal, quoted, longest), columns


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


def _comments(url: str, lines: list[str]) -> tuple[int, list[str]]:
    """Lines at the top that are no data: how many, and which of them begin with ``#``."""
    if lines and re.fullmatch(r"#1\.2\s*", lines[0]):  # GCT: its version, and its numbers of rows and columns
        return min(2, len(lines)), []
    if lines and re.fullmatch(r"#1\.3\s*", lines[0]):
        raise InputError(
            f"{url}: is GCT 1.3. Write it as GCT 1.2, or as text with what it says of samples in a table apart."
        )
    if lines and re.fullmatch(r"(?i)sep=.", lines[0].strip()):  # what Excel takes for the separator
        return 1, []
    n = 0
    while n < len(lines) and (lines[n].startswith("#") or (n and not lines[n].strip())):
        n += 1
    return n, [line for line in lines[:n] if line.strip() and not line.startswith("#q2:")]  # QIIME 2: types of columns


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
    below = [any(looks_numeric(cell) for cell in column) for column in zip(*rows[1:], strict=False)]
    return len(rows) < 2 or any(looks_numeric(cell) for cell, number in zip(rows[0], below, strict=False) if number)


def split(line: str, separator: str, quoted: bool) -> list[str]:
    """Cells of a line."""
    if separator == " ":
        return [word.strip('"') for word in WORDS.findall(line)] if quoted and '"' in line else line.split()
    if not quoted or '"' not in line:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator), [])


def _width(rows: list[list[str]]) -> int:
    return Counter(map(len, rows[1:] or rows)).most_common(1)[0][0] if rows else 0


def _share_of_numbers(lines: list[str], separator: str, quoted: bool) -> float:
    """Share of cells beyond the first column that are numbers: commas may stand within numbers, or between them."""
    cells = [cell for line in lines for cell in split(line, separator, quoted)[1:] if cell.strip()]
    return sum(map(looks_numeric, cells)) / max(1, len(cells))


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
