"""What a result says in words: what was found, whether to trust it, what to do next.

Numbers come from the arrays with a value per CAG or per gene; nothing is read twice, no profile at all.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cagdask import schema
from cagdask.plot import numbers
from cagdask.plot.samples import categories, coloring_columns, is_continuous, sample_table

if TYPE_CHECKING:
    import xarray as xr

    from cagdask.plot.ordination import Ordination

LEAST_GROUP = 3
"""Samples of a group that can be tested."""
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
BLOCK = 20_000
"""CAGs of which the abundances are read at once."""


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


def method(ds: xr.Dataset) -> str:
    """How the groups were found and why so, in one or two sentences."""
    parameters = numbers.parameters_of(ds)
    linkage, metric = ds.attrs.get("linkage", "average"), ds.attrs.get("metric", "cosine")
    normalization = parameters.get("normalization", "not recorded")
    normalized = "without normalization" if normalization == "none" else f"normalization {normalization}"
    steps = f"{linkage} linkage on {metric} distance up to {ds.attrs.get('max_dist', '?')}, {normalized}"
    refine = parameters.get("refine")
    source = ds.attrs.get("source", "cagdask")
    if refine == "noise-corrected":
        return (
            f"Found by {source} with an automatic threshold: {steps}; then groups that are one when the noise of their "
            "genes is taken off were joined. So no distance has to be chosen, and the error rate is estimated on "
            "shuffled genes."
        )
    joined = f"; then groups whose mean profiles are within {parameters.get('refine_dist', '?')} were joined"
    return f"Found by {source}: {steps}{joined if refine == 'aggregate' else ''}."


def trust(ds: xr.Dataset) -> list[str]:
    """What speaks for a result: the certificate, and the error rate where one was estimated and reached."""
    said = []
    if schema.is_certified(ds):
        linkage = ds.attrs.get("linkage", "average")
        said.append(f"Certified: every merge was proven to be the one that exact {linkage} linkage makes.")
    found = numbers.error_rate(ds)
    if found.get("in_words") and _is_reached(found):
        said.append(_unmarked(found["in_words"]))
    return said


def _is_reached(found: dict[str, Any]) -> bool:
    """Whether some support is enough for the error rate that was asked for."""
    return found.get("support_bound", 0) is not None


def _unmarked(words: Any) -> str:
    """Words without the marks of parameters, which are for the command line."""
    return str(words).replace("`", "")


def _errors(ds: xr.Dataset) -> list[Caution | None]:
    """What is to be said against a result from its certificate and its error rate."""
    found: list[Caution | None] = []
    if schema.is_certified(ds) is False:
        found.append(Caution("Not certified", "The search was approximate, so some merges may be missing."))
    rate = numbers.error_rate(ds)
    if rate.get("in_words") and not _is_reached(rate):
        found.append(Caution("The error rate is not reached", _unmarked(rate["in_words"])))
    elif not rate:
        found.append(_not_estimated(ds))
    return found


def _not_estimated(ds: xr.Dataset) -> Caution | None:
    if numbers.parameters_of(ds).get("refine") is None or not (np.asarray(ds["cag_size"].values) >= 2).any():
        return None
    return Caution(
        "No error rate was estimated",
        "The threshold was given as a number, so how many genes are together by chance is not known. "
        "cagdask run with its default threshold estimates it on shuffled genes.",
    )


def warnings_of(ds: xr.Dataset, ordination: Ordination | None = None) -> list[Caution]:
    """Everything about a result that deserves a warning; an empty list where there is nothing."""
    found = [*_errors(ds), _few_samples(ds), _dominant_gene(ds), _giant_cag(ds), *_doubtful_cags(ds)]
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
    found = _largest_share(ds)
    if found is None or found[1] < DOMINANT:
        return None
    row, share = found
    name = str(ds["gene_id"][row].values)
    return Caution(
        f"{name} holds {share:.0%} of the abundance",
        "If it is no gene (unmapped reads, a counter, a total), leave it out and run again: "
        f"cagdask run INPUT --exclude-genes {shlex.quote(name)} --output FOLDER",
    )


def _largest_share(ds: xr.Dataset) -> tuple[int, float] | None:
    """The row with the largest share of the abundance, and that share; None where shares have no meaning.

    Log ratios have no shares. There the sums of CAGs as ingested tell it, and only of a row that is a CAG of its own.
    """
    if ds.sizes["gene"] < 10:
        return None
    by_cag = numbers.parameters_of(ds).get("normalization") == "clr" and "cag_sum" in ds.variables
    if by_cag:
        n_cags = ds.sizes["cag"]
        parts = [ds["cag_sum"][begin : begin + BLOCK].values.sum(axis=1) for begin in range(0, n_cags, BLOCK)]
        amounts = np.concatenate([np.zeros(0), *parts])
        is_own = ds["cag_size"].values == 1
    elif "gene_mean_abundance" in ds.variables:
        amounts = ds["gene_mean_abundance"].values.astype(np.float64)
        is_own = np.ones(len(amounts), bool)
    else:
        return None
    total = float(np.nansum(amounts))
    if not is_own.any() or not np.isfinite(total) or total <= 0 or (amounts < 0).any():
        return None
    place = int(np.nanargmax(np.where(is_own, amounts, -1)))
    row = int(np.flatnonzero(ds["gene_cag"].values == place)[0]) if by_cag else place
    return row, float(amounts[place]) / total


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
        "single-sample": "Their genes are together in one sample only. That is no evidence of one genome.",
        "loose": "Their genes are less alike than those of one genome usually are. A smaller threshold splits them.",
        "suspicious": "Many of their genes are nearer to another CAG, or have too little support (cag_status).",
        "giant": "They have more genes than one genome is likely to have.",
    }
    if _giant_cag(ds) is not None:  # said already
        del said["giant"]
    found: list[Caution | None] = []
    for word, detail in said.items():
        here = (status == word) & (sizes >= 2)
        if sizes[here].sum() >= MANY * grouped or (word == "giant" and here.any()):
            title = f"{int(here.sum()):,} CAGs are {word}"
            found.append(Caution(f"{title} ({sizes[here].sum() / grouped:.0%} of the grouped genes)", detail))
    return found


def _batch(ds: xr.Dataset, ordination: Ordination) -> Caution | None:
    """A metadata column that explains much of how samples differ: of interest, or a batch."""
    share, name = most_telling(ds, ordination)
    if share < BATCH:
        return None
    return Caution(
        f"{name} explains {share:.0%} of the main difference between samples",
        "If it is a batch (center, run, kit) and not what you study, groups may reflect it. Color the samples by it.",
    )


def most_telling(ds: xr.Dataset, ordination: Ordination) -> tuple[float, str]:
    """The column of categories that explains most of how samples differ, and the share of the first axis that it does.

    Only columns that can color samples count; without one, the name is empty.
    """
    axis, best = ordination.coordinates[:, 0], (-1.0, "")
    table = sample_table(ds)
    for name in coloring_columns(table):
        if not is_continuous(table[name]):
            share = _explained(axis, categories(table[name]))
            best = (share, name) if share > best[0] else best
    return best


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


def _test_command(ds: xr.Dataset, where: str, column: str, output: str) -> str:
    """A test that this column allows: each group needs :data:`LEAST_GROUP` samples, and more than two another test."""
    words = sample_table(ds)[column].dropna().astype(str)
    counts = words[words.str.strip() != ""].value_counts()
    large = sorted(str(word) for word in counts.index[counts >= LEAST_GROUP])
    labels = shlex.quote(column)
    if len(large) < len(counts) and len(large) >= 2:
        two = shlex.quote(",".join(sorted(str(word) for word in counts.index[:2])))
        return f"cagdask test {where} --labels {labels} --groups {two} --output {output}"
    if len(counts) > 2:
        return f"cagdask test {where} --labels {labels} --test kruskal --output {output}"
    return f"cagdask test {where} --labels {labels} --output {output}"


def next_steps(ds: xr.Dataset, column: str = "") -> list[tuple[str, str]]:
    """What to do with a result, each as words and the command; ``column`` is what samples are tested by."""
    where = shlex.quote(str(ds.encoding.get("source", "cags.zarr")).rstrip("/").rpartition("/")[2])
    max_dist = numbers.max_dist_of(ds)
    finer = f"{max_dist / 2:.3g}" if max_dist else "0.1"
    factors = f"cagdask nmf {where} -k 5 --output factors"
    if numbers.parameters_of(ds).get("normalization") == "clr":  # log-ratios may be negative
        factors = f"cagdask nmf {where} -k 5 --nonneg feature-shift --output factors"
    steps = [
        ("Walk through it: genes, groups, samples", f"cagdask explore {where}"),
        ("Get smaller, tighter groups from the same tree", f"cagdask cut {where} --max-dist {finer} --output finer"),
        ("Find the CAGs most like the largest one", f"cagdask similar {where} 0"),
        ("Find latent factors of the CAGs", factors),
        ("Draw any picture of this page as a file", f"cagdask plot heat-map {where} -o heat-map.svg"),
    ]
    if column:
        name = shlex.quote(column)
        steps[1:1] = [
            (f"Test which CAGs differ by {column}", _test_command(ds, where, column, f"by-{name}.tsv")),
            ("Show what was found on this page", f"cagdask report {where} --association by-{name}.tsv --overwrite"),
        ]
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
