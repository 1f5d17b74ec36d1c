"""The files of find-cags: ``PREFIX.feather``, ``PREFIX.cags.feather`` and ``PREFIX.cags.json.gz``."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.reports.tables import (
    abundance_batches,
    array_of,
    blocks_of,
    genes_by_cag,
    matrix_batches,
    matrix_schema,
    rows_at_once,
    sample_names,
)
from cagdask.reports.writers import gzipped, write_feather

Array = NDArray[Any]


def write_membership_json(result: str, url: str) -> None:
    """``PREFIX.cags.json.gz``: ``{"0": [gene, …], …}``, the largest CAG first."""
    with gzipped(url) as out:
        out.write(b"{")
        current = -1
        for labels, names in genes_by_cag(storage.open_group(result)):
            starts = np.flatnonzero(np.diff(labels, prepend=current))
            if len(starts) == 0 or starts[0] > 0:  # the last CAG of the block before goes on
                out.write(b", " + _json_items(names[: starts[0] if len(starts) else None]))
            for begin, end in pairwise([*starts, len(labels)]):
                before = b"" if current < 0 else b"], "
                current = int(labels[begin])
                out.write(before + f'"{current}": ['.encode() + _json_items(names[begin:end]))
        out.write(b"}" if current < 0 else b"]}")


def _json_items(names: Array) -> bytes:
    return json.dumps([str(name) for name in names])[1:-1].encode()


def write_cag_feather(result: str, url: str) -> None:
    """``PREFIX.cags.feather``: column ``index`` with the CAG's number, then a float64 column per sample."""
    import pyarrow as pa

    group = storage.open_group(result)
    schema = matrix_schema("index", pa.int64(), sample_names(group), pa.float64())
    write_feather(url, schema, abundance_batches(group, "cag_abundance", schema))


def write_gene_feather(store: str, url: str, block: Callable[[Array], Array]) -> None:
    """``PREFIX.feather``: column ``index`` with the gene's name, then a float64 column per sample.

    Parameters
    ----------
    store
        Abundance store.
    url
        File to write.
    block
        Normalizes rows of the store, shape (n, n_samples) float32, without a floor.
    """
    import pyarrow as pa

    group = storage.open_group(store)
    values, names = array_of(group, "abundance"), array_of(group, "gene_id")
    schema = matrix_schema("index", pa.string(), sample_names(group), pa.float64())
    rows = rows_at_once(values.shape[1], 8)
    blocks = ((np.asarray(names[at]), block(np.asarray(values[at]))) for at in blocks_of(values.shape[0], rows))
    write_feather(url, schema, matrix_batches(blocks, schema))
