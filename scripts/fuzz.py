#!/usr/bin/env python
"""Feed damaged and hostile inputs to the readers, by seed: scripts/fuzz.py --cases 20000.

Batches of cases run in processes of their own, so one that ends the process is found, named by its seed, and passed.
Prints how many were taken and refused; exits with 1 if one ended in any other way than a result or an error of
cagdask, took too long or too much memory, ended its process, made it twice as large, or wrote outside its folder.
One case again: scripts/fuzz.py --cases 1 --seed SEED --targets NAME.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import fuzz


def run_here(chosen: argparse.Namespace) -> int:
    """Run a batch in this process, and print what came of it as JSON."""
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="cagdask-fuzz-") as folder:
        report = fuzz.run(Path(folder), chosen.cases, chosen.seed, chosen.targets, chosen.here)
    counts = [[*key, n] for key, n in report.counts.items()]
    name = max(report.largest, key=lambda name: report.largest[name])
    largest = [name, report.largest_seed[name], report.largest[name]]
    said = {"counts": counts, "problems": report.problems, "ratio": report.peak_ratio, "largest": largest}
    print(json.dumps(said | {"growth": report.growth}))
    return 0


def run_batch(cases: int, seed: int, targets: list[str] | None) -> dict[str, Any]:
    """Run a batch in a process of its own; ``died`` is the seed of the case that ended it, if one did."""
    with tempfile.TemporaryDirectory(prefix="cagdask-fuzz-") as folder:
        progress = Path(folder) / "case"
        command = [sys.executable, __file__, "--cases", str(cases), "--seed", str(seed), "--here", str(progress)]
        more = ["--targets", *targets] if targets else []
        ended = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            return dict(json.loads(ended.stdout.splitlines()[-1]))
        name, died = progress.read_text().split() if progress.exists() else ("none", str(seed))
        said = (ended.stderr.strip().splitlines() or [""])[-1][:200]
        problem = [name, int(died), f"ended the process ({ended.returncode}): {said}"]
        nothing = {"counts": [], "ratio": 1.0, "largest": [name, 0, 0], "growth": {}}
        return nothing | {"problems": [problem], "died": int(died)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=2000, help="cases of a process")
    parser.add_argument("--targets", nargs="+", help="some kinds of input only")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.here:
        return run_here(chosen)
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[Any] = []
    growth: dict[str, list[int]] = {}
    ratio, largest = 1.0, ["none", 0, 0]
    seed, end = chosen.seed, chosen.seed + chosen.cases
    while seed < end:
        n = min(chosen.batch, end - seed)
        found = run_batch(n, seed, chosen.targets)
        counts.update({(name, what): n_cases for name, what, n_cases in found["counts"]})
        problems += found["problems"]
        for name, rose in found["growth"].items():
            growth[name] = max(growth.get(name, [0, 0]), rose)
        for problem in found["problems"]:
            print("PROBLEM", *problem, file=sys.stderr)
        ratio = max(ratio, found["ratio"])
        largest = max(largest, found["largest"], key=lambda case: case[2])
        seed = found.get("died", seed + n - 1) + 1
        peak = f"peak {found['ratio']:.2f} ({found['largest'][0]} {found['largest'][1]})"
        print(f"{seed - chosen.seed:,} of {chosen.cases:,}, {len(problems)} problems, {peak}", file=sys.stderr)
    for (name, what), n in sorted(counts.items()):
        print(f"{name:10} {what:8} {n:7,}")
    for name, (n_bytes, at) in sorted(growth.items()):
        print(f"{name:10} took at most {n_bytes / 2**20:,.0f} MiB within a case (seed {at})")
    print(f"{counts.total():,} inputs; peak memory: {ratio:.2f} times that of good inputs ({largest[0]} {largest[1]})")
    print(f"{len(problems)} problems")
    return int(bool(problems) or ratio > 2)


if __name__ == "__main__":
    sys.exit(main())
