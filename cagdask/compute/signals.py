"""Being ended by a signal as by Ctrl-C: an exception in the main thread, so that everything is tidied up.

    SIGINT   Ctrl-C                                      KeyboardInterrupt, of Python
    SIGTERM  a batch system, Kubernetes, a shutdown      Ended
    SIGHUP   a closed terminal                           Ended, unless it is ignored (nohup)

Without a handler, SIGTERM and SIGHUP end a process on the spot: locks, work folders and temporary folders stay. As
process 1 of a container they would not even end it. Nothing here imports more than Python has anyway.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""
GRACE_SECONDS = 10.0
"""How long running tasks may go on after SIGTERM: batch systems and Kubernetes kill after 30 s."""
_ENDING = ("SIGTERM", "SIGHUP")
_AGAIN_SECONDS = 0.05
"""After which a signal that was dropped is sent again."""


class Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C asks this process to end.

    Attributes
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Ended` within the block, the first time; later ones are ignored.

    Does nothing in other threads than the main one, and for signals that somebody has handled or ignored already.

    Python drops an exception that is raised while it collects garbage or deletes an object. A signal, SIGINT too, that
    arrives just then is sent once more, so that it is not lost. An exception of another kind that a signal is behind,
    as where a class is being made, becomes that of the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handled():
        try:
            yield
        except Exception as err:
            signaled = _signal_behind(err)
            if signaled is None:
                raise
            _say_nothing_of_what_is_left_undone()
            raise signaled from err
        except KeyboardInterrupt:
            _say_nothing_of_what_is_left_undone()
            raise


def _say_nothing_of_what_is_left_undone() -> None:
    """Python warns of a coroutine that was made and not run: a signal may arrive between the two."""
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)


def _signal_behind(err: BaseException) -> KeyboardInterrupt | None:
    """The exception of a signal that led to another one, made anew."""
    seen: list[BaseException] = []
    behind: BaseException | None = err
    while behind is not None and behind not in seen:
        if isinstance(behind, KeyboardInterrupt):
            return Ended(behind.number) if isinstance(behind, Ended) else KeyboardInterrupt()
        seen.append(behind)
        behind = behind.__cause__ or behind.__context__
    return None


@contextmanager
def _handled() -> Iterator[None]:
    """The handlers of :func:`raised`, for a block."""
    ending = False

    def end(number: int, _frame: Any) -> None:
        nonlocal ending
        if not ending:  # what is being tidied up must not be disturbed
            ending = True
            raise Ended(number)

    def drop(dropped: sys.UnraisableHookArgs) -> None:
        nonlocal ending
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            before(dropped)
            return
        ending = False
        number = getattr(dropped.exc_value, "number", signal.SIGINT)
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))  # not here: it would be dropped again
        again.daemon = True
        again.start()

    ours = [number for name in _ENDING if signal.getsignal(number := getattr(signal, name)) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    before = sys.unraisablehook
    if ours:
        sys.unraisablehook = drop
    try:
        yield
    finally:
        sys.unraisablehook = before
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def line_and_code(err: KeyboardInterrupt) -> tuple[str, int]:
    """What to print for the end of a command, and its exit code."""
    if isinstance(err, Ended):
        return f"ended by {err}. The same command goes on where it stopped.", 128 + err.number
    return "interrupted. The same command goes on where it stopped.", INTERRUPTED


@contextmanager
def blocked() -> Iterator[None]:
    """Block SIGINT and SIGHUP in this thread: threads and processes that it starts never get them.

    Both reach every process of a terminal; a worker that was just being started would print where it was. Other threads
    of this process still take them.
    """
    numbers = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
