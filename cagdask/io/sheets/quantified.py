"""Samples as other tools write them: one file of counts or abundances each, recognised by its header.

    Name Length EffectiveLength TPM NumReads     --> ids 'Name', abundances 'TPM'      (salmon)
    orf_1 12 / … / __no_feature 50               --> no header, counters left out      (htseq-count)
    aux/ids, est_counts, aux/eff_lengths         --> TPM                                (kallisto's .h5)

Which column is taken is said; ``value_column`` takes another.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables.formats import kind_of, readable
from cagdask.io.tables.hdf5 import names_of, open_hdf5
from cagdask.io.tables.labels import label_columns
from cagdask.io.tables.look import Look, look
from cagdask.io.tables.reading import Reading
from cagdask.io.tables.streams import damage_named
from cagdask.io.tables.text import Table
from cagdask.io.tables.tools import COUNTERS, Tool, recognise_single

PACKED = (b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\x89HDF", b"PAR1", b"\xff\xfe", b"\xfe\xff")
"""How files begin that are not plain text, and are read all the same."""

Sample = tuple[pa.StringArray, NDArray[np.float64], list[str], list[str]]


def read_quantified(sample: str, url: str, reading: Reading) -> Sample:
    """Ids and abundances of a sample; the names of results, abundance and id for messages; what was taken for granted.

    Raises
    ------
    InputError
        It is of no layout that is known, or several columns may hold the abundances.
    """
    kind = kind_of(url)
    if kind == "hdf5":
        return _kallisto(sample, url)
    if kind != "text":
        raise InputError(f"{url}: sample {sample!r} is {kind}. A sample is JSON, or a tool's table as text.")
    seen, star = _looked(url, reading)
    tool = Tool("STAR", seen.names[0], seen.names[1]) if star else recognise_single(seen.names)
    ids = reading.gene_column or (tool.ids if tool else None)
    value = _star_column(seen, reading.value_column) if star else reading.value_column
    value = value or (tool.value if tool else None)
    asked = replace(reading, orient="genes-by-samples", gene_column=ids, value_column=value)
    labels = label_columns(url, seen.names, seen.kinds, asked, genes_in_rows=True, numbered=seen.numbered)
    if len(labels.values) != 1:
        named = ", ".join(repr(seen.names[i]) for i in labels.values[:8])
        raise InputError(
            f"{url}: sample {sample!r} has {len(labels.values)} columns of values ({named}). "
            "Name one with `value_column`."
        )
    labels.fields, labels.dropped = [], []
    column = seen.names[labels.values[0]]
    table = Table(url, seen, labels, [column], asked)
    with damage_named(url, f"text of {len(seen.names)} columns"):
        batches = list(table.batches())
    genes = pa.concat_arrays([pa.array([], pa.string()), *(batch[0] for batch in batches)])
    values = np.concatenate([np.zeros(0), *(batch[1][:, 0] for batch in batches)])
    counters = np.asarray(pc.match_substring_regex(genes, f"^(?:{COUNTERS.pattern})$", ignore_case=True))
    genes, values = genes.filter(pa.array(~counters)), values[~counters]
    named = tool.name if tool else "htseq-count" if counters.any() else "tables"
    return genes, values, ["", column, seen.names[labels.ids]], [f"{named}, column {column!r}"]


def _looked(url: str, reading: Reading) -> tuple[Look, bool]:
    """The first lines of a text, and whether they are STAR's."""
    with readable(url, "text") as handle:
        first = handle.readline(10_000)
    star = first.startswith(b"N_unmapped")
    no_header = reading.no_header or star or _is_data(first)
    with readable(url, "text") as handle:
        return look(url, handle, no_header=no_header), star


def _is_data(line: bytes) -> bool:
    """Whether a first line is a gene and its count, as htseq-count begins."""
    return re.fullmatch(rb"[^\s#][^\t\n]*\t\d+(\.\d+)?\r?\n?", line) is not None


def _star_column(seen: Look, asked: str | None) -> str | None:
    """STAR's columns are 2 (unstranded), 3 and 4, as its manual counts them."""
    if asked in ("2", "3", "4"):
        return seen.names[int(asked) - 1]
    return asked


def _kallisto(sample: str, url: str) -> Sample:
    with readable(url, "HDF5") as handle, open_hdf5(url, handle) as file:
        held: dict[str, Any] = {name: file.get(name) for name in ("aux/ids", "aux/eff_lengths", "est_counts")}
        missing = [name for name, array in held.items() if not hasattr(array, "dtype")]
        if missing:
            raise InputError(f"{url}: sample {sample!r}: has no {missing[0]}, as kallisto's .h5 has. Check the file.")
        genes = names_of(url, held["aux/ids"], "aux/ids")
        counts, lengths = (np.asarray(held[name][:], np.float64) for name in ("est_counts", "aux/eff_lengths"))
    if counts.shape != (len(genes),) or lengths.shape != counts.shape or not (lengths > 0).all():
        raise InputError(
            f"{url}: sample {sample!r}: counts and lengths do not fit its {len(genes):,} ids. Write it again."
        )
    rate = counts / lengths
    total = float(rate.sum())
    values = rate * (1e6 / total) if total > 0 else rate
    return pa.array(genes, pa.string()), values, ["", "tpm", "aux/ids"], ["kallisto, TPM"]
