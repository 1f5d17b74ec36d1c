from __future__ import annotations

import gzip
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from cagdask import ingest
from cagdask.errors import InputError, MemoryLimitError
from cagdask.io.tables import reading
from tests.inline_runner import InlineRunner, memory_for

FORMATS = ["t.tsv", "t.csv", "t.tsv.gz", "t.csv.gz", "t.parquet", "t.feather", "index.parquet"]


def write(frame, path):
    """A table in the format of the file's name; ids are its index."""
    name = path.name
    if name == "index.parquet":
        frame.rename_axis(None).to_parquet(path)
    elif name.endswith(".parquet"):
        frame.reset_index().to_parquet(path, index=False)
    elif name.endswith(".feather"):
        frame.reset_index().to_feather(path)
    else:
        frame.to_csv(path, sep="\t" if ".tsv" in name else ",")
    return str(path)


def read(source, store, **options):
    return ingest(str(source), store=str(store), client=options.pop("runner", None) or InlineRunner(), **options)


@pytest.fixture
def frame():
    values = np.round(np.random.default_rng(0).lognormal(size=(40, 5)) * (np.arange(200).reshape(40, 5) % 3 > 0), 3)
    genes = pd.Index([f"g{i}" for i in range(40)[::-1]], name="gene_id")
    return pd.DataFrame(values, index=genes, columns=[f"sample {j}" for j in range(5)])


def check(ds, frame):
    assert list(ds.gene_id.values) == [str(i) for i in frame.index]
    assert list(ds.sample_id.values) == list(frame.columns)
    expected = frame.to_numpy().astype(np.float32)
    np.testing.assert_array_equal(ds.abundance.values, expected)
    np.testing.assert_array_equal(ds.gene_prevalence.values, (expected > 0).mean(axis=1, dtype=np.float64).astype("f4"))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orient", ["genes-by-samples", "samples-by-genes"])
def test_every_format_and_orientation_gives_the_table_in_its_order(tmp_path, frame, name, orient):
    turned = frame if orient == "genes-by-samples" else frame.T.rename_axis("sample_id")
    ds = read(write(turned, tmp_path / name), tmp_path / "s.zarr", orient=orient)
    check(ds, frame)
    assert ds.attrs["kind"] == "abundance"


def test_content_alone_makes_the_digest(tmp_path, frame):
    digests = {read(write(frame, tmp_path / n), tmp_path / f"{n}.zarr").attrs["input_digest"] for n in FORMATS}
    turned = write(frame.T, tmp_path / "turned.csv")
    digests.add(read(turned, tmp_path / "turned.zarr", orient="samples-by-genes").attrs["input_digest"])
    assert len(digests) == 1
    frame.iloc[0, 0] += 1
    assert read(write(frame, tmp_path / "u.csv"), tmp_path / "u.zarr").attrs["input_digest"] not in digests


@given(
    n_genes=st.integers(1, 60),
    n_samples=st.integers(1, 7),
    memory=st.sampled_from([20_000, 60_000, 2**30]),
    orient=st.sampled_from(["genes-by-samples", "samples-by-genes"]),
    shards=st.booleans(),
    batch=st.sampled_from([64, 8 * 2**20]),
    name=st.sampled_from(["t.csv", "t.parquet", "t.feather"]),
)
def test_values_do_not_depend_on_memory_parts_or_shards(
    tmp_path, n_genes, n_samples, memory, orient, shards, batch, name
):
    values = np.random.default_rng(n_genes).integers(0, 4, (n_genes, n_samples)).astype(float)
    frame = pd.DataFrame(values, [f"g{i}" for i in range(n_genes)], [f"s{j}" for j in range(n_samples)])
    turned = frame.rename_axis("gene") if orient == "genes-by-samples" else frame.T.rename_axis("sample_id")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH_BYTES", batch)
        ds = read(
            write(turned, tmp_path / name),
            tmp_path / "s.zarr",
            runner=InlineRunner(memory_for(memory)),
            orient=orient,
            shards=shards,
            overwrite=True,
        )
    check(ds, frame)


@pytest.mark.parametrize(("n_genes", "n_samples"), [(1, 1), (1, 30), (30, 1)])
@pytest.mark.parametrize("orient", ["genes-by-samples", "samples-by-genes"])
def test_one_gene_or_one_sample_is_a_table(tmp_path, n_genes, n_samples, orient):
    frame = pd.DataFrame(
        np.ones((n_genes, n_samples)), [f"x{i}" for i in range(n_genes)], [f"y{j}" for j in range(n_samples)]
    )
    turned = (frame if orient == "genes-by-samples" else frame.T).rename_axis("index")
    check(read(write(turned, tmp_path / "t.csv"), tmp_path / "s.zarr", orient=orient), frame)


def test_tables_as_r_writes_them_have_no_name_above_the_row_names(tmp_path):
    (tmp_path / "t.tsv").write_text('"s1"\t"s2"\n"a"\t1\t0\n"b"\t0\t2\n')
    ds = read(tmp_path / "t.tsv", tmp_path / "s.zarr")
    assert list(ds.gene_id.values) == ["a", "b"]
    assert ds.abundance.values.tolist() == [[1, 0], [0, 2]]


def test_whole_numbers_are_ids_and_values(tmp_path):
    table = pa.table({"s1": pa.array([1, 2], pa.int8()), "gene_id": [7, 8], "s2": pa.array([3, 4], pa.uint64())})
    feather.write_feather(table, tmp_path / "t.feather")
    ds = read(tmp_path / "t.feather", tmp_path / "s.zarr")
    assert list(ds.gene_id.values) == ["7", "8"]
    assert ds.abundance.values.tolist() == [[1, 3], [2, 4]]


def test_expression_may_be_negative_and_embeddings_have_components(tmp_path, frame):
    source = write(frame - 1, tmp_path / "t.csv")
    assert float(read(source, tmp_path / "e.zarr", kind="expression").abundance.min()) == -1
    ds = read(source, tmp_path / "v.zarr", kind="embedding")
    assert ds.embedding.dims == ("gene", "component")
    np.testing.assert_array_equal(ds.embedding.values, (frame - 1).to_numpy().astype(np.float32))


@pytest.mark.parametrize(
    ("text", "useful"),
    [
        ("", "the table is empty"),
        ("gene,s1\n", "no rows below its header"),
        ("gene\na\nb\n", "has a single column, 'gene'"),
        ("gene,s1,s2\na,1\n", "can not be read as text .*Expected 3 columns, got 2"),
        ("gene,s1,s2\na,1,x\n", "1 of its columns hold what is not numbers.*: 's2'.*`metadata_columns='s2'`"),
        ("gene,s1\na,1\nb,x\nc,3\n", "gene 'b', sample 's1': the value is 'x', not a number"),
        ("gene,s1,kind\na,1,high\nb,2,low\n", "so they are no samples: 'kind'.*`metadata_columns='kind'`"),
        ("gene,s1,s2\na,1,\n", "gene 'a', sample 's2': the cell is empty, NA or NaN"),
        ("gene,s1,s2\na,1,2\nb,NA,1\n", "gene 'b', sample 's1': the cell is empty, NA or NaN"),
        ("gene,s1\na,NaN\n", "gene 'a', sample 's1': the cell is empty, NA or NaN"),
        ("gene,s1\na,inf\n", "gene 'a', sample 's1': the value is infinite"),
        (
            "gene,s1\na,1\nb,-0.5\n",
            "gene 'b', sample 's1': the value is -0.5; abundances are 0 or more.*`kind='expression'`",
        ),
        ("gene,s1\na,1e39\n", r"gene 'a', sample 's1': the value is 1e\+39, above 3.4e\+38"),
        ("gene,s1\na,true\n", "1 of its columns hold what is not numbers.*: 's1'"),
        ("gene,s1\na,1\nb,2\na,3\n", r"row names occur more than once: 'a' \(2 times\)"),
        ("gene,s1,s1\na,1,2\n", "column 's1' occurs more than once"),
        ("gene,s1,\na,1,2\n", "column 2 of the values, after 's1', has no name. Give it one"),
        (
            "gene,s1\na,1\n,2\n",
            "row 2 of the values, after 'a', has no name. Leave it out with `exclude_genes='\\^\\$'`",
        ),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_tables_are_refused_with_a_sentence(tmp_path, text, useful, zipped):
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    with pytest.raises(InputError, match=useful) as caught:
        read(path, tmp_path / "s.zarr")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("columns", "useful"),
    [
        ({"gene": ["a", "b"], "s1": [True, False]}, "1 of its columns hold what is not numbers.*: 's1'"),
        ({"gene": ["a", "b"], "s1": ["1", "2"]}, "`metadata_columns='s1'`"),
        ({"gene": ["a", "b"], "s1": [1, None]}, "gene 'b', sample 's1': the cell is empty"),
        ({"gene": ["a", "b"], "s1": [None, None]}, "gene 'a', sample 's1': the cell is empty"),
        ({"gene": ["a", None], "s1": [1, 2]}, "row 2 of the values, after 'a', has no name"),
        ({"s1": [1.5, 2.0], "s2": [1, 2]}, "the first column 's1' holds double, not gene ids"),
        ({"gene": ["a", "b"]}, "has 1 columns"),
        ({"gene": pa.array([], pa.string()), "s1": pa.array([], pa.float32())}, "no rows below its header"),
    ],
)
@pytest.mark.parametrize("name", ["t.parquet", "t.feather"])
def test_bad_binary_tables_are_refused_with_a_sentence(tmp_path, columns, useful, name):
    table = pa.table(columns)
    if name == "t.feather":
        feather.write_feather(table, tmp_path / name)
    else:
        pa.parquet.write_table(table, tmp_path / name)
    with pytest.raises(InputError, match=useful):
        read(tmp_path / name, tmp_path / "s.zarr")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["t.tsv.gz", "t.parquet", "t.feather"])
@pytest.mark.parametrize("damage", ["cut off", "not it"])
def test_damaged_files_are_refused_with_a_sentence(tmp_path, frame, name, damage):
    path = tmp_path / name
    write(frame, path)
    data = path.read_bytes()
    path.write_bytes(data[:-9] if damage == "cut off" else data[:2] + bytes(range(100)))
    with pytest.raises(InputError, match=r"damaged or cut off|can not be read as|is binary") as caught:
        read(path, tmp_path / "s.zarr")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.feather"])
@pytest.mark.parametrize("fault", [0, -1, "x"])
def test_samples_as_rows_are_told_from_the_shape_and_the_names(tmp_path, name, fault):
    frame = pd.DataFrame(np.ones((8, 60)), [f"sample_{i}" for i in range(8)], [f"ENSG{j:08d}" for j in range(60)])
    if fault == "x" and name != "t.csv":
        pytest.skip("a typed column holds text or numbers, not both")
    if fault == "x":
        frame["ENSG00000003"] = ["x", *[1.0] * 7]
    else:
        frame.iloc[3, 3] = fault  # a bad value is not what to speak of then
    source = write(frame.rename_axis("index"), tmp_path / name)
    with pytest.raises(InputError, match=r"8 genes \(such as 'sample_0'\) in 60 samples .*`orient='samples-by-genes'`"):
        read(source, tmp_path / "s.zarr")
    if fault == 0:
        assert read(source, tmp_path / "s.zarr", orient="samples-by-genes").sizes == {"gene": 60, "sample": 8}


def test_genes_as_rows_are_told_where_samples_were_expected(tmp_path):
    frame = pd.DataFrame(np.ones((60, 8)), [f"gene_{i}" for i in range(60)], [f"SRR{j:08d}" for j in range(8)])
    source = write(frame.rename_axis("index"), tmp_path / "t.csv")
    with pytest.raises(InputError, match="`orient='genes-by-samples'`"):
        read(source, tmp_path / "s.zarr", orient="samples-by-genes")


@pytest.mark.parametrize(("header", "n_samples"), [("gene_id", 2000), ("index", 300)])
def test_a_wide_table_passes_where_the_header_or_its_names_say_so(tmp_path, header, n_samples):
    frame = pd.DataFrame(np.ones((8, n_samples)), [f"gene_{i}" for i in range(8)], [f"p{j}" for j in range(n_samples)])
    source = write(frame.rename_axis(header), tmp_path / "t.csv")
    assert read(source, tmp_path / "s.zarr").sizes == {"gene": 8, "sample": n_samples}


def test_a_row_that_does_not_fit_is_refused(tmp_path):
    frame = pd.DataFrame(np.ones((3, 2000)), ["a", "b", "c"], [f"s{j}" for j in range(2000)])
    with pytest.raises(MemoryLimitError, match="a row of 2,000 values needs"):
        read(write(frame.rename_axis("gene"), tmp_path / "t.csv"), tmp_path / "s.zarr", runner=InlineRunner(100_000))
    assert os.listdir(tmp_path) == ["t.csv"]
