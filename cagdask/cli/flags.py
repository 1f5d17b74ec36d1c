"""Parameters in messages of the library, written as the flags of the command that runs.

The library speaks to people who write Python: it puts a parameter, with a value where there is one, in backticks. A
command shows the same sentence with its own flags:

    `min_samples`              -->  --min-samples
    `memory_limit='8GiB'`      -->  --memory-limit 8GiB
    `overwrite=True`           -->  --overwrite
    `what_no_command_has`      -->  `what_no_command_has`
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

_PARAMETER = re.compile(r"`([A-Za-z_][\w.]*)(?:=([^`]*))?`")
_ALIASES = {
    "n_workers": ("workers", "threads"),
    "client": ("cluster", "scheduler"),
    "distributed.comm.tls": ("tls_ca_file", "tls_cert", "tls_key"),
    "AWS_ENDPOINT_URL": ("endpoint_url",),
    "AWS_PROFILE": ("profile",),
    "AWS_REGION": ("region",),
    "CAGDASK_S3_ANONYMOUS": ("anonymous",),
    "n": ("top_pairs",),
    "color_by": ("by",),
    "group_by": ("by",),
    "leaders": ("fitted",),
    "normalization": ("method",),
}
"""Parameters, settings of Dask and variables of the environment whose options have another name."""
_TOGETHER = "distributed.comm.tls"  # one setting in Python, three options


@dataclass(frozen=True)
class Flag:
    """How a command calls a parameter.

    Attributes
    ----------
    name
        Its flag; of an argument what its help calls it.
    takes_value
        Whether a value follows the flag.
    off
        The flag that says no, if there is one.
    choices
        Words that it takes, if only these.
    """

    name: str
    takes_value: bool = True
    off: str | None = None
    choices: tuple[str, ...] | None = None

    def with_value(self, value: Any) -> str | None:
        """The flag and a value as one types them; None if this flag can not say it."""
        if self.takes_value:
            if self.choices is not None and value not in self.choices:
                return None
            return f"{self.name} {shlex.quote(_as_typed(value))}"
        return self.name if value else self.off


def flags_of(command: click.Command) -> dict[str, Flag]:
    """Flags of a command by the name of the parameter."""
    return {param.name: _flag(param) for param in command.params if param.name}


def _flag(param: click.Parameter) -> Flag:
    if not isinstance(param, click.Option):
        return Flag(re.sub(r"[^A-Z_ ]", "", param.make_metavar(click.Context(click.Command("any")))) or "INPUT")
    choices = tuple(map(str, param.type.choices)) if isinstance(param.type, click.Choice) else None
    off = param.secondary_opts[0] if param.secondary_opts else None
    return Flag(param.opts[0], not (param.is_flag or param.count), off, choices)


def flags_of_parser(parser: argparse.ArgumentParser) -> dict[str, Flag]:
    """The same for a parser of the standard library."""
    return {
        action.dest: Flag(action.option_strings[0], action.nargs != 0)
        for action in parser._actions
        if action.option_strings
    }


def in_flags(text: str, flags: Mapping[str, Flag]) -> str:
    """A message with the flags of a command in place of parameters in backticks; what it does not know stays.

    >>> flags = {"min_samples": Flag("--min-samples"), "overwrite": Flag("--overwrite", takes_value=False)}
    >>> in_flags("Use `min_samples=2`, or `overwrite=True`; `other` stays.", flags)
    'Use --min-samples 2, or --overwrite; `other` stays.'
    """
    return _PARAMETER.sub(lambda match: _typed(match, flags) or match.group(), text)


def _typed(match: re.Match[str], flags: Mapping[str, Flag]) -> str | None:
    name, value = match.groups()
    own = (name,) if name in flags else _ALIASES.get(name, ())
    known = [flags[one] for one in own if one in flags]
    if name == _TOGETHER and known:
        return ", ".join(flag.name for flag in known)
    if value is None:
        return known[-1].name if known else None
    return next(filter(None, (flag.with_value(_read(value)) for flag in known)), None)


def _read(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as_typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
