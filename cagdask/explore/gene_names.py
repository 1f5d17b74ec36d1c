"""Names of genes in memory, to be searched while one types.

Read once, in pieces, as Arrow text: about 20 bytes a gene more than the names themselves.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage

if TYPE_CHECKING:
    import pyarrow as pa

Int64 = NDArray[np.int64]

MOST_HITS = 50
"""Genes that a search lists."""
FIRST = 12
"""Names that are listed before anything is typed."""


@dataclass
class GeneNames:
    """Names of the genes of a store, in its order.

    Attributes
    ----------
    url
        The store.
    """

    url: str
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def all(self) -> pa.LargeStringArray:
        """Every name; waits for a thread that is reading them."""
        with self._reading:
            return self._names

    @cached_property
    def _names(self) -> Any:
        import pyarrow as pa

        array = storage.open_array(self.url, "gene_id")
        step = max(storage.ID_CHUNK, array.chunks[0])
        parts = [
            pa.array(np.asarray(array[begin : begin + step]).astype(object), type=pa.large_string())
            for begin in range(0, array.shape[0], step)
        ]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.large_string())

    def at(self, rows: Int64) -> list[str]:
        """Names of some rows."""
        import pyarrow as pa

        return [str(name) for name in self.all().take(pa.array(rows)).to_pylist()]

    def find(self, text: str, most: int = MOST_HITS) -> Int64:
        """Rows of genes whose name holds a text, whatever its case; those that begin with it first."""
        import pyarrow.compute as pc

        text = text.strip()
        if not text:  # every name holds it; the first show what names look like
            return np.arange(min(most, FIRST, len(self.all())))
        begins = pc.starts_with(self.all(), text, ignore_case=True)
        holds = pc.match_substring(self.all(), text, ignore_case=True)
        first = np.flatnonzero(begins.to_numpy(zero_copy_only=False))[:most]
        others = np.flatnonzero(pc.and_not(holds, begins).to_numpy(zero_copy_only=False))[: most - len(first)]
        return np.concatenate([first, others])

    def row(self, name: str) -> int:
        """Row of a gene.

        Raises
        ------
        ValueError
            There is no gene of this name.
        """
        import pyarrow.compute as pc

        found = int(pc.index(self.all(), name.strip()).as_py())
        if found < 0:
            near = self.at(self.find(name, 3))
            hint = f" Names that contain it: {', '.join(near)}." if near else " Find it by a part of its name first."
            raise ValueError(f"there is no gene {name!r}.{hint}")
        return found
