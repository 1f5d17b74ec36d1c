#!/usr/bin/env python
"""Feed damaged and hostile inputs to the readers, by seed: scripts/fuzz.py --cases 10000.

Prints how many were taken and refused; exits with 1 if one ended in any other way than a result or an error of
cagdask, took too long, made the process twice as large, or wrote outside its folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cagdask-fuzz-") as folder:
        report = fuzz.run(Path(folder), chosen.cases, chosen.seed)
    for (name, end), n in sorted(report.counts.items()):
        print(f"{name:10} {end:8} {n:7,}")
    largest = ", ".join(f"{name} {n // 2**20} MiB" for name, n in report.largest.items())
    print(f"peak memory: {report.peak_ratio:.2f} times that of good inputs; {largest}")
    for problem in report.problems[:40]:
        print("PROBLEM", *problem)
    return int(bool(report.problems) or report.peak_ratio > 2)


if __name__ == "__main__":
    sys.exit(main())
