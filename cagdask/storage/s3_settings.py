"""Settings of S3: which server, region, profile and options.

Flags become environment variables, which workers inherit. What the environment does not say is looked up in the
configuration of the AWS tools: ``endpoint_url`` (also of ``[services]``), ``region`` and ``ca_bundle`` of the profile.

What a process inherits can be read in ``/proc/PID/environ`` as long as it lives. So processes of our own are started
within :func:`hidden`, and are told the secrets through a pipe.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from cagdask.errors import StoreError

ANONYMOUS, OPTIONS, BACKEND = "CAGDASK_S3_ANONYMOUS", "CAGDASK_S3_OPTIONS", "CAGDASK_S3_BACKEND"
BACKENDS = ("obstore", "s3fs")
"""Libraries that can make the requests; the first one does unless :data:`BACKEND` says otherwise."""
VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    ANONYMOUS,
    OPTIONS,
    BACKEND,
)
"""Environment variables that say which server, and that hold no secret."""
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_HIDDEN = (*SECRETS, "AWS_CONTAINER_AUTHORIZATION_TOKEN")
CLIENT_OPTIONS = ("allow_invalid_certificates", "connect_timeout", "proxy_url", "root_certificate", "timeout")
SERVER_OPTIONS = (
    "checksum_algorithm",
    "disable_bulk_delete",
    "request_payer",
    "server_side_encryption",
    "skip_signature",
    "sse_kms_key_id",
    "unsigned_payload",
    "virtual_hosted_style_request",
)
KNOWN_OPTIONS = tuple(sorted(CLIENT_OPTIONS + SERVER_OPTIONS))
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
    ca_bundle
        File of certificates (PEM) to trust; None: those of the system.
    backend
        Which library makes the requests: one of :data:`BACKENDS`.
    """

    endpoint: str | None
    region: str | None
    profile: str | None
    anonymous: bool
    options: tuple[tuple[str, str], ...]
    ca_bundle: str | None = None
    backend: str = BACKENDS[0]


def setting() -> Setting:
    """Read the environment.

    Raises
    ------
    StoreError
        The options are not a JSON object of known names, or there is no such backend.
    """
    found = os.environ
    options = json_options(found.get(OPTIONS, "{}"))
    profile = found.get("AWS_PROFILE")
    config = _config(_config_file(), profile)
    ignored = found.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return Setting(
        endpoint=found.get("AWS_ENDPOINT_URL_S3")
        or found.get("AWS_ENDPOINT_URL")
        or (None if ignored else config.get("endpoint_url")),
        region=found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION") or config.get("region"),
        profile=profile,
        anonymous=found.get(ANONYMOUS, "").lower() in ("1", "true", "yes"),
        options=tuple(sorted(options.items())),
        ca_bundle=found.get("AWS_CA_BUNDLE") or config.get("ca_bundle"),
        backend=backend_of(found.get(BACKEND) or BACKENDS[0]),
    )


# -- secrets ---------------------------------------------------------------------------------------------------------

_guard = threading.Lock()
_kept: dict[str, str] = {}
_n_hiding = 0


def secrets() -> dict[str, str]:
    """The secrets that this process was given in its environment, by the names of the variables."""
    with _guard:
        return {name: os.environ[name] for name in _HIDDEN if name in os.environ} | _kept


@contextmanager
def hidden() -> Iterator[None]:
    """Take the secrets out of the environment for a block, so that processes that it starts do not inherit them.

    :func:`secrets` still has them. Blocks of several threads may overlap: the last one puts the secrets back.
    """
    global _n_hiding
    with _guard:
        _kept.update({name: os.environ.pop(name) for name in _HIDDEN if name in os.environ})
        _n_hiding += 1
    try:
        yield
    finally:
        with _guard:
            _n_hiding -= 1
            if not _n_hiding:
                os.environ.update(_kept)
                _kept.clear()


# -- files and options -----------------------------------------------------------------------------------------------


def _config_file() -> tuple[str, float]:
    """Path of the configuration of the AWS tools, and when it was changed; 0 where there is none."""
    path = os.path.expanduser(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    try:
        return path, os.stat(path).st_mtime
    except OSError:
        return path, 0.0


@lru_cache(maxsize=8)  # it is asked for with every request
def _config(file: tuple[str, float], profile: str | None) -> dict[str, str]:
    """What the configuration says of S3 for a profile; its ``[services]`` come before the profile itself."""
    if not file[1]:
        return {}
    import botocore.configloader
    import botocore.exceptions

    try:
        whole = botocore.configloader.load_config(file[0])
    except botocore.exceptions.BotoCoreError as err:
        raise StoreError(f"S3: the AWS configuration can not be used: {err}. Correct the file.") from err
    chosen = whole["profiles"].get(profile or os.environ.get("AWS_DEFAULT_PROFILE") or "default", {})
    service = whole.get("services", {}).get(chosen.get("services"), {}).get("s3", {})
    named = {name: chosen.get(name) for name in ("endpoint_url", "region", "ca_bundle")}
    return {name: value for name, value in (named | service).items() if isinstance(value, str)}


def backend_of(name: str) -> str:
    """The name of a backend, as it was given.

    Raises
    ------
    StoreError
        There is none of this name.
    """
    if name not in BACKENDS:
        raise StoreError(f"{BACKEND} is {name!r}; choose one of {', '.join(BACKENDS)}.")
    return name


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
