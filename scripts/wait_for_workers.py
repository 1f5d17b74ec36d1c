#!/usr/bin/env python3
"""Wait until a Dask cluster has workers, and check that it can be used: what the chart does before a run.

    scripts/wait_for_workers.py --scheduler tls://cags-scheduler:8786 --tls-ca-file ca.crt --tls-cert tls.crt \
        --tls-key tls.key --workers 4 --timeout 1800 --read s3://bucket/sample_sheet.json

Nodes and images may take many minutes to come, and a scheduler's name may not be known yet: everything is tried again
until the time is over. Then client, scheduler and workers must have the same versions of what they speak to each other
with, and every worker must find each URL of ``--read``, by its own credentials and network.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import click


def connected(scheduler: str, security: Any, deadline: float) -> Any:
    """A client of the scheduler, as soon as it answers."""
    from distributed import Client

    said = ""
    while True:
        patience = max(1.0, min(20.0, deadline - time.monotonic()))
        try:
            return Client(scheduler, security=security, timeout=patience, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as err:
            cause: BaseException = err
            while cause.__cause__ is not None:  # the first one knows: name not known, connection refused, certificate
                cause = cause.__cause__
            text = " ".join(str(cause).split()) or type(cause).__name__
        if time.monotonic() >= deadline:
            raise click.ClickException(f"{scheduler}: no Dask scheduler answers ({text}).")
        if text != said:
            click.echo(f"waiting for the scheduler {scheduler} ({text})", err=True)
            said = text
        time.sleep(1)


def count_workers(client: Any) -> int:
    """Workers that the scheduler knows."""
    return len(client.scheduler_info(n_workers=-1)["workers"])


def wait(client: Any, wanted: int, deadline: float) -> None:
    """Return once there are enough workers."""
    said = -1
    while (found := count_workers(client)) < wanted:
        if time.monotonic() >= deadline:
            raise click.ClickException(f"the cluster has {found} of the {wanted} workers asked for, and time is over.")
        if found != said:
            click.echo(f"waiting for workers: {found} of {wanted}", err=True)
            said = found
        time.sleep(1)


def check_versions(client: Any) -> None:
    """Refuse a cluster whose parts do not have the same versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            client.get_versions(check=True)
        except ValueError as err:
            raise click.ClickException(f"client, scheduler and workers differ in their versions.\n{err}") from err


def check_urls(client: Any, urls: tuple[str, ...], deadline: float) -> None:
    """Refuse a cluster with a worker that does not find one of the URLs."""
    from cagdask import storage

    for url in urls:
        found = client.run(_found, storage.exists, url, on_error="return")
        bad = {worker: answer for worker, answer in found.items() if answer is not True}
        if bad:
            worker, answer = min(bad.items())
            why = "there is no such file or store" if answer is False else " ".join(str(answer).split())
            raise click.ClickException(
                f"{url}: {len(bad)} of {len(found)} workers can not read it; {worker}: {why}. Check the URL, the "
                "workers' credentials, and their network policy."
            )


def _found(exists: Any, url: str) -> bool:
    return bool(exists(url))


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--scheduler", required=True, metavar="ADDRESS", help="tls://HOST:PORT, or tcp://HOST:PORT.")
@click.option("--tls-ca-file", metavar="FILE", help="Certificate of the authority.")
@click.option("--tls-cert", metavar="FILE", help="Certificate of this client.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Workers to wait for.")
@click.option("--timeout", type=click.FloatRange(min=0), default=1800, show_default=True, help="Seconds to wait.")
@click.option("--read", "urls", multiple=True, metavar="URL", help="URL that every worker must find; repeat.")
def main(
    scheduler: str,
    tls_ca_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    workers: int,
    timeout: float,
    urls: tuple[str, ...],
) -> None:
    """Wait, check, and say what was found."""
    import logging

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    from distributed.security import Security

    deadline = time.monotonic() + timeout
    security = None
    if scheduler.startswith("tls://"):
        files = {"tls_ca_file": tls_ca_file, "tls_client_cert": tls_cert, "tls_client_key": tls_key}
        security = Security(require_encryption=True, **files)
    with connected(scheduler, security, deadline) as client:
        wait(client, workers, deadline)
        check_versions(client)
        check_urls(client, urls, deadline)
        click.echo(f"{scheduler}: {count_workers(client)} workers, versions agree, {len(urls)} URLs found by each")


if __name__ == "__main__":
    sys.exit(main())
