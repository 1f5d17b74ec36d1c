"""What is wrong with a record of a sample JSON, in a sentence that names it.

Shared by the checks of the fast parser and by the slow one, which runs only when the fast one has refused a file: it
reads the JSON as plain objects, with the NaN and Infinity that JSON does not have, and stops at the first bad record.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from cagdask.errors import InputError
from cagdask.io.sheets.sheet import describe, json_problem

FLOAT32_MAX = float(np.finfo(np.float32).max)
CORRECT = "Correct the file and run the command again."


def in_record(sample: str, url: str, i: int, gene: Any, problem: str) -> str:
    """The sentence ``problem`` with file, sample, record (counted from 1) and gene in front."""
    named = f", gene {gene!r}" if id_problem("", gene) is None else ""
    return f"{url}: sample {sample!r}, record {i + 1}{named}: {problem}"


def value_problem(key: str, value: Any, signed: bool) -> str | None:
    """What is wrong with an abundance, or None; ``signed`` allows negative ones."""
    if isinstance(value, str):
        return f"{key!r} is {describe(value)}, not a number. Write numbers without quotes."
    if value is None:
        return f"{key!r} is null, not a number. Leave genes that were not found out of the file."
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{key!r} is {describe(value)}, not a number. {CORRECT}"
    if value != value:
        return f"{key!r} is NaN, not a number. Leave genes that were not measured out of the file."
    if value in (math.inf, -math.inf):
        return f"{key!r} is infinite ({value}). {CORRECT}"
    if abs(value) > FLOAT32_MAX:
        shown = str(value)[:24]
        return f"{key!r} is {shown}, above {FLOAT32_MAX:.3g}, the largest that float32 holds. Scale the values down."
    if value < 0 and not signed:
        return f"{key!r} is {value:g}; abundances are 0 or more. {CORRECT} (`kind='expression'` allows negative values)"
    return None


def id_problem(key: str, value: Any) -> str | None:
    """What is wrong with a gene id, or None."""
    if isinstance(value, str) and value:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return None
    return f"gene id {key!r} is {describe(value)}; it must be text, or a whole number. {CORRECT}"


def find_problem(sample: str, url: str, data: bytes, keys: tuple[str, str, str]) -> InputError | None:
    """The first thing in a sample's JSON that the parser can not have taken, or None."""
    try:
        content = json.loads(data)  # takes NaN and Infinity, which are not JSON
    except (ValueError, RecursionError):
        return json_problem(f"{url}: sample {sample!r}", data)
    results_key, abundance_key, id_key = keys
    if not isinstance(content, list):
        found, lacking = _walk(content, results_key)
        if lacking:
            return InputError(
                f"{url}: sample {sample!r}: has no key {lacking!r} {_its_keys(content)}. "
                "Name the one that holds the list of genes with `results_key`."
            )
        if not isinstance(found, list):
            return InputError(
                f"{url}: sample {sample!r}: {results_key!r} is {describe(found)}, not a list of records. "
                "Name the one that holds the list of genes with `results_key`."
            )
        content = found
    for i, record in enumerate(content):
        problem = _record_problem(record, abundance_key, id_key)
        if problem:
            gene = _walk(record, id_key)[0]
            return InputError(in_record(sample, url, i, gene, problem))
    return None


def refuse_repeated(
    sample: str, url: str, data: bytes, keys: tuple[str, str, str], n_records: int, *, is_list: bool
) -> None:
    """Refuse a sample with an object that has a key twice: a parser would take the last and say nothing.

    Parameters
    ----------
    sample, url
        For messages.
    data
        The JSON, or lines of JSON.
    keys
        Results, abundance and gene id key.
    n_records
        How many records were found.
    is_list
        Whether it is a list, or lines, of records, so that there is no results key.

    Raises
    ------
    InputError
        A key that is used, or one that leads to it, occurs twice in the same object.
    """
    path = [] if is_list else keys[0].split(".")
    of_record = [part for key in keys[1:] for part in key.split(".")]
    often = [part for part in path if _count(data, part) > 1] + [p for p in of_record if _count(data, p) > n_records]
    if not often:
        return

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next((part for part in often if names.count(part) > 1), None)
            if twice is not None:
                lost = "list of genes" if twice in path else "value"
                raise InputError(
                    f"{url}: sample {sample!r}: the key {twice!r} occurs {names.count(twice)} times in one object: one "
                    f"{lost} would be lost. " + ("Join the lists, or keep one." if twice in path else "Keep one.")
                )
        return found

    decoder, text = json.JSONDecoder(object_pairs_hook=check), data.decode()
    at = len(text) - len(text.lstrip())
    while at < len(text):  # lines of JSON are several
        _, at = decoder.raw_decode(text, at)
        while at < len(text) and text[at].isspace():
            at += 1


def _count(data: bytes, key: str) -> int:
    return data.count(json.dumps(key).encode())


def _record_problem(record: Any, abundance_key: str, id_key: str) -> str | None:
    if not isinstance(record, dict):
        return f"is {describe(record)}, not an object with {id_key!r} and {abundance_key!r}. {CORRECT}"
    gene, lacking = _walk(record, id_key)
    if lacking:
        return f"has no key {lacking!r} {_its_keys(record)}. Name the gene's with `gene_id_key`."
    value, lacking = _walk(record, abundance_key)
    if lacking:
        return f"has no key {lacking!r} {_its_keys(record)}. Name the abundance's with `abundance_key`."
    return id_problem(id_key, gene) or value_problem(abundance_key, value, signed=True)


def _walk(content: Any, path: str) -> tuple[Any, str | None]:
    """The value at a dotted path, or the first part of the path that is not there."""
    walked: list[str] = []
    for part in path.split("."):
        walked.append(part)
        if not isinstance(content, dict) or part not in content:
            return None, ".".join(walked)
        content = content[part]
    return content, None


def _its_keys(content: Any) -> str:
    if not isinstance(content, dict):
        return f"(it is {describe(content)})"
    names = ", ".join(list(content)[:8])
    return f"(it has {names}{', …' if len(content) > 8 else ''})" if names else "(it is empty)"
