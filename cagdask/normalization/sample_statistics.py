"""Per-sample statistics that normalization needs, by tasks on a store or lazily on a Dask array.

    store --> statistics_task (genes b to e) --> work folder: b-e.npy --+
    store --> statistics_task (genes e to f) --> work folder: e-f.npy --+--> driver: merge, advance
                                                                                        |
                                                            next step (another digit) or SampleStatistics

Both ways use the integer partials of :mod:`cagdask.normalization.exact_sums`: the same bits for any chunks, workers
and threads. A task holds one block, 8 bytes a cell while it is decoded, and its partial: 32 KiB per sample for a
median, else 0.3 KiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.errors import InputError

if TYPE_CHECKING:  # numba and Dask arrays take seconds to import
    from cagdask.compute.runner import Runner
    from cagdask.normalization.exact_sums import Partial, Step

Floor = float | Literal["auto"] | None
Values = NDArray[np.float64]

STATISTIC = {"sum": "sum", "hellinger": "sum", "median": "median", "clr": "log"}
"""Which statistic of :mod:`cagdask.normalization.exact_sums` a method of normalization needs; others need none."""

TASK_CELLS = 2**27
"""Cells of the table that one task reads at most: progress and resuming go in such steps."""


@dataclass(frozen=True)
class SampleStatistics:
    """What a method needs to know of every sample, over its genes that are not absent.

    Arrays of shape (n_samples,), or None where the method has no use for it. A sample with nothing in it has 0 in each.

    Attributes
    ----------
    n_present
        Genes present, int64.
    total
        Sum, float64: the one nearest to the true sum.
    median
        Median, float64.
    log_mean
        Mean of log10(v / minimum), float64, to 2**-40; the same for samples that are multiples of each other.
    minimum
        Smallest value, float64.
    """

    n_present: NDArray[np.int64] | None = None
    total: Values | None = None
    median: Values | None = None
    log_mean: Values | None = None
    minimum: Values | None = None

    @property
    def log_ratio_minimum(self) -> Values:
        """Smallest log10(v / geometric mean) of every sample that has genes, float64, shape (n_samples_with_genes,)."""
        from cagdask.normalization.exact_sums import log_ratios

        assert self.minimum is not None
        assert self.log_mean is not None
        ratios = log_ratios(
            self.minimum[None].astype(np.float32),
            self.minimum,
            self.log_mean,
            floor=-math.inf,
            shift=0.0,
            absent=math.nan,
        )[0]
        present: Values = ratios[self.minimum > 0]
        return present

    def floor(self, clr_floor: Floor) -> float:
        """Give the floor of the log-ratios that ``clr_floor`` means; 0 for a table with nothing in it."""
        ratios = self.log_ratio_minimum
        if isinstance(clr_floor, float | int):
            return float(clr_floor)
        return float(ratios.max() if clr_floor == "auto" else ratios.min()) if len(ratios) else 0.0

    def absent(self, method: str) -> float:
        """Give what an absent gene is in the unfloored table: the smallest log-ratio of all for ``clr``, else 0."""
        return self.floor(None) if method == "clr" else 0.0

    def to_bytes(self) -> bytes:
        """Write the arrays as an ``.npz`` file, to hand to tasks through the work folder."""
        buffer = BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> SampleStatistics:
        """Read what :meth:`to_bytes` gave."""
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def _finish(method: str, state: Partial | None) -> SampleStatistics:
    from cagdask.normalization import exact_sums

    if state is None:
        return SampleStatistics()
    if STATISTIC[method] == "sum":
        count, total = exact_sums.totals(state)
        return SampleStatistics(n_present=count, total=total)
    if STATISTIC[method] == "median":
        count, median = exact_sums.medians(state)
        return SampleStatistics(n_present=count, median=median)
    count, log_mean, minimum = exact_sums.log_means(state)
    return SampleStatistics(n_present=count, log_mean=log_mean, minimum=minimum)


# -- by tasks --------------------------------------------------------------------------------------------------------


def sample_statistics(
    url: str, runner: Runner, method: str, folder: str, *, done: str | None = None
) -> SampleStatistics:
    """Compute what ``method`` needs of every sample of a store, on the workers.

    Parameters
    ----------
    url
        Abundance store.
    runner
        Where to run; its tasks read blocks within ``runner.task_budget``.
    method
        One of :data:`METHODS`; ``none`` reads nothing.
    folder
        Work folder: partial results go to ``folder/statistics``.
    done
        Folder of finished tasks' answers, to resume.

    Returns
    -------
    SampleStatistics
        The same bits for any chunks, workers and threads.
    """
    if method not in STATISTIC:
        return SampleStatistics()
    from cagdask.normalization import exact_sums

    array: Any = storage.open_group(url)["abundance"]
    n_genes, n_samples = array.shape
    ranges, rows = _task_ranges(n_genes, n_samples, array.chunks[0], runner.n_threads, runner.task_budget)
    state, state_url = None, None
    for number, step in enumerate(exact_sums.steps(STATISTIC[method], n_samples)):
        name = f"{STATISTIC[method]}-{number}"
        target = partial(storage.join, folder, "statistics")
        items = [(url, b, e, rows, list(step), state_url, target(f"{name}-{b}-{e}.npy")) for b, e in ranges]
        stage = f"measure samples, {STATISTIC[method]}, pass {number + 1}"
        runner.map(stage, statistics_task, items, done=done, unit="genes", weights=[e - b for b, e in ranges])
        state = exact_sums.advance(step, _merged(step, n_samples, map(_load, (item[-1] for item in items))), state)
        state_url = target(f"{name}-state.npy")
        storage.write_bytes(state_url, _npy(state))
    return _finish(method, state)


def statistics_task(
    url: str, begin: int, end: int, rows: int, step: list[Any], state_url: str | None, output_url: str
) -> int:
    """Reduce genes ``begin`` to ``end`` of a store to the partial of one step, and write it as ``.npy``.

    Reads ``rows`` genes at a time: 8 bytes a cell while a block is decoded, beside the partial.
    """
    from cagdask.normalization import exact_sums

    group = storage.open_group(url)
    array: Any = group["abundance"]
    signed = group.attrs.get("kind", "abundance") != "abundance"
    known: Step = (step[0], step[1], step[2])
    state = _load(state_url) if state_url else None
    total = exact_sums.empty(known, array.shape[1])
    for first in range(begin, end, rows):
        block = array[first : min(first + rows, end)]
        if state is None:  # the first look at these values
            refuse_values(block, url, first, signed=signed)
        exact_sums.add_block(known, total, block, state)
    storage.write_bytes(output_url, _npy(total))
    return end - begin


def refuse_values(block: NDArray[np.float32], url: str, first: int, *, signed: bool = False) -> None:
    """Refuse values that no abundance can have: one of them would make its whole sample worthless.

    Parameters
    ----------
    block
        Rows of a store, shape (rows, n_samples), float32.
    url
        The store; its names are looked up for the message.
    first
        Gene row where the block begins.
    signed
        Values below 0 are allowed, as in expression.

    Raises
    ------
    InputError
        A value is missing, infinite or below 0; names its gene and sample.
    """
    from cagdask.normalization import exact_sums

    at = exact_sums.first_refused(block, signed=signed)
    if at is None:
        return
    group: Any = storage.open_group(url)
    gene, sample = str(group["gene_id"][first + at[0]]), str(group["sample_id"][at[1]])
    raise refused(float(block[at]), gene, sample, where=url)


def refused(value: float, gene: str, sample: str, *, where: str) -> InputError:
    """The error that says which value can not be an abundance."""
    what = "missing (NaN)" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:g}, below 0"
    return InputError(
        f"{where}: the value of gene {gene!r} in sample {sample!r} is {what}. Correct it, or write 0 where the gene is "
        "absent."
    )


def _task_ranges(
    n_genes: int, n_samples: int, chunk_rows: int, n_threads: int, budget: int
) -> tuple[list[tuple[int, int]], int]:
    """Rows of each task, and rows that it reads at once; both whole chunks."""
    n_chunks = -(-n_genes // chunk_rows)
    n_tasks = min(n_chunks, max(4 * n_threads, -(-n_genes * n_samples // TASK_CELLS)))
    edges = [chunk_rows * (n_chunks * i // n_tasks) for i in range(n_tasks)] + [n_genes]
    fitting = min(budget // 4, 2**26) // (8 * n_samples * chunk_rows)
    return list(pairwise(edges)), max(1, fitting) * chunk_rows


def _npy(array: NDArray[Any]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _load(url: str) -> Partial:
    array: Partial = np.load(BytesIO(storage.read_bytes(url)), allow_pickle=False)
    return array


def _merged(step: Step, n_samples: int, partials: Iterable[Partial]) -> Partial:
    from cagdask.normalization import exact_sums

    total = exact_sums.empty(step, n_samples)
    for part in partials:
        exact_sums.merge(step, total, part)
    return total


# -- the lazy way ----------------------------------------------------------------------------------------------------


def lazy_statistics(x: Any, method: str, genes: Any = None, samples: Any = None) -> Any:
    """Give a delayed :class:`SampleStatistics` of a Dask array, shape (n_genes, n_samples), in one chunk of samples.

    ``genes`` and ``samples`` are their names, for the message about a value that is refused; without them their numbers
    are said.
    """
    from dask.delayed import delayed

    from cagdask.normalization import exact_sums

    n_samples = x.shape[1]
    state = None
    for step in exact_sums.steps(STATISTIC[method], n_samples):
        source = x if state is None else recomputed_after(x, state)
        edges = np.cumsum([0, *x.chunks[0]])
        names = [None if state is not None or genes is None else genes[b:e] for b, e in pairwise(edges)]
        parts = [
            delayed(_block_partial)(step, block, state, int(first), own, samples)
            for block, first, own in zip(source.to_delayed()[:, 0], edges[:-1], names, strict=True)
        ]
        while len(parts) > 1:  # a tree, so that partials do not pile up
            parts = [delayed(_merged)(step, n_samples, parts[i : i + 8]) for i in range(0, len(parts), 8)]
        state = delayed(exact_sums.advance)(step, parts[0], state)
    return delayed(_finish)(method, state)


def recomputed_after(x: Any, after: Any) -> Any:
    """Give the same array under new keys, whose blocks are read or computed anew, and only once ``after`` is there.

    Two passes that share keys would share the blocks too: each would stay in memory from the first pass to the second,
    until the whole table is there. This is ``dask.graph_manipulation.bind``, which fails on most arrays that were
    sliced, rechunked or joined (https://github.com/dask/dask/issues/12127).
    """
    import dask.array as da
    from dask._task_spec import Alias, Task, TaskRef, convert_legacy_graph
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    graph = dict(x.__dask_graph__())
    nodes = {k: node for k, node in convert_legacy_graph(graph).items() if isinstance(node, Task | Alias)}
    token = tokenize(x.name, after.key)
    new = {k: (f"{k[0]}-{token}", *k[1:]) if isinstance(k, tuple) else f"{k}-{token}" for k in graph}
    renamed: dict[Any, Any] = {k: new[k] for k in nodes}
    blocks = [key for row in x.__dask_keys__() for key in row]
    again = {k: value for k, value in graph.items() if k not in nodes}  # data, and futures of persisted blocks
    again |= {new[k]: Alias(new[k], k) for k in blocks if k not in nodes}
    for k, node in nodes.items():
        task = node.substitute(renamed, key=new[k])
        first = isinstance(node, Task) and nodes.keys().isdisjoint(node.dependencies)
        again[new[k]] = Task(new[k], _when, TaskRef(after.key), task) if first else task
    name = f"{x.name}-{token}"
    array: Any = da.Array
    return array(HighLevelGraph.from_collections(name, again, dependencies=[after]), name, x.chunks, meta=x)


def _when(after: object, value: Any) -> Any:
    return value


def _block_partial(
    step: Step, block: NDArray[np.float32], state: Partial | None, first: int, genes: Any, samples: Any
) -> Partial:
    from cagdask.normalization import exact_sums

    missing = np.isnan(block)
    if missing.any():  # it takes no part, and stays missing: who goes on with the result may want to know
        block = np.where(missing, np.float32(0), block)
    at = exact_sums.first_refused(block) if state is None else None
    if at is not None:
        gene = str(first + at[0]) if genes is None else str(genes[at[0]])
        sample = str(at[1]) if samples is None else str(samples[at[1]])
        raise refused(float(block[at]), gene, sample, where="dataset")
    part = exact_sums.empty(step, block.shape[1])
    exact_sums.add_block(step, part, block, state)
    return part
