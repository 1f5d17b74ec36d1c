"""Measure cagdask beside its peers: processor time, wall time, peak memory, agreement.

Every method runs as a process tree of its own on the same simulated cohort. Processor time is that of the whole tree as
the system accounts it; peak memory is the largest sum of proportional set sizes over the tree, sampled twenty times a
second. ``over start-up`` subtracts what the same command takes for a cohort of 100 genes.

    python scripts/benchmark.py clustering --genes 20000 --peer-python PEER/bin/python
    python scripts/benchmark.py turns --genes 20000
    python scripts/benchmark.py ingest --genes 300000 --samples 100
    python scripts/benchmark.py agreement --peer-python PEER/bin/python
    python scripts/benchmark.py out-of-core
    python scripts/benchmark.py out-of-core --genes 100000 --samples 200 --store STORE --memory-limit 2GiB
    python scripts/benchmark.py run --genes 100000

The peers come from packages: fastcluster, faiss-cpu, scikit-learn; and for find-cags' library an environment with
``nmslib boto3`` and ``ann_linkage_clustering`` (``pip install --no-deps``, its pins are older than any Python of
today).
"""

from __future__ import annotations

import click
from benchmarks import clustering, runs


@click.group()
def main() -> None:
    """Measure cagdask beside its peers."""


for command in (clustering.one, clustering.clustering, clustering.turns, clustering.agreement):
    main.add_command(command)
for command in (runs.ingest, runs.out_of_core, runs.run):
    main.add_command(command)

if __name__ == "__main__":
    main()
