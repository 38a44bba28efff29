"""Ctrl-C, SIGTERM and SIGHUP during a command: one way out for all three, and an exit status that names the signal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hilsim.errors import HilsimError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


class Ended(KeyboardInterrupt):
    """A signal that asks this process to end; what handles Ctrl-C handles it too."""


class Received:
    """Which signal asked for the end, if any; as a block, it knows the signal in what a library makes of it.

    While pydantic builds a record it comes out as SchemaError, of other libraries as RuntimeError or ImportError.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self.first is not None and isinstance(error, Exception) and not isinstance(error, HilsimError):
            raise Ended from error

    @property
    def status(self) -> int:
        """The exit status by which a shell knows the signal: 128 and its number."""
        return 128 + (self.first or signal.SIGINT)

    @property
    def word(self) -> str:
        """What happened, for a message."""
        return WORDS[self.first or signal.SIGINT]


@contextmanager
def ending_by_signals() -> Iterator[Received]:
    """Signals raise `Ended` in this block, and are put back behind it; one that is ignored (nohup) stays so.

    A process that is forked in here, as those of a pool are, ends by the signal itself: the command's own process is
    the one that cleans up and says so. Outside the main thread nothing is changed.
    """
    received, owner = Received(), os.getpid()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        received.first = received.first or signal.Signals(number)
        raise Ended

    before = {number: signal.getsignal(number) for number in ENDING}
    mine = [number for number in ENDING if before[number] is not signal.SIG_IGN]
    for number in mine:
        signal.signal(number, end)
    try:
        yield received
    finally:
        for number in mine:
            signal.signal(number, before[number])
