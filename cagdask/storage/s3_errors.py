"""What an error of the S3 client means, in one line: which server, what it said, and what to do.

probe(url)           a first look, before any work: a mistyped server should not take long to notice
explain(err, url)    any later failure
"""

from __future__ import annotations

import re

from cagdask.errors import StoreError
from cagdask.storage import s3
from cagdask.storage.paths import split_s3
from cagdask.storage.s3_settings import setting

PROBE_SECONDS = 10
"""How long the first look at a URL is repeated before it fails."""


def probe(url: str) -> None:
    """List one object below a URL, to learn early whether the server answers and accepts the credentials.

    Raises
    ------
    StoreError
        It does not.
    """
    name, key = split_s3(url)
    try:
        s3.any_below(s3.client_of_bucket(name, PROBE_SECONDS), key)
    except Exception as err:
        if not s3.is_client_error(err):
            raise
        raise explain(err, url, PROBE_SECONDS) from err


_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidSecurity", "InvalidClientTokenId")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken")


def explain(err: BaseException, url: str, seconds: int = s3.RETRY_SECONDS) -> StoreError:
    """A failure of the S3 client as one line, without secrets that the client quotes."""
    if isinstance(err, StoreError):
        return err
    text = str(err)
    code = next(iter(re.findall(r"<Code>\s*(\w+)\s*</Code>", text)), "")
    if not code and "Error performing HEAD" in text:  # its answer has no body: ask again in a way that has one
        code = _code_of_listing(url)
    server = setting().endpoint or "Amazon S3"
    name = split_s3(url)[0]
    if code in _EXPIRED or "expired" in text.lower():
        return StoreError(f"{url}: the S3 credentials have expired ({code}). Get new ones; the same command goes on.")
    if code in _CREDENTIALS:
        return StoreError(
            f"{url}: {server} does not accept the S3 credentials ({code}). Check the access key and the secret."
        )
    if code == "NoSuchBucket" or ("NotFound" in code and "bucket" in text.lower()):
        return StoreError(f"{url}: there is no bucket {name!r} at {server}. Make it, or correct the URL.")
    if code in ("AccessDenied", "AllAccessDisabled", "Forbidden") or _names(err, "PermissionDenied"):
        what = "to list" if "list" in text.lower() or "HEAD" in text else "this"
        return StoreError(
            f"{url}: {server} does not allow {what} ({code or 'AccessDenied'}). The credentials need ListBucket on the "
            "bucket, and GetObject, PutObject and DeleteObject below the URL."
        )
    if _names(err, "Unauthenticated"):
        return StoreError(f"{url}: there are no valid S3 credentials. Check the profile, or log in again.")
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return StoreError(f"{url}: the bucket is in another region ({code}). Name it with `AWS_REGION`.")
    if code in ("SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded"):
        return StoreError(f"{url}: {server} still answers {code} after {seconds} s. Try again with less workers.")
    if "error sending request" in text or "timed out" in text or "timeout" in text.lower():
        return StoreError(
            f"{url}: no answer from {server} for {seconds} s. Check the endpoint and the network; the same "
            "command goes on where it stopped."
        )
    status = next(iter(re.findall(r"status code: (\d+)|status: (\d+)", text)), ("", ""))
    said = code or "".join(status) or type(err).__name__
    return StoreError(f"{url}: {server} answered with an error ({said}). -v shows more.")


def _names(err: BaseException, word: str) -> bool:
    return word in type(err).__name__


def _code_of_listing(url: str) -> str:
    try:
        client, key = s3.bucket(url)
        s3.any_below(client, key)
    except Exception as err:  # what it says is all that is wanted
        return next(iter(re.findall(r"<Code>\s*(\w+)\s*</Code>", str(err))), "")
    return ""
