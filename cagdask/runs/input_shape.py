"""How large an input is: exactly for a store or a table, by an estimate for a sample sheet.

    sheet   sizes of all files, and the genes of a few
    table   its header, its rows counted                -->  Shape
    store   its metadata

The genes of a sheet are those of all its samples together, which only reading them all would tell. A few tell enough:
genes that were found in one of them only mean that others were found in none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cagdask import storage, stores

if TYPE_CHECKING:
    import pyarrow as pa

    from cagdask.io.sheets.sheet import SampleFile
    from cagdask.io.tables.reading import Reading

LOOKED_AT = 32
"""Sample files of a sheet that are read, at most, to estimate the number of genes."""
LOOK_BYTES = 2**26
"""Bytes of them together, as they lie on disk, if there are more than two."""
STORED_VALUE = 4.5
"""Bytes of a value that is not 0 in a compressed store, about."""


@dataclass(frozen=True)
class Shape:
    """What is known of an input.

    Attributes
    ----------
    source
        Where it is.
    format
        ``sheet``, ``table`` or ``store``.
    n_genes, n_samples
        Size of the matrix.
    n_values
        Entries that are not 0.
    largest_bytes, largest_values
        Of the largest sample file, decompressed; 0 for a store.
    id_bytes
        Text of all gene names in all samples.
    n_looked_at
        Sample files that were read to estimate ``n_genes`` and the numbers after it; 0 if they are exact.
    """

    source: str
    format: str
    n_genes: int
    n_samples: int
    n_values: int = 0
    largest_bytes: int = 0
    largest_values: int = 0
    id_bytes: int = 0
    n_looked_at: int = 0

    @property
    def estimated(self) -> bool:
        """Whether the number of genes is an estimate."""
        return self.n_looked_at > 0


def measure(source: str, *, keys: tuple[str, str, str], orient: str) -> Shape:
    """Find out the shape of an input: exactly for a store or table, by an estimate for a sheet.

    Raises
    ------
    InputError, StoreError, SchemaError
        It can not be used.
    """
    from cagdask.io.sheets.cohorts import samples_of
    from cagdask.io.tables.reading import Reading

    url = stores.abundance_url(source)
    if stores.is_store(url):
        return _measure_store(url)
    reading = Reading(orient=orient)
    cohort = samples_of(url, reading)
    if cohort is not None:
        return _measure_sheet(url, cohort.files, keys)
    return _measure_table(url, reading)


def _measure_store(url: str) -> Shape:
    from cagdask import schema
    from cagdask.reports import tables

    ds = storage.look(url)
    name = schema.value_name(ds.attrs.get("kind", "abundance"))
    schema.validate(ds, name, where=url)
    n_genes, n_samples = ds[name].shape
    return Shape(url, "store", n_genes, n_samples, n_values=int(tables.tree_size(url) / STORED_VALUE))


def _measure_table(url: str, reading: Reading) -> Shape:
    from cagdask.io.tables.formats import open_table

    with open_table(url, reading) as table:
        n_rows = sum(len(batch[0]) for batch in table.batches)
        n_genes, n_samples = (n_rows, len(table.columns)) if table.genes_in_rows else (len(table.columns), n_rows)
    return Shape(url, "table", n_genes, n_samples, n_values=n_genes * n_samples)


def _measure_sheet(url: str, files: list[SampleFile], keys: tuple[str, str, str]) -> Shape:
    chosen = _choose(files)
    count = len(chosen)
    looks = [_look_into(file, keys) for file in chosen]
    n_bytes = max(1, sum(file.size for file in chosen))
    values_per_byte = sum(len(ids) for ids, _ in looks) / n_bytes
    text_per_byte = sum(size for _, size in looks) / n_bytes
    total, largest = sum(file.size for file in files), max(file.size for file in files)
    n_values = round(total * values_per_byte)
    n_seen_in, id_bytes = _recurrence([ids for ids, _ in looks])
    return Shape(
        url,
        "sheet",
        n_genes=max(1, estimate_genes(n_seen_in, count, len(files), n_values)),
        n_samples=len(files),
        n_values=n_values,
        largest_bytes=round(largest * text_per_byte),
        largest_values=round(largest * values_per_byte),
        id_bytes=round(total * id_bytes / n_bytes),
        n_looked_at=count if count < len(files) else 0,
    )


def _choose(files: list[SampleFile]) -> list[SampleFile]:
    """Choose sample files of all sizes, few enough to be read at once."""
    by_size = sorted(files, key=lambda file: file.size)
    for count in range(min(LOOKED_AT, len(files)), 2, -1):
        chosen = [by_size[(2 * i + 1) * len(by_size) // (2 * count)] for i in range(count)]
        if sum(file.size for file in chosen) <= LOOK_BYTES:
            return chosen
    return by_size[:2]


def _look_into(file: SampleFile, keys: tuple[str, str, str]) -> tuple[pa.StringArray, int]:
    """Gene names of a sample, and its size decompressed."""
    from cagdask.io.sheets.quantified import read_quantified
    from cagdask.io.sheets.samples import is_json, parse_records
    from cagdask.io.sheets.sheet import read_plain
    from cagdask.io.tables.reading import Reading

    data = read_plain(file.url, f"file of sample {file.sample!r}")
    if not is_json(data):
        return read_quantified(file.sample, file.url, Reading())[0], len(data)
    ids, _ = parse_records(file.sample, file.url, data, keys)
    return ids, len(data)


def _recurrence(looks: list[pa.StringArray]) -> tuple[list[int], int]:
    """Genes found in exactly 1, 2, … of some samples, and the text of all names."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pa.chunked_array(looks, pa.string())
    times = np.asarray(names.value_counts().field("counts")) if len(names) else np.zeros(0, np.int64)
    return np.bincount(times, minlength=len(looks) + 1)[1:].tolist(), int(pc.sum(pc.binary_length(names)).as_py() or 0)


def estimate_genes(n_seen_in: list[int], n_looked_at: int, n_samples: int, n_values: int) -> int:
    """Guess how many genes all samples have together from how often those of a few samples recur (Chao2).

    Parameters
    ----------
    n_seen_in
        Genes found in exactly 1, 2, … of the samples looked at.
    n_looked_at
        Samples looked at.
    n_samples, n_values
        Samples, and genes over all samples, each counted as often as it occurs.

    References
    ----------
    .. [1] Chao (1987). Estimating the population size for capture-recapture data with unequal catchability.
    """
    seen = sum(n_seen_in)
    if n_looked_at >= n_samples:
        return seen
    once, twice = [*n_seen_in, 0, 0][:2]
    unseen = (n_looked_at - 1) / n_looked_at * once * max(0, once - 1) / (2 * (twice + 1))
    return max(1, seen, min(round(seen + unseen), n_values))
