"""Which samples of a table are asked for: those of a list, and those that fulfil a query.

--samples FILE                          one name a line
--sample-query 'tissue~liver and age>=40'   conditions on what the table itself says of its samples
--exclude-samples REGEX                 names that are left out
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables.labels import SAMPLE_NAMES
from cagdask.io.tables.reading import Reading

_SHOWN = 5
_CONDITION = re.compile(r"\s*([\w.]+)\s*(!=|<=|>=|=|~|<|>)\s*(.*?)\s*", re.DOTALL)
_AND = re.compile(r"\s+and\s+(?=[\w.]+\s*(?:!=|<=|>=|=|~|<|>))")
_COMPARED = {"<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal}


@dataclass(frozen=True)
class Condition:
    """What a sample must fulfil.

    Attributes
    ----------
    column
        Of what is known of the samples.
    operator
        ``=``, ``!=``, ``~`` (a regular expression is found in the text), ``<``, ``<=``, ``>`` or ``>=`` (numbers).
    value
        What is compared with.
    """

    column: str
    operator: str
    value: str

    def fulfilled(self, values: list[Any]) -> NDArray[np.bool_]:
        """Which of some values fulfil it; a value that is missing, or no number where one is needed, does not."""
        if self.operator in _COMPARED:
            numbers = np.array([_number(value) for value in values], np.float64)
            with np.errstate(invalid="ignore"):
                found: NDArray[np.bool_] = _COMPARED[self.operator](numbers, float(self.value))
            return found
        texts = [_text(value) for value in values]
        if self.operator == "~":
            pattern = re.compile(self.value)
            return np.array([pattern.search(text) is not None for text in texts], bool)
        same = np.array([text == self.value for text in texts], bool)
        return same if self.operator == "=" else ~same


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return "" if value is None else str(value)


def _number(value: Any) -> float:
    try:
        return float(_text(value))
    except ValueError:
        return np.nan


def parse_query(text: str) -> list[Condition]:
    """Conditions of a query, all of which must hold.

    Raises
    ------
    ValueError
        It is not written as a query, a number is none, or a regular expression is wrong.

    Examples
    --------
    >>> [c.operator for c in parse_query("source_name_ch1~liver and singlecellprobability<0.5")]
    ['~', '<']
    """
    found = []
    for part in _AND.split(text):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise ValueError(
                f"`sample_query` is {text!r}: {part!r} is no condition. Write COLUMN=VALUE, with one of =, !=, ~ "
                "(regular expression), <, <=, > and >=, and join conditions by ' and '."
            )
        condition = Condition(match[1], match[2], match[3])
        try:
            if condition.operator == "~":
                re.compile(condition.value)
            elif condition.operator in _COMPARED:
                float(condition.value)
        except (re.error, ValueError) as err:
            raise ValueError(f"`sample_query` is {text!r}: {part!r} can not be compared ({err}). Correct it.") from err
        found.append(condition)
    return found


def samples_file(url: str) -> tuple[str, str]:
    """A list of samples as :class:`Reading` keeps it: where it is, and a digest of its bytes.

    Raises
    ------
    InputError
        There is no such file.
    """
    url = storage.absolute(url)
    if not storage.exists(url):
        raise InputError(f"{url}: no such list of samples. Check the path.")
    return url, hashlib.blake2b(storage.read_bytes(url), digest_size=16).hexdigest()


def read_list(url: str) -> list[str]:
    """Names in the first column of a text file; a header such as ``sample_id``, comments and empty lines do not count.

    Raises
    ------
    InputError
        It has no names.
    """
    lines = storage.read_bytes(url).decode("utf-8-sig").splitlines()
    cells = [re.split(r"[\t,]", line, maxsplit=1)[0].strip().strip('"') for line in lines if not line.startswith("#")]
    names = [cell for cell in cells if cell]
    if names and names[0].lower() in (*SAMPLE_NAMES, "geo_accession"):
        names = names[1:]
    if not names:
        raise InputError(f"{url}: lists no samples. Write one name a line.")
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Chosen:
    """Which samples are asked for.

    Attributes
    ----------
    url, names
        A list of samples and the names in it; None takes all.
    conditions
        What samples must fulfil.
    excluded
        Names that this regular expression finds are left out.
    """

    url: str | None
    names: frozenset[str] | None
    conditions: tuple[Condition, ...]
    excluded: str | None = None

    @classmethod
    def of(cls, reading: Reading) -> Chosen:
        """What was asked for."""
        url = reading.samples[0] if reading.samples else None
        names = frozenset(read_list(url)) if url is not None else None
        conditions = tuple(parse_query(reading.sample_query)) if reading.sample_query else ()
        return cls(url, names, conditions, reading.exclude_samples)

    @property
    def all(self) -> bool:
        """Whether nothing was asked for."""
        return self.names is None and not self.conditions and self.excluded is None

    def rows(self, url: str, samples: list[str], known: Mapping[str, Any]) -> NDArray[np.bool_] | None:
        """Which samples of a whole table are asked for; None where all are.

        Parameters
        ----------
        url
            The table, for messages.
        samples
            Their names.
        known
            What is known of them: by the name of a column, what ``[:]`` turns into values.

        Raises
        ------
        InputError
            A sample or a column is not there.
        """
        if self.all:
            return None
        self.check_names(samples, url)
        return self.among(url, samples, known)

    def among(self, url: str, samples: list[str], known: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Which of some samples are asked for; names that are not among them do not matter."""
        kept = np.array([self.by_name(name) for name in samples], bool)
        for condition in self.conditions:
            column = next((n for n in (condition.column, condition.column.removeprefix("sample_")) if n in known), None)
            if column is None:
                raise InputError(
                    f"{url}: has no column {condition.column!r} about its samples (it has "
                    f"{', '.join(sorted(known)) or 'none'}). Correct `sample_query`, or list samples with `samples`."
                )
            values = known[column]
            values = values.to_pylist() if hasattr(values, "to_pylist") else np.asarray(values[:]).tolist()
            kept &= condition.fulfilled(values)
        return kept

    def by_name(self, name: str) -> bool:
        """Whether a sample is asked for, as far as its name tells."""
        listed = self.names is None or name in self.names
        return listed and (self.excluded is None or re.search(self.excluded, name) is None)

    def check_names(self, samples: list[str], url: str) -> None:
        """Refuse a list that names samples that are not there."""
        lost = sorted((self.names or frozenset()) - set(samples))
        if lost:
            named = ", ".join(lost[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
            raise InputError(
                f"{self.url}: {len(lost):,} of its {len(self.names or ()):,} samples are not in {url}: {named}. Take "
                "them out of the list."
            )
