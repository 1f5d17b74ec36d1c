"""The S3 client of a process: server, credentials, retries, requests.

    flags --> environment --> Setting --> one client per bucket --> get, put, list, copy, delete
                  |                              |
                  +-- inherited by workers       +-- credentials: environment, profile, shared files, role (botocore)

Everything is read from the environment, so that a worker process that inherits it, or is given it by the plug-in of
:mod:`cagdask.compute.worker_plugins`, reaches the same server. Our own workers get the secrets through a pipe; others
have their own. No object here can be pickled with secrets, and no message quotes them.

A request is repeated after a server error (also 503 SlowDown), a refused or dropped connection, or a time-out. The
first wait is half a second; each further one is twice as long, up to 5 s, with jitter. After :data:`RETRY_SECONDS` in
all the request fails. Only the first look at a URL, before any work, fails sooner.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cagdask.errors import StoreError
from cagdask.storage.paths import IN_PLACE, in_place, split_s3
from cagdask.storage.s3_settings import CLIENT_OPTIONS, SECRETS, Setting, secrets, setting

if TYPE_CHECKING:
    from obstore.store import S3Store

RETRY_SECONDS = 90
"""How long a request is repeated before it fails."""
_BACKOFF = {"init_backoff": timedelta(seconds=0.5), "max_backoff": timedelta(seconds=5), "base": 2}
_TIMEOUT_SECONDS = 60
in_driver = True
"""False in workers: a server that does not answer them is a passing thing, since the driver has found it."""
PART_BYTES = 64 * 2**20
"""Objects up to this size are put by one request, larger ones by several of it."""
DIGEST = "sha256"
"""Metadata of an object: the SHA-256 of what its writer sent."""

# -- clients ---------------------------------------------------------------------------------------------------------


def bucket(url: str) -> tuple[S3Store, str]:
    """The client for the bucket of a URL, and the key in it; of a chunk in the making, where it is to stay."""
    from cagdask.storage import s3_errors  # which needs this module

    if not url.rstrip("/").endswith(IN_PLACE):
        url = in_place(url) or url
    if in_driver:
        s3_errors.first_look(url)
    name, key = split_s3(url)
    return client_of_bucket(name), key


def client_of_bucket(name: str, seconds: int = RETRY_SECONDS) -> S3Store:
    """The client for a bucket, that repeats a request for so long."""
    return _client(name, "", setting(), _secrets(), os.getpid(), seconds)


def client_at(url: str) -> S3Store:
    """A client whose keys begin below ``url``."""
    name, key = split_s3(url)
    return _client(name, key, setting(), _secrets(), os.getpid())


def _secrets() -> tuple[str | None, ...]:
    found = secrets()
    return tuple(found.get(name) for name in SECRETS)


@lru_cache(maxsize=128)  # a client keeps its connections; another process, after a fork, must not use them
def _client(
    name: str,
    prefix: str,
    chosen: Setting,
    keys: tuple[str | None, ...],
    pid: int,
    seconds: int = RETRY_SECONDS,
) -> S3Store:
    from obstore.store import S3Store

    options = dict(chosen.options)
    # a short look has time for two tries, the second of which may begin at its very end
    patience = _TIMEOUT_SECONDS if seconds >= _TIMEOUT_SECONDS else -(-seconds // 2)
    client: dict[str, Any] = {"timeout": f"{patience}s", "connect_timeout": "5s", "allow_http": True}
    client |= {key: options.pop(key) for key in CLIENT_OPTIONS if key in options}
    trusted = client.pop("root_certificate", None) or chosen.ca_bundle
    if trusted:
        client["root_certificate"] = _certificates(trusted)
    arguments: dict[str, Any] = dict(options)
    region, endpoint = chosen.region, chosen.endpoint
    if chosen.anonymous:
        arguments["skip_signature"] = True
    elif keys[0] and keys[1]:
        arguments |= {"access_key_id": keys[0], "secret_access_key": keys[1]}
        arguments |= {"token": keys[2]} if keys[2] else {}
    else:
        chain = _Chain(chosen)
        arguments["credential_provider"] = chain
        region = region or chain.region
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


def _certificates(path: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError as err:
        raise StoreError(
            f"S3: the file of certificates {path} can not be read ({err.strerror}). Correct AWS_CA_BUNDLE."
        ) from err


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
        except botocore.exceptions.BotoCoreError as err:
            raise StoreError(f"S3: the AWS configuration can not be used: {err}. Correct the profile.") from err
        if self._credentials is None:
            raise StoreError(
                "S3: there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with "
                "`AWS_PROFILE`, or use `CAGDASK_S3_ANONYMOUS=1` for a public bucket."
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


def digest_sent(client: S3Store, key: str) -> tuple[int, str] | None:
    """Size of an object, and the digest of what was sent; None where that was not noted.

    Requests are signed with a digest of what they carry, so the server has compared it with what came. Where the option
    ``unsigned_payload`` is set, nobody has, and this is None.
    """
    import obstore

    if dict(setting().options).get("unsigned_payload", "").lower() == "true":
        return None
    found = obstore.get(client, key, options={"head": True})
    noted = found.attributes.get(DIGEST)
    return None if noted is None else (int(found.meta["size"]), str(noted))


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
