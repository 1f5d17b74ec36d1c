"""The files of a factorization: a Zarr group, tables, JSON and pictures, in a folder that appears at once.

    loadings, part by part --scaled, ordered--> factors.zarr                     gene_loading, sample_latent, …
                                                NMF_weight_matrix_gsea.parquet   genes, NMF_0, …
                                                nmf_latent.parquet               names of samples, NMF_0, …
                                                top_genes.tsv                    100 genes per component
                                                nmf.json, *.png

Loadings of a component have length 1 and its latent values carry the size; components come by falling total of these.
Rows stay in the order of the input. Loadings go through one part at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import StringIO
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import provenance, schema, storage, stores
from cagdask.factors import drawing
from cagdask.factors.contents import ContentFiles, content_task
from cagdask.factors.fitting import LoadingFiles, loadings_of
from cagdask.factors.hals import Float32, Float64
from cagdask.factors.matrix import Matrix
from cagdask.factors.naming import top_names
from cagdask.factors.sketch import SquareFiles, squares_of
from cagdask.factors.steps import Factorization
from cagdask.storage.arrays import Files, array

ROWS = storage.ID_CHUNK
"""Genes that are written at once: a chunk of the store, a row group of the table."""
N_TOP = 100
"""Genes listed per component."""
STORE, LATENT, WEIGHTS, SUMMARY = stores.FACTORS, "nmf_latent.parquet", "NMF_weight_matrix_gsea.parquet", "nmf.json"


class ScoreFiles(Files):
    """Z-scores of a part of the genes.

    Written by :func:`cagdask.factors.consensus.zscore_task`, read by :func:`write_result`.
    """

    zscore: Float32 = array(np.float32, "gene, component", "standard deviations per share of the sample")


@dataclass(frozen=True)
class Scale:
    """How loadings as they were fitted become those of the files.

    Attributes
    ----------
    order
        Component as fitted, of each component as written, shape (k,).
    length
        Length of each component as fitted, shape (k,).
    """

    order: NDArray[np.int64]
    length: Float64

    def loading(self, fitted: Float32) -> Float32:
        """Columns of length 1, in order."""
        scaled = np.divide(fitted, self.length.astype(np.float32), dtype=np.float32)
        return scaled[:, self.order]

    def empty(self, fitted: Float32, gram: Float64) -> list[str]:
        """Names of the components that hold nothing: no loading, or no sample has any."""
        holds = (np.diag(gram) > 0) & fitted.any(axis=0)
        return [f"NMF_{i}" for i in np.flatnonzero(~holds[self.order])]

    def latent(self, fitted: Float32) -> Float32:
        """Values that carry the size, in order."""
        scaled: Float32 = fitted * self.length.astype(np.float32)
        return scaled[:, self.order]


def scale_of(latent: Float32, gram: Float64) -> Scale:
    """Scale of a fit with these latent values, shape (n_samples, k), and GᵀG of its loadings."""
    length = np.sqrt(np.diag(gram))
    length = np.where(length > 0, length, 1.0)
    usage = latent.astype(np.float64).sum(axis=0) * length
    return Scale(np.argsort(-usage, kind="stable"), length)


def component_names(k: int) -> list[str]:
    """Columns of the tables: ``NMF_0`` and so on."""
    return [f"NMF_{i}" for i in range(k)]


def usage_shares(latent: Float32) -> Float32:
    """Latent values as shares of their sample; a sample of nothing stays zero."""
    total = latent.sum(axis=1, keepdims=True)
    shares: Float32 = np.divide(latent, total, out=np.zeros_like(latent), where=total > 0)
    return shares


def write_table(url: str, title: str, names: list[str], values: NDArray[Any]) -> None:
    """A Parquet file of names and one float64 column per component."""
    with _Weights(url, title, values.shape[1]) as table:
        table.add(names, values)


class _Weights:
    """A Parquet table that grows by blocks of rows."""

    def __init__(self, url: str, title: str, k: int) -> None:
        import pyarrow as pa

        self.schema = pa.schema([(title, pa.string()), *((name, pa.float64()) for name in component_names(k))])
        self.target = storage.open_output(url)

    def __enter__(self) -> _Weights:
        import pyarrow.parquet as pq

        self.handle = self.target.__enter__()
        self.writer = pq.ParquetWriter(self.handle, self.schema, compression="snappy")
        return self

    def add(self, names: list[str], values: NDArray[Any]) -> None:
        import pyarrow as pa

        columns = [pa.array(names, pa.string()), *map(pa.array, np.ascontiguousarray(values.T, np.float64))]
        self.writer.write_table(pa.Table.from_batches([pa.record_batch(columns, schema=self.schema)]))

    def __exit__(self, *failure: Any) -> None:
        self.writer.close()
        self.target.__exit__(*failure)


class _Top:
    """The largest entries of each column, of rows that come by and by."""

    def __init__(self, k: int) -> None:
        self.found: list[list[tuple[float, int, str]]] = [[] for _ in range(k)]

    def add(self, begin: int, names: list[str], values: Float32) -> None:
        for column, kept in enumerate(self.found):
            rows = np.argsort(-values[:, column], kind="stable")[:N_TOP]
            new = [(-float(values[row, column]), begin + int(row), names[row]) for row in rows]
            kept[:] = sorted(kept + new)[:N_TOP]

    def rows(self) -> list[list[tuple[str, float]]]:
        return [[(name, -weight) for weight, _, name in kept] for kept in self.found]


def _regrouped(parts: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same rows in groups of :data:`ROWS`, so that each is a whole chunk however they came."""
    held: list[NDArray[Any]] = []
    n_held = 0
    for part in parts:
        held.append(part)
        n_held += len(part)
        while n_held >= ROWS:
            whole = np.concatenate(held)
            yield whole[:ROWS]
            held, n_held = [whole[ROWS:]], n_held - ROWS
    if n_held:
        yield np.concatenate(held)


def _kept_names(job: Factorization) -> Iterator[NDArray[Any]]:
    assert job.kept_genes is not None
    for begin in range(0, job.matrix.n_genes, ROWS):
        end = min(begin + ROWS, job.matrix.n_genes)
        yield np.array(job.matrix.gene_names(begin, end), dtype=object)[job.kept_genes[begin:end]]


def _kept_rows(job: Factorization, parts: Iterable[Float32]) -> Iterator[Float32]:
    """Of an array with a part for each task, the rows of genes that take part."""
    assert job.kept_genes is not None
    for part, blocks in zip(parts, job.matrix.tasks(), strict=True):
        yield part[job.kept_genes[slice(*job.matrix.rows(*blocks))]]


def write_result(
    job: Factorization,
    folder: str,
    latent: Float32,
    scale: Scale,
    summary: dict[str, Any],
    *,
    scores: str | None = None,
) -> None:
    """All files of a factorization.

    Parameters
    ----------
    job
        After its last pass.
    folder
        Where the files go.
    latent
        As fitted, shape (n_samples, k).
    scale
        What makes it the latent values of the files.
    summary
        What goes to the JSON file; ``command``, ``parameters``, ``input_digest`` and ``seed`` to the store too.
    scores
        Stage that made z-scores of the genes, if one did.
    """
    matrix, k = job.matrix, latent.shape[1]
    assert job.kept_samples is not None
    samples = np.array(matrix.sample_names(), dtype=object)[job.kept_samples].tolist()
    values = scale.latent(latent)
    n_genes = summary["n_genes"]
    group = _begin_store(folder, matrix, summary)
    for name in ["gene_loading"] + (["gene_zscore"] if scores else []):
        storage.create_array(group, name, (n_genes, k), chunks=(ROWS, k))
    storage.create_array(group, "gene_id", (n_genes,), chunks=(ROWS,))
    storage.write_array(group, "sample_id", np.array(samples, dtype=object))
    storage.write_array(group, "sample_latent", values)
    if job.nonneg in ("shift", "feature-shift"):
        storage.write_array(group, "gene_shift", _shifts(job))
    if matrix.rows_are == "CAGs":
        job.runner.one("CAG contents", content_task, matrix.url, job.path("contents"), done=job.done)
        storage.write_array(group, "gene_content", ContentFiles.open(job.path("contents")).content[job.kept_genes])
    top, begin = _Top(k), 0
    sampled: list[Float32] = []
    fitted = (part.loading for part in LoadingFiles.open_all([loadings_of(place) for place in job.places("refit")]))
    loadings = _regrouped(_kept_rows(job, fitted))
    zscores: Iterable[Any] = repeat(None)
    if scores:
        zscores = _regrouped(_kept_rows(job, (part.zscore for part in ScoreFiles.open_all(job.places(scores)))))
    with _Weights(storage.join(folder, WEIGHTS), "genes", k) as table:
        for names, rows, zscore in zip(_regrouped(_kept_names(job)), loadings, zscores, strict=False):
            end = begin + len(names)
            loading = scale.loading(rows)
            group["gene_loading"][begin:end] = loading
            group["gene_id"][begin:end] = names.astype(np.dtypes.StringDType())
            if zscore is not None:
                group["gene_zscore"][begin:end] = zscore
            table.add(names.tolist(), loading)
            top.add(begin, names.tolist(), loading if zscore is None else zscore)
            sampled.append(loading[:: max(1, n_genes // drawing.MAX_ROWS)])
            begin = end
    storage.finish_group(group)
    write_table(storage.join(folder, LATENT), matrix.sample_title, samples, values)
    storage.write_bytes(storage.join(folder, "top_genes.tsv"), _top_text(top, summary["empty_components"]).encode())
    named = top_names(matrix, top.rows())
    drawing.draw_result(folder, summary["trace"], values, np.concatenate(sampled), named, matrix.rows_are)
    storage.write_json(storage.join(folder, SUMMARY), summary)


def _begin_store(folder: str, matrix: Matrix, summary: dict[str, Any]) -> Any:
    as_json = json.dumps(summary["parameters"], sort_keys=True)
    earlier = str(storage.open_group(matrix.url).attrs.get("history", ""))
    attrs = {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": schema.FACTORS_KIND,
        "source": provenance.source(),
        "history": provenance.add_history(earlier, f"{summary['command']} {as_json}"),
        "parameters": as_json,
        "input_digest": summary["input_digest"],
        "seed": summary["seed"],
        "nonneg": summary["parameters"]["nonneg"],
        "r2": summary["r2"],
        "converged": summary["converged"],
        "sample_title": matrix.sample_title,
    }
    return storage.create_group(storage.join(folder, STORE), attrs)


def _shifts(job: Factorization) -> Float32:
    """What was subtracted from each gene that was kept."""
    squares = SquareFiles.open_all([squares_of(place) for place in job.places("sketch 1")])
    shifts: Float32 = np.concatenate([part.shift for part in squares])[job.kept_genes]
    return shifts


def _top_text(top: _Top, empty: list[str]) -> str:
    text = StringIO()
    text.write("component\trank\tgene\tscore\n")
    for name, rows in zip(component_names(len(top.found)), top.rows(), strict=True):
        if name in empty:
            continue  # all of its genes are 0: none is on top
        for rank, (gene, score) in enumerate(rows, start=1):
            text.write(f"{name}\t{rank}\t{gene}\t{score:.6g}\n")
    return text.getvalue()


def stage_usage(job: Factorization) -> list[dict[str, Any]]:
    """What each stage of the job used."""
    return [asdict(used) for used in job.runner.usage[job.n_before :]]
