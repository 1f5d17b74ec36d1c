"""Options of reading an input, each declared once; light, since commands import them to start."""

from __future__ import annotations

from cagdask.arguments import Option, Options

INGEST = Options(
    Option("results_key", "results", "JSON key of the list of genes of a sample; dots lead into nested objects."),
    Option("abundance_key", "depth", "JSON key of the abundance of a gene."),
    Option("gene_id_key", "id", "JSON key of the id of a gene."),
    Option(
        "orient",
        "genes-by-samples",
        "What a table has in its rows and in its columns.",
        choices=("genes-by-samples", "samples-by-genes"),
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
)
"""Of :func:`cagdask.ingest` and :func:`cagdask.run`; the order of the first four is that of a command's help."""
