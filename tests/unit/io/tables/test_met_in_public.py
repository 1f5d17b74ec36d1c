"""Small inputs on which people failed in public, each rebuilt with made-up values: read right, or refused in one line.

One entry a situation. What is read is compared with ids, samples, values and metadata written here by hand.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather
from pyarrow import parquet as pq

import cagdask
from cagdask.errors import InputError
from tests.inline_runner import InlineRunner

EMBEDDING = {"kind": "embedding"}


@dataclass(frozen=True)
class Case:
    """A situation: files that ``write`` makes in a folder, the name to ingest, and what is right.

    Attributes
    ----------
    name, write
        What to ingest, and what makes it.
    genes, samples, values
        Of the store; None of the samples for vectors.
    options
        Of the ingest.
    kept
        Metadata of the store.
    says, warns
        Parts of the error, where it is to be refused; of the warnings, where it is taken.
    """

    name: str
    write: Callable[[Path], Any]
    genes: list[str] = field(default_factory=list)
    samples: list[str] | None = None
    values: list[list[float]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, list[Any]] = field(default_factory=dict)
    says: str = ""
    warns: tuple[str, ...] = ()


def text(content: str, encoding: str = "utf-8") -> Callable[[Path], Any]:
    return lambda path: path.write_text(content, encoding=encoding, newline="")


def beside(**files: str) -> Callable[[Path], Any]:
    """Files of a folder; ``__`` in a keyword is the dot of its name."""

    def write(path: Path) -> None:
        for name, content in files.items():
            (path.parent / name.replace("__", ".")).write_text(content)

    return write


def h5ad(indptr: list[int], indices: list[int], dtype: str = "i4") -> Callable[[Path], Any]:
    """Three observations of two variables, as compressed rows whose pointers are as given."""

    def write(path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            group = file.create_group("X")
            group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", (3, 2)
            group["data"], group["indices"] = np.ones(len(indices), "f4"), np.array(indices, "i4")
            group["indptr"] = np.array(indptr, dtype)
            for axis, names in (("obs", ["a", "b", "c"]), ("var", ["p", "q"])):
                file.create_group(axis).attrs["_index"] = "_index"
                file[f"{axis}/_index"] = names

    return write


def frame_of_polars(path: Path) -> None:
    """Categories as Polars writes them: a dictionary of large strings."""
    names = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.uint32()), pa.array(["y", "x"], pa.large_string()))
    feather.write_feather(pa.table({"gene": names, "s1": [1.5, 2.5]}), str(path), compression="uncompressed")


def half_beside_int(path: Path) -> None:
    halves = pa.array(np.array([0.5, 2.0], np.float16))
    pq.write_table(pa.table({"gene": ["x", "y"], "s1": halves, "s2": pa.array([3, 4], pa.int32())}), path)


def half_that_overflowed(path: Path) -> None:
    with np.errstate(over="ignore"):
        vectors = np.array([[1, 1e6], [2, 3]]).astype(np.float16)
    np.savez(path, embeddings=vectors, genes=np.array(["gX", "gY"]))


def filtered_frame(path: Path) -> None:
    frame = pd.DataFrame({"gene_id": [11, 22, 33, 44], "s1": [0, 1, 2, 3], "s2": [9, 8, 7, 6]})
    frame[frame.s1 > 0].to_parquet(path)


def indexed_frame(path: Path) -> None:
    frame = pd.DataFrame({"cluster": ["cA", "cB", "cC"], "s1": [0, 1, 2], "s2": [9, 8, 7]})
    frame.set_index("cluster").to_parquet(path)


def parquet_parts(path: Path) -> None:
    path.mkdir()
    for i, gene in enumerate(["x", "y"]):
        pd.DataFrame({"gene": [gene], "s1": [i + 1.5]}).to_parquet(path / f"part.{i}.parquet", index=False)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.tsv", "gene\ts1\ts2\nx\t1\t2\ny\t3\t4\n")


def biom_1(path: Path) -> None:
    table = {
        "id": None, "format": "Biological Observation Matrix 1.0.0", "type": "OTU table", "matrix_type": "sparse",
        "matrix_element_type": "int", "shape": [2, 1], "rows": [{"id": "U1", "metadata": None},
        {"id": "U2", "metadata": None}], "columns": [{"id": "S9", "metadata": None}], "data": [[0, 0, 4], [1, 0, 6]],
    }  # fmt: skip
    path.write_text(json.dumps(table))


FEATURE_COUNTS = (
    '# Program:featureCounts v2.0.3; Command:"featureCounts" "-o" "fc.tsv" "x.bam" "y.bam" \n'
    "Geneid\tChr\tStart\tEnd\tStrand\tLength\tx.bam\ty.bam\n"
    "orf_7\tctg_2\t11\t50\t+\t40\t6\t0\norf_8\tctg_2\t60\t99\t-\t40\t2\t9\n"
)
HUMANN = (
    "# Gene Family\tP_Abundance-RPKs\tQ_Abundance-RPKs\nUNMAPPED\t800\t600\nFAM_7\t20\t10\n"
    "FAM_7|g__Yus.s__Yus_z\t20\t10\nFAM_8\t3\t4\nFAM_8|unclassified\t3\t4\n"
)
TWO = [[1.0, 2.0], [3.0, 4.0]]
READ = {
    "biom_1_json": Case("t.json", biom_1, ["U1", "U2"], ["S9"], [[4], [6]]),
    "biom_comment_one_sample": Case(
        "otu.tsv", text("# Constructed from biom file\n#OTU ID\t2002\nOTU_x\t8\nOTU_y\t1\n"),
        ["OTU_x", "OTU_y"], ["2002"], [[8], [1]],
    ),
    "bom_glove": Case("e.txt", text("gX 1 2\ngY 3 4\n", "utf-8-sig"), ["gX", "gY"], None, TWO, EMBEDDING),
    "bom_json_embedding": Case(
        "e.json", text('{"gX": [1, 2], "gY": [3, 4]}', "utf-8-sig"), ["gX", "gY"], None, TWO, EMBEDDING
    ),
    "excel_empty_cells": Case(
        "t.csv", text("gene,s1,s2,,\norf_x,1,2,,\norf_y,3,4,,\n,,,,\n"), ["orf_x", "orf_y"], ["s1", "s2"], TWO
    ),
    "feather_polars_categorical": Case("t.feather", frame_of_polars, ["x", "y"], ["s1"], [[1.5], [2.5]]),
    "featurecounts_after_advice": Case(
        "fc.tsv", text("Geneid\tStart\tEnd\tLength\tx.bam\ty.bam\norf_7\t11\t50\t40\t6\t0\norf_8\t60\t99\t40\t2\t9\n"),
        ["orf_7", "orf_8"], ["x.bam", "y.bam"], [[6, 0], [2, 9]],
        kept={"gene_start": [11, 60], "gene_end": [50, 99], "gene_length": [40, 40]},
    ),
    "featurecounts_whole": Case(
        "fc.tsv", text(FEATURE_COUNTS), ["orf_7", "orf_8"], ["x.bam", "y.bam"], [[6, 0], [2, 9]],
        kept={"gene_chromosome": ["ctg_2", "ctg_2"], "gene_strand": ["+", "-"], "gene_length": [40, 40]},
    ),
    "gene2vec_text": Case(
        "e.txt", text("TP7\t0.25 -1.5 2.0 \nBR8\t1.0 0.5 -3.5 \n"), ["TP7", "BR8"], None,
        [[0.25, -1.5, 2], [1, 0.5, -3.5]], EMBEDDING,
    ),
    "half_beside_int": Case("t.parquet", half_beside_int, ["x", "y"], ["s1", "s2"], [[0.5, 3], [2, 4]]),
    "htseq_no_header with --no-header": Case(
        "counts.tsv", text("orf_07\t5\norf_08\t0\norf_09\t2\n__no_feature\t21\n__ambiguous\t7\n"),
        ["orf_07", "orf_08", "orf_09", "__no_feature", "__ambiguous"], ["counts"], [[5], [0], [2], [21], [7]],
        {"no_header": True}, warns=("2 rows are no genes (__no_feature, __ambiguous): 80 % of the abundance",),
    ),
    "humann_strata": Case(
        "hu.tsv", text(HUMANN), ["UNMAPPED", "FAM_7", "FAM_7|g__Yus.s__Yus_z", "FAM_8", "FAM_8|unclassified"],
        ["P_Abundance-RPKs", "Q_Abundance-RPKs"], [[800, 600], [20, 10], [20, 10], [3, 4], [3, 4]],
        warns=("1 rows are no genes (UNMAPPED): 95 % of the abundance", "2 rows are parts of other rows"),
    ),
    "humann_strata left out": Case(
        "hu.tsv", text(HUMANN), ["FAM_7", "FAM_8"], ["P_Abundance-RPKs", "Q_Abundance-RPKs"], [[20, 10], [3, 4]],
        {"exclude_unmapped": True, "stratified": "drop"},
    ),
    "mothur_shared": Case(
        "x.shared", text("label\tGroup\tnumOtus\tOtu008\tOtu009\n0.05\tdayX\t2\t7\t1\n0.05\tdayY\t2\t3\t9\n"),
        ["Otu008", "Otu009"], ["dayX", "dayY"], [[7, 3], [1, 9]], {"orient": "samples-by-genes"},
        kept={"sample_label": [0.05, 0.05], "sample_numOtus": [2, 2]},
    ),
    "ndjson": Case(
        "sheet.json", beside(sheet__json='{"S9": "s9.json"}', s9__json='{"id":"x","depth":3}\n{"id":"y","depth":4}\n'),
        ["x", "y"], ["S9"], [[3], [4]],
    ),
    "pandas_filtered_int_ids": Case(
        "t.parquet", filtered_frame, ["22", "33", "44"], ["s1", "s2"], [[1, 8], [2, 7], [3, 6]],
    ),
    "pandas_named_index_text": Case(
        "t.parquet", indexed_frame, ["cA", "cB", "cC"], ["s1", "s2"], [[0, 9], [1, 8], [2, 7]]
    ),
    "parquet_directory": Case("t.parquet", parquet_parts, ["x", "y"], ["s1"], [[1.5], [2.5]]),
    "row_numbers_before_text_ids": Case(
        "t.csv", text(",gene_id,s1,s2\n0,orf_x,1,2\n1,orf_y,3,4\n"), ["orf_x", "orf_y"], ["s1", "s2"], TWO
    ),
    "semicolon_decimal_comma": Case(
        "t.csv", text("gene;s1\norf_x;3,5\norf_y;0,25\n"), ["orf_x", "orf_y"], ["s1"], [[3.5], [0.25]]
    ),
    "sheet_of_quant_sf": Case(
        "sheet.json",
        beside(
            sheet__json='{"S9": "quant.sf"}',
            quant__sf="Name\tLength\tEffectiveLength\tTPM\tNumReads\norf_7\t900\t750.5\t12\t4.5\n",
        ),
        ["orf_7"], ["S9"], [[12]],
    ),
    "stray_quote": Case(
        "t.tsv", text('gene\ts1\n"orf_w\t1\norf_x\t2\n"orf_y\t3\norf_z\t4\n'),
        ['"orf_w', "orf_x", '"orf_y', "orf_z"], ["s1"], [[1], [2], [3], [4]],
    ),
    "trailing_tab_in_rows": Case(
        "t.tsv", text("orf\ts1\ts2\norf_x\t1\t2\t\norf_y\t3\t4\t\n"), ["orf_x", "orf_y"], ["s1", "s2"], TWO
    ),
    "unnamed_0": Case(
        "t.csv", text("Unnamed: 0,gene_id,s1,s2\n0,orf_x,1,2\n1,orf_y,3,4\n"), ["orf_x", "orf_y"], ["s1", "s2"], TWO
    ),
    "zip_called_tsv": Case("t.tsv", zipped, ["x", "y"], ["s1", "s2"], TWO),
    "decimal commas between semicolons without a header": Case(
        "t.csv", text("x;1,5;2,5\ny;3,5;4,25\n"), ["x", "y"], ["1", "2"], [[1.5, 2.5], [3.5, 4.25]],
        {"no_header": True},
    ),
    "no header, and a separator after each row": Case(
        "t.tsv", text("x\t1\t2\t\ny\t3\t4\t\n"), ["x", "y"], ["1", "2"], TWO, {"no_header": True}
    ),
    "a comment of as many words as there are columns": Case(
        "t.txt", text("# written yesterday\ngene s1 s2\nx 1 2\ny 3 4\n"), ["x", "y"], ["s1", "s2"], TWO
    ),
}  # fmt: skip
REFUSED = {
    "h5ad_csr_descending_indptr": Case(
        "e.h5ad", h5ad([0, 3, 1, 4], [0, 1, 0, 1]), options=EMBEDDING, says="e.h5ad: X/indptr falls after entry 2"
    ),
    "h5ad_csr_index_too_large": Case(
        "e.h5ad", h5ad([0, 2, 3, 4], [0, 9, 0, 1]), options=EMBEDDING, says="X/indices holds 9 at entry 2, outside"
    ),
    "h5ad_csr_index_too_large as a table": Case(
        "e.h5ad", h5ad([0, 2, 3, 4], [0, 9, 0, 1]), says="X/indices holds 9 at entry 2, outside"
    ),
    "h5ad_csr_wrapped_indptr": Case(
        "e.h5ad", h5ad([0, 2, -(2**31) + 3, 4], [0, 1, 0, 1]), options=EMBEDDING, says="X/indptr falls after entry 2"
    ),
    "h5ad_csr_wrapped_indptr of unsigned numbers": Case(
        "e.h5ad", h5ad([0, 2, 2**64 - 5, 4], [0, 1, 0, 1], "u8"), says="X/indptr falls after entry 3"
    ),
    "half_inf_npz": Case(
        "e.npz", half_that_overflowed, options=EMBEDDING, says="gene 'gX', component '1': the value is infinite"
    ),
    "htseq_no_header": Case(
        "counts.tsv", text("orf_07\t5\norf_08\t0\n__no_feature\t21\n"), says=r"looks like data .* Add `no_header=True`"
    ),
    "json_results_twice": Case(
        "sheet.json",
        beside(
            sheet__json='{"S9": "s9.json"}',
            s9__json='{"results":[{"id":"x","depth":1}],"results":[{"id":"y","depth":2}]}',
        ),
        says="s9.json: sample 'S9': the key 'results' occurs 2 times",
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_failed_in_public_is_read(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    asked = READ[case]
    asked.write(tmp_path / asked.name)
    ds = cagdask.ingest(
        str(tmp_path / asked.name), store=str(tmp_path / "s.zarr"), client=InlineRunner(), **asked.options
    )
    assert ds.gene_id.values.tolist() == asked.genes
    value = "embedding" if asked.samples is None else "abundance"
    np.testing.assert_array_equal(ds[value].values, np.array(asked.values, np.float32))
    if asked.samples is not None:
        assert ds.sample_id.values.tolist() == asked.samples
    for name, values in asked.kept.items():
        assert ds[name].values.tolist() == values
    for part in asked.warns:
        assert part in caplog.text
    if not asked.warns:
        assert not caplog.records


@pytest.mark.parametrize("case", REFUSED)
def test_what_failed_in_public_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    asked = REFUSED[case]
    asked.write(tmp_path / asked.name)
    with pytest.raises(InputError, match=asked.says) as caught:
        cagdask.ingest(
            str(tmp_path / asked.name), store=str(tmp_path / "s.zarr"), client=InlineRunner(), **asked.options
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s.zarr").exists()
