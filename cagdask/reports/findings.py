"""What a result says in words: what was found, whether to trust it, what to do next.

Numbers come from the arrays with a value per CAG or per gene; nothing is read twice, no profile at all.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask.plot import numbers
from cagdask.plot.samples import categories, is_continuous, sample_table

if TYPE_CHECKING:
    import xarray as xr

    from cagdask.plot.ordination import Ordination

FEW_SAMPLES = 20
"""Below this many samples, genes of different genomes are often alike by chance."""
DOMINANT = 0.2
"""Share of all abundance that makes one gene worth a warning."""
GIANT = 0.5
"""Share of the genes in CAGs that makes one CAG worth a warning."""
MANY = 0.1
"""Share of the genes in CAGs that are in doubtful ones, from which on it is said."""
BATCH = 0.5
"""Share of the variation along the first axis of samples that a metadata column explains, from which on it is said."""


class Caution(NamedTuple):
    """One thing that a reader should know before trusting a result, and what to do about it."""

    title: str
    detail: str


def headline(ds: xr.Dataset) -> str:
    """What was found, in one sentence."""
    sizes = np.asarray(ds["cag_size"].values)
    grouped = sizes[sizes >= 2]
    n_genes, n_samples = ds.sizes["gene"], ds.sizes["sample"]
    measured = f"{n_genes:,} genes measured in {n_samples:,} samples"
    if not len(grouped):
        return f"Of {measured}, no two are co-abundant within the threshold."
    share = grouped.sum() / max(1, sizes.sum())
    return (
        f"{measured[0].upper()}{measured[1:]} form {len(grouped):,} groups of two genes or more, which hold "
        f"{grouped.sum():,} genes ({share:.0%}); the largest has {grouped[0]:,}."
    )


def trust(ds: xr.Dataset) -> list[str]:
    """What is known of errors: the certificate, and the error rate where one was estimated."""
    certified = ds.attrs.get("certified")
    said = []
    if certified is not None and str(certified).lower() in ("true", "1"):
        linkage = ds.attrs.get("linkage", "average")
        said.append(f"Certified: every merge was proven to be the one that exact {linkage} linkage makes.")
    elif certified is not None:
        said.append("Not certified: the search was approximate, so some merges may be missing.")
    words = _error_rate(ds)
    return [*said, words] if words else said


def _error_rate(ds: xr.Dataset) -> str:
    """The sentence about the error rate, where one was estimated; empty where not."""
    try:
        words = json.loads(str(ds.attrs.get("error_rate", "{}"))).get("in_words", "")
        return str(words).replace("`", "")  # names of parameters, marked for the command line
    except (ValueError, AttributeError):
        return ""


def warnings_of(ds: xr.Dataset, ordination: Ordination | None = None) -> list[Caution]:
    """Everything about a result that deserves a warning; an empty list where there is nothing."""
    found = [_few_samples(ds), _dominant_gene(ds), _giant_cag(ds), *_doubtful_cags(ds)]
    if ordination is not None:
        found.append(_batch(ds, ordination))
    return [one for one in found if one is not None]


def _few_samples(ds: xr.Dataset) -> Caution | None:
    n = ds.sizes["sample"]
    if n >= FEW_SAMPLES:
        return None
    return Caution(
        f"Only {n} samples",
        f"With fewer than {FEW_SAMPLES} samples many genes rise and fall together by chance. "
        "Treat groups as candidates, and prefer a smaller threshold.",
    )


def _dominant_gene(ds: xr.Dataset) -> Caution | None:
    """A row that holds much of the abundance is rarely a gene: UNMAPPED, a counter, a total."""
    if "gene_mean_abundance" not in ds.variables:
        return None
    mean = ds["gene_mean_abundance"].values.astype(np.float64)
    total = float(np.nansum(mean))
    if not len(mean) or not np.isfinite(total) or total <= 0 or (mean < 0).any() or len(mean) < 10:
        return None
    row = int(np.nanargmax(mean))
    share = float(mean[row]) / total
    if share < DOMINANT:
        return None
    name = str(ds["gene_id"][row].values)
    return Caution(
        f"{name} holds {share:.0%} of the abundance",
        "If it is no gene (unmapped reads, a counter, a total), leave it out and run again: "
        f"cagdask run INPUT --exclude-genes {shlex.quote(name)} --output FOLDER",
    )


def _giant_cag(ds: xr.Dataset) -> Caution | None:
    sizes = ds["cag_size"].values
    grouped = int(sizes[sizes >= 2].sum())
    if grouped < 100 or (sizes >= 2).sum() < 3 or sizes[0] < GIANT * grouped:
        return None
    return Caution(
        f"CAG 0 holds {sizes[0] / grouped:.0%} of all grouped genes",
        "More than one genome may be in it. See in the threshold curve where it falls apart, and cut there.",
    )


def _doubtful_cags(ds: xr.Dataset) -> list[Caution | None]:
    sizes, status = ds["cag_size"].values, numbers.cag_status(ds)
    grouped = max(1, int(sizes[sizes >= 2].sum()))
    said = {
        "in one sample": "Their genes are together in one sample only. That is no evidence of one genome.",
        "loose": "Their genes are less alike than the threshold suggests. A smaller threshold splits them.",
        "very large": f"They have {numbers.VERY_LARGE:,} genes or more: more than one genome is likely to have.",
    }
    found: list[Caution | None] = []
    for word, detail in said.items():
        here = (status == word) & (sizes >= 2)
        if sizes[here].sum() >= MANY * grouped or (word == "very large" and here.any()):
            title = f"{int(here.sum()):,} CAGs are {word}"
            found.append(Caution(f"{title} ({sizes[here].sum() / grouped:.0%} of the grouped genes)", detail))
    return found


def _batch(ds: xr.Dataset, ordination: Ordination) -> Caution | None:
    """A metadata column that explains much of how samples differ: of interest, or a batch."""
    axis, best = ordination.coordinates[:, 0], (BATCH, "")
    table = sample_table(ds)
    for name in table:
        if not is_continuous(table[name]):
            best = max(best, (_explained(axis, categories(table[name])), str(name)))
    if not best[1]:
        return None
    return Caution(
        f"{best[1]} explains {best[0]:.0%} of the main difference between samples",
        "If it is a batch (center, run, kit) and not what you study, groups may reflect it. Color the samples by it.",
    )


def _explained(axis: NDArray[np.float64], words: NDArray[np.object_]) -> float:
    """Share of the variance along an axis that lies between categories (eta²), adjusted for how many there are."""
    kinds, group = np.unique(words.astype(str), return_inverse=True)
    n, k = len(axis), len(kinds)
    total = float(((axis - axis.mean()) ** 2).sum())
    if not 1 < k < n / 2 or total <= 0:
        return 0.0
    mean = np.bincount(group, axis) / np.bincount(group)
    within = float(((axis - mean[group]) ** 2).sum())
    return max(0.0, 1 - (within / (n - k)) / (total / (n - 1)))


def next_steps(ds: xr.Dataset) -> list[tuple[str, str]]:
    """What to do with a result, each as words and the command."""
    where = shlex.quote(str(ds.encoding.get("source", "cags.zarr")).rstrip("/").rpartition("/")[2])
    max_dist = numbers.max_dist_of(ds)
    finer = f"{max_dist / 2:.3g}" if max_dist else "0.1"
    steps = [
        ("Cut the same tree at a smaller threshold", f"cagdask cut {where} --max-dist {finer} --output finer"),
        ("Find the CAGs most like the largest one", f"cagdask similar {where} 0"),
        ("Find latent factors of the CAGs", f"cagdask nmf {where} -k 5 --output factors"),
        ("Draw any picture of this page as a file", f"cagdask plot heat-map {where} -o heat-map.svg"),
    ]
    table = sample_table(ds)
    groups = [str(name) for name in table if not is_continuous(table[name]) and len(set(categories(table[name]))) > 1]
    if groups:
        command = f"cagdask test {where} --labels {shlex.quote(groups[0])} --output test.tsv"
        steps.insert(1, (f"Test which CAGs differ by {groups[0]}", command))
    return steps


def cohort_name(ds: xr.Dataset) -> str:
    """The name of the input that a result was made from, as its history tells it; else that of its folder."""
    for line in str(ds.attrs.get("history", "")).splitlines():
        _, is_ingest, name = line.partition(": ingest ")
        if is_ingest and name.strip():
            return name.strip()
    parts = [part for part in str(ds.encoding.get("source", "")).rstrip("/").split("/") if part]
    if len(parts) > 1 and parts[-1] == "cags.zarr":
        parts.pop()
    return parts[-1] if parts else "Co-abundant gene groups"
