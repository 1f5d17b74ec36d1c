"""Certificates of a cluster: good ones are kept, bad ones replaced, in a folder or a Kubernetes Secret."""

from __future__ import annotations

import base64
import importlib.util
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from tests.helm.api_server import ApiServer

ROOT = Path(__file__).parents[3]
FILES = {"ca.crt", "tls.crt", "tls.key"}


def load_script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


script = load_script("make_certificates")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(script.main, list(arguments))


def test_a_folder_gets_three_files_that_only_their_owner_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    ended = run("--folder", str(folder), "--days", "10", "--name", "host.example.org", "--name", "10.0.0.7")
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in folder.iterdir()} == FILES
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    until = script.good_until(script.Folder(str(folder)).read())
    assert abs(until - datetime.now(UTC) - timedelta(days=10)) < timedelta(minutes=5)
    assert f"{until:%Y-%m-%d}" in ended.output


def test_openssl_takes_them_for_both_ends(tmp_path: Path) -> None:
    run("--folder", str(tmp_path / "one"), "--name", "host.example.org")
    run("--folder", str(tmp_path / "other"))
    assert handshake(tmp_path / "one", tmp_path / "one") is None
    assert handshake(tmp_path / "one", tmp_path / "other") is not None


def handshake(server: Path, client: Path) -> str | None:
    """Why client and server, each asking the other for a certificate, do not come together."""
    ends = []
    for folder, purpose in ((server, ssl.Purpose.CLIENT_AUTH), (client, ssl.Purpose.SERVER_AUTH)):
        context = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        ends.append(context)
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    sockets = [
        ends[0].wrap_bio(wires[0], wires[1], server_side=True),
        ends[1].wrap_bio(wires[1], wires[0], server_hostname="host.example.org"),
    ]
    try:
        for _ in range(4):
            for end in reversed(sockets):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    pass
    except ssl.SSLError as err:
        return str(err)
    return None


def test_the_key_of_the_authority_is_not_kept(tmp_path: Path) -> None:
    run("--folder", str(tmp_path))
    assert b"".join((tmp_path / name).read_bytes() for name in FILES).count(b"PRIVATE KEY-----") == 2  # begin, end


def test_good_ones_are_kept_and_expiring_ones_replaced(tmp_path: Path) -> None:
    run("--folder", str(tmp_path), "--days", "40")
    before = script.Folder(str(tmp_path)).read()
    assert "kept" in run("--folder", str(tmp_path)).output
    assert script.Folder(str(tmp_path)).read() == before
    assert "made" in run("--folder", str(tmp_path), "--renew-days", "50").output
    after = script.Folder(str(tmp_path)).read()
    assert all(after[name] != before[name] for name in FILES)


@pytest.mark.parametrize("damage", ["missing", "garbage", "of another authority", "another key"])
def test_bad_ones_are_replaced(tmp_path: Path, damage: str) -> None:
    run("--folder", str(tmp_path))
    other = script.make_certificates(("localhost",), 365)
    if damage == "missing":
        (tmp_path / "tls.key").unlink()
    elif damage == "garbage":
        (tmp_path / "tls.crt").write_text("no certificate")
    elif damage == "of another authority":
        (tmp_path / "ca.crt").write_bytes(other["ca.crt"])
    else:
        (tmp_path / "tls.key").write_bytes(other["tls.key"])
    assert script.good_until(script.Folder(str(tmp_path)).read()) is None
    assert "made" in run("--folder", str(tmp_path)).output
    assert script.good_until(script.Folder(str(tmp_path)).read()) is not None


def test_they_can_be_removed(tmp_path: Path) -> None:
    run("--folder", str(tmp_path))
    assert run("--folder", str(tmp_path), "--delete").exit_code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("--folder", "a", "--secret", "b")])
def test_one_place_must_be_named(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert "one of --folder and --secret" in ended.output


# -- in a Secret -----------------------------------------------------------------------------------------------------


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    folder = tmp_path / "api"
    folder.mkdir()
    with ApiServer(folder, script.make_certificates(("127.0.0.1",), 1), "science") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def in_pod(api: ApiServer, *arguments: str) -> Result:
    return run("--secret", "cags-tls", "--account", str(api.account), *arguments)


def stored(api: ApiServer) -> dict[str, bytes]:
    return {name: base64.b64decode(content) for name, content in api.secrets["cags-tls"]["data"].items()}


def test_a_secret_is_made_kept_renewed_and_removed(api: ApiServer) -> None:
    assert "made" in in_pod(api).output
    secret = api.secrets["cags-tls"]
    assert secret["type"] == "kubernetes.io/tls"
    assert set(secret["data"]) == FILES
    first = stored(api)
    assert script.good_until(first) is not None
    assert "kept" in in_pod(api).output
    assert stored(api) == first
    assert "made" in in_pod(api, "--renew-days", "400").output
    assert stored(api) != first
    assert "removed" in in_pod(api, "--delete").output
    assert api.secrets == {}
    assert in_pod(api, "--delete").exit_code == 0, "none there is no error"
    assert "POST " in api.requests
    assert "PATCH /cags-tls" in api.requests


def test_what_the_server_refuses_is_one_line(api: ApiServer) -> None:
    api.forbidden = {"POST"}
    ended = in_pod(api)
    assert ended.exit_code == 1
    assert ended.output.strip() == (
        'Error: POST of the Secret cags-tls is refused: secrets "" is forbidden: User can not post'
    )


def test_a_server_with_another_certificate_gets_no_token(api: ApiServer) -> None:
    (api.account / "ca.crt").write_bytes(script.make_certificates(("127.0.0.1",), 1)["ca.crt"])
    ended = in_pod(api)
    assert ended.exit_code == 1
    assert "does not answer" in ended.output
    assert api.requests == []


def test_outside_a_pod_a_secret_can_not_be_reached(tmp_path: Path) -> None:
    ended = run("--secret", "cags-tls", "--account", str(tmp_path / "none"))
    assert ended.exit_code == 1
    assert "works in a Kubernetes pod" in ended.output
