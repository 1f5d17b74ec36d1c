"""Files of vectors, as the programs that make them write them, become the same store."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import cagdask
from cagdask.errors import InputError
from cagdask.io.tables import reading
from tests.inline_runner import InlineRunner

GENES = [f"gene_{i}" for i in range(23)[::-1]]
ROWS = np.random.default_rng(0).normal(size=(23, 7)).astype(np.float32)
ROWS[5, 1:4] = ROWS[9] = 0


def read(source, store, **options):
    return cagdask.ingest(str(source), store=str(store), kind="embedding", client=InlineRunner(), **options)


def word2vec(path, binary):
    gensim = pytest.importorskip("gensim.models")
    vectors = gensim.KeyedVectors(7)
    vectors.add_vectors(GENES, ROWS)
    vectors.save_word2vec_format(str(path), binary=binary)


def write_npz(path):
    np.savez_compressed(path, embeddings=ROWS, genes=np.array(GENES))


def write_json(path):
    path.write_text(json.dumps({gene: row.astype(float).tolist() for gene, row in zip(GENES, ROWS, strict=True)}))


def write_npy(path):
    np.save(path, np.asfortranarray(ROWS) if path.name.startswith("fortran") else ROWS.astype(np.float64))
    path.with_name("ids.txt").write_text("\n".join(GENES) + "\n")


def write_original_binary(path):
    """As the C program writes it: a line break after each vector."""
    records = [f"{g} ".encode() + struct.pack("<7f", *row) + b"\n" for g, row in zip(GENES, ROWS, strict=True)]
    path.write_bytes(b"23 7\n" + b"".join(records))


def write_glove(path):
    path.write_text("".join(f"{g} {' '.join(map(str, r))} \n" for g, r in zip(GENES, ROWS.tolist(), strict=True)))


def write_lists(path):
    kind = pa.list_(pa.float32(), 7) if path.name.startswith("fixed") else pa.list_(pa.float32())
    pq.write_table(pa.table({"gene": GENES, "vector": pa.array(ROWS.tolist(), kind)}), path, row_group_size=5)


def write_columns(path):
    frame = pd.DataFrame(ROWS, pd.Index(GENES, name="gene"), [f"c{i}" for i in range(7)])
    frame.reset_index().to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, sep="\t")


def write_h5ad(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for axis, names in (("var", GENES), ("obs", ["cell 1", "cell 2"])):
            group = file.create_group(axis)
            group.attrs["_index"] = "names"
            group.create_dataset("names", data=np.array(names, dtype=object), dtype=h5py.string_dtype())
        file.create_group("varm")["PCs"] = ROWS
        file["X"] = np.zeros((2, 23))


def write_old_h5ad(path):
    """As AnnData wrote them before 0.7: the matrices are fields of a compound array, and so are the names."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        varm = np.zeros(23, [("PCs", "<f8", (7,))])
        varm["PCs"] = ROWS
        file["varm"] = varm
        var = np.zeros(23, [("index", "S9"), ("n_counts", "<f4")])
        var["index"] = [gene.encode() for gene in GENES]
        file["var"] = var
        file["obs"] = np.array([(b"cell 1",)], [("index", "S9")])
        file["X"] = np.zeros((1, 23))


def write_sparse_h5ad(path, kind="csr_matrix"):
    """X sparse, genes as observations; names that may be missing, as AnnData 0.12 stores them."""
    h5py = pytest.importorskip("h5py")
    sparse = csr_array(ROWS)
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": kind, "shape": ROWS.shape})
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(sparse, name)
        obs = file.create_group("obs")
        obs.attrs["_index"] = "names"
        names = obs.create_group("names")
        names.create_dataset("values", data=np.array(GENES, dtype=object), dtype=h5py.string_dtype())
        names["mask"] = np.zeros(23, bool)


def write_h5ad_without_names(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["X"] = ROWS


WRITERS = {
    "v.npz": write_npz,
    "v.json": write_json,
    "v.npy": write_npy,
    "fortran.npy": write_npy,
    "v.vec": lambda path: word2vec(path, False),
    "v.vec.gz": lambda path: word2vec(path, False),
    "v.bin": lambda path: word2vec(path, True),
    "v.bin.gz": lambda path: word2vec(path, True),
    "original.bin": write_original_binary,
    "glove.txt": write_glove,
    "lists.parquet": write_lists,
    "fixed.parquet": write_lists,
    "columns.parquet": write_columns,
    "columns.tsv": write_columns,
    "v.h5ad": write_h5ad,
    "old.h5ad": write_old_h5ad,
    "sparse.h5ad": write_sparse_h5ad,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("batch", [64, 8 * 2**20])
def test_every_format_gives_names_and_vectors_in_order(tmp_path, monkeypatch, name, batch):
    monkeypatch.setattr(reading, "BATCH_BYTES", batch)
    WRITERS[name](tmp_path / name)
    options = {"ids": str(tmp_path / "ids.txt")} if name.endswith(".npy") else {}
    ds = read(tmp_path / name, tmp_path / "s.zarr", **options)
    assert ds.attrs["kind"] == "embedding"
    assert ds.gene_id.values.tolist() == GENES
    np.testing.assert_allclose(ds.embedding.values, ROWS, rtol=1e-6 if "vec" in name or "txt" in name else 0)


@given(n=st.integers(1, 40), d=st.integers(1, 9), batch=st.sampled_from([1, 100, 2**20]), newline=st.booleans())
def test_binary_vectors_are_found_wherever_the_buffer_ends(tmp_path, n, d, batch, newline):
    rows = np.random.default_rng(n * d).integers(0, 2**31 - 2**24, (n, d)).astype("<i4").view("<f4")  # any bytes
    rows = np.where(np.isfinite(rows), rows, 0).astype("<f4")
    records = [f"gène{i} ".encode() + row.tobytes() + b"\n" * newline for i, row in enumerate(rows)]
    (tmp_path / "v.bin").write_bytes(f"{n} {d}\n".encode() + b"".join(records))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH_BYTES", batch)
        ds = read(tmp_path / "v.bin", tmp_path / "s.zarr", overwrite=True)
    assert ds.gene_id.values.tolist() == [f"gène{i}" for i in range(n)]
    np.testing.assert_array_equal(ds.embedding.values, rows)


def test_ids_may_be_a_json_list_or_an_npy(tmp_path):
    np.save(tmp_path / "v.npy", ROWS)
    (tmp_path / "ids.json").write_text(json.dumps(GENES))
    np.save(tmp_path / "ids.npy", np.array(GENES))
    for name in ("ids.json", "ids.npy"):
        ds = read(tmp_path / "v.npy", tmp_path / f"{name}.zarr", ids=str(tmp_path / name))
        assert ds.gene_id.values.tolist() == GENES


@pytest.mark.parametrize("name", ["ids.txt", "ids.json"])
def test_a_list_of_ids_that_is_no_text_is_named(tmp_path, name):
    np.save(tmp_path / "v.npy", ROWS)
    (tmp_path / name).write_bytes(b"\xc3(\xa0")
    with pytest.raises(InputError, match=rf"{name}: can not be read as a list of names"):
        read(tmp_path / "v.npy", tmp_path / "s.zarr", ids=str(tmp_path / name))


def test_a_matrix_of_an_h5ad_is_chosen_by_name(tmp_path):
    write_h5ad(tmp_path / "v.h5ad")
    ds = read(tmp_path / "v.h5ad", tmp_path / "s.zarr", matrix="X")
    assert ds.gene_id.values.tolist() == ["cell 1", "cell 2"]
    write_old_h5ad(tmp_path / "old.h5ad")
    for name in ("v.h5ad", "old.h5ad"):
        with pytest.raises(InputError, match="has no 'varm/X_pca'; `matrix` can be varm/PCs, X"):
            read(tmp_path / name, tmp_path / "t.zarr", matrix="varm/X_pca")


def bad_npz(path, **arrays):
    np.savez(path, **arrays)


def write_damaged_npz(path):
    bad_npz(path, embeddings=ROWS, genes=np.array(GENES))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:  # the last bytes of the vectors, which are stored and not compressed
        end = archive.getinfo("genes.npy").header_offset
    data[end - 8 : end] = bytes(8)
    path.write_bytes(data)


def write_npz_of_torn_header(path):
    whole = io.BytesIO()
    np.save(whole, ROWS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("genes.npy", whole.getvalue().replace(b", }", b"(, "))
        archive.writestr("embeddings.npy", whole.getvalue())


BAD = {
    "no-genes.npz": (lambda p: bad_npz(p, embeddings=ROWS), "has no array 'genes'.*holds 'embeddings'"),
    "objects.npz": (lambda p: bad_npz(p, embeddings=ROWS, genes=np.array(GENES, object)), "would have to be unpickled"),
    "short.npz": (lambda p: bad_npz(p, embeddings=ROWS[:9], genes=np.array(GENES)), "has 9 vectors, but genes has 23"),
    "flat.npz": (lambda p: bad_npz(p, embeddings=ROWS[0], genes=np.array(GENES[:7])), r"have the shape \(7,\)"),
    "twice.npz": (
        lambda p: bad_npz(p, embeddings=ROWS[:3], genes=np.array(["a", "b", "a"])),
        r"names occur more than once: 'a' \(2 times\)",
    ),
    "nan.npz": (
        lambda p: bad_npz(p, embeddings=np.where(ROWS == ROWS[4, 2], np.nan, ROWS), genes=np.array(GENES)),
        "gene 'gene_18', component '2': the cell is empty, NA or NaN, not a number. Leave the gene out",
    ),
    "inf.npz": (
        lambda p: bad_npz(p, embeddings=np.where(ROWS == ROWS[4, 2], np.inf, ROWS), genes=np.array(GENES)),
        "gene 'gene_18', component '2': the value is infinite",
    ),
    "no.npz": (lambda p: p.write_bytes(b"PK no"), "can not be read as .npz"),
    "damaged.npz": (write_damaged_npz, r"can not be read as .npz \(Bad CRC-32 for file 'embeddings.npy'\)"),
    "no-ids.npy": (lambda p: np.save(p, ROWS), "Give a list of them, one per row, with `ids`"),
    "flat.npy.npz": (
        lambda p: bad_npz(p, embeddings=ROWS[:, :0], genes=np.array(GENES)),
        "holds names, and no component with values",
    ),
    "none.vec": (lambda p: p.write_text("2 0\na\nb\n"), "holds names, and no component|promises"),
    "header.npz": (write_npz_of_torn_header, "can not be read as a NumPy array"),
    "list.json": (lambda p: p.write_text("[1, 2]"), "no JSON object of gene -> list"),
    "ragged.json": (lambda p: p.write_text('{"a": [1, 2], "b": [1]}'), "gene 'b' has 1 numbers and 'a' has 2"),
    "text.json": (lambda p: p.write_text('{"a": [1, 2], "b": [1, "x"]}'), "gene 'b' holds no list of numbers"),
    "null.json": (
        lambda p: p.write_text('{"a": [1, 2], "b": [1, null]}'),
        "gene 'b', component '1': the cell is empty",
    ),
    "twice.json": (lambda p: p.write_text('{"a": [1, 2], "b": [1, 2], "a": [3, 4]}'), "gene 'a' occurs more than once"),
    "empty.json": (lambda p: p.write_text("{}"), "holds no genes"),
    "cut.vec": (lambda p: p.write_text("3 2\na 1 2\nb 1 2\n"), "promises 3 vectors and holds 2"),
    "word.vec": (lambda p: p.write_text("2 2\na 1 2\nb 1 x\n"), "gene 'b': the value is 'x', not a number"),
    "ragged.vec": (lambda p: p.write_text("2 2\na 1 2\nb 1\n"), "gene 'b' has 1 numbers, not 2"),
    "blank.vec": (lambda p: p.write_text("2 2\n"), "holds no vectors"),
    "cut.bin": (lambda p: p.write_bytes(b"2 1\na " + bytes(4)), "promises 2 vectors and ends in number 2"),
    "text.bin": (lambda p: p.write_bytes(b"gene_1 1 2 3\n"), "does not begin with the numbers of vectors"),
    "ragged.parquet": (
        lambda p: pq.write_table(pa.table({"gene": ["a", "b"], "v": [[1.0, 2.0], [1.0]]}), p),
        "gene 'b' has 1 numbers",
    ),
    "two.parquet": (
        lambda p: pq.write_table(pa.table({"gene": ["a"], "v": [[1.0]], "w": [[1.0]]}), p),
        "needs names .* and one column of lists",
    ),
    "csc.h5ad": (
        lambda p: write_sparse_h5ad(p, "csc_matrix"),
        "X is stored as csc_matrix, whose rows can not be read. Write it dense, or as CSR",
    ),
    "nameless.h5ad": (write_h5ad_without_names, "obs has no index, so the rows have no names"),
    "no.h5ad": (lambda p: p.write_bytes(b"no HDF5"), "can not be read as HDF5"),
    "what.xyz": (lambda p: p.write_bytes(b"?"), "of unknown format. Accepted are .npz, .npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_a_sentence(tmp_path, name):
    write, message = BAD[name]
    path = tmp_path / name
    write(path)
    with pytest.raises(InputError, match=message) as caught:
        read(path, tmp_path / "s.zarr")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("v.npz", {"orient": "samples-by-genes"}, "`orient='samples-by-genes'` is for tables"),
        ("v.npz", {"ids": "x"}, "`ids` is for .npy files, not for .npz"),
        ("v.json", {"matrix": "X"}, "`matrix` is for .h5ad files"),
        ("v.npz", {"descriptions": "nowhere.tsv"}, "no such table of descriptions"),
    ],
)
def test_options_of_another_format_are_refused(tmp_path, name, options, message):
    WRITERS[name](tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, tmp_path / "s.zarr", **options)


# -- descriptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["d.tsv", "d.csv.gz", "d.parquet"])
def test_symbols_and_descriptions_are_stored_with_the_genes(tmp_path, name):
    write_npz(tmp_path / "v.npz")
    frame = pd.DataFrame({"id": ["gene_3", "other"], "symbol": ["NA", "X"], "description": ["of three, or so", ""]})
    path = tmp_path / name
    if name == "d.parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if "tsv" in name else ",", index=False)
    ds = read(tmp_path / "v.npz", tmp_path / "s.zarr", descriptions=str(path))
    at = GENES.index("gene_3")
    assert ds.gene_symbol.values[at] == "NA"
    assert ds.gene_description.values[at] == "of three, or so"
    assert (ds.gene_symbol.values == "").sum() == 22
    found = cagdask.similar(str(tmp_path / "s.zarr"), "gene_5", k=22)
    assert found.set_index("gene").symbol["gene_3"] == "NA"


def test_descriptions_may_be_a_json_object_with_nulls(tmp_path):
    write_npz(tmp_path / "v.npz")
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(json.dumps({"gene_1": None, "gene_2": "two"}).encode()))
    ds = read(tmp_path / "v.npz", tmp_path / "s.zarr", descriptions=str(tmp_path / "d.json.gz"))
    assert "gene_symbol" not in ds
    assert ds.gene_description.values[GENES.index("gene_2")] == "two"


@pytest.mark.parametrize(
    ("text", "message"),
    [("id,symbol\na,x\na,y\n", "gene 'a' occurs more than once"), ("id,what\na,x\n", "needs id, and symbol or descr")],
)
def test_bad_descriptions_are_refused(tmp_path, text, message):
    write_npz(tmp_path / "v.npz")
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "v.npz", tmp_path / "s.zarr", descriptions=str(tmp_path / "d.csv"))
