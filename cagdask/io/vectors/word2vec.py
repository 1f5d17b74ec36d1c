"""Vectors as word2vec and GloVe write them: text with or without a header line, and word2vec's binary.

2 3             vectors, components (GloVe has no such line)
geneA 0.1 0.2 0.3
geneB 0.4 0.5 0.6      a name ends at the first blank or tab; binary: name, blank, float32 components
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables.reading import Batches
from cagdask.io.vectors.batches import Options, Rows, numbered_batches, rows_at_once


@contextmanager
def open_text(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    """Open word2vec text, with its header line or (GloVe) without.

    Raises
    ------
    InputError
        It holds no vectors, or others than its header promises; once read, a vector is of another length.
    """
    first = handle.readline()
    told = _told(first)
    line = handle.readline() if told else first
    if not line.strip():
        raise InputError(f"{url}: holds no vectors. Check the file.")
    n_columns = told[1] if told else len(line.split()) - 1

    def rows() -> Iterator[Rows]:
        names: list[str] = []
        values: list[NDArray[np.float64]] = []
        step, n, current = rows_at_once(n_columns), 0, line
        while current:
            if current.strip():
                name, rest = _first_word(current)
                values.append(_numbers(url, name.decode(), rest, n_columns))
                names.append(name.decode())
                n += 1
            if len(names) == step:
                yield pa.array(names, pa.string()), np.stack(values)
                names, values = [], []
            current = handle.readline()
        if names:
            yield pa.array(names, pa.string()), np.stack(values)
        _check_count(url, told, n)

    yield numbered_batches(n_columns, rows())


def _first_word(line: bytes) -> tuple[bytes, bytes]:
    """A line's name, up to the first blank or tab, and its numbers."""
    ends = [at for at in (line.find(b" "), line.find(b"\t")) if at >= 0]
    at = min(ends, default=len(line))
    return line[:at].rstrip(), line[at:].strip()


def _told(line: bytes) -> tuple[int, int] | None:
    """Vectors and components that a header line promises; None if it is no header."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _numbers(url: str, name: str, text: bytes, n_columns: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = np.fromstring(text, np.float64, sep=" ")
        except (DeprecationWarning, ValueError) as err:
            wrong = next((x for x in text.decode(errors="replace").split() if not _is_number(x)), "")
            raise InputError(f"{url}: gene {name!r}: the value is {wrong!r}, not a number. Correct the file.") from err
    if len(found) != n_columns:
        raise InputError(
            f"{url}: gene {name!r} has {len(found):,} numbers, not {n_columns:,} as the others. A name holds no blank."
        )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_count(url: str, told: tuple[int, int] | None, n: int) -> None:
    if told and told[0] != n:
        raise InputError(f"{url}: promises {told[0]:,} vectors and holds {n:,}. It is cut off, or its header is wrong.")


@contextmanager
def open_binary(url: str, handle: Any, orient: str, options: Options) -> Iterator[Batches]:
    """Open word2vec binary.

    Raises
    ------
    InputError
        It has no header; once read, it is cut off or a name is no text.
    """
    told = _told(handle.readline(100))
    if told is None:
        raise InputError(f"{url}: does not begin with the numbers of vectors and components, as word2vec's .bin does.")
    n, n_columns = told
    if not n or not n_columns:
        raise InputError(f"{url}: promises {n:,} vectors of {n_columns:,} numbers. Check the file.")
    size = 4 * n_columns

    def rows() -> Iterator[Rows]:
        held = b""
        step = rows_at_once(n_columns)
        for begin in range(0, n, step):
            names, values = [], []
            place = 0
            for row in range(begin, min(n, begin + step)):
                end = held.find(b" ", place)
                while end < 0 or len(held) < end + 1 + size:
                    more = handle.read(max(2**20, 2 * size))
                    if not more:
                        raise InputError(
                            f"{url}: promises {n:,} vectors and ends in number {row + 1:,}. It is cut off."
                        )
                    held, place = held[place:] + more, 0
                    end = held.find(b" ")
                names.append(_word(url, held[place:end].lstrip(b"\n"), row))
                values.append(np.frombuffer(held, np.dtype("<f4"), n_columns, end + 1))
                place = end + 1 + size
            yield pa.array(names, pa.string()), np.stack(values)
            held = held[place:]

    yield numbered_batches(n_columns, rows())


def _word(url: str, data: bytes, row: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        raise InputError(f"{url}: the name of vector {row + 1:,} is no text. Is it a word2vec .bin file?") from err
