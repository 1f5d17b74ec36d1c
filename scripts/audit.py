#!/usr/bin/env python3
"""Ask which of the locked packages have known weaknesses: scripts/audit.py [REQUIREMENTS ...].

Looks at what cagdask is installed and built from, requirements/*.txt, with pip-audit in an environment of its own,
build/audit. Exits with 1 if a weakness is known. Where nobody can be asked, which is so behind a mirror without
advisories, it says that nothing was audited, and succeeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOOL = "pip-audit==2.10.1"


def judge(report: dict[str, Any]) -> tuple[bool, list[str]]:
    """Whether a report of pip-audit is good, and what to say of it."""
    looked_at = [one for one in report["dependencies"] if "skip_reason" not in one]
    skipped = len(report["dependencies"]) - len(looked_at)
    said = []
    for one in looked_at:
        for weakness in one["vulns"]:
            mended = ", ".join(weakness["fix_versions"]) or "no release yet"
            said.append(f"{one['name']} {one['version']}: {weakness['id']}; mended in {mended}")
    good = not said
    if not looked_at:
        said.append(f"nothing was audited: no advisories for {skipped} packages can be had from here")
    elif skipped:
        said.append(f"{len(looked_at)} packages were audited, {skipped} could not be")
    else:
        said.append(f"{len(looked_at)} packages were audited")
    return good, said


def tool() -> Path:
    """pip-audit, installed now if need be."""
    folder = ROOT / "build" / "audit"
    program = folder / "bin" / "pip-audit"
    if not program.exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            TOOL,
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return program


def report_on(requirements: Path) -> dict[str, Any]:
    """What pip-audit finds: it exits with 1 if that is something."""
    options = ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [str(tool()), *options, "--requirement", str(requirements)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(ended.stdout))
    except ValueError:
        raise SystemExit(f"{requirements.name}: pip-audit failed: {ended.stderr[-500:]}") from None


def main() -> int:
    """Audit the files that were named, or all."""
    all_good = True
    for requirements in map(Path, sys.argv[1:] or sorted(map(str, ROOT.glob("requirements/*.txt")))):
        good, said = judge(report_on(requirements))
        all_good &= good
        for line in said:
            print(f"{requirements.name}: {line}")
    return int(not all_good)


if __name__ == "__main__":
    sys.exit(main())
