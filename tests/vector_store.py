"""Embedding stores and vectors for tests, and what every definition says of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from cagdask import schema, storage


def write_vectors(
    url: str,
    matrix: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    chunk_rows: int | None = None,
    symbols: Sequence[str] | None = None,
    descriptions: Sequence[str] | None = None,
) -> str:
    """An embedding store, the way ingest writes one."""
    values = np.asarray(matrix, np.float32)
    genes = list(names) if names is not None else [f"g{i}" for i in range(len(values))]
    group = storage.create_group(url, {"schema_version": schema.SCHEMA_VERSION, "kind": "embedding", "history": ""})
    array = storage.create_array(group, "embedding", values.shape, chunks=(chunk_rows or len(values), values.shape[1]))
    array[...] = values
    storage.write_array(group, "gene_id", np.array(genes, dtype=object))
    for name, texts in (("gene_symbol", symbols), ("gene_description", descriptions)):
        if texts is not None:
            storage.write_array(group, name, np.array(list(texts), dtype=object), dims=("gene",))
    storage.finish_group(group)
    return url


@st.composite
def vector_matrices(draw: st.DrawFn, *, max_rows: int = 40, max_columns: int = 6) -> NDArray[np.float32]:
    """Vectors of many kinds: grids with ties, clusters, offsets; with equal, nearly equal, opposite and zero rows."""
    n, d = draw(st.integers(3, max_rows)), draw(st.integers(1, max_columns))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["grid", "normal", "offset", "clusters", "scales"]))
    rows = rng.normal(size=(n, d))
    if kind == "grid":
        rows = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "offset":
        rows += 50
    elif kind == "clusters":
        rows = rng.normal(size=(3, d))[rng.integers(0, 3, n)] + 1e-2 * rows
    elif kind == "scales":
        rows *= rng.lognormal(0, 3, (n, 1))
    rows = rows.astype(np.float32)
    row = st.integers(0, n - 1)
    for source, target, factor in draw(st.lists(st.tuples(row, row, st.sampled_from([1, -1, 2, 1.0001])), max_size=4)):
        rows[target] = rows[source] * np.float32(factor)
    for i in draw(st.lists(row, max_size=2)):
        rows[i] = 0
    return rows
