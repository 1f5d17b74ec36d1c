"""Cells of text tables: which are numbers, how these are written, and what a column of them holds."""

from __future__ import annotations

import re

from cagdask.errors import InputError

MISSING = ("", "NA", "N/A", "null", "NULL", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "None")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
_MARKS = "'’ \u00a0\u202f"
_FORMATTED = (
    (re.compile(r"[-+]?\d+([.,]\d+)? ?%"), "%", "a percent sign"),
    (re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?"), ",", "commas between its thousands"),
    (re.compile(rf"[-+]?\d{{1,3}}([{_MARKS}]\d{{3}})+([.,]\d+)?"), _MARKS, "marks between its thousands"),
)
"""Numbers as a spreadsheet shows them, and characters of which each of them holds one."""


def looks_numeric(cell: str) -> bool:
    """Whether a cell is a number, also one with a decimal comma."""
    plain = cell.strip()
    return bool(plain) and plain not in MISSING and (is_number(plain) or bool(_DECIMAL_COMMA.fullmatch(plain)))


def check_plain(url: str, names: list[str], columns: list[list[str]], described: frozenset[int]) -> None:
    """Refuse columns of numbers that carry percent signs or marks between thousands; ``described`` hold no values.

    Raises
    ------
    InputError
        One does; names it and a cell.
    """
    for name, cells in ((names[i], columns[i]) for i in range(1, len(names)) if i not in described):
        text = "".join(cells)
        forms = [(form, what) for form, marks, what in _FORMATTED if any(mark in text for mark in marks)]
        if not forms:  # as in nearly all columns: to look at each cell takes a hundred times longer
            continue
        held = [cell.strip() for cell in cells if cell.strip() and cell.strip() not in MISSING]
        for form, what in forms:
            odd = next((cell for cell in held if form.fullmatch(cell)), None)
            if odd and not _DECIMAL_COMMA.fullmatch(odd) and all(form.fullmatch(c) or is_number(c) for c in held):
                raise InputError(f"{url}: column {name!r}: {odd!r} has {what}. Write numbers without them.")


def decimal_of(url: str, columns: list[list[str]], separator: str, described: frozenset[int] = frozenset()) -> str:
    """The decimal mark of the values, which columns that are ``described`` do not tell.

    Raises
    ------
    InputError
        Commas stand between thousands, or may.
    """
    if separator == ",":
        return "."
    some = [columns[i] for i in range(1, len(columns)) if i not in described and "," in "".join(columns[i])]
    cells = [cell for column in some if not _is_prose(column) for cell in column if "," in cell]
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


def _is_prose(cells: list[str]) -> bool:
    """Whether most cells are neither numbers nor missing: their commas are no marks of numbers."""
    held = [cell for cell in cells if cell.strip() and cell.strip() not in MISSING]
    return 2 * sum(looks_numeric(cell) or bool(_THOUSANDS.fullmatch(cell.strip())) for cell in held) < len(held)


def is_number(text: str) -> bool:
    """Whether a cell is a number, or none at all."""
    try:
        float(text)
    except ValueError:
        return text.strip() in MISSING
    return "_" not in text


def kind_of(cells: list[str], decimal: str) -> str:
    """What a column holds: ``number``, ``integer``, ``text`` or ``empty``."""
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


def counts_rows(cells: list[str]) -> bool:
    """Whether cells are 0, 1, 2, … or 1, 2, 3, … in order."""
    return (
        bool(cells) and cells[0].strip() in ("0", "1") and cells == [str(int(cells[0]) + i) for i in range(len(cells))]
    )
