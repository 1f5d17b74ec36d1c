from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cagdask import ingest, storage
from cagdask.errors import InputError, MemoryLimitError, ResumeError, StoreError
from tests.inline_runner import InlineRunner, memory_for

REAL = os.environ.get("CAGDASK_REAL_DATA")


def cohort(folder, samples, *, name="sheet.json"):
    """Write ``{sample: {gene: value}}`` as sample JSONs and a sheet."""
    folder.mkdir(exist_ok=True)
    for i, records in enumerate(samples.values()):
        content = [{"id": gene, "depth": value} for gene, value in records.items()]
        (folder / f"{i}.json").write_text(json.dumps(content if i % 2 else {"results": content}))
    (folder / name).write_text(json.dumps({sample: f"{i}.json" for i, sample in enumerate(samples)}))
    return str(folder / name)


def dense(samples):
    genes = sorted(
        {g for records in samples.values() for g, v in records.items() if np.float32(v) != 0}, key=str.encode
    )
    matrix = [[np.float32(records.get(gene, 0)) for records in samples.values()] for gene in genes]
    return genes, np.array(matrix, np.float32).reshape(len(genes), len(samples))


def check(ds, samples):
    genes, matrix = dense(samples)
    assert list(ds.gene_id.values) == genes
    assert list(ds.sample_id.values) == list(samples)
    np.testing.assert_array_equal(ds.abundance.values, matrix)
    np.testing.assert_array_equal(ds.gene_prevalence.values, (matrix > 0).mean(axis=1, dtype=float).astype("f4"))


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


SAMPLES = {
    "north": {"gene_c": 1.5, "gene_a": 2, "zero": 0},
    "south": {"gene_b": 0.25, "gene_a": 4},
    "empty": {},
    "west": {"gene_d": 1},
}


# -- what comes out --------------------------------------------------------------------------------------------------


def test_a_cohort_on_workers_becomes_a_store(tmp_path, runner, toy_sheet, toy_cohort):
    ds = ingest(str(toy_sheet), store=str(tmp_path / "toy.zarr"), client=runner)
    assert tuple(ds.gene_id.values) == toy_cohort.gene_ids
    assert tuple(ds.sample_id.values) == toy_cohort.sample_ids
    np.testing.assert_array_equal(ds.abundance.values, toy_cohort.matrix)
    assert ds.abundance.dtype == np.float32
    assert set(ds.coords) == {"gene", "gene_id", "sample", "sample_id"}
    assert ds.attrs["kind"] == "abundance"
    assert ds.attrs["schema_version"] == 1
    assert "ingest sample_sheet.json" in ds.attrs["history"]
    assert not (tmp_path / "toy.zarr.work").exists()


def test_bad_input_found_on_a_worker_arrives_as_it_is(tmp_path, runner, capfd):
    sheet = cohort(tmp_path / "in", SAMPLES | {"bad": {"g": -1}})
    with pytest.raises(InputError, match="sample 'bad', record 1, gene 'g': 'depth' is -1"):
        ingest(sheet, store=str(tmp_path / "s.zarr"), client=runner)
    assert os.listdir(tmp_path) == ["in"]
    assert capfd.readouterr().err == ""


names = st.text("abcdeé\U0001f600", min_size=1, max_size=4)
samples = st.dictionaries(
    names, st.dictionaries(names, st.floats(0, 2.0**127, width=32), max_size=12), min_size=1, max_size=6
).filter(lambda drawn: len(dense(drawn)[0]) > 0)


@given(samples, st.sampled_from([10_000, 100_000, 2**30]), st.integers(1, 8), st.booleans())
def test_values_do_not_depend_on_memory_threads_or_shards(tmp_path, drawn, memory, n_threads, shards):
    storage.remove(str(tmp_path / "in"))
    sheet = cohort(tmp_path / "in", drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cagdask.io.sheets.dictionary.SMALL_PART", 3)
        ds = ingest(
            sheet,
            store=str(tmp_path / "s.zarr"),
            client=InlineRunner(memory_for(memory), n_threads),
            shards=shards,
            overwrite=True,
        )
    check(ds, drawn)


@pytest.mark.parametrize("shards", [True, False])
def test_many_blocks_and_parts_make_one_store(tmp_path, monkeypatch, shards):
    rng = np.random.default_rng(3)
    drawn = {
        f"s{j}": {f"g{i}": float(v) for i, v in zip(rng.choice(500, 150, False), rng.random(150) + 0.1, strict=True)}
        for j in range(7)
    }
    monkeypatch.setattr("cagdask.io.sheets.dictionary.SMALL_PART", 50)
    monkeypatch.setattr("cagdask.io.layout.CHUNK_BYTES", 4 * 7 * 10)
    monkeypatch.setattr("cagdask.io.layout.SHARD_BYTES", 4 * 7 * 30)
    runner = InlineRunner(n_threads=4)
    ds = ingest(cohort(tmp_path / "in", drawn), store=str(tmp_path / "s.zarr"), client=runner, shards=shards)
    check(ds, drawn)
    assert sum(stage == "merge gene names" for stage, _ in runner.calls) > 5
    assert sum(stage == "write store" for stage, _ in runner.calls) == -(-ds.sizes["gene"] // 30)
    files = [path for path in (tmp_path / "s.zarr" / "abundance" / "c").rglob("*") if path.is_file()]
    assert len(files) == -(-ds.sizes["gene"] // (30 if shards else 10))


def test_the_same_content_gives_the_same_bytes_and_digest(tmp_path):
    sheet = cohort(tmp_path / "one", SAMPLES)
    folder = tmp_path / "two"
    folder.mkdir()
    for i, records in enumerate(SAMPLES.values()):
        content = {"deep": {"list": [{"n": g, "x": {"v": v}} for g, v in reversed(records.items())]}}
        (folder / f"z{i}.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    (folder / "sheet.json").write_text(json.dumps({s: f"z{i}.gz" for i, s in enumerate(SAMPLES)}))
    one = ingest(sheet, store=str(tmp_path / "1.zarr"), client=InlineRunner())
    keys = {"results_key": "deep.list", "abundance_key": "x.v", "gene_id_key": "n"}
    two = ingest(str(folder / "sheet.json"), store=str(tmp_path / "2.zarr"), client=InlineRunner(), **keys)
    assert one.attrs["input_digest"] == two.attrs["input_digest"]
    assert tree(tmp_path / "1.zarr") == tree(tmp_path / "2.zarr")


def test_a_sample_without_genes_is_named_in_a_warning_and_kept(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "cagdask"):
        ds = ingest(cohort(tmp_path / "in", SAMPLES), store=str(tmp_path / "s.zarr"), client=InlineRunner())
    assert "1 of 4 samples have no gene with an abundance: 'empty'" in caplog.text
    check(ds, SAMPLES)


@pytest.mark.parametrize(
    "drawn",
    [{"s": {"g": 1}}, {"s": {"a": 1, "b": 2}}, {"s": {"g": 1}, "t": {"g": 2}}, {"s": {"a": 1}, "t": {"b": 2}}],
    ids=["one of each", "one sample", "one gene", "every gene in one sample only"],
)
def test_small_cohorts_are_cohorts(tmp_path, drawn):
    check(ingest(cohort(tmp_path / "in", drawn), store=str(tmp_path / "s.zarr"), client=InlineRunner()), drawn)


def test_a_store_may_be_remote(tmp_path):
    ds = ingest(cohort(tmp_path / "in", SAMPLES), store="memory://bucket/s.zarr", client=InlineRunner())
    check(ds, SAMPLES)
    assert not storage.exists("memory://bucket/s.zarr.work")


def test_a_sheet_may_lie_on_a_web_server(tmp_path):
    pytest.importorskip("aiohttp")
    cohort(tmp_path / "in", SAMPLES)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "in"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/sheet.json"
        check(ingest(url, store=str(tmp_path / "s.zarr"), client=InlineRunner()), SAMPLES)
        with pytest.raises(InputError, match="there is no such file or store"):
            ingest(url + ".json", store=str(tmp_path / "t.zarr"), client=InlineRunner())
        server.shutdown()


def test_expression_from_sample_jsons_may_be_negative(tmp_path):
    drawn = {"s": {"a": -1.5, "b": 2}}
    ds = ingest(
        cohort(tmp_path / "in", drawn), store=str(tmp_path / "s.zarr"), client=InlineRunner(), kind="expression"
    )
    check(ds, drawn)
    assert ds.attrs["kind"] == "expression"


def test_tasks_import_neither_xarray_nor_pandas():
    code = (
        "import sys, cagdask.io.sheets.samples, cagdask.io.sheets.dictionary, cagdask.io.tables.parts, zarr; "
        "print(*({'xarray', 'pandas'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "useful"),
    [
        ("cohort.xlsx", InputError, "there is no such file"),
        ("cohort", InputError, "there is no such file or store"),
        ("cohort.tsv", InputError, "there is no such file"),
        ("cohort.json", InputError, "there is no such file or store"),
    ],
)
def test_unknown_sources_are_refused(tmp_path, name, error, useful):
    with pytest.raises(error, match=useful):
        ingest(str(tmp_path / name), store=str(tmp_path / "s.zarr"), client=InlineRunner())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "useful"),
    [
        ({"orient": "sideways"}, "`orient` is 'sideways'; choose one of auto, genes-by-samples, samples-by-genes"),
        ({"kind": "cags"}, "`kind` is 'cags'; choose one of abundance, expression, embedding"),
        ({"kind": "embedding"}, "gene 'north' holds no list of numbers"),
        ({"ids": "names.txt"}, "`ids` is for `kind='embedding'`, not for abundance"),
        ({"abundance_key": ""}, "`abundance_key=''` is not a key"),
    ],
)
def test_unknown_options_are_refused(tmp_path, options, useful):
    with pytest.raises(ValueError, match=useful):
        ingest(cohort(tmp_path / "in", SAMPLES), store=str(tmp_path / "s.zarr"), client=InlineRunner(), **options)
    assert os.listdir(tmp_path) == ["in"]


def test_nothing_is_read_where_the_store_can_not_be(tmp_path):
    runner, sheet = InlineRunner(), cohort(tmp_path / "in", SAMPLES)
    with pytest.raises(StoreError, match=r"does not exist. Make it first"):
        ingest(sheet, store=str(tmp_path / "no" / "s.zarr"), client=runner)
    (tmp_path / "s.zarr").write_text("mine")
    with pytest.raises(StoreError, match=r"is already there. Add `overwrite=True`"):
        ingest(sheet, store=str(tmp_path / "s.zarr"), client=runner)
    assert (tmp_path / "s.zarr").read_text() == "mine"
    assert runner.calls == []


def test_a_store_is_replaced_only_by_a_complete_one(tmp_path):
    store = str(tmp_path / "s.zarr")
    ingest(cohort(tmp_path / "one", SAMPLES), store=store, client=InlineRunner())
    before = tree(store)
    bad = cohort(tmp_path / "bad", {"s": {"g": -1}})
    with pytest.raises(InputError):
        ingest(bad, store=store, client=InlineRunner(), overwrite=True)
    assert tree(store) == before
    other = {"s": {"g": 1}}
    check(ingest(cohort(tmp_path / "two", other), store=store, client=InlineRunner(), overwrite=True), other)
    assert sorted(os.listdir(tmp_path)) == ["bad", "one", "s.zarr", "two"]


@pytest.mark.parametrize("drawn", [{"s": {}}, {"s": {"g": 0}, "t": {}}])
def test_a_cohort_without_genes_is_refused(tmp_path, drawn):
    with pytest.raises(InputError, match=r"none of the . samples holds a gene with an abundance"):
        ingest(cohort(tmp_path / "in", drawn), store=str(tmp_path / "s.zarr"), client=InlineRunner())
    assert os.listdir(tmp_path) == ["in"]


def test_a_sample_too_large_for_a_worker_is_refused(tmp_path):
    sheet = cohort(tmp_path / "in", {"s": {f"g{i}": 1 for i in range(1000)}})
    with pytest.raises(MemoryLimitError, match=r"sample 's' is at least .*`memory_limit`"):
        ingest(sheet, store=str(tmp_path / "s.zarr"), client=InlineRunner(50_000))
    assert os.listdir(tmp_path) == ["in"]


# -- samples that can not be used -----------------------------------------------------------------------------------


BAD = SAMPLES | {"bad": {"g": -1}, "good": {"gene_a": 3}, "worse": {"": 1}}


def mend(tmp_path):
    """Correct the two bad samples of ``BAD``; gives what the cohort should be."""
    mended = BAD | {"bad": {"g": 1}, "worse": {"h": 1}}
    for i, sample in enumerate(mended):
        if sample in ("bad", "worse"):
            (tmp_path / "in" / f"{i}.json").write_text(
                json.dumps([{"id": g, "depth": v} for g, v in mended[sample].items()])
            )
    return mended


def test_bad_samples_are_left_out_if_asked(tmp_path, caplog):
    sheet = cohort(tmp_path / "in", BAD)
    with caplog.at_level(logging.WARNING, "cagdask"):
        ds = ingest(sheet, store=str(tmp_path / "s.zarr"), client=InlineRunner(), on_bad_sample="skip")
    assert "2 of 7 samples can not be used: 'bad', 'worse'. The first: " in caplog.text
    assert "'depth' is -1" in caplog.text
    check(ds, SAMPLES | {"good": {"gene_a": 3}})
    skipped = json.loads(ds.attrs["skipped_samples"])
    assert [sample for sample, _ in skipped] == ["bad", "worse"]
    assert "record 1, gene 'g': 'depth' is -1" in skipped[0][1]
    other = ingest(cohort(tmp_path / "two", SAMPLES), store=str(tmp_path / "2.zarr"), client=InlineRunner())
    assert "skipped_samples" not in other.attrs
    assert other.attrs["input_digest"] != ds.attrs["input_digest"]


def test_all_bad_samples_are_named_and_the_others_kept_if_asked(tmp_path):
    sheet, store = cohort(tmp_path / "in", BAD), str(tmp_path / "s.zarr")
    with pytest.raises(InputError, match=r"2 of 7 samples can not be used: 'bad', 'worse'.*The others are read"):
        ingest(sheet, store=store, client=InlineRunner(), on_bad_sample="finish")
    assert not os.path.exists(store)
    with pytest.raises(InputError, match="'depth' is -1"):  # what was found is not forgotten
        ingest(sheet, store=store, client=InlineRunner())
    mended, runner = mend(tmp_path), InlineRunner()
    check(ingest(sheet, store=store, client=runner), mended)
    assert [call for call in runner.calls if call[0] == "read samples"] == [("read samples", 4), ("read samples", 6)]
    assert sorted(os.listdir(tmp_path)) == ["in", "s.zarr"]


@pytest.mark.parametrize("mode", ["stop", "finish", "skip"])
def test_nothing_is_left_where_every_sample_is_bad(tmp_path, mode):
    sheet = cohort(tmp_path / "in", {"s": {"g": -1}, "t": {"g": -2}})
    with pytest.raises(InputError, match="sample 's', record 1, gene 'g': 'depth' is -1"):
        ingest(sheet, store=str(tmp_path / "s.zarr"), client=InlineRunner(), on_bad_sample=mode)
    assert os.listdir(tmp_path) == ["in"]


def test_what_to_do_with_bad_samples_is_for_sheets(tmp_path):
    (tmp_path / "t.tsv").write_text("gene\ts\na\t1\n")
    for source, mode, useful in (
        ("t.tsv", "skip", "is for sample sheets"),
        ("t.tsv", "no", "choose one of stop, finish, skip"),
    ):
        with pytest.raises(ValueError, match=useful):
            ingest(str(tmp_path / source), store=str(tmp_path / "s.zarr"), client=InlineRunner(), on_bad_sample=mode)


def test_ids_that_samples_share_are_read_and_united_once(tmp_path, monkeypatch):
    from cagdask.io.sheets import dictionary

    monkeypatch.setattr(dictionary, "SMALL_PART", 3)
    catalog = [f"gene_{i}" for i in range(9)]
    shared = {f"s{j}": {gene: i + j + 1 for i, gene in enumerate(catalog)} for j in range(4)}
    drawn = shared | {"other": {"gene_3": 1, "new": 2}, "again": {"new": 1, "gene_3": 5}, "empty": {}}
    read, united = [], []
    monkeypatch.setattr(dictionary, "read_id_range", counting(dictionary.read_id_range, read))
    monkeypatch.setattr(dictionary, "union", counting(dictionary.union, united))
    runner = InlineRunner(n_threads=4)
    check(ingest(cohort(tmp_path / "in", drawn), store=str(tmp_path / "s.zarr"), client=runner), drawn)
    n_parts = sum(stage == "merge gene names" for stage, _ in runner.calls)
    assert n_parts > 1
    assert len(read) == 3 * n_parts
    assert [len(slices) for (slices,) in united] == [3] * n_parts


def counting(function, calls):
    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counted


# -- interruptions ---------------------------------------------------------------------------------------------------


class Stopping(InlineRunner):
    """Raises after so many finished tasks."""

    def __init__(self, after: int, error: BaseException, **options):
        super().__init__(**options)
        self.after, self.error = after, error

    def ends(self):
        if len(self.calls) > self.after:
            raise self.error


@pytest.mark.parametrize("after", range(7))
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_stopped_ingest_goes_on_where_it_stopped(tmp_path, monkeypatch, after, error):
    monkeypatch.setattr("cagdask.io.sheets.dictionary.SMALL_PART", 2)
    sheet, store = cohort(tmp_path / "in", SAMPLES), str(tmp_path / "s.zarr")
    n_tasks = len(SAMPLES) + 2 + 1
    stopping = Stopping(after, error, n_threads=2)
    with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        ingest(sheet, store=store, client=stopping)
    if isinstance(error, OSError):
        assert "the disk is full. Free some space and run the same command again" in str(caught.value)
    assert not os.path.exists(store)
    with pytest.raises(StoreError, match="is unfinished"):
        storage.open_dataset(store)
    resumed = InlineRunner(n_threads=2)
    check(ingest(sheet, store=store, client=resumed), SAMPLES)
    assert len(resumed.calls) == n_tasks - after
    assert sorted(os.listdir(tmp_path)) == ["in", "s.zarr"]
    clean = ingest(sheet, store=str(tmp_path / "clean.zarr"), client=InlineRunner(n_threads=2))
    assert tree(tmp_path / "clean.zarr") == tree(store)
    assert clean.attrs["input_digest"]


def test_a_resumed_ingest_may_have_other_memory(tmp_path):
    sheet, store = cohort(tmp_path / "in", SAMPLES), str(tmp_path / "s.zarr")
    with pytest.raises(KeyboardInterrupt):
        ingest(sheet, store=store, client=Stopping(5, KeyboardInterrupt(), memory_limit=memory_for(2000)))
    check(ingest(sheet, store=store, client=InlineRunner()), SAMPLES)


def test_a_sample_that_changed_meanwhile_is_read_again(tmp_path):
    sheet, store = cohort(tmp_path / "in", SAMPLES), str(tmp_path / "s.zarr")
    with pytest.raises(KeyboardInterrupt):
        ingest(sheet, store=store, client=Stopping(5, KeyboardInterrupt()))
    changed = SAMPLES | {"west": {"gene_d": 1, "gene_new": 3}}
    cohort(tmp_path / "in", changed)
    for i in range(3):  # the others look as they did
        os.utime(tmp_path / "in" / f"{i}.json", ns=(0, 0))
    runner = InlineRunner()
    check(ingest(sheet, store=store, client=runner), changed)
    assert ("read samples", 3) in runner.calls


def test_unfinished_work_of_another_ingest_is_not_taken(tmp_path):
    sheet, store = cohort(tmp_path / "in", SAMPLES), str(tmp_path / "s.zarr")
    with pytest.raises(KeyboardInterrupt):
        ingest(sheet, store=store, client=Stopping(2, KeyboardInterrupt()))
    other = cohort(tmp_path / "other", {"s": {"g": 1}})
    with pytest.raises(ResumeError, match="differs in input"):
        ingest(other, store=store, client=InlineRunner())
    check(ingest(sheet, store=store, client=InlineRunner()), SAMPLES)


def test_bad_input_does_not_throw_away_earlier_work(tmp_path):
    sheet, store = cohort(tmp_path / "in", SAMPLES), str(tmp_path / "s.zarr")
    with pytest.raises(KeyboardInterrupt):
        ingest(sheet, store=store, client=Stopping(2, KeyboardInterrupt()))
    good = (tmp_path / "in" / "3.json").read_text()
    (tmp_path / "in" / "3.json").write_text("[")
    with pytest.raises(InputError, match="cut off"):
        ingest(sheet, store=store, client=InlineRunner())
    (tmp_path / "in" / "3.json").write_text(good)
    runner = InlineRunner()
    check(ingest(sheet, store=store, client=runner), SAMPLES)
    assert ("read samples", 0) not in runner.calls


# -- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="CAGDASK_REAL_DATA names no folder of real data")
def test_a_real_gene_catalogue_from_sample_jsons_equals_its_table(tmp_path, runner):
    import pandas as pd

    folder = Path(str(REAL)) / "03_prism_gene_catalogue"
    ds = ingest(str(folder / "sample_sheet.json"), store=str(tmp_path / "s.zarr"), client=runner)
    table = pd.read_csv(folder / "demo_genecatalogs_counts.RPK.tsv.gz", sep="\t", index_col=0)
    expected = table.loc[list(ds.gene_id.values), list(ds.sample_id.values)].to_numpy().astype(np.float32)
    assert ds.sizes == {"gene": 1899, "sample": 102}
    np.testing.assert_array_equal(ds.abundance.values, expected)


@pytest.mark.skipif(not REAL, reason="CAGDASK_REAL_DATA names no folder of real data")
def test_a_real_famli_sample_under_two_names(tmp_path, runner):
    path = str(Path(str(REAL)) / "01_find_cags_format" / "famli_results.json.gz")
    (tmp_path / "sheet.json").write_text(json.dumps({"a": path, "b": path}))
    ds = ingest(str(tmp_path / "sheet.json"), store=str(tmp_path / "s.zarr"), client=runner)
    assert ds.sizes == {"gene": 34_148, "sample": 2}
    assert bool((ds.abundance[:, 0] == ds.abundance[:, 1]).all())
