r"""What grouping by chance alone would give: the same engine on shuffled genes.

    profiles --shuffle the samples of each gene on its own--> linkage --> joining --> groups that mean nothing
                                                                                          |
    CAGs of the genes as they are --------------------------------------------------> FDR by support --> gene_status

In few samples, or for genes that are in few samples, genes are alike by chance. How often, no formula tells, since the
tail of chance similarities is far from normal; shuffled genes do. The *support* of a gene is the number of samples that
carry its profile, ``1 / Σ u⁴`` of its unit profile ``u``. With ``R`` genes of a support of at least ``s`` that are in
groups of two or more, and ``R₀`` of the shuffled genes,

    FDR(s) = (1 + R₀(s)) / max(1, R(s))

estimates the share of grouped genes that chance would group as well. The bound is the smallest support from which on
it is at most the rate that was asked for. A gene below it is also taken as supported if its CAG is more than
:data:`BEYOND` times as large as any group of shuffled genes.

Of many genes, only every k-th is shuffled. The arithmetic is in :mod:`cagdask.engine.linkage.error_rates`.

References
----------
.. [1] Storey and Tibshirani (2003). Statistical significance for genomewide studies. PNAS 100:9440-9445.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.cags.results import ALONE, LEFT_OUT, NO_PROFILE, STATUSES, UNSUPPORTED, CagFiles, StatusFiles, TreeFiles
from cagdask.cags.strata import codes_of, shuffled_order
from cagdask.engine.linkage.error_rates import by_support, heights_up_to
from cagdask.engine.rows.files import ProfileFiles, load_rows, smaller_form
from cagdask.engine.rows.profiles import FILTERED, keys_of
from cagdask.storage.arrays import Files, array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MOST_SHUFFLED = 20_000
"""Genes that are shuffled at most: as many as one task links alone."""
FEWEST_SAMPLES = 8
"""Samples below which the result is called what it is, chance, whatever the shuffled genes say."""
BEYOND = 2
"""A CAG of more than this many times the genes of the largest group by chance is no chance."""
CURVE_POINTS = 20
"""Supports at which the error rate is reported."""


class SupportFiles(Files):
    """Support of the genes of a block that take part. Written by :func:`measure_support`, read by :func:`judge`."""

    gene: Int64 = array(np.int64, "row", "gene row in the store")
    support: Float32 = array(np.float32, "row", "samples that carry the gene's profile")


def step_of(n_genes: int) -> int:
    """Every how many-th gene is shuffled."""
    return max(1, -(-n_genes // MOST_SHUFFLED))


def shuffle_profiles(
    profiles: str, step: int, seed: int, folder: str, store: str = "", strata: str | None = None
) -> int:
    """Task: the profiles of a block, the samples of each gene shuffled, as a :class:`ProfileFiles`; their number.

    A gene's order of samples depends on the seed and its row alone; with ``strata``, a column of the sample metadata of
    ``store``, samples are shuffled within its values. Two blocks in memory.
    """
    codes = codes_of(store, strata) if strata is not None else None
    files = ProfileFiles.open(profiles)
    taken = files.gene % step == 0
    gene = files.gene[taken]
    rows = load_rows(profiles)[taken]
    for i, g in enumerate(gene.tolist()):
        rows[i] = rows[i][shuffled_order(codes, rows.shape[1], seed, g)]
    mark = np.full(len(files.mark), FILTERED, np.int8)
    mark[np.flatnonzero(files.mark == 0)[taken]] = 0
    ProfileFiles(**smaller_form(rows)._asdict(), gene=gene, keys=keys_of(rows), mark=mark).write(folder)
    return len(gene)


def measure_support(profiles: str, folder: str) -> int:
    """Task: the support of each gene of a block that takes part, as a :class:`SupportFiles`."""
    rows = load_rows(profiles)
    squares = rows * rows
    support = 1 / np.maximum(np.einsum("ij,ij->i", squares, squares), 1e-300)
    SupportFiles(gene=ProfileFiles.open(profiles).gene, support=support.astype(np.float32)).write(folder)
    return len(rows)


class Shuffled(NamedTuple):
    """Folders of the CAGs and of the merge tree of the shuffled genes, and the height up to which these were linked."""

    labels: str
    tree: str
    max_dist: float


def grouped_by_height(shuffled: Shuffled, n_genes: int) -> dict[str, Any]:
    """How many shuffled genes are in a group at each height of the first step: the merge that each gene is first in.

    A list of :data:`cagdask.engine.linkage.error_rates.HEIGHTS` numbers, evenly from a height of 0 to ``max_dist``.
    """
    files = TreeFiles.open(shuffled.tree)
    first = np.repeat(files.height, 2)[np.asarray(files.child).reshape(-1) < n_genes]
    n_grouped = np.searchsorted(first, heights_up_to(shuffled.max_dist), side="right")
    return {"max_dist": shuffled.max_dist, "n_grouped": n_grouped.tolist()}


def judge(
    labels: str,
    shuffled: tuple[str, str, float] | None,
    supports: list[str],
    step: int,
    fdr: float,
    n_samples: int,
    folder: str,
) -> dict[str, Any]:
    """Task: the status of each gene, as a :class:`StatusFiles`; what it rests on, as numbers.

    ``labels`` is the folder of the CAGs; ``shuffled`` a :class:`Shuffled`, or None if no gene has a profile to shuffle.
    60 bytes per gene.
    """
    real = CagFiles.open(labels)
    support = np.zeros(len(real.cag), np.float32)
    for files in SupportFiles.open_all(supports):
        support[files.gene] = files.support
    size = np.where(real.cag >= 0, real.size[real.cag], 0)
    chance = np.zeros(len(size), np.int64)
    if shuffled is not None:
        by_chance = CagFiles.open(Shuffled(*shuffled).labels)
        chance = np.where(by_chance.cag >= 0, by_chance.size[by_chance.cag], 0)
    levels, rate, low, high = by_support(support, size > 1, chance, step)
    enough = n_samples >= FEWEST_SAMPLES
    within = np.flatnonzero((rate <= fdr) & enough)
    bound = float(levels[within[0]]) if len(within) else None
    largest = int(chance.max(initial=0))
    supported = (support >= bound) if bound is not None else np.zeros(len(size), bool)
    supported |= size > BEYOND * max(1, largest)
    supported &= enough
    status = np.select(
        [real.cag < 0, support == 0, size <= 1, supported],
        [STATUSES.index(LEFT_OUT), STATUSES.index(NO_PROFILE), STATUSES.index(ALONE), 0],
        default=STATUSES.index(UNSUPPORTED),
    )
    StatusFiles(support=support, status=status.astype(np.int8)).write(folder)
    n_grouped = int((size > 1).sum())
    found = {
        "fdr": fdr,
        "support_bound": bound,
        "fdr_interval": [round(float(x[within[0]]), 6) for x in (low, high)] if len(within) else None,
        "curve": _curve(levels, rate, low, high),
        "by_height": grouped_by_height(Shuffled(*shuffled), len(size)) if shuffled is not None else None,
        "shuffled_every": step,
        "n_with_profile": int((support > 0).sum()),
        "n_shuffled": int((chance > 0).sum()),
        "n_shuffled_grouped": int((chance > 1).sum()),
        "largest_by_chance": largest,
        "n_grouped": n_grouped,
        "n_unsupported": int((status == STATUSES.index(UNSUPPORTED)).sum()),
        "n_without_profile": int((status == STATUSES.index(NO_PROFILE)).sum()),
        "n_samples": n_samples,
    }
    return found | {"in_words": in_words(found)}


def _curve(levels: Float64, rate: Float64, low: Float64, high: Float64) -> list[dict[str, float]]:
    """The rates at some supports, for a report."""
    shown = np.unique(np.linspace(0, max(0, len(levels) - 1), min(CURVE_POINTS, len(levels))).astype(np.int64))
    return [
        {
            "support": round(float(levels[i]), 3),
            "fdr": round(float(rate[i]), 6),
            "fdr_low": round(float(low[i]), 6),
            "fdr_high": round(float(high[i]), 6),
        }
        for i in shown
    ]


def in_words(found: dict[str, Any]) -> str:
    """What the error rate says, in a sentence or two; ``found`` is the answer of :func:`judge`."""
    n_samples, n_without = found["n_samples"], found["n_without_profile"]
    if n_samples < FEWEST_SAMPLES:
        there = f"There are only {n_samples} samples" if n_samples > 1 else "There is only 1 sample"
        text = (
            f"{there}: which genes belong together can not be told from chance. At least {FEWEST_SAMPLES} are needed, "
            "and 30 or more are better."
        )
    else:
        text = _rate_in_words(found)
    if found["n_unsupported"]:
        n, of_all = found["n_unsupported"], found["n_grouped"]
        text += f" {n:,} of {of_all:,} grouped genes have too little support (gene_status)."
    if n_without:
        many = f"{n_without:,} genes have no profile, since they do"
        genes, left = (many, "each is") if n_without > 1 else ("1 gene has no profile, since it does", "it is")
        text += f" {genes} not differ between samples after normalization; {left} left alone (gene_status)."
    return text


def _rate_in_words(found: dict[str, Any]) -> str:
    rate = f"{found['fdr']:.3g}"
    if found["support_bound"] is not None:
        low, high = found["fdr_interval"]
        return (
            f"Genes with a support of {found['support_bound']:.1f} samples or more: at most {rate} of those in groups "
            f"are there by chance, as estimated on {found['n_shuffled']:,} shuffled genes (95 % interval {low:.2g} to "
            f"{high:.2g})."
        )
    if not found["n_shuffled"]:
        return "No gene differs between samples, so there is nothing to group."
    if not found["n_shuffled_grouped"]:
        return (
            f"Too few genes are in groups ({found['n_grouped']:,}) to estimate an error rate of {rate}. No shuffled "
            "gene was grouped."
        )
    return (
        f"There are too few samples, or the genes are in too few of them, for an error rate of {rate}: shuffled "
        f"genes form groups, too. Only CAGs of more than {BEYOND * max(1, found['largest_by_chance']):,} genes are "
        "larger than chance makes them. More samples help (150 were enough for common genes of simulated cohorts, "
        "30 were not), or leaving out genes that are in few (`min_samples`)."
    )
