"""What the README and the docs show works as printed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.s3_server import S3Server

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
ELSEWHERE = re.compile(r"^(\. \.venv/|scripts/|git |cd |pip |conda |docker |helm |sphinx-build )")
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
    write_cohort(tmp_path)
    write_own_samples(tmp_path)
    return tmp_path


def write_tables(folder: Path) -> None:
    rows = [["", "a", "b", "c"], ["gene_1", 1, 2, 3], ["gene_2", 2, 4, 6.5], ["gene_3", 0, 0, 5], ["gene_4", 9, 0, 0]]
    genes = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    (folder / "table.tsv.gz").write_bytes(gzip.compress(genes.encode()))
    samples = "".join(",".join(map(str, row)) + "\n" for row in zip(*rows, strict=True))
    (folder / "samples-as-rows.csv").write_text(samples)


def write_cohort(folder: Path) -> None:
    """``my-table.tsv``: six groups of ten genes in twelve samples, and ``my-samples.tsv`` with their diagnoses."""
    rng = np.random.default_rng(1)
    profiles = rng.lognormal(0, 1.5, (6, 12)).repeat(10, axis=0)
    values = rng.poisson(30 * profiles)
    names = [f"S{i}" for i in range(12)]
    lines = ["\t".join(["gene", *names])]
    lines += ["\t".join([f"gene_{i}", *map(str, row)]) for i, row in enumerate(values)]
    (folder / "my-table.tsv").write_text("\n".join([*lines, ""]))
    lines = [
        "sample\tdiagnosis\tage",
        *(f"{name}\t{'case' if i % 2 else 'control'}\t{30 + i}" for i, name in enumerate(names)),
    ]
    (folder / "my-samples.tsv").write_text("\n".join([*lines, ""]))


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
    assert '"diagnosis"' in (folder / "my-cags" / "report.html").read_text()
    assert "diagnosis" not in (folder / "differences.tsv").read_text().splitlines()[0]
    assert len((folder / "differences.tsv").read_text().splitlines()) > 6


@pytest.mark.parametrize("page", ["tutorials/explore-an-embedding", "how-to/size-a-run"])
def test_quick_docs(folder: Path, page: str) -> None:
    run_blocks(f"docs/{page}.md", folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        "tutorials/first-cags",
        "tutorials/classify-a-cohort",
        "tutorials/find-programs",
        "tutorials/measure-expression",
        "tutorials/your-own-table",
        "how-to/bring-your-own-table",
        "how-to/migrate-from-find-cags",
        "how-to/use-one-big-node",
    ],
)
def test_docs(folder: Path, page: str) -> None:
    run_blocks(f"docs/{page}.md", folder)


@pytest.mark.slow
def test_the_tutorial_on_s3(folder: Path, s3: S3Server) -> None:
    s3.make_bucket("my-bucket")
    run_blocks("docs/tutorials/work-on-s3.md", folder)
    assert len((folder / "differences.tsv").read_text().splitlines()) > 6


@pytest.mark.slow
def test_docs_that_explore_a_result(folder: Path) -> None:
    run(["sh", "-c", "cagdask run my-table.tsv --metadata my-samples.tsv --output my-cags"], folder)
    run_blocks("docs/how-to/explore-a-result.md", folder)
    assert len((folder / "members.tsv").read_text().splitlines()) == 11


@pytest.mark.slow
def test_docs_that_ask_for_genes(folder: Path) -> None:
    genes = ["CD3E", "CD8A", "CD4", *(f"GENE{i}" for i in range(30))]
    lines = [f"{gene} {' '.join(str((i * j * 37 % 101) - 50) for j in range(1, 9))}" for i, gene in enumerate(genes, 1)]
    (folder / "embedding.vec").write_text("\n".join([f"{len(genes)} 8", *lines, ""]))
    (folder / "genes.txt").write_text("CD3E\nCD8A GENE4\n")
    run_blocks("docs/how-to/ask-for-genes.md", folder)
    assert (folder / "histogram.png").exists()
    assert "CD3E" in (folder / "answer.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["choose-normalization-and-threshold", "assign-genes-to-cags", "cluster-a-sample-then-label"]
)
def test_docs_that_go_on_from_a_store(folder: Path, page: str) -> None:
    run(["sh", "-c", "cagdask ingest sheet.json --store cohort.zarr"], folder)
    run_blocks(f"docs/how-to/{page}.md", folder)


SRUN = """#!/bin/sh
# Stands in for SLURM's: runs as many copies of a command as the job has tasks, and waits for them.
n=$SLURM_NTASKS
while [ "$n" -gt 0 ]; do SLURM_PROCID=$((n - 1)) "$@" & n=$((n - 1)); done
wait
"""


@pytest.mark.slow
def test_the_slurm_script(folder: Path) -> None:
    """The job of the page as it is printed, with a stand-in for srun and what SLURM tells a job."""
    (script,) = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs/how-to/run-on-slurm.md").read_text(), re.M | re.S)
    (folder / "cags.sbatch").write_text(script)
    programs = folder / "bin"
    (folder / "clone" / ".venv" / "bin").mkdir(parents=True)
    (folder / "clone" / "scripts").symlink_to(ROOT / "scripts")
    (folder / "clone" / ".venv" / "bin" / "activate").write_text("")
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(stat.S_IRWXU)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_MEM_PER_CPU": "2048", "SCHEDULER_HOST": "127.0.0.1"}
    slurm["CAGDASK"] = str(folder / "clone")
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "cags.sbatch"],
        cwd=folder,
        env=os.environ | slurm | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    run_json = json.loads((folder / "cags" / "run.json").read_text())
    assert run_json["workers"]["n_workers"] == 2
    assert not list(folder.glob("cags-cluster-*")), "the certificates are gone"


@pytest.mark.slow
def test_docs_of_latent_factors(folder: Path) -> None:
    run(["sh", "-c", "cagdask run sheet.json --normalization hellinger --output cags"], folder)
    run_blocks("docs/how-to/find-latent-factors.md", folder)


def test_the_job_queue_configuration_of_the_slurm_page(folder: Path) -> None:
    """What dask-jobqueue makes of it; nothing is submitted."""
    pytest.importorskip("dask_jobqueue")
    text = (ROOT / "docs/how-to/run-on-slurm.md").read_text()
    run([sys.executable, str(ROOT / "scripts" / "make_certificates.py"), "--folder", str(folder / "cags-tls")], folder)
    examples = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for number, example in enumerate(examples):
        (folder / f"{number}.yaml").write_text(example.replace("/home/me", str(folder)))
    code = """
from dask_jobqueue import SLURMCluster
from distributed.security import Security

if __name__ == "__main__":
    options = {"cores": 1, "memory": "4GiB", "protocol": "tls", "security": Security(require_encryption=True)}
    options["scheduler_options"] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with SLURMCluster(**options) as cluster:
        print(cluster.job_script())
"""
    (folder / "script.py").write_text(code)
    ended = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=os.environ | {"DASK_CONFIG": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    for part in ("#SBATCH -p normal", "#SBATCH -A lab", "#SBATCH -t 24:00:00", ".venv/bin/activate", "--lifetime 23h"):
        assert part in ended.stdout
    assert f"--tls-ca-file {folder}/cags-tls/ca.crt" in ended.stdout
    assert "tls://127.0.0.1:" in ended.stdout
