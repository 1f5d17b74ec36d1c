"""Settings of S3: which server, region, profile and options, read from the environment.

flags --> environment --> Setting --> clients of :mod:`cagdask.storage.s3`
|
+-- inherited by workers
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from cagdask.errors import StoreError

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
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
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
