"""A Dask scheduler and workers as processes of their own, started by the commands that people type."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Files of one certificate and of the authority that signed it."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def flags(self) -> list[str]:
        return ["--tls-ca-file", str(self.authority), "--tls-cert", str(self.certificate), "--tls-key", str(self.key)]


def make_certificate(folder: Path) -> Certificate:
    """An authority of its own, and a certificate for this machine that it signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)

    def signed(name: str, issuer: str, key: object, by: object, extension: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(days=1),
        )
        return builder.add_extension(extension, critical=False).sign(by, hashes.SHA256())

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = "cagdask test authority"
    authority = signed(issuer, issuer, authority_key, authority_key, x509.BasicConstraints(ca=True, path_length=None))
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = signed("localhost", issuer, key, authority_key, local)
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    made = Certificate(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    made.authority.write_bytes(authority.public_bytes(pem))
    made.certificate.write_bytes(certificate.public_bytes(pem))
    made.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return made


@dataclass
class DaskProcesses:
    """A scheduler and workers.

    Attributes
    ----------
    folder
        For the scheduler file, logs and the workers' scratch space.
    environment
        Added to that of this process.
    certificate
        None for plain TCP.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    certificate: Certificate | None = None
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def scheduler_file(self) -> Path:
        return self.folder / "scheduler.json"

    @property
    def address(self) -> str:
        return str(json.loads(self.scheduler_file.read_text())["address"])

    def start(self, n_workers: int = 2) -> None:
        """Start a scheduler, and workers if they are not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scheduler_file.unlink(missing_ok=True)
        where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.scheduler_file)]
        protocol = ["--protocol", "tls"] if self.certificate else []
        self.scheduler = self._run("scheduler", *where, *protocol)
        end = time.monotonic() + 180
        while not self.scheduler_file.exists() or not self.scheduler_file.read_text().strip():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            assert self.scheduler.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        for _ in range(n_workers):
            self.start_worker()

    def start_worker(self) -> None:
        options = ["--nthreads", "1", "--memory-limit", "2GiB", "--no-dashboard", "--no-nanny", "--death-timeout", "60"]
        scratch = ["--local-directory", str(self.folder)]
        self.workers.append(self._run("worker", self.address, *options, *scratch))

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        flags = self.certificate.flags if self.certificate else []
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, *flags],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End all of them at once."""
        for process in [*self.workers, *([self.scheduler] if self.scheduler else [])]:
            kill(process)
        self.workers, self.scheduler = [], None


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, as a crash would."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
