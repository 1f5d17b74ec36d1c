"""``cagdask test`` from the words on the command line to the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner
from scipy.stats import mannwhitneyu

from cagdask.cli import main
from tests.conftest import MakeStore


def test_genes_of_a_store_are_tested_by_workers(abundance_store: MakeStore, tmp_path: Path) -> None:
    values = np.random.default_rng(0).gamma(2, 1, (20, 30)).astype(np.float32)
    values[0, 15:] += 10
    source = abundance_store(values, kind="expression")
    names = [f"sample_{j:03d}" for j in range(30)]
    (tmp_path / "l.tsv").write_text("id\tstate\n" + "".join(f"{n}\t{'ab'[j > 14]}\n" for j, n in enumerate(names)))
    command = ["test", source, "--labels", str(tmp_path / "l.tsv"), "--output", str(tmp_path / "o.parquet")]
    answer = CliRunner().invoke(main, [*command, "--workers", "1", "--json", "--no-progress"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["n_found"] == 1
    table = pd.read_parquet(tmp_path / "o.parquet")
    assert table.gene[0] == "gene_000000"
    assert table.effect[0] == 1
    expected = mannwhitneyu(values[0, 15:].astype(float), values[0, :15].astype(float), method="asymptotic").pvalue
    np.testing.assert_allclose(table.p_value[0], expected, rtol=1e-9)
    again = CliRunner().invoke(main, [*command, "--no-progress"])
    assert again.exit_code == 1
    assert "is already there" in again.output
