"""What S3 servers, proxies and networks answer when something is wrong: one line, its cause and the remedy, soon."""

from __future__ import annotations

import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cagdask import storage
from cagdask.errors import StoreError
from cagdask.storage import s3_settings
from cagdask.storage.s3_settings import BACKEND
from tests.dask_processes import Certificate, make_certificate

LISTING = b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
NAMES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_CONFIG_FILE")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Answering = self.server  # type: ignore[assignment]
        server.n_requests += 1
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(server.body)

    do_HEAD = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class Answering(ThreadingHTTPServer):
    """A server that answers everything alike."""

    daemon_threads = True

    def __init__(self, status: int, body: bytes, certificate: Certificate | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.n_requests = status, body, 0
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"


Serve = Callable[..., Answering]


@pytest.fixture(params=["obstore", pytest.param("s3fs", marks=pytest.mark.slow)])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Makes servers; the environment has keys, and no other server. With each library that makes requests."""
    monkeypatch.setenv(BACKEND, str(request.param))
    for name in (*NAMES, *PROXIES, *(name.lower() for name in PROXIES)):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "a-secret"), ("AWS_REGION", "x-1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    made: list[Answering] = []

    def make(status: int = 200, body: bytes = LISTING, certificate: Certificate | None = None) -> Answering:
        made.append(Answering(status, body, certificate))
        monkeypatch.setenv("AWS_ENDPOINT_URL", made[-1].url)
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


def refusal(url: str = "s3://b/x") -> str:
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        storage.check_reach(url)
    assert time.monotonic() - begun < 40  # about 12 s on a machine that does nothing else
    assert "\n" not in str(caught.value)
    assert "a-secret" not in str(caught.value)
    return str(caught.value)


def xml(code: str, message: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


# -- what a server says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            403,
            xml("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
            ["the clock of this machine differs", "The difference between the request time", "Set the clock"],
        ),
        (
            403,
            xml("InvalidObjectState", "The operation is not valid for the object's storage class"),
            ["in an archive", "storage class", "Restore it"],
        ),
        (
            403,
            xml("AccessDenied", "Access denied: the bucket is a Requester Pays bucket"),
            ["Requester Pays bucket", "request_payer=true"],
        ),
        (403, xml("AccessDenied", "An explicit deny in a policy"), ["An explicit deny in a policy", "ListBucket"]),
        (501, xml("NotImplemented", "This API is not supported"), ["can not do what is asked", "This API is not"]),
        (403, b"<html><body>Please log in</body></html>", ["sends a web page", "status 403", "HTTPS_PROXY"]),
        (200, b"<!DOCTYPE html><html><body>Welcome to the hotel</body></html>", ["sends a web page", "status 200"]),
        (418, xml("Teapot", "Short and stout"), ["418 Teapot: Short and stout"]),
        (404, xml("NoSuchBucket", "none"), ["there is no bucket 'b'"]),
        (301, xml("PermanentRedirect", "Use another endpoint"), ["another region"]),
    ],
)
def test_the_reason_of_the_server_and_the_remedy_are_told(
    serve: Serve, status: int, body: bytes, words: list[str]
) -> None:
    if status == 301 and os.environ[BACKEND] == "s3fs":
        pytest.skip("botocore looks for the region by itself, as long as the server sends it elsewhere")
    serve(status, body)
    said = refusal()
    for word in words:
        assert word in said
    assert "no answer" not in said


def test_an_answer_of_head_is_asked_for_again_to_have_its_reason(serve: Serve) -> None:
    serve(403, xml("RequestTimeTooSkewed", "too large"))
    with pytest.raises(StoreError, match="the clock of this machine differs"):
        storage.exists("s3://b/x")


# -- no answer -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_not_there_is_asked_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    assert f"nothing listens at 127.0.0.1, port {port}" in refusal()
    with closing(socket.socket()) as listener:  # from now on somebody is there, and would notice
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(8)
        for look in (storage.exists, storage.read_json, storage.check_reach):
            with pytest.raises(StoreError, match="nothing listens"):
                look("s3://b/x")
        assert not any(" /b" in request for request in arrived(listener)), "it was asked again"


def arrived(listener: socket.socket) -> list[str]:
    """The first lines of what has come; others may knock here, too, whose server had this port before."""
    found = []
    while select.select([listener], [], [], 0)[0]:
        with closing(listener.accept()[0]) as connection:
            connection.settimeout(1)
            with suppress(OSError):
                found.append(connection.recv(1024).decode(errors="replace").split("\r\n")[0])
    return found


def test_a_name_that_nobody_has(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-machine.invalid:9000")
    assert "there is no machine named 'no-such-machine.invalid'" in refusal()


def test_a_server_that_says_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "took the connection and says nothing" in refusal()


def test_tls_to_a_plain_port_and_the_other_way_round(
    serve: Serve, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = serve()
    monkeypatch.setenv("AWS_ENDPOINT_URL", plain.url.replace("http:", "https:"))
    assert "it does not speak TLS at this port. Write the address with http://" in refusal()
    secure = serve(certificate=certificate)
    monkeypatch.setenv("AWS_ENDPOINT_URL", secure.url.replace("https:", "http:"))
    assert "it does not speak plain HTTP at this port. Write the address with https://" in refusal()


def test_a_certificate_is_trusted_once_its_authority_is_named(
    serve: Serve, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(certificate=certificate)
    said = refusal()
    assert "its certificate is not trusted" in said
    assert "AWS_CA_BUNDLE" in said
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.authority))
    storage.check_reach("s3://b/x")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.authority) + ".none")
    assert "can not be read" in refusal()


def test_a_dead_proxy_is_named_without_its_password(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    serve()
    port = free_port()
    monkeypatch.setenv("HTTP_PROXY", f"http://me:a-secret@127.0.0.1:{port}")
    monkeypatch.setenv("http_proxy", f"http://me:a-secret@127.0.0.1:{port}")
    said = refusal()
    assert f"the proxy 127.0.0.1:{port} can not be used" in said
    assert "NO_PROXY" in said


@pytest.mark.parametrize("command", ["info", "run", "ingest", "cluster"])
def test_every_command_gives_up_soon(serve: Serve, toy_sheet: Path, tmp_path: Path, command: str) -> None:
    url = "s3://b/x"
    arguments = {
        "info": [url],
        "run": [str(toy_sheet), "--output", url],
        "ingest": [f"{url}.tsv", "--store", str(tmp_path / "a.zarr")],
        "cluster": [f"{url}.zarr", "--output", str(tmp_path / "out")],
    }[command]
    environment = os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "cagdask", command, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "nothing listens" in ended.stderr
    assert time.monotonic() - begun < 45, "one look of 10 s, and the start of Python on a busy machine"


# -- the configuration of the AWS tools ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("[default]\nendpoint_url = URL\n", None),
        ("[profile lab]\nendpoint_url = URL\n", "lab"),
        (
            "[default]\nservices = here\nendpoint_url = http://127.0.0.1:1\n\n[services here]\ns3 =\n"
            "  endpoint_url = URL\n",
            None,
        ),
    ],
)
def test_the_configured_server_is_asked_with_keys_of_the_environment(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, profile: str | None
) -> None:
    server = serve()
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    config = tmp_path / "config"
    config.write_text(text.replace("URL", server.url))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    storage.check_reach("s3://b/x")
    assert server.n_requests > 0
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert s3_settings.setting().endpoint is None
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    assert s3_settings.setting().endpoint == "http://127.0.0.1:2"


def test_a_configuration_that_can_not_be_read_is_one_line(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("no section\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert "the AWS configuration can not be used" in refusal()
