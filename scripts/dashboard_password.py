"""Ask for a password before anything of a Dask scheduler's dashboard is shown: what the chart preloads.

    CAGDASK_DASHBOARD_PASSWORD_FILE=password dask scheduler --preload scripts/dashboard_password.py

The user is ``dask``. Only ``/health`` is answered without it, for the probes. Dask itself has no such lock; a proxy in
front of the dashboard can do more, such as single sign-on.
"""

from __future__ import annotations

import base64
import hmac
import os
import sys
from pathlib import Path
from typing import Any

from tornado import web

USER = "dask"


class Refused(web.RequestHandler):
    """Answers everything with 401."""

    def prepare(self) -> None:
        """Ask for user and password."""
        self.set_status(401)
        self.set_header("WWW-Authenticate", 'Basic realm="Dask dashboard", charset="UTF-8"')
        self.finish("user and password, please")


def read_password() -> bytes:
    """What the header of an allowed request says."""
    password = Path(os.environ["CAGDASK_DASHBOARD_PASSWORD_FILE"]).read_text().strip()
    if not password:
        raise ValueError("the password of the dashboard is empty.")
    return b"Basic " + base64.b64encode(f"{USER}:{password}".encode())


EXPECTED = read_password()
"""Read while Dask imports this: a scheduler without a password does not start."""


def guard(application: web.Application) -> None:
    """Refuse every request that does not bring the password."""
    find_handler = application.find_handler

    def guarded(request: Any, **options: Any) -> Any:
        given = request.headers.get("Authorization", "").encode()
        if request.path == "/health" or hmac.compare_digest(given, EXPECTED):
            return find_handler(request, **options)
        return application.get_handler_delegate(request, Refused)

    application.find_handler = guarded


def dask_setup(scheduler: Any) -> None:
    """Guard the scheduler's pages; Dask calls this as it starts."""
    try:
        guard(scheduler.http_application)
    except Exception as err:  # Dask would log it, and go on without a lock
        print(f"the dashboard can not be locked, so the scheduler ends: {err!r}", file=sys.stderr, flush=True)
        os._exit(1)
