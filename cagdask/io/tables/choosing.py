"""Some samples of a table, gene ids without versions, and rows of one gene added up: whatever the format.

    table --> samples that are asked for --> ids without version --> genes of one name added up --> table

What is chosen does not depend on the format, nor on what lies in rows: the same samples and genes have the same digest.
A gene that occurs more than once stands where its last row is; its rows are added in float64, in their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.gene_matching import without_version
from cagdask.io.tables.reading import Batch, Batches, Reading
from cagdask.io.tables.sample_choice import Chosen

REFUSE, SUM = "refuse", "sum"
DUPLICATES = (REFUSE, SUM)
"""What happens to genes of one name."""


def adapted(url: str, table: Batches, reading: Reading) -> Batches:
    """The table as it is asked for.

    Raises
    ------
    InputError
        A sample or a column of the query is not there; also while batches are read.
    """
    if table.column != "sample":
        return table
    chosen = Chosen(None, None, ()) if table.chosen else Chosen.of(reading)
    if chosen.all and reading.duplicate_genes == REFUSE and not reading.strip_version:
        return table
    table = replace(table, notes=list(table.notes))
    return _of_genes(url, table, reading, chosen) if table.genes_in_rows else _of_samples(url, table, reading, chosen)


def _named(names: list[str], reading: Reading) -> list[str]:
    return [without_version(name) for name in names] if reading.strip_version else names


def _as_mapping(fields: pa.Table | pa.RecordBatch | None) -> dict[str, Any]:
    return {} if fields is None else {name: fields.column(name) for name in fields.schema.names}


def _say(table: Batches, n_added: int) -> None:
    if n_added:
        table.notes.append(f"{n_added:,} rows added to others of the same gene")


# -- genes in rows ---------------------------------------------------------------------------------------------------


def _of_genes(url: str, table: Batches, reading: Reading, chosen: Chosen) -> Batches:
    kept = chosen.rows(url, table.columns, _as_mapping(table.column_metadata))
    columns, of_columns = table.columns, table.column_metadata
    if kept is not None:
        columns = [name for name, is_kept in zip(columns, kept, strict=True) if is_kept]
        of_columns = of_columns and of_columns.filter(pa.array(kept))
        _check_any(url, len(columns))
        table.notes.append(f"{len(columns):,} of {len(kept):,} samples")
    counts: Counter[str] = Counter()
    if reading.duplicate_genes == SUM:
        for names in table.row_names():
            counts.update(_named(names.to_pylist(), reading))
        _say(table, sum(counts.values()) - len(counts))
    left = {name: n for name, n in counts.items() if n > 1}
    return replace(
        table, columns=columns, column_metadata=of_columns, row_metadata=None,
        batches=_gene_batches(table, reading, kept, left),
        row_names=lambda: (pa.array(_named(names.to_pylist(), reading), pa.string()) for names in table.row_names()),
    )  # fmt: skip


def _gene_batches(
    table: Batches, reading: Reading, kept: NDArray[np.bool_] | None, left: dict[str, int]
) -> Iterator[Batch]:
    """Batches with the columns that stay; rows of one gene wait, added up, for the last of them."""
    waiting: dict[str, NDArray[np.float64]] = {}
    n = 0
    for ids, values, *rest in table.batches:
        fields = table.row_metadata.slice(n, len(ids)) if table.row_metadata is not None else rest[0] if rest else None
        n += len(ids)
        names = _named(ids.to_pylist(), reading)
        values = values if kept is None else values[:, kept]
        stays = np.ones(len(names), bool)
        repeated = [i for i, name in enumerate(names) if name in left]
        if repeated:
            values = np.array(values, np.float64)
        for i in repeated:
            name = names[i]
            values[i] = waiting.pop(name) + values[i] if name in waiting else values[i]
            left[name] -= 1
            if left[name]:
                waiting[name] = values[i].copy()
                stays[i] = False
        mask = pa.array(stays)
        yield pa.array(names, pa.string()).filter(mask), values[stays], fields and fields.filter(mask)


# -- samples in rows -------------------------------------------------------------------------------------------------


def _of_samples(url: str, table: Batches, reading: Reading, chosen: Chosen) -> Batches:
    names = _named(table.columns, reading)
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(name, []).append(i)
    columns, of_columns, groups = names, table.column_metadata, None
    if reading.duplicate_genes == SUM and len(members) < len(names):
        _say(table, len(names) - len(members))
        groups = sorted(members.values(), key=lambda rows: rows[-1])
        last = [rows[-1] for rows in groups]
        columns = [names[i] for i in last]
        of_columns = of_columns and of_columns.take(pa.array(last))
    return replace(
        table, columns=columns, column_metadata=of_columns, row_metadata=None,
        batches=_sample_batches(url, table, chosen, groups), row_names=lambda: _kept_names(table, chosen),
    )  # fmt: skip


def _kept_names(table: Batches, chosen: Chosen) -> Iterator[pa.StringArray]:
    for names in table.row_names():
        yield names.filter(pa.array([chosen.by_name(name) for name in names.to_pylist()], pa.bool_()))


def _sample_batches(url: str, table: Batches, chosen: Chosen, groups: list[list[int]] | None) -> Iterator[Batch]:
    seen: list[str] = []
    n = n_kept = 0
    for ids, values, *rest in table.batches:
        fields = table.row_metadata.slice(n, len(ids)) if table.row_metadata is not None else rest[0] if rest else None
        n += len(ids)
        if not chosen.all:
            names = ids.to_pylist()
            seen += names
            kept = chosen.among(url, names, _as_mapping(fields))
            mask = pa.array(kept)
            ids, values, fields = ids.filter(mask), values[kept], fields and fields.filter(mask)
        n_kept += len(ids)
        yield ids, values if groups is None else _added(values, groups), fields
    if not chosen.all:
        chosen.check_names(seen, url)
        _check_any(url, n_kept)
        table.notes.append(f"{n_kept:,} of {n:,} samples")


def _added(values: NDArray[Any], groups: list[list[int]]) -> NDArray[np.float64]:
    found = np.array(values[:, [rows[-1] for rows in groups]], np.float64)
    for column, rows in enumerate(groups):
        if len(rows) > 1:
            total = values[:, rows[0]].astype(np.float64)
            for row in rows[1:]:
                total += values[:, row]
            found[:, column] = total
    return found


def _check_any(url: str, n_samples: int) -> None:
    if not n_samples:
        raise InputError(
            f"{url}: no sample is what `samples`, `sample_query` and `exclude_samples` ask for. Check them."
        )
