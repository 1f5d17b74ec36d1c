"""Symbols and descriptions of genes, from a table or a JSON object.

.tsv .csv .parquet    columns ``id`` (or the first), and ``symbol``, ``description`` or both
.json                 gene -> description, or null where there is none
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cagdask import storage
from cagdask.errors import InputError
from cagdask.io.tables import formats

if TYPE_CHECKING:
    import pandas as pd

SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_name", "name")
DESCRIPTION_COLUMNS = ("description", "gene_description")


def read_descriptions(url: str) -> dict[str, tuple[str, str]]:
    """Symbol and description by gene id; an empty text where there is none.

    Raises
    ------
    InputError
        The file is missing, is not of these formats, has no such columns, or a gene twice.
    """
    if not storage.exists(url):
        raise InputError(f"{url}: no such table of descriptions. Check the path.")
    plain = url.lower().removesuffix(".gz")
    with formats.readable(url, "descriptions") as handle:
        if plain.endswith(".json"):
            return _from_json(url, handle.read())
        return _from_table(url, _table(url, handle, plain))


def _from_json(url: str, data: bytes) -> dict[str, tuple[str, str]]:
    try:
        content = json.loads(data)
    except ValueError as err:
        raise InputError(f"{url}: is no JSON ({err}). Write an object of gene -> description.") from err
    if not isinstance(content, dict):
        raise InputError(f"{url}: holds {type(content).__name__}, needs an object of gene -> description.")
    return {gene: ("", "" if text is None else str(text)) for gene, text in content.items()}


def _table(url: str, handle: Any, plain: str) -> pd.DataFrame:
    import pandas as pd

    try:
        if plain.endswith(".parquet"):
            return pd.read_parquet(handle).reset_index(drop=False)
        if plain.endswith((".tsv", ".csv", ".txt")):
            separator = "," if plain.endswith(".csv") else "\t"
            return pd.read_csv(handle, sep=separator, dtype=str, keep_default_na=False, na_values=[])
    except (ValueError, OSError) as err:
        raise InputError(f"{url}: can not be read as a table ({str(err).splitlines()[0]}). Write it again.") from err
    raise InputError(f"{url}: of unknown format. Descriptions are .tsv, .csv, .parquet or .json.")


def _from_table(url: str, table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    by_name = {str(name).strip().lower(): name for name in table.columns}
    at = {
        what: next((by_name[name] for name in names if name in by_name), None)
        for what, names in (("symbol", SYMBOL_COLUMNS), ("description", DESCRIPTION_COLUMNS))
    }
    if at["symbol"] is None and at["description"] is None:
        raise InputError(
            f"{url}: has the columns {', '.join(map(str, table.columns))}; needs id, and symbol or description."
        )
    known = next((by_name[name] for name in formats.GENE_COLUMNS if name and name in by_name and name != "index"), None)
    ids = table[known if known is not None else table.columns[0]].astype(str)
    if ids.duplicated().any():
        raise InputError(f"{url}: gene {ids[ids.duplicated()].iloc[0]!r} occurs more than once. Keep one of each.")
    texts = [
        table[at[what]].fillna("").astype(str).tolist() if at[what] is not None else [""] * len(table)
        for what in ("symbol", "description")
    ]
    return dict(zip(ids.tolist(), zip(*texts, strict=True), strict=True))


def write_descriptions(staged: str, given: dict[str, tuple[str, str]]) -> int:
    """Add ``gene_symbol`` and ``gene_description`` to an unpublished store; gives how many genes have one."""
    group = storage.open_group(staged, writable=True)
    ids: Any = group["gene_id"]
    found = [given.get(str(name), ("", "")) for name in ids[:]]
    for part, name in enumerate(("gene_symbol", "gene_description")):
        texts = np.array([pair[part] for pair in found], np.dtypes.StringDType())
        if (texts != "").any():
            storage.write_array(group, name, texts)
    return sum(any(pair) for pair in found)
