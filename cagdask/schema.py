"""The data model: one table of variables, used to check input, to annotate output and to write the docs.

Everything cagdask reads and writes is an :class:`xarray.Dataset` on Zarr v3 with singular dims:

    abundance store        gene x sample      what was measured
    embedding store        gene x component   any vectors, one per gene
    result store           gene, cag, merge   CAGs, and the merge tree
    leaders, labels        leader, item       leaders and labels of a two-pass clustering
    factors store          gene, sample x component   latent factors of a non-negative matrix

Genes are the long axis: chunks split ``gene`` and keep ``sample`` whole, so a gene's profile is always in one block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cagdask.errors import SchemaError

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1
KINDS = ("abundance", "expression", "embedding")
RESULT_KIND = "cags"
LEADERS_KIND, LABELS_KIND = "leaders", "labels"
FACTORS_KIND = "factors"
ADDED_LATER = ("cag_parent", "cag_stability")
"""Variables of CAGs that only some results have."""

CAG_STATUSES = ("solid", "loose", "suspicious", "single-sample", "giant", "alone", "empty")
"""Values of ``cag_status``."""


@dataclass(frozen=True)
class Variable:
    """One row of the data model.

    Attributes
    ----------
    name, dims
        As stored.
    dtype
        NumPy name of the stored type; ``str`` is UTF-8 text of any length.
    units
        Unit of the values, or ``""`` for labels and indices.
    long_name
        One sentence for people.
    coordinate
        Whether xarray shows it as a coordinate.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    units: str
    long_name: str
    coordinate: bool = False


def _table(*rows: Variable) -> dict[str, Variable]:
    return {row.name: row for row in rows}


VARIABLES: dict[str, Variable] = _table(
    Variable("gene_id", ("gene",), "str", "", "Unique name of the gene", coordinate=True),
    Variable("sample_id", ("sample",), "str", "", "Unique name of the sample", coordinate=True),
    Variable(
        "abundance", ("gene", "sample"), "float32", "as ingested", "Abundance of the gene in the sample, 0 = absent"
    ),
    Variable("embedding", ("gene", "component"), "float32", "as ingested", "Vector of the gene"),
    Variable("gene_prevalence", ("gene",), "float32", "share of samples", "Samples in which the gene is present"),
    Variable("gene_symbol", ("gene",), "str", "", "Symbol of the gene, empty = unknown"),
    Variable("gene_description", ("gene",), "str", "", "What the gene is, in words, empty = unknown"),
    Variable("gene_length", ("gene",), "int64", "bp", "Length of the gene, -1 = unknown"),
    Variable("gene_cag", ("gene",), "int64", "", "CAG of the gene, 0 = the largest; -1 = filtered out"),
    Variable("gene_linkage_cag", ("gene",), "int64", "", "CAG of the gene before refinement; -1 = filtered out"),
    Variable(
        "gene_cag_distance", ("gene",), "float32", "cosine distance", "Distance of the gene to its CAG's mean direction"
    ),
    Variable(
        "gene_cag_second",
        ("gene",),
        "int64",
        "",
        "Of the 6,000 largest other CAGs of two genes or more, the one whose mean direction is nearest; -1 = none. "
        "Of a shared gene: the second CAG that explains it, which may be its own",
    ),
    Variable(
        "gene_cag_margin",
        ("gene",),
        "float32",
        "cosine distance",
        "How much farther the nearest other CAG is than the gene's own (a gene alone is at 0 from its own); negative = "
        "it is nearer; NaN = there is none",
    ),
    Variable(
        "gene_mean_abundance",
        ("gene",),
        "float32",
        "as normalized",
        "Mean abundance over samples, normalized, unfloored",
    ),
    Variable(
        "gene_assigned", ("gene",), "bool", "", "Whether the gene was put to its CAG by its distance, not clustered"
    ),
    Variable("gene_support", ("gene",), "float32", "samples", "How many samples carry the gene's profile, effectively"),
    Variable(
        "gene_status",
        ("gene",),
        "str",
        "",
        "supported, alone, too little support (its group may be chance), no profile (the same in all samples), or left "
        "out; if an error rate was estimated",
    ),
    Variable(
        "gene_role",
        ("gene",),
        "str",
        "",
        "core (present wherever the CAG is), accessory (in a part of the CAG's samples), shared (the sum of two CAGs), "
        "alone, or left out",
    ),
    Variable(
        "gene_core_cag",
        ("gene",),
        "int64",
        "",
        "CAG that the gene goes with: its own; of an accessory gene the one whose core it accompanies; of a shared "
        "gene the larger part; -1 = none",
    ),
    Variable(
        "cag_parent",
        ("cag",),
        "int64",
        "",
        "CAG that most of this one's genes go with, if it is another; -1 = none",
    ),
    Variable(
        "cag_stability",
        ("cag",),
        "float32",
        "share of splits",
        "Share of the splits of the samples in which both halves have the CAG; NaN for a gene alone; if asked for",
    ),
    Variable(
        "cag_core_abundance",
        ("cag", "sample"),
        "float32",
        "as normalized",
        "Median normalized abundance of core genes; where a sample has fewer than a tenth of them, the value of an "
        "absent gene",
    ),
    Variable(
        "cag_core_share", ("cag", "sample"), "float32", "share of core genes", "Core genes that are there, in [0, 1]"
    ),
    Variable("cag_size", ("cag",), "int64", "genes", "Genes in the CAG"),
    Variable(
        "cag_prevalence", ("cag",), "float32", "share of samples", "Samples in which a gene of the CAG is present"
    ),
    Variable("cag_mean_abundance", ("cag",), "float32", "as normalized", "Mean of cag_abundance over samples"),
    Variable(
        "cag_std_abundance", ("cag",), "float32", "as normalized", "Standard deviation of cag_abundance over samples"
    ),
    Variable("cag_entropy", ("cag",), "float32", "nat", "Shannon entropy of the CAG's distribution over samples"),
    Variable(
        "cag_cohesion", ("cag",), "float32", "similarity", "Mean similarity of two genes of the CAG; 1 for a gene alone"
    ),
    Variable(
        "cag_cohesion_low",
        ("cag",),
        "float32",
        "similarity",
        "Lower end of the 95 % interval of cag_cohesion, by leaving out one gene at a time; NaN below three genes",
    ),
    Variable("cag_cohesion_high", ("cag",), "float32", "similarity", "Upper end of that interval"),
    Variable(
        "cag_status",
        ("cag",),
        "str",
        "",
        "solid, loose, suspicious, single-sample, giant, alone (one gene) or empty; the attribute meanings says when",
    ),
    Variable(
        "cag_representative",
        ("cag",),
        "str",
        "",
        "Gene nearest to the CAG's mean direction, the first of equal ones; empty for a CAG without genes",
    ),
    Variable(
        "cag_abundance", ("cag", "sample"), "float32", "as normalized", "Mean normalized abundance of member genes"
    ),
    Variable(
        "cag_sum", ("cag", "sample"), "float64", "as ingested", "Sum of the abundances of member genes, as ingested"
    ),
    Variable(
        "merge_child",
        ("merge", "child"),
        "int64",
        "",
        "The two nodes joined; node n_genes + i is merge i, as in SciPy",
    ),
    Variable(
        "merge_height", ("merge",), "float64", "distance", "Distance at which the two were joined, never decreasing"
    ),
    Variable("feature_id", ("feature",), "str", "", "What a value of an item was measured in", coordinate=True),
    Variable("leader_vector", ("leader", "feature"), "float64", "as in the source", "The item that leads"),
    Variable("leader_cluster", ("leader",), "int64", "", "Cluster that it leads, from 1"),
    Variable("leader_row", ("leader",), "int64", "", "Its row in the source"),
    Variable("leader_id", ("leader",), "str", "", "Its name in the source"),
    Variable("draw_row", ("draw",), "int64", "", "Row in the source of an item of the sample, ascending"),
    Variable("draw_cluster", ("draw",), "int64", "", "Cluster of it in the first pass; 0 = it has no direction"),
    Variable("item_id", ("item",), "str", "", "Name of the item", coordinate=True),
    Variable("item_cluster", ("item",), "int64", "", "Cluster of the nearest leader, from 1; 0 = unassigned"),
    Variable("item_distance", ("item",), "float32", "distance", "Distance to the nearest leader"),
    Variable(
        "item_margin", ("item",), "float32", "distance", "How much farther the nearest leader of another cluster is"
    ),
    Variable("cluster_size", ("cluster",), "int64", "items", "Items in the cluster; the first are those unassigned"),
    Variable(
        "gene_loading", ("gene", "component"), "float32", "", "Weight of the gene in the component, columns of length 1"
    ),
    Variable(
        "sample_latent", ("sample", "component"), "float32", "as factorized", "Amount of the component in the sample"
    ),
    Variable("gene_shift", ("gene",), "float32", "as factorized", "Subtracted from the gene's values before"),
    Variable(
        "gene_content", ("gene", "hash"), "uint64", "", "Where rows are CAGs: sums of two hashes of the CAG's gene ids"
    ),
    Variable(
        "gene_zscore",
        ("gene", "component"),
        "float32",
        "standard deviations",
        "Change of the standardized gene with the component's share of the sample",
    ),
)


class View(Protocol):
    """What a dataset and a look at a store have in common."""

    @property
    def attrs(self) -> Any:
        """Attributes by name."""

    @property
    def variables(self) -> Any:
        """Variables by name."""

    def __getitem__(self, name: str) -> Any:
        """A variable, with its dims and dtype."""


STORE_ATTRIBUTES = ("schema_version", "kind", "source", "history")
RESULT_ATTRIBUTES = (
    *STORE_ATTRIBUTES,
    "parameters",
    "input_digest",
    "seed",
    "metric",
    "linkage",
    "max_dist",
    "certified",
)


def attributes(name: str) -> dict[str, Any]:
    """Attributes to store with a variable: ``long_name`` and, where it has one, ``units``."""
    row = VARIABLES[name]
    return {"long_name": row.long_name} | ({"units": row.units} if row.units else {})


def value_name(kind: str) -> str:
    """Name of the matrix in a store of this kind: ``embedding`` or ``abundance``."""
    return "embedding" if kind == "embedding" else "abundance"


def validate(ds: xr.Dataset | View, *names: str, where: str = "dataset") -> None:
    """Check that variables are there with the dims and kind of dtype of the data model.

    Parameters
    ----------
    ds
        What to check; nothing of it is read.
    names
        Variables that must be there.
    where
        Path or word that the message names.

    Raises
    ------
    SchemaError
        One is missing, or has other dims or another kind of dtype, or the schema version is not ours.
    """
    version = ds.attrs.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise SchemaError(
            f"{where}: has schema version {version}, this cagdask reads version {SCHEMA_VERSION}. "
            "Ingest it again, or use the cagdask that wrote it."
        )
    for name in names:
        row = VARIABLES[name]
        if name not in ds.variables:
            raise SchemaError(
                f"{where}: has no variable {name!r} (it has {', '.join(map(str, ds.variables)) or 'none'})."
            )
        found = ds[name]
        if found.dims != row.dims:
            raise SchemaError(f"{where}: {name} has dims {found.dims}, needs {row.dims}.")
        wanted = {"str": "OTU", "int64": "iu", "float32": "fiu", "float64": "fiu", "bool": "b"}[row.dtype]
        if found.dtype.kind not in wanted:
            raise SchemaError(f"{where}: {name} is of dtype {found.dtype}, needs {row.dtype}.")


def is_certified(ds: xr.Dataset | View) -> bool | None:
    """Whether every merge of a result was proven; None where it does not say. A text "false" is no."""
    certified = ds.attrs.get("certified")
    return None if certified is None else str(certified).lower() in ("true", "1")
