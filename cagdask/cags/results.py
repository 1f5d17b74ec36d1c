"""From merges to labels, and what is measured of every group.

merges --tree--> first gene of every gene's group --refinement--> CAG of every gene
profiles, directions of groups --> distance of every gene to its group
normalized table --sums by label--> abundance of every group, sample by sample
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cagdask import storage
from cagdask.cags import measures
from cagdask.engine.linkage import tree
from cagdask.engine.linkage.components import roots_of
from cagdask.engine.linkage.merging import MergeFiles
from cagdask.engine.linkage.refinement_table import DirectionFiles, TableFiles
from cagdask.engine.rows import sums
from cagdask.engine.rows.files import FoldFiles, GroupFiles, ProfileFiles, load_rows, smaller_form
from cagdask.engine.rows.profiles import FILTERED
from cagdask.normalization import methods
from cagdask.normalization.sample_statistics import SampleStatistics
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

GENE_VARIABLES = (
    "gene_id",
    "gene_length",
    "gene_prevalence",
    "gene_cag",
    "gene_linkage_cag",
    "gene_cag_distance",
    "gene_cag_second",
    "gene_cag_margin",
    "gene_mean_abundance",
)
"""What :func:`write_genes` writes; the length only where it is known."""
MEASURED_VARIABLES = {
    "distance": "gene_cag_distance",
    "second": "gene_cag_second",
    "margin": "gene_cag_margin",
    "mean_abundance": "gene_mean_abundance",
    "prevalence": "gene_prevalence",
}
"""Where what :func:`measure_genes` found is kept."""
STATUS_VARIABLES = ("gene_support", "gene_status")
"""What it writes beside these if an error rate was estimated."""


class MergeTableFiles(Files):
    """The merge table of a result.

    Written by :func:`cut_tree`, :func:`write_tree` and for assignment; read by :func:`write_merges`.
    """

    child: Int64 = array(np.int64, "merge, 2", "the two nodes joined; node n_genes + i is merge i")
    height: Float64 = array(np.float64, "merge", "distance at which they were joined, never decreasing")


class TreeFiles(MergeTableFiles):
    """The merge table and the groups that all its merges make. Read where groups are numbered."""

    first_gene: Int64 = array(np.int64, "gene", "smallest gene row of the gene's group")


class MemberFiles(Files):
    """Groups to sum profiles of.

    Written by :func:`number_groups` and for assignment; read by :func:`sum_profiles` and :func:`mean_profiles`.
    """

    label: Int64 = array(np.int64, "gene", "group of the gene, from 0; -1 for none")
    first_gene: Int64 = array(np.int64, "group", "smallest gene row of the group")
    size: Int64 = array(np.int64, "group", "genes in it")


class CagFiles(Files):
    """The CAG of each gene. Written by :func:`write_labels` and for assignment; read by all that measure."""

    cag: Int64 = array(np.int64, "gene", "CAG of the gene; -1 for genes left out")
    linkage_cag: Int64 = array(np.int64, "gene", "the same before refinement")
    size: Int64 = array(np.int64, "cag", "genes in the CAG")


class LabelFiles(CagFiles):
    """The CAG of each gene, and where the directions of the CAGs lie."""

    block: Int64 = array(np.int64, "cag", "number of the folder of directions; -1 for a CAG without one")
    row: Int64 = array(np.int64, "cag", "row in that folder")


GROUPED, ALONE, UNSUPPORTED, LEFT_OUT = "supported", "alone", "too little support", "left out"
NO_PROFILE = "no profile"
STATUSES = (GROUPED, ALONE, UNSUPPORTED, LEFT_OUT, NO_PROFILE)
"""Values of ``gene_status``; files of tasks hold their numbers."""


class StatusFiles(Files):
    """What is said of each gene. Written by :func:`cagdask.cags.null.judge`, read by :func:`write_genes`."""

    support: Float32 = array(np.float32, "gene", "samples that carry the gene's profile; 0 without a profile")
    status: NDArray[np.int8] = array(np.int8, "gene", "number of the status in STATUSES")


class MeasuredFiles(Files):
    """What is known of each gene of a block. Written by :func:`measure_genes`, read by :func:`write_genes`."""

    distance: Float32 = array(np.float32, "gene", "cosine distance to the CAG's mean direction")
    second: Int64 = array(np.int64, "gene", "CAG of the nearest other mean direction; -1 for none")
    margin: Float32 = array(np.float32, "gene", "how much farther that is; NaN for none")
    mean_abundance: Float32 = array(np.float32, "gene", "mean over samples, in the unit of the normalized table")
    prevalence: Float32 = array(np.float32, "gene", "share of samples that have the gene, in [0, 1]")


def part_of(measured: str) -> str:
    """Folder of the sums by CAG of normalized abundances that are made with a :class:`MeasuredFiles`."""
    return storage.join(measured, "part")


def raw_part_of(measured: str) -> str:
    """Folder of the sums by CAG of abundances as ingested."""
    return storage.join(measured, "raw")


def write_tree(merges: list[str], fold: str, n_genes: int, linkage: str, folder: str) -> dict[str, int]:
    """Task: the merge table, and the groups at its root, as a :class:`TreeFiles`. About 150 bytes per gene."""
    pair, height = tree.merges_of_identical(FoldFiles.open(fold).first)
    pair = np.concatenate([pair, *(files.pair for files in MergeFiles.open_all(merges))])
    height = np.concatenate([height, *(files.height for files in MergeFiles.open_all(merges))])
    if linkage == "single":
        pair, height = tree.merges_of_forest(pair, height, n_genes)
    child, height = tree.merge_table(pair, height, n_genes)
    TreeFiles(child=child, height=height, first_gene=tree.first_genes(child, n_genes)).write(folder)
    return {"merges": len(height)}


def cut_tree(result: str, n_genes: int, max_dist: float, folder: str) -> int:
    """Task: the merges of a result store up to a height, as :func:`write_tree` writes them; their number."""
    height = np.asarray(storage.open_array(result, "merge_height")[:])
    n = tree.n_merges_within(height, max_dist)
    child = np.asarray(storage.open_array(result, "merge_child")[:n])
    TreeFiles(child=child, height=height[:n], first_gene=tree.first_genes(child, n_genes)).write(folder)
    return n


def number_groups(tree_folder: str, fold: str, folder: str) -> dict[str, int]:
    """Task: the groups of a tree numbered from 0 in the order of their first genes, to sum their profiles."""
    group_of = TreeFiles.open(tree_folder).first_gene
    takes_part = FoldFiles.open(fold).first >= 0
    first_gene, inverse = np.unique(group_of[takes_part], return_inverse=True)
    label = np.full(len(group_of), -1, np.int64)
    label[takes_part] = inverse
    size = np.bincount(inverse, minlength=len(first_gene))
    MemberFiles(first_gene=first_gene, label=label, size=size).write(folder)
    return {"n": len(first_gene)}


def sum_profiles(profiles: str, labels: str, folder: str) -> int:
    """Task: sums of the unit profiles of a block by group."""
    label = MemberFiles.open(labels).label[ProfileFiles.open(profiles).gene]
    sums.write_part(folder, label, load_rows(profiles))
    return len(label)


def mean_profiles(parts: list[str], labels: str, begin: int, end: int, n_samples: int, folder: str) -> dict[str, int]:
    """Task: the groups ``begin:end`` as a block, with their mean profiles."""
    groups = MemberFiles.open(labels, begin, end)
    means = smaller_form(sums.read_sums(parts, begin, end, n_samples) / groups.size[:, None])
    GroupFiles(**means._asdict(), size=groups.size, gene=groups.first_gene).write(folder)
    return {"n": end - begin}


def write_labels(
    tree_folder: str, fold: str, joined: list[str], groups: list[str], table: str | None, folder: str
) -> dict[str, int]:
    """Task: the CAG of each gene, and by CAG its size and where its direction lies, as a :class:`LabelFiles`.

    ``joined`` holds the tables of the rounds of refinement and ``table`` the last one, if there were any; else every
    group of ``groups`` is a CAG. A gene without a profile is a CAG without a direction. 100 bytes per gene.
    """
    first_gene = TreeFiles.open(tree_folder).first_gene
    left_out = FoldFiles.open(fold).first == FILTERED
    parent = np.arange(len(first_gene))
    for pairs in TableFiles.open_all(joined):
        parent[pairs.leave] = pairs.keep
    cag_of = tree.labels(roots_of(parent)[first_gene], left_out)
    linkage_cag = tree.labels(first_gene, left_out)
    size = np.bincount(cag_of[~left_out])
    block = np.full(len(size), -1, np.int64)
    row = np.full(len(size), -1, np.int64)
    if table is not None:
        last = TableFiles.open(table)
        cag = cag_of[last.gene]
        block[cag], row[cag] = last.block, last.row
    else:
        for b, files in enumerate(DirectionFiles.open_all(groups)):
            cag = cag_of[files.gene]
            block[cag], row[cag] = b, np.arange(len(cag))
    LabelFiles(cag=cag_of, linkage_cag=linkage_cag, size=size, block=block, row=row).write(folder)
    return {"n_cags": len(size), "n_merges": len(TreeFiles.open(tree_folder).height)}


def measure_genes(
    store: str, begin: int, end: int, recipe: dict[str, Any], profiles: str, labels: str, groups: list[str], folder: str
) -> int:
    """Task: what is known of each gene of rows ``begin:end``, and their sums by CAG.

    Writes a :class:`MeasuredFiles`, and beside it a part of the sums of the normalized, unfloored table, and one of the
    table as ingested. One block as float32 and twice as float64, and the directions of its groups.
    """
    from cagdask.cags.fit import fit_of

    block = np.asarray(storage.open_array(store, "abundance")[begin:end], dtype=np.float32)
    label = CagFiles.open(labels, begin, end).cag
    fit = fit_of(profiles, label, begin, labels, groups)
    statistics = SampleStatistics.from_bytes(storage.read_bytes(recipe["statistics"]))
    values = methods.normalize_block(block, recipe["normalization"], statistics, floored=False)
    present = block != 0
    sums.write_part(part_of(folder), label, values, present)
    mean_abundance = row_means(values).astype(np.float32)
    del values  # it makes room for the other table
    sums.write_part(raw_part_of(folder), label, block.astype(np.float64))
    MeasuredFiles(
        **fit,
        mean_abundance=mean_abundance,
        prevalence=(present.sum(axis=1) / present.shape[1]).astype(np.float32),
    ).write(folder)
    return end - begin


def row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each row, the same bits whatever other rows are there."""
    means: NDArray[np.float64] = np.ascontiguousarray(values).sum(axis=1) / values.shape[1]
    return means


def write_cags(
    result: str,
    measured: list[str],
    labels: str,
    groups: list[str],
    begin: int,
    end: int,
    n_samples: int,
    absent: float,
) -> dict[str, Any]:
    """Task: the CAGs ``begin:end`` of the result store, which this task alone writes."""
    raw = sums.read_sums([raw_part_of(url) for url in measured], begin, end, n_samples)
    storage.open_array(result, "cag_sum", writable=True)[begin:end] = raw
    del raw  # it makes room for the other table
    parts = [part_of(url) for url in measured]
    files = LabelFiles.open(labels, begin, end)
    size, block, row = files.size, files.block, files.row
    present = sums.read_present(parts, begin, end, n_samples)
    total = sums.read_sums(parts, begin, end, n_samples)
    total[size == 0] = absent  # as for a gene that is in no sample
    abundance = (total / np.maximum(size, 1)[:, None]).astype(np.float32)
    mean, std, entropy = measures.cag_statistics(abundance, absent=absent)
    length = np.zeros(end - begin)
    for b in np.unique(block[block >= 0]):
        length[block == b] = DirectionFiles.open(groups[b]).mean_length[row[block == b]]
    n = size.astype(np.float64)
    pairs = np.maximum(n * (n - 1), 1)
    for name, values in {
        "cag_abundance": abundance,
        "cag_size": size,
        "cag_prevalence": present.sum(axis=1) / n_samples,
        "cag_mean_abundance": mean,
        "cag_std_abundance": std,
        "cag_entropy": entropy,
        "cag_cohesion": np.where(size > 1, (n * n * length**2 - n) / pairs, 1.0),
    }.items():
        storage.open_array(result, name, writable=True)[begin:end] = values
    return {"n": end - begin}


def write_genes(
    store: str,
    result: str,
    labels: str,
    measured: list[str],
    ranges: list[tuple[int, int]],
    begin: int,
    end: int,
    judged: str | None = None,
) -> int:
    """Task: the genes ``begin:end`` of the result store, which this task alone writes.

    ``judged`` is the folder of a :class:`StatusFiles`, if an error rate was estimated.
    """
    from cagdask.cags.description import metadata_of_genes

    cags = CagFiles.open(labels, begin, end)
    values: dict[str, Any] = {"gene_cag": cags.cag, "gene_linkage_cag": cags.linkage_cag}
    for name in ("gene_id", *metadata_of_genes(storage.open_group(store))):
        values[name] = storage.open_array(store, name)[begin:end]
    blocks = [
        MeasuredFiles.open(url, max(begin - b, 0), end - b)
        for url, (b, e) in zip(measured, ranges, strict=True)
        if b < end and e > begin
    ]
    arrays = [block.by_name() for block in blocks]
    for name, variable in MEASURED_VARIABLES.items():
        values[variable] = np.concatenate([block[name] for block in arrays])
    if judged is not None:
        files = StatusFiles.open(judged, begin, end)
        values["gene_support"] = files.support
        values["gene_status"] = np.array(STATUSES, np.dtypes.StringDType())[files.status]
    for variable, of_genes in values.items():
        storage.open_array(result, variable, writable=True)[begin:end] = of_genes
    return end - begin


def write_merges(result: str, tree_folder: str) -> int:
    """Task: the merge table of the result store."""
    table = MergeTableFiles.open(tree_folder)
    storage.open_array(result, "merge_child", writable=True)[...] = table.child
    storage.open_array(result, "merge_height", writable=True)[...] = table.height
    return len(table.height)
