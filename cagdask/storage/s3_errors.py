"""What an error of the S3 client means, in one line: which server, what it said, and what to do.

    first_look(url)      once per server and bucket: a mistyped server should not take long to notice
    probe(url)           the same, and whether the credentials may list, before any work
    explain(err, url)    any later failure

The client writes the answer of the server into the text of its error: status, code and reason are taken from there. An
error without a status never got an answer; then :mod:`cagdask.storage.s3_reach` looks why.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass

from cagdask.errors import StoreError
from cagdask.storage import s3, s3_reach
from cagdask.storage.paths import split_s3
from cagdask.storage.s3_settings import Setting, setting

PROBE_SECONDS = 7
"""How long the first look at a URL is repeated before it fails; finding out why takes a few seconds more."""


# -- the first look --------------------------------------------------------------------------------------------------

_looked: dict[tuple[str, Setting, int], StoreError | None] = {}
_looking = threading.Lock()


def first_look(url: str) -> None:
    """Learn once whether the server of a URL answers; a server that did not is not asked again.

    Raises
    ------
    StoreError
        It does not answer. That it refuses something is not said here.
    """
    name, key = split_s3(url)
    place = (name, setting(), os.getpid())
    with _looking:
        if place not in _looked:
            with suppress(_RefusedError):
                _look(url, place, key)
        said = _looked.get(place)
    if said is not None:
        raise StoreError(str(said)) from said


def probe(url: str) -> None:
    """List one object below a URL, to learn early whether the server answers and accepts the credentials.

    Raises
    ------
    StoreError
        It does not.
    """
    name, key = split_s3(url)
    place = (name, setting(), os.getpid())
    with _looking:
        if _looked.get(place) is None:
            _look(url, place, key)
        said = _looked[place]
    if said is not None:
        raise StoreError(str(said)) from said


class _RefusedError(StoreError):
    """The server answered, and refused."""


def _look(url: str, place: tuple[str, Setting, int], key: str) -> None:
    """Ask, and note whether there was an answer; a refusal is one, and is raised."""
    _looked[place] = None
    try:
        _ask(url, place[0], key)
    except _RefusedError:
        raise
    except StoreError as err:
        _looked[place] = err


def _ask(url: str, name: str, key: str) -> None:
    try:
        is_empty = not s3.client_of_bucket(name, PROBE_SECONDS).any_below(key)
    except Exception as err:
        if not s3.is_client_error(err):
            raise
        said = explain(err, url)
        if _answer(err).status:
            raise _RefusedError(str(said)) from err
        raise said from err
    if is_empty and s3_reach.answers_with_web_page(setting().endpoint, name):
        raise StoreError(_web_page(url, _server(), "200"))


# -- what the server said --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    """Status, code and reason that a server gave, all empty if it gave no answer; and the seconds that it took."""

    status: str
    code: str
    reason: str
    body: str
    seconds: float


_UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def _answer(err: BaseException) -> _Answer:
    if hasattr(err, "status"):  # of the s3fs backend, which is imported only where it is used
        return _Answer(err.status, err.code, err.reason, err.body, err.seconds)  # type: ignore[attr-defined]
    text = str(err).split("\n\nDebug source:")[0]
    status, body = (*re.findall(r"non-2xx status code: (\d{3})[^:]*: ?(.*)", text, re.DOTALL), ("", ""))[0]
    status = status or next(iter(re.findall(r"status:? (\d{3})", text)), "")
    code = next(iter(re.findall(r"<Code>\s*([\w.]+)\s*</Code>", text)), "")
    reason = " ".join(next(iter(re.findall(r"<Message>(.*?)</Message>", text, re.DOTALL)), "").split())
    took = re.findall(r" in ([\d.]+)(ns|µs|ms|s)\b", text)
    seconds = float(took[0][0]) * _UNITS[took[0][1]] if took else 0.0
    return _Answer(status, code, reason.rstrip(".")[:200], body, seconds)


_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidSecurity", "InvalidClientTokenId")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken")
_DENIED = ("AccessDenied", "AllAccessDisabled", "Forbidden")
_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_BUSY = ("SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded")
_BY_CODE = (
    (_EXPIRED, "the S3 credentials have expired ({code}). Get new ones; the same command goes on."),
    (_CREDENTIALS, "{server} does not accept the S3 credentials ({code}). Check the access key and the secret."),
    (
        ("RequestTimeTooSkewed",),
        "the clock of this machine differs from that of {server} ({code}{reason}). Set the clock.",
    ),
    (
        ("InvalidObjectState",),
        "an object is in an archive and can not be read ({code}{reason}). Restore it, or copy it to another tier.",
    ),
    (_REGION, "the bucket is in another region ({code}). Name it with `AWS_REGION`."),
    (_BUSY, "{server} still answers {code} after {seconds} s. Try again with fewer workers."),
    (
        ("NotImplemented",),
        "{server} can not do what is asked ({code}{reason}). Use a server with conditional puts, ranges and listings, "
        "or see the options of the S3 client.",
    ),
)
"""What to say of a code."""
_PAYER = " The bucket asks its readers to pay: add the option request_payer=true of the S3 client."


def explain(err: BaseException, url: str) -> StoreError:
    """A failure of the S3 client as one line, without secrets that the client quotes."""
    if isinstance(err, StoreError):
        return err
    answer = _answer(err)
    if answer.status and not answer.code and "Error performing HEAD" in str(err):
        answer = _answer_of_listing(url) or answer  # that of HEAD has no body: ask again in a way that has one
    server, name, code = _server(), split_s3(url)[0], answer.code
    if "BareRedirect" in str(err):  # the client does not hand on what this answer says
        return StoreError(f"{url}: the bucket is in another region. Name it with `AWS_REGION`.")
    if not answer.status and not code:
        if _names(err, "Unauthenticated"):
            return StoreError(f"{url}: there are no valid S3 credentials. Check the profile, or log in again.")
        return _no_answer(err, url, answer)
    reason = f": {answer.reason}" if answer.reason else ""
    for codes, text in _BY_CODE:
        if code in codes:
            said = text.format(code=code, server=server, reason=reason, seconds=round(answer.seconds))
            return StoreError(f"{url}: {said}")
    if code == "NoSuchBucket" or (answer.status == "404" and "bucket" in str(err).lower()):
        return StoreError(f"{url}: there is no bucket {name!r} at {server}. Make it, or correct the URL.")
    is_page = s3_reach.is_web_page(answer.body)
    if is_page or (not code and not answer.body and s3_reach.answers_with_web_page(setting().endpoint, name)):
        return StoreError(_web_page(url, server, answer.status))
    if code in _DENIED or (not code and answer.status == "403"):
        what = "to list" if "list request" in str(err) or "HEAD" in str(err) else "this"
        payer = _PAYER if "requester" in answer.reason.lower() else ""
        return StoreError(
            f"{url}: {server} does not allow {what} ({code or 'AccessDenied'}{reason}). The credentials need "
            f"ListBucket on the bucket, and GetObject, PutObject and DeleteObject below the URL.{payer}"
        )
    known = f"{answer.status} {code}".strip()
    return StoreError(f"{url}: {server} answered with an error ({known}{reason}). -v shows more.")


def _no_answer(err: BaseException, url: str, answer: _Answer) -> StoreError:
    chosen = setting()
    options = dict(chosen.options)
    why = s3_reach.why_not(
        chosen.endpoint, proxy=options.get("proxy_url"), ca_file=options.get("root_certificate") or chosen.ca_bundle
    )
    after = f"for {answer.seconds:.0f} s" if answer.seconds >= 1 else "at all"
    what = f": {why}" if why else ". Check the address and the network"
    return StoreError(f"{url}: no answer from {_server()} {after}{what}. The same command goes on where it stopped.")


def _web_page(url: str, server: str, status: str) -> str:
    return (
        f"{url}: what answers at {server} sends a web page, as a proxy or a login portal does, and is no S3 server "
        f"(status {status}). Check the address, HTTPS_PROXY and NO_PROXY."
    )


def _server() -> str:
    return setting().endpoint or "Amazon S3"


def _names(err: BaseException, word: str) -> bool:
    return word in type(err).__name__


def _answer_of_listing(url: str) -> _Answer | None:
    try:
        name, key = split_s3(url)
        s3.client_of_bucket(name, PROBE_SECONDS).any_below(key)
    except Exception as err:  # what it says is all that is wanted
        return _answer(err)
    return None
