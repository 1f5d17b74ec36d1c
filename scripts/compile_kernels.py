"""Compile every numba kernel once, so that the first real run does not wait for it; the cache lies beside the modules.

    python scripts/compile_kernels.py

Runs small clusterings that between them call all kernels.
"""

from __future__ import annotations

import tempfile
from typing import Any

import cagdask
from cagdask.simulation.writing import simulate_store

RUNS: tuple[dict[str, Any], ...] = (
    {},
    {"max_dist": 0.2},
    {"max_dist": 0.2, "normalization": "median", "linkage": "single"},
)


def main() -> None:
    """Run them on one worker: two would compile everything twice."""
    with tempfile.TemporaryDirectory() as folder, cagdask.connect(n_workers=1, memory_limit="2GiB") as runner:
        simulate_store(f"{folder}/cohort.zarr", 300, 20)
        for options in RUNS:
            cagdask.find_cags(f"{folder}/cohort.zarr", client=runner, **options)


if __name__ == "__main__":
    main()
