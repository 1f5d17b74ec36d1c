"""Runs that a signal ends at a chosen instant, and what is left of them.

after the signal   the exit code of the signal, one line, no process, no lock, nothing in the temporary folder
in the end         the same command, given again, gives the bytes of a run that nothing interrupted
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
END_SECONDS = 60
"""An ended run that is still there after these hangs."""

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
    """

    folder: Path
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from cagdask.simulation.writing import simulate

        (self.folder / "tmp").mkdir(parents=True)
        simulate(str(self.folder / "in"), n_genes=200, n_samples=8, seed=1)
        self.sheet = str(self.folder / "in" / "sample_sheet.json")
        self.environment = os.environ | {"TMPDIR": str(self.folder / "tmp"), "PYTHONUNBUFFERED": "1"}
        self._finished(self.arguments(self.folder / "first"))  # which may compile
        begun = time.monotonic()
        self._finished(self.arguments(self.folder / "right"))
        self.run_seconds = time.monotonic() - begun
        self.right = digests(self.folder / "right")

    def arguments(self, output: Path) -> list[str]:
        return ["run", self.sheet, "--output", str(output), "--no-progress", *self.options]

    def _finished(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cagdask", *arguments]
        ended = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended

    def n_events(self) -> int:
        """Times that a run touches its output after it published the first store."""
        output = self.folder / "counted"
        command = [sys.executable, "-c", AT_EVENT, "0", "-1", str(output), *self.arguments(output)]
        ended = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return int(ended.stdout.split()[-1])

    def at_event(self, number: int, at: int, output: Path) -> End:
        """A run that gets a signal at one of these."""
        command = [sys.executable, "-c", AT_EVENT, str(number), str(at), str(output), *self.arguments(output)]
        return self._interrupted(command, number, None, whole_group=False)

    def after(self, number: int, seconds: float, output: Path, *, whole_group: bool) -> End:
        """A run that gets a signal after some time, alone or with all its processes, as from a terminal."""
        command = [sys.executable, "-m", "cagdask", *self.arguments(output)]
        return self._interrupted(command, number, seconds, whole_group=whole_group)

    def _interrupted(self, command: list[str], number: int, seconds: float | None, *, whole_group: bool) -> End:
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_signals,
        )
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
        before_python = in_start and end.code == -number  # before Python has run a line of ours
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
            command = [sys.executable, "-m", "cagdask", *self.arguments(output)]
            again = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            if again.returncode:
                return [*wrong, f"the same command: {again.stderr}"]
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
            "start": (0.0, min(1.5, bench.run_seconds)),
            "last second": (max(0.0, bench.run_seconds - 1), bench.run_seconds),
        }[kind]
        seconds = chance.uniform(low, high)
        whole_group = chance.random() < 0.5
        end = bench.after(number, seconds, output, whole_group=whole_group)
        told = f"{number.name} after {seconds:.2f} s, {'all processes' if whole_group else 'one process'}"
    return f"{told}: exit {end.code}", bench.check(end, number, output, in_start=kind != "event")
