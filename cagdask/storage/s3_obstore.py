"""Requests to S3 by obstore: the backend that is used unless another one is asked for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cagdask.errors import StoreError
from cagdask.storage.s3_client import (
    CONNECT_SECONDS,
    DIGEST,
    FIRST_WAIT,
    LONGEST_WAIT,
    PART_BYTES,
    RETRY_SECONDS,
    seconds_of_a_try,
)
from cagdask.storage.s3_settings import CLIENT_OPTIONS, Setting

if TYPE_CHECKING:
    from obstore.store import S3Store

_BACKOFF = {
    "init_backoff": timedelta(seconds=FIRST_WAIT),
    "max_backoff": timedelta(seconds=LONGEST_WAIT),
    "base": 2,
}


class ObstoreClient:
    """See :class:`cagdask.storage.s3_client.S3Client`.

    Attributes
    ----------
    store
        What obstore, and Zarr's store of it, make requests with.
    """

    def __init__(self, name: str, prefix: str, chosen: Setting, keys: tuple[str | None, ...], seconds: int) -> None:
        self.store = _store(name, prefix, chosen, keys, seconds)
        self._signs_content = dict(chosen.options).get("unsigned_payload", "").lower() != "true"

    def put(self, key: str, data: Any, *, version: str | None = None, create: bool = False, digest: str = "") -> str:
        """See the interface."""
        import obstore
        from obstore import exceptions

        if not create and version is None:
            attributes: Any = {DIGEST: digest} if digest else None
            return str(obstore.put(self.store, key, data, chunk_size=PART_BYTES, attributes=attributes)["e_tag"])
        mode: Any = "create" if create else {"e_tag": version}
        last = time.monotonic() + RETRY_SECONDS
        while True:  # after a time-out obstore does not repeat this: its first try may have been the one that succeeded
            try:
                return str(obstore.put(self.store, key, data, mode=mode)["e_tag"])
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as err:
                there = self.get(key)
                if there is not None and there[0] == bytes(data):
                    return there[1]
                raise FileExistsError(key) from err
            except exceptions.GenericError:
                if time.monotonic() > last:
                    raise
                time.sleep(1)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """See the interface."""
        import obstore

        try:
            found = obstore.get(self.store, key)
        except FileNotFoundError:
            return None
        return bytes(found.bytes()), str(found.meta["e_tag"])

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See the interface."""
        import obstore

        return bytes(obstore.get_range(self.store, key, start=start, end=end))

    def get_tail(self, key: str, n_bytes: int) -> tuple[bytes, int]:
        """See the interface."""
        import obstore

        try:
            found = obstore.get(self.store, key, options={"range": {"suffix": n_bytes}})
        except FileNotFoundError as err:
            raise FileNotFoundError(key) from err
        return bytes(found.bytes()), int(found.meta["size"])

    def head(self, key: str) -> dict[str, Any] | None:
        """See the interface."""
        import obstore

        try:
            return dict(obstore.head(self.store, key)) if key else None
        except FileNotFoundError:
            return None

    def digest_sent(self, key: str) -> tuple[int, str] | None:
        """See the interface."""
        import obstore

        if not self._signs_content:
            return None
        found = obstore.get(self.store, key, options={"head": True})
        noted = found.attributes.get(DIGEST)
        return None if noted is None else (int(found.meta["size"]), str(noted))

    def listing(self, key: str) -> dict[str, int]:
        """See the interface."""
        import obstore

        found = obstore.list(self.store, prefix=key or None, chunk_size=1000).collect()
        start = len(key) + 1 if key else 0
        return {meta["path"][start:]: int(meta["size"]) for meta in found}

    def any_below(self, key: str) -> bool:
        """See the interface."""
        import obstore

        return bool(next(iter(obstore.list(self.store, prefix=key or None, chunk_size=1)), None))

    def delete(self, keys: list[str]) -> None:
        """See the interface."""
        import obstore

        for i in range(0, len(keys), 1000):
            obstore.delete(self.store, keys[i : i + 1000])

    def copy(self, source: str, goal: str) -> None:
        """See the interface."""
        import obstore

        obstore.copy(self.store, source, goal)


def _store(name: str, prefix: str, chosen: Setting, keys: tuple[str | None, ...], seconds: int) -> S3Store:
    from obstore.store import S3Store

    options = dict(chosen.options)
    client: dict[str, Any] = {"timeout": f"{seconds_of_a_try(seconds)}s", "connect_timeout": f"{CONNECT_SECONDS}s"}
    client |= {"allow_http": True}
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
