"""Questions about one result, each answered in a fraction of a second, for a million genes too.

    name or part of it --Arrow string search--> genes --label--> CAG --row of cag_abundance--> samples
                                                          |
                                        merge tree cut at a height, within its members --> smaller groups

Nothing is read before it is needed; what was read stays. Names are read in the background when a session opens, since
they take longest.
"""

from __future__ import annotations

import shlex
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.engine.linkage.tree import cut_merges
from cagdask.plot import numbers
from cagdask.plot.results import open_result
from cagdask.plot.samples import sample_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import xarray as xr

MOST_HITS = 50
"""Genes that a search lists."""
MOST_MEMBERS = 1_000
"""Genes of a CAG that are listed; the nearest to its mean direction first."""

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]


@dataclass
class Session:
    """One opened result.

    Attributes
    ----------
    url
        The result store, or the folder of a run that holds one.
    """

    url: str
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def ds(self) -> xr.Dataset:
        """The result, lazily."""
        return open_result(self.url)

    @cached_property
    def source(self) -> str:
        """Where the result store is."""
        return str(self.ds.encoding["source"])

    @cached_property
    def label(self) -> Int64:
        """CAG of each gene, shape (n_genes,), -1 for genes filtered out."""
        return np.asarray(self._values("gene_cag"))

    @cached_property
    def sizes(self) -> Int64:
        """Genes per CAG, shape (n_cags,)."""
        return np.asarray(self._values("cag_size"))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Metadata of the samples, indexed by sample id; no column where there is none."""
        return sample_table(self.ds)

    def _values(self, name: str) -> NDArray[Any]:
        return np.asarray(storage.open_array(self.source, name)[:])

    # -- names -------------------------------------------------------------------------------------------------------

    def read_names_ahead(self) -> threading.Thread:
        """Begin to read the names of the genes, while a reader looks at the first page."""
        thread = threading.Thread(target=lambda: self.names, daemon=True, name="cagdask-names")
        thread.start()
        return thread

    @property
    def names(self) -> pa.StringArray:
        """Names of the genes, in the order of the store."""
        with self._reading:
            return self._names

    @cached_property
    def _names(self) -> Any:
        import pyarrow as pa

        array = storage.open_array(self.source, "gene_id")
        step = max(storage.ID_CHUNK, array.chunks[0])
        parts = [
            pa.array(np.asarray(array[begin : begin + step]).astype(object), type=pa.large_string())
            for begin in range(0, array.shape[0], step)
        ]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.large_string())

    def find(self, text: str, most: int = MOST_HITS) -> pd.DataFrame:
        """Genes whose name holds a text, whatever its case; those that begin with it first.

        Returns
        -------
        DataFrame
            Columns ``gene``, ``cag`` (-1 = filtered out), ``genes`` (size of the CAG); at most ``most`` rows.
        """
        import pandas as pd
        import pyarrow.compute as pc

        text = text.strip()
        if not text:
            nothing = np.zeros(0, np.int64)
            return pd.DataFrame({"gene": np.zeros(0, object), "cag": nothing, "genes": nothing})
        begins = pc.starts_with(self.names, text, ignore_case=True)
        holds = pc.match_substring(self.names, text, ignore_case=True)
        first = np.flatnonzero(begins.to_numpy(zero_copy_only=False))[:most]
        others = np.flatnonzero(pc.and_not(holds, begins).to_numpy(zero_copy_only=False))[: most - len(first)]
        rows = np.concatenate([first, others])
        cags = self.label[rows]
        return pd.DataFrame(
            {"gene": self._named(rows), "cag": cags, "genes": np.where(cags >= 0, self.sizes[np.maximum(cags, 0)], 0)}
        )

    def _named(self, rows: Int64) -> list[str]:
        import pyarrow as pa

        return [str(name) for name in self.names.take(pa.array(rows)).to_pylist()]

    # -- one CAG -----------------------------------------------------------------------------------------------------

    def check(self, cag: int) -> None:
        """Raise unless the result has this CAG.

        Raises
        ------
        ValueError
            It has not.
        """
        if not 0 <= cag < len(self.sizes):
            raise ValueError(f"there is no CAG {cag}; they are numbered 0 to {len(self.sizes) - 1:,}.")

    def rows_of(self, cag: int) -> Int64:
        """Rows of the genes of a CAG."""
        self.check(cag)
        return np.flatnonzero(self.label == cag)

    @cached_property
    def distance(self) -> Float32:
        """Distance of each gene to its CAG's mean direction, shape (n_genes,)."""
        return np.asarray(self._values("gene_cag_distance"))

    @cached_property
    def margin(self) -> Float32 | None:
        """How much farther the next CAG of each gene is, where the result knows."""
        return np.asarray(self._values("gene_cag_margin")) if "gene_cag_margin" in self.ds.variables else None

    def members(self, cag: int) -> pd.DataFrame:
        """Genes of a CAG: columns ``gene``, ``distance``, ``margin`` where known; the nearest to its mean first."""
        import pandas as pd

        rows = self.rows_of(cag)
        rows = rows[np.argsort(self.distance[rows], kind="stable")][:MOST_MEMBERS]
        columns = {"gene": self._named(rows), "distance": self.distance[rows]}
        if self.margin is not None:
            columns["margin"] = self.margin[rows]
        return pd.DataFrame(columns)

    def profile(self, cag: int) -> Float32:
        """Abundance of a CAG in each sample, shape (n_samples,), as normalized."""
        self.check(cag)
        return np.asarray(storage.open_array(self.source, "cag_abundance")[cag])

    def describe(self, cag: int) -> dict[str, float]:
        """Size and measures of a CAG by name."""
        self.check(cag)
        names = ("prevalence", "mean_abundance", "std_abundance", "entropy", "cohesion")
        found = {name: float(self._measures(name)[cag]) for name in names if f"cag_{name}" in self.ds.variables}
        return {"genes": float(self.sizes[cag])} | found

    def _measures(self, name: str) -> NDArray[Any]:
        kept: dict[str, NDArray[Any]] = self.__dict__.setdefault("_measured", {})
        if name not in kept:
            kept[name] = self._values(f"cag_{name}")
        return kept[name]

    # -- other CAGs --------------------------------------------------------------------------------------------------

    @cached_property
    def _directions(self) -> tuple[Int64, Float32]:
        """Numbers and unit profiles of the CAGs of two genes or more."""
        n = int(np.count_nonzero(self.sizes >= 2)) or len(self.sizes)  # CAGs are ordered by size
        rows = np.asarray(storage.open_array(self.source, "cag_abundance")[:n])
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        np.divide(rows, length, out=rows, where=length > 0)
        return np.arange(n), rows

    def nearest_cags(self, cag: int, k: int = 10) -> pd.DataFrame:
        """CAGs of two genes or more with the most similar profile: ``cag``, ``genes``, ``similarity`` (cosine)."""
        import pandas as pd

        cags, unit = self._directions
        own = self.profile(cag)
        length = float(np.linalg.norm(own))
        similarity = unit @ (own / length if length > 0 else own)
        similarity[cags == cag] = -np.inf
        k = min(k, len(cags) - (cag < len(cags)))
        best = np.argpartition(-similarity, k - 1)[:k] if k > 0 else np.zeros(0, np.int64)
        best = best[np.lexsort((best, -similarity[best]))]
        return pd.DataFrame(
            {"cag": cags[best], "genes": self.sizes[cags[best]], "similarity": similarity[best].round(4)}
        )

    # -- other thresholds --------------------------------------------------------------------------------------------

    @cached_property
    def _tree(self) -> tuple[Int64, NDArray[np.float64]]:
        return self._values("merge_child"), self._values("merge_height")

    @cached_property
    def max_dist(self) -> float:
        """The threshold of the result; the highest merge where it is not recorded."""
        height = self._tree[1]
        return numbers.max_dist_of(self.ds) or float(height[-1] if len(height) else 0.0)

    def split(self, cag: int, max_dist: float) -> pd.DataFrame:
        """Groups that a CAG falls into when the merge tree is cut at a smaller distance, the largest first.

        Returns
        -------
        DataFrame
            Columns ``genes`` and ``first gene``; groups of one gene are one row, named as such.
        """
        import pandas as pd

        rows = self.rows_of(cag)
        child, height = self._tree
        head = cut_merges(child, height, len(self.label), max_dist)[rows]
        heads, counts = np.unique(head, return_counts=True)
        grouped = heads[counts >= 2][np.argsort(-counts[counts >= 2], kind="stable")]
        genes, names = np.sort(counts[counts >= 2])[::-1].tolist(), self._named(grouped)
        alone = int(np.count_nonzero(counts == 1))
        if alone:
            genes, names = [*genes, alone], [*names, "each alone"]
        return pd.DataFrame({"genes": genes, "first gene": names})

    def cut_command(self, max_dist: float) -> str:
        """The command that makes a result of this threshold."""
        return f"cagdask cut {shlex.quote(self.source)} --max-dist {max_dist:.4g} --output finer.zarr"
