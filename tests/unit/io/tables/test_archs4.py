"""Compendia in HDF5 as ARCHS4 publishes them, and what may be chosen of any table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cagdask import ingest
from cagdask.errors import InputError
from cagdask.io.tables import archs4, reading
from cagdask.io.tables.sample_choice import parse_query
from tests.inline_runner import InlineRunner

GENES = [f"G{i}" for i in range(11)]
SAMPLES = [f"GSM{j}" for j in range(7)]
TISSUE = ["liver", "brain", "liver", "skin", "brain", "liver", "liver"]
READS = [5, 1, 7, 3, 9, 2, 8]
NEW = ("meta/genes/symbol", "meta/samples/geo_accession", "meta/samples/")
KEYS = {
    "new": NEW,
    "symbols": ("meta/genes/gene_symbol", "meta/samples/geo_accession", "meta/samples/"),
    "genes": ("meta/genes/genes", "meta/samples/geo_accession", "meta/samples/"),
    "old": ("meta/genes", "meta/Sample_geo_accession", "meta/Sample_"),
    "transcripts": ("meta/transcripts/ensembl_id", "meta/samples/geo_accession", "meta/samples/"),
}


def counts() -> NDArray[np.uint32]:
    return np.random.default_rng(0).poisson(3, (11, 7)).astype(np.uint32)


def write(
    path: Path, values: Any, keys: tuple[str, str, str] = NEW, genes: list[str] = GENES, *, turned: bool = False,
    chunks: Any = None, samples: list[str] = SAMPLES,
) -> str:  # fmt: skip
    gene_key, sample_key, prefix = keys
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.create_dataset("data/expression", data=values.T if turned else values, chunks=chunks)
        file.create_dataset(gene_key, data=genes, dtype=text)
        file.create_dataset(sample_key, data=samples, dtype=text)
        n = len(samples)
        file.create_dataset(f"{prefix}source_name_ch1", data=TISSUE[:n], dtype=text)
        file.create_dataset(f"{prefix}readsaligned", data=READS[:n])
    return str(path)


def read(source: Any, store: Path, **options: Any) -> Any:
    return ingest(str(source), store=str(store), client=InlineRunner(), kind="expression", overwrite=True, **options)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("chunks", [None, (1, 7), (7, 1), (3, 2)])
@pytest.mark.parametrize("band", [1, 100, 2**20])
def test_keys_layout_and_chunks_do_not_matter(
    tmp_path: Path, keys: str, turned: bool, chunks: Any, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archs4, "BAND_BYTES", band)
    monkeypatch.setattr(reading, "BATCH_BYTES", 8 * 20)
    values = counts()
    source = write(tmp_path / "a.h5", values, KEYS[keys], turned=turned, chunks=chunks)
    ds = read(source, tmp_path / "s.zarr")
    np.testing.assert_array_equal(ds.abundance.values, values)
    assert list(ds.gene_id.values) == GENES
    assert list(ds.sample_id.values) == SAMPLES
    assert list(ds.sample_source_name_ch1.values) == TISSUE
    assert list(ds.sample_readsaligned.values) == READS
    assert f"ARCHS4 with {'samples' if turned else 'genes'} in rows" in ds.encoding["understood"]


def test_text_and_hdf5_have_the_same_digest(tmp_path: Path) -> None:
    values = counts()
    pd.DataFrame(values, GENES, SAMPLES).rename_axis("gene").to_csv(tmp_path / "t.tsv", sep="\t")
    text = read(tmp_path / "t.tsv", tmp_path / "t.zarr")
    for chunks in ((11, 1), (1, 7)):  # read as samples, and as genes
        hdf5 = read(write(tmp_path / "a.h5", values, chunks=chunks), tmp_path / "h.zarr")
        assert hdf5.attrs["input_digest"] == text.attrs["input_digest"]


def test_whichever_way_rereads_fewer_chunks_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archs4, "BAND_BYTES", 100)
    found = {}
    for chunks in ((11, 1), (1, 7)):
        with h5py.File(write(tmp_path / "a.h5", counts(), chunks=chunks)) as file:
            found[chunks] = archs4.open_archs4("a.h5", file, reading.Reading()).genes_in_rows
    assert found == {(11, 1): False, (1, 7): True}


def test_a_square_lies_as_orient_says_and_other_files_must_fit_it(tmp_path: Path) -> None:
    values = counts()[:7]
    source = write(tmp_path / "a.h5", values, genes=GENES[:7])
    np.testing.assert_array_equal(read(source, tmp_path / "s.zarr").abundance.values, values)
    turned = read(source, tmp_path / "s.zarr", orient="samples-by-genes")
    np.testing.assert_array_equal(turned.abundance.values, values.T)
    with pytest.raises(InputError, match=r"shape \(11, 7\).*does not lie samples-by-genes"):
        read(write(tmp_path / "b.h5", counts()), tmp_path / "s.zarr", orient="samples-by-genes")


# -- some samples ----------------------------------------------------------------------------------------------------


def as_text(path: Path, values: Any, genes: list[str] = GENES) -> str:
    """The same table with samples in rows, what is known of them in columns beside their values."""
    frame = pd.DataFrame(values.T, SAMPLES, genes).rename_axis("sample_id")
    frame.insert(0, "source_name_ch1", TISSUE)
    frame.insert(1, "readsaligned", READS)
    frame.to_csv(path, sep="\t")
    return str(path)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("source_name_ch1=liver", [0, 2, 5, 6]),
        ("source_name_ch1!=liver", [1, 3, 4]),
        ("sample_source_name_ch1~^(br|sk)", [1, 3, 4]),
        ("readsaligned>=7 and source_name_ch1=liver", [2, 6]),
        ("readsaligned<2", [1]),
    ],
)
def test_samples_of_a_query_are_the_same_from_hdf5_and_text(tmp_path: Path, query: str, kept: list[int]) -> None:
    values = counts()
    found = read(write(tmp_path / "a.h5", values, chunks=(4, 2)), tmp_path / "h.zarr", sample_query=query)
    np.testing.assert_array_equal(found.abundance.values, values[:, kept])
    assert list(found.sample_readsaligned.values) == [READS[i] for i in kept]
    options = {"orient": "samples-by-genes", "metadata_columns": "source_name_ch1,readsaligned"}
    text = read(as_text(tmp_path / "t.tsv", values), tmp_path / "t.zarr", sample_query=query, **options)
    np.testing.assert_array_equal(text.abundance.values, values[:, kept])
    assert list(text.sample_source_name_ch1.values) == [TISSUE[i] for i in kept]
    assert text.attrs["input_digest"] == found.attrs["input_digest"]
    assert f"{len(kept)} of 7 samples" in found.encoding["understood"]


@pytest.mark.parametrize("orient", ["genes-by-samples", "samples-by-genes"])
def test_samples_of_a_list_keep_the_order_of_the_table(tmp_path: Path, orient: str) -> None:
    values = counts()
    (tmp_path / "list.tsv").write_text("sample_id\tx\nGSM5\t1\nGSM0\t2\n# no more\n\n")
    frame = pd.DataFrame(values, GENES, SAMPLES).rename_axis("gene_id")
    frame = frame if orient == "genes-by-samples" else frame.T.rename_axis("sample_id")
    frame.to_csv(tmp_path / "t.csv")
    ds = read(tmp_path / "t.csv", tmp_path / "s.zarr", samples=str(tmp_path / "list.tsv"), orient=orient)
    assert list(ds.sample_id.values) == ["GSM0", "GSM5"]
    np.testing.assert_array_equal(ds.abundance.values, values[:, [0, 5]])
    (tmp_path / "list.tsv").write_text("GSM5\nGSM99\n")
    with pytest.raises(InputError, match=r"1 of its 2 samples are not in .*t.csv: GSM99"):
        read(tmp_path / "t.csv", tmp_path / "s.zarr", samples=str(tmp_path / "list.tsv"), orient=orient)


def test_of_other_samples_only_those_in_the_same_chunks_are_read(tmp_path: Path) -> None:
    class Watched:
        """An array that notes which columns are asked for."""

        def __init__(self, array: Any) -> None:
            self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, array.chunks
            self.seen: set[int] = set()

        def __getitem__(self, key: Any) -> Any:
            self.seen |= set(range(*key[1].indices(self.shape[1])))
            return self.array[key]

    values = np.arange(11 * 40, dtype=np.uint32).reshape(11, 40)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        watched = Watched(file.create_dataset("x", data=values, chunks=(5, 4)))
        places = np.array([1, 2, 5, 30])
        source = archs4._Source(watched, False, places)
        for by_genes, rows, wanted in ((True, GENES, values[:, places]), (False, list("abcd"), values[:, places].T)):
            found = np.concatenate([batch[1] for batch in source.batches(rows, by_genes=by_genes)])
            np.testing.assert_array_equal(found, wanted)
    assert watched.seen == {1, 2, 3, 4, 5, 30}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("tissue", "is no condition"),
        ("a<b", "can not be compared"),
        ("a~(", "can not be compared"),
        ("", "no condition"),
    ],
)
def test_a_query_that_is_none_is_refused(query: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_query(query)


def test_a_value_may_hold_the_word_and() -> None:
    assert [(c.column, c.value) for c in parse_query("t=black and white and n>2")] == [
        ("t", "black and white"),
        ("n", "2"),
    ]


def test_queries_that_find_nothing_or_ask_for_unknown_columns_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.h5", counts())
    with pytest.raises(InputError, match=r"none of its 7 samples is asked for"):
        read(source, tmp_path / "s.zarr", sample_query="source_name_ch1=bone")
    with pytest.raises(
        InputError, match=r"no column 'tissue' about its samples \(it has readsaligned, source_name_ch1\)"
    ):
        read(source, tmp_path / "s.zarr", sample_query="tissue=bone")
    (tmp_path / "s.json").write_text('{"A": "a.json"}')
    (tmp_path / "a.json").write_text('[{"id": "g", "depth": 1}]')
    with pytest.raises(ValueError, match=r"`sample_query` is for tables"):
        read(tmp_path / "s.json", tmp_path / "s.zarr", sample_query="tissue=bone")


# -- genes of one name -----------------------------------------------------------------------------------------------


def summed(values: Any, genes: list[str]) -> Any:
    """Rows of one gene added up, where the last of them is."""
    frame = pd.DataFrame(values.astype(np.float64), genes, SAMPLES)
    order = list(dict.fromkeys(genes[::-1]))[::-1]
    return frame.groupby(level=0).sum().loc[order]


@pytest.mark.parametrize("layout", ["text", "chunks of genes", "chunks of samples"])
def test_genes_of_one_name_are_refused_or_added_up_whatever_the_layout(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 8 * 20)
    monkeypatch.setattr(archs4, "BAND_BYTES", 200)
    genes = ["A", "B", "C", "B", "D", "A", "E", "F", "B", "H", "I"]
    values = counts()
    if layout.startswith("chunks"):
        source = write(tmp_path / "a.h5", values, genes=genes, chunks=(1, 7) if "genes" in layout else (11, 1))
    else:
        frame = pd.DataFrame(values, genes, SAMPLES).rename_axis("gene_id")
        frame.to_csv(tmp_path / "t.tsv", sep="\t")
        source = str(tmp_path / "t.tsv")
    with pytest.raises(InputError, match=r"more than once"):
        read(source, tmp_path / "s.zarr")
    ds = read(source, tmp_path / "s.zarr", duplicate_genes="sum")
    wanted = summed(values, genes)
    assert list(ds.gene_id.values) == list(wanted.index) == ["C", "D", "A", "E", "F", "B", "H", "I"]
    np.testing.assert_array_equal(ds.abundance.values, wanted)
    assert "3 rows added to others of the same gene" in ds.encoding["understood"]


def test_versions_of_ensembl_ids_are_taken_off_before_genes_are_compared(tmp_path: Path) -> None:
    genes = ["ENSG00000000001.5", "ENSG00000000002.1", "ENSG00000000001.7", "x.1", *GENES[4:]]
    values = counts()
    for chunks in ((1, 7), (11, 1)):
        source = write(tmp_path / "a.h5", values, genes=genes, chunks=chunks)
        assert read(source, tmp_path / "s.zarr").gene_id.values[0] == "ENSG00000000001.5"
        with pytest.raises(InputError, match=r"'ENSG00000000001' \(2 times\).*`duplicate_genes='sum'`"):
            read(source, tmp_path / "s.zarr", strip_version=True)
        ds = read(source, tmp_path / "s.zarr", strip_version=True, duplicate_genes="sum")
        assert list(ds.gene_id.values[:3]) == ["ENSG00000000002", "ENSG00000000001", "x.1"]
        np.testing.assert_array_equal(ds.abundance.values[1], values[0] + values[2])


# -- damaged files ---------------------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    with h5py.File(path, "a") as file:
        if how == "values":
            del file["data/expression"]
            file["data/tpm"] = [1.0]
        elif how == "genes":
            file.move("meta/genes/symbol", "meta/genes/names")
        elif how == "samples":
            file.move("meta/samples/geo_accession", "meta/samples/names")
        elif how == "text":
            del file["data/expression"]
            file.create_dataset("data/expression", data=np.full((11, 7), b"x"))
        elif how == "shape":
            del file["data/expression"]
            file["data/expression"] = np.zeros((11, 6))
        elif how == "missing":
            values = file["data/expression"][...].astype(np.float64)
            values[2, 3] = np.nan
            del file["data/expression"]
            file["data/expression"] = values


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("values", r"has no data/expression; the file holds data/tpm, meta/genes/symbol, meta/samples/geo_accession"),
        ("genes", r"no names of genes.*holds data/expression, meta/genes/names.*`gene_column`"),
        ("samples", r"no names of samples.*holds .*meta/samples/names"),
        ("text", r"data/expression is of shape \(11, 7\) and dtype \|S1; needs numbers"),
        ("shape", r"has the shape \(11, 6\), for 11 genes and 7 samples"),
        ("missing", r"gene 'G2', sample 'GSM3': the cell is empty, NA or NaN"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said_with_what_was_found(tmp_path: Path, how: str, said: str) -> None:
    source = write(tmp_path / "a.h5", counts())
    damage(Path(source), how)
    with pytest.raises(InputError, match=said):
        read(source, tmp_path / "s.zarr")


def test_another_key_of_gene_names_is_taken_by_name(tmp_path: Path) -> None:
    source = write(tmp_path / "a.h5", counts())
    damage(Path(source), "genes")
    assert list(read(source, tmp_path / "s.zarr", gene_column="names").gene_id.values) == GENES
    with pytest.raises(InputError, match=r"meta/genes has no 'other' \(it has names\)"):
        read(source, tmp_path / "s.zarr", gene_column="other")


def test_titles_that_are_no_utf8_do_not_stop_the_reading(tmp_path: Path) -> None:
    source = write(tmp_path / "a.h5", counts())
    with h5py.File(source, "a") as file:
        file["meta/samples/title"] = np.array([b"caf\xe9"] * 7, dtype="S4")
    assert read(source, tmp_path / "s.zarr").sample_title.values[0].startswith("caf")
