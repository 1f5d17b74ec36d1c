"""Measure how clustering grows with genes, samples, density and workers; every figure lands in one file of JSON lines.

    python scripts/benchmark_scale.py cases
    python scripts/benchmark_scale.py table --only 100k,1m --keep STORES
    python scripts/benchmark_scale.py workers --genes 200000
    python scripts/benchmark_scale.py killed --genes 200000
    python scripts/benchmark_scale.py plans
    python scripts/benchmark_scale.py draw

A case is clustered in a process tree of its own that has started its workers, loaded all libraries and kernels, and
clustered a small cohort before anything counts: processor seconds are those of the whole tree after that, *over
start-up*. Peak memory is the largest sum of proportional set sizes over the tree. Peers come from packages, on the same
stores: fastcluster, and the composition of FAISS range search, connected components and fastcluster.

Cohorts are simulated at 1x coverage, ``sum``, ``max_dist`` 0.2, unrefined, two workers of one thread, unless a case
says otherwise.
"""

from __future__ import annotations

import click
from benchmarks import scale, scale_killed, scale_results


@click.group()
def main() -> None:
    """Measure how clustering grows."""


for command in (scale.cases, scale.one, scale.table, scale.workers, scale_killed.killed):
    main.add_command(command)
for command in (scale_results.plans, scale_results.draw):
    main.add_command(command)

if __name__ == "__main__":
    main()
