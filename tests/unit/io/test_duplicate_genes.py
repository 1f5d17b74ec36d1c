"""Genes that occur twice in a sample's file: refused, or added up if asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cagdask
from cagdask.errors import InputError
from tests.inline_runner import InlineRunner


@pytest.mark.parametrize("layout", ["json", "tsv"])
def test_the_same_gene_twice_in_a_sample_is_refused_or_added_up(tmp_path: Path, layout: str) -> None:
    genes: dict[str, list[tuple[str, float]]] = {
        "a": [("TP53", 2), ("MYC", 1), ("TP53", 3.5), ("ACTB", 7), ("TP53", 1)], "b": [("MYC", 4), ("TP53", 1)]
    }  # fmt: skip
    for name, some in genes.items():
        if layout == "json":
            text = json.dumps([{"id": gene, "depth": depth} for gene, depth in some])
        else:
            text = "gene_id\tcount\n" + "".join(f"{gene}\t{depth}\n" for gene, depth in some)
        (tmp_path / f"{name}.{layout}").write_text(text)
    sheet = tmp_path / "sheet.json"
    sheet.write_text(json.dumps({name: f"{name}.{layout}" for name in genes}))
    where: dict[str, Any] = {"kind": "expression", "client": InlineRunner()}
    with pytest.raises(InputError, match=r"sample 'a': gene 'TP53' occurs twice .*`duplicate_genes='sum'`"):
        cagdask.ingest(str(sheet), store=str(tmp_path / "s.zarr"), **where)
    ds = cagdask.ingest(str(sheet), store=str(tmp_path / "s.zarr"), duplicate_genes="sum", overwrite=True, **where)
    found = ds.abundance.to_pandas()
    assert list(found.index) == ["ACTB", "MYC", "TP53"]
    np.testing.assert_array_equal(found.loc[:, ["a", "b"]].to_numpy(), [[7, 0], [1, 4], [6.5, 1]])


def test_sums_that_float32_can_not_hold_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"id": "x", "depth": 3e38}, {"id": "x", "depth": 3e38}]))
    (tmp_path / "sheet.json").write_text(json.dumps({"a": "a.json"}))
    with pytest.raises(InputError, match="the values of gene 'x' add up to more than float32 can hold"):
        cagdask.ingest(str(tmp_path / "sheet.json"), store=str(tmp_path / "s.zarr"), duplicate_genes="sum",
                       client=InlineRunner())  # fmt: skip
