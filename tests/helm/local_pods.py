"""Containers of rendered pods as processes of this machine: what they run and read is what the manifests say.

Only what a cluster would give is given here: names of services are loopback addresses, container ports are free ports,
and each volume is a folder.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helm.rendering import ROOT, Manifest, command

PORT = re.compile(r"(?<!\d)(878[6-9]|8790)(?!\d)")
"""The container ports of the chart."""


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalPods:
    """Runs containers, and ends them with the block."""

    def __init__(self, folder: Path, tls: Path, mounts: dict[str, Path] | None = None) -> None:
        self.folder, self.tls, self.mounts = folder, tls, mounts or {}
        self.services: dict[str, int] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, dict[int, int]] = {}

    def __enter__(self) -> LocalPods:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def serve(self, service: str, pod: str) -> None:
        """Let a service's name lead to a pod's comm port."""
        self.services[service] = self._ports(pod)[8786]

    def start(self, pod: str, container: Manifest) -> subprocess.Popen[bytes]:
        """Start a container of a pod."""
        root = self.folder / pod
        root.mkdir(exist_ok=True)
        with open(self.log(pod), "ab") as log:
            process = subprocess.Popen(
                self.arguments(pod, container),
                env=self.environment(pod, container),
                cwd=root,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes[f"{pod}/{container['name']}"] = process
        return process

    def run(self, pod: str, container: Manifest, timeout: float = 1200) -> int:
        """Run a container to its end: its exit code."""
        return self.start(pod, container).wait(timeout)

    def log(self, pod: str) -> Path:
        """What the pod's containers have said."""
        return self.folder / f"{pod}.log"

    def said(self, pod: str) -> str:
        """All of it, as text."""
        return self.log(pod).read_text(errors="replace")

    def arguments(self, pod: str, container: Manifest) -> list[str]:
        """The command, with this machine's places in it."""
        env = self._declared(pod, container)
        words = [re.sub(r"\$\((\w+)\)", lambda match: env[match[1]], word) for word in command(container)]
        program, *rest = [self._here(pod, word) for word in words]
        return [str(Path(sys.executable).parent / program), *rest]

    def environment(self, pod: str, container: Manifest) -> dict[str, str]:
        """The declared variables and the little that an image brings."""
        made = {name: self._here(pod, value) for name, value in self._declared(pod, container).items()}
        made.pop("NUMBA_CACHE_DIR", None)  # that of the tests: compiling all kernels takes a minute in every worker
        own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        for source in container.get("envFrom", []):
            own |= self.secrets[source["secretRef"]["name"]]
        return own | {name: os.environ[name] for name in ("OPENBLAS_CORETYPE",) if name in os.environ} | made

    def probe(self, pod: str, container: Manifest, path: str = "/health", **headers: str) -> int:
        """Status that the container's http port answers with; 0 for no answer."""
        (port,) = [one["containerPort"] for one in container["ports"] if one["name"] == "http"]
        request = urllib.request.Request(f"http://127.0.0.1:{self._ports(pod)[port]}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as err:
            return int(err.code)
        except OSError:
            return 0

    def until_ready(self, pod: str, container: Manifest, timeout: float = 240) -> None:
        """Wait for the readiness probe of a container."""
        path = container["readinessProbe"]["httpGet"]["path"]
        wait_until(lambda: self.probe(pod, container, path) == 200, timeout, lambda: self.said(pod))

    def address(self, service: str) -> str:
        """Where a service is here."""
        return f"127.0.0.1:{self.services[service]}"

    def _ports(self, pod: str) -> dict[int, int]:
        if pod not in self.ports:
            self.ports[pod] = {port: free_port() for port in (8786, 8787, 8788, 8789, 8790)}
        return self.ports[pod]

    def _declared(self, pod: str, container: Manifest) -> dict[str, str]:
        fields = {"metadata.name": pod}
        found: dict[str, Any] = {}
        for entry in container.get("env", []):
            source = entry.get("valueFrom")
            found[entry["name"]] = fields[source["fieldRef"]["fieldPath"]] if source else entry["value"]
        return found

    def _here(self, pod: str, word: str) -> str:
        places = {"/tmp": self.folder / pod, "/etc/cagdask/tls": self.tls, "/opt/cagdask": ROOT / "scripts"}
        for mount, place in (places | self.mounts).items():
            if word == mount or word.startswith(f"{mount}/"):
                return f"{place}{word.removeprefix(mount)}"
        for service, port in self.services.items():
            word = re.sub(rf"\b{service}:8786\b", f"127.0.0.1:{port}", word)
        if PORT.fullmatch(word.removeprefix(":")):
            port = self._ports(pod)[int(word.removeprefix(":"))]
            return f"127.0.0.1:{port}" if word.startswith(":") else str(port)
        return word


def wait_until(reached: Callable[[], bool], timeout: float, explain: Callable[[], str]) -> None:
    """Return once something is so; fail with an explanation if it takes too long."""
    deadline = time.monotonic() + timeout
    while not reached():
        assert time.monotonic() < deadline, explain()[-3000:]
        time.sleep(0.2)
