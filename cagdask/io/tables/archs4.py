"""Expression compendia in HDF5, as ARCHS4 publishes them: the newer and the older keys, genes or samples in rows.

    data/expression                               numbers, (genes, samples) or (samples, genes)
    meta/genes/symbol, gene_symbol, genes, …      names of the genes; or meta/genes itself
    meta/samples/geo_accession, …                 names of the samples, and beside them what is known of each;
                                                  or meta/Sample_geo_accession, meta/Sample_title, …

The file is read in *bands*: some genes of all samples, or some samples with all genes, whichever reads fewer stored
chunks twice. Of samples that nobody asks for, only those are read that lie in a stored chunk with one that is.

A band takes at most :data:`BAND_BYTES`; a batch of it becomes float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cagdask.errors import InputError
from cagdask.io.tables.hdf5 import fields_table, names_of, rows_at_once
from cagdask.io.tables.reading import AUTO, SAMPLES_IN_ROWS, Batch, Batches, Reading
from cagdask.io.tables.sample_choice import Chosen

BAND_BYTES = 64 * 2**20
"""Of the file's own numbers, in memory at once."""
VALUES = "data/expression"
GENE_GROUPS, SAMPLE_GROUPS = ("genes", "gene", "transcripts"), ("samples", "sample")
GENE_KEYS = (
    "symbol", "ensembl_gene", "gene_symbol", "genes", "ensembl_gene_id", "gene", "ensembl_id", "transcripts",
)  # fmt: skip
SAMPLE_KEYS = ("geo_accession", "Sample_geo_accession", "sample_id")
_FLAT = "Sample_"
_SHOWN = 12
_PIECE = 2**16
_STRIPE = 1024  # samples that are read together from a file without chunks


def is_archs4(file: Any) -> bool:
    """Whether an HDF5 file is one of these, whole or with parts missing."""
    return VALUES in file or ("data" in file and "meta" in file)


def open_archs4(url: str, file: Any, reading: Reading) -> Batches:
    """A compendium as a table.

    Raises
    ------
    InputError
        A key is missing, names and values do not fit each other, or no sample is left.
    """
    array = _values(url, file)
    gene_key, gene_array, of_genes = _genes(url, file, reading.gene_column)
    sample_key, sample_array, of_samples = _samples(url, file)
    n_genes, n_samples = _length(url, gene_key, gene_array), _length(url, sample_key, sample_array)
    turned = _is_turned(url, array.shape, n_genes, n_samples, reading.orient)
    genes, samples = names_of(url, gene_array, gene_key), names_of(url, sample_array, sample_key)
    of_samples = {name: held for name, held in of_samples.items() if held.shape == (n_samples,)}
    kept = Chosen.of(reading).rows(url, samples, of_samples)
    places = np.arange(n_samples) if kept is None else np.flatnonzero(kept)
    if not len(places):
        raise InputError(f"{url}: none of its {n_samples:,} samples is asked for. Check `samples` and `sample_query`.")
    chosen = samples if kept is None else [samples[i] for i in places]
    source = _Source(array, turned, places)
    of_genes = {name: held for name, held in of_genes.items() if held.shape == (n_genes,)}
    gene_fields = fields_table({name: _picked(held, np.arange(n_genes)) for name, held in of_genes.items()}, n_genes)
    sample_fields = fields_table({name: _picked(held, places) for name, held in of_samples.items()}, len(places))
    notes = [f"ARCHS4 with {'samples' if turned else 'genes'} in rows"]
    if kept is not None:
        notes.append(f"{len(places):,} of {n_samples:,} samples")
    by_genes = source.reads_genes(prefer_samples=reading.duplicate_genes == "sum")
    rows, columns = (genes, chosen) if by_genes else (chosen, genes)
    return Batches(
        gene_key if by_genes else sample_key, columns, by_genes, source.batches(rows, by_genes=by_genes),
        lambda: iter([pa.array(rows, pa.string())]), settled=True, chosen=True, notes=notes,
        row_metadata=gene_fields if by_genes else sample_fields,
        column_metadata=sample_fields if by_genes else gene_fields,
    )  # fmt: skip


# -- keys ------------------------------------------------------------------------------------------------------------


def _is_array(held: Any) -> bool:
    return hasattr(held, "dtype")


def _found_keys(file: Any) -> str:
    """Names of the arrays of a file, for a message."""
    names: list[str] = []
    file.visititems(lambda name, held: names.append(name) if _is_array(held) else None)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + more


def _values(url: str, file: Any) -> Any:
    array = file.get(VALUES)
    if array is None:
        raise InputError(f"{url}: has no {VALUES}; the file holds {_found_keys(file)}. Is it cut off?")
    if not _is_array(array) or len(array.shape) != 2 or array.dtype.kind not in "iuf":
        what = f"of shape {array.shape} and dtype {array.dtype}" if _is_array(array) else "a group"
        raise InputError(f"{url}: {VALUES} is {what}; needs numbers in two dimensions. Write the file again.")
    return array


def _arrays(group: Any) -> dict[str, Any]:
    """Lists of numbers or text in a group."""
    import h5py

    return {
        name: held
        for name, held in group.items()
        if _is_array(held) and len(held.shape or ()) == 1
        and (held.dtype.kind in "iufbS" or h5py.check_string_dtype(held.dtype) is not None)
    }  # fmt: skip


def _genes(url: str, file: Any, asked: str | None) -> tuple[str, Any, dict[str, Any]]:
    """Key and array of the gene names, and what else is known of genes."""
    for part in GENE_GROUPS:
        held = file.get(f"meta/{part}")
        if held is None:
            continue
        if _is_array(held):
            return f"meta/{part}", held, {}
        known = _arrays(held)
        name = next((n for n in ((asked,) if asked else GENE_KEYS) if n in known), None)
        if name is not None:
            return f"meta/{part}/{name}", known.pop(name), known
        if asked:
            raise InputError(f"{url}: meta/{part} has no {asked!r} (it has {', '.join(sorted(known)) or 'nothing'}).")
    raise InputError(
        f"{url}: has no names of genes, as meta/genes/symbol or meta/genes/gene_symbol; the file holds "
        f"{_found_keys(file)}. Name another key below meta/genes with `gene_column`."
    )


def _samples(url: str, file: Any) -> tuple[str, Any, dict[str, Any]]:
    """Key and array of the sample names, and what else is known of samples."""
    for part in SAMPLE_GROUPS:
        held = file.get(f"meta/{part}")
        if held is None or _is_array(held):
            continue
        known = _arrays(held)
        name = next((n for n in SAMPLE_KEYS if n in known), None)
        if name is not None:
            return f"meta/{part}/{name}", known.pop(name), known
    meta = file.get("meta")
    flat = {} if meta is None or _is_array(meta) else _arrays(meta)
    known = {name.removeprefix(_FLAT): held for name, held in flat.items() if name.startswith(_FLAT)}
    if "geo_accession" in known:
        return f"meta/{_FLAT}geo_accession", known.pop("geo_accession"), known
    raise InputError(
        f"{url}: has no names of samples, as meta/samples/geo_accession or meta/Sample_geo_accession; the file holds "
        f"{_found_keys(file)}. Write it again with such names."
    )


def _length(url: str, key: str, array: Any) -> int:
    if not _is_array(array) or len(array.shape or ()) != 1:
        raise InputError(f"{url}: {key} is no list of names. Write the file again with names as text.")
    return int(array.shape[0])


def _is_turned(url: str, shape: tuple[int, ...], n_genes: int, n_samples: int, orient: str) -> bool:
    """Whether samples are in rows, by the numbers of names; of a square by ``orient``, else genes."""
    fits = {False: shape == (n_genes, n_samples), True: shape == (n_samples, n_genes)}
    if not any(fits.values()):
        raise InputError(
            f"{url}: {VALUES} has the shape {shape}, for {n_genes:,} genes and {n_samples:,} samples. "
            "Write the file again."
        )
    asked = orient == SAMPLES_IN_ROWS
    if orient != AUTO and not fits[asked]:
        raise InputError(
            f"{url}: {VALUES} has the shape {shape}, for {n_genes:,} genes and {n_samples:,} samples, so it does not "
            f"lie {orient}. Leave `orient` out."
        )
    return asked if all(fits.values()) else fits[True]


def _picked(array: Any, places: NDArray[np.int64]) -> NDArray[Any]:
    """Values at some places, piece by piece; text that is no UTF-8 is kept with marks, titles are typed by people."""
    parts = []
    for begin in range(0, int(array.shape[0]), _PIECE):
        low, high = np.searchsorted(places, (begin, begin + _PIECE))
        if low < high:
            piece = array[begin : begin + _PIECE][places[low:high] - begin]
            parts.append(piece if piece.dtype.kind in "iufb" else _texts(piece))
    return np.concatenate(parts) if parts else np.zeros(0, object)


def _texts(values: NDArray[Any]) -> NDArray[Any]:
    found = [v.decode("utf-8", errors="replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
    return np.array(found, object)


# -- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Values of some samples, read where they lie.

    Attributes
    ----------
    array
        Genes by samples, or samples by genes.
    turned
        Whether samples are in rows.
    places
        Of the samples, ascending.
    """

    array: Any
    turned: bool
    places: NDArray[np.int64]

    @property
    def n_genes(self) -> int:
        return int(self.array.shape[1 if self.turned else 0])

    @property
    def chunks(self) -> tuple[int, int]:
        """Genes and samples of a stored chunk; a file without chunks holds one row after the other."""
        held = self.array.chunks or (1, self.array.shape[1])
        return (int(held[1]), int(held[0])) if self.turned else (int(held[0]), int(held[1]))

    def reads_genes(self, *, prefer_samples: bool) -> bool:
        """Whether bands of genes read fewer chunks twice than bands of samples."""
        (genes, samples), n = self.chunks, len(self.places)
        again_genes = -(-genes // self._fit(genes, n))
        again_samples = -(-samples // self._fit(samples, self.n_genes))
        return again_genes < again_samples or (again_genes == again_samples and not prefer_samples)

    def _fit(self, chunk: int, width: int) -> int:
        """Rows of a band of so many numbers each: whole chunks where one fits."""
        fitting: int = max(1, BAND_BYTES // (self.array.dtype.itemsize * max(1, width)))
        return fitting if fitting < chunk else fitting // chunk * chunk

    def batches(self, names: list[str], *, by_genes: bool) -> Iterator[Batch]:
        """All values, named rows of genes or of samples."""
        width = len(self.places) if by_genes else self.n_genes
        band = self._fit(self.chunks[0 if by_genes else 1], width)
        step = rows_at_once(width)
        for begin in range(0, len(names), band):
            end = min(begin + band, len(names))
            block = (
                self._block(begin, end, slice(None)) if by_genes else self._block(0, self.n_genes, slice(begin, end)).T
            )
            for low in range(0, end - begin, step):
                part = block[low : low + step]
                yield pa.array(names[begin + low : begin + low + len(part)], pa.string()), part.astype(np.float64)

    def _block(self, begin: int, end: int, some: slice) -> NDArray[Any]:
        """Genes ``begin`` to ``end`` of some of the samples, shape (genes, samples)."""
        places = self.places[some]
        found = np.empty((end - begin, len(places)), self.array.dtype)
        for low, high in self._runs(places, end - begin):
            first, last = int(places[low]), int(places[high - 1]) + 1
            if self.turned:
                part = self.array[first:last, begin:end].T
            else:
                part = self.array[begin:end, first:last]
            found[:, low:high] = part if last - first == high - low else part[:, places[low:high] - first]
        return found

    def _runs(self, places: NDArray[np.int64], n_genes: int) -> Iterator[tuple[int, int]]:
        """Stretches of samples that are read in one go: no chunk between them is without any, and they fit a band."""
        width = self.chunks[1] if self.array.chunks or self.turned else _STRIPE
        chunk = places // width
        starts = np.flatnonzero(np.r_[True, chunk[1:] != chunk[:-1]]).tolist()
        ends = [*starts[1:], len(places)]
        most = max(width, BAND_BYTES // (self.array.dtype.itemsize * n_genes))
        low = 0
        for start, end in zip(starts[1:], ends[1:], strict=True):
            if chunk[start] - chunk[start - 1] > 1 or places[end - 1] - places[low] >= most:
                yield low, start
                low = start
        yield low, len(places)
