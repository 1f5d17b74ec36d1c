"""The same on S3 as on a disk: a real server on loopback, with authentication."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from click.testing import CliRunner

import cagdask
from cagdask import storage
from cagdask.cli import main
from cagdask.compute.runner import Runner
from cagdask.errors import InputError, StoreError
from cagdask.io import columns
from cagdask.io.sheets.sheet import read_sheet
from cagdask.storage import files, manifest, s3_errors
from cagdask.storage import s3 as s3_client
from cagdask.storage.s3_settings import BACKEND, BACKENDS
from tests.conftest import write_abundance_store
from tests.faults import Proxy
from tests.s3_server import READER, SECRET_KEY, WRITER, S3Server

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(900)


def contents(url: str) -> dict[str, bytes]:
    """All files of a folder but the one with times in it."""
    return {n: storage.read_bytes(storage.join(url, n)) for n in storage.list_files(url) if n != "run.json"}


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write_bytes(storage.join(url, path.relative_to(folder).as_posix()), path.read_bytes())


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The library that makes the requests of a test, and of the programs that it starts."""
    name = str(request.param)
    monkeypatch.setenv(BACKEND, name)
    return name


def both_backends(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with each of the libraries."""
    return pytest.mark.usefixtures("backend")(pytest.mark.parametrize("backend", BACKENDS, indirect=True)(test))


def both_backends_in_time(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test that takes long with each of the libraries, with s3fs only where slow tests are run."""
    params = ["obstore", pytest.param("s3fs", marks=pytest.mark.slow)]
    return pytest.mark.usefixtures("backend")(pytest.mark.parametrize("backend", params, indirect=True)(test))


@pytest.fixture
def told(runner: Runner, s3: S3Server, backend: str) -> Iterator[Runner]:
    """Workers that began before the server, with the environment of the test."""
    runner.executor.client.run(lambda values: os.environ.update(values), s3.environment | {BACKEND: backend})
    yield runner
    runner.executor.client.run(lambda name: os.environ.pop(name), BACKEND)


def published(url: str, values: np.ndarray, **options: object) -> str:
    """Write a store and publish it."""
    folder, _ = storage.begin_work(url, {"values": values.tolist()}, overwrite=True, is_store=True)
    staged = storage.staged_store(folder)
    write_abundance_store(staged, values.astype(np.float32), chunk_rows=2)
    storage.publish(staged, url)
    storage.end_work(url)
    return url


def read(url: str) -> np.ndarray:
    return storage.open_dataset(url)["abundance"].values


def run_cagdask(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cagdask", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


# -- the whole thing -------------------------------------------------------------------------------------------------


@both_backends_in_time
def test_a_cohort_on_s3_gives_the_bytes_of_a_local_one(
    s3_url: str, toy_sheet: Path, tmp_path: Path, told: Runner
) -> None:
    upload(toy_sheet.parent, f"{s3_url}/in")
    cagdask.run(str(toy_sheet), max_dist=0.2, output=str(tmp_path / "out"), client=told)
    cagdask.run(f"{s3_url}/in/sample_sheet.json", max_dist=0.2, output=f"{s3_url}/out", client=told)
    assert contents(f"{s3_url}/out") == contents(str(tmp_path / "out"))
    left = {name.split("/")[0] for name in storage.list_files(s3_url)}
    assert left == {"in", "out"}
    again = cagdask.cut(f"{s3_url}/out/cags.zarr", max_dist=0.1, output=f"{s3_url}/finer.zarr", client=told)
    local = cagdask.cut(str(tmp_path / "out" / "cags.zarr"), max_dist=0.1, client=told)
    xr.testing.assert_equal(again.load().drop_attrs(), local.drop_attrs())


@both_backends_in_time
@pytest.mark.parametrize("suffix", [".tsv", ".csv.gz", ".parquet", ".feather"])
def test_tables_are_read_from_s3(s3_url: str, tmp_path: Path, told: Runner, suffix: str) -> None:
    import pandas as pd

    table = pd.DataFrame({"gene": ["a", "b", "c"], "s1": [1.0, 0.0, 2.0], "s2": [0.5, 3.0, 0.0]})
    path = tmp_path / f"table{suffix}"
    if "parquet" in suffix:
        table.to_parquet(path)
    elif "feather" in suffix:
        table.to_feather(path)
    else:
        table.to_csv(path, index=False, sep="\t" if "tsv" in suffix else ",")
    storage.write_bytes(f"{s3_url}/table{suffix}", path.read_bytes())
    ds = cagdask.ingest(f"{s3_url}/table{suffix}", store=f"{s3_url}/made.zarr", client=told)
    np.testing.assert_array_equal(ds["abundance"].values, table[["s1", "s2"]].to_numpy(np.float32))


@both_backends
def test_chunks_are_not_read_back_for_the_manifest(s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their digests are those of what was sent, and right; where they were not noted, files are read."""
    staged = f"{s3_url}/a.zarr"
    write_abundance_store(staged, np.arange(12.0, dtype=np.float32).reshape(6, 2), chunk_rows=2)
    storage.write_bytes(f"{staged}/more", b"without a note")
    read_back: list[str] = []
    real = files.read_bytes
    monkeypatch.setattr(files, "read_bytes", lambda url: read_back.append(url) or real(url))
    made = manifest.make(staged)
    assert read_back == [f"{staged}/more"]
    content = {name: real(f"{staged}/{name}") for name in storage.list_files(staged)}
    assert made.files == {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()}
    monkeypatch.setenv("CAGDASK_S3_OPTIONS", '{"unsigned_payload": "true"}')
    assert manifest.make(staged) == made
    assert len(read_back) == 1 + len(made.files)


def test_any_zarr_reader_can_read_a_published_store(s3: S3Server, s3_url: str) -> None:
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    values = np.arange(12.0).reshape(6, 2)
    published(f"{s3_url}/a.zarr", values)
    bucket, key = s3_url.removeprefix("s3://").split("/")
    plain = S3Store(
        bucket,
        prefix=f"{key}/a.zarr",
        endpoint=s3.url,
        region="us-east-1",
        client_options={"allow_http": True},
        access_key_id=s3.environment["AWS_ACCESS_KEY_ID"],
        secret_access_key=SECRET_KEY,
    )
    ds = xr.open_zarr(ObjectStore(plain, read_only=True), consolidated=False)
    np.testing.assert_array_equal(ds["abundance"].values, values)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of files that are asked for."""
    ranges = []

    def read_range(url: str, start: int, end: int) -> bytes:
        ranges.append((start, end))
        return storage.read_range(url, start, end)

    monkeypatch.setattr(files, "read_range", read_range)
    return ranges


@both_backends
@pytest.mark.parametrize("n_bytes", [10, 2**20, 3 * 2**20])
def test_a_file_opened_by_its_tail_reads_as_it_is(s3_url: str, n_bytes: int, asked: list[tuple[int, int]]) -> None:
    data = np.random.default_rng(0).bytes(n_bytes)
    storage.write_bytes(f"{s3_url}/file", data)
    with storage.open_by_tail(f"{s3_url}/file") as handle:
        assert handle.seek(0, 2) == n_bytes
        for begin, end in ((n_bytes - 5, n_bytes), (0, 8), (n_bytes // 3, n_bytes), (0, n_bytes), (n_bytes, n_bytes)):
            handle.seek(begin)
            assert handle.read(end - begin) == data[begin:end]
    assert bool(asked) == (n_bytes > 2**20)


def test_ids_of_a_large_sample_are_read_in_few_ranges(
    s3_url: str, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    names = [f"gene_{i:07d}" for i in range(0, 400_000, 2)]
    values = np.random.default_rng(0).random(len(names)).astype(np.float32)
    table = pa.table({"id": names, "abundance": values})
    remote, local = f"{s3_url}/a.parquet", str(tmp_path / "a.parquet")
    for url in (remote, local):
        columns.write_columns(url, table)
    assert storage.size_of(remote) > 1.5 * 2**20  # more than its tail
    for low, high in ((None, "gene_0000003"), ("gene_0150001", "gene_0300000"), ("gene_0399990", None), ("h", None)):
        assert columns.read_id_range(remote, low, high) == columns.read_id_range(local, low, high)
    assert columns.read_row_range(remote, 70_000, 70_500, "abundance").equals(pa.array(values[70_000:70_500]))
    asked.clear()
    assert columns.read_row_range(remote, 0, len(names), "abundance").equals(pa.array(values))
    assert len(asked) <= 2  # not one for each of seven row groups


THROUGH_S3FS = """
import json, sys
import pandas as pd, pyarrow.dataset, s3fs, xarray as xr
url, table, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
ds = xr.open_zarr(url, storage_options=options)
ids = pd.read_parquet(table, storage_options=options)["gene_id"].tolist()
ids_too = pyarrow.dataset.dataset(table[5:], filesystem=s3fs.S3FileSystem(**options)).to_table()["gene_id"].to_pylist()
print(json.dumps([ds["abundance"].values.tolist(), ds["gene_id"].values.tolist(), ids, ids_too]))
"""


def test_programs_of_others_read_through_s3fs(s3: S3Server, s3_url: str) -> None:
    """xarray, pandas and pyarrow, in the environment that cagdask is installed in."""
    values = np.arange(12.0).reshape(6, 2)
    url, table = published(f"{s3_url}/a.zarr", values), f"{s3_url}/genes.parquet"
    with storage.open_output(table) as handle:
        pd.DataFrame({"gene_id": ["one", "two"]}).to_parquet(handle)
    keys = {"key": s3.environment["AWS_ACCESS_KEY_ID"], "secret": s3.environment["AWS_SECRET_ACCESS_KEY"]}
    options = json.dumps({"endpoint_url": s3.url} | keys)
    ended = subprocess.run(
        [sys.executable, "-c", THROUGH_S3FS, url, table, options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    names = storage.open_dataset(url)["gene_id"].values.tolist()
    assert json.loads(ended.stdout) == [values.tolist(), names, ["one", "two"], ["one", "two"]]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("backend", ["s3fs"], indirect=True)
def test_large_objects_are_put_in_parts(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5 MiB, the least that servers take; one that fails leaves nothing."""
    monkeypatch.setattr("cagdask.storage.s3_s3fs.PART_BYTES", 5 * 2**20)
    data = np.random.default_rng(0).bytes(12 * 2**20)
    storage.write_bytes(f"{s3_url}/large", data)
    assert storage.read_bytes(f"{s3_url}/large") == data
    assert storage.read_range(f"{s3_url}/large", 6 * 2**20, 6 * 2**20 + 10) == data[6 * 2**20 : 6 * 2**20 + 10]

    class Ends(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            if self.tell() > 6 * 2**20:
                raise OSError("the disk is gone")
            return super().read(n)

    with pytest.raises(OSError, match="the disk is gone"):
        s3_client.client_at(s3_url).put("partial", Ends(data))
    assert sorted(storage.list_files(s3_url)) == ["large"]


# -- complete or absent ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a process that ends here."""


def count_requests(monkeypatch: pytest.MonkeyPatch, fail_at: int | None) -> list[str]:
    """Count the requests that change something, and stop before one of them."""
    from cagdask.storage.s3_obstore import ObstoreClient
    from cagdask.storage.s3_s3fs import S3fsClient

    seen: list[str] = []

    def counting(client: type, name: str) -> None:
        real = getattr(client, name)

        def request(*arguments: object, **options: object) -> object:
            if not str(arguments[1]).endswith(".lock"):  # which is refreshed every ten seconds
                seen.append(name)
                if fail_at is not None and len(seen) > fail_at:
                    raise Killed
            return real(*arguments, **options)

        monkeypatch.setattr(client, name, request)

    for name in ("put", "copy", "delete"):
        counting(ObstoreClient, name)
        counting(S3fsClient, name)
    return seen


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("backend", "replacing", "is_store"),
    [
        ("obstore", False, False),
        ("obstore", False, True),
        ("obstore", True, True),
        pytest.param("s3fs", False, False, marks=pytest.mark.slow),
        pytest.param("s3fs", False, True, marks=pytest.mark.slow),
        pytest.param("s3fs", True, True, marks=pytest.mark.slow),
    ],
    indirect=["backend"],
)
def test_a_publication_may_stop_anywhere(s3: S3Server, s3_url: str, replacing: bool, is_store: bool) -> None:
    """With chunks that are copied, chunks that are in place, and an earlier store."""
    old, new = np.ones((4, 2), np.float32), np.full((6, 3), 2, np.float32)
    step = 0
    while True:
        url = f"{s3_url}/{step}.zarr"
        if replacing:
            published(url, old)
        folder, _ = storage.begin_work(url, {"made": "new"}, overwrite=True, is_store=is_store)
        staged = storage.staged_store(folder)
        assert storage.name_of(staged) == ("in-place" if is_store and not replacing else "store")
        write_abundance_store(staged, new, chunk_rows=2)
        with pytest.MonkeyPatch.context() as patch:
            count_requests(patch, fail_at=step)
            try:
                storage.publish(staged, url)
                stopped = False
            except Killed:
                stopped = True
        try:
            found = read(url)
        except StoreError:
            assert stopped
            assert not replacing, "an earlier store was lost"
        else:
            assert np.array_equal(found, new) or (stopped and replacing and np.array_equal(found, old))
        if not stopped:
            break
        # whoever comes next goes on
        storage.check_target(url, overwrite=replacing)
        storage.begin_work(url, {"made": "new"}, overwrite=replacing, is_store=is_store)
        storage.publish(staged, url)
        storage.end_work(url)
        np.testing.assert_array_equal(read(url), new)
        assert storage.find_damage(url) == []
        step += 1
    assert step > (5 if is_store and not replacing else 10)


@both_backends
def test_a_new_store_is_written_where_it_stays(s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is none before it is published, whatever is read of it."""
    url, values = f"{s3_url}/a.zarr", np.arange(12, dtype=np.float32).reshape(6, 2)
    folder, _ = storage.begin_work(url, {"made": "new"}, is_store=True)
    staged = storage.staged_store(folder)
    write_abundance_store(staged, values, chunk_rows=2)
    there = storage.list_files(url)
    assert {"abundance/c/0/0", "abundance/c/1/0", "abundance/c/2/0"} < set(there)
    assert not [name for name in there if name.endswith("zarr.json")]
    np.testing.assert_array_equal(storage.open_array(staged, "abundance")[:], values)
    with pytest.raises(StoreError, match="is unfinished"):
        storage.open_dataset(url)
    storage.check_target(url)  # what is there is unfinished work, and nothing that would be replaced
    assert not storage.is_taken(url)
    seen = count_requests(monkeypatch, None)
    storage.publish(staged, url)
    assert seen.count("copy") == len([name for name in storage.list_files(staged) if name.endswith("zarr.json")]) - 1
    storage.end_work(url)
    np.testing.assert_array_equal(read(url), values)
    assert storage.is_taken(url)
    assert storage.find_damage(url) == []


@both_backends_in_time
def test_unfinished_chunks_in_place_go_with_their_work(s3: S3Server, s3_url: str) -> None:
    """Also if throwing them away is interrupted; never are they taken for those of other work."""
    step = 0
    while True:
        url = f"{s3_url}/{step}.zarr"
        folder, _ = storage.begin_work(url, {"made": "one"}, is_store=True)
        write_abundance_store(storage.staged_store(folder), np.ones((6, 2), np.float32), chunk_rows=2)
        storage.write_json(storage.join(folder, "done", "0.json"), {})
        with pytest.MonkeyPatch.context() as patch:
            count_requests(patch, fail_at=step)
            try:
                storage.end_work(url)
                break
            except Killed:
                storage.check_target(url)
        folder, _ = storage.begin_work(url, {"made": "one"}, is_store=True)
        kept = storage.exists(storage.join(folder, "done", "0.json"))
        assert kept == (storage.list_files(url) != {})  # all of it or nothing
        storage.end_work(url)
        assert not storage.exists(url)
        assert not storage.exists(folder)
        step += 1
    assert step > 2
    assert not storage.exists(url)


@both_backends
def test_what_others_keep_at_a_target_is_not_mixed_with_chunks(s3: S3Server, s3_url: str) -> None:
    url = f"{s3_url}/a.zarr"
    storage.write_bytes(f"{url}/notes.txt", b"of someone")
    assert storage.is_taken(url)
    folder, _ = storage.begin_work(url, {"made": "new"}, overwrite=True, is_store=True)
    write_abundance_store(storage.staged_store(folder), np.ones((6, 2), np.float32), chunk_rows=2)
    storage.end_work(url)
    assert storage.list_files(url) == {"notes.txt": 10}


@both_backends
def test_other_work_ends_an_interrupted_publication_first(s3: S3Server, s3_url: str) -> None:
    url, new = f"{s3_url}/a.zarr", np.full((6, 3), 2, np.float32)
    published(url, np.ones((4, 2)))
    folder, _ = storage.begin_work(url, {"made": "new"}, overwrite=True)
    write_abundance_store(storage.join(folder, "store"), new)
    with pytest.MonkeyPatch.context() as patch:
        count_requests(patch, fail_at=3)
        with pytest.raises(Killed):
            storage.publish(storage.join(folder, "store"), url)
    found = manifest.read(url)
    assert found is not None
    assert found.location == "store"
    storage.begin_work(url, {"made": "something else"}, overwrite=True)
    storage.end_work(url)
    np.testing.assert_array_equal(read(url), new)


@both_backends_in_time
def test_two_publications_at_once_have_one_winner(s3: S3Server, s3_url: str) -> None:
    url = f"{s3_url}/a.zarr"
    published(url, np.ones((4, 2)))
    late = manifest.read(url)
    assert late is not None
    published(url, np.full((4, 2), 2))
    from cagdask.storage import publication

    with pytest.raises(StoreError, match="another run published it meanwhile"):
        publication._put(url, late, late.tag)
    np.testing.assert_array_equal(read(url), np.full((4, 2), 2))


@both_backends
@pytest.mark.parametrize("where", ["local", "s3"])
def test_what_is_missing_or_damaged_is_named(s3: S3Server, s3_url: str, tmp_path: Path, where: str) -> None:
    url = published(f"{s3_url}/a.zarr" if where == "s3" else str(tmp_path / "a.zarr"), np.ones((6, 2)))
    chunk = storage.join(url, "abundance/c/1/0")
    whole = storage.read_bytes(chunk)
    opened = storage.open_dataset(url)
    storage.remove(chunk)
    with pytest.raises(StoreError, match="abundance/c/1/0 is missing"):
        storage.open_dataset(url)
    with pytest.raises(StoreError, match="abundance/c/1/0 is missing"):  # zeros, to Zarr
        _ = opened["abundance"].values
    storage.write_bytes(chunk, whole[:-1])
    with pytest.raises(StoreError, match=r"abundance/c/1/0 has .* bytes instead of"):
        storage.open_dataset(url)
    storage.write_bytes(chunk, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match="abundance/c/1/0 is damaged"):
        _ = storage.open_dataset(url)["abundance"].values
    assert storage.find_damage(url) == ["abundance/c/1/0 is damaged"]
    shown = CliRunner().invoke(main, ["info", url, "--verify"])
    assert shown.exit_code == 1
    assert "abundance/c/1/0 is damaged" in shown.stderr
    storage.write_bytes(chunk, whole)
    assert "Every file is as its manifest says." in CliRunner().invoke(main, ["info", url, "--verify"]).stdout


@both_backends
def test_an_unpublished_store_is_refused(s3: S3Server, s3_url: str) -> None:
    write_abundance_store(f"{s3_url}/a.zarr", np.ones((2, 2), np.float32))
    with pytest.raises(StoreError, match="was never published"):
        storage.open_dataset(f"{s3_url}/a.zarr")
    storage.write_bytes(f"{s3_url}/a.zarr/manifest/zarr.json", b'{"attributes": {"cagdask_manifest": {"files": 3}}}')
    with pytest.raises(StoreError, match="its manifest is damaged"):
        storage.open_dataset(f"{s3_url}/a.zarr")


# -- one line, no secret ---------------------------------------------------------------------------------------------


@both_backends_in_time
@pytest.mark.parametrize(
    ("environment", "url", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-of-mine"}, "s3://cohort/x", "does not accept the S3 credentials"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "s3://cohort/x", "does not accept the S3 credentials"),
        ({}, "s3://no-such-bucket/x", "there is no bucket 'no-such-bucket'"),
        ({"AWS_ACCESS_KEY_ID": WRITER}, "s3://cohort/x", "does not allow to list"),
        ({"AWS_ACCESS_KEY_ID": READER}, "s3://cohort/x", "does not allow"),
        ({"AWS_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": ""}, "s3://cohort/x", "profile"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://cohort/x", "no answer from http://127.0.0.1:1 for"),
        ({"CAGDASK_S3_OPTIONS": '{"secret_access_key": "x"}'}, "s3://cohort/x", "is not known"),
        ({}, "s3:///x", "has no bucket"),
        ({}, "ftp://host/x", "URLs of this kind are not opened"),
    ],
)
def test_what_s3_refuses_is_one_line_without_a_secret(
    s3: S3Server, toy_sheet: Path, environment: dict[str, str], url: str, words: str
) -> None:
    def ingest(*more: str) -> subprocess.CompletedProcess[str]:
        return run_cagdask("ingest", toy_sheet, "--store", f"{url}/out.zarr", "--workers", 1, *more, **environment)

    with ThreadPoolExecutor() as pool:  # some wait until they give up
        ended, loud = pool.map(lambda more: ingest(*more), [(), ("-vv",)])
    assert ended.returncode == 1
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert loud.returncode == 1
    for secret in (SECRET_KEY, "wrong-secret-of-mine"):
        assert secret not in ended.stderr + ended.stdout + loud.stderr + loud.stdout


@both_backends_in_time
@pytest.mark.parametrize("command", ["info", "ingest"])
def test_expired_credentials_are_one_line_without_a_secret(s3: S3Server, toy_sheet: Path, command: str) -> None:
    proxy = Proxy(s3.port)
    proxy.mood = "expired"  # the server here has no credentials that end: this answers as Amazon does
    url = "s3://cohort/x.zarr"
    arguments = ["info", url] if command == "info" else ["ingest", toy_sheet, "--store", url, "--workers", 1]
    environment = {"AWS_ENDPOINT_URL": proxy.url, "AWS_SESSION_TOKEN": "a-token-of-mine"}
    for more in ([], ["-vv"]):
        ended = run_cagdask(*arguments, *more, **environment)
        assert ended.returncode == 1
        assert "the S3 credentials have expired (ExpiredToken)" in ended.stderr
        assert more or ended.stderr.count("\n") == 1
        assert not any(secret in ended.stderr + ended.stdout for secret in (SECRET_KEY, "a-token-of-mine"))
    proxy.shutdown()
    proxy.server_close()


def test_expired_credentials_are_said_to_be() -> None:
    class GenericError(Exception):
        """As the client raises it."""

    text = "Error performing GET: Client error with status 400: <Error><Code>ExpiredToken</Code></Error>"
    assert "have expired (ExpiredToken)" in str(s3_errors.explain(GenericError(text), "s3://b/k"))


@both_backends
def test_nothing_that_travels_holds_a_secret(s3: S3Server, s3_url: str) -> None:
    ds = storage.open_dataset(published(f"{s3_url}/a.zarr", np.ones((4, 2))))
    for thing in (ds, storage.open_store(f"{s3_url}/a.zarr")):
        data = pickle.dumps(thing)
        assert SECRET_KEY.encode() not in data
        assert s3.environment["AWS_ACCESS_KEY_ID"].encode() not in data
        assert SECRET_KEY not in repr(pickle.loads(data))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds))["abundance"].values, np.ones((4, 2)))


@both_backends_in_time
def test_flags_choose_profile_and_options(s3: S3Server, s3_url: str, tmp_path: Path) -> None:
    published(f"{s3_url}/a.zarr", np.ones((4, 2)))
    key = s3.environment["AWS_ACCESS_KEY_ID"]
    (tmp_path / "credentials").write_text(f"[lab]\naws_access_key_id={key}\naws_secret_access_key={SECRET_KEY}\n")
    files = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_SECRET_ACCESS_KEY": "wrong"}
    where = ("info", f"{s3_url}/a.zarr", "--json", "--endpoint-url", s3.url)
    ended = run_cagdask(*where, "--profile", "lab", "--region", "us-east-1", "--s3-option", "timeout=20s", **files)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["sizes"] == {"gene": 4, "sample": 2}
    assert run_cagdask(*where, **files).returncode == 1
    assert run_cagdask(*where, "--anonymous").returncode == 1
    misused = run_cagdask(*where, "--s3-option", "secret_access_key=1")
    assert misused.returncode == 2
    assert "is not known" in misused.stderr


# -- one run at a time, and bad weather ------------------------------------------------------------------------------


@both_backends
def test_a_lock_on_s3_has_one_winner(s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cagdask.storage import locks

    url = f"{s3_url}/a.zarr.lock"
    with ThreadPoolExecutor(8) as pool:

        def take(i: int) -> bool:
            try:
                locks._write(url, json.dumps({"owner": str(i)}).encode(), None, create=True)
            except FileExistsError:
                return False
            return True

        assert sum(pool.map(take, range(8))) == 1
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.3)
    with storage.claimed(f"{s3_url}/a.zarr"), pytest.raises(FileExistsError):  # of a machine that is gone: taken over
        locks._write(url, b"{}", None, create=True)
    assert not storage.exists(url)


@both_backends_in_time
def test_requests_survive_a_server_that_is_gone_for_a_while(s3: S3Server, s3_url: str) -> None:
    storage.write_bytes(f"{s3_url}/before", b"kept")
    s3.kill()
    starting = threading.Timer(10, s3.start)
    starting.start()
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(storage.write_bytes, f"{s3_url}/{i}", bytes([i])) for i in range(3)]
        created = pool.submit(s3_client.client_at(s3_url).put, "created", b"once", create=True)
        assert storage.read_bytes(f"{s3_url}/before") == b"kept"
        created.result()
        for write in writes:
            write.result()
    starting.join()
    assert sorted(storage.list_files(s3_url)) == ["0", "1", "2", "before", "created"]


@both_backends_in_time
def test_slow_down_and_dropped_connections_are_waited_out(
    s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(s3.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    for mood in ("slow down", "drop"):
        proxy.mood = mood
        for i in range(4):
            storage.write_bytes(f"{s3_url}/{mood}/{i}", bytes([i]))
        assert [storage.read_bytes(f"{s3_url}/{mood}/{i}") for i in range(4)] == [bytes([i]) for i in range(4)]
    proxy.shutdown()
    proxy.server_close()


@both_backends
def test_a_conditional_put_whose_answer_is_lost_is_not_lost(
    s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(s3.port)
    proxy.mood, proxy.silent_seconds = "silent", 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("CAGDASK_S3_OPTIONS", '{"timeout": "1s"}')
    client = s3_client.client_at(s3_url)
    for i in range(6):  # after a time-out, the client does not repeat these by itself
        client.put(f"once-{i}", b"x", create=True)
    proxy.mood = ""
    for i in range(6):
        with pytest.raises(FileExistsError):
            client.put(f"once-{i}", b"other", create=True)
    proxy.shutdown()
    proxy.server_close()


# -- sheets that others write ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "~/x",
        "../../other/x.json",
        "s3://other/x.json",
        "http://127.0.0.1/x",
        "s3://cohort/../x",
        "simplecache::s3://cohort/x",
    ],
)
def test_a_sheet_on_s3_does_not_lead_elsewhere(s3: S3Server, s3_url: str, path: str) -> None:
    storage.write_json(f"{s3_url}/sheet.json", {"sample": path})
    with pytest.raises(InputError, match=r"is not in s3://cohort|are not opened|or \.\."):
        read_sheet(f"{s3_url}/sheet.json")


def test_a_sheet_on_s3_may_lead_elsewhere_if_it_is_trusted(
    s3: S3Server, s3_url: str, toy_sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(toy_sheet.parent.glob("*.gz"))
    storage.write_json(f"{s3_url}/sheet.json", {"sample": str(path)})
    monkeypatch.setenv("CAGDASK_ALLOW_ELSEWHERE", "1")
    (found,) = read_sheet(f"{s3_url}/sheet.json")
    assert found.url == str(path)


def test_a_relative_path_of_a_sheet_on_s3_is_not_looked_up_here(
    s3: S3Server, s3_url: str, toy_sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy_sheet.parent)
    storage.write_bytes(f"{s3_url}/sheet.json", toy_sheet.read_bytes())
    with pytest.raises(InputError, match="6 of 6 sample files are missing"):
        read_sheet(f"{s3_url}/sheet.json")
