#!/usr/bin/env python
"""Write a large sparse table as h5ad, BIOM 2.1 and Matrix Market, in pieces, to measure how cagdask ingests it.

    scripts/make_sparse_tables.py FOLDER --genes 200000 --samples 10000 --density 0.01

Each format holds the same table, by genes (CSC of an h5ad, whose observations are samples); ``cells.h5ad`` holds
another, by samples (CSR), as scanpy writes them. The largest piece in memory is one of 2,000 rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 2000
"""Rows made at once."""


def pieces(n_rows: int, n_columns: int, density: float, seed: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Per piece: values of each row, their columns, and the values themselves: counts, most of them small."""
    for begin in range(0, n_rows, PIECE):
        rng = np.random.default_rng([seed, begin])
        rows = min(PIECE, n_rows - begin)
        n_values = rng.binomial(n_columns, density, rows)
        columns = [np.sort(rng.choice(n_columns, n, replace=False, shuffle=False)) for n in n_values]
        yield n_values, np.concatenate(columns).astype("i4"), (1 + rng.geometric(0.3, n_values.sum())).astype("f4")


def names(prefix: str, n: int) -> NDArray[Any]:
    return np.array([f"{prefix}{i:07d}" for i in range(n)], "S")


def write_hdf5(path: Path, kind: str, chosen: argparse.Namespace) -> None:
    """An h5ad or a BIOM 2.1, its arrays growing piece by piece."""
    import h5py

    genes, samples = names("gene_", chosen.genes), names("sample_", chosen.samples)
    with h5py.File(path, "w") as file:
        group = file.create_group("X" if "h5ad" in kind else "observation/matrix")
        if "h5ad" in kind:
            of_genes = kind == "h5ad"
            group.attrs["encoding-type"] = "csc_matrix" if of_genes else "csr_matrix"
            group.attrs["shape"] = (len(samples), len(genes))
            for axis, held in (("obs", samples), ("var", genes)):
                file.create_group(axis).attrs["_index"] = "_index"
                file[f"{axis}/_index"] = held
        else:
            file.attrs["format-version"], file.attrs["shape"] = (2, 1), (len(genes), len(samples))
            file["observation/ids"], file["sample/ids"] = genes, samples
        options: dict[str, Any] = {"maxshape": (None,), "chunks": (2**16,), "compression": "lzf"}
        data = group.create_dataset("data", (0,), "f4", **options)
        indices = group.create_dataset("indices", (0,), "i4", **options)
        ends = [np.zeros(1, np.int64)]
        shape = (chosen.samples, chosen.genes) if kind == "cells.h5ad" else (chosen.genes, chosen.samples)
        for n_values, columns, values in pieces(*shape, chosen.density, chosen.seed):
            at = int(ends[-1][-1])
            for array, piece in ((data, values), (indices, columns)):
                array.resize((at + len(piece),))
                array[at:] = piece
            ends.append(at + np.cumsum(n_values))
        group["indptr"] = np.concatenate(ends)


def write_market(folder: Path, chosen: argparse.Namespace) -> None:
    """A folder as 10x writes it: counts sorted by gene, three numbers a line."""
    folder.mkdir(exist_ok=True)
    for name, held in (("features.tsv", names("gene_", chosen.genes)), ("barcodes.tsv", names("s", chosen.samples))):
        (folder / name).write_bytes(b"\n".join(held.tolist()) + b"\n")
    some = lambda: pieces(chosen.genes, chosen.samples, chosen.density, chosen.seed)  # noqa: E731
    total, first = sum(int(n.sum()) for n, _, _ in some()), 1
    with (folder / "matrix.mtx").open("wb") as file:
        file.write(f"%%MatrixMarket matrix coordinate real general\n{chosen.genes} {chosen.samples} {total}\n".encode())
        for n_values, columns, values in some():
            rows = np.repeat(np.arange(first, first + len(n_values)), n_values)
            lines = zip(rows.tolist(), (columns + 1).tolist(), values.tolist(), strict=True)
            file.write("".join(f"{row} {column} {value:g}\n" for row, column, value in lines).encode())
            first += len(n_values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--genes", type=int, default=200_000)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--density", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", default=["h5ad", "biom"], choices=["h5ad", "cells.h5ad", "biom", "mtx"])
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for kind in chosen.formats:
        if kind == "mtx":
            write_market(chosen.folder / "mtx", chosen)
        else:
            write_hdf5(chosen.folder / f"table.{kind}", kind, chosen)


if __name__ == "__main__":
    main()
