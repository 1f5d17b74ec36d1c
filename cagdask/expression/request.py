"""What a normalization of expression is to do: its steps, genes and lengths, known before any value is read.

======================  =======================================================  ===============
step                    value                                                    needs
======================  =======================================================  ===============
``cpm``                 v · 10⁶ / Σv                                             one pass of sums
``tpm``                 v / length · 10⁶ / Σ(v / length)                         the same
``rpkm``                v · 10⁹ / (length · Σv)                                  the same
``tmm``                 v · 10⁶ / (Σv · factor), factors with a product of 1     tiles
``median-of-ratios``    v / factor                                               tiles
``log``                 log2(1 + v)
``quantile``            mean of the sorted samples, in the order of the sample   tiles
======================  =======================================================  ===============

Steps are joined by ``+`` in this order: ``tpm+log+quantile``. ``quantile`` alone means ``log+quantile``.

"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cagdask import schema, storage
from cagdask.errors import InputError, SchemaError
from cagdask.expression import tasks
from cagdask.expression.lengths import read_lengths
from cagdask.io.gene_matching import without_version
from cagdask.labels.reading import some_of

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

DEPTHS = ("cpm", "tpm", "rpkm", "tmm", "median-of-ratios")
BY_LENGTH = ("tpm", "rpkm")
STEPS = (*DEPTHS, "log", "quantile")
WITHOUT_LENGTH = ("error", "drop", "median")
ARCHS4 = "archs4"
TILE_BYTES = 2**28
"""Whole samples of one task, float32, at most."""


def parse_method(method: str) -> tuple[str, ...]:
    """Steps of a method of expression, in order.

    Raises
    ------
    ValueError
        A step is not known, or out of order.

    Examples
    --------
    >>> parse_method("tpm+log"), parse_method("quantile")
    (('tpm', 'log'), ('log', 'quantile'))
    """
    steps = ("log", "quantile") if method == "quantile" else tuple(method.split("+"))
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not known; join steps of {', '.join(STEPS)} by +.")
    ranks = [0 if step in DEPTHS else STEPS.index(step) for step in steps]
    if ranks != sorted(set(ranks)):
        raise ValueError(f"method {method!r}: write one of {', '.join(DEPTHS)}, then log, then quantile, each once.")
    return steps


@dataclass(frozen=True)
class Request:
    """What a normalization does.

    Attributes
    ----------
    steps, compat
        Steps in order, and ``archs4`` or None.
    url
        The store to read.
    n_genes, n_samples
        Its shape.
    kept
        Rows of genes that take part, ascending.
    length
        Of each of these, bp, or None where no step needs it.
    """

    steps: tuple[str, ...]
    compat: str | None
    url: str
    n_genes: int
    n_samples: int
    kept: NDArray[np.int64]
    length: NDArray[np.float64] | None

    @property
    def method(self) -> str:
        """Its name, as stores keep it."""
        return self.compat or "+".join(self.steps)

    @property
    def depth(self) -> str | None:
        """The step that makes samples of different depth comparable, if any."""
        return next((step for step in self.steps if step in DEPTHS), None)

    @property
    def needs_tiles(self) -> bool:
        """Whether a step needs whole samples."""
        return "quantile" in self.steps or self.depth in ("tmm", "median-of-ratios")

    def tile_samples(self, budget: int) -> int:
        """Samples of a tile: whole groups that are sorted at once, within a quarter of what a task may hold."""
        n_genes = len(self.kept)
        group = tasks.group_samples(n_genes)
        return min(self.n_samples, max(1, min(TILE_BYTES, budget // 4) // (4 * n_genes) // group) * group)


def checked_steps(
    method: str, lengths: str | None, without_length: str, target: str | None, compat: str | None
) -> tuple[str, ...]:
    """Steps of a method, once its options go together.

    Raises
    ------
    ValueError
        One is not known, or they do not.
    """
    if without_length not in WITHOUT_LENGTH:
        raise ValueError(f"`without_length` is {without_length!r}; choose one of {', '.join(WITHOUT_LENGTH)}.")
    if compat not in (None, ARCHS4):
        raise ValueError(f"`compat` is {compat!r}; it can be {ARCHS4}.")
    steps = parse_method("quantile" if compat else method)
    if lengths and not compat and not set(steps) & set(BY_LENGTH):
        raise ValueError(f"gene lengths are for {' and '.join(BY_LENGTH)}, not for {method}. Leave them out.")
    if target and "quantile" not in steps:
        raise ValueError(f"a target is for quantile, not for {method}. Leave it out.")
    return steps


def open_source(source: str) -> xr.Dataset:
    """The store, lazy; refused where it is no expression, normalized already, or empty."""
    ds = storage.open_dataset(source)
    if ds.attrs.get("kind") == "embedding":
        raise SchemaError(f"{source}: holds embedding, which is not expression. Name a store of counts or abundances.")
    schema.validate(ds, "abundance", "gene_id", "sample_id", where=source)
    earlier = ds.attrs.get("normalization", "none")
    if earlier != "none":
        raise InputError(f"{source}: is normalized already, by {earlier}. Start from the values as ingested.")
    if not ds.sizes["gene"] or not ds.sizes["sample"]:
        raise InputError(f"{source}: is empty ({ds.sizes['gene']} x {ds.sizes['sample']}). Name another store.")
    return ds


def lengths_of_genes(
    ds: xr.Dataset, source: str, url: str | None, rule: str, column: str | None
) -> NDArray[np.float64]:
    """Length of each gene of the store, float64, NaN where it is not known.

    Raises
    ------
    InputError
        The store has none, or one is 0; or as :func:`cagdask.expression.lengths.read_lengths` says.
    """
    if url is None:
        if "gene_length" not in ds:
            raise InputError(f"{source}: has no gene_length. Give an annotation or a table with `lengths`.")
        own = np.asarray(ds["gene_length"].values)
        if (own == 0).any():
            gene = str(ds["gene_id"].values[np.flatnonzero(own == 0)[0]])
            raise InputError(f"{source}: gene {gene!r} has length 0. A length must be 1 bp or more, or -1 for unknown.")
        return np.where(own > 0, own, np.nan).astype(np.float64)
    table = read_lengths(url, rule, column)
    return np.array([table.get(without_version(str(name)), np.nan) for name in ds["gene_id"].values], np.float64)


def request_of(
    ds: xr.Dataset,
    source: str,
    steps: tuple[str, ...],
    compat: str | None,
    length: NDArray[np.float64] | None,
    without: str,
) -> Request:
    """What is to be done with the store, once genes of unknown length are dealt with.

    Raises
    ------
    InputError
        Lengths are missing.
    """
    n_genes = ds.sizes["gene"]
    kept = np.arange(n_genes, dtype=np.int64)
    if length is not None:
        unknown = np.flatnonzero(np.isnan(length))
        if len(unknown) == n_genes:
            raise InputError(f"{source}: none of its {n_genes:,} genes has a known length. Check how genes are named.")
        if len(unknown):
            names = some_of(list(ds["gene_id"].values[unknown]))
            said = f"{source}: {len(unknown):,} of {n_genes:,} genes have no known length ({names})"
            if without == "error":
                raise InputError(
                    f"{said}. Leave them out with `without_length='drop'`, or take the median of the others with "
                    "`without_length='median'`."
                )
            logger.warning("%s: %s.", said, "left out" if without == "drop" else "the median of the others is used")
        if without == "drop":
            kept = np.flatnonzero(~np.isnan(length)).astype(np.int64)
            length = length[kept]
        length = np.where(np.isnan(length), np.nanmedian(length), length)
    return Request(steps, compat, str(ds.encoding["source"]), n_genes, ds.sizes["sample"], kept, length)


def read_target(target: str, ds: xr.Dataset, request: Request) -> NDArray[np.float64]:
    """Quantiles of an earlier output.

    Raises
    ------
    InputError
        It has none, was made by another method, or has other genes.
    """
    other = storage.open_dataset(target)
    if "quantile_target" not in other:
        raise InputError(f"{target}: holds no quantile_target. Name the output of a normalization with quantile.")
    made_by = other.attrs.get("normalization")
    if made_by != request.method:
        raise InputError(f"{target}: was made by {made_by}, not by {request.method}. Use its method.")
    mine, theirs = set(map(str, ds["gene_id"].values[request.kept])), set(map(str, other["gene_id"].values))
    if mine != theirs:
        raise InputError(
            f"{target}: has {len(theirs):,} genes, of which {len(theirs - mine):,} are not here (there are "
            f"{len(mine):,}). Quantiles need the same genes."
        )
    return np.asarray(other["quantile_target"].values, np.float64)
