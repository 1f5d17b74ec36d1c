"""What the page's tables search: all CAGs, and the genes in the order of their CAGs, small enough for one file.

    values per CAG      --rounded, as columns-->   JSON --gzip--> base64     all CAGs of two genes or more
    shape over samples  --24 steps of 8 bits-->                             the largest 20,000
    names of genes      --in the order of the CAGs-->                       while they take at most 4 MiB compressed

A result of a million genes so takes some MiB; what does not fit is left out, and the page says where it is.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import schema, storage
from cagdask.errors import SchemaError
from cagdask.plot import numbers
from cagdask.reports.tables import genes_by_cag

if TYPE_CHECKING:
    import xarray as xr

SHAPES = 20_000
"""CAGs whose shape over samples is drawn in the table."""
STEPS = 24
"""Points of such a shape."""
MAX_ALONE = 50_000
"""CAGs of one gene that are listed; with more, none is, and the page says so."""
NAME_BYTES = 24 * 2**20
"""Bytes of the names of genes up to which it is tried: names compress four- to tenfold."""
INDEX_BYTES = 4 * 2**20
"""Bytes that the compressed names may take."""

_COLUMNS = ("prevalence", "mean_abundance", "std_abundance", "entropy", "cohesion")
_TEXT = ("gene_taxonomy", "gene_symbol", "gene_description")


def packed(content: Any) -> str:
    """JSON, compressed, as text that a page can hold; the same bytes every time."""
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def n_listed(sizes: NDArray[np.int64]) -> int:
    """CAGs in the page's table: all, or those of two genes or more where the others are too many."""
    alone = int(np.count_nonzero(sizes == 1))
    return int(np.count_nonzero(sizes >= (2 if alone > MAX_ALONE else 1)))


def cag_columns(ds: xr.Dataset, order: NDArray[np.int64]) -> dict[str, Any]:
    """Columns of the table of CAGs, each a list with an entry per CAG.

    Parameters
    ----------
    ds
        Result; CAGs by falling size.
    order
        Order of samples in which shapes are drawn.
    """
    sizes = np.asarray(ds["cag_size"].values)
    n = n_listed(sizes)
    found: dict[str, Any] = {"size": sizes[:n].tolist()}
    for name in _COLUMNS:
        if f"cag_{name}" in ds.variables:
            found[name] = _rounded(ds[f"cag_{name}"].values[:n])
    words = list(schema.CAG_STATUSES)
    status = numbers.cag_status(ds)[:n]
    words += sorted(set(status) - set(words))
    found["status"] = [words.index(word) for word in status]
    found["status_words"] = words
    rows = representative_rows(ds)[:n]
    found["gene"] = _at(ds, "gene_id", rows)
    for name in _TEXT:
        what = name.removeprefix("gene_")
        if f"cag_{what}" in ds.variables:  # of most of its genes
            found[what] = [str(text) for text in ds[f"cag_{what}"].values[:n]]
        elif name in ds.variables:
            found[what] = _at(ds, name, rows)
    found["shapes"] = shapes(ds, order, min(n, SHAPES))
    return found


def _rounded(values: NDArray[Any]) -> list[float | None]:
    """Four significant digits; None where a number is none."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.astype(np.float64).tolist()]


def representative_rows(ds: xr.Dataset) -> NDArray[np.int64]:
    """Of each CAG the row of the gene nearest to its mean direction, the first of equal ones; shape (n_cags,).

    A CAG without genes, as an assignment leaves them, has -1.

    Raises
    ------
    SchemaError
        A label is that of no CAG.
    """
    label = np.asarray(ds["gene_cag"].values)
    if len(label) and not -1 <= label.min() <= label.max() < ds.sizes["cag"]:
        where = ds.encoding.get("source", "dataset")
        raise SchemaError(f"{where}: gene_cag is damaged: a gene has a CAG that is not there. Cluster again.")
    distance = np.nan_to_num(ds["gene_cag_distance"].values.astype(np.float64), nan=np.inf)
    order = np.lexsort((np.arange(len(label)), distance, label))
    ordered = label[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1) > 0) if len(ordered) else np.zeros(0, np.int64)
    found = np.full(ds.sizes["cag"], -1, np.int64)
    kept = first[ordered[first] >= 0]
    found[ordered[kept]] = order[kept]
    return found


def _at(ds: xr.Dataset, name: str, rows: NDArray[np.int64]) -> list[str]:
    """Text of a variable per gene at these rows, a chunk at a time; empty for row -1."""
    found = np.full(len(rows), "", object)
    for begin in range(0, ds.sizes["gene"], storage.ID_CHUNK):
        inside = np.flatnonzero((rows >= begin) & (rows < begin + storage.ID_CHUNK))
        if len(inside):
            block = ds[name][begin : begin + storage.ID_CHUNK].values.astype(object)
            found[inside] = block[rows[inside] - begin]
    return [str(text) for text in found]


def shapes(ds: xr.Dataset, order: NDArray[np.int64], n: int) -> str:
    """How abundant the first ``n`` CAGs are over samples: :data:`STEPS` bytes each, 255 = most; in base64."""
    n_samples = len(order)
    edges = np.linspace(0, n_samples, min(STEPS, max(1, n_samples)) + 1).astype(np.int64)
    found = np.zeros((n, len(edges) - 1), np.uint8)
    for begin in range(0, n, 4_096):
        values = ds["cag_abundance"][begin : min(n, begin + 4_096)].values[:, order].astype(np.float64)
        values = values - np.minimum(values.min(axis=1, keepdims=True, initial=0), 0)
        means = np.add.reduceat(values, edges[:-1], axis=1) / np.diff(edges)
        top = means.max(axis=1, keepdims=True, initial=0)
        share = np.divide(means, top, out=np.zeros_like(means), where=top > 0)
        found[begin : begin + len(values)] = np.rint(255 * share)
    return base64.b64encode(found.tobytes()).decode()


def gene_index(ds: xr.Dataset) -> str | None:
    """Names of the genes in CAGs, in the order of the CAGs, packed; None where they are too many for a page."""
    url = ds.encoding.get("source")
    if url is None:
        label = ds["gene_cag"].values
        order = np.argsort(label, kind="stable")[np.count_nonzero(label < 0) :]
        names = [str(name) for name in ds["gene_id"].values[order]]
        blocks: Any = [(None, names)]
    else:
        blocks = genes_by_cag(storage.open_group(url))
    kept: list[str] = []
    n_bytes = 0
    for _, block in blocks:
        kept += map(str, block)
        n_bytes += sum(map(len, kept[-len(block) :])) if len(block) else 0
        if n_bytes > NAME_BYTES:
            return None
    made = packed(kept)
    return made if len(made) <= INDEX_BYTES else None
