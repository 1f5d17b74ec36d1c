"""Questions about one result or store, each answered in a fraction of a second, for a million genes too.

    name or part of it --Arrow text search--> genes --label--> CAG --row of cag_abundance--> samples
                                                |               |--merges within it--> smaller groups
                                                |               '--map of all CAGs--> a place
                                                '--profiles in memory--> similar genes, analogies

Nothing is read before it is needed; what was read stays. Names, the map and profiles take seconds for a million genes:
:meth:`Session.read_ahead` reads them in the background.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage, stores
from cagdask.errors import SchemaError
from cagdask.explore.cag_map import CagMap, gene_places, map_of
from cagdask.explore.gene_names import MOST_HITS, GeneNames
from cagdask.explore.gene_vectors import GeneVectors, NotReadyError
from cagdask.plot import numbers
from cagdask.plot.merges import MergeTree, Subtree
from cagdask.plot.samples import sample_table
from cagdask.vectors.ranking import unit_rows

if TYPE_CHECKING:
    import pandas as pd

MOST_MEMBERS = 1_000
"""Genes of a CAG that are listed; the nearest to its mean direction first."""

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]


@dataclass
class Session:
    """One opened result, or a store of genes without CAGs.

    Attributes
    ----------
    url
        The result store, the folder of a run that holds one, or a store of abundances or of an embedding.
    """

    url: str
    _mapping: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _map_error: Exception | None = None

    # -- what is opened ----------------------------------------------------------------------------------------------

    @cached_property
    def ds(self) -> Any:
        """The result, or the store, as a :class:`~cagdask.storage.StoreView`; only metadata is read.

        Raises
        ------
        StoreError
            Nothing is there.
        SchemaError
            It holds no genes.
        """
        url = stores.result_url(self.url)
        ds = storage.look(url if stores.is_store(url) else stores.abundance_url(self.url))
        if "gene_id" not in ds.variables:
            raise SchemaError(f"{ds.url}: holds no genes. Name a result, the folder of a run, or a store of genes.")
        if "gene_cag" in ds.variables:
            stores.open_result(ds.url)
        return ds

    @property
    def source(self) -> str:
        """Where the result, or the store, is."""
        return str(self.ds.url)

    @cached_property
    def has_cags(self) -> bool:
        """Whether genes are in CAGs."""
        return "gene_cag" in self.ds.variables

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """How the result was made."""
        return numbers.parameters_of(self.ds)

    @cached_property
    def metric(self) -> str:
        """What the page compares profiles by: ``correlation`` if the result is by correlation or ranks."""
        return "cosine" if self.ds.attrs.get("metric", "cosine") == "cosine" else "correlation"

    @cached_property
    def label(self) -> Int64:
        """CAG of each gene, shape (n_genes,), -1 for genes filtered out."""
        return self._values("gene_cag") if self.has_cags else np.full(self.ds["gene_id"].shape[0], -1)

    @cached_property
    def sizes(self) -> Int64:
        """Genes per CAG, shape (n_cags,)."""
        return self._values("cag_size") if self.has_cags else np.zeros(0, np.int64)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Metadata of the samples, indexed by sample id; no column where there is none."""
        import pandas as pd

        if "sample_id" in self.ds.variables:
            return sample_table(self.ds)
        return pd.DataFrame(index=[f"component {i}" for i in range(self.ds.sizes.get("component", 0))])

    def _values(self, name: str) -> NDArray[Any]:
        return np.asarray(storage.open_array(self.source, name)[:])

    # -- genes -------------------------------------------------------------------------------------------------------

    @cached_property
    def names(self) -> GeneNames:
        """Names of the genes."""
        return GeneNames(self.source)

    @cached_property
    def vectors(self) -> GeneVectors | None:
        """Profiles of the genes; None if the store that was clustered is not at hand."""
        if not self.has_cags:
            return GeneVectors(self.source)
        store = stores.clustered_store(self.source)
        if store is None or not stores.is_store(store):
            return None
        parameters = self.parameters
        normalization = parameters.get("normalization")
        floor = parameters.get("clr_floor") if normalization == "clr" else None
        return GeneVectors(store, normalization, floor, self.metric)

    def read_ahead(self, after: threading.Event | None = None) -> threading.Thread:
        """Begin to read what takes seconds: names at once, all else once ``after`` is set, or after 10 s."""
        names, vectors = self.names, self.vectors  # made before there are two threads that would each make them

        def read() -> None:
            with suppress(Exception):  # a thread has nobody to raise it to; whoever asks is told
                names.all()
            if after is not None:
                after.wait(10)
            if vectors is not None:
                with suppress(Exception):
                    vectors.load()
            if self.has_cags:
                try:
                    self.cag_map(wait=True)
                except Exception as err:  # whoever asks for the map is told
                    self._map_error = err

        thread = threading.Thread(target=read, daemon=True, name="cagdask-read-ahead")
        thread.start()
        return thread

    def find(self, text: str, most: int = MOST_HITS) -> pd.DataFrame:
        """Genes whose name holds a text, whatever its case; those that begin with it first.

        Returns
        -------
        DataFrame
            Columns ``gene``, ``cag`` (-1 = filtered out), ``genes`` (size of the CAG); at most ``most`` rows. Without
            CAGs only ``gene``.
        """
        return self._genes(self.names.find(text, most))

    def _genes(self, rows: Int64) -> pd.DataFrame:
        import pandas as pd

        table = pd.DataFrame({"gene": self.names.at(rows)}, dtype=object)
        if self.has_cags:
            cags = self.label[rows]
            sizes = self.sizes if len(self.sizes) else np.zeros(1, np.int64)
            table["cag"], table["genes"] = cags, np.where(cags >= 0, sizes[np.maximum(cags, 0)], 0)
        return table

    def similar_genes(self, gene: str, k: int = 10) -> pd.DataFrame:
        """Genes with the most similar profile: columns of :meth:`find`, and ``similarity``, best first.

        Raises
        ------
        NotReadyError, ValueError, CagdaskError
            Profiles are being read, or can not be; there is no such gene.
        """
        row = self.names.row(gene)
        rows, scores = self._ready_vectors().similar(row, k)
        return self._genes(rows).assign(similarity=scores)

    def analogous_genes(self, a: str, b: str, c: str, k: int = 10) -> pd.DataFrame:
        """Genes d for which a is to b as c is to d; table and errors as of :meth:`similar_genes`."""
        rows, scores = self._ready_vectors().fourth(self.names.row(a), self.names.row(b), self.names.row(c), k)
        return self._genes(rows).assign(similarity=scores)

    def _ready_vectors(self) -> GeneVectors:
        if self.vectors is None:
            raise ValueError(
                "profiles of the genes are in the store that was clustered, which is not beside this result. Keep "
                "abundance.zarr in its folder, or explore that store."
            )
        self.vectors.check()
        return self.vectors

    def gene_profile(self, gene: str) -> Float32:
        """Normalized profile of a gene, shape (n_samples,); as for :meth:`similar_genes`."""
        vectors = self._ready_vectors()
        return np.asarray(vectors.vectors.read_at(np.array([self.names.row(gene)]))[0])

    # -- one CAG -----------------------------------------------------------------------------------------------------

    def check(self, cag: int) -> None:
        """Raise a ValueError unless the result has this CAG."""
        if not len(self.sizes):
            raise ValueError("this store holds no CAGs; name a gene.")
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
        columns = {"gene": self.names.at(rows), "distance": self.distance[rows]}
        if self.margin is not None:
            columns["margin"] = self.margin[rows]
        return pd.DataFrame(columns)

    def profile(self, cag: int) -> Float32:
        """Normalized abundance of a CAG, shape (n_samples,)."""
        self.check(cag)
        return np.asarray(storage.open_array(self.source, "cag_abundance")[cag])

    def describe(self, cag: int) -> dict[str, float]:
        """Size and measures of a CAG by name."""
        self.check(cag)
        names = ("prevalence", "mean_abundance", "std_abundance", "entropy", "cohesion")
        found = {name: float(self.measures(name)[cag]) for name in names if f"cag_{name}" in self.ds.variables}
        return {"genes": float(self.sizes[cag])} | found

    def measures(self, name: str) -> NDArray[Any]:
        """A measure of every CAG, shape (n_cags,)."""
        kept: dict[str, NDArray[Any]] = self.__dict__.setdefault("_measured", {})
        if name not in kept:
            kept[name] = self._values(f"cag_{name}")
        return kept[name]

    # -- other CAGs --------------------------------------------------------------------------------------------------

    @cached_property
    def _directions(self) -> Float32:
        """Unit profiles of the CAGs of two genes or more, which are the first; shape (n, n_samples)."""
        n = int(np.count_nonzero(self.sizes >= 2)) or len(self.sizes)  # CAGs are ordered by size
        return unit_rows(np.asarray(storage.open_array(self.source, "cag_abundance")[:n]), self.metric)

    def nearest_cags(self, cag: int, k: int = 10) -> pd.DataFrame:
        """CAGs of two genes or more with the most similar profile: ``cag``, ``genes``, ``similarity``."""
        import pandas as pd

        unit = self._directions
        similarity = unit @ unit_rows(self.profile(cag)[None], self.metric)[0]
        similarity[cag : cag + 1] = -np.inf
        k = min(k, len(unit) - (cag < len(unit)))
        best = np.argpartition(-similarity, k - 1)[:k] if k > 0 else np.zeros(0, np.int64)
        best = best[np.lexsort((best, -similarity[best]))]
        return pd.DataFrame({"cag": best, "genes": self.sizes[best], "similarity": similarity[best].round(4)})

    def cag_map(self, *, wait: bool = False) -> CagMap:
        """Places of all CAGs in a plane; laid out once.

        Raises
        ------
        NotReadyError
            It is not laid out yet, and ``wait`` is not set.
        """
        if self._map_error is not None:
            raise self._map_error
        if not wait and "_cag_map" not in self.__dict__:
            raise NotReadyError("the map is being laid out, which takes some seconds. Come back in a moment.")
        with self._mapping:
            return self._cag_map

    @property
    def is_mapped(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self.has_cags or self._map_error is not None or "_cag_map" in self.__dict__

    @cached_property
    def _cag_map(self) -> CagMap:
        return map_of(self.source, self.metric)

    @cached_property
    def gene_places(self) -> Float32:
        """Places of all genes on the map, shape (n_genes, 2); the map has to be laid out."""
        return gene_places(self.cag_map(), self.label, self.distance, self.sizes)

    # -- other thresholds --------------------------------------------------------------------------------------------

    @cached_property
    def tree(self) -> MergeTree:
        """All merges of the result."""
        return MergeTree(self._values("merge_child"), self._values("merge_height"), self.label)

    def subtree(self, cag: int) -> Subtree:
        """The merges of one CAG."""
        self.check(cag)
        return self.tree.of(cag)

    @cached_property
    def max_dist(self) -> float:
        """The threshold of the result; the highest merge where it is not recorded."""
        return numbers.max_dist_of(self.ds) or float(self.tree.height.max(initial=0.0))

    def split(self, cag: int, max_dist: float) -> pd.DataFrame:
        """Groups that a CAG falls into at a smaller distance, the largest first: ``genes``, ``first gene``.

        Genes that are alone are one row, named as such.
        """
        import pandas as pd

        tree = self.subtree(cag)
        heads, counts = np.unique(tree.heads(max_dist), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        order = order[counts[order] >= 2]
        genes, names = counts[order].tolist(), self.names.at(tree.rows[heads[order]])
        alone = int(np.count_nonzero(counts == 1))
        if alone:
            genes, names = [*genes, alone], [*names, "each alone"]
        return pd.DataFrame({"genes": genes, "first gene": names})
