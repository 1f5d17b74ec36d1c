"""``--help`` by task: options of a command under headings, what decides the result first, and an example below."""

from __future__ import annotations

import click

METHOD = "Method"
HEADINGS = {
    METHOD: (),  # all that is not below: what decides the result
    "Input": (
        "results_key", "abundance_key", "gene_id_key", "orient", "kind", "on_bad_sample", "gene_column", "no_header",
        "value_column", "metadata", "metadata_columns", "keep_columns", "gene_metadata", "exclude_genes",
        "exclude_unmapped", "stratified", "variable", "matrix", "ids", "descriptions", "missing", "id_column",
        "clustered", "labels", "label_column", "label_kind", "query_file", "candidates", "topology", "lengths",
        "length_column", "reference", "fitted", "to",
    ),
    "Output": ("output", "store", "shards", "picture", "link", "overwrite", "as_json"),
    "Where to compute": (
        "workers", "n_workers", "memory_limit", "scheduler", "scheduler_file", "cluster", "tls_ca_file", "tls_cert",
        "tls_key",
    ),
    "S3": ("endpoint_url", "region", "profile", "anonymous", "s3_option"),
    "Messages": ("verbose", "no_progress", "help"),
}  # fmt: skip
"""Headings of a command's help in their order, and the parameters under each."""
_READS_STORE = ("cut",)  # commands whose --store is read, not made
EXAMPLES = {
    "run": (
        "cagdask run sample_sheet.json --output my-cags",
        "cagdask run counts.tsv --output my-cags --metadata samples.tsv",
        "cagdask run s3://bucket/sheet.json --output s3://bucket/my-cags --scheduler tcp://host:8786",
    ),
    "ingest": (
        "cagdask ingest sample_sheet.json --store abundance.zarr",
        "cagdask ingest vectors.npz --kind embedding --store vectors.zarr",
    ),
    "cluster": ("cagdask cluster abundance.zarr --output my-cags --max-dist 0.1",),
    "cut": ("cagdask cut my-cags --sweep", "cagdask cut my-cags --max-dist 0.1 --output finer.zarr"),
    "assign": ("cagdask assign abundance.zarr --to my-cags --output assigned.zarr",),
    "normalize": ("cagdask normalize counts.zarr --method tpm --lengths genes.gtf --output tpm.zarr",),
    "test": ("cagdask test my-cags --labels diagnosis --output test.tsv",),
    "similar": ("cagdask similar vectors.zarr INS", "cagdask similar my-cags 0 -k 20"),
    "analogy": ("cagdask analogy vectors.zarr GENE_A GENE_B --given GENE_C",),
    "fit": ("cagdask nmf my-cags -k 5 --output factors",),
    "select": ("cagdask nmf select my-cags -K 5:30 --output choice",),
    "consensus": ("cagdask nmf consensus my-cags -k 12 --output programs",),
    "project": ("cagdask nmf project new.zarr --to programs --output projected",),
    "twopass": ("cagdask twopass my-cags -k 8 --output clusters",),
    "plan": ("cagdask plan sample_sheet.json --workers 8 --memory-limit 16GiB",),
    "simulate": ("cagdask simulate --output cohort --n-genes 5000 --n-samples 50",),
}
"""Examples by the name of a command."""


def heading_of(command: click.Command, param: click.Parameter) -> str:
    """Heading under which the help of a command shows an option."""
    if param.name == "store" and command.name in _READS_STORE:
        return "Input"
    return next((heading for heading, names in HEADINGS.items() if param.name in names), METHOD)


class TaskCommand(click.Command):
    """A command whose help groups options by task."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under headings, in the order of :data:`HEADINGS`; then examples."""
        records: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record is not None:
                records[heading_of(self, param)].append(record)
        for heading, found in records.items():
            if found:
                with formatter.section(heading):
                    formatter.write_dl(found)
        if self.name in EXAMPLES:
            with formatter.section("Examples"):
                for example in EXAMPLES[self.name]:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
