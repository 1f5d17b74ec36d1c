"""Each format once: the same small table comes out of all of them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

import cagdask
from cagdask.compute.progress import Reporter, reporting
from cagdask.errors import InputError, MemoryLimitError
from tests.inline_runner import InlineRunner

GENES = ["K001", "K002", "K003", "K004"]
SAMPLES = ["s1", "s2", "s3"]
TAXONOMY = ["k__A; g__B", "k__A; g__C", "k__D", "k__E"]
VALUES = np.array([[1, 0, 2.5], [0, 3, 0], [4, 5, 6], [0, 0, 7]])
FRAME = pd.DataFrame(VALUES, index=pd.Index(GENES, name="gene"), columns=SAMPLES)
TSV = FRAME.to_csv(sep="\t")


def h5(path: Path, **arrays: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("__", "/")] = values


def as_h5ad(path: Path, layout: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        matrix = sparse.csr_matrix(VALUES.T) if layout == "csr" else sparse.csc_matrix(VALUES.T)
        group = file.create_group("X")
        group.attrs["encoding-type"] = f"{layout}_matrix"
        group.attrs["shape"] = matrix.shape
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        for axis, names in (("obs", SAMPLES), ("var", GENES)):
            file.create_group(axis).attrs["_index"] = "_index"
            file[f"{axis}/_index"] = names


def as_loom(path: Path) -> None:
    h5(path, matrix=VALUES, row_attrs__Gene=GENES, col_attrs__CellID=SAMPLES)


def as_10x_h5(path: Path) -> None:
    matrix = sparse.csc_matrix(VALUES)
    h5(
        path, matrix__data=matrix.data, matrix__indices=matrix.indices, matrix__indptr=matrix.indptr,
        matrix__shape=matrix.shape, matrix__barcodes=SAMPLES, matrix__features__id=GENES, matrix__features__name=GENES,
    )  # fmt: skip


def as_10x_folder(path: Path) -> None:
    from scipy.io import mmwrite

    path.mkdir()
    mmwrite(path / "matrix.mtx", sparse.coo_matrix(VALUES))
    (path / "features.tsv").write_text("".join(f"{gene}\t{gene}\tGene Expression\n" for gene in GENES))
    (path / "barcodes.tsv").write_text("\n".join(SAMPLES) + "\n")


def as_gct(path: Path) -> None:
    body = FRAME.copy()
    body.insert(0, "Description", "na")
    path.write_text("#1.2\n4\t3\n" + body.rename_axis("NAME").to_csv(sep="\t"))


def as_foreign_zarr(path: Path) -> None:
    import xarray as xr

    array = xr.DataArray(VALUES, dims=("feature", "cell"), coords={"feature": GENES, "cell": SAMPLES}, name="counts")
    array.to_dataset().to_zarr(path, zarr_format=2, consolidated=False)


def as_biom_2(path: Path) -> None:
    matrix = sparse.csr_matrix(VALUES)
    parts = {f"observation__matrix__{name}": getattr(matrix, name) for name in ("data", "indices", "indptr")}
    h5(path, **parts, observation__ids=GENES, sample__ids=SAMPLES, observation__metadata__taxonomy=TAXONOMY)


def as_biom_1(path: Path, kind: str) -> None:
    cells = [[i, j, v] for i, row in enumerate(VALUES.tolist()) for j, v in enumerate(row) if v]
    axes = {
        "rows": [{"id": g, "metadata": {"taxonomy": t}} for g, t in zip(GENES, TAXONOMY, strict=True)],
        "columns": [{"id": s, "metadata": None} for s in SAMPLES],
    }
    table = {"format": "Biological Observation Matrix 1.0.0", "matrix_type": kind, "shape": VALUES.shape, **axes}
    path.write_text(json.dumps(table | {"data": cells if kind == "sparse" else VALUES.tolist()}))


def as_xlsx(path: Path) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    for row in (["gene", *SAMPLES], *([g, *v] for g, v in zip(GENES, VALUES.tolist(), strict=True))):
        book.active.append(row)
    book.save(path)


def as_arrow_stream(path: Path) -> None:
    table = pa.Table.from_pandas(FRAME.reset_index())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


WRITERS: dict[str, Any] = {
    "text of commas": lambda p: p.write_text(FRAME.to_csv()),
    "text of semicolons": lambda p: p.write_text(FRAME.to_csv(sep=";")),
    "UTF-16": lambda p: p.write_text(TSV, encoding="utf-16"),
    "gzip": lambda p: p.write_bytes(gzip.compress(TSV.encode())),
    "bzip2": lambda p: p.write_bytes(bz2.compress(TSV.encode())),
    "xz": lambda p: p.write_bytes(lzma.compress(TSV.encode())),
    "zip": lambda p: zipfile.ZipFile(p, "w").writestr("t.tsv", TSV),
    "Feather 1": lambda p: pa.feather.write_feather(pa.Table.from_pandas(FRAME.reset_index()), str(p), version=1),
    "Feather 2": lambda p: pa.feather.write_feather(pa.Table.from_pandas(FRAME.reset_index()), str(p)),
    "Parquet": lambda p: FRAME.to_parquet(p),
    "h5ad of rows": lambda p: as_h5ad(p, "csr"),
    "h5ad of columns": lambda p: as_h5ad(p, "csc"),
    "zstd": lambda p: p.write_bytes(zstd(TSV.encode())),
    "BIOM 2.1": as_biom_2,
    "BIOM 1.0, sparse": lambda p: as_biom_1(p, "sparse"),
    "BIOM 1.0, dense": lambda p: as_biom_1(p, "dense"),
    "xlsx": as_xlsx,
    "Arrow stream": as_arrow_stream,
    "loom": as_loom,
    "10x HDF5": as_10x_h5,
    "10x folder": as_10x_folder,
    "GCT": as_gct,
    "Zarr of others": as_foreign_zarr,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_the_same_table_comes_out_of_every_format(tmp_path: Path, name: str) -> None:
    import pyarrow.feather  # noqa: F401

    WRITERS[name](tmp_path / "data")
    ds = cagdask.ingest(str(tmp_path / "data"), store=str(tmp_path / "s.zarr"), client=InlineRunner())
    found = pd.DataFrame(ds.abundance.values, index=ds.gene_id.values, columns=ds.sample_id.values)
    np.testing.assert_array_equal(found.loc[GENES, SAMPLES], VALUES)
    assert found.shape == VALUES.shape
    if "BIOM" in name:
        assert [text.replace(" ", "") for text in ds.gene_taxonomy.values] == [t.replace(" ", "") for t in TAXONOMY]


QUANTIFIED = {
    "salmon": ("Name\tLength\tEffectiveLength\tTPM\tNumReads\n", "{g}\t100\t90\t{v}\t7\n"),
    "kallisto": ("target_id\tlength\teff_length\test_counts\ttpm\n", "{g}\t100\t90\t7\t{v}\n"),
    "RSEM": (
        "gene_id\ttranscript_id(s)\tlength\teffective_length\texpected_count\tTPM\tFPKM\n",
        "{g}\tt\t100\t90\t7\t{v}\t9\n",
    ),
    "htseq": ("", "{g}\t{v}\n"),
    "CoverM": ("Contig\tsample Mean\n", "{g}\t{v}\n"),
    "STAR": ("N_unmapped\t7\t7\t7\nN_noFeature\t1\t2\t3\n", "{g}\t{v}\t70\t80\n"),
    "featureCounts": (
        "# Program:featureCounts v2\nGeneid\tChr\tStart\tEnd\tStrand\tLength\ts.bam\n",
        "{g}\tc\t1\t9\t+\t9\t{v}\n",
    ),
    "jgi": ("contigName\tcontigLen\ttotalAvgDepth\ts.bam\ts.bam-var\n", "{g}\t100\t{v}\t{v}\t0.1\n"),
}


@pytest.mark.parametrize("tool", QUANTIFIED)
def test_a_folder_of_samples_of_a_tool(tmp_path: Path, tool: str) -> None:
    head, line = QUANTIFIED[tool]
    (tmp_path / "in").mkdir()
    whole = np.ceil(VALUES)
    for j, sample in enumerate(SAMPLES):
        rows = "".join(line.format(g=gene, v=int(whole[i, j])) for i, gene in enumerate(GENES))
        (tmp_path / "in" / f"{sample}.tsv").write_text(head + rows)
    ds = cagdask.ingest(
        str(tmp_path / "in"), store=str(tmp_path / "s.zarr"), client=InlineRunner(), exclude_unmapped=True
    )
    found = pd.DataFrame(ds.abundance.values, index=ds.gene_id.values, columns=ds.sample_id.values)
    np.testing.assert_array_equal(found.loc[GENES, SAMPLES], whole)
    assert len(found) == len(GENES)


def test_metadata_is_joined_by_sample_and_by_gene(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(TSV)
    (tmp_path / "m.tsv").write_text("sample\tsite\tage\ns3\tgut\t3\ns1\tsoil\t1\n")
    (tmp_path / "g.tsv").write_text("gene\ttaxonomy\nK002\tBacillus\n")
    ds = cagdask.ingest(
        str(tmp_path / "t.tsv"), store=str(tmp_path / "s.zarr"), client=InlineRunner(),
        metadata=str(tmp_path / "m.tsv"), gene_metadata=str(tmp_path / "g.tsv"),
    )  # fmt: skip
    assert list(ds.sample_site.values) == ["soil", "", "gut"]
    assert ds.sample_age.values[[0, 2]].tolist() == [1, 3]
    assert list(ds.gene_taxonomy.values) == ["", "Bacillus", "", ""]


def test_metadata_of_words_has_its_header_behind_a_hash_sign(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("gene\ta\tb\ng1\t1\t2\ng2\t3\t4\n")
    (tmp_path / "m.tsv").write_text("#SampleID\tVar\na\tlow\nb\thigh\n")
    made = cagdask.ingest(
        str(tmp_path / "t.tsv"), store=str(tmp_path / "s.zarr"), metadata=str(tmp_path / "m.tsv"), client=InlineRunner()
    )
    assert made["sample_Var"].values.tolist() == ["low", "high"]


def test_metadata_may_be_a_workbook(tmp_path: Path) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    for row in (["sample", "age"], ["s2", 5], ["s1", 4], ["s3", 6]):
        book.active.append(row)
    book.save(tmp_path / "m.xlsx")
    (tmp_path / "t.tsv").write_text(TSV)
    ds = cagdask.ingest(
        str(tmp_path / "t.tsv"),
        store=str(tmp_path / "s.zarr"),
        client=InlineRunner(),
        metadata=str(tmp_path / "m.xlsx"),
    )
    assert ds.sample_age.values.tolist() == [4, 5, 6]


def test_rows_that_are_no_genes_are_left_out_when_asked(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(TSV + "UNMAPPED\t90\t90\t90\n__no_feature\t1\t1\t1\n")
    kept = cagdask.ingest(str(tmp_path / "t.tsv"), store=str(tmp_path / "a.zarr"), client=InlineRunner())
    assert kept.sizes["gene"] == 6
    without = cagdask.ingest(
        str(tmp_path / "t.tsv"), store=str(tmp_path / "b.zarr"), client=InlineRunner(), exclude_unmapped=True
    )
    assert list(without.gene_id.values) == GENES
    some = cagdask.ingest(
        str(tmp_path / "t.tsv"), store=str(tmp_path / "c.zarr"), client=InlineRunner(), exclude_genes="^(UN|__|K00[12])"
    )
    assert list(some.gene_id.values) == GENES[2:]


class Heard(Reporter):
    """Keeps the lines that a person would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def test_what_was_understood_is_said_in_one_line(tmp_path: Path) -> None:
    wide = FRAME.assign(width=[10, 20, 30, 40]).to_csv(sep="\t")
    (tmp_path / "t.tsv").write_text(wide + "UNMAPPED\t90\t90\t90\t1\n")
    with reporting(Heard()) as heard:
        cagdask.ingest(
            str(tmp_path / "t.tsv"), store=str(tmp_path / "s.zarr"), client=InlineRunner(), exclude_unmapped=True
        )
    assert "t.tsv: 4 genes × 3 samples; ids from 'gene'; kept gene_width; 1 rows left out" in heard.lines


@pytest.mark.parametrize("name", ["t.tsv", "t.parquet", "turned.tsv"])
def test_a_gene_without_a_name_is_left_out_when_asked(tmp_path: Path, name: str) -> None:
    frame = FRAME.rename(index={"K002": ""})
    path, orient = tmp_path / name, "samples-by-genes" if name == "turned.tsv" else "genes-by-samples"
    if name == "t.parquet":
        frame.reset_index().replace({"gene": {"": None}}).to_parquet(path)
    else:
        (frame.T.rename_axis("sample") if name == "turned.tsv" else frame).to_csv(path, sep="\t")
    where = {"store": str(tmp_path / "s.zarr"), "client": InlineRunner(), "orient": orient}
    with pytest.raises(InputError, match=r"2 of the values, after 'K001', has no name\. .*exclude_genes='\^\$'"):
        cagdask.ingest(str(path), **where)
    with reporting(Heard()) as heard:
        ds = cagdask.ingest(str(path), exclude_genes="^$", **where)
    assert list(ds.gene_id.values) == ["K001", "K003", "K004"]
    np.testing.assert_array_equal(ds.abundance.values, VALUES[[0, 2, 3]])
    said = "samples from 'sample'" if name == "turned.tsv" else "ids from 'gene'"
    assert any(f"3 genes × 3 samples; {said}; 1 rows left out" in line for line in heard.lines)


def test_a_manifest_names_samples_and_describes_them(tmp_path: Path) -> None:
    (tmp_path / "counts").mkdir()
    head, line = QUANTIFIED["salmon"]
    for j, sample in enumerate(SAMPLES):
        rows = "".join(line.format(g=gene, v=VALUES[i, j]) for i, gene in enumerate(GENES))
        (tmp_path / "counts" / f"{sample}.sf").write_text(head + rows)
    rows = (f"{sample}\tcounts/{sample}.sf\t{20 + j}\tgut\n" for j, sample in enumerate(SAMPLES))
    (tmp_path / "manifest.tsv").write_text("specimen\tabundance_file\tage\tsite\n" + "".join(rows))
    ds = cagdask.ingest(str(tmp_path / "manifest.tsv"), store=str(tmp_path / "s.zarr"), client=InlineRunner())
    found = pd.DataFrame(ds.abundance.values, index=ds.gene_id.values, columns=ds.sample_id.values)
    np.testing.assert_array_equal(found.loc[GENES, SAMPLES], VALUES)
    assert ds.sample_age.values.tolist() == [20, 21, 22]
    assert ds.sample_site.values.tolist() == ["gut"] * 3


@pytest.mark.parametrize("name", ["BIOM 1.0, sparse", "xlsx"])
def test_what_is_read_as_a_whole_has_to_fit_a_task(tmp_path: Path, name: str) -> None:
    from cagdask.io.tables.parts import read_table

    WRITERS[name](tmp_path / "data")
    read = (str(tmp_path / "data"), 1, "", {}, False)
    assert read_table(*read, 2**24, str(tmp_path / "parts"))["n_genes"] == len(GENES)
    with pytest.raises(MemoryLimitError, match=r"Convert it to BIOM 2\.1") as caught:
        read_table(*read, 300, str(tmp_path / "less"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "useful"),
    [
        ("coordinate real symmetric", "no general coordinate matrix of numbers"),
        ("coordinate pattern general", "no general coordinate matrix of numbers"),
        ("array real general", "no general coordinate matrix of numbers"),
    ],
)
def test_matrices_of_other_symmetry_are_not_taken_for_general_ones(tmp_path: Path, head: str, useful: str) -> None:
    as_10x_folder(tmp_path / "data")
    matrix = tmp_path / "data" / "matrix.mtx"
    matrix.write_text(matrix.read_text().replace("coordinate real general", head))
    with pytest.raises(InputError, match=useful):
        cagdask.ingest(str(tmp_path / "data"), store=str(tmp_path / "s.zarr"), client=InlineRunner())


@pytest.mark.parametrize("change", [lambda text: text[: text.rindex("\n", 0, -1) + 1], lambda text: text + "1 1 5\n"])
def test_a_matrix_of_fewer_or_more_values_than_it_promises_is_refused(tmp_path: Path, change: Any) -> None:
    as_10x_folder(tmp_path / "data")
    matrix = tmp_path / "data" / "matrix.mtx"
    matrix.write_text(change(matrix.read_text()))
    with pytest.raises(InputError, match=r"promises 7 values and holds \d\. It is cut off"):
        cagdask.ingest(str(tmp_path / "data"), store=str(tmp_path / "s.zarr"), client=InlineRunner())
