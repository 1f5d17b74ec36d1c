"""What a store has a vector of: its genes or its CAGs, read block by block where it lies, without a copy.

    embedding store    embedding      (gene, component)
    factors            gene_loading   (gene, component)
    abundance store    abundance      (gene, sample)      normalized while it is read, unless it is already
    result store       cag_abundance  (cag, sample)

A task gets :meth:`Vectors.to_json`, which includes the few numbers per sample that normalizing takes, and reads its own
rows. Memory: one block as float32, for abundances twice more as float64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.compute import memory
from cagdask.compute.connect import as_runner
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, SchemaError
from cagdask.io.inputs import as_store, named_as_given
from cagdask.normalization import methods
from cagdask.normalization.sample_statistics import Floor, SampleStatistics, sample_statistics
from cagdask.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

Float32 = NDArray[np.float32]

VARIABLES = {
    "embedding": ("gene", "component"),
    "gene_loading": ("gene", "component"),
    "abundance": ("gene", "sample"),
    "cag_abundance": ("cag", "sample"),
}
"""Variables whose rows are vectors, in the order of preference, and their dims."""

READ_BYTES = 16 * 2**20
"""Bytes of vectors that are read at a time, if chunks allow."""


@dataclass(frozen=True)
class Vectors:
    """Rows of a store that are vectors.

    Attributes
    ----------
    url
        The store.
    variable
        One of :data:`VARIABLES`.
    n, n_columns
        Vectors, and numbers in each.
    block_rows
        Rows to read at a time: whole chunks.
    method, clr_floor, statistics
        How rows are normalized while they are read, as :mod:`cagdask.normalization.methods` takes it; the statistics in
        base64.
    """

    url: str
    variable: str
    n: int
    n_columns: int
    block_rows: int
    method: str = "none"
    clr_floor: Floor = None
    statistics: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything, for a task."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Vectors:
        """What :meth:`to_json` gave."""
        return cls(**content)

    @property
    def thing(self) -> str:
        """What has a vector: ``gene`` or ``cag``."""
        return VARIABLES[self.variable][0]

    @property
    def n_bytes(self) -> int:
        """Bytes of all vectors as float32."""
        return 4 * self.n * self.n_columns

    @property
    def chunk_rows(self) -> int:
        """Rows of a stored chunk, the least that is read."""
        return max(1, int(self._array.chunks[0]))

    @cached_property
    def _array(self) -> Any:
        return storage.open_array(self.url, self.variable)

    @cached_property
    def _sample_statistics(self) -> SampleStatistics:
        return SampleStatistics.from_bytes(base64.b64decode(self.statistics))

    def read(self, begin: int, end: int) -> Float32:
        """Vectors of rows ``begin:end``, shape (end - begin, n_columns), float32.

        Raises
        ------
        InputError
            One of them holds NaN or an infinite value; names it.
        """
        rows = np.asarray(self._array[begin:end], dtype=np.float32)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            row = begin + int(np.argmin(finite))
            raise InputError(
                f"{self.url}: {self.thing} {self.name(row)!r} (row {row:,}) has NaN or infinite values in its vector, "
                f"as have {int((~finite).sum()) - 1:,} more of rows {begin:,} to {end:,}. Leave them out and ingest "
                "again."
            )
        if self.method != "none":
            values = methods.normalize_block(rows, self.method, self._sample_statistics, clr_floor=self.clr_floor)
            rows = np.minimum(values, np.finfo(np.float32).max, out=values).astype(np.float32)
        return rows

    def read_at(self, rows: NDArray[np.int64]) -> Float32:
        """Vectors of some rows, in their order; every block is read once at most."""
        found = np.empty((len(rows), self.n_columns), np.float32)
        step = self.chunk_rows
        for block in np.unique(rows // step):
            here = np.flatnonzero(rows // step == block)
            begin = int(block) * step
            found[here] = self.read(begin, min(self.n, begin + step))[rows[here] - begin]
        return found

    def blocks(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, Float32]]:
        """First row and vectors of each block of a range of rows."""
        end = self.n if end is None else end
        for start in range(begin, end, self.block_rows):
            yield start, self.read(start, min(end, start + self.block_rows))

    def ranges(self, n: int) -> list[tuple[int, int]]:
        """About ``n`` ranges of rows, or fewer: whole blocks that together are all rows."""
        n_blocks = -(-self.n // self.block_rows)
        step = -(-n_blocks // max(1, n)) * self.block_rows
        return [(begin, min(self.n, begin + step)) for begin in range(0, self.n, step)]

    def name(self, row: int) -> str:
        """Name of a row."""
        if self.thing == "cag":
            return str(row)
        return str(storage.open_array(self.url, "gene_id")[row])

    def text(self, variable: str) -> NDArray[Any] | None:
        """A text variable of the rows, such as ``gene_symbol``; None where the store has none."""
        group = storage.open_group(self.url)
        if variable == "cag_id":
            return np.array([str(row) for row in range(self.n)], np.dtypes.StringDType())
        if variable not in group:
            return None
        array: Any = group[variable]
        return np.asarray(array[:], dtype=np.dtypes.StringDType())


# -- opening ---------------------------------------------------------------------------------------------------------


def look(url: str, normalize: str | None, clr_floor: Floor = None) -> Vectors:
    """What a store has vectors of, from its metadata.

    Parameters
    ----------
    url
        The store.
    normalize
        How abundances are normalized while they are read; None is ``sum`` for abundances as ingested, ``none`` for all
        others.
    clr_floor
        As for :func:`cagdask.normalize`.

    Raises
    ------
    StoreError, SchemaError
        It can not be opened, or holds no vectors.
    ValueError
        It can not be normalized so.
    """
    ds = storage.open_dataset(url)
    variable = next((name for name in VARIABLES if name in ds.variables), None)
    if variable is None:
        raise SchemaError(
            f"{url}: holds no vectors; needs one of {', '.join(VARIABLES)} (it has "
            f"{', '.join(map(str, ds.variables)) or 'nothing'}). Name an abundance, embedding or result store."
        )
    found = ds[variable]
    if found.dims != VARIABLES[variable] or found.dtype.kind not in "fiu":
        raise SchemaError(
            f"{url}: {variable} has dims {found.dims} and dtype {found.dtype}, needs numbers of dims "
            f"{VARIABLES[variable]}."
        )
    if VARIABLES[variable][0] == "gene" and "gene_id" not in ds.variables:
        raise SchemaError(f"{url}: has no gene_id, so no gene can be named. Ingest the vectors with their ids.")
    if 0 in found.shape:
        raise SchemaError(f"{url}: {variable} has the shape {found.shape}, which is empty.")
    raw = variable == "abundance" and ds.attrs.get("kind", "abundance") == "abundance"
    raw = raw and ds.attrs.get("normalization", "none") == "none"
    method = normalize or ("sum" if raw else "none")
    methods.check_options(method, clr_floor)
    if method != "none" and not raw:
        raise ValueError(
            f"{url}: {variable} can not be normalized by {method}: it is not abundances as ingested. "
            "Use `normalization='none'`."
        )
    array = storage.open_array(url, variable)
    chunk = array.chunks[0]
    rows = max(chunk, READ_BYTES // (4 * found.shape[1]) // chunk * chunk)
    return Vectors(url, variable, found.shape[0], found.shape[1], rows, method, clr_floor)


@contextmanager
def opened(
    source: str | xr.Dataset,
    *,
    normalize: str | None = None,
    clr_floor: Floor = None,
    client: Runner | Client | str | None = None,
    n_workers: int | None = None,
    memory_limit: str | int = "4GiB",
) -> Iterator[tuple[Vectors, Runner]]:
    """Open the vectors of a store, and something to run tasks on, for any number of questions.

    Names can be looked up at once; before vectors are read, :func:`prepared` takes what normalizing them needs.

    Parameters
    ----------
    source
        Path or URL of a store, a run's folder, a sample sheet or table; or a table in memory.
    normalize, clr_floor
        As for :func:`look`.
    client, n_workers, memory_limit
        Where to compute. Without a client or a number of workers, vectors of up to 1 GiB are searched in this
        process.
    """
    with scratch_folder() as scratch, ExitStack() as stack:
        url = ""
        if not isinstance(source, str) and hasattr(source, "data_vars"):
            url = str(source.encoding.get("source", ""))
            if not url and set(VARIABLES) & set(source.data_vars):
                url = storage.join(scratch, "vectors.zarr")
                stack.enter_context(named_as_given(url, f"the {type(source).__name__} given"))
                storage.save_dataset(source, url)
        if not url:
            where: dict[str, Any] = {"client": client, "n_workers": n_workers, "memory_limit": memory_limit}
            url = stack.enter_context(as_store(source, **where))
        vectors = look(storage.absolute(url), normalize, clr_floor)
        n_bytes = vectors.n_bytes
        with as_runner(client, n_workers=n_workers, memory_limit=memory_limit, work_bytes=n_bytes) as runner:
            yield _fitting(vectors, runner), runner


def _fitting(vectors: Vectors, runner: Runner) -> Vectors:
    """The same with blocks that fit a task."""
    row = vectors.n_columns * (4 * 4 if vectors.method == "none" else 4 * 4 + 16)
    chunk = vectors.chunk_rows
    memory.check_fits(
        "vectors", chunk * row, f"a chunk of {chunk:,} x {vectors.n_columns:,} values", runner.memory_limit
    )
    rows = min(vectors.block_rows, max(chunk, runner.task_budget // row // chunk * chunk))
    return replace(vectors, block_rows=rows)


def prepared(vectors: Vectors, runner: Runner) -> Vectors:
    """The same, ready to be read: abundances as ingested take one pass for the sums that normalize them.

    What is ready already is given back as it is.
    """
    if vectors.method == "none" or vectors.statistics:
        return vectors
    with scratch_folder() as scratch:
        found = sample_statistics(vectors.url, runner, vectors.method, scratch)
    encoded = base64.b64encode(found.to_bytes()).decode()
    return replace(vectors, statistics=encoded)
