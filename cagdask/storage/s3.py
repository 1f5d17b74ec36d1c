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
from functools import lru_cache

from cagdask.storage.paths import IN_PLACE, in_place, split_s3
from cagdask.storage.s3_client import RETRY_SECONDS, S3Client
from cagdask.storage.s3_settings import SECRETS, Setting, secrets, setting

in_driver = True
"""False in workers: a server that does not answer them is a passing thing, since the driver has found it."""


def bucket(url: str) -> tuple[S3Client, str]:
    """The client for the bucket of a URL, and the key in it; of a chunk in the making, where it is to stay."""
    from cagdask.storage import s3_errors  # which needs this module

    if not url.rstrip("/").endswith(IN_PLACE):
        url = in_place(url) or url
    if in_driver:
        s3_errors.first_look(url)
    name, key = split_s3(url)
    return client_of_bucket(name), key


def client_of_bucket(name: str, seconds: int = RETRY_SECONDS) -> S3Client:
    """The client for a bucket, that repeats a request for so long."""
    return _client(name, "", setting(), _secrets(), os.getpid(), seconds)


def client_at(url: str) -> S3Client:
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
) -> S3Client:
    if chosen.backend == "s3fs":
        from cagdask.storage.s3_s3fs import S3fsClient

        return S3fsClient(name, prefix, chosen, keys, seconds)
    from cagdask.storage.s3_obstore import ObstoreClient

    return ObstoreClient(name, prefix, chosen, keys, seconds)


def is_client_error(err: BaseException) -> bool:
    """Whether an S3 client raised this."""
    return type(err).__module__.startswith(("obstore", "cagdask.storage.s3_s3fs"))
