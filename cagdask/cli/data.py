"""Commands that make tables: ``ingest``, ``simulate``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cagdask.cli.next_steps import then
from cagdask.cli.options import Outcome, Setting, computes, declared, keys, kind, on_bad_sample, reading, writes
from cagdask.cli.task_help import TaskCommand
from cagdask.simulation.options import SIMULATE


def store_outcome(store: str, ds: Any) -> dict[str, Any]:
    """What a store holds, for ``--json``."""
    kept = ("kind", "input_digest", "normalization")
    sizes = {f"n_{dim}s": size for dim, size in ds.sizes.items()}
    return {"store": store} | sizes | {name: ds.attrs[name] for name in kept if name in ds.attrs}


def store_text(outcome: dict[str, Any]) -> str:
    """The same in a line."""
    shape = " x ".join(f"{n:,} {name[2:]}" for name, n in outcome.items() if name.startswith("n_"))
    return f"{outcome['store']}: {shape}"


@click.command(cls=TaskCommand)
@click.argument("source", metavar="INPUT")
@click.option(
    "--store", "--output", "store", required=True, metavar="URL", help="Store to make: a path, or an s3:// URL."
)
@keys
@kind
@on_bad_sample
@reading
@click.option("--ids", metavar="FILE", help="Names of the rows of an .npy of vectors: one per line, JSON list or .npy.")
@click.option("--descriptions", metavar="FILE", help="Table of id, symbol, description to store with the genes.")
@click.option("--shards/--no-shards", default=True, show_default=True, help="Keep many chunks in one file.")
@computes
def ingest(setting: Setting, source: str, store: str, **options: Any) -> Outcome:
    """Turn a cohort into an abundance store.

    INPUT is a table of genes and samples (text with any separator, Parquet, Feather, BIOM, h5ad, 10x, loom, geneshot
    HDF5, GCT, xlsx, Zarr), or the samples: a sheet (JSON, or TSV or CSV with a column of paths), a folder, a pattern.
    What the bytes are decides. With --kind embedding it holds a vector per gene: also .npz, .npy, .json, word2vec text
    (.vec, .txt) or binary (.bin). An interrupted ingest goes on where it stopped.
    """
    from cagdask.io.ingest import ingest as library_ingest

    ds = library_ingest(source, store=store, overwrite=setting.overwrite, **setting.where, **options)
    outcome = store_outcome(store, ds) | {"understood": ds.encoding["understood"]}
    where = shlex.quote(store)
    if ds.attrs.get("kind") == "embedding":
        steps = then((f"cagdask similar {where} GENE", "the genes most like one"))
    else:
        given = " --normalization none" if ds.attrs.get("kind") == "expression" else ""
        steps = then((f"cagdask run {where}{given} --output my-cags", "find groups of genes"))
    return outcome, f"{store_text(outcome)}\n\n{steps}"


@click.command(cls=TaskCommand)
@click.option("--output", required=True, metavar="FOLDER", help="Folder to make, or an s3:// URL.")
@declared(SIMULATE)
@writes
def simulate(setting: Setting, output: str, **options: Any) -> Outcome:
    """Make a cohort with planted CAGs.

    Writes sample JSONs, sample_sheet.json for `cagdask run`, and truth.tsv with the genome of each gene.
    """
    from cagdask.simulation.writing import simulate as library_simulate

    made = library_simulate(output, overwrite=setting.overwrite, **options)
    text = f"{made['sheet']}: {made['n_genes']:,} genes x {made['n_samples']:,} samples, {made['n_genomes']:,} genomes"
    sheet = shlex.quote(made["sheet"])
    steps = then((f"cagdask run {sheet} --output my-cags", "find groups of genes"))
    return made, f"{text}\n{made['truth']}: the genome of each gene\n\n{steps}"
