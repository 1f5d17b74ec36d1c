"""cagdask: co-abundant gene groups, exact and out of core, on Dask.

The names below are the whole public interface. They are loaded when first used, so that ``import cagdask`` and
``cagdask --help`` are quick.
"""

from __future__ import annotations

import importlib
from typing import Any

from cagdask.compute import kernel_cache

kernel_cache.ensure()

# name -> module that holds it; no module is called like a public function, since importing it would hide the function
_PUBLIC = {
    "open_dataset": "storage",
    "save_dataset": "storage",
    "to_pandas": "reports.conversions",
    "to_anndata": "reports.conversions",
    "as_dataset": "storage.objects",
    "ingest": "io.ingest",
    "normalize": "normalization.methods",
    "normalize_expression": "expression.normalizing",
    "expression_metrics": "expression.measuring",
    "find_cags": "cags.clustering",
    "cut": "cags.cutting",
    "assign": "cags.assignment",
    "compare": "reports.comparison",
    "two_pass": "twopass.two_pass",
    "label_by_leaders": "twopass.two_pass",
    "nmf": "factors.factorization",
    "nmf_select": "factors.selection",
    "nmf_consensus": "factors.consensus",
    "nmf_project": "factors.projection",
    "associate": "labels.association",
    "classify": "labels.classification.training",
    "augment": "labels.classification.augmentation",
    "predict": "labels.classification.prediction",
    "similar": "vectors.similarity",
    "similar_pairs": "vectors.all_pairs",
    "analogies": "vectors.analogies.session",
    "run": "runs.pipeline",
    "plan": "runs.planning",
    "report": "reports.page",
    "summary": "reports.overview",
    "simulate": "simulation.writing",
    "connect": "compute.connect",
    "plot": "plot",
    "errors": "errors",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from cagdask.provenance import cagdask_version

        return cagdask_version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cagdask' has no attribute {name!r}")
    module = importlib.import_module(f"cagdask.{_PUBLIC[name]}")
    return module if name in ("errors", "plot") else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
