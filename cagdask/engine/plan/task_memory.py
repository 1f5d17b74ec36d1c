"""How large blocks may be: memory of every kind of task, as arithmetic on integers.

Each constant is the sum of the arrays that the kernel's module names, per row of a block; ``scripts`` and the tests
compare them with what tasks are measured to use.
"""

from __future__ import annotations

from dataclasses import dataclass

from cagdask.engine.linkage.refinement import ROWS_AT_ONCE
from cagdask.engine.linkage.rounds import LinkagePlan, shared_rows
from cagdask.engine.linkage.single import K
from cagdask.engine.search.pivots import TRAINING_ROWS_PER_PIVOT, n_pivots_for
from cagdask.engine.search.sketches import LARGEST, QUERIES, TARGETS
from cagdask.engine.stage_names import (
    FIND_COMPONENTS,
    FIND_PIVOTS,
    GATHER_CHUNKS,
    JUDGE_GENES,
    MEASURE_GENES,
    MERGE,
    PROFILE_CAGS,
    PROFILES,
    REFINE,
    RELATE_CAGS,
    SEARCH,
    WRITE_CAGS,
    WRITE_CORE,
)

LARGEST_BLOCK = 40_000
"""Rows above which a larger block saves nothing."""
LARGEST_ALONE = 20_000
"""Rows that one task searches and merges alone: handing parts to others would take as long."""
ROLE_BYTES = 2**27
"""Where roles are told: what the references may take at most, and again the rows that are compared with them."""
REFERENCES_AT_ONCE, REFERENCE_BYTES = 2048, 20
"""References that are compared at a time, and bytes per value: in float64, as directions, in float32."""
RELATED_AT_ONCE, RELATED_BYTES = 1024, 44
"""The same of CAGs that are related: profiles, shares of genes, what is not explained, directions."""
CANDIDATES = 6, 4
"""References that a row is compared with: by the row, and by what these do not explain."""
TABLE_BYTES = 24 * sum(CANDIDATES)
"""Bytes per value of what a CAG may rest on: profiles, and shares of genes, in float64 and as read."""
PROFILED_BYTES, CORE_BYTES = 16, 32
"""Bytes per value of CAGs that are profiled, and of those whose core abundance is written."""
JUDGED_AT_ONCE, JUDGED_BYTES = 4096, 28 + 12 * sum(CANDIDATES)
"""The same of genes that are compared: genes and what is not explained in float64, directions, and candidates."""
TRAINING_BYTES = 2**28
"""What training pivots may take at most: enough for fine sketches of 64 numbers of half a million rows."""


@dataclass(frozen=True)
class EnginePlan:
    """Rows per task, and bytes that the worst task of each kind takes.

    Attributes
    ----------
    block_rows, chunk_rows, merge_rows, small_rows, cag_rows
        Rows of a block of the store, of a chunk in pivot order, of one merging task, of a linkage that one task does
        alone, and groups in one summing task.
    training_bytes
        For the rows that pivots are trained on.
    role_bytes
        Where roles are told, for the references, and again for what is compared with them.
    n_threads
        Tasks that run at once.
    task_bytes
        Planned bytes by kind of task.
    merge_row_bytes
        Planned bytes of a row in a merging task.
    disk_bytes
        Largest size of the work folder.
    """

    block_rows: int
    chunk_rows: int
    merge_rows: int
    small_rows: int
    training_bytes: int
    cag_rows: int
    role_bytes: int
    n_threads: int
    task_bytes: dict[str, int]
    merge_row_bytes: int
    disk_bytes: int

    def linkage(self) -> LinkagePlan:
        """The part that linkage needs."""
        row_bytes = self.task_bytes[SEARCH] // self.chunk_rows
        return LinkagePlan(
            self.chunk_rows,
            self.merge_rows,
            self.training_bytes,
            small=self.small_rows,
            row_bytes=row_bytes,
            merge_row_bytes=self.merge_row_bytes,
            n_threads=self.n_threads,
        )


def profile_bytes_per_row(n_samples: int) -> int:
    """float32 block, its float64 values, their unit profiles, one temporary, and what is kept of them if sparse."""
    return 34 * n_samples + 64


def gather_bytes_per_row(n_samples: int) -> int:
    """Rows in float64 as slices, joined and in order; sketches, also as directions and for their centers."""
    return 24 * n_samples + 4 * 4 * LARGEST + 200


def search_bytes_per_row(n_samples: int, k: int = 16) -> int:
    """Of two chunks, and of one read ahead, the rows in float64, sketches, directions, envelopes, and lists."""
    return 3 * (8 * n_samples + 3 * 4 * LARGEST // 2 + 24 * k + 100)


def merge_bytes_per_row(n_samples: int, k: int = 16) -> int:
    """Means before and after, lists as read and as linked in both directions."""
    return 24 * n_samples + (24 + 16 + 12) * k + 150


def measure_bytes_per_row(n_samples: int) -> int:
    """A block as float32, normalized, as profiles, with its directions, and sums in two float64, all and in part."""
    return 60 * n_samples + 64


def compare_bytes_per_row(n_samples: int) -> int:
    """Directions in float64 and float32, and products with some stale ones, with masks."""
    return 12 * n_samples + 6 * ROWS_AT_ONCE + 100


def cag_bytes_per_row(n_samples: int) -> int:
    """Two sums and their total, abundance, and what its measures take."""
    return 64 * n_samples + 100


def most_markers(block_rows: int) -> int:
    """Rows of marker genes that a task holds at a time: always all of a CAG, of which there are up to 100.

    These few megabytes are not planned for: what is kept free of a worker has room for them.
    """
    return max(100, block_rows // 4)


def marker_bytes_per_row(n_samples: int) -> int:
    """Marker genes as slices, joined, in order, and in float64, beside numbers of CAG, gene and block."""
    return 20 * n_samples + 100


def role_task_bytes(
    n_genes: int, n_samples: int, block_rows: int, role_bytes: int, compared: float = 1.0
) -> tuple[int, int]:
    """Bytes of the tasks that relate CAGs, and of those that judge genes.

    Both hold a block of references, and numbers, sizes and relations of all of them, of which there is one to three
    genes at most; the first also the CAGs that are related and those they may rest on, the second a block in float32
    with its values above 0, what is found of each gene, and those genes that are compared, the share ``compared``.
    """
    references = min(role_bytes, REFERENCES_AT_ONCE * REFERENCE_BYTES * n_samples) + 24 * n_genes
    related = min(role_bytes, RELATED_AT_ONCE * RELATED_BYTES * n_samples)
    rested_on = min(role_bytes, RELATED_AT_ONCE * TABLE_BYTES * n_samples)
    judged = min(role_bytes, min(JUDGED_AT_ONCE, int(compared * block_rows)) * JUDGED_BYTES * n_samples)
    return references + related + rested_on, references + judged + block_rows * (9 * n_samples + 150)


def training_bytes(n_genes: int, n_samples: int) -> int:
    """Profiles to choose sizes of sketches with, in float64, three times; then once, and fine sketches twice."""
    profiles = (QUERIES + TARGETS) * 8 * n_samples
    n_rows = TRAINING_ROWS_PER_PIVOT * n_pivots_for(n_genes)
    return min(TRAINING_BYTES, max(3 * profiles, profiles + n_rows * 8 * LARGEST))


def table_bytes_per_gene(linkage: str) -> int:
    """Components, labels and the merge tree are made in one task each; single linkage joins all links in one."""
    return 160 if linkage == "average" else 100 * K + 200


def plan_engine(n_genes: int, n_samples: int, task_budget: int, n_threads: int, linkage: str = "average") -> EnginePlan:
    """Sizes of a run.

    Parameters
    ----------
    n_genes, n_samples
        Shape of the store.
    task_budget
        Bytes that the arrays of one task may take.
    n_threads
        Tasks that run at once.
    linkage
        ``average`` or ``single``.
    """
    of_store = max(measure_bytes_per_row(n_samples), profile_bytes_per_row(n_samples))
    of_search = max(f(n_samples) for f in (search_bytes_per_row, gather_bytes_per_row, compare_bytes_per_row))
    shared = shared_rows(n_genes, n_threads)
    block_rows = max(1, min(task_budget // of_store, LARGEST_BLOCK, shared))
    chunk_rows = max(1, min(task_budget // of_search, LARGEST_BLOCK, shared))
    merge_rows = max(2, task_budget // merge_bytes_per_row(n_samples))
    cag_rows = max(1, min(task_budget // cag_bytes_per_row(n_samples), 2**22 // n_samples))
    role_bytes = min(ROLE_BYTES, task_budget // 8)
    markers = min(block_rows // 4, n_genes) * marker_bytes_per_row(n_samples)
    related, judged = role_task_bytes(n_genes, n_samples, block_rows, role_bytes)
    summed = min(cag_rows, n_genes)
    for_training = min(task_budget // 2, training_bytes(n_genes, n_samples))
    return EnginePlan(
        block_rows=block_rows,
        chunk_rows=chunk_rows,
        merge_rows=merge_rows,
        small_rows=min(LARGEST_ALONE, task_budget // of_search),
        training_bytes=for_training,
        cag_rows=cag_rows,
        role_bytes=role_bytes,
        n_threads=n_threads,
        task_bytes={
            PROFILES: block_rows * profile_bytes_per_row(n_samples),
            FIND_PIVOTS: for_training,
            GATHER_CHUNKS: chunk_rows * gather_bytes_per_row(n_samples),
            SEARCH: chunk_rows * search_bytes_per_row(n_samples),
            MERGE: min(merge_rows, n_genes) * merge_bytes_per_row(n_samples),
            FIND_COMPONENTS: n_genes * table_bytes_per_gene(linkage),
            REFINE: chunk_rows * compare_bytes_per_row(n_samples),
            WRITE_CAGS: min(cag_rows, n_genes) * cag_bytes_per_row(n_samples),
            MEASURE_GENES: block_rows * measure_bytes_per_row(n_samples),
            PROFILE_CAGS: markers + summed * PROFILED_BYTES * n_samples,
            RELATE_CAGS: related,
            JUDGE_GENES: judged,
            WRITE_CORE: markers + summed * CORE_BYTES * n_samples + n_genes,
        },
        merge_row_bytes=merge_bytes_per_row(n_samples),
        disk_bytes=n_genes * (n_samples * (8 + 8 + 8 + 17) + 6 * LARGEST + 300 + 3 * 24 * 16),
    )
