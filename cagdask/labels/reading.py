"""Labels of samples, and what else is known of them, in the order of a store's samples."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

from cagdask import storage
from cagdask.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

LABEL = "label"
_NAMED = 5


def read_labels(labels: str, url: str, samples: list[str], column: str | None = None) -> pd.DataFrame:
    """Labels and covariates of the samples of a store.

    Parameters
    ----------
    labels
        A column of the store's sample metadata (``tissue`` for ``sample_tissue``), or a table (TSV, CSV) with names of
        samples in its first column.
    url, samples
        The store, and the names of its samples.
    column
        Column of the table with the label, by default its second.

    Returns
    -------
    DataFrame
        Index: names of samples in the store's order. Column ``label``, text or missing; and the other columns.

    Raises
    ------
    InputError
        There is no such column or table, or a sample has two rows.
    """
    import pandas as pd

    own = sample_metadata(url, samples)
    if not storage.exists(labels):
        if column is not None:
            raise InputError(f"{labels}: no such table of labels, and `label_column` is for a table. Check the path.")
        if labels not in own:
            raise InputError(
                f"{labels}: is neither a file nor a column of the samples of {url} (it has "
                f"{', '.join(map(str, own.columns)) or 'none'})."
            )
        return _with_label(own, own[labels])
    table = read_table(labels)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"{labels}: sample {twice!r} has more than one row. Keep one of each.")
    chosen = table.columns[0] if column is None and len(table.columns) else column
    if chosen not in table:
        raise InputError(f"{labels}: has no column {chosen!r} (it has {', '.join(map(str, table.columns)) or 'none'}).")
    unknown = table.index.difference(pd.Index(samples))
    if len(unknown) == len(table):
        raise InputError(f"{labels}: none of its {len(table):,} samples is in {url}. Check how samples are named.")
    if len(unknown):
        logger.warning("%s: %d samples are not in the store: %s", labels, len(unknown), some_of(list(unknown)))
    table = table.reindex(samples)
    for name in own.columns.difference(table.columns):
        table[name] = own[name]
    return _with_label(table, table[chosen])


def _with_label(table: pd.DataFrame, label: pd.Series) -> pd.DataFrame:
    table = table.copy()
    text = label.where(label.isna(), label.astype(str))
    table[LABEL] = text.where(text != "", None)
    without = list(table.index[table[LABEL].isna()])
    if without:
        logger.warning("%d of %d samples have no label: %s", len(without), len(table), some_of(without))
    return table


def some_of(names: list[Any]) -> str:
    """The first few of some names, for a message."""
    return ", ".join(map(str, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")


def sample_metadata(url: str, samples: list[str]) -> pd.DataFrame:
    """What a store knows of its samples: a column for each ``sample_*`` array, samples in its order."""
    import pandas as pd

    group = storage.open_group(url)
    found = {}
    for name in sorted(group.array_keys()):
        array: Any = group[name]
        if name.startswith("sample_") and name != "sample_id" and array.shape == (len(samples),):
            values = array[:]
            found[name.removeprefix("sample_")] = list(map(str, values)) if values.dtype.kind in "OUT" else values
    return pd.DataFrame(found, index=samples)


def read_table(url: str) -> pd.DataFrame:
    """A TSV or CSV with names of samples in its first column, which is the index; a name may occur twice.

    Raises
    ------
    InputError
        It is empty or no table.
    """
    import pandas as pd

    data = storage.read_bytes(url)
    if not data.strip():
        raise InputError(f"{url}: the table of labels is empty. Check the file.")
    first = data.splitlines()[0]
    mark = "," if b"," in first and b"\t" not in first else "\t"
    names = first.decode().split(mark)
    try:
        table = pd.read_csv(io.BytesIO(data), sep=mark, index_col=0, dtype={0: str, names[0]: str})
    except ValueError as err:
        raise InputError(f"{url}: can not be read as a table ({str(err).splitlines()[0]}). Check the file.") from err
    table.index = table.index.astype(str)
    return table
