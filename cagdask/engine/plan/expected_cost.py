"""What a clustering is expected to take: seconds, memory, disk and reads, for a cohort of some size.

:mod:`cagdask.engine.plan.task_memory` bounds what a task may take, whatever the data; this says what it most likely
will. Each constant is fitted to the runs in ``docs/explanation/scale.jsonl`` (simulated cohorts at 1x coverage,
``sum``, ``max_dist`` 0.2, 20,000 to 5,000,000 genes, 200 and 1,000 samples, 2 to 28 % not zero; one core of an AMD
EPYC server); ``scripts/benchmark_scale.py plans`` says how well they fit. What ``clr`` and larger ``max_dist`` cost is
fitted to two runs, ``sum`` 0.5 and ``clr`` 0.3 at 200,000 genes. A cohort whose genes mostly
resemble many others takes longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from cagdask.engine.plan.task_memory import (
    CORE_BYTES,
    PROFILED_BYTES,
    EnginePlan,
    cag_bytes_per_row,
    marker_bytes_per_row,
    merge_bytes_per_row,
    role_task_bytes,
)
from cagdask.engine.rows.files import SPARSE_BELOW, SUMS
from cagdask.engine.stage_names import (
    GATHER_CHUNKS,
    JUDGE_GENES,
    MEASURE_GENES,
    MERGE,
    PROFILE_CAGS,
    PROFILES,
    SEARCH,
    WRITE_CAGS,
    WRITE_CORE,
)

ROUNDS = 1.6
"""Groups of all rounds together, per gene."""
MERGED_AT_ONCE = 8
"""Batches of groups that a round's merging is dealt into, if it is not done by one task alone."""
CAGS = 0.25
"""Groups that are found, per gene."""
COMPARED = 0.3
"""Share of the genes whose own CAG does not explain them, so that they are compared with others."""
# seconds
_PROFILE_ROW, _PROFILE_CELL = 4e-6, 22e-9
_ORDER_ROW, _ORDER_CELL = 20e-6, 7e-9
_SEARCH_MILLION, _SEARCH_EXPONENT, _SEARCH_VALUE = 180.0, 1.8, 2.4
"""Of a million genes, how it grows, and what each value of a profile that is not zero adds."""
_MERGE_ROW, _MERGE_CELL = 12e-6, 40e-9
_WRITE_ROW, _WRITE_CELL = 10e-6, 55e-9
_SEARCH_FAR, _FAR, _READ_FAR = 8.0, 4.0, 3.0
"""What searches, all else, and reads take more for each 1 of ``max_dist`` beyond 0.2: more pairs, more rounds."""
_MILLIONS, _MILLIONS_DISK = 0.3, 0.5
"""Beyond a million genes, searches and reads grow by this power more, and disk by that: rows that resemble thousands of
others go on for more rounds, with longer lists (one run, of five million)."""
_CLR = 2.0
"""Times what others take: after ``clr``, fewer genes lie near a pivot."""
_AUTOMATIC = 1.5
"""The same of ``max_dist="auto"``, the shuffled genes included (two pairs of runs, of 100,000 and 200,000 genes)."""
# bytes
_SKETCHES = 4 * (64 + 24)
_LISTS = 24 * 16
_DISK_ROWS, _DISK_LISTS = 3.35, 1300
"""Copies of the rows that there are at once, and what searches keep of each row."""
_DISK_SUMS = 8.5
"""Bytes per gene and sample of the sums by CAG, of every block apart, where few values are zero."""
_READ_AGAIN = 1.35
"""Reads of all rounds over those of the first."""


@dataclass(frozen=True)
class Expected:
    """What stages are expected to take.

    Attributes
    ----------
    cpu_seconds
        By kind of task, all tasks together.
    task_bytes
        By kind of task, where that is less than the bound.
    disk_bytes
        Largest size of the work folder.
    read_bytes
        That searches read.
    """

    cpu_seconds: dict[str, float]
    task_bytes: dict[str, int]
    disk_bytes: int
    read_bytes: int


def row_bytes(n_samples: int, density: float) -> float:
    """Bytes of a gene's profile in its file."""
    return 8 * n_samples if density >= SPARSE_BELOW else 12 * density * n_samples + 8 * SUMS


def search_seconds(n_values: float) -> float:
    """Of a million genes whose profiles have so many values that are not zero, on one core."""
    return _SEARCH_MILLION + _SEARCH_VALUE * n_values


def expect(
    n_genes: int,
    n_samples: int,
    density: float,
    plan: EnginePlan,
    *,
    max_dist: float = 0.2,
    is_clr: bool = False,
    is_automatic: bool = False,
) -> Expected:
    """What a clustering is expected to take.

    Parameters
    ----------
    n_genes, n_samples, density
        Shape of the store, and the share of its values that are not zero.
    plan
        How it is cut.
    max_dist
        Distance up to which groups join.
    is_clr
        Whether normalization is ``clr``.
    is_automatic
        Whether groups are joined without a threshold, and an error rate is estimated.
    """
    farther, wider = max_dist - 0.2, _AUTOMATIC if is_automatic else _CLR if is_clr else 1.0
    search_times, times, read_times = (wider * max(0.5, 1 + more * farther) for more in (_SEARCH_FAR, _FAR, _READ_FAR))
    millions = max(1.0, n_genes / 1e6)
    search_times, read_times = search_times * millions**_MILLIONS, read_times * millions**_MILLIONS
    cells = n_genes * n_samples
    rows = row_bytes(n_samples, density)
    n_chunks = -(-n_genes // plan.chunk_rows)
    sums = _DISK_SUMS * n_samples if density >= SPARSE_BELOW else 0.0
    share = n_genes if n_genes <= plan.small_rows else max(2_000, n_genes // MERGED_AT_ONCE)
    batch = min(plan.merge_rows, share)
    n_cags = max(1, int(CAGS * n_genes))
    markers = min(plan.block_rows // 4, n_genes) * marker_bytes_per_row(n_samples)
    return Expected(
        cpu_seconds={
            PROFILES: _PROFILE_ROW * n_genes + _PROFILE_CELL * cells,
            GATHER_CHUNKS: times * ROUNDS * (_ORDER_ROW * n_genes + _ORDER_CELL * cells),
            SEARCH: search_times * search_seconds(density * n_samples) * (n_genes / 1e6) ** _SEARCH_EXPONENT,
            MERGE: times * ROUNDS * (_MERGE_ROW * n_genes + _MERGE_CELL * cells),
            MEASURE_GENES: _WRITE_ROW * n_genes + _WRITE_CELL * cells,
        },
        task_bytes={
            MERGE: int(1.3 * batch * merge_bytes_per_row(n_samples)),
            WRITE_CAGS: min(plan.cag_rows, n_cags) * cag_bytes_per_row(n_samples),
            PROFILE_CAGS: markers + min(plan.cag_rows, n_cags) * PROFILED_BYTES * n_samples,
            JUDGE_GENES: role_task_bytes(n_genes, n_samples, plan.block_rows, plan.role_bytes, COMPARED)[1],
            WRITE_CORE: markers + min(plan.cag_rows, n_cags) * CORE_BYTES * n_samples + n_genes,
        },
        disk_bytes=int(millions**_MILLIONS_DISK * n_genes * (_DISK_ROWS * rows + max(_DISK_LISTS, sums - 500))),
        read_bytes=int(read_times * _READ_AGAIN * n_genes * (n_chunks + 3) / 2 * (rows + _SKETCHES + _LISTS)),
    )
