"""Which library makes the requests to S3, and what it is set up with; what the requests do is tested with a server."""

from __future__ import annotations

import pytest

from cagdask.errors import StoreError
from cagdask.storage import s3
from cagdask.storage.s3_obstore import ObstoreClient
from cagdask.storage.s3_s3fs import S3fsClient
from cagdask.storage.s3_settings import BACKEND, OPTIONS


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is never asked."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")


@pytest.mark.parametrize(("name", "kind"), [(None, ObstoreClient), ("obstore", ObstoreClient), ("s3fs", S3fsClient)])
def test_a_variable_chooses_the_library(monkeypatch: pytest.MonkeyPatch, name: str | None, kind: type) -> None:
    if name is None:
        monkeypatch.delenv(BACKEND, raising=False)
    else:
        monkeypatch.setenv(BACKEND, name)
    assert type(s3.client_of_bucket("b")) is kind


def test_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND, "boto3")
    with pytest.raises(StoreError, match=r"CAGDASK_S3_BACKEND is 'boto3'; choose one of obstore, s3fs"):
        s3.client_of_bucket("b")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ('{"checksum_algorithm": "sha256"}', "'checksum_algorithm' is one of the obstore backend alone"),
        ('{"disable_bulk_delete": "true"}', "'disable_bulk_delete' is one of the obstore backend alone"),
        ('{"timeout": "2 minutes"}', "timeout is '2 minutes'; write it in seconds"),
    ],
)
def test_what_s3fs_has_no_equal_of_is_refused(monkeypatch: pytest.MonkeyPatch, options: str, words: str) -> None:
    monkeypatch.setenv(BACKEND, "s3fs")
    monkeypatch.setenv(OPTIONS, options)
    with pytest.raises(StoreError, match=words):
        s3.client_of_bucket("b")


def test_options_reach_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND, "s3fs")
    options = (
        '{"timeout": "20s", "request_payer": "true", "server_side_encryption": "AES256", "unsigned_payload": "true"}'
    )
    monkeypatch.setenv(OPTIONS, options)
    monkeypatch.setenv("AWS_CA_BUNDLE", "/of/mine.pem")
    client = s3.client_of_bucket("b")
    assert isinstance(client, S3fsClient)
    files = client._files
    assert files.config_kwargs["read_timeout"] == 20
    assert files.config_kwargs["s3"] == {"payload_signing_enabled": False, "addressing_style": "path"}
    assert files.client_kwargs["verify"] == "/of/mine.pem"
    assert files.s3_additional_kwargs == {"ServerSideEncryption": "AES256"}
    assert files.requester_pays
    assert client.digest_sent("key") is None, "nobody has compared it with what came"
