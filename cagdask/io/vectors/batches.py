"""What every reader of vectors gives: batches of rows whose columns are numbered components."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables import reading as limits
from cagdask.io.tables.reading import Batches

Rows = tuple[pa.StringArray, NDArray[Any]]
"""Names, shape (rows,), and vectors, shape (rows, components)."""
Options = dict[str, str | None]
"""``ids``, the file of names of an .npy; ``matrix``, what to take from an .h5ad."""


def numbered_batches(n_columns: int, rows: Iterator[Rows]) -> Batches:
    """Rows of vectors as a table whose columns are components 0, 1, …."""
    columns = [str(i) for i in range(n_columns)]
    return Batches("gene_id", columns, True, rows, lambda: iter(()))


def rows_at_once(n_columns: int) -> int:
    """Vectors of a batch."""
    return max(1, limits.BATCH_BYTES // (8 * max(1, n_columns)))


def check_length(url: str, name: str, n: int, first: str, n_columns: int) -> None:
    """Refuse a vector that is not as long as the first.

    Raises
    ------
    InputError
        Names both genes and their numbers of components.
    """
    if n != n_columns:
        raise InputError(
            f"{url}: gene {name!r} has {n:,} numbers and {first!r} has {n_columns:,}. All vectors are of one length."
        )
