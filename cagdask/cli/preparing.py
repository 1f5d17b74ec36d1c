"""What shared options set up before a command runs: S3, logging, certificates, the scheduler."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from cagdask.cli.failures import begin, worded

_QUIET = ("distributed", "dask", "bokeh", "tornado", "asyncio", "fsspec", "s3fs", "botocore", "aiobotocore", "numba")
_TLS = "cagdask.tls"


def _set_variables(ctx: click.Context, **values: str | None) -> None:
    """Set or unset environment variables until the command ends; the workers that it starts inherit them."""
    before = {name: os.environ.get(name) for name in values}
    _apply(values)
    ctx.call_on_close(lambda: _apply(before))


def _apply(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def set_endpoint(ctx: click.Context, _param: click.Parameter, url: str | None) -> None:
    """Use another S3 server than AWS."""
    if url:
        _set_variables(ctx, AWS_ENDPOINT_URL=url, AWS_ENDPOINT_URL_S3=None)


def set_region(ctx: click.Context, _param: click.Parameter, region: str | None) -> None:
    """Name the region of the buckets."""
    if region:
        _set_variables(ctx, AWS_REGION=region)


def set_profile(ctx: click.Context, _param: click.Parameter, profile: str | None) -> None:
    """Use a profile; as with the AWS tools, keys in the environment count less than a profile that is named."""
    if profile:
        keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
        _set_variables(ctx, AWS_PROFILE=profile, **keys)


def set_anonymous(ctx: click.Context, _param: click.Parameter, anonymous: bool) -> None:
    """Read public buckets without credentials."""
    if anonymous:
        _set_variables(ctx, CAGDASK_S3_ANONYMOUS="1")


def set_options(ctx: click.Context, _param: click.Parameter, pairs: tuple[str, ...]) -> None:
    """Add options of the S3 client to those of the environment."""
    if not pairs:
        return
    from cagdask.errors import StoreError
    from cagdask.storage.s3_settings import OPTIONS, json_options

    found = dict(pair.partition("=")[::2] for pair in pairs)
    try:
        options = json_options(os.environ.get(OPTIONS, "{}")) | json_options(json.dumps(found))
    except StoreError as err:
        raise click.BadParameter(str(err), param_hint="--s3-option") from err
    _set_variables(ctx, **{OPTIONS: json.dumps(options)})


def set_logging(ctx: click.Context, _param: click.Parameter, count: int) -> None:
    """Show warnings of cagdask, with -v also what it does; silence the libraries below."""
    import logging
    import warnings

    begin(ctx, count)
    if count == 0:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        for name in ("distributed", "bokeh", "tornado"):  # read when Dask is imported, here and in its workers
            os.environ.setdefault(f"DASK_LOGGING__{name.upper()}", "critical")
        quiet = warnings.catch_warnings()
        quiet.__enter__()
        warnings.simplefilter("ignore")
        ctx.call_on_close(lambda: quiet.__exit__(None, None, None))
    logger = logging.getLogger("cagdask")
    before = logger.level, logger.handlers, logger.propagate
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(count, 2)])
    logger.handlers, logger.propagate = [_handler(ctx)], False

    def restore() -> None:
        logger.setLevel(before[0])
        logger.handlers, logger.propagate = before[1], before[2]

    ctx.call_on_close(restore)


def _handler(ctx: click.Context) -> Any:
    import logging

    class ToStderr(logging.Handler):
        """Writes to stderr as it is at the moment: a progress bar puts itself before it."""

        def emit(self, record: logging.LogRecord) -> None:
            click.echo(f"cagdask: {record.levelname.lower()}: {worded(ctx, record.getMessage())}", err=True)

    return ToStderr()


def set_tls(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """Tell Dask of a certificate, and to connect to nobody without one."""
    if not path:
        return
    import dask

    assert param.name is not None
    setting = {"tls_ca_file": "ca-file", "tls_cert": "client.cert", "tls_key": "client.key"}[param.name]
    chosen = dask.config.set({f"distributed.comm.tls.{setting}": path, "distributed.comm.require-encryption": True})
    chosen.__enter__()
    ctx.call_on_close(lambda: chosen.__exit__(None, None, None))
    ctx.meta[_TLS] = True


def scheduler_of(address: str | None, file: str | None, cluster: str | None) -> str | None:
    """Where to compute, from the options that can say it; more than one of them is misuse."""
    given = [name for name, value in _named(address, file, cluster).items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} name two clusters; give one of them.")
    if not given and click.get_current_context().meta.get(_TLS):
        raise click.UsageError(
            "--tls-ca-file, --tls-cert and --tls-key need --scheduler, --scheduler-file or --cluster."
        )
    if not file:
        return address or cluster
    try:
        with open(file) as handle:
            return str(json.load(handle)["address"])
    except OSError as err:
        raise click.BadParameter(f"{file}: can not be read ({err.strerror}).", param_hint="--scheduler-file") from err
    except (ValueError, KeyError, TypeError) as err:
        raise click.BadParameter(
            f"{file}: holds no address of a Dask scheduler. Name the file that dask scheduler --scheduler-file wrote.",
            param_hint="--scheduler-file",
        ) from err


def _named(address: str | None, file: str | None, cluster: str | None) -> dict[str, str | None]:
    return {"--scheduler": address, "--scheduler-file": file, "--cluster": cluster}
