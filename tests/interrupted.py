"""Runs that a signal ends at a chosen instant, and what is left of them.

after the signal   the exit code of the signal, one line, no process, no lock, nothing in the temporary folder
in the end         the same command, given again, gives the bytes of a run that nothing interrupted

Starting a program takes ten times as long as clustering a small table. So most runs can be forks of one process that
has imported everything; the instants while a program starts are tried with programs.
"""

from __future__ import annotations

import atexit
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
END_SECONDS = 60
"""An ended run that is still there after these hangs."""
AGAIN_SECONDS = 600
"""The same of a run that nobody ends."""
PRELOAD = ["cagdask.cli", "cagdask.runs.pipeline", "cagdask.io.ingest", "cagdask.cags.stages", "zarr", "pandas"]

AT_EVENT = """
import os, signal, sys
number, at, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
del sys.argv[1:4]
seen = 0
published = False
def hook(event, arguments):
    global seen, published
    if not (event.startswith(("os.", "shutil.")) or event == "open"):
        return
    names = [a for a in arguments if isinstance(a, str) and a.startswith(output)]
    if not names:
        return
    published = published or (event == "os.rename" and names[-1] == output + "/abundance.zarr")
    if published:
        seen += 1
        if seen == at + 1:
            os.kill(os.getpid(), number)
sys.addaudithook(hook)
from cagdask.__main__ import main
try:
    main()
finally:
    if at < 0:
        print("events", seen)
"""
"""The command, that gets a signal at the n-th time it touches a file of the output after publishing the first store."""


@dataclass
class End:
    """How an interrupted run ended.

    Attributes
    ----------
    code, said
        Exit code and stderr.
    wrong
        What should not be: one line each.
    """

    code: int
    said: str
    wrong: list[str] = field(default_factory=list)


def _forked(arguments: list[str], log: str, temporary: str, at: tuple[int, int, str] | None) -> None:
    """A run in a fork; with ``at``, a signal, the number of an event and the output, as :data:`AT_EVENT` does it."""
    os.setsid()
    _heed_signals()
    for number, path in ((1, os.devnull), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stderr = open(2, "w", closefd=False)
    tempfile.tempdir = temporary
    sys.argv = ["cagdask", *arguments]
    try:
        if at is None:
            from cagdask.__main__ import main

            main()
        else:
            sys.argv[1:1] = [str(int(at[0])), str(at[1]), at[2]]
            exec(compile(AT_EVENT, "at event", "exec"), {"__name__": "at_event"})
    finally:
        for number in SIGNALS:  # what a program does at its end
            signal.signal(number, signal.SIG_DFL)
        atexit._run_exitfuncs()


class _Fork:
    """A forked run, with the few methods of a :class:`subprocess.Popen` that are needed here."""

    def __init__(self, arguments: list[str], folder: Path, at: tuple[int, int, str] | None) -> None:
        self.log = folder / "forked.log"
        self.log.unlink(missing_ok=True)
        context = multiprocessing.get_context("forkserver")
        target = (arguments, str(self.log), str(folder / "tmp"), at)
        self.process = context.Process(target=_forked, args=target)
        self.process.start()
        self.pid = int(self.process.pid or 0)
        while not self.log.exists() and self.process.is_alive():
            time.sleep(0.001)

    @property
    def returncode(self) -> int:
        return int(self.process.exitcode or 0)

    def wait(self, timeout: float) -> None:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("run", timeout)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("run", timeout or 0)
        return "", self.log.read_text() if self.log.exists() else ""


def digests(folder: Path) -> dict[str, str]:
    """Digest of each file but ``run.json``, which holds times."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def members(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            state, _, _, its_session = stat.read_text().rsplit(")", 1)[1].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def _heed_signals() -> None:
    """Background jobs of a shell ignore SIGINT, what nohup started ignores SIGHUP, and so would their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@dataclass
class Bench:
    """A table to cluster, and the bytes of a run without signals.

    Attributes
    ----------
    folder
        Holds everything.
    options
        Further options of ``cagdask run``.
    n_genes, n_samples
        Of the table.
    fork
        Whether runs that are ended after they have begun are forks, and make no report.
    """

    folder: Path
    options: tuple[str, ...] = ()
    n_genes: int = 200
    n_samples: int = 8
    fork: bool = False

    def __post_init__(self) -> None:
        from cagdask.simulation.writing import simulate

        (self.folder / "tmp").mkdir(parents=True)
        simulate(str(self.folder / "in"), n_genes=self.n_genes, n_samples=self.n_samples, seed=1)
        self.sheet = str(self.folder / "in" / "sample_sheet.json")
        self.environment = os.environ | {"TMPDIR": str(self.folder / "tmp"), "PYTHONUNBUFFERED": "1"}
        if self.fork:
            multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
        self.finished(self.folder / "first")  # which may compile
        begun = time.monotonic()
        assert self.finished(self.folder / "right") == ""
        self.run_seconds = time.monotonic() - begun
        self.right = digests(self.folder / "right")

    def arguments(self, output: Path) -> list[str]:
        command = "cluster" if self.fork else "run"
        options = ["--max-dist", "0.2", "--no-progress", *self.options]
        return [command, self.sheet, "--output", str(output), *options]

    def finished(self, output: Path) -> str:
        """Run it without a signal; what it said if it failed."""
        if self.fork:
            process = _Fork(self.arguments(output), self.folder, None)
            _, said = process.communicate(AGAIN_SECONDS)
            return said if process.returncode else ""
        command = [sys.executable, "-m", "cagdask", *self.arguments(output)]
        ended = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=AGAIN_SECONDS
        )
        return ended.stderr if ended.returncode else ""

    def n_events(self) -> int:
        """Times that a run touches its output after it published the first store."""
        output = self.folder / "counted"
        command = [sys.executable, "-c", AT_EVENT, "0", "-1", str(output), *self.arguments(output)]
        ended = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return int(ended.stdout.split()[-1])

    def at_event(self, number: int, at: int, output: Path) -> End:
        """A run that gets a signal at one of these."""
        if self.fork:
            process: Any = _Fork(self.arguments(output), self.folder, (number, at, str(output)))
        else:
            where = (str(int(number)), str(at), str(output))
            process = self._program([sys.executable, "-c", AT_EVENT, *where, *self.arguments(output)])
        return self._interrupted(process, number, None, whole_group=False)

    def after(self, number: int, seconds: float, output: Path, *, whole_group: bool, as_program: bool = False) -> End:
        """A run that gets a signal after some time, alone or with all its processes, as from a terminal."""
        if self.fork and not as_program:
            process: Any = _Fork(self.arguments(output), self.folder, None)
        else:
            process = self._program([sys.executable, "-m", "cagdask", *self.arguments(output)])
        return self._interrupted(process, number, seconds, whole_group=whole_group)

    def _program(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_signals,
        )

    def _interrupted(self, process: Any, number: int, seconds: float | None, *, whole_group: bool) -> End:
        if seconds is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            with suppress(ProcessLookupError):
                (os.killpg if whole_group else os.kill)(process.pid, number)
        wrong = []
        try:
            _, said = process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            wrong.append("it hangs")
        end = End(process.returncode, said, wrong)
        until = time.monotonic() + 3
        while members(process.pid) and time.monotonic() < until:  # helpers of Python end a moment later
            time.sleep(0.05)
        for left in members(process.pid):
            end.wrong.append(f"process {left} is left")
            os.kill(left, signal.SIGKILL)
        return end

    def check(self, end: End, number: int, output: Path, *, in_start: bool = False) -> list[str]:
        """What is wrong after a signal and with the same command given again; nothing, if all is well."""
        wrong = list(end.wrong)
        # before Python has run a line of ours
        before_python = in_start and (end.code == -number or (end.code == 1 and "cagdask" not in end.said))
        if end.code not in (0, 128 + number) and not before_python:
            wrong.append(f"exit code {end.code}: {end.said}")
        lines = end.said.splitlines()
        if not before_python and (len(lines) > 1 or "Traceback" in end.said):
            wrong.append(f"{len(lines)} lines: {end.said[-3000:]}")
        temporary = self.folder / "tmp"
        wrong += [f"{path.name} is left in the temporary folder" for path in temporary.iterdir()]
        there = list(output.rglob("*")) if output.exists() else []
        wrong += [f"{path.name} is left" for path in there if path.name.endswith(".lock")]
        finished = (output / "run.json").exists() and not (output / "run.json.partial").exists()
        if not finished:
            try:
                failed = self.finished(output)
            except subprocess.TimeoutExpired:
                failed = "it hangs"
            if failed:
                return [*wrong, f"the same command: {failed}"]
        found = digests(output)
        wrong += sorted(f"{name} differs" for name in found.keys() ^ self.right.keys())
        return wrong + [
            f"{name} differs" for name in found.keys() & self.right.keys() if found[name] != self.right[name]
        ]


def by_seed(bench: Bench, seed: int, n_events: int) -> tuple[str, list[str]]:
    """One run with a signal at an instant that a seed chose: anywhere, in the last second, at a touch of a file."""
    chance = random.Random(seed)
    number = SIGNALS[seed % len(SIGNALS)]
    kind = ("anywhere", "start", "last second", "event")[seed // len(SIGNALS) % 4]
    output = bench.folder / f"out-{seed}"
    if kind == "event":
        at = chance.randrange(n_events)
        end = bench.at_event(number, at, output)
        told = f"{number.name} at event {at}"
    else:
        low, high = {
            "anywhere": (0.0, bench.run_seconds),
            "start": (0.0, 1.5),
            "last second": (max(0.0, bench.run_seconds - 1), bench.run_seconds),
        }[kind]
        seconds = chance.uniform(low, high)
        whole_group = chance.random() < 0.5
        end = bench.after(number, seconds, output, whole_group=whole_group, as_program=kind == "start")
        told = f"{number.name} after {seconds:.2f} s, {'all processes' if whole_group else 'one process'}"
    return f"{told}: exit {end.code}", bench.check(end, number, output, in_start=kind != "event")
