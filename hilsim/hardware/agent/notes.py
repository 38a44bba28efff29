"""The agent's log: lines on standard error."""

from __future__ import annotations

import contextlib
import sys
import traceback


def note(text: str) -> None:
    """One line. A terminal that has gone must not take the agent along."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def one_line(text: object) -> str:
    """A text on one line, its line ends replaced by blanks."""
    return "; ".join(line.strip() for line in str(text).splitlines() if line.strip())


def note_exception() -> None:
    """The traceback of the exception that is being handled."""
    note(traceback.format_exc().rstrip())
