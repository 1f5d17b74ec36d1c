"""Layouts that spreadsheets and pipelines leave: each is the plain table, or is refused for what is odd about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import cagdask
from cagdask.errors import InputError
from cagdask.io.tables.parts import read_table
from tests.inline_runner import InlineRunner

PLAIN = "gene\ts1\ts2\na\t1.5\t2\nb\t0\t3\n"


def read(folder: Path, text: str | bytes, name: str = "t.tsv", **options: Any) -> dict[str, Any]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(str(path), 1, "", options, False, 2**26, str(folder / "parts"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gene\t s1 \ts2\r\na\t1,5\t2,0\r\nb\t0\t3,0\r\n", "t.tsv"),  # decimal commas, blanks around a name
        (PLAIN.replace("\n", "\r"), "t.tsv"),  # lines as old Macs end them
        ('"s1" "s2"\n"a" 1.5 2\n"b" 0 3\n', "t.txt"),  # write.table of R, as it is by default
        ('"gene"   "s1"  "s2"\n"a"  1.5   2\n"b" 0 3\n', "t.txt"),
        ("ID\ts1\ts2\n#SampleID\tMetaphlan2_Analysis\tMetaphlan2_Analysis\na\t1.5\t2\nb\t0\t3\n", "t.tsv"),
        ("#OTU ID\ts1\ts2\n#q2:types\tnumeric\tnumeric\na\t1.5\t2\nb\t0\t3\n", "t.tsv"),
        (",gene,s1,s2\n0,a,1.5,2\n1,b,0,3\n", "t.csv"),
        ("...1,gene,s1,s2\n1,a,1.5,2\n2,b,0,3\n", "t.csv"),  # readr
        ("X,gene,s1,s2\n1,a,1.5,2\n2,b,0,3\n", "t.csv"),  # read.csv of R
        ("rn\tgene\ts1\ts2\n1\ta\t1.5\t2\n2\tb\t0\t3\n", "t.tsv"),  # data.table
        ("No.;gene;s1;s2\n1;a;1,5;2\n2;b;0;3\n", "t.csv"),
        ("gene_id\tgene_name\ts1\ts2\na\tTP53\t1.5\t2\nb\tTP53\t0\t3\n", "t.tsv"),  # nf-core/rnaseq
    ],
)
def test_it_is_the_plain_table(tmp_path: Path, text: str, name: str) -> None:
    assert read(tmp_path, text, name)["digest"] == read(tmp_path, PLAIN)["digest"]


def test_quoted_names_between_blanks_may_hold_blanks(tmp_path: Path) -> None:
    found = read(tmp_path, '"day 0" "day 1"\n"gene a" 1.5 2\n"b" 0 3\n', "t.txt")
    assert found["samples"] == ["day 0", "day 1"]
    assert pq.read_table(found["ids"])["id"].to_pylist() == ["gene a", "b"]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("gene\ts1 \t s1\na\t1\t2\nb\t1\t2\n", "t.tsv", "column 's1' occurs more than once"),
        ("gene\ts1\ts2\tTotal\na\t1\t2\t3\n", "t.tsv", "named as no sample is.*'Total'.*metadata_columns='Total'"),
        ("OTU\tSize\tTaxonomy\ts1\na\t6\tk\t6\n", "t.tsv", "named as no sample is.*'Size'"),
        ("gene\ts1\ts2\na\t1.5%\t2%\nb\t9%\t8%\n", "t.tsv", r"column 's1': '1\.5%' has a percent sign"),
        ('gene,s1,s2\na,"1,234","2,500,000"\nb,0,"12,000"\n', "t.csv", "'2,500,000' has commas between its thousands"),
        ("gene;s1;s2\na;1'234;2\nb;0;1\n", "t.csv", "column 's1': \"1'234\" has marks between its thousands"),
        ("gene\ts1\ts2\nid\tTPM\tTPM\na\t1\t2\n", "t.tsv", r"line 2 \('id', 'TPM', 'TPM', …\) holds words"),
        ("id\ts1\ts2\n\nsite\tgut\tskin\na\t1\t2\nb\t1\t2\n", "t.tsv", "line 3 .*for samples: `metadata`"),
        ("sample\tg1\tg2\tg3\ns1\t1\t2\t3\ns2\t1\t2\t3\n", "t.tsv", "Use `orient='samples-by-genes'`"),
        ("Contig\ta Mean\ta Variance\tb Mean\tb Variance\nc\t1\t2\t3\t4\n", "t.tsv",
         "several measures of each sample .*metadata_columns='a Variance,b Variance'"),
        ("name\ttaxonomy_id\ttaxonomy_lvl\ta_num\ta_frac\nA\t1\tS\t10\t1\n", "t.tsv", "several measures .*num, frac"),
        ("#1.3\n1\t1\t0\t1\nid\ts1\nbatch\tb1\ng\t1\n", "t.gct", "is GCT 1.3"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n", "t.csv", "pointer of Git LFS"),
        ("<!DOCTYPE html><html></html>", "t.tsv", "is a web page"),
        ("gene\tTotal\tMean\na\t1\t2\nb\t3\t4\n", "t.tsv", "named as no sample is, .*keep_columns"),
        ("# nothing but a comment\n", "t.tsv", "has a single column"),
        ("N_unmapped\t5\t5\t5\na\t3\t1\t2\nb\t3\t1\t2\n", "ReadsPerGene.out.tab", "is STAR's ReadsPerGene of one"),
        ("id\tabundance.s1\tabundance.s2\tcounts.s1\tcounts.s2\na\t1\t2\t3\t4\n", "t.tsv",
         "several measures of each sample .abundance, counts.*metadata_columns='counts.s1,counts.s2'"),
        ("sample\tgene\tcount\ns1\ta\t5\ns1\tb\t3\ns2\ta\t1\n", "t.tsv", "a row for each gene of each sample .*pivot"),
        ("gene_id,sample_id,abundance\na,s1,5\na,s2,1\nb,s2,4\n", "t.csv", "columns 'gene_id' and 'sample_id'"),
        (",baseMean,log2FoldChange,padj\na,10,1.2,0.01\nb,5,2.2,0.5\n", "t.csv", "samples: 'baseMean', 'log2.*'padj'"),
        ("Gene ID\tStart\tCoverage\tFPKM\tTPM\na\t1\t3.5\t1.5\t2.5\nb\t2\t0\t0\t0\n", "t.tab",
         "several measures of one sample .*`value_column='TPM'`"),
        ("name\ttaxID\ttaxRank\tgenomeSize\tnumReads\tnumUniqueReads\tabundance\na\t1\tS\t9\t8\t7\t.5\n", "t.tsv",
         r"one sample \('numReads', 'numUniqueReads', 'abundance'\)"),
        ("gene\ts1\tTaxonomy\tSize\na\t1\tx\t2\nb\t3\ty\t4\n", "t.tsv", "If 'Size' is one, .*`keep_columns`"),
    ],
)  # fmt: skip
def test_it_is_refused_for_what_is_odd(tmp_path: Path, text: str, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, text, name)


def test_a_shared_file_of_mothur_has_samples_in_rows(tmp_path: Path) -> None:
    text = "label\tGroup\tnumOtus\ta\tb\n0.03\ts1\t2\t1.5\t0\n0.03\ts2\t2\t2\t3\n"
    found = read(tmp_path, text, "x.shared")
    assert found["digest"] == read(tmp_path, PLAIN)["digest"]
    assert found["samples"] == ["s1", "s2"]


def test_a_row_of_totals_is_no_gene(tmp_path: Path) -> None:
    text = PLAIN + "Total\t1.5\t5\n"
    assert read(tmp_path, text)["warnings"][0].startswith("1 rows are no genes (Total): 50 % of the abundance")
    assert read(tmp_path, text, exclude_unmapped=True)["digest"] == read(tmp_path, PLAIN)["digest"]


def test_what_was_refused_is_taken_when_it_is_asked_for(tmp_path: Path) -> None:
    text = "gene\ts1\ts2\tTotal\na\t1.5\t2\t3\nb\t0\t3\t3\n"
    assert read(tmp_path, text, keep_columns=["Total"])["samples"] == ["s1", "s2", "Total"]
    assert read(tmp_path, text, metadata_columns=["Total"])["digest"] == read(tmp_path, PLAIN)["digest"]
    assert read(tmp_path, "gene\tsum\na\t1\n")["samples"] == ["sum"], "a single column is what it is"


def test_metadata_may_hold_words_above_numbers_and_percent_signs(tmp_path: Path) -> None:
    for name, text in {"t.tsv": PLAIN, "m.tsv": "sample\tage\tfat\ns1\tunknown\thigh\ns2\t40\t20%\n"}.items():
        (tmp_path / name).write_text(text)
    options = {"metadata": str(tmp_path / "m.tsv"), "client": InlineRunner()}
    ds = cagdask.ingest(str(tmp_path / "t.tsv"), store=str(tmp_path / "s.zarr"), **options)
    assert ds.sample_age.values.tolist() == ["unknown", "40"]
    assert ds.sample_fat.values.tolist() == ["high", "20%"]


def test_genes_in_columns_that_are_all_left_out_are_said_to_be(tmp_path: Path) -> None:
    options = {"orient": "samples-by-genes", "exclude_genes": "^g"}
    with pytest.raises(InputError, match="all 2 genes are left out"):
        read(tmp_path, "sample_id\tg1\tg2\ns1\t1\t2\ns2\t3\t4\n", **options)
