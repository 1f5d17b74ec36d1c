"""A prompt that asks for genes until it is told to quit: history with the arrow keys, names completed with Tab."""

from __future__ import annotations

import bisect
import shlex
from collections.abc import Callable, Sequence

import click

LEAVE = ("quit", "exit", "q")
MOST_COMPLETIONS = 100


def converse(answer: Callable[[list[str]], str], names: Sequence[str], usage: str) -> None:
    """Read lines of names and print what ``answer`` gives, until ``quit`` or the end of the input.

    Parameters
    ----------
    answer
        What to print for the words of a line; its errors are printed, and the next line is asked for.
    names
        All names, to complete.
    usage
        What to say at the beginning, and to ``help``.
    """
    from cagdask.cli.failures import worded
    from cagdask.errors import CagdaskError

    _complete(names)
    click.echo(f"{usage} Tab completes, quit ends.")
    while True:
        try:
            words = shlex.split(input("> "))
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        except ValueError as err:  # a quotation mark too few
            click.echo(f"{err}. {usage}")
            continue
        if not words:
            continue
        if words[0].lower() in LEAVE and len(words) == 1:
            return
        if words == ["help"]:
            click.echo(usage)
            continue
        try:
            click.echo(answer(words))
        except (CagdaskError, ValueError) as err:
            click.echo(worded(click.get_current_context(), " ".join(str(err).split())))


def _complete(names: Sequence[str]) -> None:
    """Let Tab complete names, where there is readline."""
    try:
        import readline
    except ImportError:
        return
    ordered = sorted({*names, "quit", "help"})
    matches: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            begin = bisect.bisect_left(ordered, text)
            end = bisect.bisect_left(ordered, f"{text}\U0010ffff")
            matches[:] = ordered[begin : min(end, begin + MOST_COMPLETIONS)]
        return f"{matches[state]}{' ' if len(matches) == 1 else ''}" if state < len(matches) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
