"""Requests to S3 by s3fs and botocore: the other backend.

    thread that asks --> fsspec's event loop --> s3fs --> botocore
                |
                +-- repeats what may succeed later, and gives errors their status, code and reason

s3fs alone repeats a request for a few seconds, and takes a bucket that is not there for a missing file. So each request
goes through :meth:`_Files.patiently`. Listings are not cached, since other processes write at the same time.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import botocore.exceptions
from fsspec.asyn import sync
from s3fs import S3FileSystem
from s3fs.core import S3_RETRYABLE_ERRORS

from cagdask.errors import StoreError
from cagdask.storage.s3_client import (
    CONNECT_SECONDS,
    DIGEST,
    FIRST_WAIT,
    LONGEST_WAIT,
    PART_BYTES,
    seconds_of_a_try,
)
from cagdask.storage.s3_settings import Setting

_OPTIONS = {
    "allow_invalid_certificates",
    "connect_timeout",
    "proxy_url",
    "request_payer",
    "root_certificate",
    "server_side_encryption",
    "skip_signature",
    "sse_kms_key_id",
    "timeout",
    "unsigned_payload",
    "virtual_hosted_style_request",
}
_MISSING = ("404", "NoSuchKey")
_CHANGED = ("412", "PreconditionFailed", "409", "ConditionalRequestConflict")
_BUSY = ("SlowDown", "RequestTimeout", "TooManyRequests", "429", "InternalError", "ServiceUnavailable")
_VERBS = {"head_object": "HEAD request", "list_objects_v2": "list request"}
_NO_ANSWER = (*S3_RETRYABLE_ERRORS, botocore.exceptions.ConnectionError, ConnectionError, TimeoutError)
Answer = TypeVar("Answer")


class RequestError(Exception):
    """A request that failed in the end; :mod:`cagdask.storage.s3_errors` says what it means.

    Attributes
    ----------
    status, code, reason
        What the server said, empty where it gave no answer.
    body
        Of an answer that was not understood.
    seconds
        That it took.
    """

    def __init__(self, method: str, err: BaseException, seconds: float) -> None:
        super().__init__(f"Error performing {_VERBS.get(method, method)} in {seconds:.1f}s: {err}")
        said = _response(err)
        self.status = str(said.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        code = str(said.get("Error", {}).get("Code", ""))
        self.code = "" if code.isdigit() else code
        self.reason = " ".join(str(said.get("Error", {}).get("Message", "")).split()) if self.code else ""
        self.body = next(iter(re.findall(r"received:\s*b?'(.*)", str(err), re.DOTALL)), "")
        self.seconds = seconds


def _response(err: BaseException | None) -> dict[str, Any]:
    """What the server said, of an error of botocore or of one that s3fs made of it."""
    while err is not None:
        if isinstance(err, botocore.exceptions.ClientError):
            return dict(err.response)
        err = err.__cause__
    return {}


def _may_succeed_later(err: BaseException) -> bool:
    said = _response(err)
    if not said:
        return isinstance(err, _NO_ANSWER)
    status = int(said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return status in (500, 502, 503, 504) or said.get("Error", {}).get("Code") in _BUSY


class S3fsClient:
    """See :class:`cagdask.storage.s3_client.S3Client`."""

    def __init__(self, name: str, prefix: str, chosen: Setting, keys: tuple[str | None, ...], seconds: int) -> None:
        self._name, self._prefix, self._seconds = name, f"{prefix}/" if prefix else "", seconds
        self._signs_content = _option(chosen, "unsigned_payload") is None
        self._files = S3FileSystem(**_arguments(chosen, keys, seconds))
        self._files.retries = 1  # since requests are repeated here

    def _ask(self, method: str, key: str | None, **options: Any) -> dict[str, Any]:
        """One request; of an object that is read, its content, too, as ``content``."""
        options |= {"Bucket": self._name} | ({} if key is None else {"Key": self._prefix + key})

        async def once() -> dict[str, Any]:
            found: dict[str, Any] = await self._files._call_s3(method, **options)
            if method == "get_object":
                async with found["Body"] as body:
                    found["content"] = await body.read()
            return found

        answer: dict[str, Any] = sync(self._files.loop, _patiently, method, once, self._seconds)
        return answer

    def put(self, key: str, data: Any, *, version: str | None = None, create: bool = False, digest: str = "") -> str:
        """See the interface."""
        whole = data if hasattr(data, "read") else io.BytesIO(bytes(data))
        options: dict[str, Any] = {"Metadata": {DIGEST: digest}} if digest else {}
        if not create and version is None:
            return self._put_parts(key, whole, options)
        options |= {"IfNoneMatch": "*"} if create else {"IfMatch": version}
        content = whole.read()
        try:
            return str(self._ask("put_object", key, Body=content, **options)["ETag"])
        except (FileExistsError, FileNotFoundError) as err:  # the first try may have been the one that succeeded
            there = self.get(key)
            if there is not None and there[0] == content:
                return there[1]
            raise FileExistsError(key) from err

    def _put_parts(self, key: str, whole: Any, options: dict[str, Any]) -> str:
        content = whole.read(PART_BYTES)
        following = whole.read(PART_BYTES)
        if not following:
            return str(self._ask("put_object", key, Body=content, **options)["ETag"])
        upload = self._ask("create_multipart_upload", key, **options)["UploadId"]
        parts: list[dict[str, Any]] = []
        try:
            while content:
                number = len(parts) + 1
                made = self._ask("upload_part", key, UploadId=upload, PartNumber=number, Body=content)
                parts.append({"PartNumber": number, "ETag": made["ETag"]})
                content, following = following, whole.read(PART_BYTES)
            parts_made = {"Parts": parts}
            return str(self._ask("complete_multipart_upload", key, UploadId=upload, MultipartUpload=parts_made)["ETag"])
        except BaseException:
            self._ask("abort_multipart_upload", key, UploadId=upload)
            raise

    def get(self, key: str) -> tuple[bytes, str] | None:
        """See the interface."""
        try:
            found = self._ask("get_object", key)
        except FileNotFoundError:
            return None
        return found["content"], str(found["ETag"])

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See the interface."""
        return bytes(self._ask("get_object", key, Range=f"bytes={start}-{end - 1}")["content"])

    def get_tail(self, key: str, n_bytes: int) -> tuple[bytes, int]:
        """See the interface."""
        size = int(self._ask("head_object", key)["ContentLength"])
        return self.get_range(key, max(0, size - n_bytes), size) if size else b"", size

    def head(self, key: str) -> dict[str, Any] | None:
        """See the interface."""
        try:
            found = self._ask("head_object", key) if key else None
        except FileNotFoundError:
            return None
        return found and {"size": int(found["ContentLength"]), "e_tag": found["ETag"]}

    def digest_sent(self, key: str) -> tuple[int, str] | None:
        """See the interface."""
        if not self._signs_content:
            return None
        found = self._ask("head_object", key)
        noted = found.get("Metadata", {}).get(DIGEST)
        return None if noted is None else (int(found["ContentLength"]), str(noted))

    def _pages(self, key: str, n: int) -> Iterator[list[dict[str, Any]]]:
        """Objects below a key, so many at a time."""
        options: dict[str, Any] = {"Prefix": f"{self._prefix}{key}/" if key else self._prefix, "MaxKeys": n}
        while True:
            found = self._ask("list_objects_v2", None, **options)
            yield found.get("Contents", [])
            if not found.get("IsTruncated"):
                return
            options["ContinuationToken"] = found["NextContinuationToken"]

    def listing(self, key: str) -> dict[str, int]:
        """See the interface."""
        start = len(self._prefix) + (len(key) + 1 if key else 0)
        return {one["Key"][start:]: int(one["Size"]) for page in self._pages(key, 1000) for one in page}

    def any_below(self, key: str) -> bool:
        """See the interface."""
        return bool(next(self._pages(key, 1)))

    def delete(self, keys: list[str]) -> None:
        """See the interface."""
        for i in range(0, len(keys), 1000):
            named = [{"Key": self._prefix + key} for key in keys[i : i + 1000]]
            found = self._ask("delete_objects", None, Delete={"Objects": named, "Quiet": True})
            for failed in found.get("Errors", []):
                refused = botocore.exceptions.ClientError(
                    {"Error": failed, "ResponseMetadata": {"HTTPStatusCode": 200}}, "DeleteObjects"
                )
                raise RequestError("delete_objects", refused, 0)

    def copy(self, source: str, goal: str) -> None:
        """See the interface."""
        self._ask("copy_object", goal, CopySource={"Bucket": self._name, "Key": self._prefix + source})


async def _patiently(method: str, once: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """Make a request until it succeeds, can not succeed, or has been repeated for so long."""
    begun, wait = time.monotonic(), FIRST_WAIT
    while True:
        try:
            return await once()
        except Exception as err:
            said, took = _response(err), time.monotonic() - begun
            code = str(said.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise FileNotFoundError(code) from err
            if code in _CHANGED:
                raise FileExistsError(code) from err
            if not _may_succeed_later(err) or took + wait > seconds:
                raise _named(method, err, took) from err
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(2 * wait, LONGEST_WAIT)


def _named(method: str, err: Exception, seconds: float) -> Exception:
    if isinstance(err, botocore.exceptions.NoCredentialsError):
        return StoreError(
            "S3: there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with "
            "`AWS_PROFILE`, or use `CAGDASK_S3_ANONYMOUS=1` for a public bucket."
        )
    if isinstance(err, botocore.exceptions.ProfileNotFound | botocore.exceptions.ConfigParseError):
        return StoreError(f"S3: the AWS configuration can not be used: {err}. Correct the profile.")
    return RequestError(method, err, seconds)


# -- settings --------------------------------------------------------------------------------------------------------


def _option(chosen: Setting, name: str) -> str | None:
    """An option, None where it is not set or says no."""
    found = dict(chosen.options).get(name)
    return None if found is None or found.lower() == "false" else found


def _seconds(chosen: Setting, name: str, usual: float) -> float:
    found = _option(chosen, name)
    if found is None:
        return usual
    number = re.fullmatch(r"([0-9.]+)\s*s?", found)
    if number is None:
        raise StoreError(f"S3 option {name} is {found!r}; write it in seconds for the s3fs backend, as 120s.")
    return float(number[1])


def _arguments(chosen: Setting, keys: tuple[str | None, ...], seconds: int) -> dict[str, Any]:
    """What s3fs is to be made with.

    Raises
    ------
    StoreError
        An option of the other backend has no equal here.
    """
    unknown = sorted({name for name, _ in chosen.options} - _OPTIONS)
    if unknown:
        raise StoreError(
            f"S3 option {unknown[0]!r} is one of the obstore backend alone. Leave it out, or do without "
            "CAGDASK_S3_BACKEND=s3fs."
        )
    config: dict[str, Any] = {
        "connect_timeout": _seconds(chosen, "connect_timeout", CONNECT_SECONDS),
        "read_timeout": _seconds(chosen, "timeout", seconds_of_a_try(seconds)),
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": 64,
        "request_checksum_calculation": "when_required",  # other servers than Amazon's know no checksums in trailers
        "response_checksum_validation": "when_required",
        "s3": {
            "payload_signing_enabled": _option(chosen, "unsigned_payload") is None,
            "addressing_style": "virtual" if _option(chosen, "virtual_hosted_style_request") else "path",
        },
    }
    proxy = _option(chosen, "proxy_url")
    if proxy:
        config["proxies"] = {"http": proxy, "https": proxy}
    verify: Any = _option(chosen, "root_certificate") or chosen.ca_bundle
    if _option(chosen, "allow_invalid_certificates"):
        verify = False
    sent = {"ServerSideEncryption": _option(chosen, "server_side_encryption")}
    sent |= {"SSEKMSKeyId": _option(chosen, "sse_kms_key_id")}
    anonymous = chosen.anonymous or _option(chosen, "skip_signature") is not None
    arguments: dict[str, Any] = {
        "anon": anonymous,
        "endpoint_url": chosen.endpoint,
        "client_kwargs": {"region_name": chosen.region} | ({} if verify is None else {"verify": verify}),
        "config_kwargs": config,
        "requester_pays": _option(chosen, "request_payer") is not None,
        "s3_additional_kwargs": {name: value for name, value in sent.items() if value},
        "use_listings_cache": False,
        "skip_instance_cache": True,
    }
    if not anonymous and keys[0] and keys[1]:
        return arguments | {"key": keys[0], "secret": keys[1], "token": keys[2]}
    return arguments | ({"profile": chosen.profile} if chosen.profile else {})
