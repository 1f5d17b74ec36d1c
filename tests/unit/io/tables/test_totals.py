"""Samples that are the sum, or the mean, of the others."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cagdask
from cagdask.errors import InputError
from tests.inline_runner import InlineRunner

TURNED = "samples-by-genes"
TOTALS = [
    "Total",
    "total",
    "TOTALS",
    "Sum",
    "Grand Total",
    "grand_total",
    "all samples",
    "Total:",
    "sum of all",
    "Summe",
]


def ingested(path: Path, **options: Any) -> Any:
    ds = cagdask.ingest(str(path), store=f"{path}.zarr", client=InlineRunner(), overwrite=True, **options)
    return ds.load()


def write(path: Path, samples: list[str], values: np.ndarray, *, turned: bool = True) -> Path:
    """Samples in rows, or in columns; text or Parquet by suffix."""
    genes = [f"g{i}" for i in range(values.shape[1])]
    rows, columns, cells = (samples, genes, values) if turned else (genes, samples, values.T)
    if path.suffix == ".parquet":
        pq.write_table(
            pa.table({"sample_id" if turned else "gene_id": rows} | dict(zip(columns, cells.T, strict=True))), path
        )
        return path
    lines = [["sample_id" if turned else "gene_id", *columns]]
    lines += [[name, *(f"{v:g}" for v in row)] for name, row in zip(rows, cells, strict=True)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    return path


@settings(max_examples=5, deadline=None)
@given(data=st.data(), n=st.integers(2, 6), m=st.integers(1, 12), suffix=st.sampled_from([".tsv", ".parquet"]))
def test_a_row_that_is_the_sum_of_the_others_is_no_sample(data: Any, n: int, m: int, suffix: str) -> None:
    name, place = data.draw(st.sampled_from(TOTALS)), data.draw(st.integers(0, n))
    values = np.array(data.draw(st.lists(st.integers(0, 999), min_size=n * m, max_size=n * m)), float).reshape(n, m)
    values[0, 0] += 1
    samples = [f"s{i}" for i in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        plain = ingested(write(Path(folder) / f"plain{suffix}", samples, values), orient=TURNED)
        both = np.insert(values, place, values.sum(axis=0), axis=0)
        path = write(Path(folder) / f"t{suffix}", np.insert(np.array(samples, object), place, name).tolist(), both)
        with pytest.raises(InputError, match=f"sample '{name}' is the sum of the {n} others.*`exclude_samples=.*keep"):
            ingested(path, orient=TURNED)
        without = ingested(path, orient=TURNED, exclude_samples=f"^{name}$")
        assert without.attrs["input_digest"] == plain.attrs["input_digest"]
        kept = ingested(path, orient=TURNED, totals="keep")
        assert kept.sample_id.values.tolist() == np.insert(np.array(samples, object), place, name).tolist()


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("place", [0, 5])
def test_a_total_of_any_name_is_found_by_its_values(tmp_path: Path, turned: bool, place: int) -> None:
    values = np.random.default_rng(0).poisson(20, (5, 40)).astype(float)
    samples = np.insert(np.array([f"s{i}" for i in range(5)], object), place, "whole cohort").tolist()
    table = np.insert(values, place, values.sum(axis=0), axis=0)
    orient = TURNED if turned else "genes-by-samples"
    path = write(tmp_path / "t.tsv", samples, table, turned=turned)
    with pytest.raises(InputError, match=r"'whole cohort' is the sum of the 5 others.*'\^whole\\\\ cohort\$'"):
        ingested(path, orient=orient)
    assert ingested(path, orient=orient, exclude_samples=r"^whole\ cohort$").sizes["sample"] == 5
    assert ingested(path, orient=orient, totals="keep").sizes["sample"] == 6


@pytest.mark.parametrize("turned", [True, False])
def test_rounded_totals_means_and_two_totals_are_found(tmp_path: Path, turned: bool) -> None:
    values = np.random.default_rng(1).gamma(1, 1, (8, 30))
    both = (["average", "overall"], [values.mean(axis=0), values.sum(axis=0)])
    for names, rows in (
        (["all samples"], [np.round(values.sum(axis=0), 1)]),
        (["pooled", "overall"], [values.sum(axis=0), values.sum(axis=0)]),
        *([both] if turned else []),  # a column of that name is refused for its name
    ):
        table = np.vstack([values, rows])
        path = write(tmp_path / "t.tsv", [*(f"s{i}" for i in range(8)), *names], table, turned=turned)
        with pytest.raises(InputError, match=r"is the (sum|mean) of the \d others"):
            ingested(path, orient=TURNED if turned else "genes-by-samples")


@pytest.mark.parametrize("turned", [True, False])
def test_samples_that_only_look_like_totals_stay(tmp_path: Path, turned: bool) -> None:
    values = np.random.default_rng(2).poisson(5, (4, 30)).astype(float)
    twins = np.vstack([values[:1], values[:1], np.zeros((2, 30))])  # each is the sum of the others, so none is
    for table, names in (
        (values, ["pooled", "s1", "s2", "all"]),  # named so, and no sum
        (twins, ["s0", "s1", "s2", "s3"]),
        (np.array([[1.0, 0], [0, 1], [1, 1]]), ["s0", "s1", "s2"]),  # small numbers add up by chance
    ):
        path = write(tmp_path / "t.tsv", names, table, turned=turned)
        found = ingested(path, orient=TURNED if turned else "genes-by-samples")
        assert found.sample_id.values.tolist() == names


def test_excluding_all_samples_and_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", ["a", "b"], np.ones((2, 3)))
    with pytest.raises(InputError, match="no sample is what"):
        ingested(path, orient=TURNED, exclude_samples=".")
    with pytest.raises(ValueError, match=r"`exclude_samples='\('` is no regular expression"):
        ingested(path, orient=TURNED, exclude_samples="(")
    (tmp_path / "s.json").write_text('{"a": "a.json"}')
    (tmp_path / "a.json").write_text('[{"id": "g", "depth": 1}]')
    with pytest.raises(ValueError, match="`exclude_samples` is for tables"):
        ingested(tmp_path / "s.json", exclude_samples="a")
