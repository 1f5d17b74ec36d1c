"""``cagdask normalize`` of expression, from the words on the command line to the store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cagdask
from cagdask.cli import main
from tests.conftest import MakeStore


def test_a_store_is_normalized_by_workers(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = np.random.default_rng(0).poisson(20, (50, 6)).astype(np.float32)
    source = abundance_store(values, chunk_rows=8)
    (tmp_path / "length.tsv").write_text("gene\tlength\n" + "".join(f"gene_{i:06d}\t{100 + i}\n" for i in range(50)))
    output = str(tmp_path / "out.zarr")
    command = ["normalize", source, "--method", "tpm", "--lengths", str(tmp_path / "length.tsv"), "--output", output]
    answer = CliRunner().invoke(main, [*command, "--workers", "1", "--json", "--no-progress"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["normalization"] == "tpm"
    per_base = values / (100 + np.arange(50))[:, None]
    np.testing.assert_allclose(
        cagdask.open_dataset(output).abundance.values, per_base / per_base.sum(0) * 1e6, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--method", "loq"], 2, "method 'loq' is not known"),
        (["--method", "cpm", "--clr-floor", "auto"], 2, "--clr-floor is only for"),
        (["--method", "sum", "--target", "x"], 2, "--target is not for --method sum"),
        (["--method", "tpm"], 1, "has no gene_length"),
        (["--method", "cpm", "--lengths", "x.gtf"], 1, "gene lengths are for tpm and rpkm"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    abundance_store: MakeStore, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    source = abundance_store(np.ones((3, 2), np.float32))
    answer = CliRunner().invoke(main, ["normalize", source, "--output", str(tmp_path / "o.zarr"), *words])
    assert answer.exit_code == code
    assert said in answer.output
