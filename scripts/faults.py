#!/usr/bin/env python
"""Break things on purpose, by seed, and count what must not happen.

    scripts/faults.py --runs 200                                   a small cohort
    scripts/faults.py --runs 20 --genes 20000 --samples 200        a larger one
    scripts/faults.py --runs 200 --signals                         SIGTERM, SIGHUP and SIGINT at any instant, no S3

A fault that comes after the end of its run is counted, but not as "in time". Prints a JSON line per run and a summary;
exits with 1 if any run went wrong. Needs the packages of the test extra, and to be root where disks are to fill up (a
small tmpfs is mounted).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import faults, interrupted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others follow")
    parser.add_argument("--genes", type=int, default=240)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no run after this")
    parser.add_argument("--only", choices=faults.FAULTS, help="always the same fault")
    parser.add_argument("--signals", action="store_true", help="signals instead of faults")
    parser.add_argument("--workers", default="0", help="with --signals: worker processes of each run")
    parser.add_argument("--programs", action="store_true", help="with --signals: every run is a program, none a fork")
    chosen = parser.parse_args()
    if chosen.signals:
        return with_signals(chosen)
    end = time.monotonic() + 60 * chosen.minutes
    folder = Path(tempfile.mkdtemp(prefix="cagdask-faults-"))
    bench = faults.Bench(folder, chosen.genes, chosen.samples)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    try:
        for seed in range(chosen.seed, chosen.seed + chosen.runs):
            if time.monotonic() > end:
                break
            outcome = faults.run_with_fault(bench, seed, chosen.only)
            print(json.dumps(asdict(outcome)), flush=True)
            found = counts[outcome.fault]
            found["runs"] += 1
            found["tries"] += outcome.n_tries
            found["in time"] += outcome.struck
            found["wrong results"] += bool(outcome.wrong)
            found["hangs"] += outcome.hung
            found["partial stores"] += outcome.partial
            found["earlier stores lost"] += outcome.lost
            found["unclear ends"] += bool(outcome.unclear)
    finally:
        bench.close()
        if not os.environ.get("KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
    total = sum(counts.values(), collections.Counter())
    print(json.dumps({"run_seconds": round(bench.run_time, 1), "total": total, "by_fault": counts}, indent=1))
    return int(any(total[name] for name in total if name not in ("runs", "tries", "in time")))


def with_signals(chosen: argparse.Namespace) -> int:
    """Runs that a signal ends; a JSON line each."""
    end = time.monotonic() + 60 * chosen.minutes
    folder = Path(tempfile.mkdtemp(prefix="cagdask-signals-"))
    n_runs = n_bad = 0
    try:
        bench = interrupted.Bench(
            folder / "bench",
            ("--workers", chosen.workers),
            n_genes=chosen.genes,
            n_samples=chosen.samples,
            fork=chosen.workers == "0" and not chosen.programs,
        )
        n_events = bench.n_events()
        for seed in range(chosen.seed, chosen.seed + chosen.runs):
            if time.monotonic() > end:
                break
            told, wrong = interrupted.by_seed(bench, seed, n_events)
            print(json.dumps({"seed": seed, "signal": told, "wrong": wrong}), flush=True)
            n_runs += 1
            n_bad += bool(wrong)
            shutil.rmtree(bench.folder / f"out-{seed}", ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"runs": n_runs, "went wrong": n_bad}))
    return int(n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
