"""A result store written by hand, for tests of what comes after clustering."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from cagdask import schema, storage

PARAMETERS = {
    "normalization": "sum",
    "clr_floor": "auto",
    "max_dist": 0.2,
    "min_samples": 1,
    "metric": "cosine",
    "linkage": "average",
    "refine": "aggregate",
    "refine_dist": 0.2,
    "seed": 0,
}


def write_result_store(
    url: str,
    labels: Sequence[int],
    genes: Sequence[str] | None = None,
    samples: Sequence[str] | None = None,
    n_samples: int = 4,
    parameters: dict[str, object] | None = None,
) -> str:
    """A result store with these labels; every other number is made up, but of the right shape and type."""
    labels = np.asarray(labels, dtype=np.int64)
    n_genes, n_cags = len(labels), int(labels.max()) + 1
    genes = genes or [f"gene{i}" for i in range(n_genes)]
    samples = samples or [f"sample{i}" for i in range(n_samples)]
    rng = np.random.default_rng(0)
    profiles = rng.random((n_cags, len(samples)), dtype=np.float32) * (rng.random((n_cags, len(samples))) > 0.3)
    attrs = {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": schema.RESULT_KIND,
        "source": "cagdask test",
        "history": "cagdask test: find_cags",
        "parameters": json.dumps(PARAMETERS | (parameters or {})),
        "input_digest": "ab" * 32,
        "seed": 0,
        "metric": "cosine",
        "linkage": "average",
        "max_dist": 0.2,
        "certified": True,
    }
    arrays = {
        "gene_id": np.asarray(genes),
        "sample_id": np.asarray(samples),
        "gene_cag": labels,
        "gene_linkage_cag": labels,
        "gene_cag_distance": np.where(labels < 0, np.nan, 0.01).astype(np.float32),
        "gene_prevalence": np.full(n_genes, 0.5, np.float32),
        "gene_mean_abundance": rng.random(n_genes, dtype=np.float32),
        "cag_size": np.bincount(labels[labels >= 0], minlength=n_cags),
        "cag_prevalence": (profiles > 0).mean(1).astype(np.float32),
        "cag_mean_abundance": profiles.mean(1).astype(np.float32),
        "cag_std_abundance": profiles.std(1).astype(np.float32),
        "cag_entropy": np.ones(n_cags, np.float32),
        "cag_cohesion": np.linspace(1, 0.8, n_cags, dtype=np.float32),
        "cag_status": np.array(["solid"] * n_cags),
        "cag_abundance": profiles.astype(np.float32),
        "cag_sum": profiles.astype(np.float64) * 10,
        "cag_core_abundance": profiles.astype(np.float32) / 2,
        "cag_core_share": (profiles > 0).astype(np.float32),
        "merge_child": np.zeros((0, 2), np.int64),
        "merge_height": np.zeros(0),
    }
    group = storage.create_group(url, attrs)
    for name, values in arrays.items():
        extra = {"dims": ("gene",)} if name == "gene_mean_abundance" else {}
        storage.write_array(group, name, values, **extra)
    storage.finish_group(group)
    return url
