"""Faults on purpose: a run in which one thing breaks at a moment that a seed chose, and what is left of it.

cohort on S3 --proxy--> scheduler, two workers, client: processes of their own
                                 ^ one fault, at a random moment
after every try     every file of the output is absent, an earlier one, or the right one; no store is there in part
in the end          the same command, given again, gives the bytes of a run without faults
"""

from __future__ import annotations

import faulthandler
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cagdask import storage
from cagdask.errors import CagdaskError
from cagdask.storage import manifest
from tests.dask_processes import DaskProcesses, kill
from tests.s3_server import S3Server

HANG_SECONDS = 240
"""A try that takes longer, and six times as long as one without faults, hangs."""
TRIES = 5
SILENT_SECONDS = 20
"""How long a request is left without an answer; its client gives up after half of that."""
_PRELOAD = [
    "cagdask.runs.pipeline",
    "cagdask.io.ingest",
    "cagdask.cags.stages",
    "distributed",
    "xarray",
    "zarr",
    "obstore",
]


# -- a server that misbehaves ----------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """Passes a request on as it is, signature and all, or does what :attr:`Proxy.mood` says."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's acknowledgement of its headers

    def log_message(self, *_: object) -> None:
        pass

    def _pass_on(self) -> None:
        proxy: Proxy = self.server  # type: ignore[assignment]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.n_requests += 1
        if proxy.awaited and proxy.awaited in self.path:
            proxy.arrived.set()
        if proxy.mood == "slow down" and proxy.chance.random() < 0.7:
            self._answer(503, {}, b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>")
            return
        if proxy.mood == "expired":
            self._answer(400, {}, b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>")
            return
        if proxy.mood == "drop" and proxy.chance.random() < 0.5:
            self._hang_up()
            return
        silent = proxy.mood == "silent" and proxy.chance.random() < 0.5
        if silent and proxy.chance.random() < 0.5:  # else it is done, and only nobody hears of it
            self._say_nothing()
            return
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", proxy.onward, timeout=60)) as onward:
                onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    onward.putheader(name, value)
                onward.endheaders(body or None)
                found = onward.getresponse()
                data = found.read()
        except (OSError, http.client.HTTPException):  # nobody there: what a client of its own would see
            self._hang_up()
            return
        if silent:
            self._say_nothing()
            return
        headers = {name: value for name, value in found.getheaders() if name.lower() not in _HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = found.getheader("Content-Length") or "0"
        self._answer(found.status, headers, data)

    def _say_nothing(self) -> None:
        time.sleep(self.server.silent_seconds)  # type: ignore[attr-defined]  # it is a Proxy
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        with suppress(OSError):
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815


_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy(socketserver.ThreadingTCPServer):
    """In front of the S3 server; ``mood`` is ``""``, ``"slow down"``, ``"drop"``, ``"silent"`` or ``"expired"``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, onward: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.onward, self.mood, self.n_requests = onward, "", 0
        self.chance = random.Random(0)
        self.silent_seconds: float = SILENT_SECONDS
        self.awaited, self.arrived = "", threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def until_request(self, text: str, process: Any) -> None:
        """Wait for a request with this text in its path, or for the end of a process."""
        self.arrived.clear()
        self.awaited = text
        while process.is_alive() and not self.arrived.wait(0.1):
            pass
        self.awaited = ""


# -- a client that can be killed -------------------------------------------------------------------------------------


def _client(arguments: list[str], log: str) -> None:
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    faulthandler.register(signal.SIGUSR1, file=out, all_threads=True)
    from cagdask.cli import main

    main(arguments)


def set_up_clients() -> None:
    """Import everything once; each client is a fork of the process that did."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOAD)


@dataclass
class Try:
    """One start of the command.

    Attributes
    ----------
    code
        Exit code; negative: a signal.
    said
        What it printed, stdout and stderr.
    """

    code: int | None
    said: str


@dataclass
class Outcome:
    """What came of one run.

    Attributes
    ----------
    seed, fault
        Which run.
    moment
        Requests to the server after which the fault came, and it may come a little later.
    struck
        Whether it came before the run ended.
    n_tries
        Starts of the command until it succeeded.
    wrong, hung, partial, lost, unclear
        What must not be: bytes that differ, a try without end, a part of a store that can be opened, an earlier store
        that can not, a failure that is not one line.
    said
        The last line of each try that failed.
    """

    seed: int
    fault: str
    moment: int
    struck: bool = False
    n_tries: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    hung: bool = False
    partial: bool = False
    lost: bool = False
    unclear: str = ""
    said: list[str] = field(default_factory=list)
    finished: bool = False

    @property
    def is_good(self) -> bool:
        return self.finished and not (self.wrong or self.hung or self.partial or self.lost or self.unclear)


class Bench:
    """Server, proxy, scheduler and workers, and the cohort, for any number of runs."""

    def __init__(self, folder: Path, n_genes: int = 240, n_samples: int = 12) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.server = S3Server(folder / "s3")
        self.server.start()
        self.server.make_bucket("faults")
        self.proxy = Proxy(self.server.port)
        self.environment = self.server.environment | {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "DASK_CAGDASK__NO_WORKERS_TIMEOUT": "20s",
            "DASK_LOGGING__DISTRIBUTED": "critical",  # as the command sets it, before it imports Dask
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
            "CAGDASK_S3_OPTIONS": json.dumps({"timeout": f"{SILENT_SECONDS // 2}s"}),
        }
        os.environ.update(self.environment)
        set_up_clients()
        self.cluster = DaskProcesses(folder / "dask", self.environment)
        self.hang_seconds = 3600.0
        try:
            self._prepare(n_genes, n_samples)
        except BaseException:
            self.close()
            raise

    def _prepare(self, n_genes: int, n_samples: int) -> None:
        """Make the cohort and the outputs to compare with."""
        from cagdask.simulation.writing import simulate

        self.cluster.start()
        simulate("s3://faults/cohort", n_genes=n_genes, n_samples=n_samples, seed=3)
        self.sheet = "s3://faults/cohort/sample_sheet.json"
        self._reference("s3://faults/earlier", "0.1")  # the first one also warms the workers
        self.earlier = digests("s3://faults/earlier")
        self.run_time = self._reference("s3://faults/right", "0.2")
        self.hang_seconds = max(HANG_SECONDS, 6 * self.run_time)
        self.right = digests("s3://faults/right")
        assert self.right != self.earlier

    def _reference(self, output: str, max_dist: str) -> float:
        begun, before = time.monotonic(), self.proxy.n_requests
        ended = self.attempt(["run", self.sheet, "--output", output, "--max-dist", max_dist])
        if ended.code != 0:
            raise RuntimeError(ended.said)
        self.run_requests = self.proxy.n_requests - before
        return time.monotonic() - begun

    def close(self) -> None:
        """End everything."""
        self.cluster.stop()
        self.server.kill()
        self.proxy.shutdown()
        self.proxy.server_close()

    def attempt(
        self, arguments: list[str], meanwhile: Callable[[Any], None] | None = None, scheduler: bool = True
    ) -> Try:
        """Start the command, do something meanwhile, and wait for its end."""
        where = ["--scheduler", self.cluster.address] if scheduler else []
        log = str(self.folder / "client.log")
        process = multiprocessing.get_context("forkserver").Process(
            target=_client, args=([*arguments, *where, "--no-progress"], log)
        )
        process.start()
        if meanwhile is not None:
            meanwhile(process)
        process.join(self.hang_seconds)
        if process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGUSR1)  # say where it hangs
                time.sleep(2)
                os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            return Try(None, Path(log).read_text(errors="replace"))
        return Try(process.exitcode, Path(log).read_text(errors="replace"))

    def heal(self) -> None:
        """Make everything work again."""
        self.proxy.mood = ""
        if self.server.process is None:
            self.server.start()
        if self.cluster.scheduler is None or self.cluster.scheduler.poll() is not None:
            self.cluster.stop()
            self.cluster.start()
        self.cluster.workers = [worker for worker in self.cluster.workers if worker.poll() is None]
        while len(self.cluster.workers) < 2:
            self.cluster.start_worker()


def digests(output: str, without: tuple[str, ...] = ("run.json",)) -> dict[str, str]:
    """Digest of every file of a run but those whose names begin so; ``run.json`` holds times."""
    names = [name for name in storage.list_files(output) if not name.startswith(without)]
    return {name: hashlib.sha256(storage.read_bytes(storage.join(output, name))).hexdigest() for name in names}


# -- faults ----------------------------------------------------------------------------------------------------------


def _worker(bench: Bench, chance: random.Random, _: Any) -> None:
    kill(chance.choice(bench.cluster.workers))
    bench.cluster.start_worker()


def _all_workers(bench: Bench, chance: random.Random, _: Any) -> None:
    for worker in bench.cluster.workers:
        kill(worker)
    time.sleep(chance.uniform(0, 3))
    bench.heal()


def _no_workers(bench: Bench, _: random.Random, __: Any) -> None:
    for worker in bench.cluster.workers:
        kill(worker)


def _scheduler(bench: Bench, _: random.Random, __: Any) -> None:
    if bench.cluster.scheduler is not None:
        kill(bench.cluster.scheduler)


def _client_killed(_: Bench, __: random.Random, process: Any) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def _server(bench: Bench, chance: random.Random, _: Any) -> None:
    bench.server.kill()
    time.sleep(chance.uniform(1, 10))
    bench.server.start()


def _throttled(bench: Bench, chance: random.Random, _: Any) -> None:
    bench.proxy.mood = "slow down"
    time.sleep(chance.uniform(2, 6))
    bench.proxy.mood = ""


def _dropped(bench: Bench, chance: random.Random, _: Any) -> None:
    bench.proxy.mood = "drop"
    time.sleep(chance.uniform(2, 6))
    bench.proxy.mood = ""


def _silent(bench: Bench, chance: random.Random, _: Any) -> None:
    bench.proxy.mood = "silent"
    time.sleep(chance.uniform(2, 6))
    bench.proxy.mood = ""


def _slow_worker(bench: Bench, chance: random.Random, _: Any) -> None:
    worker = chance.choice(bench.cluster.workers)
    with suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(chance.uniform(2, 8))
        os.kill(worker.pid, signal.SIGCONT)


IN_A_RUN: dict[str, Callable[[Bench, random.Random, Any], None]] = {
    "worker killed": _worker,
    "all workers killed, others come": _all_workers,
    "all workers killed, none comes": _no_workers,
    "scheduler killed": _scheduler,
    "client killed": _client_killed,
    "S3 server killed for 1 to 10 s": _server,
    "503 SlowDown": _throttled,
    "connections dropped": _dropped,
    "answers that do not come": _silent,
    "worker stopped for 2 to 8 s": _slow_worker,
}
"""Faults that come at some moment of a run; those below are there when it begins."""
FAULTS = (*IN_A_RUN, "sample file damaged", "shard damaged", "disk full")


def run_with_fault(bench: Bench, seed: int, fault: str | None = None) -> Outcome:
    """One run, one fault; what came of it."""
    chance = random.Random(seed)
    fault = fault or FAULTS[seed % len(FAULTS)]
    outcome = Outcome(seed, fault, chance.randrange(bench.run_requests))
    begun = time.monotonic()
    bench.heal()
    if fault == "sample file damaged":
        _with_damaged_sample(bench, chance, outcome)
        outcome.struck = True
    elif fault == "shard damaged":
        _with_damaged_shard(bench, chance, outcome)
        outcome.struck = True
    elif fault == "disk full":
        _with_full_disk(bench, chance, outcome)
        outcome.struck = outcome.n_tries > 1
    else:
        _in_a_run(bench, chance, outcome)
    outcome.seconds = round(time.monotonic() - begun, 1)
    return outcome


def run_without_server(bench: Bench, places: list[str], seconds: float = 10) -> Outcome:
    """One run; from the first request for each of these places on, the server is away for a while."""
    outcome = Outcome(0, f"S3 server killed for {seconds:g} s", 0)
    bench.heal()

    def meanwhile(process: Any) -> None:
        for place in places:
            bench.proxy.until_request(place, process)
            bench.server.kill()
            time.sleep(seconds)
            bench.server.start()

    _until_done(bench, outcome, "s3://faults/away", False, meanwhile, lambda _: bench.heal())
    return outcome


def _in_a_run(bench: Bench, chance: random.Random, outcome: Outcome) -> None:
    output = f"s3://faults/out-{outcome.seed}"
    replacing = chance.random() < 0.5
    if replacing:
        copy_all("s3://faults/earlier", output)

    def meanwhile(process: Any) -> None:
        end = bench.proxy.n_requests + outcome.moment
        while process.is_alive() and bench.proxy.n_requests < end:
            process.join(0.02)
        process.join(chance.uniform(0, bench.run_time / 10))  # between two requests lies the work
        if process.is_alive():
            outcome.struck = True
            IN_A_RUN[outcome.fault](bench, chance, process)

    _until_done(bench, outcome, output, replacing, meanwhile, lambda _: bench.heal())


def _until_done(
    bench: Bench,
    outcome: Outcome,
    output: str,
    replacing: bool,
    meanwhile: Callable[[Any], None] | None,
    between: Callable[[int], None],
    source: str | None = None,
    expected: str | None = None,
) -> None:
    """Give the same command until it succeeds; look at what is there after each try."""
    arguments = ["run", source or bench.sheet, "--output", output, "--max-dist", "0.2"] + (
        ["--overwrite"] if replacing else []
    )
    for n in range(TRIES):
        ended = bench.attempt(arguments, meanwhile if n == 0 else None)
        outcome.n_tries += 1
        between(n)
        if ended.code is None:
            outcome.hung, outcome.unclear = True, ended.said[-6000:]
        if ended.code == 0 or (not replacing and storage.exists(storage.join(output, "run.json"))):
            outcome.finished = True  # also if it was killed between its last file and its end
            break
        outcome.said += ended.said.splitlines()[-1:]
        killed = outcome.fault == "client killed" and n == 0 and ended.code == -signal.SIGKILL
        if not (killed or ended.code is None) and not _is_clear(ended, expected if n == 0 else None):
            outcome.unclear = f"exit {ended.code}: {ended.said[-1500:]}"
        _look(bench, outcome, output, replacing)
    found = digests(output) if outcome.finished else {}
    right = {name: one for name, one in bench.right.items() if not (source and name.startswith("abundance.zarr"))}
    outcome.wrong = sorted(name for name in found.keys() | right.keys() if found.get(name) != right.get(name))
    if not outcome.finished:
        outcome.unclear = outcome.unclear or ended.said[-1500:]
        outcome.wrong = []
    elif not outcome.wrong:
        storage.remove(output)


def _is_clear(ended: Try, expected: str | None) -> bool:
    """Whether a command that failed did so with exit code 1 and one line, which says what it should."""
    lines = [line for line in ended.said.splitlines() if not line.startswith("Dask dashboard")]
    return ended.code == 1 and len(lines) == 1 and (expected is None or expected in lines[0])


def _look(bench: Bench, outcome: Outcome, output: str, replacing: bool) -> None:
    """After a try that failed: every store and every other file is absent, refused, the earlier or the right one."""
    for name in STORES:
        try:
            storage.open_dataset(storage.join(output, name)).load()
            found = _contents(storage.join(output, name))
        except CagdaskError:
            outcome.lost |= replacing
            continue
        outcome.partial |= found not in (_below(bench.earlier, name), _below(bench.right, name))
    there = digests(output, (*STORES, "run.json"))  # a killed client's last tasks may still be at their work
    for name in [name for name in bench.right if not name.startswith(STORES)]:
        outcome.lost |= replacing and name not in there
        outcome.partial |= name in there and there[name] not in (bench.earlier[name], bench.right[name])


STORES = ("abundance.zarr", "cags.zarr")


def _contents(store: str) -> dict[str, str]:
    """Digest of each file of a store, where its manifest says that the files are."""
    said = manifest.read(store)
    assert said is not None, store
    where = store if said.location is None else storage.join(storage.work_folder(store), said.location)
    found = digests(where)
    return {name: one for name, one in found.items() if name != manifest.NAME and name in said.files}


def _below(found: dict[str, str], store: str) -> dict[str, str]:
    start = f"{store}/"
    inside = {name.removeprefix(start): one for name, one in found.items() if name.startswith(start)}
    return {name: one for name, one in inside.items() if name != manifest.NAME}


def copy_all(source: str, target: str) -> None:
    """Copy a folder on S3."""
    for name in storage.list_files(source):
        storage.write_bytes(storage.join(target, name), storage.read_bytes(storage.join(source, name)))


def _with_damaged_sample(bench: Bench, chance: random.Random, outcome: Outcome) -> None:
    """A task that always fails: the sample is named, and the rest of the work is kept."""
    sheet = json.loads(storage.read_bytes(bench.sheet))
    sample = chance.choice(sorted(sheet))
    url = storage.join(storage.parent_of(bench.sheet), sheet[sample])
    whole = storage.read_bytes(url)
    storage.write_bytes(url, whole[: chance.randrange(1, len(whole) - 1)])
    try:
        output = f"s3://faults/out-{outcome.seed}"
        restore = lambda n: storage.write_bytes(url, whole)  # noqa: E731
        _until_done(bench, outcome, output, False, None, restore, expected=sample)
    finally:
        storage.write_bytes(url, whole)


def _with_damaged_shard(bench: Bench, chance: random.Random, outcome: Outcome) -> None:
    """A bit of a shard flips: it is named, nothing is published, and with the shard put back all is right."""
    store = "s3://faults/right/abundance.zarr"
    shard = f"{store}/abundance/c/0/0"
    whole = storage.read_bytes(shard)
    at = chance.randrange(len(whole))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << chance.randrange(8)
    storage.write_bytes(shard, bytes(damaged))
    try:
        output = f"s3://faults/out-{outcome.seed}"
        restore = lambda n: storage.write_bytes(shard, whole)  # noqa: E731
        _until_done(bench, outcome, output, False, None, restore, source=store, expected="abundance/c/0/0")
        if outcome.n_tries == 1:
            outcome.wrong.append("the damage was not noticed")
    finally:
        storage.write_bytes(shard, whole)


def _with_full_disk(bench: Bench, chance: random.Random, outcome: Outcome) -> None:
    """A local disk fills up; with room made, the same command ends well."""
    disk = bench.folder / f"disk-{outcome.seed}"
    disk.mkdir()
    size = chance.randrange(64, 900)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)], check=True)
    try:
        more = ["mount", "-o", "remount,size=2g", str(disk)]
        enlarge = lambda n: subprocess.run(more, check=True)  # noqa: E731
        _until_done(bench, outcome, str(disk / "out"), False, None, enlarge)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
