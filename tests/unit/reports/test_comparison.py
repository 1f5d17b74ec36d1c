"""Two results compared."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import cagdask
from cagdask.cli import main
from cagdask.errors import InputError, SchemaError
from cagdask.plot.compared import shares
from tests.result_store import write_result_store


def grouped(labels: list[int], names: list[str] | None = None) -> xr.Dataset:
    """A result of genes in groups, in one sample."""
    names = names or [f"g{i}" for i in range(len(labels))]
    n_cags = max(labels) + 1
    return xr.Dataset(
        {
            "gene_cag": ("gene", np.array(labels)),
            "gene_id": ("gene", np.array(names, object)),
            "cag_size": ("cag", np.bincount(np.array(labels)[np.array(labels) >= 0], minlength=n_cags)),
            "cag_abundance": (("cag", "sample"), np.ones((n_cags, 1), np.float32)),
        }
    )


def fate_by_definition(cag: set[str], others: list[set[str]]) -> str:
    """What became of a group of names."""
    parts = [other for other in others if other & cag]
    inside = all(part <= cag for part in parts)
    if len(parts) == 1:
        return "same" if inside else "joined"
    return "split" if inside else "mixed"


def rand_by_definition(first: list[int], second: list[int]) -> float:
    """Adjusted Rand index, over all pairs of genes."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    a = [first[i] == first[j] for i, j in pairs]
    b = [second[i] == second[j] for i, j in pairs]
    both, n = sum(x and y for x, y in zip(a, b, strict=True)), len(pairs)
    expected, most = sum(a) * sum(b) / n, (sum(a) + sum(b)) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=14)


@given(LABELS, st.randoms(use_true_random=False))
def test_it_is_what_the_definitions_say(labels: list[tuple[int, int]], random: Any) -> None:
    first, second = ([one[i] for one in labels] for i in range(2))
    order = list(range(len(labels)))
    random.shuffle(order)
    found = cagdask.compare(grouped(first), grouped([second[i] for i in order], [f"g{i}" for i in order]))
    assert found.summary["adjusted_rand"] == pytest.approx(rand_by_definition(first, second))
    sets = [{f"g{i}" for i, label in enumerate(second) if label == b} for b in set(second)]
    for row in found.table.itertuples():
        cag = {f"g{i}" for i, label in enumerate(first) if label == row.cag}
        best = max(sets, key=lambda other: len(other & cag))
        assert (row.size, row.fate) == (len(cag), fate_by_definition(cag, sets))
        assert row.n_parts == sum(bool(other & cag) for other in sets)
        assert row.n_shared == len(best & cag)
    assert set(found.table["cag"]) == {a for a in first if first.count(a) >= 2}


def test_genes_of_only_one_result_are_counted() -> None:
    found = cagdask.compare(grouped([0, 0, 1, -1]), grouped([0, 0, 0], ["g0", "g1", "new"]))
    assert (found.summary["n_genes"], found.summary["n_only_first"], found.summary["n_only_second"]) == (2, 1, 1)
    assert list(found.table["fate"]) == ["same"]


def test_results_without_a_common_gene_are_refused() -> None:
    with pytest.raises(InputError, match=r"no gene in common; the first begin 'a' and 'b'"):
        cagdask.compare(grouped([0], ["a"]), grouped([0], ["b"]))
    with pytest.raises(SchemaError, match="holds no CAGs"):
        cagdask.compare(xr.Dataset(), grouped([0]))


def test_equal_results_are_a_diagonal() -> None:
    table, columns = shares(grouped([0] * 5 + [1] * 3 + [2]), grouped([2] * 5 + [0] * 3 + [1]))
    assert columns == ["CAG 2", "CAG 0", "CAG 1"]
    assert list(table["first"]) == ["CAG 0", "CAG 1", "CAG 2"]
    assert (table["share"] == 1).all()


def test_what_does_not_fit_the_picture_is_one_column() -> None:
    table, columns = shares(grouped([0] * 50), grouped(list(range(50))))
    assert len(columns) == 31
    assert table.set_index("second").loc["others", "n"] == 20
    assert table["share"].sum() == pytest.approx(1)


def test_the_command_writes_table_and_picture(tmp_path: Path) -> None:
    for name, labels in (("a", [0] * 4 + [1] * 2 + [2]), ("b", [0] * 3 + [1] * 3 + [2])):
        write_result_store(str(tmp_path / f"{name}.zarr"), labels, n_samples=3)
    a, b, out, picture = (str(tmp_path / name) for name in ("a.zarr", "b.zarr", "t.tsv", "p.svg"))
    made = CliRunner().invoke(main, ["compare", a, b, "-o", out, "--picture", picture])
    assert "7 genes compared." in made.stdout
    assert list(pd.read_csv(out, sep="\t")["fate"]) == ["mixed", "joined"]
    assert "CAG of the second result" in Path(picture).read_text()
    refused = CliRunner().invoke(main, ["compare", a, b, "-o", str(tmp_path / "t.xlsx")])
    assert refused.exit_code == 1
    assert "ends in neither .tsv nor .parquet" in refused.stderr
