"""Options of reading an input, each declared once; light, since commands import them to start."""

from __future__ import annotations

from typing import TypedDict

from cagdask.arguments import Option, Options


class IngestOptions(TypedDict, total=False):
    """Options that :func:`cagdask.run` hands to :func:`cagdask.ingest`."""

    results_key: str
    abundance_key: str
    gene_id_key: str
    orient: str
    kind: str
    on_bad_sample: str
    gene_column: str | None
    no_header: bool
    value_column: str | None
    metadata: str | None
    metadata_columns: str | None
    keep_columns: str | None
    gene_metadata: str | None
    exclude_genes: str | None
    exclude_unmapped: bool
    stratified: str
    variable: str | None
    matrix: str | None
    duplicate_genes: str
    strip_version: bool
    samples: str | None
    sample_query: str | None
    exclude_samples: str | None
    totals: str


INGEST = Options(
    Option("results_key", "results", "JSON key of the list of genes of a sample; dots lead into nested objects."),
    Option("abundance_key", "depth", "JSON key of the abundance of a gene."),
    Option("gene_id_key", "id", "JSON key of the id of a gene."),
    Option(
        "orient",
        "auto",
        "What a table has in its rows and in its columns; auto: as the format says, else genes in rows.",
        choices=("auto", "genes-by-samples", "samples-by-genes"),
    ),
    Option(
        "kind",
        "abundance",
        "What the values are: abundances are 0 or more, the others may be negative.",
        choices=("abundance", "expression", "embedding"),
    ),
    Option(
        "on_bad_sample",
        "stop",
        "What to do when a sample file can not be used: stop at once; finish reading the others, then stop and name "
        "all that are bad; or skip it, with a warning.",
        choices=("stop", "finish", "skip"),
    ),
    Option("gene_column", None, "Column that names the rows of a table.", optional=True, metavar="NAME"),
    Option("no_header", False, "The first line of a text table is data.", kind=bool),
    Option(
        "value_column", None, "Column of the abundances in files of one sample each.", optional=True, metavar="NAME"
    ),
    Option("metadata", None, "Table about the samples, joined by its first column.", optional=True, metavar="FILE"),
    Option(
        "metadata_columns",
        None,
        "Columns of the table that describe its rows and hold no values, with commas between them.",
        optional=True,
        metavar="NAMES",
    ),
    Option("keep_columns", None, "Columns that hold values, whatever their names say.", optional=True, metavar="NAMES"),
    Option("gene_metadata", None, "Table about the genes, joined by its first column.", optional=True, metavar="FILE"),
    Option(
        "exclude_genes", None, "Leave out genes whose id this regular expression finds.", optional=True, metavar="REGEX"
    ),
    Option(
        "exclude_unmapped", False, "Leave out counters, UNMAPPED and rows of totals, which are no genes.", kind=bool
    ),
    Option(
        "stratified", "keep", "Rows FAMILY|SPECIES beside FAMILY: keep them, or drop them.", choices=("keep", "drop")
    ),
    Option(
        "variable",
        None,
        "Array of a Zarr store that others wrote, or of a geneshot file.",
        optional=True,
        metavar="NAME",
    ),
    Option(
        "duplicate_genes",
        "refuse",
        "The same gene twice in a table, or in a sample of a sheet: refuse, or add them up.",
        choices=("refuse", "sum"),
    ),
    Option("strip_version", False, "Take versions off Ensembl ids: ENSG00000223972.5 is ENSG00000223972.", kind=bool),
    Option(
        "samples",
        None,
        "List of the samples to read, one a line; the others are left out.",
        optional=True,
        metavar="FILE",
    ),
    Option(
        "sample_query",
        None,
        "Samples to read, by what the table says of them: 'COLUMN=VALUE', with =, !=, ~ (regular expression), <, <=, > "
        "or >=, joined by ' and '.",
        optional=True,
        metavar="QUERY",
    ),
    Option(
        "exclude_samples",
        None,
        "Leave out samples of a table whose name this regular expression finds.",
        optional=True,
        metavar="REGEX",
    ),
    Option(
        "totals",
        "refuse",
        "A sample of a table that is the sum or the mean of the others: refuse, or keep.",
        choices=("refuse", "keep"),
    ),
    Option("matrix", None, "Matrix of an .h5ad: X, raw, layers/NAME or varm/NAME.", optional=True, metavar="NAME"),
)
"""Of :func:`cagdask.ingest` and :func:`cagdask.run`; the order of the first four is that of a command's help."""
READING = tuple(
    INGEST[name]
    for name in (
        "gene_column", "no_header", "value_column", "metadata", "metadata_columns", "keep_columns", "gene_metadata",
        "exclude_genes", "exclude_unmapped", "stratified", "variable", "matrix", "duplicate_genes", "strip_version",
        "samples", "sample_query", "exclude_samples", "totals",
    )
)  # fmt: skip
"""How to read tables of other programs."""
