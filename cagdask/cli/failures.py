"""What a failed command says: one line, and what to do next."""

from __future__ import annotations

import errno

import click

from cagdask.cli.flags import flags_of, in_flags
from cagdask.compute.signals import line_and_code

_VERBOSE = "cagdask.verbose"
_COMMAND = "cagdask.command"


def is_verbose(ctx: click.Context) -> bool:
    """Whether ``-v`` was given; known to a command's parents too."""
    return bool(ctx.meta.get(_VERBOSE, 0))


def begin(ctx: click.Context, verbose: int) -> None:
    """Remember the command that runs, and its ``-v``, for whoever reports a failure."""
    ctx.meta[_COMMAND], ctx.meta[_VERBOSE] = ctx.command, verbose


def worded(ctx: click.Context, text: str) -> str:
    """A message of the library with the flags of the command that runs; see :mod:`cagdask.cli.flags`."""
    return in_flags(text, flags_of(ctx.meta.get(_COMMAND, ctx.command)))


def explain(err: BaseException) -> tuple[str, int]:
    """Give the line to print for an exception, without the program's name, and the exit code."""
    if isinstance(err, KeyboardInterrupt):
        return line_and_code(err)
    from cagdask.errors import CagdaskError

    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({err.filename})" if err.filename else ""
        return (
            f"error: the disk is full{where}. Finished work is kept; make room, and the same command goes on where it "
            "stopped.",
            1,
        )
    text = " ".join(str(err).split())
    if isinstance(err, CagdaskError | ValueError) and text:
        return f"error: {text}", 1
    if isinstance(err, OSError) and err.filename:
        return f"error: {err.filename}: {err.strerror}.", 1
    return f"error: {type(err).__name__}: {text or 'no message'} (-v shows where)", 1
