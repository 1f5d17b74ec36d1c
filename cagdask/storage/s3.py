"""The S3 client of a process: server, credentials, retries, and what its errors mean.

    flags --> environment --> Setting --> one client per bucket --> get, put, list, copy, delete
                  |                              |
                  +-- inherited by workers       +-- credentials: environment, profile, shared files, role (botocore)

Everything is read from the environment, so that a worker process that inherits it, or is given it by the plug-in of
:mod:`cagdask.compute.runner`, reaches the same server. Secrets stay in the process that read them: no object here can
be pickled with them, and no message quotes them.

A request is repeated after a server error (also 503 SlowDown), a refused or dropped connection, or a time-out. The
first wait is half a second; each further one is twice as long, up to 5 s, with jitter. After :data:`RETRY_SECONDS` in
all the request fails. Only the first look at a URL, before any work, fails sooner.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cagdask.errors import StoreError
from cagdask.storage.paths import split_s3

if TYPE_CHECKING:
    from obstore.store import S3Store

RETRY_SECONDS = 90
"""How long a request is repeated before it fails."""
PROBE_SECONDS = 10
"""The same for the first look at a URL: a mistyped server should not take long to notice."""
_BACKOFF = {"init_backoff": timedelta(seconds=0.5), "max_backoff": timedelta(seconds=5), "base": 2}
_TIMEOUT = "60s"
PART_BYTES = 64 * 2**20
"""Objects up to this size are put by one request, larger ones by several of it."""

ANONYMOUS, OPTIONS = "CAGDASK_S3_ANONYMOUS", "CAGDASK_S3_OPTIONS"
VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    ANONYMOUS,
    OPTIONS,
)
"""Environment variables that say which server, and that hold no secret."""
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_CLIENT_OPTIONS = ("allow_invalid_certificates", "connect_timeout", "proxy_url", "root_certificate", "timeout")
_SERVER_OPTIONS = (
    "checksum_algorithm",
    "disable_bulk_delete",
    "request_payer",
    "server_side_encryption",
    "skip_signature",
    "sse_kms_key_id",
    "unsigned_payload",
    "virtual_hosted_style_request",
)
KNOWN_OPTIONS = tuple(sorted(_CLIENT_OPTIONS + _SERVER_OPTIONS))
"""Names that :data:`OPTIONS` may set; root_certificate is the path of a PEM file."""


@dataclass(frozen=True)
class Setting:
    """Settings of S3 from the environment.

    Attributes
    ----------
    endpoint
        URL of the server; None for Amazon's.
    region, profile
        Names; None if nothing says.
    anonymous
        Whether requests go without a signature.
    options
        Names and values of further options.
    """

    endpoint: str | None
    region: str | None
    profile: str | None
    anonymous: bool
    options: tuple[tuple[str, str], ...]


def setting() -> Setting:
    """Read the environment.

    Raises
    ------
    StoreError
        The options are not a JSON object of known names.
    """
    found = os.environ
    options = json_options(found.get(OPTIONS, "{}"))
    return Setting(
        endpoint=found.get("AWS_ENDPOINT_URL_S3") or found.get("AWS_ENDPOINT_URL"),
        region=found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION"),
        profile=found.get("AWS_PROFILE"),
        anonymous=found.get(ANONYMOUS, "").lower() in ("1", "true", "yes"),
        options=tuple(sorted(options.items())),
    )


def json_options(text: str) -> dict[str, str]:
    """Further options from their JSON.

    Raises
    ------
    StoreError
        It is no JSON object, or names an option that is not known.
    """
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise StoreError(f'{OPTIONS} is not a JSON object. Write it as {{"timeout": "120s"}}.')
    unknown = sorted(set(options) - set(KNOWN_OPTIONS))
    if unknown:
        raise StoreError(
            f"S3 option {unknown[0]!r} is not known; the options are {', '.join(KNOWN_OPTIONS)}. Keys and tokens "
            "belong into the environment or a profile."
        )
    return {str(name): str(value) for name, value in options.items()}


# -- clients ---------------------------------------------------------------------------------------------------------


def bucket(url: str) -> tuple[S3Store, str]:
    """The client for the bucket of a URL, and the key in it."""
    name, key = split_s3(url)
    return _client(name, "", setting(), _secrets(), os.getpid()), key


def client_at(url: str) -> S3Store:
    """A client whose keys begin below ``url``."""
    name, key = split_s3(url)
    return _client(name, key, setting(), _secrets(), os.getpid())


def probe(url: str) -> None:
    """List one object below a URL, to learn early whether the server answers and accepts the credentials.

    Raises
    ------
    StoreError
        It does not.
    """
    name, key = split_s3(url)
    try:
        any_below(_client(name, "", setting(), _secrets(), os.getpid(), PROBE_SECONDS), key)
    except Exception as err:
        if not is_client_error(err):
            raise
        raise explain(err, url, PROBE_SECONDS) from err


def _secrets() -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in _SECRETS)


@lru_cache(maxsize=128)  # a client keeps its connections; another process, after a fork, must not use them
def _client(
    name: str,
    prefix: str,
    chosen: Setting,
    secrets: tuple[str | None, ...],
    pid: int,
    seconds: int = RETRY_SECONDS,
) -> S3Store:
    from obstore.store import S3Store

    options = dict(chosen.options)
    client: dict[str, Any] = {"timeout": _TIMEOUT, "connect_timeout": "5s", "allow_http": True}
    client |= {key: options.pop(key) for key in _CLIENT_OPTIONS if key in options}
    if "root_certificate" in client:
        with open(client["root_certificate"], "rb") as handle:
            client["root_certificate"] = handle.read()
    arguments: dict[str, Any] = dict(options)
    region, endpoint = chosen.region, chosen.endpoint
    if chosen.anonymous:
        arguments["skip_signature"] = True
    elif secrets[0] and secrets[1]:
        arguments |= {"access_key_id": secrets[0], "secret_access_key": secrets[1]}
        arguments |= {"token": secrets[2]} if secrets[2] else {}
    else:
        chain = _Chain(chosen)
        arguments["credential_provider"] = chain
        region, endpoint = region or chain.region, endpoint or chain.endpoint
    if endpoint:
        arguments["endpoint"] = endpoint
    retry: Any = {"max_retries": seconds, "retry_timeout": timedelta(seconds=seconds), "backoff": _BACKOFF}
    options_of_client: Any = client
    made: S3Store = S3Store(
        name,
        prefix=prefix or None,
        region=region or "us-east-1",
        client_options=options_of_client,
        retry_config=retry,
        **arguments,
    )
    return made


class _Chain:
    """Credentials of a profile, the shared files, a container or a machine's role, as the AWS tools look for them."""

    config: dict[str, str] = {}  # noqa: RUF012  # obstore looks for it

    def __init__(self, chosen: Setting) -> None:
        import botocore.exceptions
        import botocore.session

        try:
            session = botocore.session.Session(profile=chosen.profile)
            self._credentials = session.get_credentials()
            self.region = session.get_config_variable("region")
            self.endpoint = session.get_scoped_config().get("endpoint_url")
        except botocore.exceptions.BotoCoreError as err:
            raise StoreError(f"S3: the AWS configuration can not be used: {err}. Correct the profile.") from err
        if self._credentials is None:
            raise StoreError(
                "S3: there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with "
                "--profile, or use --anonymous for a public bucket."
            )

    def __call__(self) -> dict[str, Any]:
        frozen = self._credentials.get_frozen_credentials()
        expires = getattr(self._credentials, "_expiry_time", None) or datetime.now(UTC) + timedelta(minutes=15)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expires,
        }


# -- requests --------------------------------------------------------------------------------------------------------


def put(client: S3Store, key: str, data: Any, *, version: str | None = None, create: bool = False) -> str:
    """Put a whole object; its tag.

    Parameters
    ----------
    client, key, data
        Where, and bytes or an open file.
    version
        Only in place of the object with this tag.
    create
        Only where there is none.

    Raises
    ------
    FileExistsError
        There is another object than the condition says.
    """
    import obstore
    from obstore import exceptions

    if not create and version is None:
        return str(obstore.put(client, key, data, chunk_size=PART_BYTES)["e_tag"])
    mode: Any = "create" if create else {"e_tag": version}
    last = time.monotonic() + RETRY_SECONDS
    while True:  # after a time-out the client does not repeat this: its first try may have been the one that succeeded
        try:
            return str(obstore.put(client, key, data, mode=mode)["e_tag"])
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as err:
            there = get(client, key)
            if there is not None and there[0] == bytes(data):
                return there[1]
            raise FileExistsError(key) from err
        except exceptions.GenericError:
            if time.monotonic() > last:
                raise
            time.sleep(1)


def get(client: S3Store, key: str) -> tuple[bytes, str] | None:
    """An object and its tag, or None."""
    import obstore

    try:
        found = obstore.get(client, key)
    except FileNotFoundError:
        return None
    return bytes(found.bytes()), str(found.meta["e_tag"])


def get_tail(client: S3Store, key: str, n_bytes: int) -> tuple[bytes, int]:
    """The last bytes of an object, all of a smaller one, and its size.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    import obstore

    try:
        found = obstore.get(client, key, options={"range": {"suffix": n_bytes}})
    except FileNotFoundError as err:
        raise FileNotFoundError(key) from err
    return bytes(found.bytes()), int(found.meta["size"])


def head(client: S3Store, key: str) -> dict[str, Any] | None:
    """Size, tag and age of an object, or None where there is none."""
    import obstore

    try:
        return dict(obstore.head(client, key)) if key else None
    except FileNotFoundError:
        return None


def listing(client: S3Store, key: str) -> dict[str, int]:
    """Sizes of the objects below a key, by what follows the key."""
    import obstore

    found = obstore.list(client, prefix=key or None, chunk_size=1000).collect()
    start = len(key) + 1 if key else 0
    return {meta["path"][start:]: int(meta["size"]) for meta in found}


def any_below(client: S3Store, key: str) -> bool:
    """Whether there is an object below a key."""
    import obstore

    return bool(next(iter(obstore.list(client, prefix=key or None, chunk_size=1)), None))


def delete(client: S3Store, keys: list[str]) -> None:
    """Delete objects; those that are not there are no error."""
    import obstore

    for i in range(0, len(keys), 1000):
        obstore.delete(client, keys[i : i + 1000])


def is_client_error(err: BaseException) -> bool:
    """Whether the S3 client raised this."""
    return type(err).__module__.startswith("obstore")


# -- what went wrong -------------------------------------------------------------------------------------------------

_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidSecurity", "InvalidClientTokenId")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken")


def explain(err: BaseException, url: str, seconds: int = RETRY_SECONDS) -> StoreError:
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
        return StoreError(f"{url}: the bucket is in another region ({code}). Name it with --region.")
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
        client, key = bucket(url)
        any_below(client, key)
    except Exception as err:  # what it says is all that is wanted
        return next(iter(re.findall(r"<Code>\s*(\w+)\s*</Code>", str(err))), "")
    return ""
