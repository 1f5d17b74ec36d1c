"""CAGs of a model as features of another cohort, whose store holds genes.

    classify   result --genes of the chosen CAGs--> members.parquet, beside the model
    predict    members --by gene id--> rows of the new store --normalized as the result was--> sums by CAG --> means

A task sums the genes of a block by CAG, so what it holds and writes is no larger than the block. Blocks follow from the
shape of the store alone, and their sums are added in order: chunks and workers change no bit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.factors.matrix import Matrix
from cagdask.io.gene_matching import hashes_of, hashes_of_names, rows_by_hash
from cagdask.labels.classification.features import normalization_of
from cagdask.labels.reading import some_of
from cagdask.normalization.methods import normalize_block
from cagdask.normalization.sample_statistics import SampleStatistics, sample_statistics
from cagdask.reports.tables import genes_by_cag
from cagdask.reports.writers import WRITERS
from cagdask.storage.arrays import Files, array

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

MEMBERS = "members.parquet"
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class PlaceFiles(Files):
    """Genes of the new store."""

    place: Int64 = array(np.int64, "gene", "feature of the model that the gene is part of, -1 for none")


class SumFiles(Files):
    """Sums over the genes of a block."""

    place: Int64 = array(np.int64, "feature", "feature of the model, rising")
    sums: Float64 = array(np.float64, "feature, sample", "sum of the normalized values of its genes")


@dataclass(frozen=True)
class Members:
    """Genes of a model's CAGs, and where they are in a new store.

    Attributes
    ----------
    n_genes
        Genes of each feature, shape (n_features,), int64.
    place
        Feature of each gene of the new store, -1 for none, shape (n_genes_of_store,), int64.
    """

    n_genes: Int64
    place: Int64

    @property
    def n_found(self) -> Int64:
        """Genes of each feature that the new store has, shape (n_features,)."""
        return np.bincount(self.place[self.place >= 0], minlength=len(self.n_genes))


def how_made(result: str) -> dict[str, Any]:
    """How the table was normalized whose means are the CAGs of a result, and what an absent gene is in it.

    ``absent`` is None for a result of an earlier version, which does not say it.
    """
    absent: Any = storage.open_array(result, "cag_abundance").attrs.get("absent")
    return {"normalization": normalization_of(result), "absent": None if absent is None else float(absent)}


def write_members(result: str, rows: Int64, folder: str) -> None:
    """Write the genes of some CAGs of a result, as columns ``feature`` (place in ``rows``) and ``gene``."""
    import pyarrow as pa

    schema = pa.schema([("feature", pa.int64()), ("gene", pa.string())])

    def batches() -> Iterator[pa.RecordBatch]:
        for labels, names in genes_by_cag(storage.open_group(result)):
            at = np.minimum(np.searchsorted(rows, labels), len(rows) - 1)
            kept = rows[at] == labels
            if kept.any():
                yield pa.record_batch([pa.array(at[kept]), pa.array(names[kept], pa.string())], schema=schema)

    WRITERS["parquet"](storage.join(folder, MEMBERS), schema, batches())


def find_members(model: str, n_features: int, store: str) -> Members:
    """Genes of a model's CAGs by their ids in a store.

    Raises
    ------
    SchemaError
        The model does not know its genes.
    InputError
        The store has none of them.
    """
    import pyarrow.parquet as pq

    url = storage.join(model, MEMBERS)
    if not storage.exists(url):
        raise SchemaError(f"{model}: does not hold the genes of its CAGs. Train it again.")
    held = pq.read_table(BytesIO(storage.read_bytes(url)))
    feature = held.column("feature").to_numpy().astype(np.int64)
    row = rows_by_hash(hashes_of_names(held.column("gene").to_numpy(zero_copy_only=False)), hashes_of(store))
    place = np.where(row >= 0, feature[row], -1)
    if not (row >= 0).any():
        gene = str(held.column("gene")[0].as_py())
        raise InputError(
            f"{store}: has none of the {len(feature):,} genes of the CAGs of {model}, such as {gene!r}. "
            "Check how genes are named."
        )
    return Members(np.bincount(feature, minlength=n_features), place.astype(np.int64))


def check_normalization(store: str, card: dict[str, Any], model: str) -> str:
    """How values of a store have to be normalized for a model of CAGs; ``none`` if they are already.

    Raises
    ------
    InputError
        They were normalized in another way.
    """
    wanted = str(card["features"]["normalization"])
    done = str(storage.open_group(store).attrs.get("normalization", "none"))
    if done == "none":
        return wanted
    if done != wanted or done == "clr":  # a table of clr begins at its floor, and CAGs are means without one
        raise InputError(
            f"{store}: is normalized by {done}, and the CAGs of {model} come from values normalized by {wanted}. Name "
            "the store before it was normalized."
        )
    return "none"


class CagMeans:
    """Values of a model's CAGs in the samples of a store of genes.

    Parameters
    ----------
    members
        Genes of the CAGs.
    parts
        Folders that :func:`sum_task` wrote.
    missing
        ``zero``: genes that the store lacks are absent in all samples. ``error``: means are over the genes that it has.
    absent
        What an absent gene is in the normalized table.
    """

    def __init__(self, members: Members, parts: list[str], missing: str, absent: float) -> None:
        self.parts = parts
        lacking = members.n_genes - members.n_found
        self.count = members.n_genes if missing == "zero" else np.maximum(members.n_found, 1)
        self.added = lacking * absent if missing == "zero" else np.zeros(len(lacking))

    def read(self, begin: int, end: int) -> Float32:
        """Values of samples ``begin`` to ``end``, shape (n_samples, n_features)."""
        total = np.repeat(self.added[:, None], end - begin, axis=1)
        for part in SumFiles.open_all(self.parts):
            total[part.place] += part.sums[:, begin:end]
        return (total / self.count[:, None]).T.astype(np.float32)


def cag_means(
    model: str, card: dict[str, Any], held: Matrix, missing: str, runner: Runner, folder: str
) -> tuple[CagMeans, dict[str, int]]:
    """Values of a model's CAGs from the genes of a store, and how many of these were found.

    Parameters
    ----------
    model, card
        The model and its card.
    held
        Rows of the store.
    missing
        ``error`` or ``zero``; see :class:`CagMeans`. With ``error`` every CAG must have a gene.
    runner, folder
        Where to compute, and where tasks put what they find.

    Raises
    ------
    InputError
        CAGs have no gene in the store, or it was normalized in another way.
    """
    names, said = card["features"]["names"], held.said or held.url
    method = check_normalization(held.url, card, model)
    members = find_members(model, len(names), held.url)
    found, lacking = members.n_found, [names[i] for i in np.flatnonzero(members.n_found == 0)]
    counts = {"n_genes_of_model": int(members.n_genes.sum()), "n_genes_found": int(found.sum()),
              "n_cags_without_genes": len(lacking)}  # fmt: skip
    if lacking and missing == "error":
        raise InputError(
            f"{said}: {len(lacking):,} of the {len(names):,} CAGs of {model} have no gene there: {some_of(lacking)}. "
            "Check how genes are named, or take them as absent with missing zero."
        )
    if counts["n_genes_found"] < counts["n_genes_of_model"]:
        do = "the others are taken as absent" if missing == "zero" else "CAGs are the means of these"
        logger.warning("%s: has %d of the %d genes of the CAGs of %s; %s", said, counts["n_genes_found"],
                       counts["n_genes_of_model"], model, do)  # fmt: skip
    statistics = sample_statistics(held.url, runner, method, folder)
    absent = card["features"]["absent"]
    if absent is None:
        absent = statistics.absent(method)
    at = storage.join(folder, "statistics.npz")
    storage.write_bytes(at, statistics.to_bytes())
    places = storage.join(folder, "places")
    PlaceFiles(place=members.place).write(places)
    ranges = [held.rows(i, i + 1) for i in range(held.n_blocks)]
    parts = [storage.join(folder, f"sums-{begin}") for begin, _ in ranges]
    items = [(held.url, *own, method, at, absent, places, part) for own, part in zip(ranges, parts, strict=True)]
    runner.map("sum CAGs", sum_task, items, unit="genes", weights=[end - begin for begin, end in ranges])
    return CagMeans(members, parts, missing, absent), counts


def sum_task(
    url: str, begin: int, end: int, method: str, statistics: str, absent: float, places: str, folder: str
) -> int:
    """Sum genes ``begin`` to ``end`` of a store by the CAG that they are part of.

    An absent gene is what it was where the model learned: the smallest log ratio of another table is another number.
    """
    place = np.asarray(PlaceFiles.open(places, begin, end).place)
    order = np.argsort(place, kind="stable")
    order = order[np.count_nonzero(place < 0) :]
    block = np.asarray(storage.open_array(url, "abundance")[begin:end], np.float32)[order]
    known = SampleStatistics.from_bytes(storage.read_bytes(statistics))
    values = normalize_block(block, method, known, floored=False)
    if method != "none":
        values[block == 0] = absent
    found, starts = np.unique(place[order], return_index=True)
    sums = np.add.reduceat(values, starts, axis=0) if len(found) else np.zeros((0, block.shape[1]))
    SumFiles(place=found, sums=sums).write(folder)
    return end - begin
