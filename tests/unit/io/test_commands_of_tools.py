"""The commands of the page "bring your own table", each run as printed on a made-up file of that tool's layout."""

from __future__ import annotations

import gzip
import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse
from scipy.io import mmwrite

import cagdask
from cagdask import cli

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "bring-your-own-table.md"
GENES, SAMPLES = ["K001", "K002", "K003", "K004"], ["s1", "s2", "s3"]
VALUES = np.array([[1, 0, 2], [0, 3, 0], [4, 5, 6], [0, 0, 7]], np.float32)
FRAME = pd.DataFrame(VALUES.astype(int), index=pd.Index(GENES, name="gene"), columns=SAMPLES)


def rows_of_the_page() -> dict[str, str]:
    """Tool -> command, from the table of the page."""
    section = PAGE.read_text().split("## From other tools")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| ([^|]+?) \| `(cagdask [^`]+)` \|", section, re.M))


def table(path: str, frame: pd.DataFrame = FRAME, above: str = "", **how: Any) -> Callable[[], Any]:
    def write() -> None:
        how.setdefault("sep", "\t")
        Path(path).write_text(above + frame.to_csv(**how))

    return write


def per_sample(path: str, head: str, line: str, above: str = "") -> Callable[[], Any]:
    """A file for each sample; ``{s}`` in a path is its name."""

    def write() -> None:
        for sample in SAMPLES:
            target = Path(path.format(s=sample))
            target.parent.mkdir(parents=True, exist_ok=True)
            lines = (line.format(g=gene, v=FRAME.loc[gene, sample]) for gene in GENES)
            target.write_text(above + head + "".join(lines))

    return write


def hdf5(path: str, **arrays: Any) -> Callable[[], Any]:
    import h5py

    def write() -> None:
        Path(path).parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name.replace("__", "/")] = values

    return write


def h5ad(path: str, values: Any = VALUES) -> Callable[[], Any]:
    def write() -> None:
        import h5py

        with h5py.File(path, "w") as file:
            file["X"] = values.T
            for axis, names in (("obs", SAMPLES), ("var", GENES)):
                file.create_group(axis).attrs["_index"] = "_index"
                file[f"{axis}/_index"] = names
            file["obs/batch"] = ["x", "x", "y"]

    return write


def geneshot() -> None:
    """A frame as pandas' HDFStore writes one of numbers and text: text is pickled."""
    import h5py

    with h5py.File("geneshot.full.hdf5", "w") as file:
        group = file.create_group("abund/gene/wide")
        group["axis0"], group["axis1"] = np.array(["index", *SAMPLES], "S"), np.arange(4)
        group["block0_items"], group["block0_values"] = np.array(SAMPLES, "S"), VALUES.astype(float)
        group["block1_items"] = np.array(["index"], "S")
        words = np.frombuffer(pickle.dumps(np.array(GENES, object)[:, None]), np.uint8)
        group.create_dataset("block1_values", (1,), h5py.vlen_dtype(np.uint8))[0] = words


def tenx_folder() -> None:
    folder = Path("filtered_feature_bc_matrix")
    folder.mkdir()
    mmwrite(folder / "matrix.mtx", sparse.coo_matrix(VALUES))
    (folder / "features.tsv").write_text("".join(f"{gene}\tsym_{gene}\tGene Expression\n" for gene in GENES))
    (folder / "barcodes.tsv").write_text("\n".join(SAMPLES) + "\n")


def compressed(name: str, matrix: Any) -> dict[str, Any]:
    return {f"{name}__{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}


def jgi() -> None:
    wide = pd.DataFrame({"contigLen": 900, "totalAvgDepth": FRAME.sum(axis=1)}, index=FRAME.index)
    for sample in SAMPLES:
        wide[f"{sample}.bam"], wide[f"{sample}.bam-var"] = FRAME[sample], 0.5
    wide.rename_axis("contigName").to_csv("depth.txt", sep="\t")


def featurecounts() -> None:
    places = {"Chr": "c1", "Start": 1, "End": 90, "Strand": "+", "Length": [90, 91, 92, 93]}
    whole = pd.concat([pd.DataFrame(places, index=FRAME.index), FRAME], axis=1).rename_axis("Geneid")
    table("counts.txt", whole, above='# Program:featureCounts v2.0.6; Command:"featureCounts" \n')()


def humann() -> None:
    strata = FRAME.rename(index=lambda gene: f"{gene}|g__Xus.s__Xus_y")
    unmapped = pd.DataFrame(100, index=["UNMAPPED"], columns=SAMPLES)
    table("genefamilies.tsv", pd.concat([unmapped, FRAME, strata]).rename_axis("# Gene Family"))()


def metaphlan() -> None:
    above = pd.DataFrame(100, index=["k__Bacteria", "k__Bacteria|p__Firmicutes"], columns=SAMPLES)
    species = FRAME.rename(index=lambda gene: f"k__Bacteria|p__Firmicutes|s__{gene}")
    strains = species.rename(index=lambda name: f"{name}|t__SGB1")
    whole = pd.concat([above, species, strains]).rename_axis("clade_name")
    whole.insert(0, "NCBI_tax_id", [f"2|{i}" for i in range(len(whole))])
    table("merged_abundance.txt", whole, above="#mpa_vJan21_CHOCOPhlAnSGB_202103\n")()


def mothur() -> None:
    turned = FRAME.T.rename_axis("Group").reset_index()
    turned.insert(0, "label", 0.03)
    turned.insert(2, "numOtus", 4)
    table("final.shared", turned, index=False)()


def manifest() -> None:
    per_sample("counts/{s}.sf", *SALMON)()
    lines = (f"{sample}\tcounts/{sample}.sf\tgut\n" for sample in SAMPLES)
    Path("manifest.tsv").write_text("specimen\tfile\tsite\n" + "".join(lines))


def zarr_of_others() -> None:
    import xarray as xr

    array = xr.DataArray(VALUES, dims=("feature", "cell"), coords={"feature": GENES, "cell": SAMPLES})
    xr.Dataset({"counts": array, "other": array + 1}).to_zarr("theirs.zarr", zarr_format=2, consolidated=False)


SALMON = ("Name\tLength\tEffectiveLength\tTPM\tNumReads\n", "{g}\t100\t90\t{v}\t7\n")
RSEM = (
    "gene_id\ttranscript_id(s)\tlength\teffective_length\texpected_count\tTPM\tFPKM\n", "{g}\tt\t100\t90\t7\t{v}\t9\n"
)  # fmt: skip
STAR = "N_unmapped\t7\t7\t7\nN_multimapping\t7\t7\t7\nN_noFeature\t1\t2\t3\nN_ambiguous\t0\t0\t0\n"
UNMAPPED = pd.DataFrame(50, index=["unmapped"], columns=SAMPLES)
COVERM = pd.concat([UNMAPPED, FRAME]).rename_axis("Contig").rename(columns=lambda s: f"{s} Mean")
BIOM = {
    **compressed("observation__matrix", sparse.csr_matrix(VALUES)), "observation__ids": GENES, "sample__ids": SAMPLES,
    "observation__metadata__taxonomy": [["k__A", f"g__{i}"] for i in range(4)],
}  # fmt: skip
TENX = {
    **compressed("matrix", sparse.csc_matrix(VALUES)), "matrix__shape": VALUES.shape, "matrix__barcodes": SAMPLES,
    "matrix__features__id": GENES, "matrix__features__name": GENES,
}  # fmt: skip
DESCRIBED = FRAME.T.rename_axis("sample_id").assign(age=[31, 32, 33], site=["gut", "gut", "soil"])
BRACKEN = pd.concat(
    [pd.DataFrame({"taxonomy_id": [7, 8, 9, 11], "taxonomy_lvl": "S"}, index=FRAME.index)]
    + [pd.DataFrame({f"{s}_num": FRAME[s], f"{s}_frac": FRAME[s] / 20}) for s in SAMPLES], axis=1
).rename_axis("name")  # fmt: skip
NF_CORE = FRAME.rename_axis("gene_id").assign(gene_name=["TP53", "MYC", "TP53", "KIT"])[["gene_name", *SAMPLES]]
GCT = FRAME.rename_axis("NAME").assign(Description="na")[["Description", *SAMPLES]]
LAYOUTS: dict[str, Callable[[], Any]] = {
    "featureCounts": featurecounts,
    "salmon": per_sample("quants/{s}/quant.sf", *SALMON),
    "kallisto": per_sample(
        "kallisto/{s}/abundance.tsv", "target_id\tlength\teff_length\test_counts\ttpm\n", "{g}\t100\t90\t7\t{v}\n"
    ),
    "RSEM": per_sample("rsem/{s}.genes.results", *RSEM),
    "htseq-count": per_sample("htseq/{s}.counts", "", "{g}\t{v}\n", above="__no_feature\t9\n"),
    "STAR": per_sample("star/{s}_ReadsPerGene.out.tab", STAR, "{g}\t{v}\t70\t80\n"),
    "CoverM": table("coverm.tsv", COVERM),
    "jgi_summarize_bam_contig_depths": jgi,
    "HUMAnN": humann,
    "MetaPhlAn": metaphlan,
    "QIIME 2": hdf5("exported/feature-table.biom", **BIOM),
    "biom convert --to-tsv": table(
        "feature-table.tsv", FRAME.rename_axis("#OTU ID"), above="# Constructed from biom file\n"
    ),
    "mothur": mothur,
    "DADA2": table("seqtab.csv", FRAME.T.rename_axis(""), sep=",", quoting=2),
    "MSPminer, a gene catalog": lambda: Path("catalog_counts.tsv.gz").write_bytes(
        gzip.compress(FRAME.to_csv(sep="\t").encode())
    ),
    "geneshot": geneshot,
    "scanpy": h5ad("study.h5ad"),
    "scanpy, scaled values": h5ad("scaled.h5ad", VALUES - 2),
    "10x, folder": tenx_folder,
    "10x, HDF5": hdf5("filtered_feature_bc_matrix.h5", **TENX),
    "loom": hdf5("study.loom", matrix=VALUES, row_attrs__Gene=GENES, col_attrs__CellID=SAMPLES),
    "DESeq2, edgeR: counts from R": table("counts.csv", FRAME.rename_axis(""), sep=",", quoting=2),
    "limma, vst: logarithms from R": lambda: Path("vst.tsv").write_text(
        "\t".join(SAMPLES) + "\n" + (FRAME - 2).to_csv(sep="\t", header=False)
    ),
    "GCT": table("expression.gct", GCT, above="#1.2\n4\t3\n"),
    "ARCHS4": hdf5(
        "human_gene.h5", data__expression=VALUES.astype("u4"), meta__genes__symbol=GENES,
        meta__samples__geo_accession=SAMPLES, meta__samples__title=["x", "y", "z"],
    ),
    "samples in rows, with metadata": table("study.csv", DESCRIBED, sep=","),
    "Excel of a country with decimal commas": table("export.csv", FRAME / 2, sep=";", decimal=","),
    "Bracken": table("bracken.tsv", BRACKEN),
    "nf-core/rnaseq": table("salmon.merged.gene_counts.tsv", NF_CORE),
    "xarray": zarr_of_others,
    "a list of files": manifest,
}  # fmt: skip
"""What each row of the page is tried on."""
KEPT = {
    "featureCounts": {"gene_length": [90, 91, 92, 93], "gene_chromosome": ["c1"] * 4},
    "jgi_summarize_bam_contig_depths": {"gene_length": [900] * 4},
    "QIIME 2": {"gene_taxonomy": [f"k__A;g__{i}" for i in range(4)]},
    "mothur": {"sample_numOtus": [4] * 3},
    "scanpy": {"sample_batch": ["x", "x", "y"]},
    "10x, folder": {"gene_symbol": [f"sym_{gene}" for gene in GENES]},
    "GCT": {"gene_description": ["na"] * 4},
    "ARCHS4": {"sample_title": ["x", "y", "z"]},
    "samples in rows, with metadata": {"sample_age": [31, 32, 33], "sample_site": ["gut", "gut", "soil"]},
    "a list of files": {"sample_site": ["gut"] * 3},
    "Bracken": {"gene_rank": ["S"] * 4},
    "nf-core/rnaseq": {"gene_symbol": ["TP53", "MYC", "TP53", "KIT"]},
}


def test_every_row_of_the_page_is_tried() -> None:
    assert set(rows_of_the_page()) == set(LAYOUTS)


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize("tool", LAYOUTS)
def test_the_command_of_a_tool_reads_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    monkeypatch.chdir(tmp_path)
    LAYOUTS[tool]()
    command = shlex.split(rows_of_the_page()[tool])[1:]
    result = CliRunner().invoke(cli.main, [*command, "--workers", "0", "--no-progress"])
    assert result.exit_code == 0, result.output
    ds = cagdask.open_dataset("study.zarr")
    genes = [name.rpartition("s__")[2] for name in ds.gene_id.values.tolist()]
    samples = [
        name.removesuffix(".bam").removesuffix(" Mean").removesuffix("_num") for name in ds.sample_id.values.tolist()
    ]
    found = pd.DataFrame(ds.abundance.values, index=genes, columns=samples)
    expected = VALUES - 2 if tool.startswith(("limma", "scanpy, scaled")) else VALUES
    expected = VALUES / 2 if tool.startswith("Excel") else expected
    assert found.shape == VALUES.shape
    np.testing.assert_array_equal(found.loc[GENES, SAMPLES], expected)
    assert "no genes" not in result.output
    for name, values in KEPT.get(tool, {}).items():
        assert ds[name].values.tolist() == values
