"""What a CAG is, in words: its representative gene, what most of its genes are said to be, and how sure it is.

    gene_cag, gene_cag_distance --sort--> the gene nearest to each CAG's mean direction --> its name
    gene_taxonomy (any gene_* of text) --hash--> the most frequent value in each CAG    --> the value, and its share
    distances, margins, status of genes                 --confidence--> interval of the cohesion, and a word

One task; it holds 80 bytes per gene, and the words of one chunk of genes and of all CAGs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import schema, storage
from cagdask.cags import confidence
from cagdask.cags.results import STATUSES, UNSUPPORTED, CagFiles, MeasuredFiles, StatusFiles
from cagdask.io.fields import FREE
from cagdask.io.gene_matching import hashes_of

if TYPE_CHECKING:
    import zarr

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SHARE = "_share"
"""Ending of the variable that says which share of a CAG's genes has its most frequent value."""


def metadata_of_genes(store: zarr.Group) -> list[str]:
    """Variables of a store that describe genes and are carried into results, such as ``gene_taxonomy``."""
    names = [name for name in store.array_keys() if name.startswith("gene_")]
    free = [name for name in names if name not in schema.VARIABLES or name in FREE]
    return sorted(name for name in free if len(store[name].shape) == 1)  # type: ignore[union-attr]


def words_of_genes(store: zarr.Group) -> dict[str, str]:
    """Those of them that are text, and the name of the variable per CAG: ``gene_taxonomy`` to ``cag_taxonomy``."""
    found = {name: f"cag_{name.removeprefix('gene_')}" for name in metadata_of_genes(store)}
    taken = schema.VARIABLES.keys()
    return {
        name: of_cag
        for name, of_cag in found.items()
        if store[name].dtype.kind in "OUT" and of_cag not in taken  # type: ignore[union-attr]
    }


def create_metadata(group: zarr.Group, source: zarr.Group, n_genes: int, chunk: int) -> None:
    """Arrays for what a store says of genes, yet to fill."""
    for name in metadata_of_genes(source):
        held: Any = source[name]
        attrs = {key: value for key, value in held.attrs.items() if key != "coordinates"}
        attrs = schema.attributes(name) if name in schema.VARIABLES else attrs
        is_text = held.dtype.kind in "OUT"
        storage.create_array(
            group, name, (n_genes,), chunks=(chunk,), dims=("gene",), dtype=str if is_text else held.dtype,
            attrs=attrs,
        )  # fmt: skip


def create_words(group: zarr.Group, source: zarr.Group, n_cags: int, rows: int) -> None:
    """Arrays for what most genes of a CAG are said to be, yet to fill."""
    for name, of_cag in words_of_genes(source).items():
        what = name.removeprefix("gene_")
        options: dict[str, Any] = {"chunks": (rows,), "dims": ("cag",)}
        words = {"long_name": f"Most frequent {what} among the CAG's genes, empty = none is known"}
        share = {"long_name": f"Genes of the CAG that have this {what}", "units": "share of genes"}
        storage.create_array(group, of_cag, (n_cags,), dtype=str, attrs=words, **options)
        storage.create_array(group, f"{of_cag}{SHARE}", (n_cags,), dtype="float32", attrs=share, **options)


def describe_cags(
    store: str, result: str, labels: str, measured: list[str], judged: str | None, least_cohesion: float
) -> int:
    """Task: representative genes, status, and the most frequent words, in arrays that were made before.

    Parameters
    ----------
    store
        Abundance store.
    result
        Result store in the making.
    labels
        Folder of a :class:`cagdask.cags.results.CagFiles`.
    measured
        Folders of the :class:`cagdask.cags.results.MeasuredFiles` of all genes, in their order.
    judged
        Folder of a :class:`cagdask.cags.results.StatusFiles`, if an error rate was estimated.
    least_cohesion
        That below which a CAG is loose.
    """
    cags = CagFiles.open(labels)
    label, size = cags.cag, cags.size
    of_genes = list(MeasuredFiles.open_all(measured))
    distance = np.concatenate([files.distance for files in of_genes])
    margin = np.concatenate([files.margin for files in of_genes])
    _write_confidence(result, cags, distance, margin, judged, least_cohesion)
    rows = representatives(label, distance, len(size))
    _write(result, "cag_representative", _text_at(store, "gene_id", rows))
    for name, of_cag in words_of_genes(storage.open_group(store)).items():
        rows, count = most_frequent(label, hashes_of(store, name)[0], _hash_of_nothing(), len(size))
        _write(result, of_cag, _text_at(store, name, rows))
        share = np.divide(count, size, out=np.zeros(len(size)), where=size > 0)
        _write(result, f"{of_cag}{SHARE}", share.astype(np.float32))
    return len(size)


def _write_confidence(
    result: str, cags: CagFiles, distance: Float32, margin: Float32, judged: str | None, least_cohesion: float
) -> None:
    """Interval of the cohesion, and status, of each CAG, from measures that the result holds already."""
    n_cags = len(cags.size)

    def of_cags(which: NDArray[np.bool_]) -> Int64:
        return np.bincount(cags.cag[which & (cags.cag >= 0)], minlength=n_cags)

    cohesion = np.asarray(storage.open_array(result, "cag_cohesion")[:])
    n_samples = storage.open_array(result, "sample_id").shape[0]
    prevalence = np.asarray(storage.open_array(result, "cag_prevalence")[:], np.float64)
    status = StatusFiles.open(judged).status if judged is not None else np.zeros(len(cags.cag), np.int8)
    words = confidence.cag_status(
        np.asarray(cags.size),
        np.rint(prevalence * n_samples).astype(np.int64),
        cohesion,
        of_cags(margin < 0),
        of_cags(status == STATUSES.index(UNSUPPORTED)),
        least_cohesion,
    )
    _write(result, "cag_status", words.astype(np.dtypes.StringDType()))
    low, high = confidence.cohesion_interval(np.asarray(cags.cag), distance, cohesion)
    _write(result, "cag_cohesion_low", low)
    _write(result, "cag_cohesion_high", high)


def representatives(label: Int64, distance: Float32, n_cags: int) -> Int64:
    """Of each CAG the row of the gene nearest to its mean direction, the first of equal ones; -1 without genes.

    Examples
    --------
    >>> representatives(np.array([0, 0, 1, -1]), np.array([0.2, 0.1, 0.0, 0.0], np.float32), 3)
    array([ 1,  2, -1])
    """
    order = np.lexsort((distance, label))  # a stable sort: equal ones keep the order of rows
    order = order[np.searchsorted(label[order], 0) :]
    found, first = np.unique(label[order], return_index=True)
    rows = np.full(n_cags, -1, np.int64)
    rows[found] = order[first]
    return rows


def most_frequent(label: Int64, value: NDArray[Any], nothing: Any, n_cags: int) -> tuple[Int64, Int64]:
    """Of each CAG the first row with its most frequent value, and how many genes have that value.

    Parameters
    ----------
    label
        CAG of each gene, (n_genes,); negative for none.
    value
        What genes are said to be, (n_genes,), as numbers that are equal for equal words.
    nothing
        The number of those of which nothing is said: these do not count.
    n_cags
        Number of CAGs.

    Returns
    -------
    row, count
        Shape (n_cags,), int64; of values that are equally frequent that of the first gene; -1 and 0 if nothing is said
        of any gene.

    Examples
    --------
    >>> most_frequent(np.array([0, 0, 0, 1]), np.array([7, 8, 8, 0]), 0, 2)
    (array([ 1, -1]), array([2, 0]))
    """
    kept = np.flatnonzero((label >= 0) & (value != nothing))
    order = kept[np.lexsort((value[kept], label[kept]))]
    ordered, values = label[order], value[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]) | (values[1:] != values[:-1])
    first = np.flatnonzero(is_first)
    count = np.diff(np.append(first, len(order)))
    row, cag = order[first], ordered[first]
    best = np.lexsort((row, -count, cag))
    found, at = np.unique(cag[best], return_index=True)
    rows, counts = np.full(n_cags, -1, np.int64), np.zeros(n_cags, np.int64)
    rows[found], counts[found] = row[best[at]], count[best[at]]
    return rows, counts


def _hash_of_nothing() -> Any:
    import pandas as pd

    from cagdask.io.gene_matching import FIRST_KEY

    return pd.util.hash_array(np.array([""], object), hash_key=FIRST_KEY, categorize=False)[0]


def _text_at(store: str, name: str, rows: Int64) -> NDArray[Any]:
    """Text of a variable at some rows, a chunk at a time; empty for row -1."""
    array = storage.open_array(store, name)
    found = np.full(len(rows), "", np.dtypes.StringDType())
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    for begin in range(0, array.shape[0], storage.ID_CHUNK):
        first, last = np.searchsorted(ascending, [begin, begin + storage.ID_CHUNK])
        if first < last:
            block = np.asarray(array[begin : begin + storage.ID_CHUNK])
            found[order[first:last]] = block[ascending[first:last] - begin].astype(np.dtypes.StringDType())
    return found


def _write(result: str, name: str, values: NDArray[Any]) -> None:
    storage.open_array(result, name, writable=True)[...] = values
