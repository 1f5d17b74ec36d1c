r"""What is known of genes and samples beside their values: stored as ``gene_*`` and ``sample_*``, typed.

columns of the table itself ---\\
                                    >--> whole numbers, numbers or text --> gene_length, sample_diagnosis, …
--metadata, --gene-metadata ---/
"""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cagdask import schema, storage
from cagdask.errors import InputError
from cagdask.io.sheets.sheet import stat

logger = logging.getLogger(__name__)

_SHOWN = 5
FREE = ("gene_length", "gene_symbol", "gene_description")
"""Names of the data model that metadata may fill."""


def write_fields(url: str, table: pa.Table | None) -> str | None:
    """Keep metadata in a file until the store is there; None where there is none."""
    if table is None or not table.num_columns:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="lz4")
    storage.write_bytes(url, sink.getvalue().to_pybytes())
    return url


def read_fields(url: str | None) -> pa.Table | None:
    """What :func:`write_fields` kept."""
    return None if url is None else pq.read_table(pa.BufferReader(storage.read_bytes(url)))


def read_metadata(url: str, *, of_genes: bool) -> pa.Table:
    """A table of metadata: its first column, called ``id``, names the samples or genes, all others describe them.

    Raises
    ------
    InputError
        It is missing, no table, or names one twice.
    """
    from cagdask.io.tables.formats import kind_of, readable
    from cagdask.io.tables.labels import GENE_NAMES, SAMPLE_NAMES
    from cagdask.io.tables.look import look

    if not storage.exists(url):
        raise InputError(f"{url}: no such table of metadata. Check the path.")
    kind = kind_of(url)
    known = GENE_NAMES if of_genes else SAMPLE_NAMES
    if kind == "parquet":
        with readable(url, "Parquet") as handle:
            table = pq.read_table(handle)
        names = list(table.schema.names)
    elif kind == "text":
        with readable(url, "a table of metadata") as handle:
            seen = look(url, handle)
        names = seen.names
        table = read_cells(url, seen)
    else:
        raise InputError(f"{url}: is {kind}; metadata are read from text (TSV, CSV) and Parquet. Convert it.")
    lowered = [name.strip().lower() for name in names]
    at = lowered.index("") if lowered[0] == "" else next((lowered.index(n) for n in known if n and n in lowered), 0)
    ids = pa.array([str(value).strip() for value in table.column(at).to_pylist()], pa.string())
    twice = [row["values"].as_py() for row in ids.value_counts() if row["counts"].as_py() > 1]
    if twice:
        raise InputError(f"{url}: {twice[0]!r} occurs more than once in column {names[at]!r}. Keep one row of each.")
    rest = [(name, table.column(i)) for i, name in enumerate(names) if i != at and name.strip()]
    return pa.table({"id": ids} | {name: column for name, column in rest if name != "id"})


def read_cells(url: str, seen: Any, what: str = "a table of metadata") -> pa.Table:
    """A small text table as a whole, every cell as text; ``what`` it is, for messages."""
    import pyarrow.csv as pa_csv

    from cagdask.io.tables.formats import readable
    from cagdask.io.tables.text import Tabbed

    with readable(url, what) as handle:
        for _ in range(seen.n_skipped):
            handle.readline()
        names = [str(i) for i in range(len(seen.names))]
        blanks = seen.separator == " "
        return pa_csv.read_csv(
            pa.PythonFile(io.BufferedReader(Tabbed(handle)) if blanks else handle, "r"),
            pa_csv.ReadOptions(column_names=names, use_threads=False),
            pa_csv.ParseOptions(delimiter="\t" if blanks else seen.separator, quote_char='"' if seen.quoted else False),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )


def joined(url: str, table: pa.Table, names: list[str], what: str) -> pa.Table:
    """Rows of metadata in the order of ``names``, null where there is none; says how many match.

    Raises
    ------
    InputError
        None matches.
    """
    row_of = {name: row for row, name in enumerate(table.column("id").to_pylist())}
    rows = [row_of.get(name) for name in names]
    missing = [name for name, row in zip(names, rows, strict=True) if row is None]
    if len(missing) == len(names):
        raise InputError(
            f"{url}: none of its {len(row_of):,} names is a {what} (it has {next(iter(row_of), '')!r}, the {what}s are "
            f"{names[0]!r}, …). Check that its first column names the {what}s."
        )
    unused = len(row_of) - (len(names) - len(missing))
    if missing or unused:
        said = []
        if missing:
            named = f"{', '.join(map(repr, missing[:_SHOWN]))}{', …' if len(missing) > _SHOWN else ''}"
            said.append(f"{len(missing):,} of {len(names):,} {what}s have no metadata ({named})")
        if unused:
            said.append(f"{unused:,} of its rows are of no {what}")
        logger.warning("%s: %s", url, "; ".join(said))
    return table.take(pa.array(rows, pa.int64())).drop_columns(["id"])


def store_fields(staged: str, table: pa.Table | None, *, of_genes: bool) -> list[str]:
    """Add metadata to an unpublished store; gives the names of its new variables.

    Raises
    ------
    InputError
        Two columns would have the same name.
    """
    from cagdask.io.tables.arrow import typed
    from cagdask.io.tables.labels import field_name

    if table is None:
        return []
    group = storage.open_group(staged, writable=True)
    dim = "gene" if of_genes else "sample"
    written: list[str] = []
    for column in table.schema.names:
        name = f"{dim}_{field_name(column, of_genes=of_genes)}"
        while name in written or (name in schema.VARIABLES and name not in FREE) or name in ("gene_id", "sample_id"):
            name += "_given"
        values, attrs = _stored(name, typed(table.column(column)))
        storage.write_array(group, name, values, dims=(dim,), attrs={"long_name": column} | attrs)
        written.append(name)
    storage.finish_group(group)
    return written


def _stored(name: str, values: NDArray[Any]) -> tuple[NDArray[Any], dict[str, str]]:
    """Values as the store holds them, and their attributes: lengths are whole base pairs where they can be."""
    if name == "gene_length" and values.dtype.kind in "iuf":
        known = np.where(np.isfinite(values.astype(float)), values, -1)
        if np.array_equal(known, np.round(known)):
            return known.astype(np.int64), {"units": "bp"}
        return values, {"units": "bp"}
    if values.dtype.kind == "O":
        return np.array([str(v) if v is not None else "" for v in values], np.dtypes.StringDType()), {}
    return values, {}


# -- for ingest ------------------------------------------------------------------------------------------------------


def given_metadata(
    samples: str | None, genes: str | None, recipe: dict[str, Any]
) -> dict[bool, tuple[str, pa.Table] | None]:
    """Tables of ``metadata`` and ``gene_metadata``, by whether they are about genes; checked before any work."""
    found: dict[bool, tuple[str, pa.Table] | None] = {False: None, True: None}
    for of_genes, url, name in ((False, samples, "metadata"), (True, genes, "gene_metadata")):
        if url is not None:
            whole = storage.absolute(url)
            found[of_genes] = whole, read_metadata(whole, of_genes=of_genes)
            recipe[name] = [whole, *(stat(whole) or ())]
    return found


def add_metadata(staged: str, said: dict[str, Any], given: dict[bool, tuple[str, pa.Table] | None]) -> dict[str, Any]:
    """Store what is known of genes and samples; names of the new variables, ``kept_sample`` and ``kept_gene``."""
    kept = {}
    for of_genes, what in ((False, "sample"), (True, "gene")):
        own = said.get("sample_table") if what == "sample" else None
        own = read_fields(said.get(f"{what}_fields")) if own is None else own
        written = store_fields(staged, own, of_genes=of_genes)
        if (table := given[of_genes]) is not None:
            names = [str(name) for name in np.asarray(storage.open_array(staged, f"{what}_id")[:])]
            written += store_fields(staged, joined(*table, names, what), of_genes=of_genes)
        kept[f"kept_{what}"] = written
    return kept


def understood(kind: str, n_genes: int, n_others: int, said: dict[str, Any]) -> str:
    """What was read, in one line: ``1,931 genes × 165 samples; ids from 'gene'; kept gene_width; 4 rows left out``."""
    other = "components" if kind == "embedding" else "samples"
    parts = [f"{n_genes:,} genes × {n_others:,} {other}"]
    if said.get("id_name"):
        parts.append(f"ids from {said['id_name']!r}")
    if said.get("sample_id_name"):
        parts.append(f"samples from {said['sample_id_name']!r}")
    parts += said.get("notes", [])
    names = [*said.get("kept_sample", []), *said.get("kept_gene", [])]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        parts.append(f"kept {', '.join(names[:_SHOWN])}{more}")
    if said.get("n_left_out"):
        parts.append(f"{said['n_left_out']:,} rows left out")
    return "; ".join(parts)
