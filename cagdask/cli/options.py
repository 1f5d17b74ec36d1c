"""Options that several commands share, and what they set up before a command runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from cagdask.arguments import Option, Options
from cagdask.cags.options import CLUSTER
from cagdask.cli.flags import flags_of, in_flags
from cagdask.cli.preparing import (
    scheduler_of,
    set_anonymous,
    set_endpoint,
    set_logging,
    set_options,
    set_profile,
    set_region,
    set_tls,
)
from cagdask.io.options import INGEST, READING
from cagdask.normalization.options import CLR_FLOOR

Outcome = tuple[dict[str, Any], str | Callable[[], str]]
"""What a command found: for ``--json``, and for people, or what makes the text. It is printed once the progress bar is
gone."""
Command = Callable[..., Outcome]
Parsed = Callable[..., None]


@dataclass(frozen=True)
class Setting:
    """What the shared options of a command say.

    Attributes
    ----------
    overwrite, as_json, no_progress
        Flags of these names.
    client, n_workers, memory_limit
        Where to compute, as the library takes it.
    """

    overwrite: bool = False
    as_json: bool = False
    no_progress: bool = False
    client: str | None = None
    n_workers: int | None = None
    memory_limit: str = "4GiB"

    @property
    def where(self) -> dict[str, Any]:
        """Arguments that say where to compute."""
        return {"client": self.client, "n_workers": self.n_workers, "memory_limit": self.memory_limit}

    def emit(self, content: dict[str, Any], text: str | Callable[[], str]) -> None:
        """Print the outcome: ``content`` as one JSON object, or ``text`` for people."""
        if self.as_json:
            click.echo(json.dumps(content))
        else:
            click.echo(text if isinstance(text, str) else text())


class Size(click.ParamType[str]):
    """A number of bytes such as 4GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the size, and keep it as it is written."""
        from cagdask.compute.memory import parse_bytes

        try:
            parse_bytes(value)
        except ValueError as err:
            self.fail(str(err), param, ctx)
        return str(value)


class WordOrNumber(click.ParamType[Any]):
    """One of some words, or a number."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = "|".join((*option.words, "number"))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the value as the library takes it; a number outside of the option's range is misuse."""
        if value in self.option.words or value is None:
            return value
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither {' nor '.join(self.option.words)} nor a number.", param, ctx)
        try:
            return self.option.check(number)
        except ValueError as err:
            self.fail(in_flags(str(err), {} if ctx is None else flags_of(ctx.command)), param, ctx)


_FILE = click.Path(exists=True, dir_okay=False)
DISTANCE = click.FloatRange(0, 1, max_open=True)
COUNT = click.IntRange(min=1)


# -- decorators ------------------------------------------------------------------------------------------------------


def declared(*options: Option | Options) -> Callable[[Parsed], Parsed]:
    """Options of a command from their declarations in the library, shown in this order."""
    single = [one for part in options for one in (part.values() if isinstance(part, Options) else [part])]
    return chain(*map(_from_declaration, single))


def _from_declaration(option: Option) -> Callable[[Parsed], Parsed]:
    flags = option.flags or (option.flag,)
    if option.kind is bool:
        with_no = any("/" in flag for flag in flags)
        return click.option(
            *flags, option.name, is_flag=True, default=option.default, show_default=with_no, help=option.help
        )
    default = {"required": True} if option.required else {"default": option.default}
    return click.option(
        *flags,
        option.name,
        type=_type_of(option),
        **default,
        show_default=option.default is not None,
        metavar=option.metavar,
        help=option.help,
    )


def _type_of(option: Option) -> click.ParamType[Any] | type:
    if option.choices:
        return click.Choice(option.choices)
    if option.words:
        return WordOrNumber(option)
    if option.kind is int:
        least, most = (None if bound is None else int(bound) for bound in (option.least, option.most))
        return click.IntRange(least, most)
    if option.kind is float:
        low, high = option.least, option.most
        return click.FloatRange(
            option.above if low is None else low,
            option.below if high is None else high,
            min_open=option.above is not None,
            max_open=option.below is not None,
        )
    return str


def chain(*options: Callable[[Parsed], Parsed]) -> Callable[[Parsed], Parsed]:
    """Several options as one decorator, shown in this order."""
    return lambda command: functools.reduce(lambda inner, option: option(inner), reversed(options), command)


_endpoint = chain(
    click.option(
        "--endpoint-url", metavar="URL", expose_value=False, callback=set_endpoint, help="S3 server, if it is not AWS."
    ),
    click.option("--region", metavar="NAME", expose_value=False, callback=set_region, help="Region of the buckets."),
    click.option(
        "--profile", metavar="NAME", expose_value=False, callback=set_profile, help="Profile of the AWS tools to use."
    ),
    click.option(
        "--anonymous", is_flag=True, expose_value=False, callback=set_anonymous, help="Read public buckets, unsigned."
    ),
    click.option(
        "--s3-option",
        metavar="NAME=VALUE",
        multiple=True,
        expose_value=False,
        callback=set_options,
        help="Another option of the S3 client, such as timeout=120s; may be repeated.",
    ),
)
_verbose = click.option(
    "-v", "--verbose", count=True, expose_value=False, callback=set_logging, help="Say what is done; twice: details."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace the output if it is there.")
_no_progress = click.option("--no-progress", is_flag=True, help="Do not show progress.")
_where = chain(
    click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler to use; default: workers on this machine."),
    click.option("--scheduler-file", metavar="FILE", help="File in which a Dask scheduler wrote its address."),
    click.option(
        "--cluster",
        type=click.Choice(["slurm", "pbs", "sge", "lsf", "kubernetes", "gateway"]),
        help="Start --workers there, as Dask's configuration says.",
    ),
    *(
        click.option(
            f"--tls-{name}", type=_FILE, metavar="FILE", expose_value=False, callback=set_tls, help=f"{what} (PEM)."
        )
        for name, what in (
            ("ca-file", "Authority that signed the certificates of scheduler and workers"),
            ("cert", "Certificate to show them"),
            ("key", "Its key"),
        )
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        help="Worker processes; 0: compute in this process. Default: 0 for up to about 1 GiB of work, else one per "
        "core that is allowed, 16 at most.",
    ),
    click.option(
        "--memory-limit",
        type=Size(),
        default="4GiB",
        show_default=True,
        help="Memory of each, or of this process; the default becomes less where less is allowed.",
    ),
)


def reads(command: Command) -> Parsed:
    """Options of a command that only looks: --json, --endpoint-url, -v."""

    @functools.wraps(command)
    def with_setting(as_json: bool, **arguments: Any) -> None:
        setting = Setting(as_json=as_json)
        setting.emit(*command(setting, **arguments))

    return chain(_as_json, _endpoint, _verbose)(with_setting)


def writes(command: Command) -> Parsed:
    """Options of a command that writes without a cluster: those of :func:`reads`, --overwrite and --no-progress."""

    @functools.wraps(command)
    def with_setting(as_json: bool, overwrite: bool, no_progress: bool, **arguments: Any) -> None:
        setting = Setting(as_json=as_json, overwrite=overwrite, no_progress=no_progress)
        _run_reported(command, setting, arguments)

    return chain(_overwrite, _as_json, _endpoint, _verbose, _no_progress)(with_setting)


def computes(command: Command) -> Parsed:
    """Options of a command that runs on Dask: those of :func:`writes`, and where to compute."""

    @functools.wraps(command)
    def with_setting(
        scheduler: str | None,
        scheduler_file: str | None,
        cluster: str | None,
        workers: int | None,
        memory_limit: str,
        as_json: bool,
        overwrite: bool,
        no_progress: bool,
        **arguments: Any,
    ) -> None:
        client = scheduler_of(scheduler, scheduler_file, cluster)
        if cluster and workers is None:
            raise click.UsageError(f"--cluster {cluster} needs the number of workers: add --workers N.")
        setting = Setting(overwrite, as_json, no_progress, client, workers, memory_limit)
        _run_reported(command, setting, arguments)

    return chain(_where, _overwrite, _as_json, _endpoint, _verbose, _no_progress)(with_setting)


def _run_reported(command: Command, setting: Setting, arguments: dict[str, Any]) -> None:
    from cagdask.cli.progress import shown

    with shown(no_progress=setting.no_progress):
        outcome = command(setting, **arguments)
    setting.emit(*outcome)


keys = declared(*(INGEST[name] for name in ("results_key", "abundance_key", "gene_id_key", "orient")))
"""How to read a sample sheet or table."""
kind = declared(INGEST["kind"])
on_bad_sample = declared(INGEST["on_bad_sample"])
reading = declared(*READING)
"""How to read tables of other programs."""
clr_floor = declared(CLR_FLOOR)
clustering = declared(CLUSTER)
"""How genes are grouped."""
