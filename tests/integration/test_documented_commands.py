"""What the README and the docs show works as printed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
ELSEWHERE = re.compile(r"^(\. \.venv/|scripts/|git |cd |pip |conda |sphinx-build )")
"""Commands about the clone or its environment, which other tests and .ci/run try."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each block of a page that can be run, in order; without the commands of other tests."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    kept = []
    for language, text in found:
        code = "".join(line for line in text.splitlines(keepends=True) if not ELSEWHERE.match(line))
        if code.strip():
            kept.append((language, code))
    return kept


def run(command: list[str], folder: Path) -> None:
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{command}\n{ended.stderr[-2000:]}"


def run_blocks(page: str, folder: Path) -> None:
    for language, code in blocks(page):
        if language == "sh":
            run(["sh", "-e", "-c", code], folder)
        else:
            (folder / "block.py").write_text(code)
            run([sys.executable, "block.py"], folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like a clone, with a tenth of the demo cohort, and the files that the docs call their reader's own."""
    sheet = json.loads((ROOT / "demo" / "sample_sheet.json").read_text())
    few = dict(list(sheet.items())[::10])
    (tmp_path / "demo" / "samples").mkdir(parents=True)
    for name in few.values():
        shutil.copy(ROOT / "demo" / name, tmp_path / "demo" / name)
    (tmp_path / "demo" / "sample_sheet.json").write_text(json.dumps(few))
    (tmp_path / "sheet.json").write_text(json.dumps({sample: f"demo/{name}" for sample, name in few.items()}))
    write_tables(tmp_path)
    write_own_samples(tmp_path)
    return tmp_path


def write_tables(folder: Path) -> None:
    rows = [["", "a", "b", "c"], ["gene_1", 1, 2, 3], ["gene_2", 2, 4, 6.5], ["gene_3", 0, 0, 5], ["gene_4", 9, 0, 0]]
    genes = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    (folder / "table.tsv.gz").write_bytes(gzip.compress(genes.encode()))
    samples = "".join(",".join(map(str, row)) + "\n" for row in zip(*rows, strict=True))
    (folder / "samples-as-rows.csv").write_text(samples)


def write_own_samples(folder: Path) -> None:
    sheet = {}
    for n, sample in enumerate("abc", start=1):
        records = [{"name": f"gene_{i}", "stats": {"rpkm": i * n + i % 2}, "length": 900} for i in range(1, 6)]
        (folder / f"{sample}.json").write_text(json.dumps({"genes": records, "reads": 10_000}))
        sheet[sample] = f"{sample}.json"
    (folder / "own-sheet.json").write_text(json.dumps(sheet))


def test_readme(folder: Path) -> None:
    run_blocks("README.md", folder)
    assert (folder / "my-cags" / "demo.cags.json.gz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tutorials/first-cags", "how-to/bring-your-own-table"])
def test_docs(folder: Path, page: str) -> None:
    run_blocks(f"docs/{page}.md", folder)


@pytest.mark.slow
def test_docs_that_go_on_from_a_store(folder: Path) -> None:
    run(["sh", "-c", "cagdask ingest sheet.json --store cohort.zarr"], folder)
    run_blocks("docs/how-to/choose-normalization-and-threshold.md", folder)
