"""Cases of the measurements of growth, the cohorts they cluster, and the file of results."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.measuring import SCRIPTS, genomes, processor

RESULTS = Path(os.environ.get("CAGDASK_BENCH_RESULTS") or SCRIPTS.parent / "docs" / "explanation" / "scale.jsonl")
"""A JSON line for each case and method; those of the docs, unless the environment names another file."""


@dataclass(frozen=True)
class Case:
    """One clustering.

    Attributes
    ----------
    name
        What it is called on the command line.
    genes, samples, prevalence
        Of the cohort; the prevalence of genomes decides its density.
    options
        Of :func:`cagdask.find_cags`.
    memory_limit
        Of each of two workers.
    peers
        Who else clusters the same store.
    """

    name: str
    genes: int
    samples: int = 200
    prevalence: tuple[float, float] = (0.05, 0.6)
    options: tuple[tuple[str, Any], ...] = ()
    memory_limit: str = "2GiB"
    peers: tuple[str, ...] = ()


START_SECONDS = 10
"""Of workers and libraries, which the cases leave out and a plan counts."""
SPARSE = (0.005, 0.115)
CASES = {
    case.name: case
    for case in (
        Case("trial", 2_000, 30),
        Case("20k", 20_000, peers=("composition", "fastcluster")),
        Case("50k", 50_000, peers=("composition",)),
        Case("100k", 100_000, peers=("composition",)),
        Case("200k", 200_000),
        Case("500k", 500_000),
        Case("1m", 1_000_000),
        Case("sparse-100k", 100_000, prevalence=SPARSE),
        Case("sparse-1m", 1_000_000, prevalence=SPARSE),
        Case("wide-1m", 1_000_000, 1000, prevalence=(0.02, 0.22), memory_limit="4GiB"),
        Case("wide-sparse-1m", 1_000_000, 1000, prevalence=(0.002, 0.045), memory_limit="4GiB"),
        Case("record-5m", 5_000_000, 199, prevalence=SPARSE, memory_limit="4GiB"),
        Case(
            "clr-200k",
            200_000,
            options=(("normalization", "clr"), ("clr_floor", "auto"), ("max_dist", 0.3)),
        ),
        Case("half-200k", 200_000, options=(("max_dist", 0.5),)),
        Case("approximate-200k", 200_000, options=(("search", "approximate"),)),
        Case("approximate-1m", 1_000_000, options=(("search", "approximate"),)),
    )
}


def digest(result: str) -> str:
    """Of the labels and the merge tree of a result."""
    from cagdask.storage import open_group

    group = open_group(result)
    parts = [np.asarray(group[name][:]).tobytes() for name in ("gene_cag", "merge_child", "merge_height")]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def make_store(case: Case, folder: str, seed: int) -> tuple[str, Any, float]:
    """The cohort of a case, the genomes of its genes, and the share of values that are not zero."""
    from cagdask.simulation.writing import make_cohort, simulate_store
    from cagdask.storage import open_group

    shape = f"{case.genes}x{case.samples}-{case.prevalence[0]}-{case.prevalence[1]}-{seed}"
    store = f"{folder}/{shape}.zarr"
    options = {"seed": seed, "prevalence": case.prevalence}
    if not Path(store).exists():
        simulate_store(store, case.genes, case.samples, **options)
    density = float(np.mean(open_group(store)["gene_prevalence"][:]))
    return store, genomes(make_cohort(case.genes, case.samples, **options).genome), density  # type: ignore[arg-type]


def machine() -> dict[str, Any]:
    """What a figure depends on beside the code."""
    from cagdask.provenance import versions

    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "load": round(os.getloadavg()[0], 1),
        "versions": str(versions()),
        "day": time.strftime("%Y-%m-%d"),
    }


def read_labels(result: str) -> Any:
    """Label of every gene; genes that are nowhere each have their own."""
    from cagdask.storage import open_group

    labels = open_group(result)["gene_cag"][:]
    return np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)


def keep_row(row: dict[str, Any]) -> None:
    """Append a row to the results, in place of an earlier one of the same case and method."""
    row = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items() if k != "output"}
    rows = [r for r in results() if (r["name"], r["method"]) != (row["name"], row["method"])]
    RESULTS.write_text("".join(json.dumps(r, sort_keys=True) + "\n" for r in [*rows, row]))
    shown = ("name", "method", "wall_s", "cpu_s", "search_cpu_s", "peak_mib", "worker_peak_mib", "multiply_adds_share",
             "rounds", "groups", "ari_truth", "ari_cagdask", "recall", "load")  # fmt: skip
    click.echo(json.dumps({k: row[k] for k in shown if row.get(k) is not None}))


def results() -> list[dict[str, Any]]:
    """All rows so far."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
