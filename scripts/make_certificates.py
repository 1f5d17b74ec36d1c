#!/usr/bin/env python3
"""Make the certificates that a Dask cluster, and nobody else, speaks TLS with.

    scripts/make_certificates.py --folder certificates
    scripts/make_certificates.py --secret cags-tls --name cags-scheduler --name cags-scheduler.default.svc

A new authority signs one certificate, for scheduler, workers and client alike, and its key is thrown away: whoever has
no copy of these three files can not join the cluster, and no further certificate can be made.

    ca.crt    the authority; what a peer's certificate is checked with
    tls.crt   the certificate of this cluster
    tls.key   its key

The names are those of a Kubernetes TLS Secret. With ``--secret`` the files go to such a Secret, by the account of the
pod that this runs in: the chart's hook. What is there and still good is kept, so that an upgrade changes nothing.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CLOCK_SKEW = timedelta(hours=1)
"""Certificates are good from a bit before now: not every machine's clock is right."""


# -- certificates ----------------------------------------------------------------------------------------------------


def make_certificates(names: tuple[str, ...], days: int) -> dict[str, bytes]:
    """The three files, by name."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _builder("cagdask authority", "cagdask authority", authority_key, days)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    authority = authority.add_extension(_usage(signs=True), critical=True)
    certificate = _builder("cagdask", "cagdask authority", key, days)
    certificate = certificate.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    certificate = certificate.add_extension(_usage(signs=False), critical=True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = certificate.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    certificate = certificate.add_extension(
        x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    signed = {
        CA: authority.add_extension(identifier, critical=False).sign(authority_key, hashes.SHA256()),
        CERTIFICATE: certificate.add_extension(issued_by, critical=False).sign(authority_key, hashes.SHA256()),
    }
    files = {name: one.public_bytes(serialization.Encoding.PEM) for name, one in signed.items()}
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return files | {KEY: key.private_bytes(*encoding)}


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def good_until(files: dict[str, bytes]) -> datetime | None:
    """When certificates expire; None if they are not whole or do not belong together."""
    try:
        authority = x509.load_pem_x509_certificate(files[CA])
        certificate = x509.load_pem_x509_certificate(files[CERTIFICATE])
        key = serialization.load_pem_private_key(files[KEY], password=None)
        certificate.verify_directly_issued_by(authority)
    except (KeyError, ValueError, TypeError, InvalidSignature):
        return None
    if key.public_key() != certificate.public_key():
        return None
    return min(authority.not_valid_after_utc, certificate.not_valid_after_utc)


# -- where they go ---------------------------------------------------------------------------------------------------


class Folder:
    """Certificates as files of a folder that only their owner may read."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def read(self) -> dict[str, bytes]:
        """What is there."""
        return {name: (self.path / name).read_bytes() for name in (CA, CERTIFICATE, KEY) if (self.path / name).exists()}

    def write(self, files: dict[str, bytes]) -> None:
        """Put the files there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            target = self.path / name
            target.unlink(missing_ok=True)
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                handle.write(content)

    def delete(self) -> None:
        """Remove the files."""
        for name in (CA, CERTIFICATE, KEY):
            (self.path / name).unlink(missing_ok=True)


class Secret:
    """Certificates in a Kubernetes Secret, reached by the account of the pod that this runs in."""

    def __init__(self, name: str, account: Path) -> None:
        self.name = name
        namespace = (account / "namespace").read_text().strip()
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        host = f"[{host}]" if ":" in host else host
        self.url = f"https://{host}:{port}/api/v1/namespaces/{namespace}/secrets"
        self.token = (account / "token").read_text().strip()
        self.context = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def read(self) -> dict[str, bytes]:
        """What is there."""
        found = self._ask("GET", f"{self.url}/{self.name}") or {}
        return {name: base64.b64decode(content) for name, content in (found.get("data") or {}).items()}

    def write(self, files: dict[str, bytes]) -> None:
        """Make the Secret, or replace what is in it."""
        data = {name: base64.b64encode(content).decode() for name, content in files.items()}
        if self._ask("GET", f"{self.url}/{self.name}") is not None:
            self._ask("PATCH", f"{self.url}/{self.name}", {"data": data})
            return
        labels = {"app.kubernetes.io/managed-by": "cagdask"}
        metadata = {"name": self.name, "labels": labels}
        self._ask(
            "POST",
            self.url,
            {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data},
        )

    def delete(self) -> None:
        """Remove the Secret; none there is no error."""
        self._ask("DELETE", f"{self.url}/{self.name}")

    def _ask(self, method: str, url: str, content: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The server's answer; None for what is not there."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json", "Content-Type": kind}
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as err:
            if err.code == 404 and method in ("GET", "DELETE"):
                return None
            raise click.ClickException(f"{method} of the Secret {self.name} is refused: {_reason(err)}") from err
        except OSError as err:
            raise click.ClickException(f"the Kubernetes API server does not answer: {err}") from err


def _reason(err: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(err)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{err.code} {err.reason}"


# -- command ---------------------------------------------------------------------------------------------------------


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--folder", metavar="FOLDER", help="Write the files here.")
@click.option("--secret", metavar="NAME", help="Put them into this Kubernetes Secret, from within a pod.")
@click.option("--name", "names", multiple=True, default=("localhost",), help="Host name or address to certify; repeat.")
@click.option("--days", type=click.IntRange(min=1), default=365, show_default=True, help="Days they are good for.")
@click.option(
    "--renew-days",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="Keep what is there if it is good for so many days more.",
)
@click.option("--delete", is_flag=True, help="Remove them instead.")
@click.option("--account", type=click.Path(path_type=Path), default=ACCOUNT, hidden=True)
def main(
    folder: str | None,
    secret: str | None,
    names: tuple[str, ...],
    days: int,
    renew_days: int,
    delete: bool,
    account: Path,
) -> None:
    """Make, keep or remove certificates."""
    if (folder is None) == (secret is None):
        raise click.UsageError("give one of --folder and --secret.")
    where = f"folder {folder}" if folder else f"Secret {secret}"
    try:
        target: Folder | Secret = Folder(folder) if folder else Secret(str(secret), account)
    except (OSError, KeyError) as err:
        raise click.ClickException(f"--secret works in a Kubernetes pod with a service account only ({err}).") from err
    if delete:
        target.delete()
        click.echo(f"{where}: certificates removed")
        return
    until = good_until(target.read())
    if until is not None and until > datetime.now(UTC) + timedelta(days=renew_days):
        click.echo(f"{where}: certificates kept, good until {until:%Y-%m-%d}")
        return
    files = make_certificates(names, days)
    target.write(files)
    click.echo(f"{where}: certificates made, good until {good_until(files):%Y-%m-%d}")


if __name__ == "__main__":
    main()
