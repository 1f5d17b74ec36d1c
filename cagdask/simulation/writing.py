"""Write simulated cohorts as sample files in find-cags' format, as arrays in memory, or as a store.

All three hold the same numbers for the same seed; the model is in :mod:`cagdask.simulation.model`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage
from cagdask.arguments import number, whole
from cagdask.compute.progress import reporter
from cagdask.simulation import model
from cagdask.simulation.model import Cohort, make_cohort, read_depth


class Record(msgspec.Struct):
    """A gene in a sample file."""

    id: str
    depth: float
    length: int
    nreads: int


def simulate(
    output: str,
    *,
    n_genes: int = 20_000,
    n_samples: int = 200,
    coverage: float = 1.0,
    seed: int = 0,
    loner_share: float = 0.2,
    prevalence: tuple[float, float] = (0.05, 0.6),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a cohort with planted CAGs, in find-cags' format.

    Parameters
    ----------
    output
        Folder to make, a path or URL: ``sample_sheet.json``, ``samples/*.json.gz`` with records of ``id``, ``depth``,
        ``length`` (bp) and ``nreads``, and ``truth.tsv`` with ``gene_id`` and ``genome`` (-1 for loners).
    n_genes, n_samples
        Size of the cohort. A gene without a single read is in ``truth.tsv`` only.
    coverage
        Median depth of a genome where it is present, in reads per base, > 0.
    seed
        The same seed gives the same bytes, >= 0.
    loner_share
        Share of genes that belong to no genome, in [0, 1].
    prevalence
        Smallest and largest share of samples that have a genome, in [0, 1]; small ones make sparse cohorts.
    overwrite
        Replace what is there, once the new folder is complete.

    Returns
    -------
    dict
        ``sheet`` and ``truth``, where these files are; ``n_genes``, ``n_samples``, ``n_genomes``, ``n_values``.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    StoreError
        The folder is there and ``overwrite`` is false, or its parent is missing.

    Notes
    -----
    One sample at a time, about 150 bytes per gene. An interrupted run goes on with the next sample.
    """
    n_genes, n_samples, seed = whole("n_genes", n_genes), whole("n_samples", n_samples), whole("seed", seed)
    coverage, loner_share = number("coverage", coverage), number("loner_share", loner_share)
    options = {"coverage": coverage, "seed": seed, "loner_share": loner_share, "prevalence": prevalence}
    cohort = make_cohort(n_genes, n_samples, **options)  # type: ignore[arg-type]  # mixed values
    output = storage.absolute(output)
    storage.check_target(output, overwrite=overwrite)
    recipe = {"command": "simulate", "n_genes": n_genes, "n_samples": n_samples, **options}
    folder, _ = storage.begin_work(output, recipe, overwrite=overwrite)
    staged = storage.join(folder, "store")
    sheet = {name: f"samples/{name}.json.gz" for name in cohort.sample_ids()}
    n_values = 0
    with _stage(n_samples, "samples"):
        for j, path in enumerate(sheet.values()):
            n_values += _write_sample(cohort, j, storage.join(staged, path), storage.join(folder, "done", f"{j}.json"))
            reporter().advance()
    storage.write_bytes(storage.join(staged, "truth.tsv"), _truth(cohort))
    storage.write_json(storage.join(staged, "sample_sheet.json"), sheet)
    storage.publish(staged, output)
    storage.end_work(output)
    return {
        "sheet": storage.join(output, "sample_sheet.json"),
        "truth": storage.join(output, "truth.tsv"),
        "n_genes": n_genes,
        "n_samples": n_samples,
        "n_genomes": cohort.n_genomes,
        "n_values": n_values,
    }


@contextmanager
def _stage(total: int, unit: str) -> Iterator[None]:
    reporter().start("simulate", total, unit)
    try:
        yield
    finally:
        reporter().finish()


def _write_sample(cohort: Cohort, sample: int, url: str, done: str) -> int:
    """Write the records of a sample, unless an earlier run did; returns their number."""
    from isal import igzip

    n_values = storage.read_json(done)
    if n_values is not None:
        return int(n_values)
    open_zipped: Any = igzip.IGzipFile
    buffer = io.BytesIO()
    n_values = 0
    cover = cohort.sample_coverage(sample)
    with open_zipped(filename="", mode="wb", fileobj=buffer, compresslevel=1, mtime=0) as zipped:
        zipped.write(b'{"results":[')
        for block in range(cohort.n_blocks):
            records, n = _records(cohort, block, cohort.block_reads(block, sample, cover))
            zipped.write(b"," + records if n and n_values else records)
            n_values += n
        zipped.write(b"]}")
    storage.write_bytes(url, buffer.getvalue())
    storage.write_json(done, n_values)
    return n_values


def _records(cohort: Cohort, block: int, reads: NDArray[np.int64]) -> tuple[bytes, int]:
    """The records of a block's genes that have reads, as the inside of a JSON list."""
    there = np.flatnonzero(reads)
    rows = block * model.BLOCK + there
    length = cohort.length[rows]
    names = cohort.gene_ids(rows.tolist())
    depth = read_depth(reads[there], length)
    records = list(map(Record, names, depth.tolist(), length.tolist(), reads[there].tolist()))
    return msgspec.json.encode(records)[1:-1], len(records)


def _truth(cohort: Cohort) -> bytes:
    lines = [f"{gene}\t{genome}\n" for gene, genome in zip(cohort.gene_ids(), cohort.genome.tolist(), strict=True)]
    return ("gene_id\tgenome\n" + "".join(lines)).encode()


def simulate_abundance(n_genes: int, n_samples: int, **options: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Make a cohort in memory: the numbers that :func:`simulate` writes, with the same options.

    Returns
    -------
    matrix, truth
        Abundance, shape (n_genes, n_samples), float32, genes in the order of their ids, and genome of each gene,
        shape (n_genes,), int64, -1 for loners. Genes without reads are there too, as rows of 0.
    """
    cohort = make_cohort(n_genes, n_samples, **options)
    return np.concatenate(list(cohort.abundance_blocks())), cohort.genome


def simulate_store(
    store: str, n_genes: int, n_samples: int, *, chunk_rows: int | None = None, overwrite: bool = False, **options: Any
) -> NDArray[np.int64]:
    """Write a cohort straight into an abundance store, without sample files; for large benchmarks.

    Parameters
    ----------
    store
        Path or URL of the store.
    n_genes, n_samples, options
        As for :func:`simulate`. Unlike after ingest, genes without reads are rows of 0.
    chunk_rows
        Genes per chunk, rounded up to whole blocks of 4,096; by default about 4 million values a chunk.
    overwrite
        Replace what is there, once the new store is complete.

    Returns
    -------
    ndarray
        Genome of each gene, shape (n_genes,), int64, -1 for loners.
    """
    cohort = make_cohort(n_genes, n_samples, **options)
    store = storage.absolute(store)
    storage.check_target(store, overwrite=overwrite)
    recipe = {"command": "simulate_store", "n_genes": n_genes, "n_samples": n_samples, **options}
    folder, _ = storage.begin_work(store, recipe, overwrite=True)
    staged = storage.join(folder, "store")
    attrs = {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": "abundance",
        "source": provenance.source(),
        "history": provenance.add_history("", f"simulate n_genes={n_genes} n_samples={n_samples} seed={cohort.seed}"),
        "input_digest": provenance.digest(recipe),
    }
    group = storage.create_group(staged, attrs)
    prevalence = _write_abundance(cohort, group, chunk_rows or 2**22 // n_samples)
    storage.write_array(group, "gene_id", np.array(cohort.gene_ids(), object))
    storage.write_array(group, "sample_id", np.array(cohort.sample_ids(), object))
    storage.write_array(group, "gene_prevalence", prevalence)
    storage.write_array(group, "gene_length", cohort.length)
    storage.finish_group(group)
    storage.publish(staged, store)
    storage.end_work(store)
    return cohort.genome


def _write_abundance(cohort: Cohort, group: Any, chunk_rows: int) -> NDArray[np.float32]:
    """Write the matrix chunk by chunk; gives the prevalence of each gene."""
    blocks_per_chunk = max(1, -(-chunk_rows // model.BLOCK))
    shape, chunks = (cohort.n_genes, cohort.n_samples), (blocks_per_chunk * model.BLOCK, cohort.n_samples)
    array = storage.create_array(group, "abundance", shape, chunks=chunks)
    prevalence = np.zeros(cohort.n_genes, np.float32)
    blocks = cohort.abundance_blocks()
    with _stage(cohort.n_genes, "genes"):
        for begin in range(0, cohort.n_genes, chunks[0]):
            chunk = np.concatenate(list(islice(blocks, blocks_per_chunk)))
            array[begin : begin + len(chunk)] = chunk
            prevalence[begin : begin + len(chunk)] = (chunk > 0).mean(axis=1)
            reporter().advance(len(chunk))
    return prevalence
