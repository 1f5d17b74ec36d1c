"""``cagdask metrics``, from the words on the command line to the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner

from cagdask.cli import main
from tests.conftest import MakeStore


def test_a_store_is_measured_by_workers(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = np.random.default_rng(0).poisson(20, (50, 30)).astype(np.float32)
    source = abundance_store(values, chunk_rows=8)
    command = ["metrics", source, "-o", str(tmp_path / "m.tsv"), "--percentile", "90", "--workers", "1", "--json"]
    answer = CliRunner().invoke(main, [*command, "--no-progress"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["n_genes"] == 50
    frame = pd.read_csv(tmp_path / "m.tsv", sep="\t")
    np.testing.assert_allclose(frame["percentile"], np.percentile(values, 90, axis=1))
    assert CliRunner().invoke(main, command).exit_code == 1  # it is there already
    assert CliRunner().invoke(main, ["metrics", source, "-o", "m.tsv", "--percentile", "100"]).exit_code == 2
