"""What was asked for beside the file, and what every reader of a table gives back.

    bytes --sniffed--> reader --> Batches: row names, values, what else is known of the row

A reader is one function per format. All give :class:`Batches`, so what follows (checks, rows that are no genes, parts
of the store) is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

BATCH_BYTES = 8 * 2**20
"""Values that a reader has in memory at once, as float64."""
AUTO = "auto"
GENES_IN_ROWS, SAMPLES_IN_ROWS = "genes-by-samples", "samples-by-genes"
ORIENTATIONS = (AUTO, GENES_IN_ROWS, SAMPLES_IN_ROWS)
STRATIFIED = ("keep", "drop")


@dataclass(frozen=True)
class Reading:
    """Options of reading a table.

    Attributes
    ----------
    orient
        What is in rows; ``auto``: as the format says, genes where it does not.
    gene_column
        Column that names the rows.
    no_header
        Whether the first line is data.
    metadata_columns
        Columns that describe the rows and are no values.
    keep_columns
        Columns that are values although their names say otherwise.
    value_column
        Of files with one sample: the column of the values.
    variable, matrix
        Which array of a foreign Zarr store; which matrix of an .h5ad.
    exclude_genes
        Genes whose id this regular expression finds are left out.
    exclude_unmapped
        Leave out counters and rows of what was not mapped.
    stratified
        ``drop`` leaves out rows ``FAMILY|SPECIES``.
    duplicate_genes
        Genes of one name: ``refuse``, or ``sum`` of their rows.
    strip_version
        Take versions off Ensembl ids.
    samples
        A list of the samples to read: its URL and the digest of its bytes; empty for all.
    sample_query
        Conditions on what the table itself knows of its samples.
    exclude_samples
        Samples whose name this regular expression finds are left out.
    totals
        Samples that are the sum of the others: ``refuse``, or ``keep`` them.
    budget
        Bytes that a task may use, where that is known: formats that are read as a whole have to fit.
    scratch
        Folder of this machine for a file that is needed while a table is read; by default that of the system.
    """

    orient: str = AUTO
    gene_column: str | None = None
    no_header: bool = False
    metadata_columns: tuple[str, ...] = ()
    keep_columns: tuple[str, ...] = ()
    value_column: str | None = None
    variable: str | None = None
    matrix: str | None = None
    exclude_genes: str | None = None
    exclude_unmapped: bool = False
    stratified: str = "keep"
    duplicate_genes: str = "refuse"
    strip_version: bool = False
    samples: tuple[str, ...] = ()
    sample_query: str | None = None
    exclude_samples: str | None = None
    totals: str = "refuse"
    budget: int | None = None
    scratch: str | None = None

    @classmethod
    def of(cls, content: dict[str, Any]) -> Reading:
        """From JSON, where tuples became lists."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**plain)

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        usual = asdict(Reading())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}

    @property
    def genes_in_rows(self) -> bool:
        """Whether rows are genes, where the format does not say."""
        return self.orient != SAMPLES_IN_ROWS

    def describes(self, column: str) -> bool:
        """Whether a column is asked for as one that holds no values."""
        return column in self.metadata_columns or self.value_column not in (None, column)


def names_in(given: Any) -> tuple[str, ...]:
    """Names of columns, given as a list or as text with commas between them."""
    if given is None:
        return ()
    return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else tuple(given)


def reading_of(options: dict[str, Any]) -> Reading:
    """What the arguments of :func:`cagdask.ingest` ask for."""
    asked = {name: options[name] for name in asdict(Reading()) if name not in ("budget", "scratch")}
    for name in ("metadata_columns", "keep_columns"):
        asked[name] = names_in(asked[name])
    asked["samples"] = tuple(asked["samples"] or ())
    return Reading.of(asked)


Batch = tuple[pa.StringArray, NDArray[Any]] | tuple[pa.StringArray, NDArray[Any], pa.RecordBatch | None]


@dataclass
class Batches:
    """An opened table.

    Attributes
    ----------
    id_name
        Header of the column of row names.
    columns
        Names of the value columns.
    genes_in_rows
        Whether rows are genes.
    batches
        Row names, shape (rows,), values, shape (rows, columns), NaN where a cell holds no number, and, where there are
        any, other fields of the rows.
    row_names
        Reads the row names alone, from the start.
    column
        What a column is, for messages: ``sample``, or ``component`` of vectors.
    column_metadata
        Other fields of the columns, one row each.
    row_metadata
        Other fields of all rows, where the format holds them apart; one row each.
    settled
        Whether the format says what is in rows, so that shape and names need not be asked.
    chosen
        Whether the reader itself left out samples that are not asked for.
    n_left_out
        Rows that the reader left out as empty.
    notes
        What the reader took for granted and the user should know.
    """

    id_name: str
    columns: list[str]
    genes_in_rows: bool
    batches: Iterator[Batch]
    row_names: Callable[[], Iterator[pa.StringArray]]
    column: str = "sample"
    column_metadata: pa.Table | None = None
    row_metadata: pa.Table | None = None
    settled: bool = False
    chosen: bool = False
    n_left_out: int = 0
    notes: list[str] = field(default_factory=list)


Opener = Callable[[str, Any, Reading], AbstractContextManager[Batches]]
